//! What a model is trained on, of either kind: a function with asserts, or a contest's problem; how
//! it is asked, and what a program for it earns.
//!
//! Not done here: reading problems, and splitting them ([`crate::rlvr::split`]).

use std::borrow::Cow;

use ra3_sandbox::{Clock, End, Pool};

use crate::contest;
use crate::contest::reward::{Scheme, reward};
use crate::grade::{self, Verdict};
use crate::problem::Problem;

/// A problem.
#[derive(Clone, Debug, PartialEq)]
pub enum Exercise {
    /// A function: a model goes on with its prompt.
    Function(Problem),
    /// A contest's: a model writes the whole program after its prompt.
    Contest(contest::task::Task),
}

impl Exercise {
    /// Functions as exercises.
    pub fn of_functions(problems: Vec<Problem>) -> Vec<Self> {
        problems.into_iter().map(Self::Function).collect()
    }

    /// Contests' problems as exercises: those that have tests.
    pub fn of_contests(tasks: Vec<contest::task::Task>) -> Vec<Self> {
        let tasks = tasks.into_iter().filter(|task| !task.tests.is_empty());
        tasks.map(Self::Contest).collect()
    }

    /// The function, if it is one.
    pub fn function(&self) -> Option<&Problem> {
        match self {
            Self::Function(problem) => Some(problem),
            Self::Contest(_) => None,
        }
    }

    /// Its name.
    pub fn task_id(&self) -> &str {
        match self {
            Self::Function(problem) => &problem.task_id,
            Self::Contest(task) => &task.task_id,
        }
    }

    /// A name for tables by family; empty where there is none.
    pub fn family(&self) -> &str {
        match self {
            Self::Function(problem) => &problem.family,
            Self::Contest(_) => "",
        }
    }

    /// The text that a model continues.
    pub fn prompt(&self) -> Cow<'_, str> {
        match self {
            Self::Function(problem) => Cow::Borrowed(&problem.prompt),
            Self::Contest(task) => Cow::Owned(contest::prompt::base(task)),
        }
    }

    /// What is asked, without what many prompts share.
    pub(crate) fn question(&self) -> &str {
        match self {
            Self::Function(problem) => {
                let prompt = problem.prompt.as_str();
                let rest = prompt.strip_prefix(problem.prelude.trim_end());
                rest.unwrap_or(prompt)
            }
            Self::Contest(task) => &task.statement,
        }
    }
}

/// An exercise that is ready to grade.
#[derive(Clone, Debug, PartialEq)]
pub enum Grader {
    /// A function's.
    Function(grade::Grader),
    /// A contest's.
    Contest(contest::grade::Grader),
}

/// What a program came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Graded {
    /// Which test it failed, and how.
    pub verdict: Verdict,
    /// What it earns.
    pub reward: f64,
}

/// Makes exercises ready, in their order.
pub fn prepare(exercises: &[Exercise], pool: &Pool) -> Vec<Grader> {
    // Tests of functions are taken apart together.
    let functions: Vec<Problem> = exercises
        .iter()
        .filter_map(|exercise| match exercise {
            Exercise::Function(problem) => Some(problem.clone()),
            Exercise::Contest(_) => None,
        })
        .collect();
    let mut functions = grade::prepare(&functions, pool).into_iter();
    let grader = |exercise: &Exercise| match exercise {
        Exercise::Function(_) => Grader::Function(functions.next().expect("one a function")),
        Exercise::Contest(task) => Grader::Contest(contest::grade::Grader { task: task.clone() }),
    };
    exercises.iter().map(grader).collect()
}

impl Grader {
    /// What a text after the prompt comes to, and whether a busy machine may have made it fail.
    fn grade(&self, text: &str, scheme: Scheme, pool: &Pool) -> (Graded, bool) {
        match self {
            Self::Function(grader) => {
                let result = pool.run(&grader.program(text));
                let verdict = grader.judge(&result);
                let reward = scheme.of(verdict == Verdict::Passed, grader.share(&result));
                let is_chance = matches!(
                    result.end,
                    End::TimedOut(Clock::Wall) | End::Infrastructure { .. }
                );
                (Graded { verdict, reward }, is_chance)
            }
            Self::Contest(grader) => {
                let graded = grader.outcome(text, scheme, pool);
                // Without tests there is nothing to earn.
                let reward = reward(graded.outcome, scheme).unwrap_or_default();
                let verdict = graded.verdict;
                (Graded { verdict, reward }, graded.is_chance)
            }
        }
    }
}

/// Grades texts after their prompts, in their order; what a busy machine may have made fail is
/// graded once more, alone.
pub fn grade_all(items: &[(&Grader, String)], scheme: Scheme, pool: &Pool) -> Vec<Graded> {
    let grade = |(grader, text): &(&Grader, String)| grader.grade(text, scheme, pool);
    let graded = pool.map(items, grade, &mut |_| {});
    let once_more = |(item, (graded, is_chance))| if is_chance { grade(item).0 } else { graded };
    items.iter().zip(graded).map(once_more).collect()
}
