//! Models by name, from a Hub on loopback into a cache of the Python client's layout.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]
#![expect(unreachable_pub, reason = "the server is a module of this test alone")]

mod fetching;
mod server;

use std::path::Path;
use std::time::Duration;

use ra3_hub::{HubSettings, Resolved, checksum, resolve};
use server::{COMMIT, Server, etag};

const INDEX: &[u8] = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

fn weights() -> Vec<u8> {
    (0..300_000u32).map(|n| (n % 251) as u8).collect()
}

fn single() -> Server {
    Server::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"version\": 1}"),
        ("chat_template.jinja", b"{{ messages }}"),
        ("additional_chat_templates/rag.jinja", b"{{ documents }}"),
        ("README.md", b"not for us"),
        ("model.safetensors", &weights()),
    ])
}

fn sharded() -> Server {
    Server::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", INDEX),
        ("model-1.safetensors", &weights()),
        ("model-2.safetensors", b"second"),
    ])
}

fn settings(server: &Server, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: server.endpoint(),
        cache: cache.to_owned(),
        token: None,
        certificates: None,
        is_offline: false,
        n_attempts: 2,
        retry_pause: Duration::ZERO,
    }
}

fn get(name: &str, settings: &HubSettings) -> Result<Resolved, String> {
    resolve(name, settings, &mut |_, _| {}).map_err(|error| error.to_string())
}

/// The error of a resolution, which must contain every one of some words.
#[track_caller]
fn check_error(name: &str, settings: &HubSettings, words: &[&str]) {
    let message = get(name, settings).unwrap_err();
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

fn paths(server: &Server) -> Vec<String> {
    let requests = server.take_requests();
    requests.into_iter().map(|request| request.path).collect()
}

#[test]
fn a_folder_is_itself() {
    let (server, folder) = (single(), tempfile::tempdir().unwrap());
    let found = get(
        folder.path().to_str().unwrap(),
        &settings(&server, folder.path()),
    );
    assert_eq!(found.unwrap().folder, folder.path());
    assert!(paths(&server).is_empty());
}

#[test]
fn a_fresh_model_is_downloaded_and_the_next_time_only_its_commit_is_asked_for() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    let mut bars = Vec::new();
    let found = resolve("org/tiny", &settings, &mut |done, total| {
        bars.push((done, total));
    });
    let found = found.unwrap();
    let repository = cache.path().join("models--org--tiny");
    assert_eq!(found.folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(found.commit.as_deref(), Some(COMMIT));
    let read = |name: &str| std::fs::read(found.folder.join(name)).unwrap();
    assert_eq!(read("model.safetensors"), weights());
    assert_eq!(read("chat_template.jinja"), b"{{ messages }}");
    let further = read("additional_chat_templates/rag.jinja");
    assert_eq!(further, b"{{ documents }}");
    assert!(!found.folder.join("README.md").exists());
    assert_eq!(
        std::fs::read_link(found.folder.join("config.json")).unwrap(),
        Path::new("../../blobs").join(etag("config.json"))
    );
    let main = std::fs::read_to_string(repository.join("refs/main")).unwrap();
    assert_eq!(main, COMMIT);
    let total = (weights().len() + 2 + 14 + 14 + 15) as u64;
    assert_eq!(bars.last(), Some(&(total, total)));
    assert!(bars.is_sorted(), "bytes never go back");
    assert!(paths(&server).contains(&"/storage/model.safetensors".to_owned()));

    assert_eq!(get("org/tiny", &settings).unwrap(), found);
    let asked = paths(&server);
    assert_eq!(asked, ["/api/models/org/tiny/revision/main?blobs=true"]);
}

#[test]
fn shards_are_those_of_the_index() {
    let (server, cache) = (sharded(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    let folder = get("org/tiny", &settings).unwrap().folder;
    let second = std::fs::read(folder.join("model-2.safetensors")).unwrap();
    assert_eq!(second, b"second");

    server
        .state
        .lock()
        .unwrap()
        .files
        .remove("model-2.safetensors");
    let empty = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        cache: empty.path().to_owned(),
        ..settings
    };
    check_error(
        "org/tiny",
        &settings,
        &["model-2.safetensors of org/tiny@main"],
    );
}

#[test]
fn a_revision_has_its_own_reference_and_a_commit_none() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    get("org/tiny@refs/pr/1", &settings).unwrap();
    assert!(paths(&server)[0].starts_with("/api/models/org/tiny/revision/refs%2Fpr%2F1"));
    let references = cache.path().join("models--org--tiny/refs");
    assert!(references.join("refs/pr/1").exists() && !references.join("main").exists());
    let by_commit = format!("org/tiny@{COMMIT}");
    let found = get(&by_commit, &settings).unwrap();
    assert!(!references.join(COMMIT).exists());
    let offline = HubSettings {
        is_offline: true,
        ..settings
    };
    assert_eq!(get(&by_commit, &offline).unwrap(), found);
    check_error("org/tiny", &offline, &["org/tiny@main", "never fetched"]);
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_the_storage() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    server.state.lock().unwrap().token = Some("secret".to_owned());
    let settings = HubSettings {
        token: Some("secret".to_owned()),
        ..settings(&server, cache.path())
    };
    get("org/tiny", &settings).unwrap();
    for request in server.take_requests() {
        let is_storage = request.path.starts_with("/storage/");
        assert_eq!(request.token.is_none(), is_storage, "{request:?}");
    }
}

#[test]
fn a_refusal_says_what_the_token_lacks() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let without = settings(&server, cache.path());
    let with = HubSettings {
        token: Some("other".to_owned()),
        ..without.clone()
    };
    server.state.lock().unwrap().token = Some("secret".to_owned());
    server.state.lock().unwrap().refusal = 401;
    check_error(
        "org/tiny",
        &without,
        &["org/tiny@main", "401", "set HF_TOKEN"],
    );
    check_error("org/tiny", &with, &["the token is not valid"]);
    server.state.lock().unwrap().refusal = 403;
    check_error("org/tiny", &with, &["403", "accept its terms"]);
}

