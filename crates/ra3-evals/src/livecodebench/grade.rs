//! Grading for LiveCodeBench: right, or as its own grader does.
//!
//! | | [`Mode::Right`] | [`Mode::Compatible`] |
//! |---|---|---|
//! | standard input | a process a test with a real one | one interpreter, a stand-in |
//! | functions | a `Solution` a call, tuples are lists | one `Solution`, outermost tuple a list |
//! | numbers of functions | 1e-5 where the question says so | exact |
//! | code | as it stands | after many star imports, `__main__` unwrapped |
//! | names such as `os.getcwd`, modules such as `resource` | there | taken away |
//! | `class Solution` in a program with standard input | allowed | an error |
//!
//! In both modes outputs are compared here, and a program sees inputs alone. Functions have the
//! star imports in both: the site that asks for them has them too.

use ra3_sandbox::value::Value;
use ra3_sandbox::{Arguments, Pool, Program};

use crate::contest;
use crate::contest::compare::accepts;
use crate::contest::function::{self, Calls, MEMORY_BYTES, TEST_S, preamble};
pub use crate::contest::function::{Code, Mode};
use crate::contest::task::Test;
use crate::livecodebench::data::Task;
use crate::outcome::{Fault, Graded, Part};
use crate::records::DataError;

const STANDARD: &str = include_str!("standard.py");
const GUARD: &str = include_str!("guard.py");

/// A problem that is ready to grade.
#[derive(Clone, Debug)]
pub struct Grader {
    /// The problem.
    pub task: Task,
    mode: Mode,
    calls: Option<Calls>,
}

impl Grader {
    /// A problem made ready.
    ///
    /// # Errors
    /// The inputs or outputs of a function are no JSON.
    pub fn new(task: Task, mode: Mode) -> Result<Self, DataError> {
        let calls =
            |method: &String| Calls::new(&task.task_id, &task.question, &task.tests, method);
        let calls = task.function.as_ref().map(calls).transpose()?;
        Ok(Self { task, mode, calls })
    }

    /// The verdict on a program.
    ///
    /// # Errors
    /// The sandbox failed, or there are no tests.
    pub fn grade(&self, program: &str, pool: &Pool) -> Graded {
        match (&self.calls, self.mode) {
            (None, Mode::Right) => self.contest().grade(program, pool),
            _ => Ok(self.codes(program, pool)?.1.into()),
        }
    }

    /// The official grader's codes, up to the first test that fails.
    ///
    /// # Errors
    /// The sandbox failed, or there are no tests.
    pub fn codes(&self, program: &str, pool: &Pool) -> Result<(Vec<Code>, Part), Fault> {
        let (tests, mode) = (&self.task.tests, self.mode);
        if tests.is_empty() {
            return Err(Fault::no_tests());
        }
        let Some(calls) = &self.calls else {
            let is_right = |index: usize, value: &Value| match value {
                Value::Str(text) => accepts(text, &tests[index].output, false),
                _ => false,
            };
            return function::codes(tests, &self.standard(program), is_right, pool);
        };
        let guard = match mode {
            Mode::Right => "",
            Mode::Compatible => GUARD,
        };
        let is_right = |index: usize, value: &Value| calls.accepts(index, value, mode);
        function::codes(tests, &calls.program(program, mode, guard), is_right, pool)
    }

    /// The problem as the contest that it is from has it.
    fn contest(&self) -> contest::task::Task {
        contest::task::Task {
            time_s: TEST_S,
            memory_bytes: MEMORY_BYTES,
            tests: self.task.tests.clone(),
            ..contest::task::Task::new(Some(self.task.task_id.clone()), String::new(), Vec::new())
        }
    }

    fn standard(&self, program: &str) -> Program {
        let literal = |text: &str| Value::Str(text.to_owned()).to_python();
        let input = |test: &Test| Arguments::of(&[Value::Str(test.input.clone())]);
        let names = [&preamble(), program, GUARD].map(literal).join(", ");
        Program {
            source: format!("PREAMBLE, PROGRAM, GUARD = {names}\n{STANDARD}"),
            entry_point: "case".to_owned(),
            inputs: self.task.tests.iter().map(input).collect(),
            check: None,
        }
    }
}
