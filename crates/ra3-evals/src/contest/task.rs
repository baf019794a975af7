//! A contest problem: what is asked, its tests, its limits.

use ra3_sandbox::value::Value;

use crate::json::{text_field, texts_field};
use crate::records::{Complaint, checksum};

/// A test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Standard input, or the input file.
    pub input: String,
    /// What is to be written.
    pub output: String,
}

/// A list of objects with `input` and `output`.
pub(crate) fn test_pairs(tests: &Value, key: &'static str) -> Result<Vec<Test>, Complaint> {
    let complaint = (key, "a list of objects with the texts `input` and `output`");
    let Value::List(tests) = tests else {
        return Err(complaint);
    };
    let test = |test: &Value| {
        Some(Test {
            input: text_field(test, "input")?,
            output: text_field(test, "output")?,
        })
    };
    let tests: Option<Vec<Test>> = tests.iter().map(test).collect();
    tests.ok_or(complaint)
}

/// An object of two lists of texts.
pub(crate) fn test_columns(tests: &Value, [inputs, outputs]: [&str; 2]) -> Option<Vec<Test>> {
    let (inputs, outputs) = (texts_field(tests, inputs)?, texts_field(tests, outputs)?);
    let test = |(input, output)| Test { input, output };
    let is_even = inputs.len() == outputs.len();
    is_even.then(|| inputs.into_iter().zip(outputs).map(test).collect())
}

/// Where a program reads and writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Standard input and output.
    #[default]
    Standard,
    /// Files with these names.
    Files {
        /// Read.
        input: String,
        /// Written.
        output: String,
    },
}

/// A problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The record's own, or made of the first twelve digits of the statement's MD5 sum.
    pub task_id: String,
    /// What is asked.
    pub statement: String,
    /// Tests; those that the source had cut short are left out.
    pub tests: Vec<Test>,
    /// How many were left out.
    pub n_tests_cut: usize,
    /// Seconds of CPU time for a test.
    pub time_s: f64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Where a program reads and writes.
    pub streams: Streams,
    /// The function that tests call, where they call one: an input is a JSON value an argument, one
    /// a line, and an output is one. The limits are `LiveCodeBench`'s then.
    pub function: Option<String>,
    /// Python source that says of an output whether it is right: see [`crate::contest::grade`].
    pub checker: Option<String>,
    /// True if the case of letters is ignored where there is no checker.
    pub ignores_case: bool,
    /// The contest's rating of its difficulty, where the record has it.
    pub rating: Option<u32>,
}

impl Task {
    /// A problem with the limits of most: 2 s and 256 MiB.
    pub fn new(task_id: Option<String>, statement: String, tests: Vec<Test>) -> Self {
        let n_tests = tests.len();
        let tests: Vec<Test> = tests.into_iter().filter(|test| !is_cut(test)).collect();
        let task_id = task_id.unwrap_or_else(|| {
            let sum = checksum(&statement);
            format!("contest/{}", &sum[..12])
        });
        Self {
            task_id,
            n_tests_cut: n_tests - tests.len(),
            time_s: 2.0,
            memory_bytes: 256 << 20,
            streams: Streams::default(),
            function: None,
            checker: None,
            ignores_case: says_any_case(&statement),
            rating: None,
            statement,
            tests,
        }
    }

    /// `DeepCoder`'s choice: at most fifteen tests, those with the longest inputs, with 12 s each.
    pub fn keep_by_rule_of_deepcoder(&mut self) {
        const N_TESTS: usize = 15;
        let mut order: Vec<usize> = (0..self.tests.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.tests[*index].input.chars().count()));
        order.truncate(N_TESTS);
        self.tests = order
            .iter()
            .map(|index| self.tests[*index].clone())
            .collect();
        self.time_s = 12.0;
    }
}

/// Codeforces shows long tests with dots at their ends.
fn is_cut(test: &Test) -> bool {
    [&test.input, &test.output]
        .iter()
        .any(|text| is_cut_short(text))
}

/// True if a text ends as one that goes on, and not with a row of a grid: dots are cells as well.
fn is_cut_short(text: &str) -> bool {
    let mut lines = text.trim_end().lines().rev().map(str::trim);
    let last = lines.next().unwrap_or_default();
    let Some(head) = last.strip_suffix("...") else {
        return false;
    };
    let is_cell = |c: char| !c.is_ascii_digit() && !c.is_lowercase() && !c.is_whitespace();
    let has_as_long_above = lines.next().is_some_and(|line| line.len() == last.len());
    let is_row = head.chars().all(is_cell) || (has_as_long_above && !head.contains(' '));
    !is_row
}

fn says_any_case(statement: &str) -> bool {
    let statement = statement.to_lowercase();
    [
        "any case",
        "upper or lower case",
        "any register",
        "case-insensitive",
    ]
    .iter()
    .any(|phrase| statement.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(input: &str) -> Test {
        Test {
            input: input.to_owned(),
            output: "1".to_owned(),
        }
    }

    #[test]
    fn tests_that_were_cut_short_are_left_out() {
        let tests = vec![test("1 2"), test("3 4 5..."), test("... 6")];
        let task = Task::new(None, "Print it.".to_owned(), tests);
        assert_eq!((task.tests.len(), task.n_tests_cut), (2, 1));
        // echo -n 'Print it.' | md5sum
        assert_eq!(task.task_id, "contest/5aa1dc2d088f");
        assert!(!task.ignores_case);
    }

    #[test]
    fn grids_of_dots_are_whole() {
        for (text, is_cut) in [
            ("3\n1 2 3...", true),
            ("3\n1 2 3 ...", true),
            ("12345...", true),
            ("abcab...\n", true),
            ("-5 S...", true),
            ("Case 1: YES NO...", true),
            ("...", false),
            ("2 4\n..#.\n#...", false),
            ("1 5\nS#...", false),
            ("2 5\n.1a..\n12...", false),
            ("10 12\n*.G.......", false),
            ("1 2 3", false),
            ("", false),
        ] {
            assert_eq!(is_cut_short(text), is_cut, "{text:?}");
        }
    }

    #[test]
    fn deepcoder_takes_the_longest_inputs() {
        let inputs = (1..=20).map(|n| test(&"9".repeat(n))).collect();
        let statement = "You can print each letter in any case.".to_owned();
        let mut task = Task::new(None, statement, inputs);
        task.keep_by_rule_of_deepcoder();
        assert_eq!(task.tests.len(), 15);
        assert_eq!(task.tests[0].input.len(), 20);
        assert_eq!(task.tests[14].input.len(), 6);
        assert_eq!(task.time_s, 12.0);
        assert!(task.ignores_case);
    }
}