#[test]
fn a_file_without_certificates_is_named() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let path = cache.path().join("roots.pem");
    let settings = HubSettings {
        certificates: Some(path.clone()),
        ..settings(&server, cache.path())
    };
    check_error("org/tiny", &settings, &["roots.pem", "SSL_CERT_FILE"]);
    std::fs::write(&path, "not PEM").unwrap();
    check_error("org/tiny", &settings, &["roots.pem: no certificate in it"]);
}

#[test]
fn what_is_not_there_is_named() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    check_error(
        "org/none",
        &settings,
        &["org/none@main", "pass a folder", &settings.endpoint],
    );
    check_error("org/tiny@gone", &settings, &["org/tiny@gone"]);
    check_error("none", &settings, &["`none` is no folder"]);
    server.state.lock().unwrap().files.remove("tokenizer.json");
    check_error(
        "org/tiny",
        &settings,
        &["tokenizer.json of org/tiny@main is not on"],
    );
}

#[test]
fn offline_uses_the_cache_and_names_what_it_lacks() {
    let (server, cache) = (sharded(), tempfile::tempdir().unwrap());
    let offline = HubSettings {
        is_offline: true,
        ..settings(&server, cache.path())
    };
    check_error("org/tiny", &offline, &["never fetched", "HF_HUB_OFFLINE"]);
    let found = get("org/tiny", &settings(&server, cache.path())).unwrap();
    server.take_requests();
    assert_eq!(get("org/tiny", &offline).unwrap(), found);
    std::fs::remove_file(found.folder.join("model-2.safetensors")).unwrap();
    check_error(
        "org/tiny",
        &offline,
        &["org/tiny@main", "model-2.safetensors missing"],
    );
    assert!(paths(&server).is_empty());
}

#[test]
fn without_a_network_the_cache_stands_in_and_says_so() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    let found = get("org/tiny", &settings).unwrap();
    // A port of which nobody listens any more.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let cut_off = HubSettings {
        endpoint,
        ..settings
    };
    let again = get("org/tiny", &cut_off).unwrap();
    assert_eq!(again.folder, found.folder);
    assert!(again.unchecked.unwrap().contains(&cut_off.endpoint));
    check_error("org/more", &cut_off, &["org/more@main", "HF_HUB_OFFLINE=1"]);
}

#[test]
fn a_connection_that_breaks_is_continued_within_a_call() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    server.state.lock().unwrap().cuts = vec![1000, 0, 50_000];
    let found = get("org/tiny", &settings(&server, cache.path())).unwrap();
    let bytes = std::fs::read(found.folder.join("model.safetensors")).unwrap();
    assert_eq!(bytes, weights());
    let ranges: Vec<String> = server
        .take_requests()
        .into_iter()
        .filter(|request| request.path.starts_with("/storage/"))
        .map(|request| request.range.unwrap_or_default())
        .collect();
    // A range is asked for where there is something to continue.
    assert_eq!(ranges, ["", "bytes=1000-", "bytes=1000-", "bytes=51000-"]);
}

#[test]
fn a_download_that_was_given_up_is_continued_by_the_next_call() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    server.state.lock().unwrap().cuts = vec![1000, 0, 0];
    check_error(
        "org/tiny",
        &settings,
        &["model.safetensors of org/tiny@main", "run again"],
    );
    let repository = cache.path().join("models--org--tiny");
    let blob = repository.join("blobs").join(etag("model.safetensors"));
    assert!(!blob.exists(), "no file is cut short at its final name");
    assert!(!repository.join("refs").exists());
    server.take_requests();
    server.state.lock().unwrap().cuts.clear();
    get("org/tiny", &settings).unwrap();
    assert_eq!(std::fs::read(blob).unwrap(), weights());
    let requests = server.take_requests();
    let storage = requests
        .iter()
        .find(|request| request.path.starts_with("/storage/"));
    assert_eq!(storage.unwrap().range.as_deref(), Some("bytes=1000-"));
}

