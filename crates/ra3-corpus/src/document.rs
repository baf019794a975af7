//! A document before it is cut.

/// A file, or a problem with its solution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Path or id.
    pub name: String,
    /// Where it was read from; counts are by source.
    pub source: String,
    /// What is given: signature and docstring of a problem, nothing for a file.
    pub prefix: String,
    /// The code.
    pub text: String,
    /// True of a piece of a statement that goes on in another: no end of text follows.
    pub is_open: bool,
}

impl Document {
    /// Of prefix and code.
    pub fn n_bytes(&self) -> u64 {
        (self.prefix.len() + self.text.len()) as u64
    }

    /// Prefix and code together.
    pub fn whole(&self) -> String {
        format!("{}{}", self.prefix, self.text)
    }
}
