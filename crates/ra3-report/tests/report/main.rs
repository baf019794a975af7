//! The report in a real browser: its curves are there, its viewer pages, its text stays text, and
//! it asks nobody for anything. Without a Chromium on the path the browser's part says so and is
//! skipped.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

mod diverged;
mod run;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ra3_records::ledger::Record;
use ra3_report::ReportInputs;
use run::HOSTILE;

/// 4 of RLVR, 1 of bounds, 10 of training.
const N_CHARTS: usize = 15;
/// 1 headline, 2 of families, 1 of drops, 1 of times.
const N_BARS: usize = 5;

fn page(inputs: &ReportInputs<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    ra3_report::write(inputs, &path).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_page_is_the_same_for_the_same_inputs_and_needs_nothing() {
    let run = run::run();
    let page = page(&run.inputs());
    assert_eq!(page, self::page(&run::run().inputs()));
    // The first line of the library of charts says where it is from.
    let asking = page.replacen("/*! https://github.com/leeoniya/uPlot", "", 1);
    for reference in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!asking.contains(reference), "{reference} in the page");
    }
    // The library, the charts, the viewer and its two sets of data; and the data of every chart.
    assert_eq!(page.matches("<script").count(), 5 + N_CHARTS);
    assert_eq!(page.matches("</script>").count(), 5 + N_CHARTS);
    assert!(!page.contains("<!--") && !page.contains("NaN"));
    let n_missing = page.matches("Not in this run.").count();
    assert_eq!(
        n_missing, 1,
        "the fixture has every section; the script knows the words"
    );
}

#[test]
fn what_a_run_lacks_is_said() {
    let inputs = ReportInputs {
        is_finished: true,
        name: "empty".to_owned(),
        plan_toml: String::new(),
        environment: std::collections::BTreeMap::new(),
        ledger: &[],
        samples: &[],
        clock: &[],
    };
    let page = page(&inputs);
    let n_sections = page.matches("<section").count();
    assert_eq!(
        page.matches("Not in this run.").count() - 1,
        n_sections,
        "one in the script"
    );
    assert!(!page.contains("<figure"));
}

#[test]
fn the_summary_has_every_arm_in_both_forms() {
    let run = run::run();
    let table = ra3_report::summary(&run.ledger, &run.clock);
    let json: serde_json::Value = serde_json::from_str(&table.to_json()).unwrap();
    let arms = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["arm"].as_str().unwrap());
    assert_eq!(
        arms.collect::<Vec<_>>(),
        ["base", "ntp", "ntp-compute", "ra3"]
    );
    // Decisions are 5 % apart from 65 % on; plain sampling comes first.
    let text = table.to_text(false);
    let ra3: Vec<&str> = text
        .lines()
        .filter(|line| line.trim_start().starts_with("ra3 "))
        .collect();
    assert!(ra3[0].contains("0.3960"), "{text}");
    assert!(ra3[1].contains("65.0 [61.0, 69.0]"), "{text}");
    // Titles aside, which say how something was asked.
    let mut rows = text.lines().filter(|line| !line.contains(" problems"));
    assert!(rows.all(|line| line.chars().count() <= 80), "{text}");
    let wide = table.to_text(true);
    for column in ["choices left", "p(marker)", "@1 think", "@1 true plan"] {
        assert!(wide.contains(column) && !text.contains(column), "{wide}");
    }
    // 65 of 100 problems against 50, the same ones among them.
    let difference = text
        .lines()
        .find(|line| line.contains("ra3 − base"))
        .unwrap();
    assert!(difference.contains("before RLVR  +15.0 ["), "{difference}");
}

