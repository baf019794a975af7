//! Writes a sequence of operations as the lines of a function, in one of several honest styles.

use crate::operation::{Action, Operation};
use crate::sketch::Line;
use crate::value::Domain;

/// An operation with its constant drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) operation: &'static Operation,
    pub(crate) constant: i64,
}

/// How a solution is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One expression, `return b(a(xs))`.
    Nested,
    /// One assignment a step.
    Stepwise,
    /// Loops where the step works element by element, assignments elsewhere.
    Loops,
}

impl Step {
    pub(crate) fn command(&self, phrasing: usize) -> String {
        let commands = self.operation.commands;
        commands[phrasing % commands.len()].replace('#', &self.constant.to_string())
    }

    pub(crate) fn gerund(&self) -> String {
        self.operation
            .gerund
            .replace('#', &self.constant.to_string())
    }

    fn expression(&self, source: &str) -> String {
        self.operation
            .expression(source, &self.constant.to_string())
    }
}

/// The parameter's name in every function over a domain.
pub(crate) fn parameter(domain: Domain) -> &'static str {
    match domain {
        Domain::Numbers => "xs",
        Domain::Text => "s",
        Domain::Table => "d",
    }
}

/// All steps as one nested expression over `source`.
pub(crate) fn nested(steps: &[Step], source: &str) -> String {
    steps
        .iter()
        .fold(source.to_owned(), |inner, step| step.expression(&inner))
}

/// The lines of the body; the first line of each step carries its rationale.
pub(crate) fn body(steps: &[Step], rationales: &[String], style: Style) -> Vec<Line> {
    let name = parameter(steps[0].operation.domain());
    if style == Style::Nested {
        let code = format!("return {}", nested(steps, name));
        return vec![Line::plain(code).with_rationale(rationales.join(", "))];
    }
    let (last, before) = steps.split_last().expect("a program has steps");
    let mut lines = Vec::new();
    for (step, rationale) in before.iter().zip(rationales) {
        let mut block = match (style, looped(step, name, &step.constant.to_string())) {
            (Style::Loops, Some(mut block)) => {
                block.push(Line::plain(format!("{name} = out")));
                block
            }
            _ => vec![Line::plain(format!("{name} = {}", step.expression(name)))],
        };
        block[0].rationale = Some(rationale.clone());
        lines.append(&mut block);
    }
    let mut block = match (style, looped(last, name, &last.constant.to_string())) {
        (Style::Loops, Some(mut block)) => {
            block.push(Line::plain("return out").with_idle_comment("give back the result"));
            block
        }
        _ => vec![Line::plain(format!("return {}", last.expression(name)))],
    };
    block[0].rationale = rationales.last().cloned();
    lines.append(&mut block);
    lines
}

/// A step as a loop that fills `out`; `None` where it does not work element by element.
pub(crate) fn looped(step: &Step, name: &str, constant: &str) -> Option<Vec<Line>> {
    let (code, keeps) = match step.operation.action {
        Action::Each(code, _) => (code, false),
        Action::Keep(code, _) => (code, true),
        Action::Numbers(..)
        | Action::NumbersEnd(..)
        | Action::Text(..)
        | Action::TextEnd(..)
        | Action::EachValue(..)
        | Action::KeepValue(..)
        | Action::TableEnd(..) => return None,
    };
    let code = code.replace('#', constant);
    let mut lines = vec![
        Line::plain("out = []").with_idle_comment("start empty"),
        Line::plain(format!("for x in {name}:")).with_idle_comment("go through the elements"),
    ];
    if keeps {
        lines.push(Line::plain(format!("if {code}:")).deeper(1));
        lines.push(
            Line::plain("out.append(x)")
                .deeper(2)
                .with_idle_comment("collect it"),
        );
    } else {
        lines.push(Line::plain(format!("out.append({code})")).deeper(1));
    }
    Some(lines)
}
