//! What a family draws: one function with its description, its lines, its rationales and tests.
//!
//! A sketch is turned into a training document (comments or not) or into a problem; it does not
//! know which.

use std::iter;

use crate::draw::Draw;
use crate::family::Family;
use crate::value::Value;

/// One line of a solution, indented, without its newline.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) code: String,
    /// What has to be thought before the line can be written, where anything has.
    pub(crate) rationale: Option<String>,
    /// A comment that people write there although it helps nobody.
    pub(crate) idle_comment: Option<&'static str>,
}

/// What makes two programs the same for the split: names of steps, without phrasing or style.
#[derive(Clone, Debug)]
pub(crate) enum Composition {
    /// A sequence of operations; each contiguous run of two or more counts by itself.
    Sequence(Vec<String>),
    /// A start and steps from it; each prefix with two or more steps counts by itself.
    Chain(Vec<String>),
    /// Nothing is composed; never held out.
    Single,
}

/// One drawn program.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    pub(crate) family: Family,
    pub(crate) n_steps: usize,
    pub(crate) composition: Composition,
    pub(crate) entry_point: &'static str,
    /// Names of the parameters, as in the signature.
    pub(crate) parameters: &'static str,
    /// The docstring, without its quotes.
    pub(crate) description: String,
    pub(crate) lines: Vec<Line>,
    /// Arguments and what the function gives for them.
    pub(crate) tests: Vec<(Vec<Value>, Value)>,
}

impl Line {
    /// A line one level deep that needs no thought.
    pub(crate) fn plain(code: impl Into<String>) -> Self {
        Self {
            code: format!("    {}", code.into()),
            rationale: None,
            idle_comment: None,
        }
    }

    pub(crate) fn with_rationale(mut self, rationale: impl Into<String>) -> Self {
        self.rationale = Some(rationale.into());
        self
    }

    pub(crate) fn with_idle_comment(mut self, comment: &'static str) -> Self {
        self.idle_comment = Some(comment);
        self
    }

    /// The same line `n_levels` deeper.
    pub(crate) fn deeper(mut self, n_levels: usize) -> Self {
        self.code.insert_str(0, &"    ".repeat(n_levels));
        self
    }
}

impl Sketch {
    /// Signature and docstring, as HumanEval's `prompt`.
    pub(crate) fn prompt(&self) -> String {
        format!(
            "def {}({}):\n    \"\"\"{}.\"\"\"\n",
            self.entry_point, self.parameters, self.description
        )
    }

    /// The lines without comments, as HumanEval's `canonical_solution`.
    pub(crate) fn solution(&self) -> String {
        self.lines
            .iter()
            .map(|line| line.code.clone() + "\n")
            .collect()
    }

    /// The lines, with their rationales as comments and some idle comments.
    pub(crate) fn commented_solution(&self, idle_comment_share: f64, draw: &mut Draw) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let idle = line
                .idle_comment
                .filter(|_| draw.chance(idle_comment_share));
            if let Some(comment) = line.rationale.as_deref().or(idle) {
                let depth = line.code.len() - line.code.trim_start().len();
                text.extend([&line.code[..depth], "# ", comment, "\n"]);
            }
            text.push_str(&line.code);
            text.push('\n');
        }
        text
    }

    /// HumanEval's `test`: literal asserts on `candidate`.
    pub(crate) fn test(&self) -> String {
        let asserts = self.tests.iter().map(|(arguments, result)| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            format!(
                "    assert candidate({}) == {result}\n",
                arguments.join(", ")
            )
        });
        iter::once("def check(candidate):\n".to_owned())
            .chain(asserts)
            .collect()
    }
}
