//! What a model is asked, where its answer ends, and the program in it: each benchmark as its own
//! tool asks. The variant is part of a score's name.
//!
//! | benchmark | base model | chat model |
//! |---|---|---|
//! | HumanEval+, MBPP+ | the prompt (`EvalPlus`) | a Python script in a block (`EvalPlus`) |
//! | HumanEval | the prompt (bigcode's stops) | as `EvalPlus` |
//! | MBPP | three shots (DeepSeek's), or none (bigcode's) | as `EvalPlus` |
//! | `LiveCodeBench` | one shot, from the project's file | its question and format |
//! | contests | the statement as a docstring (ours) | the statement, then a block (ours) |
//! | sets for RLVR | the prompt | as `EvalPlus` |
//!
//! Not done here: chat templates, which are a checkpoint's, and sampling.

use std::borrow::Cow;

use crate::bench::{Bench, Name};
use crate::contest::{self, answer::last_block};
use crate::livecodebench;
use crate::livecodebench::prompt::Example;
use crate::sanitize::sanitize;
use crate::task::Task;

/// Whether a model continues text or answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// It continues text.
    Base {
        /// Solved tasks that are shown first, where the benchmark has the choice.
        n_shots: usize,
        /// `LiveCodeBench`'s examples for standard input and for functions.
        examples: Option<Box<[Example; 2]>>,
    },
    /// It answers a user.
    Chat,
}

impl Form {
    /// It continues text, and sees nothing else.
    pub const ZERO_SHOT: Self = Self::Base {
        n_shots: 0,
        examples: None,
    };
}

/// What a model is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text to continue.
    Text(String),
    /// A conversation, rendered by the checkpoint's template.
    Conversation {
        /// The system's message.
        system: Option<&'static str>,
        /// The user's.
        user: String,
        /// How the answer begins.
        beginning: &'static str,
    },
}

/// How a benchmark asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// For the score's name.
    pub variant: &'static str,
    /// An answer ends before the first of these.
    pub stops: Vec<&'static str>,
    /// Tokens of an answer at most.
    pub tokens_max: usize,
    /// The tool writes four spaces for a tab.
    widens_tabs: bool,
}

/// Why a benchmark cannot be asked in this form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// It has no such form.
    #[error("{bench} has no {form} form: {advice}")]
    Form {
        /// The benchmark.
        bench: &'static str,
        /// The form.
        form: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The tasks that its prompt shows are not in the file.
    #[error("the tasks 2, 3 and 4 that MBPP's prompt shows are not in the data: use mbpp.jsonl")]
    Shots,
}

const ENDS: [&str; 6] = [
    "<|endoftext|>",
    "<|endofmask|>",
    "</s>",
    "\nif __name__",
    "\ndef main(",
    "\nprint(",
];
const OF_HUMANEVAL: [&str; 5] = ["\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "];
const OF_MBPP: [&str; 2] = ["\n\"\"\"", "\nassert"];
const OF_BIGCODE: [&str; 8] = [
    "\nclass",
    "\ndef",
    "\n#",
    "\n@",
    "\nprint",
    "\nif",
    "\n```",
    "<file_sep>",
];
const OF_BIGCODE_MBPP: [&str; 7] = [
    "\nclass", "\nassert", "\n\"\"\"", "\nprint", "\nif", "\n<|/", "\n```",
];
/// What EvalPlus asks of chat models, and how it has them begin.
const INSTRUCTION: &str = "Please provide a self-contained Python script that solves the \
    following problem in a markdown code block:";
const BEGINNING: &str = "Below is a Python script with a self-contained function that solves the \
    problem and passes corresponding tests:\n```python\n";

/// How the benchmark asks in this form.
///
/// # Errors
/// It has no such form.
pub fn style(bench: &Bench, form: &Form) -> Result<Style, PromptError> {
    let of_evalplus = |more: &[&'static str], variant| Style {
        variant,
        stops: ENDS.iter().chain(more).copied().collect(),
        tokens_max: 768,
        widens_tabs: true,
    };
    let plain = |variant, stops: &[&'static str], tokens_max| Style {
        variant,
        stops: stops.to_vec(),
        tokens_max,
        widens_tabs: false,
    };
    let refused = |form, advice| PromptError::Form {
        bench: bench.name.text(),
        form,
        advice,
    };
    match (bench.name, form) {
        (Name::LiveCodeBench(_), Form::Chat) => Ok(plain("chat, 0-shot", &["###"], 2000)),
        (Name::LiveCodeBench(_), Form::Base { examples: None, .. }) => Err(refused(
            "base",
            "bring its few-shot files with --examples FOLDER (stdin.json and func.json), or --chat",
        )),
        (Name::LiveCodeBench(_), Form::Base { .. }) => Ok(plain("base, 1-shot", &["###"], 2000)),
        (Name::Contest(_), Form::Chat) => Ok(plain("chat, 0-shot, own prompt", &[], 4096)),
        (Name::Contest(_), Form::Base { .. }) => Ok(plain(
            "base, 0-shot, own prompt",
            &contest::prompt::STOPS,
            2048,
        )),
        (_, Form::Chat) => Ok(of_evalplus(&["\n```\n"], "chat, 0-shot, EvalPlus")),
        (Name::HumanEvalPlus, Form::Base { .. }) => {
            Ok(of_evalplus(&OF_HUMANEVAL, "base, 0-shot, EvalPlus"))
        }
        (Name::MbppPlus, Form::Base { .. }) => Ok(of_evalplus(&OF_MBPP, "base, 0-shot, EvalPlus")),
        (Name::HumanEval, Form::Base { .. }) => {
            Ok(plain("base, 0-shot, not stripped", &OF_BIGCODE, 512))
        }
        (Name::Mbpp, Form::Base { n_shots: 0, .. }) => {
            Ok(plain("base, 0-shot, bigcode", &OF_BIGCODE_MBPP, 512))
        }
        (Name::Mbpp, Form::Base { .. }) => Ok(plain("base, 3-shot", &["[DONE]"], 500)),
        (
            Name::LeetCode | Name::MbppTrain | Name::Puzzles | Name::AssertLists,
            Form::Base { .. },
        ) => Ok(plain("base, 0-shot", &ENDS, 768)),
    }
}

