//! A problem, as HumanEval's records have it.

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::json::{field, text_field};
use crate::records::{Complaint, DataError, read_each};

/// A problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// `HumanEval/0`.
    pub task_id: String,
    /// Signature and docstring.
    pub prompt: String,
    /// The function's name, or what it is called by, such as `Solution().twoSum`.
    pub entry_point: String,
    /// A right body.
    pub canonical_solution: String,
    /// Python source that defines `check(candidate)`.
    pub test: String,
    /// Python source that runs between the program and its tests.
    pub setup: String,
    /// Trusted Python source that tests may use; the prompt where it is empty.
    pub prelude: String,
    /// What a published completion follows, and an answer in a block is run after, where that is
    /// not the prompt.
    pub preamble: Option<String>,
    /// A name for tables by family; empty where there are none.
    pub family: String,
    /// What a model is asked where that is not the prompt, which the program then does not follow.
    pub question: Option<String>,
    /// The question after solved ones, where there are some to show.
    pub few_shot: Option<String>,
}

impl Problem {
    /// What no two problems of a data set may share.
    pub(crate) fn name(&self) -> String {
        self.task_id.clone()
    }

    /// The right program.
    pub fn canonical(&self) -> String {
        format!("{}{}", self.prompt, self.canonical_solution)
    }
}

/// Reads problems in HumanEval's format, with the checksum of the data.
///
/// # Errors
/// The file cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Problem>, String), DataError> {
    read_each(path, Some(Problem::name), &mut |_, record| problem(record))
}

fn problem(record: &Value) -> Result<Problem, Complaint> {
    let text = |key: &'static str| text_field(record, key).ok_or((key, "a text"));
    let optional = |key: &'static str| match field(record, key) {
        None | Some(Value::None) => Ok(String::new()),
        Some(_) => text(key),
    };
    Ok(Problem {
        task_id: text("task_id")?,
        prompt: text("prompt")?,
        entry_point: called_by(text("entry_point")?)?,
        canonical_solution: optional("canonical_solution")?,
        test: text("test")?,
        setup: optional("setup")?,
        prelude: optional("prelude")?,
        family: optional("family")?,
        ..Problem::default()
    })
}

/// A name, or names with dots between them, which may be called: `Solution().add`.
pub(crate) fn called_by(text: String) -> Result<String, Complaint> {
    let is_name = |name: &str| {
        let name = name.strip_suffix("()").unwrap_or(name);
        let is_of_name = |c: char| c == '_' || c.is_alphanumeric();
        name.chars().all(is_of_name)
            && !name.starts_with(|c: char| c.is_numeric())
            && !name.is_empty()
    };
    if text.split('.').all(is_name) {
        return Ok(text);
    }
    Err(("entry_point", "the name of a function"))
}

/// A text as comment lines.
pub(crate) fn commented(text: &str) -> String {
    let line = |line: &str| format!("# {line}").trim_end().to_owned() + "\n";
    text.lines()
        .map(line)
        .fold(String::new(), |all, line| all + &line)
}

/// A text as a docstring that is a file's first statement, as MBPP+ has it.
pub(crate) fn docstring(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace("\"\"\"", "'''");
    format!("\"\"\"\n{text}\n\"\"\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_by_hand() {
        assert_eq!(commented("a\n\nb"), "# a\n#\n# b\n");
        assert_eq!(docstring("a \"\"\" \\n"), "\"\"\"\na ''' \\\\n\n\"\"\"\n");
    }
}
