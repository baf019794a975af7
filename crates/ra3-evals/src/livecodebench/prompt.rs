//! LiveCodeBench's prompts (`lcb_runner/prompts/code_generation.py`): for chat models, and with one
//! example for base models.
//!
//! The examples are the project's own files, `stdin.json` and `func.json`, and are not part of this
//! program: a caller brings them.

use crate::livecodebench::data::Task;

/// What the model is told to be.
pub const SYSTEM: &str = "You are an expert Python programmer. You will be given a question \
    (problem specification) and will generate a correct Python program that matches the \
    specification and passes all tests.";

const WITH_STARTER_CODE: &str = "You will use the following starter code to write the solution to \
    the problem and enclose your code within delimiters.";
const WITHOUT_STARTER_CODE: &str = "Read the inputs from stdin solve the problem and write the \
    answer to stdout (do not directly test on the sample inputs). Enclose your code within \
    delimiters as follows. Ensure that when the python program runs, it reads the inputs, runs the \
    algorithm and writes output to STDOUT.";

/// The user's message to a chat model.
pub fn chat(task: &Task) -> String {
    let (format, code) = if task.starter_code.is_empty() {
        (WITHOUT_STARTER_CODE, "# YOUR CODE HERE")
    } else {
        (WITH_STARTER_CODE, task.starter_code.as_str())
    };
    format!(
        "### Question:\n{}\n\n### Format: {format}\n```python\n{code}\n```\n\n\
         ### Answer: (use the provided format with backticks)\n\n",
        task.question
    )
}

/// A solved problem that is shown first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Example {
    /// What is asked.
    pub question: String,
    /// What the solution begins with.
    #[serde(default)]
    pub sample_code: String,
    /// The solution.
    pub answer: String,
}

/// The text that a base model continues.
pub fn base(task: &Task, example: Option<&Example>) -> String {
    let shown = |question: &str, code: &str| {
        let code = if task.starter_code.is_empty() {
            String::new()
        } else {
            format!("### Starter Code\n{code}\n\n")
        };
        format!("### Question\n{question}\n\n{code}### Answer\n\n")
    };
    let solved = |example: &Example| {
        let asked = shown(&example.question, &example.sample_code);
        format!("{asked}{}\n\n", example.answer)
    };
    example.map_or_else(String::new, solved) + &shown(&task.question, &task.starter_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(starter_code: &str) -> Task {
        Task {
            question: "Add.".to_owned(),
            starter_code: starter_code.to_owned(),
            ..Task::default()
        }
    }

    #[test]
    fn prompts_by_hand() {
        let text = chat(&task("class Solution:"));
        assert!(text.starts_with("### Question:\nAdd.\n\n### Format: You will use the following"));
        assert!(text.ends_with(
            "delimiters.\n```python\nclass Solution:\n```\n\n\
             ### Answer: (use the provided format with backticks)\n\n"
        ));
        assert!(
            chat(&task("")).contains("output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n\n")
        );
        let example = Example {
            question: "Q".to_owned(),
            sample_code: "S".to_owned(),
            answer: "A".to_owned(),
        };
        assert_eq!(
            base(&task(""), Some(&example)),
            "### Question\nQ\n\n### Answer\n\nA\n\n### Question\nAdd.\n\n### Answer\n\n"
        );
        assert_eq!(
            base(&task("T"), Some(&example)),
            "### Question\nQ\n\n### Starter Code\nS\n\n### Answer\n\nA\n\n\
             ### Question\nAdd.\n\n### Starter Code\nT\n\n### Answer\n\n"
        );
    }
}
