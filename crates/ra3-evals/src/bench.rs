//! A benchmark or problem set by its name, ready to grade whole programs.
//!
//! The variant is part of the name: scores of MBPP, sanitized MBPP and MBPP+ are not comparable.

use std::collections::BTreeMap;
use std::path::Path;

use ra3_sandbox::{Limits, Pool};

use crate::contest;
use crate::evalplus::data::{self, Benchmark, DataError, Rules};
use crate::evalplus::oracle::{self, OracleError};
use crate::evalplus::{self};
use crate::grade::{self, Purpose};
use crate::livecodebench::{self, Mode};
use crate::mbpp;
use crate::outcome::Verdict;
use crate::problem::{self, Problem};
use crate::rlvr::usable::keep_usable;
use crate::rlvr::{assert_lists, leetcode, mbpp_train, puzzles};

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

/// A task that is ready to grade.
#[derive(Debug)]
pub enum Task {
    /// Of HumanEval+ or MBPP+.
    Plus(Box<evalplus::grade::Grader>),
    /// A function with asserts.
    Function(Problem, Box<grade::Grader>),
    /// Of MBPP, with what its prompt is made of.
    Mbpp(mbpp::Task, Box<grade::Grader>),
    /// Of LiveCodeBench.
    LiveCodeBench(Box<livecodebench::grade::Grader>),
    /// Of a contest.
    Contest(Box<contest::grade::Grader>),
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
    /// MBPP's tasks that its prompts show.
    shots: Vec<mbpp::Task>,
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
    let reward = Purpose::Reward;
    let mut shots = Vec::new();
    let (version, checksum, tasks) = match name {
        Name::HumanEvalPlus => plus(Benchmark::HumanEval, rules, path, pool, cache, on_done)?,
        Name::MbppPlus => plus(Benchmark::Mbpp, rules, path, pool, cache, on_done)?,
        Name::HumanEval => {
            let (problems, checksum) = problem::read(path)?;
            let tasks = functions(problems, reward, pool);
            ("HumanEval".to_owned(), checksum, tasks)
        }
        Name::Mbpp => {
            let (tasks, checksum) = mbpp::read(path)?;
            let (tested, others): (Vec<_>, Vec<_>) =
                tasks.into_iter().partition(mbpp::Task::is_of_test_split);
            shots = others;
            let (version, tasks) = mbpp_tasks(tested, pool);
            (version, checksum, tasks)
        }
        Name::LiveCodeBench(mode) => live_code_bench(mode, path)?,
        Name::Contest(selection) => contest_tasks(selection, path, pool)?,
        Name::LeetCode => {
            let (problems, checksum) = leetcode::read(path)?;
            let (count, tasks) = usable("problems", problems, pool);
            (format!("LeetCodeDataset, {count}"), checksum, tasks)
        }
        Name::MbppTrain => {
            let (problems, dropped, checksum) = mbpp_train::read(path)?;
            let version = format!(
                "MBPP 511 to 974, less {} of MBPP+ and {} like what is tested",
                dropped.n_of_mbpp_plus, dropped.n_twins
            );
            (version, checksum, functions(problems, reward, pool))
        }
        Name::Puzzles => {
            let (problems, checksum) = puzzles::read(path)?;
            let version = format!("{} puzzles", problems.len());
            (version, checksum, functions(problems, reward, pool))
        }
        Name::AssertLists => {
            let (problems, checksum) = assert_lists::read(path)?;
            let (count, tasks) = usable("questions", problems, pool);
            (count, checksum, tasks)
        }
    };
    let graded_as = match (name, rules) {
        (Name::HumanEvalPlus | Name::MbppPlus, Rules::Of2024) => {
            format!("{}, rules of 2024", name.text())
        }
        _ => name.text().to_owned(),
    };
    Ok(Bench {
        name,
        graded_as,
        version,
        checksum,
        tasks,
        shots,
    })
}

/// The problems of a set that can be graded here, and how many those and the others are.
fn usable(noun: &str, mut problems: Vec<Problem>, pool: &Pool) -> (String, BTreeMap<String, Task>) {
    let left_out = keep_usable(&mut problems, |problem| Some(problem), pool);
    let others = left_out.first().map_or(String::new(), |first| {
        format!(", {} left out ({})", left_out.len(), first.reason)
    });
    let count = format!("{} {noun}{others}", problems.len());
    (count, functions(problems, Purpose::Reward, pool))
}

