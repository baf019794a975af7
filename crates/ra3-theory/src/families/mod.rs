//! Families of tasks that share structure: `p(M)` is uniform over a pool of tasks, so that every
//! expectation over tasks is a plain mean. Each family has primitive actions and candidate options.

pub mod chain;
pub mod corridors;
pub mod program;
pub mod ring;
pub mod rooms;

use crate::mdp::Mdp;
use crate::option::{Course, OptionModel};
use crate::smdp::Smdp;

/// Tasks that share states, primitive actions and options, and differ in what they reward.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name in figures.
    pub name: &'static str,
    /// The pool; `p(M)` is uniform over it.
    pub tasks: Vec<Mdp>,
    /// The state in which every task starts.
    pub start: usize,
    /// Candidate options besides the primitive actions.
    pub options: Vec<Course>,
}

impl Family {
    /// The primitive actions as options of one step.
    pub fn primitives(&self) -> Vec<Course> {
        (0..self.tasks[0].n_actions())
            .map(Course::primitive)
            .collect()
    }

    /// The tasks with exact models of some options in each.
    pub fn with(&self, courses: Vec<Course>) -> Modelled<'_> {
        let of_task = |mdp| {
            courses
                .iter()
                .map(|course: &Course| course.model(mdp))
                .collect()
        };
        let models: Vec<Vec<OptionModel>> = self.tasks.iter().map(of_task).collect();
        Modelled {
            family: self,
            courses,
            models,
        }
    }
}

/// A family with a list of options and their models.
#[derive(Clone, Debug)]
pub struct Modelled<'a> {
    /// The family.
    pub family: &'a Family,
    /// The options.
    pub courses: Vec<Course>,
    /// `[task][option]`.
    pub models: Vec<Vec<OptionModel>>,
}

impl Modelled<'_> {
    /// A task with a subset of the options, by their indices in the list.
    pub fn smdp(&self, task: usize, kept: &[usize]) -> Smdp<'_> {
        let models = kept.iter().map(|option| &self.models[task][*option]);
        Smdp::new(&self.family.tasks[task], models.collect())
    }

    /// `V*_Ẑ` at the start of each task; 0 for an empty set, with which nothing can be done.
    pub fn best_values(&self, kept: &[usize]) -> Vec<f64> {
        let start = self.family.start;
        let value = |task| {
            if kept.is_empty() {
                0.0
            } else {
                self.smdp(task, kept).optimal()[start]
            }
        };
        (0..self.models.len()).map(value).collect()
    }
}
