//! Whole programs with standard streams: what they read and write, how they end, what they may
//! touch.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3_sandbox::{Clock, Level, Limits, Pool, Script, ScriptEnd, ScriptResult};

const LIMITS: Limits = Limits {
    cpu_s: 2,
    wall_s: 10.0,
    memory_bytes: 1 << 28,
    result_bytes_max: 1 << 16,
};

fn pool() -> Pool {
    let helper = env!("CARGO_BIN_EXE_ra3-sandbox-helper").into();
    Pool::with_helper(helper, 2, LIMITS, Level::BestEffort).unwrap()
}

fn run(source: &str, stdin: &str) -> ScriptResult {
    let script = Script {
        source: source.to_owned(),
        stdin: stdin.to_owned(),
        ..Script::default()
    };
    pool().run_script(&script, LIMITS)
}

fn text(result: &ScriptResult) -> &str {
    std::str::from_utf8(&result.stdout).unwrap()
}

#[test]
fn every_way_to_read_the_input_reads_it() {
    for source in [
        "print(input() + '|' + input())",
        "import sys\nprint('|'.join(line.strip() for line in sys.stdin))",
        "import sys\nprint('|'.join(sys.stdin.read().split()))",
        "import sys\nread = sys.stdin.buffer.readline\n\
         print(read().decode().strip() + '|' + read().decode().strip())",
        "import sys\nprint('|'.join(sys.stdin.buffer.read().decode().split()))",
        "print('|'.join(open(0).read().split()))",
        "import os\nprint('|'.join(os.read(0, 100).decode().split()))",
        "import io, os\nprint('|'.join(io.BytesIO(os.read(0, 100)).read().decode().split()))",
        "def main():\n    print(input() + '|' + input())\nif __name__ == '__main__':\n    main()",
    ] {
        let result = run(source, "one\ntwö\n");
        assert_eq!(text(&result), "one|twö\n", "{source}: {}", result.error);
        assert_eq!(result.end, ScriptEnd::Exited(0));
    }
}

#[test]
fn large_inputs_and_outputs_pass_at_once() {
    let stdin = "x".repeat(1 << 20);
    let result = run("import sys\nprint(len(sys.stdin.read()))", &stdin);
    assert_eq!(text(&result), "1048576\n");
    let unread = run("print('y' * 60000)", &stdin);
    assert_eq!(unread.stdout.len(), 60001);
    assert_eq!(unread.end, ScriptEnd::Exited(0));
}

#[test]
fn ends_are_told_apart() {
    let end = |source| run(source, "").end;
    assert_eq!(end("exit()"), ScriptEnd::Exited(0));
    assert_eq!(end("import sys\nsys.exit(3)"), ScriptEnd::Exited(3));
    assert_eq!(end("import os\nos._exit(7)"), ScriptEnd::Exited(7));
    assert_eq!(end("1 / 0"), ScriptEnd::Exited(1));
    assert_eq!(
        end("while True:\n    pass"),
        ScriptEnd::TimedOut(Clock::Cpu)
    );
    assert_eq!(end("print('z' * 70000)"), ScriptEnd::OutputLimit);
    assert_eq!(
        end("while True:\n    print('z' * 70000)"),
        ScriptEnd::OutputLimit
    );
    // It may not signal itself either, and crashes.
    assert!(matches!(end("import os\nos.abort()"), ScriptEnd::Killed(_)));
    let short = Limits {
        wall_s: 0.5,
        ..LIMITS
    };
    let sleeper = Script {
        source: "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)".to_owned(),
        ..Script::default()
    };
    let result = pool().run_script(&sleeper, short);
    assert_eq!(result.end, ScriptEnd::TimedOut(Clock::Idle));
    for (source, error) in [
        ("def f(:", "SyntaxError"),
        ("x = [0] * 10**9", "MemoryError"),
        ("print(int('x'))", "ValueError: invalid literal"),
    ] {
        let result = run(source, "");
        assert_eq!(result.end, ScriptEnd::Exited(1));
        assert!(result.error.contains(error), "{}", result.error);
    }
    let nearly = run(
        "print('done')\nimport sys\nsys.stdout.flush()\nimport os\nos._exit(0)",
        "",
    );
    assert_eq!(text(&nearly), "done\n");
}

#[test]
fn files_are_read_and_one_is_written() {
    let script = |source: &str| Script {
        source: source.to_owned(),
        files: vec![("input.txt".to_owned(), "20 22".to_owned())],
        output_file: Some("output.txt".to_owned()),
        ..Script::default()
    };
    let sum = "a, b = map(int, open('input.txt').read().split())\n\
               with open('output.txt', 'w') as f:\n    print(a + b, file=f)\n";
    let result = pool().run_script(&script(sum), LIMITS);
    assert_eq!(
        result.written.as_deref(),
        Some(b"42\n".as_slice()),
        "{}",
        result.error
    );
    assert_eq!(result.end, ScriptEnd::Exited(0));
    let is_confined = result.confinement.iter().any(|layer| layer == "landlock");
    for source in [
        "open('other.txt', 'w').write('x')",
        "open('input.txt', 'w').write('x')",
        "import os\nos.remove('output.txt')\nos.symlink('/etc/passwd', 'output.txt')",
        "import os\nos.link('input.txt', 'linked')",
        "import os\nos.mkdir('more')",
        "import os\nos.rename('input.txt', 'output.txt')",
        "print(open('/etc/passwd').read())",
        "print(open('/proc/self/environ').read())",
    ] {
        let result = pool().run_script(&script(source), LIMITS);
        assert!(
            !is_confined || result.end == ScriptEnd::Exited(1),
            "{source}"
        );
        assert_eq!(result.stdout, b"", "{source}");
    }
    let flood = pool().run_script(
        &script("f = open('output.txt', 'w')\nwhile True:\n    f.write('x' * 9999)"),
        LIMITS,
    );
    assert_ne!(flood.end, ScriptEnd::Exited(0));
    assert!(flood.written.unwrap().len() <= LIMITS.result_bytes_max + 1);
    let outside = Script {
        files: vec![("../up".to_owned(), String::new())],
        ..script("pass")
    };
    let refused = pool().run_script(&outside, LIMITS).end;
    assert!(matches!(refused, ScriptEnd::Infrastructure { reason } if reason.contains("../up")));
}

#[test]
fn a_forged_first_line_is_output() {
    let result = run("print('{\"refused\":\"no sandbox\"}')", "");
    assert_eq!(text(&result), "{\"refused\":\"no sandbox\"}\n");
    assert_eq!(result.end, ScriptEnd::Exited(0));
}
