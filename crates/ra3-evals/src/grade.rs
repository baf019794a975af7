//! Grading: program = prompt + completion, run in the sandbox, compared here.
//!
//! Tests of the form `assert candidate(arguments) == literal` become inputs and expected values
//! that only the parent holds; a test of any other form runs as a check beside the program, where
//! a hostile one could reach it (see the sandbox's documentation).

use ra3_sandbox::value::Value;
use ra3_sandbox::{CallResult, End, Pool, Program, RunResult};

use crate::problem::Problem;

/// A problem made ready to grade.
#[derive(Clone, Debug, PartialEq)]
pub struct Grader {
    prompt: String,
    entry_point: String,
    tests: Tests,
}

#[derive(Clone, Debug, PartialEq)]
enum Tests {
    /// Inputs, and what only this process knows.
    Values {
        inputs: Vec<String>,
        expected: Vec<Value>,
    },
    /// Source to run after the program.
    Check(String),
}

/// The outcome for one program.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every test passed.
    Passed,
    /// A test did not.
    WrongAnswer {
        /// The first that did not: input, expected and got.
        detail: String,
    },
    /// The program raised.
    Raised {
        /// Type and text of the exception, and the input.
        detail: String,
    },
    /// No Python.
    SyntaxError,
    /// Out of time.
    TimedOut,
    /// Sent too much, or ended before its tests did.
    Died,
    /// The sandbox failed, not the program.
    Infrastructure {
        /// How.
        detail: String,
    },
}

impl Verdict {
    /// Its name in tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::WrongAnswer { .. } => "wrong_answer",
            Self::Raised { .. } => "raised",
            Self::SyntaxError => "syntax_error",
            Self::TimedOut => "timed_out",
            Self::Died => "died",
            Self::Infrastructure { .. } => "infrastructure",
        }
    }

    /// What a reader wants to know beyond the name.
    pub fn detail(&self) -> &str {
        match self {
            Self::WrongAnswer { detail }
            | Self::Raised { detail }
            | Self::Infrastructure { detail } => detail,
            Self::Passed | Self::SyntaxError | Self::TimedOut | Self::Died => "",
        }
    }
}

/// Makes problems ready: expected literals are evaluated once, in processes of their own.
pub fn prepare(problems: &[Problem], pool: &Pool) -> Vec<Grader> {
    let cases: Vec<Option<Vec<(String, String)>>> = problems
        .iter()
        .map(|problem| simple_asserts(&problem.test))
        .collect();
    let literals: Vec<Program> = cases
        .iter()
        .map(|cases| Program {
            source: "def same(value):\n    return value\n".to_owned(),
            entry_point: "same".to_owned(),
            inputs: cases
                .iter()
                .flatten()
                .map(|(_, expected)| format!("({expected},)"))
                .collect(),
            check: None,
        })
        .collect();
    let values = pool.run_all(&literals, &mut |_| {});
    problems
        .iter()
        .zip(cases)
        .zip(values)
        .map(|((problem, cases), values)| Grader {
            prompt: problem.prompt.clone(),
            entry_point: problem.entry_point.clone(),
            tests: cases
                .and_then(|cases| split(cases, values))
                .unwrap_or_else(|| {
                    Tests::Check(format!(
                        "{}\ncheck({})\n",
                        problem.test, problem.entry_point
                    ))
                }),
        })
        .collect()
}

fn split(cases: Vec<(String, String)>, values: RunResult) -> Option<Tests> {
    let expected: Option<Vec<Value>> = values
        .calls
        .into_iter()
        .map(|call| match call {
            CallResult::Value(Value::Opaque(_)) | CallResult::Raised { .. } => None,
            CallResult::Value(value) => Some(value),
        })
        .collect();
    let inputs: Vec<String> = cases.into_iter().map(|(arguments, _)| arguments).collect();
    expected
        .filter(|expected| expected.len() == inputs.len() && !inputs.is_empty())
        .map(|expected| Tests::Values { inputs, expected })
}

/// Arguments (as a tuple) and expected literal of each test; `None` if one has another form.
fn simple_asserts(test: &str) -> Option<Vec<(String, String)>> {
    let mut lines = test.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.find(|line| line.starts_with("def check(candidate)"))?;
    lines
        .map(|line| {
            let rest = line.strip_prefix("assert candidate")?;
            let close = closing_parenthesis(rest)?;
            let expected = rest[close + 1..].strip_prefix(" == ")?;
            let arguments = &rest[1..close];
            let comma = if arguments.trim().is_empty() { "" } else { "," };
            Some((format!("({arguments}{comma})"), expected.to_owned()))
        })
        .collect()
}

