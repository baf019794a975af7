//! A ring with a reward in every state and no end: the plain case in which value iteration takes as
//! many sweeps as its contraction rate says. All options of a set run for exactly `τ` steps.

use ra3::seed::Seed;

use crate::draws::Draws;
use crate::mdp::{Mdp, Outcome};
use crate::option::Course;

/// Probability that a step stays where it is.
const SLIP: f64 = 0.1;

/// A ring of states with rewards drawn from `[0, 1)`; action 0 steps on, action 1 back.
pub fn ring(n_states: usize, discount: f64, seed: Seed) -> Mdp {
    let mut draws = Draws::new(seed);
    let rewards: Vec<f64> = (0..n_states).map(|_| draws.uniform()).collect();
    Mdp::new(n_states, 2, discount, |state, way| {
        let to = match way {
            0 => (state + 1) % n_states,
            _ => (state + n_states - 1) % n_states,
        };
        Outcome {
            reward: rewards[state],
            next: vec![(to, 1.0 - SLIP), (state, SLIP)],
        }
    })
}

/// Options of exactly `n_steps` steps: all steps on, all steps back, then random sequences.
pub fn options(n_options: usize, n_steps: usize, seed: Seed) -> Vec<Course> {
    let mut draws = Draws::new(seed);
    (0..n_options)
        .map(|index| match index {
            0 | 1 => Course::Sequence(vec![index; n_steps]),
            _ => Course::Sequence((0..n_steps).map(|_| draws.below(2)).collect()),
        })
        .collect()
}
