//! Every reference solution of HumanEval passes, and an empty one does not.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::path::Path;

use ra3_evals::grade::Purpose;
use ra3_evals::outcome::{Kind, Part, grade_all};
use ra3_evals::problem::read;
use ra3_evals::task::Task;
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
    let mut tasks = Task::functions(problems);
    Task::prepare(&mut tasks, Purpose::Reward, &pool);
    let parts = |program: &(dyn Fn(&Task) -> String + Sync)| -> Vec<Part> {
        let grade = |task: &Task| task.grade(&program(task), &pool);
        let graded = grade_all(&tasks, &pool, grade, &mut |_| {});
        graded
            .into_iter()
            .map(|graded| graded.unwrap().base)
            .collect()
    };
    let right = parts(&|task| task.canonical().unwrap());
    for (task, part) in tasks.iter().zip(right) {
        assert_eq!(part.kind, Kind::Passed, "{}", task.task_id());
    }
    let empty = parts(&|task| format!("{}    pass\n", task.beginning()));
    for (task, part) in tasks.iter().zip(empty) {
        assert!(
            matches!(part.kind, Kind::WrongAnswer | Kind::Raised),
            "{}: {part:?}",
            task.task_id()
        );
    }
}
