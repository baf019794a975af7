//! What honest programs get: values that survive the way in and out, places of errors, asserts,
//! limits, and a report of what confines them.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::ops::ControlFlow;
use std::path::PathBuf;

use ra3_sandbox::value::Value;
use ra3_sandbox::{
    Arguments, CallResult, CallRule, Check, Clock, End, Level, Limits, Pool, Program, Response,
    SandboxError,
};

const LIMITS: Limits = Limits {
    cpu_s: 5,
    wall_s: 20.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

fn helper() -> PathBuf {
    env!("CARGO_BIN_EXE_ra3-sandbox-helper").into()
}

fn pool() -> Pool {
    Pool::with_helper(helper(), 2, LIMITS, Level::BestEffort).unwrap()
}

/// Loads a program whose function is `f`.
fn program(source: &str) -> Program {
    Program {
        source: source.to_owned(),
        entry_point: "f".to_owned(),
        inputs: Vec::new(),
        check: None,
    }
}

/// Calls `f` with argument tuples that are Python expressions.
fn calls(source: &str, inputs: &[&str]) -> Program {
    let text = |input: &&str| Arguments::of(&[Value::Str((*input).to_owned())]);
    Program {
        entry_point: "call".to_owned(),
        inputs: inputs.iter().map(text).collect(),
        ..program(&format!(
            "{source}\ndef call(text):\n    return f(*eval(text, {{}}))\n"
        ))
    }
}

fn check(source: &str, prelude: &str, test: &str) -> End {
    let program = Program {
        check: Some(Check {
            prelude: prelude.to_owned(),
            test: format!("def check(candidate):\n    {test}\n"),
        }),
        ..program(source)
    };
    pool().run(&program).end
}

/// Python literals of every kind that is sent.
const LITERALS: &[&str] = &[
    "None",
    "True",
    "-12345678901234567890123456789012345678901234567890",
    "5e-324",
    "-0.0",
    "1e999",
    "complex(1.5, -2)",
    r#""q\"\\ \x00\x1f\x7f\u2028é😀""#,
    r"'\ud800 and \udc80'",
    r"'\\ud800'",
    r"b'\x00\xff'",
    "()",
    "(1,)",
    "[[], {}, set()]",
    "{'a': (1, 2.5), (3, None): [b'']}",
    "{1, 'b', (2,)}",
    "frozenset([1])",
    "'\\n' * 3",
];

#[test]
fn values_survive_the_way_in_and_out() {
    let inputs: Vec<String> = LITERALS.iter().map(|text| format!("({text},)")).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let result = pool().run(&calls("def f(x):\n    return x\n", &inputs));
    assert_eq!(result.end, End::Finished);
    assert_eq!(result.calls.len(), LITERALS.len());
    for (literal, call) in LITERALS.iter().zip(&result.calls) {
        let CallResult::Value(value) = call else {
            panic!("{literal}: {call:?}")
        };
        assert!(value.equals(value) && !value.has_opaque(), "{literal}");
        // So it is on its way back in, in either form.
        let echo = Program {
            inputs: vec![Arguments::of(std::slice::from_ref(value))],
            ..program("def f(x):\n    return x\n")
        };
        let echoed = pool().run(&echo).calls;
        assert_eq!(echoed, std::slice::from_ref(call), "{literal}");
        let source = format!("def f(x):\n    return repr(x) == repr({literal})\n");
        let input = format!(
            "({},)",
            value.to_python().replace("set([1])", "frozenset([1])")
        );
        let again = pool().run(&calls(&source, &[&input]));
        assert_eq!(
            again.calls,
            [CallResult::Value(Value::Bool(true))],
            "{literal}"
        );
    }
    // All are different values.
    for (i, a) in result.calls.iter().enumerate() {
        for b in &result.calls[..i] {
            assert_ne!(a, b);
        }
    }
}

#[test]
fn large_values_are_opaque_and_deep_ones_still_arrive() {
    let source =
        "def f(n):\n    x = 1\n    for _ in range(n):\n        x = {0: [x]}\n    return x\n";
    let result = pool().run(&calls(source, &["(20,)", "(21,)"]));
    let values: Vec<bool> = result
        .calls
        .iter()
        .map(|call| matches!(call, CallResult::Value(value) if !value.has_opaque()))
        .collect();
    assert_eq!(values, [true, false], "{result:?}");
    let long = format!("({:?}, {})", "a".repeat(300_000), "[0] * 10");
    let result = pool().run(&calls(
        "def f(a, b):\n    return len(a) + len(b)\n",
        &[&long],
    ));
    assert_eq!(
        result.calls,
        [CallResult::Value(Value::Int("300010".into()))]
    );
}

#[test]
fn errors_name_their_line() {
    let raised = |error: &str, message: &str, line| CallResult::Raised {
        error: error.to_owned(),
        message: message.to_owned(),
        line,
    };
    let int = |value: i64| Value::Int(value.to_string());
    let inputs = [&[int(0)][..], &[int(1)], &[]];
    let result = pool().run(&Program {
        inputs: inputs.map(Arguments::of).to_vec(),
        ..program("def g(x):\n    return 1 // x\n\ndef f(x):\n    return g(x)\n")
    });
    assert_eq!(
        result.calls[0],
        raised(
            "ZeroDivisionError",
            "integer division or modulo by zero",
            Some(2)
        )
    );
    assert_eq!(result.calls[1], CallResult::Value(Value::Int("1".into())));
    let CallResult::Raised {
        error, line: None, ..
    } = &result.calls[2]
    else {
        panic!("{:?}", result.calls[2])
    };
    assert_eq!(error, "TypeError");
    let loaded = pool().run(&program("x = 1\ny = z\n"));
    let End::LoadError { error, line, .. } = loaded.end else {
        panic!("{loaded:?}")
    };
    assert_eq!((error.as_str(), line), ("NameError", Some(2)));
    let loaded = pool().run(&program("x = 1\ndef f(:\n")).end;
    assert!(
        matches!(&loaded, End::LoadError { error, line: Some(2), .. } if error == "SyntaxError")
    );
    let loaded = pool().run(&program("x = 1\n")).end;
    assert!(matches!(&loaded, End::LoadError { error, .. } if error == "KeyError"));
}

#[test]
fn asserts_see_values_and_not_objects() {
    let one = "def f(x):\n    return 1\n";
    assert_eq!(check(one, "", "assert candidate(0) == 1"), End::Finished);
    assert_eq!(
        check(one, "", "assert abs(candidate(0) - 1.1) < 0.2"),
        End::Finished
    );
    assert_eq!(
        check(one, "def g(): return 1", "assert candidate(g()) == g()"),
        End::Finished
    );
    assert_eq!(check(one, "", "assert f(0) == 1"), End::Finished);
    let End::CheckFailed { reason } = check(one, "", "assert candidate(0) == 2") else {
        panic!("1 is not 2")
    };
    assert_eq!(reason, "AssertionError:  at assert candidate(0) == 2");
    let cheat = "class C:\n    def __eq__(self, other):\n        return True\n\
                 def f(x):\n    return C()\n";
    let failed = check(cheat, "", "assert candidate(0) == 2");
    assert!(matches!(failed, End::CheckFailed { .. }), "{failed:?}");
    // An exception arrives as one.
    let raising = "def f(x):\n    raise ValueError('no')\n";
    let test = "try:\n        candidate(0)\n    except ValueError as error:\n        \
                assert str(error) == 'no'\n    else:\n        assert False";
    assert_eq!(check(raising, "", test), End::Finished);
    // Nor does the end of an iteration end a test's own.
    let ending = "def f(x):\n    raise StopIteration\n";
    let test = "assert all(candidate(x) == 4 for x in [1])\n    \
                for y in map(candidate, [1, 2]):\n        assert y == 4";
    let failed = check(ending, "", test);
    assert!(matches!(failed, End::CheckFailed { .. }), "{failed:?}");
    // A value that cannot be passed on is the program's own fault.
    let large = "def f(x):\n    return [0] * 2000000\n";
    let failed = check(large, "", "assert candidate(candidate(1)) == 4");
    assert!(matches!(failed, End::CheckFailed { .. }), "{failed:?}");
    // What a test cannot do from another process is its fault, not the program's.
    let unfit = check(one, "", "assert candidate(lambda: 1)");
    assert!(matches!(unfit, End::Infrastructure { .. }), "{unfit:?}");
    assert_eq!(check(one, "", "assert candidate(x=0) == 1"), End::Finished);
    assert!(matches!(
        check(one, "import nothing", "pass"),
        End::Infrastructure { .. }
    ));
}

#[test]
fn the_clocks_and_the_memory_are_told_apart() {
    let limits = Limits {
        cpu_s: 1,
        wall_s: 2.5,
        ..LIMITS
    };
    let pool = Pool::with_helper(helper(), 1, limits, Level::BestEffort).unwrap();
    let end = |source: &str| pool.run(&program(source)).end;
    assert_eq!(end("while True: pass"), End::TimedOut(Clock::Cpu));
    assert_eq!(
        end("import time; time.sleep(60)"),
        End::TimedOut(Clock::Idle)
    );
    let full = end("x = bytearray(10 ** 10)");
    assert!(
        matches!(&full, End::LoadError { error, .. } if error == "MemoryError"),
        "{full:?}"
    );
}

#[test]
fn confinement_is_reported_and_required() {
    let pool = pool();
    assert!(pool.confinement.contains(&"limits".to_owned()));
    let strict = Pool::with_helper(helper(), 1, LIMITS, Level::Require);
    let holds = |name: &str| pool.confinement.iter().any(|held| held == name);
    assert_eq!(
        strict.is_ok(),
        holds("seccomp") && holds("landlock"),
        "{:?}",
        pool.confinement
    );
    if rustix::process::geteuid().is_root() {
        assert!(holds("no_capabilities"), "{:?}", pool.confinement);
        let can_enter = std::process::Command::new("unshare")
            .args(["--net", "--ipc", "--uts", "true"])
            .status();
        if can_enter.is_ok_and(|status| status.success()) {
            assert!(holds("namespaces"), "{:?}", pool.confinement);
        }
    }
    let off = Pool::with_helper(helper(), 1, LIMITS, Level::Off).unwrap();
    assert_eq!(off.confinement, ["limits"]);
}

#[test]
fn a_helper_that_is_none_is_said_to_be_so() {
    for helper in ["/bin/true", "/bin/cat", "/nowhere"] {
        let error = Pool::with_helper(helper.into(), 1, LIMITS, Level::BestEffort).unwrap_err();
        assert!(
            matches!(error, SandboxError::Trial(..)),
            "{helper}: {error}"
        );
    }
}

#[test]
fn large_values_are_equal_by_their_digests() {
    let pairs = [
        (
            "list(range(10**5))",
            "[float(i) for i in range(10**5)]",
            true,
        ),
        ("list(range(10**5))", "[*range(10**5 - 1), 0]", false),
        ("list(range(10**5))", "tuple(range(10**5))", false),
        (
            "[(i, 'a') for i in range(10**5)]",
            "[(i + 0.0, 'a') for i in range(10**5)]",
            true,
        ),
        ("1 << 20000", "(1 << 20000) + 0", true),
        ("1 << 20000", "(1 << 20000) + 1", false),
        ("'a' * 10**6", "'a' * 10**6", true),
        (
            "{i: None for i in range(10**5)}",
            "{i: None for i in range(10**5)[::-1]}",
            true,
        ),
        ("[float('nan')] * 10**5", "[float('nan')] * 10**5", false),
        ("[object] * 10**5", "[object] * 10**5", false),
        ("set(range(10**5))", "frozenset(range(10**5))", true),
    ];
    let source = "def f(text):\n    return eval(text)\n";
    for (a, b, is_equal) in pairs {
        let inputs = [a, b].map(|text| format!("({text:?},)"));
        let result = pool().run(&calls(source, &[&inputs[0], &inputs[1]]));
        let [CallResult::Value(left), CallResult::Value(right)] = result.calls.as_slice() else {
            panic!("{result:?}");
        };
        assert_eq!(
            left.equals(right),
            is_equal,
            "{a} and {b}: {left:?}, {right:?}"
        );
    }
}

#[test]
fn a_value_of_a_derived_class_is_compared_as_its_base() {
    let source = "import collections, enum\n\
        class Honest(list):\n    pass\n\
        class Cheat(int):\n    def __eq__(self, other):\n        return True\n\
        class Sly(int):\n    def __int__(self):\n        return 5\n\
        class Color(enum.IntEnum):\n    RED = 3\n\
        Pair = collections.namedtuple('Pair', 'a b')\n\
        def f(text):\n    return eval(text)\n";
    let cases = [
        (
            "collections.Counter('aab')",
            "Counter({\"a\": 2, \"b\": 1})",
        ),
        ("collections.OrderedDict(a=1)", "OrderedDict({\"a\": 1})"),
        (
            "collections.defaultdict(int, a=1)",
            "defaultdict({\"a\": 1})",
        ),
        ("[Honest([1])]", "[Honest([1])]"),
        ("Pair(1, 2)", "Pair((1, 2))"),
        ("Color.RED", "Color(3)"),
        ("Cheat(1)", "<Cheat>"),
        ("Sly(1)", "Sly(1)"),
    ];
    for (text, shown) in cases {
        let result = pool().run(&calls(source, &[&format!("({text:?},)")]));
        let [CallResult::Value(value)] = result.calls.as_slice() else {
            panic!("{result:?}");
        };
        assert_eq!(value.display(100), shown, "{text}");
    }
}

#[test]
fn a_call_is_interrupted_and_the_next_one_is_made() {
    let source = "def f(x):\n    while x:\n        pass\n    return [x]\n";
    let program = calls(source, &["(1,)", "(0,)", "(0,)"]);
    let rule = CallRule {
        call_s: vec![0.2],
        convert: Some("lambda value: len(value)".to_owned()),
        ..CallRule::default()
    };
    let mut calls = Vec::new();
    let mut on_response = |response: Response<'_>| {
        calls.push(response.into_result());
        if calls.len() < 2 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let result = pool().run_each(&program, &rule, LIMITS, &mut on_response);
    assert_eq!(result.end, End::Finished);
    let [CallResult::Raised { error, .. }, CallResult::Value(value)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!(
        (error.as_str(), value.display(9).as_str()),
        ("TimeoutException", "1")
    );
}

#[test]
fn nothing_of_a_program_is_left_for_the_next() {
    let pool = Pool::with_helper(helper(), 1, LIMITS, Level::BestEffort).unwrap();
    let leaving = "import builtins, json, os, sys, typing\n\
        builtins.left = sys.left = json.left = typing.left = 1\n\
        os.environ['LEFT'] = '1'\nsys.path.insert(0, '/left')\nsys.setrecursionlimit(77)\n\
        def f():\n    return sys.getrecursionlimit()\n";
    let looking = "import builtins, json, os, sys, typing\n\
        def f():\n    \
            places = builtins, sys, json, typing\n    \
            return [hasattr(place, 'left') for place in places] + \
                ['LEFT' in os.environ, '/left' in sys.path, sys.getrecursionlimit() == 77]\n";
    let call = |source: &str| {
        pool.run(&Program {
            inputs: vec![Arguments::of(&[])],
            ..program(source)
        })
        .calls
    };
    for _ in 0..3 {
        let seven = CallResult::Value(Value::Int("77".to_owned()));
        assert_eq!(call(leaving), [seven]);
        let nothing = Value::List(vec![Value::Bool(false); 7]);
        assert_eq!(call(looking), [CallResult::Value(nothing)]);
    }
}

#[test]
fn a_zygote_that_is_gone_is_replaced() {
    let pool = Pool::with_helper(helper(), 1, LIMITS, Level::BestEffort).unwrap();
    let one = Program {
        inputs: vec![Arguments::of(&[])],
        ..program("import os\ndef f():\n    return os.getppid()\n")
    };
    let zygote = |calls: &[CallResult]| match calls {
        [CallResult::Value(Value::Int(digits))] => digits.parse::<i32>().unwrap(),
        other => panic!("{other:?}"),
    };
    let first = zygote(&pool.run(&one).calls);
    assert_eq!(zygote(&pool.run(&one).calls), first);
    let pid = rustix::process::Pid::from_raw(first).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let second = zygote(&pool.run(&one).calls);
    assert_ne!(second, first);
}
