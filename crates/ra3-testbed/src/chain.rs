//! Families `worked`, `cups` and `days`: a fact that takes serial work, then one line that uses it.
//!
//! Each step is a small table (digit and operation to digit, cup and swap to cup, day and shift to
//! day) that a small model learns from little data; the composition of several is not learnt in
//! one forward pass. The rationale restates every step with its outcome, in as many tokens as the
//! description spends on it, so that the operands sit at one fixed distance.

use crate::body::{Step, looped, parameter};
use crate::catalogue::CATALOGUE;
use crate::draw::Draw;
use crate::family::Family;
use crate::operation::Operation;
use crate::sketch::{Composition, Line, Sketch};
use crate::value::{Value, draw_inputs, probe};

const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// A chain of steps worked out: what is said, what is thought, and where it ends.
struct Chain {
    /// Names of the start and of every step.
    parts: Vec<String>,
    /// The clauses of the description.
    said: Vec<String>,
    /// The clauses of the rationale.
    thought: Vec<String>,
}

/// A constant by steps modulo 10, used by one operation.
pub(crate) fn worked(n_steps: usize, draw: &mut Draw) -> Sketch {
    let start = draw.between(0, 9);
    let mut result = start;
    let mut chain = Chain {
        parts: vec![start.to_string()],
        said: vec![format!("from {start}")],
        thought: vec![start.to_string()],
    };
    for _ in 0..n_steps {
        let (word, sign, operand, next) = match draw.below(3) {
            0 => {
                let k = draw.between(1, 5);
                ("add", '+', k, result + k)
            }
            1 => {
                let k = draw.between(1, 5);
                ("minus", '-', k, result - k)
            }
            _ => {
                let k = draw.pick(&[3, 7, 9]);
                ("times", '*', k, result * k)
            }
        };
        result = next.rem_euclid(10);
        let step = format!("{word} {operand}");
        chain.said.push(step.clone());
        chain.thought.push(format!("{sign}{operand}={result}"));
        chain.parts.push(step);
    }
    let users: Vec<&'static Operation> = CATALOGUE
        .iter()
        .filter(|op| op.constants.is_some())
        .collect();
    let step = Step {
        operation: draw.pick(&users),
        constant: result,
    };
    let command = step.operation.commands[draw.below(2)].replace('#', "the result");
    let opening = draw.pick(&["Work mod 10", "Count modulo 10"]);
    let lines = use_constant(&step, &chain.thought.join(" "), draw);
    let domain = step.operation.domain();
    let mut inputs = draw_inputs(domain, draw);
    inputs.push(probe(domain, result, draw));
    let empty = &inputs[0];
    let shown = step.operation.apply(empty, result);
    let tells = (0..10).any(|digit| step.operation.apply(empty, digit) != shown);
    let example = (!tells).then(|| (vec![empty.clone()], shown));
    let tests = inputs.into_iter().map(|input| {
        let expected = step.operation.apply(&input, result);
        (vec![input], expected)
    });
    Sketch {
        family: Family::Worked,
        n_steps,
        composition: Composition::Chain(chain.parts),
        entry_point: draw.pick(&["rework", "change", "process"]),
        parameters: parameter(domain),
        description: format!("{opening} {}; {command}", chain.said.join(", ")),
        lines,
        example,
        tests: tests.collect(),
    }
}

/// One line, a named constant, or a loop.
fn use_constant(step: &Step, rationale: &str, draw: &mut Draw) -> Vec<Line> {
    let name = parameter(step.operation.domain());
    let constant = step.constant.to_string();
    let style = draw.weighted(&[2.0, 1.0, 1.0]);
    if let (2, Some(mut lines)) = (style, looped(step, name, &constant)) {
        lines[2].rationale = Some(rationale.to_owned());
        lines.push(Line::plain("return out").with_idle_comment("give back the result"));
        return lines;
    }
    if style == 0 {
        let code = format!("return {}", step.operation.expression(name, &constant));
        return vec![Line::plain(code).with_rationale(rationale)];
    }
    vec![
        Line::plain(format!("n = {constant}")).with_rationale(rationale),
        Line::plain(format!("return {}", step.operation.expression(name, "n")))
            .with_idle_comment("now use it"),
    ]
}

/// Which of four variables holds the ball after some swaps.
pub(crate) fn cups(n_steps: usize, draw: &mut Draw) -> Sketch {
    const CUPS: [&str; 4] = ["a", "b", "c", "d"];
    let start = draw.pick(&CUPS);
    let mut holder = start;
    let mut chain = Chain {
        parts: vec![format!("cup {start}")],
        said: vec![format!("under {start}")],
        thought: vec![start.to_owned()],
    };
    for _ in 0..n_steps {
        let pair = draw.sample(&CUPS, 2);
        let (left, right) = (pair[0], pair[1]);
        if holder == left {
            holder = right;
        } else if holder == right {
            holder = left;
        }
        chain.said.push(format!("swap {left} and {right}"));
        chain.thought.push(format!("{left} {right} = {holder}"));
        // Swapping is symmetric: both orders are one step to the split.
        let (low, high) = (left.min(right), left.max(right));
        chain.parts.push(format!("swap {low} {high}"));
    }
    let (request, template) = draw.pick(&[
        ("return that cup", "#"),
        ("return twice that cup", "# * 2"),
        ("return that cup plus one", "# + 1"),
        ("return that cup in a list", "[#]"),
    ]);
    let contents: Vec<i64> = (0..4).map(|idx| idx * 7 + draw.between(0, 6)).collect();
    let held = contents[CUPS.iter().position(|cup| *cup == holder).expect("a cup")];
    let result = |held: i64| match template {
        "#" => Value::Int(held),
        "# * 2" => Value::Int(held * 2),
        "# + 1" => Value::Int(held + 1),
        _ => Value::Numbers(vec![held]),
    };
    let opening = draw.pick(&["The ball is", "Put a ball"]);
    Sketch {
        family: Family::Cups,
        n_steps,
        composition: Composition::Chain(chain.parts),
        entry_point: draw.pick(&["find", "reveal"]),
        parameters: "a, b, c, d",
        description: format!("{opening} {}; {request}", chain.said.join("; ")),
        lines: direct_or_named(template, holder, &chain.thought.join(", "), draw),
        // The same under every cup.
        example: Some((vec![Value::Int(1); 4], result(1))),
        tests: vec![(contents.into_iter().map(Value::Int).collect(), result(held))],
    }
}

