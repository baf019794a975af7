//! A benchmark or problem set by its name, ready to grade whole programs.
//!
//! The variant is part of the name: scores of MBPP, sanitized MBPP and MBPP+ are not comparable.

use std::collections::BTreeMap;
use std::path::Path;

use ra3_sandbox::{Limits, Pool};

use crate::contest;
use crate::evalplus::data::{self, Benchmark, Rules};
use crate::evalplus::oracle::{self, OracleError};
use crate::evalplus::{self};
use crate::grade::Purpose;
use crate::livecodebench::{self, Mode};
use crate::mbpp;
use crate::problem;
use crate::records::DataError;
use crate::rlvr::usable::{keep_checked, keep_usable};
use crate::rlvr::{assert_lists, leetcode, mbpp_train, puzzles};
use crate::task::Task;

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
    /// LiveCodeBench's code generation.
    LiveCodeBench(Mode),
    /// Contest problems from standard input to standard output.
    Contest(Selection),
    /// LeetCodeDataset.
    LeetCode,
    /// MBPP's training part without what MBPP+ tests.
    MbppTrain,
    /// Python Programming Puzzles.
    Puzzles,
    /// Questions with lists of asserts.
    AssertLists,
}

/// Which tests of a contest's problem count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All, within the problem's limits.
    All,
    /// The fifteen with the longest inputs, 12 s each.
    DeepCoder,
}

