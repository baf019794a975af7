//! HumanEval+ and MBPP+: verdicts on recorded outputs equal EvalPlus's, right programs pass, and
//! mutants of them fail.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod benchmarks;

use std::collections::BTreeMap;
use std::path::Path;

use benchmarks::benchmarks;
use ra3_evals::evalplus::data::{Benchmark, Rules, read};
use ra3_evals::evalplus::grade::{Grader, graders};
use ra3_evals::evalplus::oracle::expected;
use ra3_evals::outcome::{Status, Verdict, grade_all};
use ra3_evals::results;
use ra3_sandbox::{Level, Limits, Pool};

fn pool() -> Pool {
    let limits = Limits {
        cpu_s: 10,
        wall_s: 30.0,
        memory_bytes: 4 << 30,
        result_bytes_max: 1 << 20,
    };
    let helper = env!("CARGO_BIN_EXE_ra3-evals-sandbox-helper").into();
    Pool::with_helper(helper, 2, limits, Level::BestEffort).unwrap()
}

/// Each `nth` task of a data file, ready to grade.
fn ready(file: &Path, benchmark: Benchmark, rules: Rules, nth: usize, pool: &Pool) -> Vec<Grader> {
    let mut dataset = read(file, benchmark, rules).unwrap();
    assert!(!dataset.version.contains("unknown"), "{}", dataset.version);
    let mut index = 0;
    dataset.tasks.retain(|_| {
        index += 1;
        index % nth == 0
    });
    // Below a file nothing can be kept, as below a read-only home: that is no error.
    let cache = file.join("cache");
    let expected = expected(&dataset, pool, Some(&cache), &mut |_| {}).unwrap();
    graders(dataset, expected)
}

fn grade(items: &[(&Grader, String)], pool: &Pool) -> Vec<Verdict> {
    let grade = |(grader, program): &(&Grader, String)| grader.grade(program, pool);
    let graded = grade_all(items, pool, grade, &mut |_| {});
    graded.into_iter().map(Result::unwrap).collect()
}

/// Verdicts that the official tool itself does not repeat, as version 0.2.1 shows when it is run:
/// of the first, the order of a set's items, which is another in each process whose hash seed
/// differs (it passes under `PYTHONHASHSEED=0`, and fails against expected outputs that were kept
/// by a process with another seed); the second takes as long as the machine is slow.
const UNSTABLE: [&str; 2] = ["Mbpp/579", "Mbpp/599"];

