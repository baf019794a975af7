//! A problem that a program can be graded on, whatever it is from: its names, what a program for it
//! is like, and what one comes to.
//!
//! Not done here: reading problems ([`crate::bench`]), and asking models ([`crate::prompt`]).

use chrono::NaiveDate;
use ra3_sandbox::Pool;

use crate::contest::reward::{Scheme, reward};
use crate::grade::{self, Purpose};
use crate::outcome::{Graded, Part};
use crate::problem::Problem;
use crate::{contest, evalplus, livecodebench};

/// A problem.
#[derive(Debug)]
pub enum Task {
    /// Of HumanEval+ or MBPP+.
    Plus(Box<evalplus::grade::Grader>),
    /// A function with asserts.
    Function(Box<grade::Grader>),
    /// Of `LiveCodeBench`.
    LiveCodeBench(Box<livecodebench::grade::Grader>),
    /// Of a contest.
    Contest(Box<contest::task::Task>),
}

impl Task {
    /// Functions with asserts, in their order.
    pub fn functions(problems: Vec<Problem>) -> Vec<Self> {
        let task = |problem| Self::Function(grade::Grader::new(problem).into());
        problems.into_iter().map(task).collect()
    }

    /// Contests' problems, in their order: what has no test can be neither passed nor failed.
    pub fn contests(tasks: Vec<contest::task::Task>) -> Vec<Self> {
        let tasks = tasks.into_iter().filter(|task| !task.tests.is_empty());
        tasks.map(|task| Self::Contest(task.into())).collect()
    }

    /// Takes the tests of functions apart, those of all of them together.
    pub fn prepare(tasks: &mut [Self], purpose: Purpose, pool: &Pool) {
        let functions = tasks.iter_mut().filter_map(|task| match task {
            Self::Function(grader) => Some(&mut **grader),
            Self::Plus(_) | Self::LiveCodeBench(_) | Self::Contest(_) => None,
        });
        grade::prepare(functions, purpose, pool);
    }

    /// The function, if it is one with asserts.
    pub fn function(&self) -> Option<&Problem> {
        match self {
            Self::Function(grader) => Some(&grader.problem),
            Self::Plus(_) | Self::LiveCodeBench(_) | Self::Contest(_) => None,
        }
    }

    /// Its name.
    pub fn task_id(&self) -> &str {
        match self {
            Self::Plus(grader) => &grader.task.task_id,
            Self::Function(grader) => &grader.problem.task_id,
            Self::LiveCodeBench(grader) => &grader.task.task_id,
            Self::Contest(task) => &task.task_id,
        }
    }

    /// A name for tables by family; empty where there is none.
    pub fn family(&self) -> &str {
        self.function().map_or("", |problem| &problem.family)
    }

    /// The day that it was asked, such as `2024-08-01`, where that is known.
    pub fn date(&self) -> Option<&str> {
        match self {
            Self::LiveCodeBench(grader) => grader.task.date.get(..10),
            Self::Plus(_) | Self::Function(_) | Self::Contest(_) => None,
        }
    }

    /// Seconds that a right program takes, where that is known: long ones are best graded first.
    pub fn right_s(&self) -> Option<f64> {
        match self {
            Self::Plus(grader) => Some(grader.right_s()),
            Self::Function(_) | Self::LiveCodeBench(_) | Self::Contest(_) => None,
        }
    }

    /// What a program begins with, which a base model continues; empty where an answer is a whole
    /// program.
    pub fn beginning(&self) -> &str {
        match self {
            Self::Plus(grader) => &grader.task.prompt,
            Self::Function(grader) => &grader.problem.prompt,
            Self::LiveCodeBench(_) | Self::Contest(_) => "",
        }
    }

    /// What a published completion follows; empty where an answer is a whole program.
    pub fn preamble(&self) -> &str {
        let preamble = self
            .function()
            .and_then(|problem| problem.preamble.as_deref());
        preamble.unwrap_or_else(|| self.beginning())
    }

    /// What is asked, without what many prompts share.
    pub(crate) fn question(&self) -> &str {
        match self {
            Self::Plus(grader) => &grader.task.prompt,
            Self::Function(grader) => {
                let prompt = grader.problem.prompt.as_str();
                let rest = prompt.strip_prefix(grader.problem.prelude.trim_end());
                rest.unwrap_or(prompt)
            }
            Self::LiveCodeBench(grader) => &grader.task.question,
            Self::Contest(task) => &task.statement,
        }
    }

    /// The function or class that a program should define, where the data say so.
    pub fn defines(&self) -> Option<&str> {
        match self {
            Self::Plus(grader) => Some(&grader.task.entry_point),
            Self::Function(grader) => {
                let name = grader.problem.entry_point.split(['(', '.']).next();
                name.filter(|name| !name.is_empty())
            }
            Self::LiveCodeBench(_) | Self::Contest(_) => None,
        }
    }

    /// A right program, where the data have one.
    pub fn canonical(&self) -> Option<String> {
        match self {
            Self::Plus(grader) => Some(grader.task.canonical()),
            Self::Function(grader) => Some(grader.problem.canonical()),
            Self::LiveCodeBench(_) | Self::Contest(_) => None,
        }
    }

    /// The verdict on a whole program.
    ///
    /// # Errors
    /// The sandbox failed, or the problem's checker is broken.
    pub fn grade(&self, program: &str, pool: &Pool) -> Graded {
        match self {
            Self::Plus(grader) => grader.grade(program, pool),
            Self::Function(grader) => grader.grade(program, pool),
            Self::LiveCodeBench(grader) => grader.grade(program, pool),
            Self::Contest(task) => task.grade(program, pool),
        }
    }

    /// The verdict on a whole program for a reward, which may need all tests.
    ///
    /// # Errors
    /// As [`Self::grade`].
    pub fn grade_for(&self, scheme: Scheme, program: &str, pool: &Pool) -> Graded {
        match self {
            Self::Contest(task) => task.grade_for(scheme, program, pool),
            Self::Plus(_) | Self::Function(_) | Self::LiveCodeBench(_) => self.grade(program, pool),
        }
    }

    /// What a program earns that came to this on its base tests.
    pub fn reward(&self, scheme: Scheme, program: &str, part: &Part) -> f64 {
        match self {
            Self::Contest(_) => reward(program, part, scheme),
            Self::Plus(_) | Self::Function(_) | Self::LiveCodeBench(_) => scheme.of(part),
        }
    }
}

/// True for a day of the calendar as dates of tasks have it, such as `2024-08-01`: so written, they
/// are in the order of their texts.
pub fn is_day(text: &str) -> bool {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d");
    // Days are compared as texts, so there is one way to write each.
    day.is_ok_and(|day| day.format("%Y-%m-%d").to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        for day in ["2024-08-01", "2024-02-29", "2000-02-29", "2023-12-31"] {
            assert!(is_day(day), "{day}");
        }
        for no_day in [
            "2024-13-45",
            "2023-02-29",
            "1900-02-29",
            "2024-04-31",
            "2024-00-10",
            "2024-01-00",
            "2024-8-1",
            "2024-08",
            "yesterday",
            "",
            "+024-08-01",
            "2024-08-01T00:00",
            "2024-08- 1",
            "２024-01-01",
        ] {
            assert!(!is_day(no_day), "{no_day}");
        }
    }
}
