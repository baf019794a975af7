//! What `TensorBoard` reads of a run is what its ledger says, whatever a kill left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// By run and tag: steps and values. `TensorBoard`'s own reader, which drops no point.
const READER: &str = r#"
import json, os, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
root, found = sys.argv[1], {}
for run in sorted(os.listdir(root)):
    events = EventAccumulator(os.path.join(root, run), size_guidance={"scalars": 0}).Reload()
    found[run] = {tag: [[event.step, str(event.value)] for event in events.Scalars(tag)]
                  for tag in events.Tags()["scalars"]}
json.dump(found, sys.stdout)
"#;

type Scalars = BTreeMap<String, BTreeMap<String, Vec<(u64, f32)>>>;

fn read(python: &Path, folder: &Path) -> Scalars {
    let output = Command::new(python)
        .args(["-c", READER])
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: BTreeMap<String, BTreeMap<String, Vec<(u64, String)>>> =
        serde_json::from_slice(&output.stdout).unwrap();
    let point = |(step, value): (u64, String)| (step, value.parse().unwrap());
    let points = |all: Vec<(u64, String)>| all.into_iter().map(point).collect();
    let run = |tags: BTreeMap<String, Vec<(u64, String)>>| {
        let tags = tags.into_iter().map(|(tag, all)| (tag, points(all)));
        tags.collect()
    };
    found
        .into_iter()
        .map(|(name, tags)| (name, run(tags)))
        .collect()
}

/// What the ledger's lines come to.
fn expected(directory: &Path) -> Scalars {
    let mut all = Scalars::new();
    let mut add = |run: String, tag: String, step: u64, value: &Value| {
        let value = value.as_f64().unwrap_or(f64::NAN) as f32;
        let points = all.entry(run).or_default().entry(tag).or_default();
        points.push((step, value));
    };
    let ledger = std::fs::read_to_string(directory.join("ledger.jsonl")).unwrap();
    for line in ledger.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| record[key].as_str().unwrap().to_owned();
        let position = record["position"].as_u64().unwrap_or(0);
        match record["record"].as_str().unwrap() {
            "update" => {
                for (name, value) in record["figures"].as_object().unwrap() {
                    let tag = format!("{}/{name}", word("phase"));
                    add(word("stage"), tag, position + 1, value);
                }
                for (tag, key) in [
                    ("spent/corpus_tokens", "n_corpus_tokens"),
                    ("spent/tokens_sampled", "n_tokens_sampled"),
                    ("spent/flops", "flops"),
                ] {
                    add(word("stage"), tag.to_owned(), position + 1, &record[key]);
                }
            }
            "score" => {
                for (k, pass) in record["pass_at"].as_object().unwrap() {
                    let tag = format!("score/pass@{k}/{}", word("decision"));
                    add(word("stage"), tag, position, &pass["mean"]);
                }
            }
            "held_out" => {
                let run = format!("held-out-{}", word("arm"));
                let exact = [("bits_per_byte", &record["bits_per_byte"])];
                let maps = ["bounds", "latents"].map(|key| record[key].as_object().unwrap());
                let others = maps.into_iter().flatten();
                let others = others.map(|(name, value)| (name.as_str(), value));
                for (name, value) in exact.into_iter().chain(others) {
                    add(run.clone(), format!("held_out/{name}"), 0, value);
                }
            }
            _ => {}
        }
    }
    all
}

/// Compares what `TensorBoard` shows of a finished run with its ledger.
pub(crate) fn assert_shows_the_ledger(python: &Path, directory: &Path) {
    let (found, expected) = (
        read(python, &directory.join("tensorboard")),
        expected(directory),
    );
    assert!(expected.len() > 5, "{:?}", expected.keys());
    let names = |all: &Scalars| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (run, tags) in &expected {
        for (tag, points) in tags {
            let shown = found[run]
                .get(tag)
                .unwrap_or_else(|| panic!("{run}: no {tag}"));
            let bits = |points: &[(u64, f32)]| -> Vec<(u64, u32)> {
                points
                    .iter()
                    .map(|(step, value)| (*step, value.to_bits()))
                    .collect()
            };
            assert_eq!(bits(shown), bits(points), "{run}: {tag}");
        }
        assert_eq!(found[run].len(), tags.len(), "{run}");
    }
}