/// Grades the recorded outputs and compares each verdict; the number of programs. The recorded
/// verdicts are of the rules of 2024.
fn compare(data: &str, recorded: &str, benchmark: Benchmark, nth: usize) -> usize {
    let Some(folder) = benchmarks() else {
        return 0;
    };
    let pool = pool();
    let folder = folder.join("evalplus_golden");
    let graders = ready(&folder.join(data), benchmark, Rules::Of2024, nth, &pool);
    let by_task: BTreeMap<&str, &Grader> = graders
        .iter()
        .map(|grader| (grader.task.task_id.as_str(), grader))
        .collect();
    let recorded = results::read(&folder.join(recorded)).unwrap();
    let (mut items, mut official) = (Vec::new(), Vec::new());
    for (task_id, entries) in &recorded.tasks {
        for entry in entries {
            if let Some(grader) = by_task.get(task_id.as_str()) {
                items.push((*grader, entry.solution.clone()));
                official.push((entry.base, entry.plus.unwrap()));
            }
        }
    }
    let mut different = Vec::new();
    for ((item, verdict), official) in items.iter().zip(grade(&items, &pool)).zip(official) {
        let plus = verdict.plus.clone().unwrap();
        // The recorded files know no `timeout`.
        let known = |status| match status {
            Status::Timeout => Status::Fail,
            Status::Pass | Status::Fail => status,
        };
        let is_unstable = UNSTABLE.contains(&item.0.task.task_id.as_str());
        let is_same = (known(verdict.base.status), known(plus.status)) == official;
        if !is_same && !is_unstable {
            different.push(format!(
                "{}: {official:?}, {verdict:?}",
                item.0.task.task_id
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    items.len()
}

fn compare_both(nth: usize) -> (usize, usize) {
    let humaneval = compare(
        "HumanEvalPlus-v0.1.9.jsonl.gz",
        "qwen2.5-coder-1.5b-base.humaneval.generated_eval_results.json",
        Benchmark::HumanEval,
        nth,
    );
    let mbpp = compare(
        "MbppPlus-v0.1.0.jsonl.gz",
        "qwen2.5-coder-1.5b-base.mbpp.generated_eval_results.json",
        Benchmark::Mbpp,
        nth,
    );
    (humaneval, mbpp)
}

/// Small changes that make most programs wrong.
const CHANGES: &[(&str, &str)] = &[
    (" < ", " <= "),
    (" > ", " < "),
    (" + ", " - "),
    (" == ", " != "),
    ("range(", "range(1 + "),
    (" and ", " or "),
    ("0", "1"),
];

/// Right programs pass; the number of mutants, and of those that are found out.
fn solutions_and_mutants(data: &str, benchmark: Benchmark, nth: usize) -> (usize, usize) {
    let Some(folder) = benchmarks() else {
        return (0, 0);
    };
    let pool = pool();
    let graders = ready(&folder.join(data), benchmark, Rules::Current, nth, &pool);
    let right = |grader: &Grader| {
        let task = &grader.task;
        format!("{}{}", task.prompt, task.canonical_solution)
    };
    let solutions: Vec<_> = graders
        .iter()
        .map(|grader| (grader, right(grader)))
        .collect();
    for ((grader, _), verdict) in solutions.iter().zip(grade(&solutions, &pool)) {
        let plus = verdict.plus.unwrap();
        let statuses = (verdict.base.status, plus.status);
        assert_eq!(
            statuses,
            (Status::Pass, Status::Pass),
            "{}: {:?}",
            grader.task.task_id,
            plus.failure
        );
    }
    let nothing = |grader: &Grader| {
        let name = &grader.task.entry_point;
        format!("def {name}(*arguments):\n    return NotImplemented\n")
    };
    let empty: Vec<_> = graders
        .iter()
        .map(|grader| (grader, nothing(grader)))
        .collect();
    for ((grader, _), verdict) in empty.iter().zip(grade(&empty, &pool)) {
        // Of this one EvalPlus takes any answer.
        if grader.task.entry_point != "are_equivalent" {
            assert_eq!(verdict.base.status, Status::Fail, "{}", grader.task.task_id);
        }
    }
    let mutants: Vec<_> = graders
        .iter()
        .flat_map(|grader| {
            let task = &grader.task;
            let change = move |(from, to): &(&str, &str)| {
                let changed = task.canonical_solution.replacen(from, to, 1);
                (changed != task.canonical_solution)
                    .then(|| (grader, task.prompt.clone() + &changed))
            };
            CHANGES.iter().filter_map(change).take(2)
        })
        .collect();
    let passes = |verdict: &Verdict| {
        let plus = verdict.plus.as_ref().unwrap();
        verdict.base.status == Status::Pass && plus.status == Status::Pass
    };
    let n_passed = grade(&mutants, &pool).iter().filter(|v| passes(v)).count();
    (mutants.len(), mutants.len() - n_passed)
}

fn check_solutions_and_mutants(nth: usize) {
    for (data, benchmark) in [
        ("humanevalplus/HumanEvalPlus.jsonl.gz", Benchmark::HumanEval),
        ("mbppplus/MbppPlus.jsonl.gz", Benchmark::Mbpp),
    ] {
        let (n_mutants, n_found) = solutions_and_mutants(data, benchmark, nth);
        println!("{data}: {n_found} of {n_mutants} mutants found out");
        // Some changes leave a program right.
        assert!(
            10 * n_found >= 7 * n_mutants,
            "{data}: {n_found} of {n_mutants}"
        );
    }
}

#[test]
fn some_right_programs_pass_and_their_mutants_do_not() {
    check_solutions_and_mutants(23);
}

#[test]
#[ignore = "takes minutes"]
fn all_right_programs_pass_and_their_mutants_do_not() {
    check_solutions_and_mutants(1);
}

#[test]
fn a_part_of_the_recorded_verdicts_is_the_same() {
    let (humaneval, mbpp) = compare_both(17);
    assert!(benchmarks().is_none() || (humaneval, mbpp) == (9, 23));
}

#[test]
#[ignore = "takes minutes"]
fn every_recorded_verdict_is_the_same() {
    let (humaneval, mbpp) = compare_both(1);
    assert!(benchmarks().is_none() || (humaneval, mbpp) == (164, 399));
}
