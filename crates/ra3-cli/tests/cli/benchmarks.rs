//! `ra3 data`, `ra3 grade` and `ra3 eval --bench` on data that this test makes.

use std::fs::{read_to_string, write};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{ra3, text_of};

/// Two tasks in the form of HumanEval+.
fn plus(folder: &Path) -> String {
    let task = |number: u32, name: &str, body: &str, base: Value, plus: Value| {
        json!({
            "task_id": format!("HumanEval/{number}"),
            "prompt": format!("def {name}(n):\n    \"\"\"Does it.\"\"\"\n"),
            "entry_point": name,
            "canonical_solution": body,
            "contract": "",
            "base_input": base,
            "plus_input": plus,
            "atol": 0,
        })
        .to_string()
    };
    let double = task(
        0,
        "double",
        "    return 2 * n\n",
        json!([[1], [2]]),
        json!([[-3]]),
    );
    let square = task(
        1,
        "square",
        "    return n * n\n",
        json!([[0], [2]]),
        json!([[3], [-3]]),
    );
    let path = folder.join("plus.jsonl");
    write(&path, format!("{double}\n{square}\n")).unwrap();
    path.display().to_string()
}

pub(crate) fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text_of(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn samples_are_graded_and_not_graded_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = plus(folder.path());
    let samples = [
        json!({"task_id": "HumanEval/0", "completion": "    return n + n\n"}),
        // Right for the base tests alone.
        json!({"task_id": "HumanEval/1", "solution": "def square(n):\n    return 2 * n\n"}),
        json!({
            "task_id": "HumanEval/1",
            "solution": "Sure:\n```python\ndef square(n):\n    return n ** 2\n```\n",
        }),
    ];
    let text: Vec<String> = samples.iter().map(ToString::to_string).collect();
    write(at("samples.jsonl"), text.join("\n")).unwrap();
    let grade = |more: &[&str]| {
        let samples = at("samples.jsonl");
        let mut arguments = vec!["grade", &samples, "--bench", "humaneval+", "--data", &data];
        arguments.extend(["--json"].iter().chain(more));
        ra3(&arguments).output().unwrap()
    };
    let (out, failures) = (at("results.json"), at("failures.txt"));
    let first = json_of(&grade(&["--out", &out, "--failures", &failures]));
    assert_eq!(
        (&first["n_samples"], &first["n_graded"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(first["pass_at"][0]["mean"], json!(0.75));
    assert_eq!(first["pass_at"][1]["mean"], json!(0.5));
    let page = read_to_string(&failures).unwrap();
    assert!(
        page.contains("HumanEval/1 sample 0: fail (plus tests)"),
        "{page}"
    );
    assert!(
        page.contains("(3)") && page.contains('9') && page.contains('6'),
        "{page}"
    );
    let again = json_of(&grade(&["--out", &out]));
    assert_eq!(again["n_graded"], json!(0));
    assert_eq!(again["pass_at"], first["pass_at"]);
    let clean = json_of(&grade(&["--sanitize"]));
    assert_eq!(clean["pass_at"][1]["mean"], json!(0.75));
    // Results of other data are no results of these.
    let changed = read_to_string(&out)
        .unwrap()
        .replacen("\"hash\": \"", "\"hash\": \"0", 1);
    write(at("other.json"), changed).unwrap();
    let refused = grade(&["--merge", &at("other.json")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text_of(&refused).contains("holds results for the data 0"),
        "{}",
        text_of(&refused)
    );
}

#[test]
fn shards_are_merged_and_other_rules_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = plus(folder.path());
    let samples = ["n + n", "2 * n", "3 * n"].map(|body| {
        let completion = format!("    return {body}\n");
        json!({"task_id": "HumanEval/0", "completion": completion}).to_string()
    });
    write(at("samples.jsonl"), samples.join("\n")).unwrap();
    let grade = |more: &[&str]| {
        let samples = at("samples.jsonl");
        let mut arguments = vec!["grade", &samples, "--bench", "humaneval+", "--data", &data];
        arguments.extend(["--json"].iter().chain(more));
        ra3(&arguments).output().unwrap()
    };
    let out = at("results.json");
    let first = json_of(&grade(&["--out", &out]));
    assert_eq!(first["n_samples"], json!(3));
    // The same data by other rules is another benchmark.
    let refused = grade(&["--rules-of-2024", "--out", &out]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text_of(&refused).contains("holds results of humaneval+,"),
        "{}",
        text_of(&refused)
    );
    // A shard adds its samples, also those that were written twice, and once only.
    std::fs::copy(&out, at("shard.json")).unwrap();
    for _ in 0..2 {
        let both = json_of(&grade(&["--out", &out, "--merge", &at("shard.json")]));
        assert_eq!(both["n_samples"], json!(6));
        assert_eq!(both["pass_at"], first["pass_at"]);
    }
}

#[test]
fn what_cannot_be_graded_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    write(
        at("samples.jsonl"),
        "{\"task_id\": \"HumanEval/0\", \"solution\": \"x = 1\"}\n{\n",
    )
    .unwrap();
    write(
        at("broken.jsonl"),
        "{\"task_id\": \"HumanEval/0\", \"prompt\": 1}",
    )
    .unwrap();
    let data = plus(folder.path());
    for (bench, data, message) in [
        (
            "nothing",
            data.as_str(),
            "no benchmark is called nothing; there are humaneval+",
        ),
        (
            "humaneval+",
            &at("broken.jsonl"),
            "line 1: `prompt` should be a string",
        ),
        (
            "humaneval+",
            &at("absent.jsonl"),
            "absent.jsonl is not there",
        ),
        ("humaneval+", &data, "samples.jsonl, line 2: not JSON"),
        (
            "livecodebench",
            folder.path().to_str().unwrap(),
            "ra3 data get livecodebench",
        ),
    ] {
        let samples = at("samples.jsonl");
        let arguments = ["grade", &samples, "--bench", bench, "--data", data];
        let output = ra3(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{bench}");
        let text = text_of(&output);
        assert!(text.contains(message), "{text}");
    }
}

#[test]
fn what_cannot_be_read_or_written_is_found_before_grading() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = plus(folder.path());
    let right = json!({"task_id": "HumanEval/0", "completion": "    return 2 * n\n"});
    write(at("right.jsonl"), format!("{right}\n")).unwrap();
    write(at("empty.jsonl"), "").unwrap();
    write(at("blank.jsonl"), "\n\n").unwrap();
    let refused = |samples: &str, more: &[&str]| {
        let samples = at(samples);
        let head = ["grade", &samples, "--bench", "humaneval+", "--data", &data];
        let output = ra3(&[&head, more].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        text_of(&output)
    };
    for samples in ["empty.jsonl", "blank.jsonl"] {
        let text = refused(samples, &[]);
        assert!(
            text.contains(&format!("{samples} holds no sample")),
            "{text}"
        );
        assert!(text.contains("`task_id` and `solution`"), "{text}");
    }
    for option in ["--out", "--failures"] {
        let text = refused("right.jsonl", &[option, &at("missing/file")]);
        assert!(text.contains("make the folder"), "{text}");
        assert!(
            !text.contains("graded") && !text.contains("right programs"),
            "{text}"
        );
    }
}

#[test]
fn nothing_turns_or_hides_what_grading_prints() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let name = "HumanEval/0";
    let data = plus(folder.path());
    let raises = "    raise ValueError('\u{2066}\u{200b}\u{202e}')\n";
    let sample = json!({"task_id": name, "completion": raises});
    write(at("samples.jsonl"), format!("{sample}\n")).unwrap();
    let (failures, samples) = (at("failures.txt"), at("samples.jsonl"));
    let head = ["grade", &samples, "--bench", "humaneval+", "--data", &data];
    for more in [&["--json"][..], &["--failures", &failures]] {
        let output = ra3(&[&head, more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
        let printed = [output.stdout.clone(), output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        let hidden = ['\u{202e}', '\u{2066}', '\u{200b}'];
        assert!(!printed.contains(hidden), "{printed}");
        if more == ["--json"] {
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["failures"][0]["task_id"], json!(name));
        }
    }
    let page = read_to_string(failures).unwrap();
    assert!(
        page.contains("\\u{202e}") && !page.contains('\u{202e}'),
        "{page}"
    );
}

#[test]
fn answers_are_written_once_and_graded() {
    let folder = tempfile::tempdir().unwrap();
    let data = plus(folder.path());
    let out = folder.path().join("eval");
    let eval = |more: &[&str]| {
        let out = out.display().to_string();
        let mut arguments = vec!["eval", "assets/base", "--bench", "humaneval+", "--json"];
        arguments.extend(["--data", &data, "--out", &out, "--max-tokens", "24"]);
        arguments.extend(more);
        ra3(&arguments).output().unwrap()
    };
    let samples = || read_to_string(out.join("humaneval+.samples.jsonl")).unwrap();
    let first = json_of(&eval(&["-n", "2", "--temperature", "0.8"]));
    let sampling = &first[0]["sampling"][0];
    assert_eq!(sampling["variant"], json!("base, 0-shot, EvalPlus"));
    assert_eq!(
        (&sampling["seed"], &sampling["n_samples"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(
        (&first[0]["n_tasks"], &first[0]["n_samples"]),
        (&json!(2), &json!(4))
    );
    let written = samples();
    assert_eq!(written.lines().count(), 4);
    let line: Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
    assert_eq!(line["task_id"], json!("HumanEval/0"));
    assert!(out.join("humaneval+.failures.txt").exists());
    // A line that was cut short by a kill is written again, with the same bits.
    write(
        out.join("humaneval+.samples.jsonl"),
        &written[..written.len() - 9],
    )
    .unwrap();
    let second = json_of(&eval(&["-n", "2", "--temperature", "0.8"]));
    assert_eq!(samples(), written);
    assert_eq!(second[0]["pass_at"], first[0]["pass_at"]);
    let other = eval(&["-n", "2", "--temperature", "0.7"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        text_of(&other).contains("another way"),
        "{}",
        text_of(&other)
    );
    assert_eq!(samples(), written);
    std::fs::remove_file(out.join("humaneval+.samples.conditions")).unwrap();
    let unknown = text_of(&eval(&["-n", "2", "--temperature", "0.8"]));
    assert!(
        unknown.contains("humaneval+.samples.conditions is missing") && unknown.contains("--out"),
        "{unknown}"
    );
    assert_eq!(samples(), written);
    let chat = eval(&[
        "--chat",
        "--out",
        &folder.path().join("chat").display().to_string(),
    ]);
    assert!(!chat.status.success());
}

/// Serves one content on loopback; every first connection for an address breaks off in its middle.
fn server(content: &'static [u8]) -> String {
    let has = |request: &str| !request.contains("absent");
    server_of(move |request| has(request).then(|| content.to_vec()))
}

/// Serves what there is for a request in lower case.
fn server_of(content: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (n_served, connection) in listener.incoming().enumerate() {
            answer(connection.unwrap(), &content, n_served == 0);
        }
    });
    address
}

fn answer(mut connection: TcpStream, content: &dyn Fn(&str) -> Option<Vec<u8>>, breaks: bool) {
    let mut request = Vec::new();
    let mut byte = [0u8];
    while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let Some(content) = content(&request) else {
        let _ = connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        return;
    };
    let start = request
        .split("range: bytes=")
        .nth(1)
        .and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
    let rest = &content[start.unwrap_or(0)..];
    let status = if start.is_some() {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        rest.len()
    );
    let _ = connection.write_all(head.as_bytes());
    let n = if breaks { rest.len() / 2 } else { rest.len() };
    let _ = connection.write_all(&rest[..n]);
}

#[test]
fn data_are_fetched_continued_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().display().to_string();
    let get = |name: &str, address: &str| {
        ra3(&["data", "get", name, "--to", &to, "--json"])
            .env("HF_ENDPOINT", address)
            .env("RA3_GITHUB", address)
            .env_remove("HF_HUB_OFFLINE")
            .output()
            .unwrap()
    };
    // Broken off once, then continued.
    let fetched = json_of(&get("livecodebench", &server(b"{\"question_id\": 1}\n")));
    assert_eq!(fetched[0]["is_pinned"], json!(false));
    let path = folder.path().join("test.jsonl");
    assert_eq!(read_to_string(&path).unwrap(), "{\"question_id\": 1}\n");
    // Other bytes under the same name are not taken.
    std::fs::remove_file(&path).unwrap();
    let other = get("livecodebench", &server(b"{\"question_id\": 2}\n"));
    assert!(
        text_of(&other).contains("is wanted: it is not kept"),
        "{}",
        text_of(&other)
    );
    assert!(!path.exists());
    let pinned = get("humaneval", &server(b"not HumanEval"));
    assert_eq!(pinned.status.code(), Some(1));
    let text = text_of(&pinned);
    assert!(
        text.contains("b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"),
        "{text}"
    );
    let absent = get("livecodebench/2", &format!("{}/absent", server(b"x")));
    assert!(
        text_of(&absent).contains("status 404"),
        "{}",
        text_of(&absent)
    );
    let unknown = get("nothing", "http://127.0.0.1:1");
    assert!(
        text_of(&unknown).contains("no data are called nothing"),
        "{}",
        text_of(&unknown)
    );
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["test.jsonl.sha256"]);
    let listed = json_of(&ra3(&["data", "list", "--json"]).output().unwrap());
    assert_eq!(listed[0]["name"], json!("humaneval+"));
}

#[test]
fn splits_are_fetched_as_the_hub_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let get = |name: &str, address: &str, more: &[&str]| {
        let to = folder.path().display().to_string();
        ra3(&[&["data", "get", name, "--to", &to], more].concat())
            .env("HF_ENDPOINT", address)
            .env_remove("HF_HUB_OFFLINE")
            .output()
            .unwrap()
    };
    let hub = |listing: &'static str| {
        server_of(move |request| {
            let path = request.split(' ').nth(1).unwrap();
            match path.strip_prefix("/datasets/open-r1/codeforces/resolve/main/data/") {
                Some(file) => Some(format!("rows of {file}").into_bytes()),
                None if path == "/api/datasets/open-r1/codeforces/tree/main/data" => {
                    Some(listing.as_bytes().to_vec())
                }
                None => None,
            }
        })
    };
    let listing = r#"[{"type": "file", "path": "data/test-00000-of-00002.parquet"},
        {"type": "file", "path": "data/test-00001-of-00002.parquet"},
        {"type": "file", "path": "data/train-00000-of-00001.parquet"}]"#;
    // The first connection breaks off, and the listing with it.
    let address = hub(listing);
    assert!(!get("codeforces/open-r1", &address, &[]).status.success());
    let fetched = json_of(&get("codeforces/open-r1", &address, &["--json"]));
    assert_eq!(fetched.as_array().unwrap().len(), 2);
    let at = |name: &str| folder.path().join("codeforces-open-r1").join(name);
    let second = at("test-00001-of-00002.parquet");
    let rows = read_to_string(&second).unwrap();
    assert_eq!(rows, "rows of test-00001-of-00002.parquet");
    assert!(at("test-00000-of-00002.parquet.sha256").exists());
    // Other bytes are fetched again, and kept only if they are the first download's.
    write(&second, "changed").unwrap();
    let again = get("codeforces/open-r1", &address, &[]);
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(said.contains("there is also codeforces,"), "{again:?}");
    assert_eq!(read_to_string(&second).unwrap(), rows);
    // What the data set has no longer would be read with the rest.
    write(at("test-00000-of-00001.parquet"), "old").unwrap();
    let text = text_of(&get("codeforces/open-r1", &address, &[]));
    assert!(text.contains("move it away"), "{text}");
    let part = hub(r#"[{"type": "file", "path": "data/train-00000-of-00011.parquet"}]"#);
    get("codeforces/open-r1-train", &part, &[]);
    let text = text_of(&get("codeforces/open-r1-train", &part, &[]));
    assert!(text.contains("does not list the files of train"), "{text}");
    let text = text_of(&get("asserts", &part, &[]));
    assert!(
        text.contains("TIGER-Lab/AceCode-87K/tree/main/data answers with status 404"),
        "{text}"
    );
}
