//! A finite Markov decision process over primitive actions (docs/theory.md).
//!
//! It holds numbers and checks them; what is computed from it stands in [`crate::smdp`].

use crate::draws::Draws;

/// A finite MDP with discount `γ`. A terminal state loops to itself with reward 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Mdp {
    n_actions: usize,
    discount: f64,
    rewards: Vec<f64>,
    next: Vec<Vec<(usize, f64)>>,
    terminal: Vec<bool>,
}

/// What one primitive step does in a state: its expected reward and where it leads, as pairs of a
/// state and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Expected reward.
    pub reward: f64,
    /// Next states with their probabilities, which sum to 1.
    pub next: Vec<(usize, f64)>,
}

impl Mdp {
    /// An MDP whose step `(state, action)` is `outcome(state, action)`.
    pub fn new(
        n_states: usize,
        n_actions: usize,
        discount: f64,
        outcome: impl Fn(usize, usize) -> Outcome,
    ) -> Self {
        assert!((0.0..1.0).contains(&discount), "the discount is below 1");
        let (mut rewards, mut next) = (Vec::new(), Vec::new());
        for state in 0..n_states {
            for action in 0..n_actions {
                let step = outcome(state, action);
                let total: f64 = step.next.iter().map(|(_, probability)| probability).sum();
                assert!((total - 1.0).abs() < 1e-12, "probabilities sum to 1");
                assert!(step.next.iter().all(|(state, _)| *state < n_states));
                rewards.push(step.reward);
                next.push(step.next);
            }
        }
        let stays = |state: usize, row: usize| {
            rewards[row] == 0.0 && next[row].iter().all(|(to, _)| *to == state)
        };
        let terminal = (0..n_states)
            .map(|s| (0..n_actions).all(|a| stays(s, s * n_actions + a)))
            .collect();
        Self {
            n_actions,
            discount,
            rewards,
            next,
            terminal,
        }
    }

    /// Number of states.
    pub fn n_states(&self) -> usize {
        self.terminal.len()
    }

    /// Number of primitive actions.
    pub fn n_actions(&self) -> usize {
        self.n_actions
    }

    /// `γ` of one primitive step.
    pub fn discount(&self) -> f64 {
        self.discount
    }

    /// True where nothing can be earned and nothing moves.
    pub fn is_terminal(&self, state: usize) -> bool {
        self.terminal[state]
    }

    /// Expected reward of a step.
    pub fn reward(&self, state: usize, action: usize) -> f64 {
        self.rewards[state * self.n_actions + action]
    }

    /// Next states of a step with their probabilities.
    pub fn next(&self, state: usize, action: usize) -> &[(usize, f64)] {
        &self.next[state * self.n_actions + action]
    }

    /// Draws the next state of a step.
    pub fn draw_next(&self, state: usize, action: usize, draws: &mut Draws) -> usize {
        let next = self.next(state, action);
        if let [(only, _)] = next {
            return *only;
        }
        let weights: Vec<f64> = next.iter().map(|(_, probability)| *probability).collect();
        next[draws.weighted(&weights)].0
    }
}
