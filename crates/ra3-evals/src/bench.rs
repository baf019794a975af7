//! A benchmark by its name, ready to grade whole programs.
//!
//! The variant is part of the name: scores of MBPP, sanitized MBPP and MBPP+ are not comparable.

use std::collections::BTreeMap;
use std::path::Path;

use ra3_sandbox::{Limits, Pool};

use crate::evalplus::data::{self, Benchmark, DataError, Rules};
use crate::evalplus::oracle::{self, OracleError};
use crate::evalplus::{self};
use crate::grade;
use crate::mbpp;
use crate::outcome::Verdict;
use crate::problem::{self, Problem, ProblemError};

/// Which benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// HumanEval+: base tests and further ones.
    HumanEvalPlus,
    /// MBPP+: base tests and further ones.
    MbppPlus,
    /// HumanEval as published.
    HumanEval,
    /// MBPP as published, or sanitized, by the file.
    Mbpp,
}

impl Name {
    /// As on the command line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::HumanEvalPlus => "humaneval+",
            Self::MbppPlus => "mbpp+",
            Self::HumanEval => "humaneval",
            Self::Mbpp => "mbpp",
        }
    }

    /// All names.
    pub const ALL: [Self; 4] = [
        Self::HumanEvalPlus,
        Self::MbppPlus,
        Self::HumanEval,
        Self::Mbpp,
    ];

    /// Limits of one program: HumanEval's 3 s, and the 10 s that MBPP is mostly graded with; the
    /// benchmarks with further tests have limits of their own.
    pub const fn limits(self) -> Limits {
        let cpu_s = match self {
            Self::HumanEval => 3,
            Self::HumanEvalPlus | Self::MbppPlus | Self::Mbpp => 10,
        };
        Limits {
            cpu_s,
            wall_s: 3.0 * cpu_s as f64,
            memory_bytes: 4 << 30,
            result_bytes_max: 1 << 26,
        }
    }
}

/// Why a benchmark cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Its data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its problems cannot be read.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// Its right programs fail.
    #[error(transparent)]
    Oracle(#[from] OracleError),
    /// Its asserts cannot be taken apart.
    #[error("Mbpp/{number}: its asserts cannot be taken apart: {reason}; check the data file")]
    Asserts {
        /// The task.
        number: u32,
        /// How.
        reason: String,
    },
}

#[derive(Debug)]
enum Task {
    Plus(Box<evalplus::grade::Grader>),
    HumanEval(Problem, Box<grade::Grader>),
    Mbpp(mbpp::Grader),
}

/// A benchmark that is ready.
#[derive(Debug)]
pub struct Bench {
    /// Which.
    pub name: Name,
    /// Name and version of the data.
    pub version: String,
    /// MD5 sum of the uncompressed data.
    pub checksum: String,
    tasks: BTreeMap<String, Task>,
}

/// Reads a benchmark's data and makes it ready.
///
/// # Errors
/// The data cannot be read, or are not what they should be.
pub fn load(
    name: Name,
    rules: Rules,
    path: &Path,
    pool: &Pool,
    cache: Option<&Path>,
    on_done: &mut dyn FnMut(usize),
) -> Result<Bench, BenchError> {
    let bench = |version: &str, checksum: String, tasks| Bench {
        name,
        version: version.to_owned(),
        checksum,
        tasks,
    };
    let benchmark = match name {
        Name::HumanEvalPlus => Benchmark::HumanEval,
        Name::MbppPlus => Benchmark::Mbpp,
        Name::HumanEval => {
            let checksum = data::checksum(&data::read_text(path)?);
            let problems = problem::read(path)?;
            let graders = grade::prepare(&problems, pool);
            let task = |(problem, grader): (Problem, grade::Grader)| {
                (
                    problem.task_id.clone(),
                    Task::HumanEval(problem, grader.into()),
                )
            };
            let tasks = problems.into_iter().zip(graders).map(task).collect();
            return Ok(bench("HumanEval", checksum, tasks));
        }
        Name::Mbpp => {
            let (tasks, checksum) = mbpp::read(path)?;
            let version = match tasks.len() {
                427 => "MBPP sanitized",
                _ => "MBPP",
            };
            let graders = mbpp::prepare(tasks, pool)
                .map_err(|(number, reason)| BenchError::Asserts { number, reason })?;
            let task = |grader: mbpp::Grader| (grader.task.task_id(), Task::Mbpp(grader));
            return Ok(bench(
                version,
                checksum,
                graders.into_iter().map(task).collect(),
            ));
        }
    };
    let dataset = data::read(path, benchmark, rules)?;
    let version = match rules {
        Rules::Current => dataset.version.clone(),
        Rules::Of2024 => format!("{}, rules of 2024", dataset.version),
    };
    let checksum = dataset.checksum.clone();
    let expected = oracle::expected(&dataset, pool, cache, on_done)?;
    let task =
        |grader: evalplus::grade::Grader| (grader.task.task_id.clone(), Task::Plus(grader.into()));
    let tasks = evalplus::grade::graders(dataset, expected)
        .into_iter()
        .map(task);
    Ok(bench(&version, checksum, tasks.collect()))
}

impl Bench {
    /// Its tasks in the order of their names.
    pub fn task_ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// What a completion follows; `None` where there is no such task.
    pub fn prompt(&self, task_id: &str) -> Option<&str> {
        Some(match self.tasks.get(task_id)? {
            Task::Plus(grader) => &grader.task.prompt,
            Task::HumanEval(problem, _) => &problem.prompt,
            // Its prompt shows other tasks: an answer is a whole program.
            Task::Mbpp(_) => "",
        })
    }

    /// The function that a program should define, where the data say so.
    pub fn entry_point(&self, task_id: &str) -> Option<&str> {
        match self.tasks.get(task_id)? {
            Task::Plus(grader) => Some(&grader.task.entry_point),
            Task::HumanEval(problem, _) => Some(&problem.entry_point),
            Task::Mbpp(_) => None,
        }
    }

    /// A right program.
    pub fn canonical(&self, task_id: &str) -> Option<String> {
        Some(match self.tasks.get(task_id)? {
            Task::Plus(grader) => {
                format!("{}{}", grader.task.prompt, grader.task.canonical_solution)
            }
            Task::HumanEval(problem, _) => {
                format!("{}{}", problem.prompt, problem.canonical_solution)
            }
            Task::Mbpp(grader) => grader.task.code.clone(),
        })
    }

    /// Grades a whole program for a task of this benchmark.
    pub fn grade(&self, task_id: &str, program: &str, pool: &Pool) -> Option<Verdict> {
        let limits = self.name.limits();
        Some(match self.tasks.get(task_id)? {
            Task::Plus(grader) => grader.grade(program, pool),
            Task::HumanEval(_, grader) => grader.grade_whole(program, limits, pool),
            Task::Mbpp(grader) => grader.grade(program, limits, pool),
        })
    }
}