impl Name {
    /// As on the command line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::HumanEvalPlus => "humaneval+",
            Self::MbppPlus => "mbpp+",
            Self::HumanEval => "humaneval",
            Self::Mbpp => "mbpp",
            Self::LiveCodeBench(Mode::Right) => "livecodebench",
            Self::LiveCodeBench(Mode::Compatible) => "livecodebench-compatible",
            Self::Contest(Selection::All) => "codeforces",
            Self::Contest(Selection::DeepCoder) => "codeforces-deepcoder",
            Self::LeetCode => "leetcode",
            Self::MbppTrain => "mbpp-train",
            Self::Puzzles => "puzzles",
            Self::AssertLists => "asserts",
        }
    }

    /// All names.
    pub const ALL: [Self; 12] = [
        Self::HumanEvalPlus,
        Self::MbppPlus,
        Self::HumanEval,
        Self::Mbpp,
        Self::LiveCodeBench(Mode::Right),
        Self::LiveCodeBench(Mode::Compatible),
        Self::Contest(Selection::All),
        Self::Contest(Selection::DeepCoder),
        Self::LeetCode,
        Self::MbppTrain,
        Self::Puzzles,
        Self::AssertLists,
    ];

    /// The benchmark of this name.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.text() == text)
    }

    /// Limits of one program: HumanEval's 3 s, and the 10 s that MBPP is mostly graded with; the
    /// benchmarks with further tests and the contests have limits of their own.
    pub const fn limits(self) -> Limits {
        let cpu_s = match self {
            Self::HumanEval => 3,
            _ => 10,
        };
        Limits {
            cpu_s,
            // What missed it is graded once more: no sample takes more than twice as long as there.
            wall_s: cpu_s as f64,
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
    /// Its right programs fail.
    #[error(transparent)]
    Oracle(#[from] OracleError),
}

/// Tasks as a file has them, in its order.
#[derive(Debug)]
pub struct Read {
    /// They.
    pub tasks: Vec<Task>,
    /// Name and version of the data.
    pub version: String,
    /// MD5 sum of the uncompressed data.
    pub checksum: String,
}

/// A benchmark that is ready.
#[derive(Debug)]
pub struct Bench {
    /// Which.
    pub name: Name,
    /// The benchmark's name, and its rules where there is a choice: results of others do not mix.
    pub graded_as: String,
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
    let benchmark = match name {
        Name::HumanEvalPlus => Some(Benchmark::HumanEval),
        Name::MbppPlus => Some(Benchmark::Mbpp),
        _ => None,
    };
    let (mut read, graded_as) = match benchmark {
        Some(benchmark) => {
            let read = plus(benchmark, rules, path, pool, cache, on_done)?;
            (
                with_tasks(read, path)?,
                format!("{}{}", name.text(), rules.suffix()),
            )
        }
        None => (self::read(name, path)?, name.text().to_owned()),
    };
    make_gradable(name, &mut read, pool);
    let task = |task: Task| (task.task_id().to_owned(), task);
    Ok(Bench {
        name,
        graded_as,
        version: read.version,
        checksum: read.checksum,
        tasks: read.tasks.into_iter().map(task).collect(),
    })
}

/// Leaves out what cannot be graded here, which the version says, and takes tests apart.
fn make_gradable(name: Name, read: &mut Read, pool: &Pool) {
    let Read { tasks, version, .. } = read;
    if let Name::LeetCode | Name::AssertLists = name {
        let left_out = keep_usable(tasks, pool);
        let others = left_out.first().map_or(String::new(), |first| {
            format!(", {} left out ({})", left_out.len(), first.reason)
        });
        *version = match name {
            Name::LeetCode => format!("{version}, {} problems{others}", tasks.len()),
            _ => format!("{} questions{others}", tasks.len()),
        };
    }
    let faulty = keep_checked(tasks, pool);
    if !faulty.is_empty() {
        let names: Vec<&str> = faulty.iter().map(|fault| fault.task_id.as_str()).collect();
        let names = names.join(", ");
        *version += &format!("; left out, since their checkers are broken: {names}");
    }
    if name == Name::Contest(Selection::DeepCoder) {
        for task in &mut *tasks {
            if let Task::Contest(task) = task {
                task.keep_by_rule_of_deepcoder();
            }
        }
    }
    let purpose = match name {
        Name::Mbpp => Purpose::Benchmark,
        _ => Purpose::Reward,
    };
    Task::prepare(tasks, purpose, pool);
}

/// Reads the tasks of a file, or of the files of a folder, without running anything.
///
/// # Errors
/// They cannot be read, a record is not of this benchmark, or there is none.
///
/// # Panics
/// HumanEval+ and MBPP+ have no outputs without running something: [`load`] is for them.
pub fn read(name: Name, path: &Path) -> Result<Read, DataError> {
    with_tasks(read_tasks(name, path)?, path)
}

/// Refuses data without tasks: nothing could be said of a model on them.
fn with_tasks(read: Read, path: &Path) -> Result<Read, DataError> {
    if read.tasks.is_empty() {
        let path = path.to_owned();
        return Err(DataError::NoTask(path));
    }
    Ok(read)
}

fn read_tasks(name: Name, path: &Path) -> Result<Read, DataError> {
    let (version, problems, checksum) = match name {
        Name::HumanEvalPlus | Name::MbppPlus => panic!("{} has to be loaded", name.text()),
        Name::LiveCodeBench(mode) => return live_code_bench(mode, path),
        Name::Contest(selection) => return contests(selection, path),
        Name::HumanEval => {
            let (problems, checksum) = problem::read(path)?;
            ("HumanEval".to_owned(), problems, checksum)
        }
        Name::Mbpp => {
            let (tasks, checksum) = mbpp::read(path)?;
            let problems = mbpp::tested(&tasks);
            // 500 of all, 257 of the sanitized ones.
            let kind = match problems.len() {
                257 => "MBPP sanitized",
                _ => "MBPP",
            };
            let version = format!("{kind}, test part, {} tasks", problems.len());
            (version, problems, checksum)
        }
        Name::LeetCode => {
            let (problems, checksum) = leetcode::read(path)?;
            ("LeetCodeDataset".to_owned(), problems, checksum)
        }
        Name::MbppTrain => {
            let (problems, dropped, checksum) = mbpp_train::read(path)?;
            let version = format!(
                "MBPP 511 to 974, less {} of MBPP+ and {} like what is tested",
                dropped.n_of_mbpp_plus, dropped.n_twins
            );
            (version, problems, checksum)
        }
        Name::Puzzles => {
            let (problems, checksum) = puzzles::read(path)?;
            (format!("{} puzzles", problems.len()), problems, checksum)
        }
        Name::AssertLists => {
            let (problems, checksum) = assert_lists::read(path)?;
            (format!("{} questions", problems.len()), problems, checksum)
        }
    };
    Ok(Read {
        tasks: Task::functions(problems),
        version,
        checksum,
    })
}

fn plus(
    benchmark: Benchmark,
    rules: Rules,
    path: &Path,
    pool: &Pool,
    cache: Option<&Path>,
    on_done: &mut dyn FnMut(usize),
) -> Result<Read, BenchError> {
    let dataset = data::read(path, benchmark, rules)?;
    let version = format!("{}{}", dataset.version, rules.suffix());
    let checksum = dataset.checksum.clone();
    let expected = oracle::expected(&dataset, pool, cache, on_done)?;
    let graders = evalplus::grade::graders(dataset, expected).into_iter();
    Ok(Read {
        tasks: graders.map(|grader| Task::Plus(grader.into())).collect(),
        version,
        checksum,
    })
}

fn live_code_bench(mode: Mode, path: &Path) -> Result<Read, DataError> {
    let (tasks, checksum) = livecodebench::data::read(path)?;
    let release = livecodebench::data::release(tasks.len()).unwrap_or("no whole release");
    let dates = || {
        tasks
            .iter()
            .map(|task| task.date.as_str())
            .filter(|date| !date.is_empty())
    };
    let window = match (dates().min(), dates().max()) {
        (Some(first), Some(last)) => format!(", {first:.10} to {last:.10}"),
        _ => String::new(),
    };
    let n_erroneous = tasks.iter().filter(|task| task.is_erroneous).count();
    let errata = if n_erroneous > 0 {
        format!(", {n_erroneous} of them named in its errata")
    } else {
        String::new()
    };
    let version = format!(
        "LiveCodeBench, {release}, {} problems{window}{errata}",
        tasks.len()
    );
    let task = |task| {
        let grader = livecodebench::grade::Grader::new(task, mode)?;
        Ok(Task::LiveCodeBench(grader.into()))
    };
    Ok(Read {
        tasks: tasks
            .into_iter()
            .map(task)
            .collect::<Result<_, DataError>>()?,
        version,
        checksum,
    })
}

fn contests(selection: Selection, path: &Path) -> Result<Read, DataError> {
    let (tasks, checksum) = contest::records::read(path)?;
    let n_cut: usize = tasks.iter().map(|task| task.n_tests_cut).sum();
    let n_rated = tasks.iter().filter(|task| task.rating.is_some()).count();
    let rule = match selection {
        Selection::All => "all tests",
        Selection::DeepCoder => "DeepCoder's choice of tests",
    };
    let version = format!(
        "{} contest problems, {rule}, {n_cut} tests cut short in the source left out, {n_rated} \
         with ratings: no percentile without a contest's standings",
        tasks.len()
    );
    Ok(Read {
        tasks: Task::contests(tasks),
        version,
        checksum,
    })
}

impl Bench {
    /// Its tasks in the order of their names.
    pub fn into_tasks(self) -> Vec<Task> {
        self.tasks.into_values().collect()
    }

    /// Its tasks in the order of their names.
    pub fn task_ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// A task by its name.
    pub fn task(&self, task_id: &str) -> Option<&Task> {
        self.tasks.get(task_id)
    }

    /// Leaves the tasks of a time: from and to are dates such as `2024-08-01`, both included. The
    /// number of tasks whose date is not known, which are left out too.
    pub fn keep_window(&mut self, from: Option<&str>, to: Option<&str>) -> usize {
        let n_before = self.tasks.len();
        self.tasks.retain(|_, task| task.date().is_some());
        let n_unknown = n_before - self.tasks.len();
        self.tasks.retain(|_, task| {
            let date = task.date().unwrap_or_default();
            from.is_none_or(|from| date >= from) && to.is_none_or(|to| date <= to)
        });
        self.version += &format!(
            ", window {} to {}",
            from.unwrap_or("the first"),
            to.unwrap_or("the last")
        );
        n_unknown
    }
}
