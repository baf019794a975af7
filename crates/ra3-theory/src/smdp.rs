//! Planning with a set of options: value iteration, exact optimal values, exact evaluation.
//!
//! The Bellman operator of the set is `(T v)(s) = max_z R_z(s) + Σ_{s'} F_z(s, s') v(s')`. Where
//! every option takes `τ` steps or more it contracts by `γ^τ` in the largest norm. A terminal state
//! is worth 0. Values are exact up to rounding: policy iteration ends, each step one linear solve.

use crate::linear::solve;
use crate::mdp::Mdp;
use crate::option::OptionModel;

/// An MDP seen through a set of options.
#[derive(Clone, Debug)]
pub struct Smdp<'a> {
    mdp: &'a Mdp,
    options: Vec<&'a OptionModel>,
}

/// Smallest gain for which policy iteration changes its mind: far above rounding.
const IMPROVEMENT_MIN: f64 = 1e-11;

impl<'a> Smdp<'a> {
    /// The MDP with these options; at least one.
    pub fn new(mdp: &'a Mdp, options: Vec<&'a OptionModel>) -> Self {
        assert!(!options.is_empty(), "a set of options has at least one");
        Self { mdp, options }
    }

    /// Number of options.
    pub fn n_options(&self) -> usize {
        self.options.len()
    }

    fn backup(&self, state: usize, option: usize, values: &[f64]) -> f64 {
        self.options[option].rows[state].backup(values)
    }

    /// The best option of a state and its value under `values`; the first of equals.
    fn best(&self, state: usize, values: &[f64]) -> (usize, f64) {
        let mut best = (0, f64::NEG_INFINITY);
        for option in 0..self.n_options() {
            let value = self.backup(state, option, values);
            if value > best.1 {
                best = (option, value);
            }
        }
        best
    }

    /// `T v`: one sweep of value iteration.
    pub fn sweep(&self, values: &[f64]) -> Vec<f64> {
        let value = |state| {
            if self.mdp.is_terminal(state) {
                0.0
            } else {
                self.best(state, values).1
            }
        };
        (0..self.mdp.n_states()).map(value).collect()
    }

    /// `Q(s, z)` of given values, `[state, option]`.
    pub fn action_values(&self, values: &[f64]) -> Vec<f64> {
        let states = 0..self.mdp.n_states();
        let row = |state| (0..self.n_options()).map(move |z| (state, z));
        states
            .flat_map(row)
            .map(|(state, z)| {
                if self.mdp.is_terminal(state) {
                    0.0
                } else {
                    self.backup(state, z, values)
                }
            })
            .collect()
    }

    /// The option of each state that is best under `values`.
    pub fn greedy(&self, values: &[f64]) -> Vec<usize> {
        (0..self.mdp.n_states())
            .map(|state| self.best(state, values).0)
            .collect()
    }

    /// `V^π` of a deterministic policy over options (`[state]`), by one linear solve.
    pub fn evaluate(&self, policy: &[usize]) -> Vec<f64> {
        let chosen = |state: usize| vec![(policy[state], 1.0)];
        self.evaluate_mixed(&(0..self.mdp.n_states()).map(chosen).collect::<Vec<_>>())
    }

    /// `V^π` of a stochastic policy: pairs of option and probability for each state.
    pub fn evaluate_mixed(&self, policy: &[Vec<(usize, f64)>]) -> Vec<f64> {
        let n = self.mdp.n_states();
        let mut matrix = vec![0.0; n * n];
        let mut right = vec![0.0; n];
        for state in 0..n {
            matrix[state * n + state] = 1.0;
            if self.mdp.is_terminal(state) {
                continue;
            }
            for (option, probability) in &policy[state] {
                let row = &self.options[*option].rows[state];
                right[state] += probability * row.reward;
                for (to, f) in &row.next {
                    matrix[state * n + to] -= probability * f;
                }
            }
        }
        solve(matrix, right)
    }

    /// `V*` of the set, by policy iteration from a rough value iteration.
    pub fn optimal(&self) -> Vec<f64> {
        let mut values = vec![0.0; self.mdp.n_states()];
        for _ in 0..20 {
            values = self.sweep(&values);
        }
        let mut policy = self.greedy(&values);
        loop {
            values = self.evaluate(&policy);
            let mut has_changed = false;
            for (state, chosen) in policy.iter_mut().enumerate() {
                let (option, value) = self.best(state, &values);
                if value > self.backup(state, *chosen, &values) + IMPROVEMENT_MIN {
                    *chosen = option;
                    has_changed = true;
                }
            }
            if !has_changed {
                return values;
            }
        }
    }

    /// Sweeps of value iteration from 0 until the largest error is at most `tolerance`, with that
    /// error after each sweep (the first entry is the error of 0).
    pub fn value_iteration(&self, optimal: &[f64], tolerance: f64) -> Vec<f64> {
        let mut values = vec![0.0; optimal.len()];
        let mut errors = vec![distance(&values, optimal)];
        while errors[errors.len() - 1] > tolerance {
            values = self.sweep(&values);
            errors.push(distance(&values, optimal));
        }
        errors
    }
}

/// `max |a − b|`.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}
