//! How contest problems are asked: in words of this project, since no other tool's are the same for
//! all of them.
//!
//! A chat model gets the statement and a request for one block of code. A base model continues a
//! docstring with both in it, as in MBPP+, by the whole program: the prompt is no part of it.

use crate::contest::task::{Streams, Task};
use crate::problem::docstring;

/// Where an answer of a base model ends: where it begins to ask the next problem.
pub const STOPS: [&str; 4] = ["<|endoftext|>", "<|endofmask|>", "</s>", "\n\"\"\"\n"];

/// The user's message to a chat model.
pub fn chat(task: &Task) -> String {
    format!(
        "{}\n\n{}. Answer with one block of code that begins with ```python.",
        task.statement.trim(),
        request(task)
    )
}

/// The text that a base model continues.
pub fn base(task: &Task) -> String {
    docstring(&format!("{}\n\n{}.", task.statement.trim(), request(task)))
}

fn request(task: &Task) -> String {
    let (what, how) = match (&task.function, &task.streams) {
        (Some(name), _) => (format!("function `{name}`"), String::new()),
        (None, Streams::Standard) => (
            "program".to_owned(),
            " (it reads standard input and writes standard output)".to_owned(),
        ),
        (None, Streams::Files { input, output }) => (
            "program".to_owned(),
            format!(" (it reads {input} and writes {output})"),
        ),
    };
    format!("Write a Python 3 {what} that solves this problem{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_by_hand() {
        let task = Task::new(None, "Add a\\b.\n".to_owned(), Vec::new());
        assert_eq!(
            chat(&task),
            "Add a\\b.\n\nWrite a Python 3 program that solves this problem (it reads standard \
             input and writes standard output). Answer with one block of code that begins with \
             ```python."
        );
        assert_eq!(
            base(&task),
            "\"\"\"\nAdd a\\\\b.\n\nWrite a Python 3 program that solves this problem (it reads \
             standard input and writes standard output).\n\"\"\"\n"
        );
        let streams = Streams::Files {
            input: "a.in".to_owned(),
            output: "a.out".to_owned(),
        };
        let files = Task {
            streams,
            ..task.clone()
        };
        assert!(base(&files).contains("(it reads a.in and writes a.out)"));
        let function = Task {
            function: Some("add".to_owned()),
            ..task
        };
        assert!(chat(&function).contains("Write a Python 3 function `add` that solves"));
    }
}
