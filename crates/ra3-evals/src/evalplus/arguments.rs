//! From the lists that JSON has to the arguments that a function takes.
//!
//! JSON knows neither tuples nor sets nor complex numbers; EvalPlus names the tasks of MBPP+ whose
//! arguments need them (`evalplus/data/mbpp.py`). HumanEval+ needs nothing.

use ra3_sandbox::value::Value;

use crate::evalplus::data::Benchmark;

/// How a task's arguments are rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    AsTheyAre,
    /// Each argument becomes a tuple.
    EachTuple,
    /// Each argument's items become tuples.
    ItemsTuple,
    /// The first argument's items become tuples; two arguments.
    FirstItemsTuple,
    /// The second argument becomes a tuple; two arguments.
    SecondTuple,
    /// The first argument's lists become sets, empty ones and other things an empty dictionary.
    Sets,
    /// A float and a complex number, from text.
    FloatComplex,
    /// A complex number, from text.
    Complex,
    /// The first argument becomes a tuple.
    FirstTuple,
    /// Each argument becomes a tuple of tuples.
    TupleOfTuples,
    /// The first argument becomes a tuple, and its lists too.
    FirstTupleListsTuple,
    /// The values of the dictionary that comes first become tuples.
    ValuesTuple,
    /// Every list becomes a tuple, at any depth.
    AllTuples,
}

fn rule(task: u32) -> Rule {
    match task {
        2 | 116 | 132 | 143 | 222 | 261 | 273 | 394 | 399 | 421 | 424 | 429 | 470 | 560 | 579
        | 596 | 616 | 630 | 726 | 740 | 744 | 809 => Rule::EachTuple,
        63 | 64 | 70 | 94 | 120 | 237 | 272 | 299 | 400 | 409 | 417 | 438 | 473 | 614 | 780 => {
            Rule::ItemsTuple
        }
        75 | 413 | 444 | 753 => Rule::FirstItemsTuple,
        106 | 750 => Rule::SecondTuple,
        115 => Rule::Sets,
        124 => Rule::FloatComplex,
        252 => Rule::Complex,
        250 | 307 | 405 | 446 | 617 | 720 | 763 | 808 => Rule::FirstTuple,
        259 | 401 | 445 => Rule::TupleOfTuples,
        278 => Rule::FirstTupleListsTuple,
        722 => Rule::ValuesTuple,
        580 | 615 | 791 => Rule::AllTuples,
        _ => Rule::AsTheyAre,
    }
}

/// The argument tuples of a task's inputs; `None` where an input has not the form that its rule
/// needs.
pub(crate) fn of_inputs(benchmark: Benchmark, task: u32, inputs: &[Value]) -> Option<Vec<Value>> {
    let rule = match benchmark {
        Benchmark::HumanEval => Rule::AsTheyAre,
        Benchmark::Mbpp => rule(task),
    };
    inputs
        .iter()
        .map(|input| match input {
            Value::List(arguments) => apply(rule, arguments).map(Value::Tuple),
            _ => None,
        })
        .collect()
}

fn apply(rule: Rule, arguments: &[Value]) -> Option<Vec<Value>> {
    let first = arguments.first();
    let rest = arguments.get(1..).unwrap_or_default();
    let with_first = |first: Value| Some([vec![first], rest.to_vec()].concat());
    match rule {
        Rule::AsTheyAre => Some(arguments.to_vec()),
        Rule::EachTuple => arguments.iter().map(tuple).collect(),
        Rule::ItemsTuple => arguments.iter().map(items_tuple).collect(),
        Rule::FirstItemsTuple => with_first(items_tuple(first?)?),
        Rule::SecondTuple => Some(vec![first?.clone(), tuple(arguments.get(1)?)?]),
        Rule::Sets => Some(vec![Value::List(items(first?)?.iter().map(set).collect())]),
        Rule::FloatComplex => Some(vec![float(first?)?, complex(arguments.get(1)?)?]),
        Rule::Complex => Some(vec![complex(first?)?]),
        Rule::FirstTuple => with_first(tuple(first?)?),
        Rule::TupleOfTuples => {
            let inner = |argument: &Value| tuple(&items_tuple(argument)?);
            arguments.iter().map(inner).collect()
        }
        Rule::FirstTupleListsTuple => {
            let inner = |item: &Value| match item {
                Value::List(items) => Value::Tuple(items.clone()),
                other => other.clone(),
            };
            let first = Value::Tuple(items(first?)?.iter().map(inner).collect());
            Some(vec![first])
        }
        Rule::ValuesTuple => {
            let Value::Dict(pairs) = first? else {
                return None;
            };
            let pair = |(key, value): &(Value, Value)| Some((key.clone(), tuple(value)?));
            with_first(Value::Dict(pairs.iter().map(pair).collect::<Option<_>>()?))
        }
        Rule::AllTuples => Some(arguments.iter().map(all_tuples).collect()),
    }
}

