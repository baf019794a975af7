//! Q-learning over options: `Q(s, z) += α (R + γ^τ max_z' Q(s', z') − Q(s, z))`.
//!
//! The step size is `1 / (1 + c n)` for the n-th update of a pair. Counted in decisions and in
//! primitive steps, which differ by the options' length.

use crate::draws::Draws;
use crate::mdp::Mdp;
use crate::option::Course;
use crate::smdp::distance;

/// Probability with which [`QLearner::explore`] takes any option.
const EXPLORATION: f64 = 0.2;
/// Primitive steps of its longest episode.
const EPISODE_STEPS_MAX: usize = 100;

/// A table of option values that learns.
#[derive(Clone, Debug)]
pub struct QLearner<'a> {
    mdp: &'a Mdp,
    courses: Vec<&'a Course>,
    /// `[state, option]`.
    pub values: Vec<f64>,
    counts: Vec<u32>,
    step_decay: f64,
}

impl<'a> QLearner<'a> {
    /// All values 0. `step_decay` is `c` of the step size; 0 suits a deterministic task.
    pub fn new(mdp: &'a Mdp, courses: Vec<&'a Course>, step_decay: f64) -> Self {
        let n = mdp.n_states() * courses.len();
        Self {
            mdp,
            courses,
            values: vec![0.0; n],
            counts: vec![0; n],
            step_decay,
        }
    }

    fn row(&self, state: usize) -> &[f64] {
        let n = self.courses.len();
        &self.values[state * n..(state + 1) * n]
    }

    /// The greedy policy, as pairs of option and probability, `[state]`. Equals share evenly, so
    /// that a table that knows nothing yet is not helped by the order of its options.
    pub fn policy(&self) -> Vec<Vec<(usize, f64)>> {
        (0..self.mdp.n_states())
            .map(|state| self.greedy(state))
            .collect()
    }

    fn greedy(&self, state: usize) -> Vec<(usize, f64)> {
        let row = self.row(state);
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let best: Vec<usize> = (0..row.len()).filter(|z| row[*z] == top).collect();
        let share = 1.0 / best.len() as f64;
        best.into_iter().map(|z| (z, share)).collect()
    }

    /// Runs an option once and learns from it: the state it led to and its primitive steps.
    pub fn learn(&mut self, state: usize, option: usize, draws: &mut Draws) -> (usize, usize) {
        let (reward, next, n_steps) = self.courses[option].run(self.mdp, state, draws);
        let best = self
            .row(next)
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let later = if self.mdp.is_terminal(next) {
            0.0
        } else {
            best
        };
        let target = reward + self.mdp.discount().powi(n_steps as i32) * later;
        let index = state * self.courses.len() + option;
        let step = 1.0 / (1.0 + self.step_decay * f64::from(self.counts[index]));
        self.counts[index] += 1;
        self.values[index] += step * (target - self.values[index]);
        (next, n_steps)
    }

    /// Episodes from `start` until a budget of primitive steps is spent, `spent` of it before.
    /// Returns what is spent then: the last option may run beyond the budget.
    pub fn explore(
        &mut self,
        start: usize,
        mut spent: usize,
        budget: usize,
        draws: &mut Draws,
    ) -> usize {
        while spent < budget {
            let left = EPISODE_STEPS_MAX.min(budget - spent);
            // An episode from a start that is terminal would spend nothing.
            spent += self.episode(start, EXPLORATION, left, draws).max(1);
        }
        spent
    }

    /// An episode from `start` that explores with probability `exploration` and breaks ties at
    /// random; ends at a terminal state or after `budget` primitive steps. Returns its steps.
    pub fn episode(
        &mut self,
        start: usize,
        exploration: f64,
        budget: usize,
        draws: &mut Draws,
    ) -> usize {
        let (mut state, mut spent) = (start, 0);
        while spent < budget && !self.mdp.is_terminal(state) {
            let best = self.greedy(state);
            let option = if draws.chance(exploration) {
                draws.below(self.courses.len())
            } else {
                best[draws.below(best.len())].0
            };
            let (next, n_steps) = self.learn(state, option, draws);
            state = next;
            spent += n_steps;
        }
        spent
    }
}

/// Decisions of Q-learning on pairs drawn uniformly (a generative model) until the largest error is
/// at most `tolerance`, looked at after every `n_states · |Ẑ|` decisions; `None` if `decisions_max`
/// are not enough.
pub fn decisions_to_tolerance(
    mut learner: QLearner<'_>,
    optimal: &[f64],
    tolerance: f64,
    decisions_max: usize,
    draws: &mut Draws,
) -> Option<usize> {
    let n_options = learner.courses.len();
    for decision in 0..decisions_max {
        let is_look = decision % optimal.len() == 0;
        if is_look && distance(&learner.values, optimal) <= tolerance {
            return Some(decision);
        }
        let state = draws.below(learner.mdp.n_states());
        let option = draws.below(n_options);
        learner.learn(state, option, draws);
    }
    None
}
