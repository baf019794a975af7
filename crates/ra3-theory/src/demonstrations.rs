//! Experts, and what is kept of a set of options after watching them.
//!
//! An expert acts greedily on the exact values of the candidate options; a noisy one takes a random
//! option instead with some probability. Ties go to the option that comes first in the list.

use crate::draws::Draws;
use crate::families::Modelled;

/// How often each option was used in some demonstrations.
#[derive(Clone, Debug, PartialEq)]
pub struct Uses {
    /// `[option]`.
    pub counts: Vec<usize>,
}

/// Longest demonstration in decisions: far more than an optimal one takes.
const DECISIONS_MAX: usize = 60;

/// The expert's policies, `[task][state]`, over all options of the list.
pub fn experts(modelled: &Modelled<'_>) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..modelled.courses.len()).collect();
    let of_task = |task| {
        let smdp = modelled.smdp(task, &all);
        smdp.greedy(&smdp.optimal())
    };
    (0..modelled.models.len()).map(of_task).collect()
}

impl Uses {
    /// None so far.
    pub fn none(n_options: usize) -> Self {
        Self {
            counts: vec![0; n_options],
        }
    }

    /// Watches one demonstration on a task drawn from the pool.
    pub fn watch(
        &mut self,
        modelled: &Modelled<'_>,
        experts: &[Vec<usize>],
        noise: f64,
        draws: &mut Draws,
    ) {
        let task = draws.below(experts.len());
        let mdp = &modelled.family.tasks[task];
        let mut state = modelled.family.start;
        for _ in 0..DECISIONS_MAX {
            if mdp.is_terminal(state) {
                return;
            }
            let option = if draws.chance(noise) {
                draws.below(modelled.courses.len())
            } else {
                experts[task][state]
            };
            self.counts[option] += 1;
            state = modelled.courses[option].run(mdp, state, draws).1;
        }
    }

    /// The options that were used at least once, by index.
    pub fn seen(&self) -> Vec<usize> {
        let used = |option: &usize| self.counts[*option] > 0;
        (0..self.counts.len()).filter(used).collect()
    }

    /// The options from the most used to the least; equals in the order of the list.
    pub fn ranked(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.counts.len()).collect();
        order.sort_by_key(|option| std::cmp::Reverse(self.counts[*option]));
        order
    }
}