/// What a model is given for a task.
///
/// # Errors
/// The benchmark has no such form, or lacks what it shows.
pub fn prompt(bench: &Bench, task: &Task, form: &Form) -> Result<Prompt, PromptError> {
    style(bench, form)?;
    let conversation = |system, user, beginning| Prompt::Conversation {
        system,
        user,
        beginning,
    };
    let text = match (task, form) {
        (Task::LiveCodeBench(grader), Form::Chat) => {
            let user = livecodebench::prompt::chat(&grader.task);
            return Ok(conversation(Some(livecodebench::prompt::SYSTEM), user, ""));
        }
        (Task::Contest(task), Form::Chat) => {
            return Ok(conversation(None, contest::prompt::chat(task), ""));
        }
        (Task::Plus(_) | Task::Function(_), Form::Chat) => {
            let asked = zero_shot(task);
            let user = format!("{INSTRUCTION}\n```\n{}\n```\n", asked.trim());
            return Ok(conversation(None, user, BEGINNING));
        }
        (Task::LiveCodeBench(grader), Form::Base { examples, .. }) => {
            let [standard, function] = examples.as_deref().expect("the form was looked at");
            let is_function = !grader.task.starter_code.is_empty();
            let example = if is_function { function } else { standard };
            livecodebench::prompt::base(&grader.task, Some(example))
        }
        (Task::Function(grader), Form::Base { n_shots: 1.., .. }) if bench.name == Name::Mbpp => {
            let few_shot = grader.problem.few_shot.clone();
            few_shot.ok_or(PromptError::Shots)?
        }
        (Task::Plus(_) | Task::Function(_) | Task::Contest(_), Form::Base { .. }) => {
            zero_shot(task).into_owned()
        }
    };
    Ok(Prompt::Text(text))
}

/// The text that a base model continues that is shown nothing else.
pub fn zero_shot(task: &Task) -> Cow<'_, str> {
    match task {
        Task::Plus(grader) => format!("{}\n", grader.task.prompt.trim()).into(),
        Task::Function(grader) => {
            let problem = &grader.problem;
            problem
                .question
                .as_deref()
                .unwrap_or(&problem.prompt)
                .into()
        }
        Task::LiveCodeBench(grader) => livecodebench::prompt::base(&grader.task, None).into(),
        Task::Contest(task) => contest::prompt::base(task).into(),
    }
}

impl Style {
    /// An answer up to its end, as the tool has it.
    pub fn cut(&self, answer: &str) -> String {
        let ends = self.stops.iter().filter_map(|stop| answer.find(stop));
        let cut = &answer[..ends.min().unwrap_or(answer.len())];
        if self.widens_tabs {
            cut.replace('\t', "    ")
        } else {
            cut.to_owned()
        }
    }
}

/// The program in an answer that was cut.
pub fn program(task: &Task, form: &Form, answer: &str) -> String {
    let sanitized = |text: &str| sanitize(text, task.defines());
    match (task, form) {
        (Task::Plus(_), Form::Base { .. }) => sanitized(&format!("{}{answer}", zero_shot(task))),
        (Task::Function(grader), Form::Base { n_shots, .. }) => {
            let problem = &grader.problem;
            let is_shown = *n_shots > 0 && problem.few_shot.is_some();
            let answer = if is_shown { answer.trim() } else { answer };
            format!("{}{answer}", problem.prompt)
        }
        (Task::Function(grader), Form::Chat) => {
            let preamble = grader.problem.preamble.as_deref().unwrap_or_default();
            format!("{preamble}{}", sanitized(answer))
        }
        (Task::Plus(_), Form::Chat) => sanitized(answer),
        (Task::Contest(_), Form::Base { .. }) => answer.to_owned(),
        (Task::LiveCodeBench(_), Form::Base { .. }) => livecodebench::answer::of_base_model(answer),
        (Task::LiveCodeBench(_), Form::Chat) => livecodebench::answer::of_chat_model(answer),
        (Task::Contest(_), Form::Chat) => last_block(answer).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_at_the_first_stop() {
        let style = Style {
            variant: "",
            stops: vec!["\ndef ", "\nprint("],
            tokens_max: 1,
            widens_tabs: true,
        };
        assert_eq!(style.cut("\treturn 1\nprint(f)\ndef g"), "    return 1");
        assert_eq!(style.cut("a\n"), "a\n");
    }
}