/// Those of a list or a tuple.
pub(super) fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(items) | Value::Tuple(items) => Some(items),
        _ => None,
    }
}

/// `tuple(value)`: of a string its characters.
fn tuple(value: &Value) -> Option<Value> {
    if let Value::Str(text) = value {
        let characters = text.chars().map(|c| Value::Str(c.to_string()));
        return Some(Value::Tuple(characters.collect()));
    }
    items(value).map(|items| Value::Tuple(items.to_vec()))
}

fn items_tuple(value: &Value) -> Option<Value> {
    let items = items(value)?.iter().map(tuple).collect::<Option<_>>()?;
    Some(Value::List(items))
}

fn set(item: &Value) -> Value {
    match item {
        Value::List(items) if !items.is_empty() => Value::Set(items.clone()),
        _ => Value::Dict(Vec::new()),
    }
}

fn all_tuples(value: &Value) -> Value {
    match value {
        Value::List(items) => Value::Tuple(items.iter().map(all_tuples).collect()),
        other => other.clone(),
    }
}

fn float(value: &Value) -> Option<Value> {
    match value {
        Value::Str(text) => text.trim().parse().ok().map(Value::float),
        other => other.as_f64().map(Value::float),
    }
}

/// `complex(value)` of a number or of Python's text for one: `(-0-1e-16j)`, `2j`, `1.5`.
fn complex(value: &Value) -> Option<Value> {
    let (real, imaginary) = match value {
        Value::Str(text) => {
            let text = text.trim().trim_start_matches('(').trim_end_matches(')');
            match text.strip_suffix('j') {
                None => (text.parse().ok()?, 0.0),
                Some(text) => {
                    let is_between = |at: usize| {
                        matches!(text.as_bytes()[at], b'+' | b'-')
                            && !matches!(text.as_bytes()[at - 1], b'e' | b'E')
                    };
                    match (1..text.len()).rev().find(|at| is_between(*at)) {
                        Some(at) => (text[..at].parse().ok()?, text[at..].parse().ok()?),
                        None => (0.0, text.parse().ok()?),
                    }
                }
            }
        }
        other => (other.as_f64()?, 0.0),
    };
    Some(Value::complex(real, imaginary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn arguments_by_hand() {
        for (task, input, shown) in [
            (2, "[[1, 2], [3]]", "((1, 2), (3))"),
            (63, "[[[1, 2]]]", "([(1, 2)])"),
            (75, "[[[1, 2]], 3]", "([(1, 2)], 3)"),
            (106, "[[1], [2]]", "([1], (2))"),
            (115, "[[[1], [], {}]]", "([{1}, {}, {}])"),
            (
                124,
                "[\"1e3\", \"(-0-1e-16j)\"]",
                "(1000.0, complex(-0.0, -1e-16))",
            ),
            (252, "[\"2.5j\"]", "(complex(0.0, 2.5))"),
            (252, "[4]", "(complex(4.0, 0.0))"),
            (250, "[[1], 2]", "((1), 2)"),
            (307, "[[1], 2, 3]", "((1), 2, 3)"),
            (259, "[[[1], [2]]]", "(((1), (2)))"),
            (278, "[[1, [2, [3]], \"ab\"]]", "((1, (2, [3]), \"ab\"))"),
            (722, "[{\"a\": [1]}, 2, 3]", "({\"a\": (1)}, 2, 3)"),
            (580, "[[1, [2, [3]]]]", "((1, (2, (3))))"),
        ] {
            let inputs = [parse(input).unwrap()];
            let arguments = of_inputs(Benchmark::Mbpp, task, &inputs).unwrap();
            assert_eq!(arguments[0].display(99), shown, "{task}");
        }
        let inputs = [parse("[[1, 2], [3]]").unwrap()];
        let arguments = of_inputs(Benchmark::HumanEval, 2, &inputs).unwrap();
        assert_eq!(arguments[0].display(99), "([1, 2], [3])");
        assert_eq!(of_inputs(Benchmark::Mbpp, 75, &[Value::None]), None);
    }
}