/// Version, checksum and tasks.
type Loaded = (String, String, BTreeMap<String, Task>);

fn plus(
    benchmark: Benchmark,
    rules: Rules,
    path: &Path,
    pool: &Pool,
    cache: Option<&Path>,
    on_done: &mut dyn FnMut(usize),
) -> Result<Loaded, BenchError> {
    let dataset = data::read(path, benchmark, rules)?;
    let version = match rules {
        Rules::Current => dataset.version.clone(),
        Rules::Of2024 => format!("{}, rules of 2024", dataset.version),
    };
    let checksum = dataset.checksum.clone();
    let expected = oracle::expected(&dataset, pool, cache, on_done)?;
    let task =
        |grader: evalplus::grade::Grader| (grader.task.task_id.clone(), Task::Plus(grader.into()));
    let graders = evalplus::grade::graders(dataset, expected).into_iter();
    Ok((version, checksum, graders.map(task).collect()))
}

fn functions(problems: Vec<Problem>, purpose: Purpose, pool: &Pool) -> BTreeMap<String, Task> {
    let graders = grade::prepare_for(&problems, purpose, pool);
    let task = |(problem, grader): (Problem, grade::Grader)| {
        (
            problem.task_id.clone(),
            Task::Function(problem, grader.into()),
        )
    };
    problems.into_iter().zip(graders).map(task).collect()
}

/// The version, and the tasks that models are tested on: 500 of all, 257 of the sanitized ones.
fn mbpp_tasks(tasks: Vec<mbpp::Task>, pool: &Pool) -> (String, BTreeMap<String, Task>) {
    let kind = match tasks.len() {
        257 => "MBPP sanitized",
        _ => "MBPP",
    };
    let version = format!("{kind}, test part, {} tasks", tasks.len());
    let problems: Vec<Problem> = tasks.iter().map(mbpp::Task::problem).collect();
    let graders = grade::prepare_for(&problems, Purpose::Benchmark, pool);
    let task = |(task, grader): (mbpp::Task, grade::Grader)| {
        (task.task_id(), Task::Mbpp(task, grader.into()))
    };
    let tasks = tasks.into_iter().zip(graders).map(task).collect();
    (version, tasks)
}

fn live_code_bench(mode: Mode, path: &Path) -> Result<Loaded, BenchError> {
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
    let task = |task: livecodebench::data::Task| {
        let task_id = task.task_id.clone();
        let grader = livecodebench::grade::Grader::new(task, mode)?;
        Ok((task_id, Task::LiveCodeBench(grader.into())))
    };
    let tasks: Result<_, DataError> = tasks.into_iter().map(task).collect();
    Ok((version, checksum, tasks?))
}

fn contest_tasks(selection: Selection, path: &Path, pool: &Pool) -> Result<Loaded, BenchError> {
    let (mut tasks, checksum) = contest::records::read(path)?;
    let n_cut: usize = tasks.iter().map(|task| task.n_tests_cut).sum();
    let n_rated = tasks.iter().filter(|task| task.rating.is_some()).count();
    let rule = match selection {
        Selection::All => "all tests",
        Selection::DeepCoder => "DeepCoder's choice of tests",
    };
    let mut version = format!(
        "{} contest problems, {rule}, {n_cut} tests cut short in the source left out, {n_rated} \
         with ratings: no percentile without a contest's standings",
        tasks.len()
    );
    // What has no test can be neither passed nor failed.
    tasks.retain(|task| !task.tests.is_empty());
    let is_sound = |task: &contest::task::Task| contest::grade::checker_fault(task, pool).is_none();
    let sound = pool.map(&tasks, is_sound, &mut |_| {});
    let faulty = tasks.iter().zip(&sound).filter(|(_, is_sound)| !**is_sound);
    let faulty: Vec<&str> = faulty.map(|(task, _)| task.task_id.as_str()).collect();
    if !faulty.is_empty() {
        let names = faulty.join(", ");
        version += &format!("; left out, since their checkers are broken: {names}");
    }
    let sound = tasks.into_iter().zip(sound);
    let tasks = sound.filter_map(|(task, is_sound)| is_sound.then_some(task));
    let task = |task: contest::task::Task| {
        let task = match selection {
            Selection::All => task,
            Selection::DeepCoder => task.by_rule_of_deepcoder(),
        };
        let task_id = task.task_id.clone();
        let grader = contest::grade::Grader { task };
        (task_id, Task::Contest(grader.into()))
    };
    Ok((version, checksum, tasks.map(task).collect()))
}

