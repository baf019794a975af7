//! Every reference solution of HumanEval passes, and an empty one does not.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::Path;

use ra3_evals::grade::{Verdict, grade_all, prepare};
use ra3_evals::problem::read;
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

#[test]
fn reference_solutions_pass_and_empty_ones_do_not() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/benchmarks/humaneval/HumanEval.jsonl.gz"
    );
    let pool = pool();
    if !Path::new(path).exists() {
        println!("skipped: {path} is not here");
        return;
    }
    let (problems, _) = read(Path::new(path)).unwrap();
    assert_eq!(problems.len(), 164);
    let graders = prepare(&problems, &pool);
    let solutions: Vec<_> = graders
        .iter()
        .zip(&problems)
        .map(|(grader, problem)| (grader, problem.canonical_solution.as_str()))
        .collect();
    let verdicts = grade_all(&solutions, &pool, &mut |_| {});
    for (problem, verdict) in problems.iter().zip(&verdicts) {
        assert_eq!(*verdict, Verdict::Passed, "{}", problem.task_id);
    }
    let empty: Vec<_> = graders
        .iter()
        .map(|grader| (grader, "    pass\n"))
        .collect();
    let verdicts = grade_all(&empty, &pool, &mut |_| {});
    for (problem, verdict) in problems.iter().zip(&verdicts) {
        assert!(
            matches!(
                verdict,
                Verdict::WrongAnswer { .. } | Verdict::Raised { .. }
            ),
            "{}: {verdict:?}",
            problem.task_id
        );
    }
}