/// What the page looks like from inside, after its own buttons and keys were pressed.
const PROBE: &str = r##"<script>
(() => {
  const title = () => document.querySelector("#shown h3").firstChild.textContent.trim();
  const place = () => document.getElementById("place").textContent;
  const click = (id) => document.getElementById(id).click();
  const press = (key) =>
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const choose = (id, value) => {
    const select = document.getElementById(id);
    select.value = value;
    select.dispatchEvent(new Event("change"));
  };
  const seen = { opened: [title(), place()] };
  click("next");
  seen.clicked = [title(), place(), location.hash];
  press("ArrowLeft");
  press("ArrowLeft");
  seen.pressed = [title(), place(), location.hash];
  seen.rows = [...document.querySelectorAll("#shown .lines tbody tr")].map((row) =>
    [...row.cells].map((cell) => (cell.rowSpan > 1 ? cell.rowSpan + "x " : "") + cell.textContent));
  click("programs");
  choose("verdict", "wrong_answer");
  seen.filtered = [title(), place(), location.hash];
  seen.thoughts = [...document.querySelectorAll("#shown mark")].map((mark) => mark.textContent);
  choose("arm", "ntp");
  seen.nothing = [place(), document.querySelector("#shown").textContent];
  seen.title = document.title;
  seen.scripts = document.scripts.length;
  // A canvas in which at least one pixel has a colour of the series, not only of the axes.
  const isDrawn = (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const isColourful = (at) => {
      const [red, green, blue] = data.slice(at, at + 3);
      return data[at + 3] > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 40;
    };
    for (let at = 0; at < data.length; at += 4) if (isColourful(at)) return true;
    return false;
  };
  const boxes = (selector) => [...document.querySelectorAll(selector)].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 200 && box.height > 30;
  });
  seen.canvases = boxes("figure.plot canvas").length;
  seen.drawn = boxes("figure.plot canvas").filter(isDrawn).length;
  seen.bars = boxes("figure.plot .bars").length;
  seen.lines = document.querySelectorAll(".u-legend .u-series:not(.end)").length - seen.canvases;
  // What the legend says with the pointer in the middle of a chart.
  const hover = (figure) => {
    const over = figure.querySelector(".u-over");
    const { left, top, width } = over.getBoundingClientRect();
    const at = { clientX: left + width / 2, clientY: top + 50, bubbles: true };
    over.dispatchEvent(new MouseEvent("mouseenter", at));
    over.dispatchEvent(new MouseEvent("mousemove", at));
    const rows = [...figure.querySelectorAll(".u-legend .u-series:not(.end)")];
    return rows.map((row) => row.textContent);
  };
  seen.hovered = hover(document.querySelector("#rlvr figure"));
  const ofStep = (figure) => figure.textContent.startsWith("ra3: return of the E-step");
  seen.inPhase = hover([...document.querySelectorAll("#training figure")].find(ofStep))[0];
  seen.wide = document.documentElement.scrollWidth <= innerWidth;
  seen.requests = performance.getEntriesByType("resource").length;
  seen.errors = window.probeErrors;
  const out = document.createElement("output");
  out.id = "probe";
  out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(seen))));
  document.body.append(out);
})();
</script>"##;

const CATCH: &str = "<script>window.probeErrors = []; \
    addEventListener('error', (event) => window.probeErrors.push(String(event.message)));</script>";

fn browser() -> Option<&'static str> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let is_there =
        |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    names.into_iter().find(is_there)
}

/// The page as the browser has it after its scripts.
fn dom(browser: &str, path: &Path, hash: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}{hash}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        sender.send(read)
    });
    let read = receiver.recv_timeout(Duration::from_secs(50));
    if read.is_err() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    read.expect("the browser shows the page within 50 seconds")
        .unwrap()
}

fn probed(dom: &str) -> serde_json::Value {
    let (_, rest) = dom
        .split_once("<output id=\"probe\">")
        .expect("the probe ran");
    let (encoded, _) = rest.split_once('<').unwrap();
    serde_json::from_slice(&base64(encoded)).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text
        .bytes()
        .filter_map(|letter| LETTERS.find(char::from(letter)));
    let bits: Vec<bool> = values
        .flat_map(|value| (0..6).rev().map(move |bit| value >> bit & 1 == 1))
        .collect();
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    bits.chunks_exact(8).map(byte).collect()
}

