//! The testbed: short Python functions in HumanEval's record format that a small model can learn,
//! in which a rationale pays on some lines and is wasted on others.
//!
//! `generate` draws training documents, training problems (for RL) and held-out problems whose
//! compositions no training document contains. Everything follows from the seed; the split alone
//! does not even depend on that. Nothing here runs Python or touches files.

mod body;
mod catalogue;
mod chain;
mod comments;
mod draw;
mod family;
mod form;
mod operation;
mod pipeline;
mod record;
mod sketch;
mod split;
mod value;

use std::collections::BTreeSet;

use ra3::seed::Seed;
use serde::{Deserialize, Serialize};

pub use self::comments::CommentShares;
pub use self::family::Family;
pub use self::form::Form;

use self::draw::Draw;
use self::sketch::Sketch;

/// What to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestbedConfig {
    /// Training documents.
    pub n_documents: usize,
    /// Problems for RL, from the compositions that training documents may contain.
    pub n_train_problems: usize,
    /// Problems for evaluation, each with a held-out composition where its family composes.
    pub n_held_out_problems: usize,
    /// Which documents have comments, and what these are worth.
    pub comments: CommentShares,
    /// The share of compositions held out.
    pub held_out_share: f64,
    /// The share of documents and problems in MBPP's form.
    pub mbpp_share: f64,
    /// Which programs, and how long; weights need not sum to one.
    pub mix: Vec<FamilyShare>,
}

/// One family's part in the mix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyShare {
    /// The family.
    pub family: Family,
    /// Its weight among the others.
    pub weight: f64,
    /// The fewest and the most steps, drawn evenly; both at least 1.
    pub n_steps_min: usize,
    /// See `n_steps_min`.
    pub n_steps_max: usize,
}

impl TestbedConfig {
    /// The mix that experiments use: mostly chains, where rationales pay, next to controls. All
    /// comments are true.
    pub fn standard(
        n_documents: usize,
        n_train_problems: usize,
        n_held_out_problems: usize,
        comment_share: f64,
        mbpp_share: f64,
    ) -> Self {
        let share = |family, weight, n_steps_min, n_steps_max| FamilyShare {
            family,
            weight,
            n_steps_min,
            n_steps_max,
        };
        Self {
            n_documents,
            n_train_problems,
            n_held_out_problems,
            comments: CommentShares {
                documents: comment_share,
                stale: 0.0,
                vague: 0.0,
                idle: 0.2,
            },
            held_out_share: 0.1,
            mbpp_share,
            mix: vec![
                share(Family::Pipeline, 0.8, 1, 3),
                share(Family::Record, 0.4, 1, 3),
                share(Family::Order, 0.8, 2, 3),
                share(Family::Worked, 1.2, 1, 5),
                share(Family::Cups, 1.0, 1, 5),
                share(Family::Days, 1.0, 1, 5),
            ],
        }
    }
}

/// A training document: `prefix` is what asks for the program, `text` the solution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestbedDocument {
    /// Unique in a testbed.
    pub id: String,
    /// What asks for the program, ending in a newline.
    pub prefix: String,
    /// The solution's lines, with comments or without.
    pub text: String,
}

/// A problem in HumanEval's record format, whatever its form, and what the testbed knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `testbed/held_out/17`.
    pub task_id: String,
    /// What asks for the program.
    pub prompt: String,
    /// The function's name.
    pub entry_point: String,
    /// The lines that follow the prompt, without comments.
    pub canonical_solution: String,
    /// Python source that defines `check(candidate)`.
    pub test: String,
    /// The form of prompt and solution.
    pub form: Form,
    /// The family, for tables by family.
    pub family: Family,
    /// How many steps the description has.
    pub n_steps: usize,
    /// The true rationales.
    pub plan: Vec<PlannedLine>,
}

/// A rationale and the line of `canonical_solution` it belongs before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLine {
    /// Zero-based.
    pub line: usize,
    /// The rationale, without `#` and newline.
    pub rationale: String,
}

/// What `generate` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testbed {
    /// The training corpus.
    pub documents: Vec<TestbedDocument>,
    /// Problems for RL.
    pub train_problems: Vec<Problem>,
    /// Problems for evaluation.
    pub held_out_problems: Vec<Problem>,
}

