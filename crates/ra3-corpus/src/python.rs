//! What the corpus asks of Python's grammar: does a text parse, where are its comments, where do
//! its statements begin, and those in its classes and functions.
//!
//! The parser is recursive, and so is the release of its tree: ninety thousand opening brackets
//! would overflow a thread's stack and end the process. A text therefore gets a stack in
//! proportion to its size, and a text above [`SOURCE_BYTES_MAX`] is not parsed.

use std::ops::Range;

use ruff_python_ast::Stmt;
use ruff_python_parser::parse_module;
use ruff_text_size::Ranged;

/// Largest text that is parsed; real source is far below, data in Python's clothes is above.
pub(crate) const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Twice what the deepest nesting was seen to need for each of its bytes.
const STACK_BYTES_PER_BYTE: usize = 512;
/// Texts below this fit any stack.
const SMALL_BYTES: usize = 1024;

/// What is known of a text that parses; ranges are in bytes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// Comments, from `#` to the end of the line.
    pub(crate) comments: Vec<Range<usize>>,
    /// Top-level statements.
    pub(crate) statements: Vec<Statement>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Where it stands, decorators included.
    pub(crate) range: Range<usize>,
    /// The statements of a class' or a function's body.
    pub(crate) body: Vec<Statement>,
}

/// Parses a text; `None` if it is no Python, or too large.
pub(crate) fn parse(text: &str) -> Option<Syntax> {
    if text.len() > SOURCE_BYTES_MAX {
        return None;
    }
    if text.len() < SMALL_BYTES {
        return parse_here(text);
    }
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(text.len() * STACK_BYTES_PER_BYTE + (1 << 20))
            .spawn_scoped(scope, || parse_here(text))
            .expect("half a gigabyte of address space is there for a stack")
            .join()
            .expect("the parser answers with an error, and does not panic")
    })
}

fn parse_here(text: &str) -> Option<Syntax> {
    let parsed = parse_module(text).ok()?;
    let comments = parsed
        .tokens()
        .iter()
        .filter(|token| token.kind().is_comment())
        .map(|token| token.range().start().to_usize()..token.range().end().to_usize())
        .collect();
    let statements = statements(&parsed.syntax().body);
    Some(Syntax {
        comments,
        statements,
    })
}

fn statements(of: &[Stmt]) -> Vec<Statement> {
    let statement = |statement: &Stmt| Statement {
        range: statement.range().start().to_usize()..statement.range().end().to_usize(),
        body: match statement {
            Stmt::FunctionDef(function) => statements(&function.body),
            Stmt::ClassDef(class) => statements(&class.body),
            _ => Vec::new(),
        },
    };
    of.iter().map(statement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_statements_are_found() {
        let text = "x = '# no'  # yes\n@d\ndef f():\n    pass\ny = 1; z = 2\n";
        let syntax = parse(text).unwrap();
        let texts = |ranges: &[Range<usize>]| -> Vec<&str> {
            ranges.iter().map(|r| &text[r.clone()]).collect()
        };
        assert_eq!(texts(&syntax.comments), ["# yes"]);
        let ranges = |of: &[Statement]| -> Vec<Range<usize>> {
            of.iter().map(|statement| statement.range.clone()).collect()
        };
        assert_eq!(texts(&ranges(&syntax.statements[1].body)), ["pass"]);
        assert_eq!(
            texts(&ranges(&syntax.statements)),
            ["x = '# no'", "@d\ndef f():\n    pass", "y = 1", "z = 2"]
        );
        assert_eq!(parse("def f(:\n"), None);
    }

    #[test]
    fn no_nesting_overflows_the_stack() {
        let texts = [
            format!("x = {}1{}\n", "(".repeat(40_000), ")".repeat(40_000)),
            format!("x = {}1{}\n", "[".repeat(40_000), "]".repeat(40_000)),
            format!("x = {}1\n", "-".repeat(90_000)),
            format!("x = {}1\n", "not ".repeat(25_000)),
            format!("x = 1{}\n", "+1".repeat(45_000)),
            format!("x = a{}\n", ".b".repeat(45_000)),
            format!("x = {}1\n", "lambda:".repeat(13_000)),
            format!("x = {}1\n", "2**".repeat(30_000)),
        ];
        for text in texts {
            assert!(parse(&text).is_some(), "{}", &text[..20]);
        }
        assert_eq!(parse(&"[".repeat(90_000)), None);
        assert_eq!(parse(&"x = 1\n".repeat(SOURCE_BYTES_MAX / 6 + 1)), None);
    }
}