#[test]
fn a_browser_finds_the_curves_and_pages_through_the_viewer() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium, chromium-browser or google-chrome on the path");
        return;
    };
    let run = run::run();
    let page = page(&run.inputs())
        .replace("<head>", &format!("<head>{CATCH}"))
        .replace("</body>", &format!("{PROBE}</body>"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, page).unwrap();
    let seen = probed(&dom(browser, &path, "#document=2"));

    // Opened by the link, moved by the button, moved back by keys.
    assert_eq!(
        seen["opened"],
        serde_json::json!(["document-2.py", "2 of 3"])
    );
    let third = serde_json::json!(["document-3.py", "3 of 3", "#document=3"]);
    assert_eq!(seen["clicked"], third);
    let first = serde_json::json!(["document-1.py", "1 of 3", "#document=1"]);
    assert_eq!(seen["pressed"], first);
    check_lines(&seen["rows"]);

    let filtered = serde_json::json!(["testbed/held_out/2", "1 of 1", "#program=2"]);
    assert_eq!(seen["filtered"], filtered);
    assert_eq!(
        seen["thoughts"],
        serde_json::json!(["three days on", "act"])
    );
    let nothing = serde_json::json!(["0 of 0", "Nothing passes these filters."]);
    assert_eq!(seen["nothing"], nothing);

    assert_eq!(seen["canvases"], N_CHARTS);
    assert_eq!(
        seen["drawn"],
        N_CHARTS - 1,
        "all, but the loss of the base is grey"
    );
    assert_eq!(seen["bars"], N_BARS);
    // Four arms in each of RLVR, five lines of bounds, three arms and ten single ones.
    assert!(seen["lines"].as_u64().unwrap() >= 30, "{}", seen["lines"]);
    let hovered = ["update10", "ra383.41 [79.41, 87.41]"];
    for text in hovered {
        let rows = seen["hovered"].as_array().unwrap();
        assert!(rows.iter().any(|row| row == text), "{text}: {rows:?}");
    }
    // The axis is as long as the stage: its middle is behind the first E-step, not between the two.
    assert_eq!(seen["inPhase"], "update49, e step");
    assert_eq!(seen["wide"], true, "the page does not scroll sideways");

    // Hostile text was shown and never run; nothing was asked for.
    assert_eq!(seen["title"], format!("fixture {HOSTILE} – ra3"));
    assert_eq!(seen["scripts"], 7 + N_CHARTS, "two of this test");
    assert_eq!(seen["requests"], 0);
    assert_eq!(seen["errors"], serde_json::json!([]));
}

#[test]
fn a_browser_draws_what_a_diverged_run_left() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium, chromium-browser or google-chrome on the path");
        return;
    };
    let mut run = run::run();
    let odd = [1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e17, -1e14, 5e-324];
    let mut numbers = odd.into_iter().cycle();
    for record in &mut run.ledger {
        if let Record::Update(update) = record {
            let values = update.figures.values_mut();
            values
                .zip(&mut numbers)
                .for_each(|(value, odd)| *value = odd);
        }
    }
    let page = page(&run.inputs())
        .replace("<head>", &format!("<head>{CATCH}"))
        .replace("</body>", &format!("{PROBE}</body>"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, page).unwrap();
    let seen = probed(&dom(browser, &path, ""));
    assert_eq!(seen["canvases"], N_CHARTS);
    assert_eq!(seen["errors"], serde_json::json!([]));
}

#[test]
fn a_value_far_outside_is_said_to_be_cut_off() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium, chromium-browser or google-chrome on the path");
        return;
    };
    let mut run = run::run();
    let told = |run: &run::Run| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        std::fs::write(&path, page(&run.inputs())).unwrap();
        dom(browser, &path, "").contains("<small>values far outside are cut off")
    };
    assert!(!told(&run));
    let mut updates = run.ledger.iter_mut().filter_map(|record| match record {
        Record::Update(update) if update.figures.contains_key("loss") => Some(update),
        _ => None,
    });
    let update = updates.next().unwrap();
    update.figures.insert("loss".to_owned(), 1e6);
    assert!(told(&run));
}

/// Decision, q(think), log p with and without, gain, line, and the rationale over its lines.
fn check_lines(rows: &serde_json::Value) {
    let last = format!("    return day  # {HOSTILE}");
    let expected = serde_json::json!([
        [
            "1",
            "act",
            "0.10",
            "−1.25",
            "same",
            "",
            "def weekday(day):",
            "none yet"
        ],
        [
            "2",
            "think",
            "0.80",
            "−1.25",
            "−2.00",
            "+0.75",
            "    n = 9",
            "2x count modulo 10 from 3"
        ],
        [
            "3",
            "act",
            "0.10",
            "−1.25",
            "same",
            "",
            "    day = (day + n) % 7"
        ],
        [
            "4",
            "think",
            "0.80",
            "−1.25",
            "−0.75",
            "−0.50",
            last,
            "2x name the day"
        ],
        ["5", "act", "0.10", "−1.25", "same", "", ""],
    ]);
    assert_eq!(*rows, expected);
}
