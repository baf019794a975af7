//! Problem sets for RLVR: right programs pass, programs that cheat do not, and nothing that MBPP+
//! tests is trained on.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod benchmarks;

use std::collections::BTreeSet;

use benchmarks::benchmarks;
use ra3_evals::bench::{self, Name};
use ra3_evals::contest;
use ra3_evals::contest::reward::Scheme;
use ra3_evals::contest::task::Test;
use ra3_evals::evalplus::data as evalplus;
use ra3_evals::evalplus::data::Rules;
use ra3_evals::grade::{Form, Grader, Purpose, prepare};
use ra3_evals::mbpp;
use ra3_evals::outcome::{Kind, Part, Status, grade_all};
use ra3_evals::problem::Problem;
use ra3_evals::prompt::{self, program};
use ra3_evals::rlvr::{assert_lists, leetcode, mbpp_train, puzzles};
use ra3_evals::samples::{Sample, Text};
use ra3_evals::task::Task;
use ra3_sandbox::{Level, Limits, Pool};

const LIMITS: Limits = Limits {
    cpu_s: 10,
    wall_s: 60.0,
    memory_bytes: 4 << 30,
    result_bytes_max: 1 << 24,
};

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-evals-sandbox-helper").into();
    Pool::with_helper(helper, 2, LIMITS, Level::BestEffort).unwrap()
}

fn prepared(problems: Vec<Problem>, pool: &Pool) -> Vec<Grader> {
    let mut graders: Vec<Grader> = problems.into_iter().map(Grader::new).collect();
    prepare(&mut graders, Purpose::Reward, pool);
    graders
}

/// What comes of a program that ends so.
fn graded(grader: &Grader, completion: &str, pool: &Pool) -> Part {
    let program = format!("{}{completion}", grader.problem.prompt);
    grader.grade(&program, pool).unwrap().base
}

/// Grades the right programs of every `step`-th problem; says how tests are run, and the names of
/// those that fail.
fn check(name: &str, problems: Vec<Problem>, step: usize, pool: &Pool) -> Vec<String> {
    let problems: Vec<Problem> = problems
        .into_iter()
        .step_by(step)
        // There is nothing but the standard library in the sandbox.
        .filter(|problem| {
            let solution = &problem.canonical_solution;
            let needs_more = format!("{}{solution}", problem.prompt).contains("sortedcontainers");
            !solution.is_empty() && !needs_more
        })
        .collect();
    let graders = prepared(problems, pool);
    let n = |form| {
        graders
            .iter()
            .filter(|grader| grader.form() == form)
            .count()
    };
    println!(
        "{name}: {} problems; {} by values, {} by questions, {} by asserts elsewhere",
        graders.len(),
        n(Form::Values),
        n(Form::Questions),
        n(Form::Asserts)
    );
    let empty = |grader: &Grader| format!("{}        pass\n", grader.problem.prompt);
    let parts = |program: &(dyn Fn(&Grader) -> String + Sync)| -> Vec<Part> {
        let grade = |grader: &Grader| grader.grade(&program(grader), pool);
        let graded = grade_all(&graders, pool, grade, &mut |_| {});
        graded
            .into_iter()
            .map(|graded| graded.unwrap().base)
            .collect()
    };
    for (grader, part) in graders.iter().zip(parts(&empty)) {
        assert_ne!(part.kind, Kind::Passed, "{}", grader.problem.task_id);
    }
    let right = parts(&|grader| grader.problem.canonical());
    let failed = graders
        .iter()
        .zip(&right)
        .filter(|(_, part)| part.kind != Kind::Passed);
    let failed = failed.map(|(grader, part)| {
        let task_id = &grader.problem.task_id;
        println!("{task_id}: {} {:.200}", part.kind.name(), part.detail());
        task_id.clone()
    });
    failed.collect()
}

/// Records whose own solution fails: by the order of a set, for want of numpy, by a slip in the
/// starter code, for want of more than ten seconds, and by an answer of megabytes.
const FAULTY: &[&str] = &[
    "word-ladder-ii",
    "abbreviating-the-product-of-a-range",
    "count-nodes-equal-to-average-of-subtree",
    "maximum-number-of-moves-to-kill-all-pawns",
    "find-the-number-of-subsequences-with-equal-gcd",
    "puzzle/ExponentialCoinMoves:0",
];

