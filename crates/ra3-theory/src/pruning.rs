//! Bad options, and how many demonstrations prune them all.
//!
//! Definitions, which are ours where the paper leaves room:
//! - The *cost* of option `z` of kind `k` on task `M` is `V*_M − V*_{M, z}` at the start, where in
//!   the second value `z` is the only option of its kind that is kept and other kinds keep all of
//!   theirs.
//! - `z` is *(ε, σ)-bad* if its cost exceeds ε on at least a share σ of tasks.
//! - A *whole-task demonstration* shows the learner a task drawn from `p(M)` so well that every
//!   option that costs more than ε on it is known, and pruned.
//! - A *one-decision demonstration* draws a task and one of the `|Z|` options and compares only
//!   that one with the expert's choice.
//!
//! By the union bound, all `B` bad options are pruned with probability `1 − δ` after
//! `log(B / δ) / σ` whole-task demonstrations, and after `|Z| log(B / δ) / σ` one-decision ones.

use crate::draws::Draws;
use crate::families::corridors::Layout;
use crate::mdp::Mdp;
use crate::option::{Course, OptionModel};
use crate::smdp::Smdp;

/// `[option][task]`: whether the option costs more than ε on the task.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    exceeds: Vec<Vec<bool>>,
}

/// What one demonstration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demonstration {
    /// All about one task.
    WholeTask,
    /// One option on one task.
    OneDecision,
}

impl Costs {
    /// The exact costs in corridors, by evaluating for each lane the policy that walks it at its
    /// own junction and the best lane at every other.
    pub fn in_corridors(layout: &Layout, tasks: &[Mdp], epsilon: f64) -> Self {
        let mut exceeds = vec![Vec::with_capacity(tasks.len()); layout.n_options()];
        for mdp in tasks {
            let models: Vec<OptionModel> = (0..layout.n_lanes)
                .map(|lane| Course::primitive(lane).model(mdp))
                .collect();
            let smdp = Smdp::new(mdp, models.iter().collect());
            let best = smdp.optimal();
            let expert = smdp.greedy(&best);
            for (option, row) in exceeds.iter_mut().enumerate() {
                let mut policy = expert.clone();
                policy[option / layout.n_lanes] = option % layout.n_lanes;
                row.push(best[0] - smdp.evaluate(&policy)[0] > epsilon);
            }
        }
        Self { exceeds }
    }

    /// `|Z|`.
    pub fn n_options(&self) -> usize {
        self.exceeds.len()
    }

    /// The options that are bad on at least a share `sigma` of the tasks.
    pub fn bad(&self, sigma: f64) -> Vec<usize> {
        let share =
            |row: &[bool]| row.iter().filter(|exceeds| **exceeds).count() as f64 / row.len() as f64;
        (0..self.n_options())
            .filter(|option| share(&self.exceeds[*option]) >= sigma - 1e-12)
            .collect()
    }

    /// Demonstrations until every option of `bad` is pruned.
    pub fn wait(&self, bad: &[usize], kind: Demonstration, draws: &mut Draws) -> usize {
        let n_tasks = self.exceeds[0].len();
        let mut left: Vec<usize> = bad.to_vec();
        let mut is_left = vec![false; self.n_options()];
        bad.iter().for_each(|option| is_left[*option] = true);
        let (mut n_left, mut n_demonstrations) = (bad.len(), 0);
        while n_left > 0 {
            n_demonstrations += 1;
            let task = draws.below(n_tasks);
            match kind {
                Demonstration::WholeTask => {
                    left.retain(|option| !self.exceeds[*option][task]);
                    n_left = left.len();
                }
                Demonstration::OneDecision => {
                    let option = draws.below(self.n_options());
                    if is_left[option] && self.exceeds[option][task] {
                        is_left[option] = false;
                        n_left -= 1;
                    }
                }
            }
        }
        n_demonstrations
    }
}

/// The number of demonstrations that the union bound asks for.
pub fn bound(kind: Demonstration, n_options: usize, n_bad: usize, delta: f64, sigma: f64) -> f64 {
    let tests = (n_bad as f64 / delta).ln() / sigma;
    match kind {
        Demonstration::WholeTask => tests,
        Demonstration::OneDecision => n_options as f64 * tests,
    }
}
