//! Families `pipeline` and `order`: one to three operations on one argument.
//!
//! `pipeline` names them in execution order. `order` names them in another order ("after sorting
//! but before dropping the last, reverse the list"), so that the first line of the answer depends
//! on the whole description; before it, the steps are put in order.

use crate::body::{Step, Style, body, parameter};
use crate::catalogue::CATALOGUE;
use crate::draw::Draw;
use crate::family::Family;
use crate::operation::Operation;
use crate::sketch::{Composition, Sketch};
use crate::value::{Domain, Value, draw_inputs};

const DOMAINS: [Domain; 3] = [Domain::Numbers, Domain::Text, Domain::Table];

/// A program whose steps are named in the order they run.
pub(crate) fn in_order(n_steps: usize, draw: &mut Draw) -> Sketch {
    let steps = draw_steps(n_steps, draw);
    let commands: Vec<String> = steps.iter().map(|s| s.command(draw.below(2))).collect();
    let joint = draw.pick(&[", then ", "; ", " and "]);
    let description = capitalised(&commands.join(joint));
    // Three operations in one expression are beyond a small model, plan or no plan.
    let nested = if n_steps > 2 { 0.0 } else { 4.0 };
    let style = [Style::Nested, Style::Stepwise, Style::Loops][draw.weighted(&[nested, 4.0, 1.0])];
    let rationales: Vec<String> = steps.iter().map(Step::gerund).collect();
    let mut sketch = sketch_of(Family::Pipeline, &steps, description, draw);
    sketch.lines = body(&steps, &rationales, style);
    sketch
}

/// A program whose steps are named out of order.
pub(crate) fn reordered(n_steps: usize, draw: &mut Draw) -> Sketch {
    let steps = draw_steps(n_steps, draw);
    let c: Vec<String> = steps.iter().map(|s| s.command(draw.below(2))).collect();
    let g: Vec<String> = steps.iter().map(Step::gerund).collect();
    let description = match (steps.len(), draw.below(4)) {
        (1, _) => c[0].clone(),
        (2, 0) => format!("{} after {}", c[1], g[0]),
        (2, 1) => format!("before {}, {}", g[1], c[0]),
        (2, 2) => format!("{}, but only after {}", c[1], g[0]),
        (2, _) => format!("{}, then, but first {}", c[1], c[0]),
        (_, 0) => format!("{} after {} but before {}", c[1], g[0], g[2]),
        (_, 1) => format!("before {} but after {}, {}", g[2], g[0], c[1]),
        (_, 2) => format!("{} after {}, but first {}", c[2], g[1], c[0]),
        (_, _) => format!(
            "{}, but only after {}, and before that {}",
            c[2], g[1], c[0]
        ),
    };
    let mut sketch = sketch_of(Family::Order, &steps, capitalised(&description), draw);
    sketch.lines = body(&steps, &g, Style::Stepwise);
    for line in &mut sketch.lines {
        line.rationale = None;
    }
    sketch.lines[0].rationale = Some(g.join(", "));
    sketch
}

fn sketch_of(family: Family, steps: &[Step], description: String, draw: &mut Draw) -> Sketch {
    let domain = steps[0].operation.domain();
    let names = steps.iter().map(|step| step.operation.name.to_owned());
    let tests = draw_inputs(domain, draw).into_iter().map(|input| {
        let result = run(steps, &input);
        (vec![input], result)
    });
    let tests: Vec<(Vec<Value>, Value)> = tests.collect();
    Sketch {
        family,
        n_steps: steps.len(),
        composition: Composition::Sequence(names.collect()),
        entry_point: draw.pick(&["rework", "change", "process"]),
        parameters: parameter(domain),
        description,
        lines: Vec::new(),
        example: tests.first().cloned(),
        tests,
    }
}

fn run(steps: &[Step], input: &Value) -> Value {
    steps.iter().fold(input.clone(), |value, step| {
        step.operation.apply(&value, step.constant)
    })
}

/// Steps of one domain, none twice, only the last one ending the composition.
fn draw_steps(n_steps: usize, draw: &mut Draw) -> Vec<Step> {
    let domain = DOMAINS[draw.weighted(&[4.0, 2.0, 1.0])];
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < n_steps {
        let is_last = steps.len() + 1 == n_steps;
        let fits = |op: &&'static Operation| {
            op.domain() == domain
                && (is_last || !op.ends())
                && steps.iter().all(|step| step.operation.name != op.name)
        };
        let candidates: Vec<&'static Operation> = CATALOGUE.iter().filter(fits).collect();
        let operation = draw.pick(&candidates);
        let constant = operation
            .constants
            .map_or(0, |(low, high)| draw.between(low.max(1), high));
        steps.push(Step {
            operation,
            constant,
        });
    }
    steps
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
