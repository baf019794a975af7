//! HumanEval and MBPP as published: every right program passes, and the 3-shot prompt is the
//! published one.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod benchmarks;

use benchmarks::benchmarks;
use ra3_evals::bench::{Name, load};
use ra3_evals::evalplus::data::Rules;
use ra3_evals::mbpp;
use ra3_evals::outcome::{Status, grade_all};
use ra3_sandbox::{Level, Pool};

/// Grades right programs and empty ones; the number of tasks.
fn check(name: Name, file: &str) -> usize {
    let helper = env!("CARGO_BIN_EXE_ra3-evals-sandbox-helper").into();
    let Some(folder) = benchmarks() else { return 0 };
    let pool = Pool::with_helper(helper, 2, name.limits(), Level::BestEffort).unwrap();
    let file = folder.join(file);
    let bench = load(name, Rules::Current, &file, &pool, None, &mut |_| {}).unwrap();
    let items: Vec<&str> = bench.task_ids().collect();
    let right = |id: &&str| {
        let task = bench.task(id).unwrap();
        task.grade(&task.canonical().unwrap(), &pool)
    };
    for (id, verdict) in items
        .iter()
        .zip(grade_all(&items, &pool, right, &mut |_| {}))
    {
        let verdict = verdict.unwrap();
        assert_eq!(verdict.base.status, Status::Pass, "{id}: {verdict:?}");
    }
    let wrong = |id: &&str| bench.task(id).unwrap().grade("", &pool);
    for (id, verdict) in items
        .iter()
        .zip(grade_all(&items, &pool, wrong, &mut |_| {}))
    {
        let verdict = verdict.unwrap();
        assert_ne!(verdict.base.status, Status::Pass, "{id}: {verdict:?}");
    }
    items.len()
}

#[test]
fn right_programs_of_humaneval_pass() {
    assert!([0, 164].contains(&check(Name::HumanEval, "humaneval/HumanEval.jsonl.gz")));
}

#[test]
fn right_programs_of_sanitized_mbpp_pass() {
    assert!([0, 257].contains(&check(Name::Mbpp, "mbpp/sanitized-mbpp.json")));
}

#[test]
#[ignore = "takes half a minute"]
fn right_programs_of_mbpp_pass() {
    assert!([0, 500].contains(&check(Name::Mbpp, "mbpp/mbpp.jsonl")));
}

#[test]
fn the_prompt_shows_three_tasks_and_asks_for_the_fourth() {
    let Some(folder) = benchmarks() else { return };
    let (tasks, _) = mbpp::read(&folder.join("mbpp/mbpp.jsonl")).unwrap();
    assert_eq!(
        tasks.iter().filter(|task| task.is_of_test_split()).count(),
        500
    );
    let task = tasks.iter().find(|task| task.number == 11).unwrap();
    let prompt = mbpp::three_shot_prompt(task, &tasks).unwrap();
    let head = "You are an expert Python programmer, and here is your task: ";
    assert_eq!(prompt.matches(head).count(), 4);
    assert_eq!(prompt.matches("\n[DONE]\n").count(), 3);
    assert!(prompt.ends_with(
        "Your code should pass these tests:\n\n\
         assert remove_Occ(\"hello\",\"l\") == \"heo\"\n\
         assert remove_Occ(\"abcda\",\"a\") == \"bcd\"\n\
         assert remove_Occ(\"PHP\",\"P\") == \"H\"\n[BEGIN]"
    ));
    assert!(!prompt.contains('\r') && !prompt.contains('\t'));
}
