//! What a test asks of a program, and what only this process knows: an assert taken apart.
//!
//! The expression is computed beside the program, which may choose its value and does not know what
//! is expected. Values of types of its own are equal to nothing.

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, CallResult, Program};

use crate::outcome::Failure;

/// Python that expressions may use.
pub(crate) const WALK: &str = include_str!("walk.py");
const SHOWN_CHARS: usize = 300;

/// Questions of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// What the test calls the program's function.
    pub name: String,
    /// One an assert.
    pub questions: Vec<Question>,
}

/// One assert.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    expression: String,
    how: Comparison,
    expected: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    /// As Python's `==`.
    Equal,
    /// Equal and of the same type.
    Is,
    /// Equal to an item.
    In,
    /// As `math.isclose` with this relative tolerance.
    Close(f64),
    /// Up to this difference.
    Near(f64),
}

impl Questions {
    /// What `questions` of `split.py` returned; `None` where the test has another form.
    pub(crate) fn of(call: &CallResult) -> Option<Self> {
        let CallResult::Value(Value::Tuple(parts)) = call else {
            return None;
        };
        let [Value::Str(name), Value::List(found)] = parts.as_slice() else {
            return None;
        };
        Some(Self {
            name: name.clone(),
            questions: found.iter().map(Question::of).collect::<Option<_>>()?,
        })
    }

    /// The program that is run: it, the setup of its tests, and a function that answers question
    /// by question. `target` is the Python expression of its function.
    pub(crate) fn program(&self, source: &str, setup: &str, target: &str) -> Program {
        let name = &self.name;
        let expressions: Vec<String> = self
            .questions
            .iter()
            .map(|question| format!("    lambda {name}: {},\n", question.expression))
            .collect();
        Program {
            source: format!(
                "{source}\n{setup}\n{WALK}__cases__ = [\n{}]\n\
                 def __candidate__(*arguments, **names):\n    \
                 return {target}(*arguments, **names)\n\
                 def __case__(index):\n    return __cases__[index](__candidate__)\n",
                expressions.concat()
            ),
            entry_point: "__case__".to_owned(),
            inputs: (0..self.questions.len())
                .map(|index| Arguments::of(&[Value::Int(index.to_string())]))
                .collect(),
            check: None,
        }
    }
}

impl Question {
    fn of(found: &Value) -> Option<Self> {
        let Value::Tuple(parts) = found else {
            return None;
        };
        let [Value::Str(expression), Value::Str(how), expected, tolerance] = parts.as_slice()
        else {
            return None;
        };
        let how = match how.as_str() {
            "equal" => Comparison::Equal,
            "is" => Comparison::Is,
            "in" => Comparison::In,
            "close" => Comparison::Close(tolerance.as_f64()?),
            "near" => Comparison::Near(tolerance.as_f64()?),
            _ => return None,
        };
        if expected.has_opaque() {
            return None;
        }
        Some(Self {
            expression: expression.clone(),
            how,
            expected: expected.clone(),
        })
    }

    /// True if the value is right.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        let expected = &self.expected;
        let numbers = value
            .as_f64()
            .zip(expected.as_f64())
            .filter(|(a, b)| a.is_finite() && b.is_finite());
        match self.how {
            Comparison::Equal => value.equals(expected),
            Comparison::Is => value == expected,
            Comparison::In => match expected {
                Value::List(items) => items.iter().any(|item| value.equals(item)),
                _ => false,
            },
            Comparison::Close(tolerance) => {
                value.equals(expected)
                    || numbers
                        .is_some_and(|(a, b)| (a - b).abs() <= tolerance * a.abs().max(b.abs()))
            }
            Comparison::Near(tolerance) => {
                value.equals(expected) || numbers.is_some_and(|(a, b)| (a - b).abs() < tolerance)
            }
        }
    }

    /// The failure of a call that was not right.
    pub(crate) fn failure(&self, index: usize, call: &CallResult) -> Failure {
        Failure {
            index,
            input: self.expression.clone(),
            expected: self.expected.display(SHOWN_CHARS),
            got: Failure::got(call, SHOWN_CHARS),
        }
    }
}
