//! Checkers decide, are out of a program's reach, and are the data's fault where they are broken.

use super::*;

#[test]
fn checkers_decide_and_are_not_reached() {
    let pool = pool();
    // Any two numbers of that sum are right.
    let checker = "import sys\n\
        total = int(open(sys.argv[1]).read())\n\
        open(sys.argv[2]).read()\n\
        a, b = map(int, open(sys.argv[3]).read().split())\n\
        print(1 if a + b == total else 0)\n";
    let test = Test {
        input: "10\n".to_owned(),
        output: "4 6\n".to_owned(),
    };
    let task = Task {
        checker: Some(checker.to_owned()),
        ..Task::new(None, "Two numbers.".to_owned(), vec![test])
    };
    for (program, status) in [
        ("print(4, 6)", Status::Pass),
        ("print(int(input()) - 1, 1)", Status::Pass),
        ("print(3, 3)", Status::Fail),
        ("print('x')", Status::Fail),
        ("", Status::Fail),
        ("print(1)\nprint(1)\nprint(1)", Status::Fail),
        (
            "open('solution_output.txt', 'w').write('5 5')",
            Status::Fail,
        ),
    ] {
        let part = task.grade(program, &pool).unwrap().base;
        assert_eq!(part.status, status, "{program}: {part:?}");
    }
}

#[test]
fn a_checker_that_gives_no_number_says_nothing_of_a_program() {
    let pool = pool();
    let test = |output: &str| Test {
        input: "1\n".to_owned(),
        output: output.to_owned(),
    };
    let grade = |checker: &str, output: &str, program: &str| {
        let task = Task {
            checker: Some(checker.to_owned()),
            ..Task::new(None, "Say it.".to_owned(), vec![test(output)])
        };
        task.grade(program, &pool)
    };
    // Numbers for what can be read, and an exception for what cannot.
    let reads = "import sys\nprint(int(int(open(sys.argv[3]).read()) == 5))\n";
    for (checker, output, program, is_broken) in [
        (reads, "5\n", "print(5)", false),
        (reads, "5\n", "print(6)", false),
        (reads, "5\n", "print('five')", false),
        // Without an expected output, it can be judged by nothing.
        (reads, "", "print('five')", false),
        ("def broken(:\n", "", "print(5)", true),
        (reads, "five\n", "print('six')", true),
        ("print('wrong')", "5\n", "print(5)", true),
        ("print('wrong')", "5\n", "print(6)", true),
        ("print('nan')", "5\n", "print(6)", true),
        ("", "5\n", "print(6)", true),
        ("print(1); raise SystemExit(3)", "5\n", "print(5)", true),
    ] {
        match grade(checker, output, program) {
            Ok(verdict) => {
                assert!(!is_broken, "{checker} {program}");
                assert_eq!(verdict.is_passed(), program == "print(5)", "{program}");
            }
            Err(Fault::Checker(reason)) => assert!(is_broken, "{checker} {program}: {reason}"),
            Err(fault) => panic!("{fault}"),
        }
    }
}

#[test]
fn a_checker_that_is_no_program_is_a_fault_of_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problems.jsonl");
    let checkers = [
        (
            "1/A",
            "import sys\nprint(1 if open(sys.argv[3]).read().strip() == '5' else 0)\n",
        ),
        ("2/A", "def broken(:\n"),
        ("3/A", "if True:\nprint(1)\n"),
        ("4/A", "print('ok')\n"),
        ("5/A", "raise ValueError\n"),
    ];
    let lines = checkers.map(|(id, checker)| {
        let record = serde_json::json!({
            "id": id, "title": id, "description": "x", "input_mode": "stdio", "time_limit": 1.0,
            "memory_limit": 256.0, "official_tests": [{"input": "5\n", "output": "5\n"}],
            "official_tests_complete": true, "generated_checker": checker,
        });
        format!("{record}\n")
    });
    std::fs::write(&path, lines.concat()).unwrap();
    let (name, rules) = (Name::Contest(Selection::All), Rules::Current);
    let bench = load(name, rules, &path, &pool(), None, &mut |_| {}).unwrap();
    let ids: Vec<&str> = bench.task_ids().collect();
    assert_eq!(ids, ["1/A"]);
    let said = "their checkers are broken: 2/A, 3/A, 4/A, 5/A";
    assert!(bench.version.contains(said), "{}", bench.version);
    for (program, status) in [("print(5)", Status::Pass), ("print(6)", Status::Fail)] {
        let verdict = bench.task("1/A").unwrap().grade(program, &pool()).unwrap();
        assert_eq!(verdict.base.status, status);
    }
}

#[test]
fn a_checker_that_breaks_later_says_so_for_rewards_too() {
    let pool = pool();
    let test = |output: &str| Test {
        input: "1\n".to_owned(),
        output: output.to_owned(),
    };
    // It judges the first test, and gives no number where five is expected.
    let checker = "import sys\nif 'five' not in open(sys.argv[2]).read():\n    print(1)\n";
    let task = Task {
        checker: Some(checker.to_owned()),
        ..Task::new(None, "Say it.".to_owned(), vec![test("1"), test("five")])
    };
    let broken = |graded: Graded| matches!(graded, Err(Fault::Checker(_)));
    assert!(broken(task.grade("print(1)", &pool)));
    for scheme in [Scheme::Pass, Scheme::Share, Scheme::Weighted] {
        assert!(
            broken(task.grade_for(scheme, "print(1)", &pool)),
            "{scheme:?}"
        );
        // A program that comes to no output is not asked about.
        assert!(task.grade_for(scheme, "1 / 0", &pool).is_ok(), "{scheme:?}");
    }
    // Graded again alone, it is as broken, and is not asked again.
    let n_asked = std::sync::atomic::AtomicUsize::new(0);
    let grade = |program: &&str| {
        n_asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        task.grade(program, &pool)
    };
    let all = grade_all(&["print(1)", "1 / 0"], &pool, grade, &mut |_| {});
    assert!(broken(all[0].clone()) && all[1].is_ok());
    assert_eq!(n_asked.into_inner(), 2);
}