/// Where the parenthesis at the start closes; strings are passed over.
fn closing_parenthesis(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return (c == ')').then_some(at);
                }
            }
            (None, _) if depth == 0 => return None,
            (Some(_) | None, _) => {}
        }
    }
    None
}

impl Grader {
    /// The program that a completion makes.
    pub fn program(&self, completion: &str) -> Program {
        let source = format!("{}{completion}\n", self.prompt);
        match &self.tests {
            Tests::Values { inputs, .. } => Program {
                source,
                entry_point: self.entry_point.clone(),
                inputs: inputs.clone(),
                check: None,
            },
            Tests::Check(check) => Program {
                source,
                entry_point: String::new(),
                inputs: Vec::new(),
                check: Some(check.clone()),
            },
        }
    }

    /// The verdict on a program that ran.
    pub fn judge(&self, result: &RunResult) -> Verdict {
        match &result.end {
            End::LoadError { error, .. }
                if error == "SyntaxError" || error == "IndentationError" =>
            {
                return Verdict::SyntaxError;
            }
            End::LoadError { error, message } => {
                return Verdict::Raised {
                    detail: format!("{error}: {message}"),
                };
            }
            End::TimedOut => return Verdict::TimedOut,
            End::OutputLimit | End::Died => return Verdict::Died,
            End::Infrastructure { reason } => {
                return Verdict::Infrastructure {
                    detail: reason.clone(),
                };
            }
            End::Finished { .. } => {}
        }
        match (&self.tests, &result.end) {
            (Tests::Values { inputs, expected }, _) => compare(inputs, expected, &result.calls),
            (Tests::Check(_), End::Finished { checked: true, .. }) => Verdict::Passed,
            (Tests::Check(_), End::Finished { check_error, .. }) => Verdict::WrongAnswer {
                detail: check_error.clone().unwrap_or_default(),
            },
            (Tests::Check(_), _) => Verdict::Died,
        }
    }
}

const SHOWN_CHARS: usize = 120;

fn compare(inputs: &[String], expected: &[Value], calls: &[CallResult]) -> Verdict {
    for ((input, expected), call) in inputs.iter().zip(expected).zip(calls) {
        match call {
            CallResult::Value(value) if value.equals(expected) => {}
            CallResult::Value(value) => {
                let (wanted, got) = (expected.display(SHOWN_CHARS), value.display(SHOWN_CHARS));
                let detail = format!("for {input}: expected {wanted}, got {got}");
                return Verdict::WrongAnswer { detail };
            }
            CallResult::Raised { error, message } => {
                return Verdict::Raised {
                    detail: format!("for {input}: {error}: {message}"),
                };
            }
        }
    }
    if calls.len() == expected.len() {
        Verdict::Passed
    } else {
        Verdict::Died
    }
}

/// Grades completions, each with its grader, in their order.
pub fn grade_all(
    graders: &[(&Grader, &str)],
    pool: &Pool,
    on_done: &mut dyn FnMut(usize),
) -> Vec<Verdict> {
    let programs: Vec<Program> = graders
        .iter()
        .map(|(grader, completion)| grader.program(completion))
        .collect();
    let results = pool.run_all(&programs, on_done);
    graders
        .iter()
        .zip(&results)
        .map(|((grader, _), result)| grader.judge(result))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_asserts_are_taken_apart() {
        let test = "def check(candidate):\n    \
                    assert candidate([1, 2], ')(') == [(1,), {'a': 2}]\n\n    \
                    assert candidate() == None\n";
        let cases = simple_asserts(test).unwrap();
        assert_eq!(
            cases[0],
            ("([1, 2], ')(',)".to_owned(), "[(1,), {'a': 2}]".to_owned())
        );
        assert_eq!(cases[1], ("()".to_owned(), "None".to_owned()));
        for other in [
            "    assert candidate(1) > 2",
            "    x = 1",
            "    assert abs(candidate(1)) == 1",
        ] {
            assert_eq!(
                simple_asserts(&format!("def check(candidate):\n{other}\n")),
                None
            );
        }
    }
}