/// A day of the week reached by steps.
pub(crate) fn days(n_steps: usize, draw: &mut Draw) -> Sketch {
    let start = draw.below(7);
    let mut day = start as i64;
    let mut chain = Chain {
        parts: vec![DAYS[start].to_owned()],
        said: vec![format!("from {}", DAYS[start])],
        thought: vec![DAYS[start].to_owned()],
    };
    for _ in 0..n_steps {
        let shift = draw.between(1, 3);
        let (word, sign) = draw.pick(&[("after", 1), ("before", -1)]);
        day = (day + sign * shift).rem_euclid(7);
        chain.said.push(format!("then {shift} days {word}"));
        let reached = DAYS[day as usize];
        chain.thought.push(format!("{shift} {word} = {reached}"));
        chain.parts.push(format!("{shift} {word}"));
    }
    let name = DAYS[day as usize];
    let (request, template) = draw.pick(&[
        ("return that day", "#"),
        ("tell if s is that day", "s == #"),
        ("tell if s is another day", "s != #"),
        ("count that day in s", "s.count(#)"),
    ]);
    let opening = draw.pick(&["Go", "Walk"]);
    let inputs = [name, DAYS[(day as usize + 3) % 7], ""];
    let tests = inputs.iter().map(|input| {
        let result = match template {
            "#" => Value::Text(name.to_owned()),
            "s == #" => Value::Flag(*input == name),
            "s != #" => Value::Flag(*input != name),
            _ => Value::Int(i64::from(*input == name)),
        };
        (vec![Value::Text((*input).to_owned())], result)
    });
    let tests: Vec<(Vec<Value>, Value)> = tests.collect();
    Sketch {
        family: Family::Days,
        n_steps,
        composition: Composition::Chain(chain.parts),
        entry_point: draw.pick(&["find", "match_day"]),
        parameters: "s",
        description: format!("{opening} {}; {request}", chain.said.join(", ")),
        lines: direct_or_named(
            template,
            &format!("'{name}'"),
            &chain.thought.join(", "),
            draw,
        ),
        // No day at all, where the result is not the day itself.
        example: tests.last().filter(|_| template != "#").cloned(),
        tests,
    }
}

/// The answer used directly, or named first.
fn direct_or_named(template: &str, answer: &str, rationale: &str, draw: &mut Draw) -> Vec<Line> {
    if draw.chance(0.6) {
        let code = format!("return {}", template.replace('#', answer));
        return vec![Line::plain(code).with_rationale(rationale)];
    }
    vec![
        Line::plain(format!("n = {answer}")).with_rationale(rationale),
        Line::plain(format!("return {}", template.replace('#', "n")))
            .with_idle_comment("now use it"),
    ]
}

#[cfg(test)]
mod tests {
    use ra3::seed::Seed;

    use super::*;

    #[test]
    fn tests_tell_every_constant_from_every_other() {
        let mut draw = Draw::new(Seed::root(11));
        for operation in CATALOGUE.iter().filter(|op| op.constants.is_some()) {
            for constant in 0..=9 {
                let input = probe(operation.domain(), constant, &mut draw);
                let expected = operation.apply(&input, constant);
                for rival in (0..=9).filter(|rival| *rival != constant) {
                    let other = operation.apply(&input, rival);
                    assert_ne!(expected, other, "{} {constant} {rival}", operation.name);
                }
            }
        }
    }

    /// Each clause of a rationale follows from the one before it and from the description.
    #[test]
    fn rationales_end_where_recomputing_the_description_ends() {
        for idx in 0..200 {
            let sketch = worked(4, &mut Draw::new(Seed::root(12).nth(idx)));
            let said = sketch.description.split("from ").nth(1).unwrap();
            let mut clauses = said.split(';').next().unwrap().split(", ");
            let mut digit: i64 = clauses.next().unwrap().parse().unwrap();
            for clause in clauses {
                let (word, operand) = clause.split_once(' ').unwrap();
                let operand: i64 = operand.parse().unwrap();
                digit = match word {
                    "add" => digit + operand,
                    "minus" => digit - operand + 10,
                    "times" => digit * operand,
                    _ => panic!("{clause}"),
                } % 10;
            }
            let rationale = sketch.lines.iter().find_map(|l| l.rationale.clone());
            assert!(rationale.unwrap().ends_with(&format!("={digit}")));
        }
    }
}
