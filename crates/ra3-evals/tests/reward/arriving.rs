//! What a command hears, for items of any kind.

use std::cell::RefCell;
use std::fs;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ra3_evals::outcome::{Failure, Kind, Part, Status, Verdict};
use ra3_evals::rlvr::reward_command::Item;
use serde_json::{Value, json};

use crate::{LONG, start};

/// What an item is made of.
#[derive(Clone, Debug)]
struct Parts {
    texts: [String; 3],
    latents: Vec<String>,
    verdict: Verdict,
}

impl Parts {
    fn item(&self) -> Item<'_> {
        let [task_id, prompt, program] = &self.texts;
        Item {
            task_id,
            prompt,
            program,
            latents: &self.latents,
            verdict: &self.verdict,
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    let odd = "\n\r\0\t\"\\/\u{7f}\u{85}\u{2028}\u{2029}\u{feff}é𝔘{}'";
    let odd = prop::sample::select(odd.chars().collect::<Vec<char>>());
    let any = prop_oneof![odd, any::<char>(), prop::char::range('a', 'z')];
    prop::collection::vec(any, 0..20).prop_map(|chars| chars.into_iter().collect())
}

prop_compose! {
    fn any_part()(
        status in prop::sample::select(vec![Status::Pass, Status::Fail, Status::Timeout]),
        kind in prop::sample::select(vec![Kind::Passed, Kind::WrongAnswer, Kind::OutOfMemory]),
        failure in prop::option::of((0usize..9, text(), text(), text())),
        n_right in 0usize..9,
        n_tests in 0usize..9,
    ) -> Part {
        let mut part = Part::passed(n_tests);
        (part.status, part.kind, part.n_right) = (status, kind, n_right);
        part.failure = failure.map(|(index, input, expected, got)| Failure {
            index,
            input,
            expected,
            got,
        });
        part
    }
}

prop_compose! {
    fn any_parts()(
        texts in [text(), text(), text()],
        latents in prop::collection::vec(text(), 0..4),
        base in any_part(),
        plus in prop::option::of(any_part()),
    ) -> Parts {
        Parts { texts, latents, verdict: Verdict { base, plus } }
    }
}

/// What should arrive, word by word.
fn expected(parts: &Parts) -> Value {
    let part = |part: &Part| {
        let failure = part.failure.as_ref().map_or(Value::Null, |failure| {
            let Failure {
                index,
                input,
                expected,
                got,
            } = failure;
            json!({"index": index, "input": input, "expected": expected, "got": got})
        });
        let kind = match part.kind {
            Kind::Passed => "passed",
            Kind::WrongAnswer => "wrong_answer",
            _ => "out_of_memory",
        };
        let status = match part.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Timeout => "timeout",
        };
        let (n_right, n_tests) = (part.n_right, part.n_tests);
        json!({"status": status, "kind": kind, "n_right": n_right, "n_tests": n_tests,
               "failure": failure})
    };
    let Verdict { base, plus } = &parts.verdict;
    let is_right = |part: &Part| part.status == Status::Pass;
    json!({
        "task_id": parts.texts[0],
        "prompt": parts.texts[1],
        "program": parts.texts[2],
        "latents": parts.latents,
        "verdict": {
            "passed": is_right(base) && plus.as_ref().is_none_or(is_right),
            "base": part(base),
            "plus": plus.as_ref().map_or(Value::Null, part),
        },
    })
}

/// One process for all cases: each of their programs comes once, whole and in order.
#[test]
fn what_is_sent_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let heard = directory.path().join("heard");
    let script = r#"
import json, sys
with open(sys.argv[1], "w", encoding="utf-8") as heard:
    for index, line in enumerate(sys.stdin):
        item = json.loads(line)
        print(json.dumps(item), file=heard, flush=True)
        print(json.dumps({"index": index, "reward": len(item["program"])}))
"#;
    let command = start(&["python3", "-c", script, heard.to_str().unwrap()], LONG).unwrap();
    let state = RefCell::new((command, Vec::new()));
    let cases = prop::collection::vec(any_parts(), 0..4);
    let check = |batch: Vec<Parts>| {
        let (command, sent) = &mut *state.borrow_mut();
        let items: Vec<Item<'_>> = batch.iter().map(Parts::item).collect();
        let rewards = command.rewards(&items).unwrap();
        prop_assert_eq!(rewards.len(), batch.len());
        for (parts, reward) in batch.iter().zip(rewards) {
            prop_assert_eq!(reward.total, parts.texts[2].chars().count() as f64);
            prop_assert_eq!(reward.components["index"], sent.len() as f64);
            sent.push(expected(parts));
        }
        Ok(())
    };
    TestRunner::new(Config::with_cases(200))
        .run(&cases, check)
        .unwrap();
    let text = fs::read_to_string(heard).unwrap();
    let heard: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (_, sent) = state.into_inner();
    assert!(sent.len() > 100);
    assert_eq!(heard, sent);
}
