//! REINFORCE with a softmax table over options and a running mean of returns as the baseline.
//! Plain on purpose: no entropy bonus, no clipping, one episode a step.

use crate::draws::Draws;
use crate::mdp::Mdp;
use crate::option::Course;

/// A softmax policy over options for each state.
#[derive(Clone, Debug)]
pub struct PolicyGradient<'a> {
    mdp: &'a Mdp,
    courses: &'a [Course],
    /// `[state, option]`.
    logits: Vec<f64>,
    /// `[state]`: running mean of the return from there.
    baseline: Vec<f64>,
    learning_rate: f64,
}

/// Weight of the newest return in the baseline.
const BASELINE_STEP: f64 = 0.1;

impl<'a> PolicyGradient<'a> {
    /// The uniform policy.
    pub fn new(mdp: &'a Mdp, courses: &'a [Course], learning_rate: f64) -> Self {
        Self {
            mdp,
            courses,
            logits: vec![0.0; mdp.n_states() * courses.len()],
            baseline: vec![0.0; mdp.n_states()],
            learning_rate,
        }
    }

    /// `π(· | s)`.
    pub fn probabilities(&self, state: usize) -> Vec<f64> {
        let n = self.courses.len();
        let row = &self.logits[state * n..(state + 1) * n];
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = row.iter().map(|logit| (logit - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The policy as pairs of option and probability, `[state]`.
    pub fn policy(&self) -> Vec<Vec<(usize, f64)>> {
        (0..self.mdp.n_states())
            .map(|state| self.probabilities(state).into_iter().enumerate().collect())
            .collect()
    }

    /// One episode from `start` to a terminal state, and the step that it gives. The task must end
    /// under every policy.
    pub fn learn(&mut self, start: usize, draws: &mut Draws) {
        let mut visits: Vec<(usize, usize, f64, usize)> = Vec::new();
        let mut state = start;
        while !self.mdp.is_terminal(state) {
            let option = draws.weighted(&self.probabilities(state));
            let (reward, next, n_steps) = self.courses[option].run(self.mdp, state, draws);
            visits.push((state, option, reward, n_steps));
            state = next;
        }
        let mut later = 0.0;
        for (state, option, reward, n_steps) in visits.into_iter().rev() {
            later = reward + self.mdp.discount().powi(n_steps as i32) * later;
            let advantage = later - self.baseline[state];
            self.baseline[state] += BASELINE_STEP * advantage;
            let n = self.courses.len();
            for (other, probability) in self.probabilities(state).into_iter().enumerate() {
                let slope = f64::from(u8::from(other == option)) - probability;
                self.logits[state * n + other] += self.learning_rate * advantage * slope;
            }
        }
    }
}