#[test]
fn a_large_file_has_to_have_the_checksum_that_names_it() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, cache.path());
    let file = cache.path().join("weights");
    std::fs::write(&file, weights()).unwrap();
    let right = checksum(&file).unwrap();
    let wrong = "0".repeat(64);
    let blobs = cache.path().join("models--org--tiny/blobs");
    server.state.lock().unwrap().sha256 = Some(wrong.clone());
    check_error(
        "org/tiny",
        &settings,
        &["model.safetensors", &right, &wrong],
    );
    let kept = std::fs::read_dir(&blobs).unwrap();
    let is_of_weights = |name: &str| name.starts_with(&wrong);
    let names = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| is_of_weights(&name)));
    server.state.lock().unwrap().sha256 = Some(right.clone());
    let found = get("org/tiny", &settings).unwrap();
    let bytes = std::fs::read(found.folder.join("model.safetensors")).unwrap();
    assert_eq!(bytes, weights());
    assert!(blobs.join(right).exists());
}

#[test]
fn a_server_that_knows_no_ranges_sends_the_file_again() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    server.state.lock().unwrap().cuts = vec![1000];
    server.state.lock().unwrap().ignores_ranges = true;
    let found = get("org/tiny", &settings(&server, cache.path())).unwrap();
    let bytes = std::fs::read(found.folder.join("model.safetensors")).unwrap();
    assert_eq!(bytes, weights());
}

#[test]
fn a_mirror_that_lists_names_alone_is_asked_for_sizes() {
    let (server, cache) = (single(), tempfile::tempdir().unwrap());
    server.state.lock().unwrap().is_terse = true;
    let found = get("org/tiny", &settings(&server, cache.path())).unwrap();
    let bytes = std::fs::read(found.folder.join("model.safetensors")).unwrap();
    assert_eq!(bytes, weights());
    let blobs = cache.path().join("models--org--tiny/blobs");
    assert!(blobs.join(etag("model.safetensors")).exists());
}

#[test]
fn a_path_is_never_asked_for() {
    let (server, folder) = (single(), tempfile::tempdir().unwrap());
    let settings = settings(&server, folder.path());
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, "").unwrap();
    let missing = folder.path().join("missing");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&missing, &link).unwrap();
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    for (path, word) in [
        (&file, "no folder"),
        (&missing, "no such folder"),
        (&link, "leads nowhere"),
        (&fifo, "no folder"),
    ] {
        let name = path.to_str().unwrap();
        check_error(
            name,
            &settings,
            &[name, "is a path, not a name on the Hub", word],
        );
    }
    for name in [
        "./org/tiny",
        "../tiny",
        "~/tiny",
        "runs/out/tiny",
        "org/tiny/",
        "src/tiny",
    ] {
        check_error(name, &settings, &[name, "is a path, not a name on the Hub"]);
    }
    assert!(paths(&server).is_empty());
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_only_where_it_is_needed() {
    let (server, folder) = (single(), tempfile::tempdir().unwrap());
    let cache = folder.path().join("cache");
    let usual = settings(&server, &cache);
    // Root may write everywhere, but not below a file.
    let home = folder.path().join("home");
    std::fs::write(&home, "").unwrap();
    let closed = settings(&server, &home.join("hub"));
    let own = folder.path().to_str().unwrap();
    assert_eq!(get(own, &closed).unwrap().folder, folder.path());
    let words = ["cannot write", "home/hub", "set HF_HOME"];
    check_error("org/tiny", &closed, &words);

    // Everything is there but the record of what `main` means, which cannot be written.
    let found = get("org/tiny", &usual).unwrap();
    let refs = cache.join("models--org--tiny/refs");
    std::fs::remove_dir_all(&refs).unwrap();
    std::fs::write(&refs, "").unwrap();
    assert_eq!(get("org/tiny", &usual).unwrap(), found);
}

/// A name and its bytes.
type File<'a> = (&'a str, &'a [u8]);

#[test]
fn another_form_of_a_model_is_named_with_what_to_do() {
    let cases: [(&[File<'_>], &[&str]); 4] = [
        (
            &[
                ("config.json", b"{}"),
                ("tokenizer.json", b"{}"),
                ("pytorch_model.bin", b""),
            ],
            &[
                "no model.safetensors, only pytorch_model.bin",
                "save_pretrained",
            ],
        ),
        (
            &[
                ("adapter_config.json", b"{}"),
                ("adapter_model.safetensors", b""),
            ],
            &[
                "no config.json, only adapter_config.json",
                "merge_and_unload",
            ],
        ),
        (
            &[
                ("config.json", b"{}"),
                ("vocab.json", b"{}"),
                ("merges.txt", b""),
            ],
            &["no tokenizer.json, only vocab.json", "AutoTokenizer"],
        ),
        (
            &[("README.md", b""), ("model-q8.gguf", b"")],
            &["no config.json, only model-q8.gguf", "llama.cpp"],
        ),
    ];
    for (files, words) in cases {
        let (server, cache) = (Server::start(files), tempfile::tempdir().unwrap());
        check_error("org/tiny", &settings(&server, cache.path()), words);
    }
}
