//! What a family draws: one function with its description, its lines, its rationales and tests.
//!
//! A sketch is turned into a training document (comments or not) or into a problem; it does not
//! know which.

use std::iter;

use crate::draw::Draw;
use crate::family::Family;
use crate::form::Form;
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
    /// Lines of the body.
    pub(crate) lines: Vec<Line>,
    /// Arguments and result that say nothing of what has to be worked out, to be shown.
    pub(crate) example: Option<(Vec<Value>, Value)>,
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
    /// What asks for the program: signature and docstring, or a text.
    pub(crate) fn prompt(&self, form: Form) -> String {
        let signature = self.signature();
        let description = &self.description;
        match form {
            Form::Humaneval => {
                format!("def {signature}:\n    \"\"\"{description}.\"\"\"\n")
            }
            Form::Mbpp => {
                let shown = self.example.as_ref().map(|example| {
                    let assert = assert(self.entry_point, example);
                    format!("{assert}\n")
                });
                let shown = shown.unwrap_or_default();
                format!("\"\"\"\nWrite a function {signature}. {description}.\n{shown}\"\"\"\n")
            }
        }
    }

    /// The lines that follow the prompt: the body, or the whole function. What has to be thought
    /// before the body's first line is then thought before the function.
    pub(crate) fn written(&self, form: Form) -> Vec<Line> {
        let mut lines = self.lines.clone();
        if form == Form::Mbpp {
            let header = Line {
                code: format!("def {}:", self.signature()),
                rationale: lines[0].rationale.take(),
                idle_comment: None,
            };
            lines.insert(0, header);
        }
        lines
    }

    /// The lines without comments, as HumanEval's `canonical_solution`.
    pub(crate) fn solution(&self, form: Form) -> String {
        let lines = self.written(form).into_iter();
        lines.map(|line| line.code + "\n").collect()
    }

    fn signature(&self) -> String {
        format!("{}({})", self.entry_point, self.parameters)
    }

    /// The lines, with their rationales as comments and some idle comments.
    pub(crate) fn commented_solution(
        &self,
        form: Form,
        idle_comment_share: f64,
        draw: &mut Draw,
    ) -> String {
        let mut text = String::new();
        for line in &self.written(form) {
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
        let asserts = self.tests.iter();
        let asserts = asserts.map(|test| format!("    {}\n", assert("candidate", test)));
        iter::once("def check(candidate):\n".to_owned())
            .chain(asserts)
            .collect()
    }
}

/// The call of an example and what it has to give, as Python.
fn assert(function: &str, (arguments, result): &(Vec<Value>, Value)) -> String {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    format!("assert {function}({}) == {result}", arguments.join(", "))
}