fn all(step: usize) {
    let Some(folder) = benchmarks() else {
        return;
    };
    let pool = pool();
    for file in ["v0.2.0-train", "v0.2.0-test", "v0.3.1-test"] {
        let path = folder.join(format!("rlvr/LeetCodeDataset-{file}.jsonl.gz"));
        let failed = check(file, leetcode::read(&path).unwrap().0, step, &pool);
        assert!(
            failed.iter().all(|id| FAULTY.contains(&id.as_str())),
            "{failed:?}"
        );
    }
    let (problems, _, _) = mbpp_train::read(&folder.join("mbpp/mbpp.jsonl")).unwrap();
    assert_eq!(check("MBPP", problems, step, &pool), [""; 0]);
    let (problems, _) = puzzles::read(&folder.join("rlvr/ppp_puzzles.json")).unwrap();
    assert_eq!(problems.len(), 1715);
    let failed = check("puzzles", problems, step, &pool);
    assert!(
        failed.iter().all(|id| FAULTY.contains(&id.as_str())),
        "{failed:?}"
    );
}

#[test]
fn some_right_programs_pass_and_empty_ones_do_not() {
    all(41);
}

#[test]
#[ignore = "takes minutes"]
fn all_right_programs_pass_and_empty_ones_do_not() {
    all(1);
}

#[test]
fn nothing_that_mbpp_plus_tests_is_trained_on() {
    let Some(folder) = benchmarks() else { return };
    let (tasks, _) = mbpp::read(&folder.join("mbpp/mbpp.jsonl")).unwrap();
    let plus = folder.join("mbppplus/MbppPlus.jsonl.gz");
    let plus = evalplus::read(&plus, evalplus::Benchmark::Mbpp, Rules::Current).unwrap();
    let number = |task: &evalplus::Task| task.task_id["Mbpp/".len()..].parse::<u32>().unwrap();
    let of_plus: BTreeSet<u32> = plus.tasks.iter().map(number).collect();
    let late: Vec<u32> = of_plus
        .iter()
        .copied()
        .filter(|number| *number > 510)
        .collect();
    assert_eq!(late, mbpp_train::OF_MBPP_PLUS);
    let (kept, dropped) = mbpp_train::select(&tasks);
    assert_eq!(kept.len() + dropped.n_of_mbpp_plus + dropped.n_twins, 464);
    println!("{} kept, {dropped:?}", kept.len());
    assert!(dropped.n_twins > 0 && kept.len() > 200);
    let dense = |text: &str| text.to_lowercase().split_whitespace().collect::<String>();
    let tested = || {
        let is_tested =
            |task: &&mbpp::Task| task.is_of_test_split() || of_plus.contains(&task.number);
        tasks.iter().filter(is_tested)
    };
    for task in kept {
        assert!(!of_plus.contains(&task.number) && task.number > 510);
        for other in tested() {
            assert_ne!(dense(&task.text), dense(&other.text), "{}", task.number);
            assert_ne!(dense(&task.code), dense(&other.code), "{}", task.number);
            for assert in &task.tests {
                let shares = other
                    .tests
                    .iter()
                    .any(|other| dense(other) == dense(assert));
                assert!(!shares, "{} and {}: {assert}", task.number, other.number);
            }
        }
        // MBPP+ words some tasks anew.
        for other in &plus.tasks {
            assert!(
                !dense(&other.prompt).contains(&dense(&task.text)),
                "{}",
                task.number
            );
        }
    }
}

