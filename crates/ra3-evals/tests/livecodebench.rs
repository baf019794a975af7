//! LiveCodeBench: records with and without wrapped tests are read, and both modes grade as they
//! say.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::io::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ra3_evals::livecodebench::data::{self, Task, release};
use ra3_evals::livecodebench::grade::{Code, Grader, Mode};
use ra3_evals::outcome::Status;
use ra3_sandbox::{Level, Limits, Pool};

const LIMITS: Limits = Limits {
    cpu_s: 10,
    wall_s: 30.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-evals-sandbox-helper").into();
    Pool::with_helper(helper, 2, LIMITS, Level::BestEffort).unwrap()
}

/// What `base64.b64encode(zlib.compress(pickle.dumps(text)))` gives.
fn wrapped(text: &str) -> String {
    let mut pickle = b"\x80\x04X".to_vec();
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
    pickle.extend(b"\x94.");
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&pickle).unwrap();
    BASE64_STANDARD.encode(encoder.finish().unwrap())
}

fn read(name: &str, records: &[serde_json::Value]) -> Result<Vec<Task>, String> {
    let folder = std::env::temp_dir().join(format!("ra3-lcb-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let tasks = data::read(&path).map(|(tasks, _)| tasks);
    tasks.map_err(|error| error.to_string())
}

fn cases(cases: &[(&str, &str)], kind: &str) -> String {
    let case = |(input, output): &(&str, &str)| {
        let (input, output) = (input.to_owned(), output.to_owned());
        serde_json::json!({"input": input, "output": output, "testtype": kind})
    };
    serde_json::Value::Array(cases.iter().map(case).collect()).to_string()
}

/// Sums of two numbers from standard input: a public test, two private ones.
fn standard(private: &str) -> serde_json::Value {
    serde_json::json!({
        "question_title": "A. Sum", "question_content": "Add them.", "platform": "atcoder",
        "question_id": "abc999_a", "contest_id": "abc999", "contest_date": "2024-03-02T00:00:00",
        "starter_code": "", "difficulty": "easy", "metadata": "{}",
        "public_test_cases": cases(&[("1 2\n3\n", "6\n")], "stdin"),
        "private_test_cases": private,
    })
}

fn private() -> String {
    cases(&[("4 5\n6\n", "15"), ("0 0\n0\n", "0.0\n")], "stdin")
}

fn function() -> serde_json::Value {
    serde_json::json!({
        "question_title": "Pairs", "question_content": "Within 10^-5.", "platform": "leetcode",
        "question_id": "3000", "contest_id": "w1", "contest_date": "2024-05-01T00:00:00",
        "starter_code": "class Solution:\n    def pairs(self, n: int, s: str):\n        ",
        "difficulty": "hard", "metadata": "{\"func_name\": \"pairs\"}",
        "public_test_cases": cases(&[("2\n\"ab\"", "[[\"ab\", 2], 0.5]")], "functional"),
        "private_test_cases": cases(&[("3\n\"c\"", "[[\"c\", 3], 0.333333]")], "functional"),
    })
}

#[test]
fn records_are_read() {
    let records = [standard(&private()), function()];
    let tasks = read("records.jsonl", &records).unwrap();
    let wrapped = read("wrapped.jsonl", &[standard(&wrapped(&private()))]);
    assert_eq!(wrapped.unwrap(), tasks[..1]);
    assert_eq!(
        (tasks[0].tests.len(), tasks[0].date.as_str()),
        (3, "2024-03-02T00:00:00")
    );
    assert_eq!(tasks[1].function.as_deref(), Some("pairs"));
    assert!(!tasks[0].is_erroneous);
    let mut named = function();
    named["question_title"] = "Most Frequent IDs".into();
    assert!(read("named.jsonl", &[named]).unwrap()[0].is_erroneous);
    assert_eq!((release(880), release(881)), (Some("release_v5"), None));
}

#[test]
fn the_files_of_a_release_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, task_id: &str| {
        let mut record = standard(&private());
        record["question_id"] = task_id.into();
        let text = format!("{record}\n");
        std::fs::write(folder.path().join(name), &text).unwrap();
        text
    };
    let texts = [("test.jsonl", "a"), ("test2.jsonl", "b")].map(|(name, id)| write(name, id));
    // The third is not there.
    write("test4.jsonl", "d");
    let (tasks, sum) = ra3_evals::livecodebench::data::read(folder.path()).unwrap();
    let ids: Vec<&str> = tasks.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(sum, ra3_evals::records::checksum(&texts.concat()));
}

#[test]
fn what_is_wrong_with_a_record_is_said() {
    let broken = read("broken.jsonl", &[standard("AAAA")]).unwrap_err();
    assert!(
        broken.contains("line 1: `private_test_cases` should be"),
        "{broken}"
    );
    let other = read("other.jsonl", &[serde_json::json!({"question_id": "1"})]).unwrap_err();
    assert!(other.contains("line 1: `labels` should be"), "{other}");
}

/// A program, its codes in the official way, and whether it is right.
const PROGRAMS: &[(&str, &[Code], bool)] = &[
    (
        "a, b = map(int, input().split())\nprint(a + b + int(input()))",
        &[Code::Passed, Code::Passed, Code::Passed],
        true,
    ),
    (
        "import sys\nnumbers = list(map(int, sys.stdin.read().split()))\n\
         if __name__ == '__main__':\n    print(sum(numbers))",
        &[Code::Passed, Code::Passed, Code::Passed],
        true,
    ),
    // The first line comes again and again.
    (
        "import sys\nread = sys.stdin.buffer.readline\n\
         a, b = map(int, read().split())\nprint(a + b + int(read()))",
        &[Code::Raised],
        true,
    ),
    (
        "import sys\nprint(sum(sum(map(int, line.split())) for line in sys.stdin))",
        &[Code::Raised],
        true,
    ),
    (
        "import os\nprint(sum(map(int, os.read(0, 99).split())))",
        &[Code::Wrong],
        true,
    ),
    // Imports that nobody wrote.
    (
        "print(reduce(add, map(int, sys.stdin.read().split())))",
        &[Code::Passed, Code::Passed, Code::Passed],
        false,
    ),
    // State that outlives a test.
    (
        "import sys\nsys.tests = getattr(sys, 'tests', 0) + 1\n\
         print(sum(map(int, sys.stdin.read().split())) if sys.tests < 2 else 'again')",
        &[Code::Passed, Code::Wrong],
        true,
    ),
    (
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nexit()",
        &[Code::Passed, Code::Passed, Code::Passed],
        true,
    ),
    // The star imports bind the real `open`, whose standard input is empty.
    (
        "print(sum(map(int, open(0).read().split())))",
        &[Code::Wrong],
        true,
    ),
    ("quit()", &[Code::Raised], false),
    ("print(6)", &[Code::Passed, Code::Wrong], false),
    ("import os\nos._exit(0)", &[Code::Lost], false),
    ("print(", &[Code::Raised], false),
    ("", &[Code::Raised], false),
    ("raise KeyboardInterrupt", &[Code::Lost], false),
    // Taken for a class with a method, and looked for where it is not.
    (
        "class Solution:\n    def add(self):\n        \
         return sum(map(int, sys.stdin.read().split()))\nimport sys\nprint(Solution().add())",
        &[Code::Raised],
        true,
    ),
    // What is taken away.
    (
        "import resource, sys\nprint(sum(map(int, sys.stdin.read().split())))",
        &[Code::Raised],
        true,
    ),
    (
        "import os, sys\nos.getcwd()\nprint(sum(map(int, sys.stdin.read().split())))",
        &[Code::Raised],
        true,
    ),
];

#[test]
fn both_modes_grade_standard_input() {
    let pool = pool();
    let task = read("standard.jsonl", &[standard(&private())])
        .unwrap()
        .remove(0);
    let right = Grader::new(task.clone(), Mode::Right).unwrap();
    let compatible = Grader::new(task, Mode::Compatible).unwrap();
    for (program, codes, is_right) in PROGRAMS {
        let (found, part) = compatible.codes(program, &pool).unwrap();
        assert_eq!(found, *codes, "{program}: {part:?}");
        let status = right.grade(program, &pool).unwrap().base.status;
        assert_eq!(status == Status::Pass, *is_right, "{program}: {status:?}");
    }
}

#[test]
fn both_modes_grade_functions() {
    let pool = pool();
    let task = read("function.jsonl", &[function()]).unwrap().remove(0);
    let right = Grader::new(task.clone(), Mode::Right).unwrap();
    let compatible = Grader::new(task, Mode::Compatible).unwrap();
    let solution = |body: &str| format!("class Solution:\n    def pairs(self, n, s):\n{body}");
    for (program, codes, is_right) in [
        (
            solution("        return ([s, n], round(1 / n, 6))"),
            vec![Code::Passed; 2],
            true,
        ),
        (
            solution("        return [[s, n], 1 / n]"),
            vec![Code::Passed, Code::Wrong],
            true,
        ),
        (
            solution("        return [(s, n), round(1 / n, 6)]"),
            vec![Code::Wrong],
            true,
        ),
        (
            solution("        return [[s, n], 0.5]"),
            vec![Code::Passed, Code::Wrong],
            false,
        ),
        (
            "def pairs(n: int, s: str) -> List:\n    return [[s, n], round(1 / n, 6)]".to_owned(),
            vec![Code::Passed; 2],
            true,
        ),
        // One object for all tests, or one each.
        (
            "class Solution:\n    n = 0\n    def pairs(self, n, s):\n        self.n += 1\n        \
             return [[s, n], round(1 / n, 6)] if self.n < 2 else None"
                .to_owned(),
            vec![Code::Passed, Code::Wrong],
            true,
        ),
        (solution("        return 1 // 0"), vec![Code::Raised], false),
        (solution("        exit()"), vec![Code::Lost], false),
        (
            "class E:\n    def __eq__(self, other):\n        return True\n".to_owned()
                + &solution("        return E()"),
            vec![Code::Wrong],
            false,
        ),
        ("def other(): pass".to_owned(), vec![Code::Raised], false),
    ] {
        let (found, part) = compatible.codes(&program, &pool).unwrap();
        assert_eq!(found, codes, "{program}: {part:?}");
        let status = right.grade(&program, &pool).unwrap().base.status;
        assert_eq!(status == Status::Pass, is_right, "{program}: {status:?}");
    }
}

#[test]
fn long_outputs_are_compared() {
    let pool = pool();
    let output = "1234567\n".repeat(200_000);
    let mut record = standard("[]");
    record["public_test_cases"] = cases(&[("200000\n", &output)], "stdin").into();
    let task = read("long.jsonl", &[record]).unwrap().remove(0);
    let program = "for _ in range(int(input())):\n    print(1234567)";
    for mode in [Mode::Right, Mode::Compatible] {
        let grader = Grader::new(task.clone(), mode).unwrap();
        assert_eq!(
            grader.grade(program, &pool).unwrap().base.status,
            Status::Pass
        );
        let short = program.replace("input()", "input()) - 1 + int('0'");
        assert_eq!(
            grader.grade(&short, &pool).unwrap().base.status,
            Status::Fail
        );
    }
}

#[test]
fn a_test_has_six_seconds() {
    let pool = pool();
    let task = read("slow.jsonl", &[standard(&private())])
        .unwrap()
        .remove(0);
    let compatible = Grader::new(task, Mode::Compatible).unwrap();
    let (codes, part) = compatible.codes("while True:\n    pass", &pool).unwrap();
    assert_eq!(
        (codes, part.status),
        (vec![Code::OutOfTime], Status::Timeout)
    );
}

/// Solutions of the three published samples.
const SAMPLES: [(&str, &str); 3] = [
    (
        "1873",
        "for _ in range(int(input())):\n    s = input()\n    \
         print('YES' if sum(a != b for a, b in zip(s, 'abc')) in (0, 2) else 'NO')",
    ),
    (
        "2727",
        "class Solution:\n    def countSeniors(self, details: List[str]) -> int:\n        \
         return sum(int(d[11:13]) > 60 for d in details)",
    ),
    (
        "abc301",
        "n = int(input())\ns = input()\nt = s.count('T')\na = n - t\n\
         print('T' if t > a or (t == a and s[-1] == 'A') else 'A')",
    ),
];

#[test]
fn published_samples_are_solved() {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/benchmarks"
    ));
    let path = std::env::var_os("RA3_BENCHMARKS").map_or(path, PathBuf::from);
    let path = path.join("livecodebench/sandboxfusion_lcb_v1_sample.jsonl");
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return;
    }
    let pool = pool();
    let (tasks, _) = data::read(&path).unwrap();
    for (task, (name, program)) in tasks.into_iter().zip(SAMPLES) {
        assert!(task.task_id.contains(name), "{}", task.task_id);
        for mode in [Mode::Right, Mode::Compatible] {
            let grader = Grader::new(task.clone(), mode).unwrap();
            let verdict = grader.grade(program, &pool).unwrap();
            assert_eq!(verdict.base.status, Status::Pass, "{verdict:?}");
            let wrong = program
                .replace("'YES'", "'NO'")
                .replace("60", "59")
                .replace("t > a", "t < a");
            assert_ne!(
                grader.grade(&wrong, &pool).unwrap().base.status,
                Status::Pass
            );
        }
    }
}

#[test]
fn the_official_form_of_answers_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("custom.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        ra3_evals::samples::read(&path)
    };
    let all = r#"[{"question_id": "a", "code_list": ["x = 1", "y"]},
        {"question_id": "b", "code_list": []},
        {"question_id": "3", "code_list": ["z"], "extra": 1}]"#;
    let found: Vec<(String, String)> = read(all)
        .unwrap()
        .iter()
        .map(|sample| (sample.task_id.clone(), sample.program("not this")))
        .collect();
    let pair = |id: &str, text: &str| (id.to_owned(), text.to_owned());
    assert_eq!(found, [pair("a", "x = 1"), pair("a", "y"), pair("3", "z")]);
    for wrong in [
        r#"[{"question_id": "a", "code_list": "x"}]"#,
        r#"[{"question_id": "a", "code_list": [1]}]"#,
        r#"[{"question_id": "a"}]"#,
    ] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains("code_list"), "{error}");
    }
}
