//! LeetCodeDataset (newfacade/LeetCodeDataset): a class with a method, and asserts about it.
//!
//! A base model continues the imports, the question as a comment, and the starter code.

use std::path::Path;

use ra3_sandbox::value::Value;

use crate::json::text_field;
use crate::problem::{Problem, commented};
use crate::records::{Complaint, DataError, read_each};

/// Reads problems, with the checksum of the file.
///
/// # Errors
/// The file cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Problem>, String), DataError> {
    read_each(path, Some(Problem::name), &mut |_, record| problem(record))
}

fn problem(record: &Value) -> Result<Problem, Complaint> {
    let text = |key: &'static str| text_field(record, key).ok_or((key, "a text"));
    let (imports, query) = (text("prompt")?, text("query")?);
    let starter = text_field(record, "starter_code").or_else(|| fenced(&query));
    let starter = starter.ok_or(("starter_code", "a text, or else a block of code in `query`"))?;
    let question = text_field(record, "problem_description").unwrap_or_else(|| {
        let end = query.find("Please complete the following python code");
        query[..end.unwrap_or(query.len())].to_owned()
    });
    let imports = imports.trim_end();
    let (question, starter) = (commented(question.trim()), starter.trim_end());
    Ok(Problem {
        task_id: text("task_id")?,
        prompt: format!("{imports}\n\n\n{question}{starter}\n"),
        entry_point: text("entry_point")?,
        // The right program is a whole class: it takes the place of the one that was begun.
        canonical_solution: format!("        pass\n\n\n{}\n", text("completion")?),
        test: text("test")?,
        prelude: format!("{imports}\n"),
        preamble: Some(format!("{imports}\n\n")),
        family: text_field(record, "difficulty").unwrap_or_default(),
        ..Problem::default()
    })
}

/// The block of code in a text.
fn fenced(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("```python\n")?;
    let (block, _) = rest.split_once("```")?;
    Some(block.to_owned())
}
