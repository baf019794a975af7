//! A document before it is cut.

/// A file, or a problem with its solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Path or id.
    pub name: String,
    /// Where it was read from; counts are by source.
    pub source: String,
    /// What is given: signature and docstring of a problem, nothing for a file.
    pub prefix: String,
    /// The code.
    pub text: String,
}

impl Document {
    /// Prefix and code together.
    pub fn whole(&self) -> String {
        format!("{}{}", self.prefix, self.text)
    }
}
