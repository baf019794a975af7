//! The report in a real browser: its curves are there, and the viewer pages.

use std::path::{Path, PathBuf};
use std::process::Command;

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .find_map(|name| folders.iter().map(|f| f.join(name)).find(|p| p.is_file()))
}

/// The page's document after its script has run.
fn dom(browser: &Path, profile: &Path, url: &str) -> String {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=2000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What stands in the viewer.
fn shown(dom: &str) -> &str {
    let start = dom.find("<div id=\"shown\">").expect("the viewer is there");
    let end = dom
        .find("<h2>Corpus</h2>")
        .expect("the corpus section is behind it");
    &dom[start..end]
}

#[test]
fn the_curves_are_there_and_the_viewer_pages() {
    let Some(browser) = browser() else {
        println!("skipped: no Chromium on the PATH");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_ra3"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["run", "runs/tiny.toml", "--json", "--set"])
        .arg(format!("directory={}", directory.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let table: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(table["rows"].as_array().unwrap().len(), 4);

    let page = format!("file://{}/report.html", directory.display());
    let open = |place: &str| {
        dom(
            &browser,
            &folder.path().join("profile"),
            &format!("{page}{place}"),
        )
    };
    let [first, second, program] = ["", "#document=2", "#program=2"].map(open);
    for title in [
        "Held-out pass@1 against updates",
        "Reward on training problems",
        "Loss",
    ] {
        assert!(
            first.contains(&format!("aria-label=\"{title}\"")),
            "no curve {title:?}"
        );
    }
    assert!(first.matches("<canvas").count() >= 6);
    assert!(
        first.contains("1 of 4") && second.contains("2 of 4"),
        "four documents"
    );
    assert!(
        shown(&first).contains("class=\"chip"),
        "each line has its decision"
    );
    assert_ne!(shown(&first), shown(&second));
    assert!(
        shown(&program).contains("after "),
        "a program and its verdict"
    );
}
