//! What a stopped machine and a forged value cost: nothing, and no more than a driver's own.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::ops::ControlFlow;

use ra3_sandbox::value::Value;
use ra3_sandbox::{
    Arguments, CallResult, CallRule, Clock, End, Level, Limits, Pool, Program, Response,
};

const LIMITS: Limits = Limits {
    cpu_s: 20,
    wall_s: 60.0,
    memory_bytes: 2 << 30,
    result_bytes_max: 1 << 20,
};

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-sandbox-helper").into();
    Pool::with_helper(helper, 2, LIMITS, Level::BestEffort).unwrap()
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

#[test]
fn a_process_that_is_stopped_and_goes_on_loses_nothing() {
    let pool = pool();
    let stops = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
         for j in 1 2 3; do kill -STOP {0}; kill -CONT {0}; done; sleep 0.02; done",
        std::process::id()
    );
    let mut stopper = std::process::Command::new("sh")
        .args(["-c", &stops])
        .spawn()
        .unwrap();
    let one = Program {
        inputs: vec![Arguments::of(&[])],
        ..program("import time\ndef f():\n    time.sleep(0.01)\n    return 1\n")
    };
    let programs = vec![one; 8];
    let expected = [CallResult::Value(Value::Int("1".to_owned()))];
    loop {
        for result in pool.run_all(&programs, &mut |_| {}) {
            assert_eq!(result.end, End::Finished);
            assert_eq!(result.calls, expected);
        }
        if let Some(status) = stopper.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
    }
}

#[test]
fn no_value_beyond_its_bound_is_read() {
    let limits = Limits {
        result_bytes_max: 1 << 28,
        ..LIMITS
    };
    let rule = CallRule {
        items_max: Some(1 << 24),
        ..CallRule::default()
    };
    let run = |source: &str| {
        let program = Program {
            inputs: vec![Arguments::of(&[])],
            ..program(source)
        };
        let mut calls = Vec::new();
        let mut on_response = |response: Response<'_>| {
            calls.push(response.into_result());
            ControlFlow::Continue(())
        };
        let end = pool()
            .run_each(&program, &rule, limits, &mut on_response)
            .end;
        (calls, end)
    };
    // The driver's own word: what is too long goes as a digest.
    for value in ["'a' * (9 << 20)", "[None] * 700000", "[10 ** 40000] * 250"] {
        let (calls, end) = run(&format!("def f():\n    return {value}\n"));
        assert_eq!(end, End::Finished, "{value}");
        let is_digest = matches!(&calls[..], [CallResult::Value(Value::Digest(_))]);
        assert!(is_digest, "{value}");
    }
    let (calls, end) = run("def f():\n    return 'a' * (7 << 20)\n");
    assert_eq!(end, End::Finished);
    assert!(matches!(&calls[..], [CallResult::Value(Value::Str(text))] if text.len() == 7 << 20));
    // A forged one, whose length alone is enough.
    for n_items in [700_000, 5_500_000] {
        let (calls, end) = run(&format!(
            "import os, sys\ndef f():\n    frame = sys._getframe()\n    \
             while 'outgoing' not in frame.f_globals: frame = frame.f_back\n    \
             one = b'{{\"t\":\"none\"}},' * {n_items}\n    \
             text = b'{{\"t\":\"list\",\"v\":[' + one[:-1] + b']}}'\n    \
             data = len(text).to_bytes(4, 'little') + b'v' + text\n    \
             while data: data = data[os.write(frame.f_globals['outgoing'], data):]\n"
        ));
        assert_eq!((calls.len(), end), (0, End::OutputLimit), "{n_items}");
    }
}

#[test]
fn a_sleeper_is_told_from_a_victim_of_the_machine() {
    let limits = Limits {
        cpu_s: 20,
        wall_s: 1.0,
        ..LIMITS
    };
    let end = |body: &str| {
        let program = Program {
            inputs: vec![Arguments::of(&[])],
            ..program(&format!("import time\ndef f():\n    {body}\n"))
        };
        pool().run_with(&program, limits).end
    };
    assert_eq!(end("time.sleep(30)"), End::TimedOut(Clock::Idle));
    // On a machine with nothing else to do, its own time.
    let spins = end("while True: pass");
    assert!(
        matches!(spins, End::TimedOut(Clock::Cpu | Clock::Wall)),
        "{spins:?}"
    );
    // Half asleep: a busy machine looks like that.
    let half = "while True:\n        began = time.process_time()\n        while \
                time.process_time() < began + 0.02: pass\n        time.sleep(0.02)";
    assert_eq!(end(half), End::TimedOut(Clock::Wall));
}