fn asserts(test_cases: &[&str]) -> Problem {
    let record = serde_json::json!({"question": "Do it.", "test_cases": test_cases, "id": "x"});
    let folder = std::env::temp_dir().join(format!("ra3-asserts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let sum = test_cases.concat().bytes().map(u64::from).sum::<u64>();
    let path = folder.join(format!("{sum}.jsonl"));
    std::fs::write(&path, record.to_string()).unwrap();
    assert_lists::read(&path).unwrap().0.remove(0)
}

/// An assert, how it is run, a right program, and one that cheats.
const ASSERTS: &[(&str, Form, &str, &str)] = &[
    (
        "assert f(2) == 4",
        Form::Values,
        "def f(n): return 2 * n",
        "class E:\n def __eq__(self, other): return True\ndef f(n): return E()",
    ),
    (
        "assert f(n=2) == [4]",
        Form::Questions,
        "def f(n): return [2 * n]",
        "class E(list):\n def __eq__(self, other): return True\ndef f(n): return E()",
    ),
    (
        "assert set(f(2)) == {4, 5}",
        Form::Questions,
        "def f(n): return [5, 4, 4]",
        "import builtins\nclass E:\n def __eq__(self, other): return True\n\
         builtins.set = lambda x: E()\ndef f(n): return [1]",
    ),
    (
        "assert math.isclose(f(2), 0.333, rel_tol=0.01)",
        Form::Questions,
        "def f(n): return 1 / 3",
        "import math\nmath.isclose = lambda *a, **k: True\ndef f(n): return 5",
    ),
    (
        "assert abs(f(2) - 0.333) < 0.01",
        Form::Questions,
        "def f(n): return 1 / 3",
        "import builtins\nbuiltins.abs = lambda x: -1\ndef f(n): return 5.0",
    ),
    (
        "assert f(2) is True",
        Form::Questions,
        "def f(n): return n == 2",
        "def f(n): return 1",
    ),
    (
        "assert f(2) in [4, 5]",
        Form::Questions,
        "def f(n): return 5",
        "class E:\n def __eq__(self, other): return True\ndef f(n): return E()",
    ),
    (
        "assert not f(2)",
        Form::Questions,
        "def f(n): return []",
        "def f(n): return [0]",
    ),
    // What the program's objects would decide, or what would say what is expected.
    (
        "assert f(2) + 1 == 5",
        Form::Asserts,
        "def f(n): return 4",
        "class E:\n def __add__(self, other): return 5\ndef f(n): return E()",
    ),
    (
        "assert f(2)[0] == 4 and f(3)",
        Form::Asserts,
        "def f(n): return [4]",
        "import sys\ndef f(n): sys.exit(0)",
    ),
    (
        "assert f(2) != 3",
        Form::Asserts,
        "def f(n): return 4",
        "import os\ndef f(n): os._exit(0)",
    ),
];

#[test]
fn asserts_are_asked_and_not_shown() {
    let pool = pool();
    let problems: Vec<Problem> = ASSERTS
        .iter()
        .map(|(assert, ..)| asserts(&[*assert]))
        .collect();
    let graders = prepared(problems, &pool);
    for (grader, (assert, form, right, cheat)) in graders.iter().zip(ASSERTS) {
        assert_eq!(grader.form(), *form, "{assert}");
        let kind = |program: &str| graded(grader, program, &pool).kind;
        assert_eq!(kind(right), Kind::Passed, "{assert}");
        assert_ne!(kind(cheat), Kind::Passed, "{assert}: {cheat}");
    }
}

#[test]
fn a_share_of_the_asserts_is_counted() {
    let pool = pool();
    let problem = asserts(&[
        "assert f(1) == 1",
        "assert f(2) == 2",
        "assert f(3) == 9",
        "assert f(4) == 16",
    ]);
    let grader = prepared(vec![problem], &pool).remove(0);
    let share = |program: &str| graded(&grader, program, &pool).share();
    assert_eq!(share("def f(n): return n * n"), 0.75);
    assert_eq!(share("def f(n): return 1 // (n - 2)"), 0.0);
    assert_eq!(share("def f(n): return 1"), 0.25);
}

#[test]
fn a_puzzle_is_judged_elsewhere() {
    let pool = pool();
    let record = serde_json::json!([{
        "name": "P:0", "ans_type": "List[int]", "sol_header": "def sol(n=3):", "sol_bodies": [],
        "sat": "def sat(x: List[int], n=3):\n    return len(x) == n and sum(x) == n",
        "sol_docstring": "    \"\"\"Numbers.\"\"\"",
    }]);
    let path = std::env::temp_dir().join(format!("ra3-puzzle-{}.json", std::process::id()));
    std::fs::write(&path, record.to_string()).unwrap();
    let problem = puzzles::read(&path).unwrap().0.remove(0);
    assert!(
        problem
            .prompt
            .ends_with("def sol(n=3):\n    \"\"\"Numbers.\"\"\"\n")
    );
    let grader = prepared(vec![problem], &pool).remove(0);
    assert_eq!(grader.form(), Form::Asserts);
    let passes = |body: &str| graded(&grader, body, &pool).kind == Kind::Passed;
    assert!(passes("    return [1] * n\n"));
    assert!(!passes("    return [2] * n\n"));
    assert!(!passes("    return (1, 1, 1)\n"));
    assert!(!passes("    return [True, True, True]\n"));
    assert!(!passes(
        "    global sat\n    sat = lambda *a: True\n    return [0]\n"
    ));
    assert!(!passes("    import os\n    os._exit(0)\n"));
}

#[test]
fn what_needs_a_package_is_left_out_and_a_class_is_a_completion() {
    let pool = pool();
    let record = |id: &str, import: &str| {
        serde_json::json!({
            "task_id": id,
            "prompt": format!("from typing import List\n{import}\n"),
            "query": "Add one.\n```python\nclass Solution:\n    def add(self, n: int):\n```",
            "completion": "class Solution:\n    def add(self, n):\n        return n + 1",
            "entry_point": "Solution().add",
            "test": "def check(candidate):\n    assert candidate(n = 1) == 2\n",
        })
        .to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leetcode.jsonl");
    let lines = [record("add", ""), record("sorted", "import absent_package")];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let bench = bench::load(
        Name::LeetCode,
        Rules::Current,
        &path,
        &pool,
        None,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(bench.task_ids().collect::<Vec<_>>(), ["add"]);
    assert_eq!(
        bench.version,
        "LeetCodeDataset, 1 problems, 1 left out (ModuleNotFoundError: No module named \
         'absent_package')"
    );
    let task = bench.task("add").unwrap();
    let class = "class Solution:\n    def add(self, n: List) -> int:\n        return n + 1";
    for program in [
        Text::Completion(class.to_owned()),
        Text::Solution(program(task, &prompt::Form::Chat, class)),
        Text::Solution(program(
            task,
            &prompt::Form::ZERO_SHOT,
            "        return n + 1",
        )),
    ] {
        let sample = Sample {
            task_id: "add".to_owned(),
            text: program,
            place: String::new(),
        };
        let program = sample.program(task.preamble());
        let verdict = task.grade(&program, &pool).unwrap();
        assert_eq!(verdict.base.status, Status::Pass, "{program}: {verdict:?}");
    }
}

#[test]
fn tasks_of_both_kinds_earn_their_rewards() {
    let pool = pool();
    let function = Problem {
        task_id: "f".to_owned(),
        prompt: "def larger(a, b):\n".to_owned(),
        entry_point: "larger".to_owned(),
        test: "def check(candidate):\n    assert candidate(1, 2) == 2\n    \
               assert candidate(7, 3) == 7\n"
            .to_owned(),
        family: "families".to_owned(),
        ..Problem::default()
    };
    let test = |(input, output): (&str, &str)| Test {
        input: input.to_owned(),
        output: output.to_owned(),
    };
    let tests = [("1 2", "2"), ("7 3", "7"), ("-1 -5", "-1")].map(test);
    let larger = contest::task::Task::new(None, "Larger.".to_owned(), tests.to_vec());
    let without_tests = contest::task::Task::new(None, "Nothing.".to_owned(), Vec::new());
    let mut tasks = Task::contests(vec![larger, without_tests]);
    tasks.extend(Task::functions(vec![function]));
    assert_eq!(tasks.len(), 2);
    assert!(
        prompt::zero_shot(&tasks[0]).starts_with("\"\"\"\nLarger.\n\nWrite a Python 3 program")
    );
    assert_eq!((tasks[0].family(), tasks[1].family()), ("", "families"));
    Task::prepare(&mut tasks, Purpose::Reward, &pool);
    for (task, text, pass, share, weighted) in [
        (0, "print(max(map(int, input().split())))\n", 1.0, 1.0, 1.1),
        (0, "print(input().split()[0])\n", 0.0, 2.0 / 3.0, 0.2 / 3.0),
        (0, "print(\n", -0.1, -0.1, -0.1),
        (0, "", -1.0, -1.0, -1.0),
        (1, "    return max(a, b)\n", 1.0, 1.0, 1.1),
        (1, "    return b\n", 0.0, 0.5, 0.05),
        (1, "    return (\n", 0.0, 0.0, 0.0),
    ] {
        for (scheme, wanted) in [
            (Scheme::Pass, pass),
            (Scheme::Share, share),
            (Scheme::Weighted, weighted),
        ] {
            let task = &tasks[task];
            let program = program(task, &prompt::Form::ZERO_SHOT, text);
            let part = task.grade_for(scheme, &program, &pool).unwrap().base;
            let reward = task.reward(scheme, &program, &part);
            assert!((reward - wanted).abs() < 1e-12, "{text}: {part:?}");
            assert_eq!(part.kind == Kind::Passed, pass > 0.5, "{text}");
        }
    }
}