impl Bench {
    /// Its tasks in the order of their names.
    pub fn task_ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// MBPP's tasks that are not tested, of which its prompts show some; none of other benchmarks.
    pub(crate) fn shots(&self) -> &[mbpp::Task] {
        &self.shots
    }

    /// A task by its name.
    pub fn task(&self, task_id: &str) -> Option<&Task> {
        self.tasks.get(task_id)
    }

    /// Leaves the tasks of a time: from and to are dates such as `2024-08-01`, both included. The
    /// number of tasks whose date is not known, which are left out too.
    pub fn keep_window(&mut self, from: Option<&str>, to: Option<&str>) -> usize {
        let n_before = self.tasks.len();
        let date = |task: &Task| match task {
            Task::LiveCodeBench(grader) => grader.task.date.get(..10).map(str::to_owned),
            Task::Plus(_) | Task::Function(..) | Task::Mbpp(..) | Task::Contest(_) => None,
        };
        self.tasks.retain(|_, task| date(task).is_some());
        let n_unknown = n_before - self.tasks.len();
        self.tasks.retain(|_, task| {
            let date = date(task).unwrap_or_default();
            from.is_none_or(|from| date.as_str() >= from) && to.is_none_or(|to| date.as_str() <= to)
        });
        self.version += &format!(
            ", window {} to {}",
            from.unwrap_or("the first"),
            to.unwrap_or("the last")
        );
        n_unknown
    }

    /// Seconds that a right program takes for a task, where that is known: long ones are best
    /// graded first.
    pub fn right_s(&self, task_id: &str) -> Option<f64> {
        match self.tasks.get(task_id)? {
            Task::Plus(grader) => Some(grader.right_s()),
            Task::Function(..) | Task::Mbpp(..) | Task::LiveCodeBench(_) | Task::Contest(_) => None,
        }
    }

    /// Grades a whole program for a task of this benchmark.
    pub fn grade(&self, task_id: &str, program: &str, pool: &Pool) -> Option<Verdict> {
        let limits = self.name.limits();
        Some(match self.tasks.get(task_id)? {
            Task::Plus(grader) => grader.grade(program, pool),
            Task::Function(_, grader) | Task::Mbpp(_, grader) => {
                grader.grade_whole(program, limits, pool)
            }
            Task::LiveCodeBench(grader) => grader.grade(program, pool),
            Task::Contest(grader) => grader.grade(program, pool),
        })
    }
}

impl Task {
    /// What a published completion follows; empty where an answer is a whole program.
    pub fn preamble(&self) -> &str {
        match self {
            Self::Function(problem, _) => problem.preamble.as_ref().unwrap_or(&problem.prompt),
            Self::Plus(_) | Self::Mbpp(..) | Self::LiveCodeBench(_) | Self::Contest(_) => {
                self.prompt()
            }
        }
    }

    /// What a model continues; empty where an answer is a whole program.
    pub fn prompt(&self) -> &str {
        match self {
            Self::Plus(grader) => &grader.task.prompt,
            Self::Function(problem, _) => &problem.prompt,
            Self::Mbpp(..) | Self::LiveCodeBench(_) | Self::Contest(_) => "",
        }
    }

    /// The function or class that a program should define, where the data say so.
    pub fn defines(&self) -> Option<String> {
        match self {
            Self::Plus(grader) => Some(grader.task.entry_point.clone()),
            Self::Function(problem, _) => {
                let name = problem.entry_point.split(['(', '.']).next();
                name.map(str::to_owned)
            }
            Self::Mbpp(task, _) => task.function(),
            Self::LiveCodeBench(_) | Self::Contest(_) => None,
        }
    }

    /// A right program, where the data have one.
    pub fn canonical(&self) -> Option<String> {
        match self {
            Self::Plus(grader) => {
                let task = &grader.task;
                Some(format!("{}{}", task.prompt, task.canonical_solution))
            }
            Self::Function(problem, _) => {
                Some(format!("{}{}", problem.prompt, problem.canonical_solution))
            }
            Self::Mbpp(task, _) => Some(task.code.clone()),
            Self::LiveCodeBench(_) | Self::Contest(_) => None,
        }
    }
}