/// Draws a testbed.
///
/// # Panics
/// Where the mix is empty or cannot give that many different problems.
pub fn generate(config: &TestbedConfig, seed: Seed) -> Testbed {
    let documents = (0..config.n_documents).map(|idx| {
        let mut draw = Draw::new(seed.child("documents").nth(idx as u64));
        let sketch = draw_sketch(config, false, &mut draw);
        let form = if draw.chance(config.mbpp_share) {
            Form::Mbpp
        } else {
            Form::Humaneval
        };
        let prefix = sketch.prompt(form);
        let text = if draw.chance(config.comments.documents) {
            // Draws of their own: true comments are the same beside others.
            let mut wear = Draw::new(seed.child("wear").nth(idx as u64));
            let (family, n_steps) = (sketch.family, sketch.n_steps);
            let another = |draw: &mut Draw| one_side(config, family, n_steps, false, draw);
            let worn = comments::worn(sketch, &config.comments, &mut wear, another);
            worn.commented_solution(form, config.comments.idle, &mut draw)
        } else {
            sketch.solution(form)
        };
        TestbedDocument {
            id: format!("testbed/document/{idx}"),
            prefix,
            text,
        }
    });
    Testbed {
        documents: documents.collect(),
        train_problems: problems(config, "train", seed, config.n_train_problems),
        held_out_problems: problems(config, "held_out", seed, config.n_held_out_problems),
    }
}

/// Problems with different prompts.
fn problems(config: &TestbedConfig, part: &str, seed: Seed, n: usize) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    let mut draw = Draw::new(seed.child("problems").child(part));
    for _ in 0..n * 100 {
        if problems.len() == n {
            break;
        }
        let sketch = draw_sketch(config, part == "held_out", &mut draw);
        let form = Form::of_problem(problems.len(), config.mbpp_share);
        if seen.insert(sketch.prompt(form)) {
            let task_id = format!("testbed/{part}/{}", problems.len());
            problems.push(problem(&sketch, form, task_id));
        }
    }
    assert_eq!(
        problems.len(),
        n,
        "the mix has too few different {part} problems"
    );
    problems
}

fn problem(sketch: &Sketch, form: Form, task_id: String) -> Problem {
    let lines = sketch.written(form).into_iter().enumerate();
    let plan = lines.filter_map(|(line, written)| {
        let rationale = written.rationale?;
        Some(PlannedLine { line, rationale })
    });
    Problem {
        task_id,
        prompt: sketch.prompt(form),
        entry_point: sketch.entry_point.to_owned(),
        canonical_solution: sketch.solution(form),
        test: sketch.test(),
        form,
        family: sketch.family,
        n_steps: sketch.n_steps,
        plan: plan.collect(),
    }
}

/// A program from one side of the split; programs that compose nothing belong to both.
fn draw_sketch(config: &TestbedConfig, held_out: bool, draw: &mut Draw) -> Sketch {
    let weights: Vec<f64> = config.mix.iter().map(|share| share.weight).collect();
    let share = config.mix[draw.weighted(&weights)];
    let low = share.n_steps_min.max(1);
    let n_steps = draw.between(low as i64, share.n_steps_max.max(low) as i64) as usize;
    one_side(config, share.family, n_steps, held_out, draw)
}

/// A program of a family and a length from one side of the split.
fn one_side(
    config: &TestbedConfig,
    family: Family,
    n_steps: usize,
    held_out: bool,
    draw: &mut Draw,
) -> Sketch {
    loop {
        let sketch = sketch(family, n_steps, draw);
        let keys = sketch.composition.keys();
        if keys.is_empty() || sketch.composition.is_held_out(config.held_out_share) == held_out {
            return sketch;
        }
    }
}

fn sketch(family: Family, n_steps: usize, draw: &mut Draw) -> Sketch {
    match family {
        Family::Pipeline => pipeline::in_order(n_steps, draw),
        Family::Record => record::record(n_steps, draw),
        Family::Order => pipeline::reordered(n_steps, draw),
        Family::Worked => chain::worked(n_steps, draw),
        Family::Cups => chain::cups(n_steps, draw),
        Family::Days => chain::days(n_steps, draw),
    }
}

#[cfg(test)]
mod tests;
