//! Options: courses of primitive actions that run for several steps (Sutton, Precup and Singh,
//! 1999), and the exact semi-Markov model of one in an MDP.
//!
//! `R(s) = E Σ_{k<τ} γ^k r_k` and `F(s, s') = E γ^τ 1[s_τ = s']`, summed step by step, not sampled.

use crate::draws::Draws;
use crate::mdp::Mdp;

/// How an option chooses primitive actions. It can be started anywhere and stops in a terminal
/// state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// These actions, one after the other, whatever happens: a line of tokens, a run of steps.
    Sequence(Vec<usize>),
    /// The action of each state until a state that stops it, and at most so many steps. It takes at
    /// least one step.
    Towards {
        /// `[state]`: the action.
        actions: Vec<usize>,
        /// `[state]`: true where the option ends.
        stops: Vec<bool>,
        /// Longest run in steps.
        n_steps_max: usize,
    },
}

impl Course {
    /// A primitive action as an option of one step.
    pub fn primitive(action: usize) -> Self {
        Self::Sequence(vec![action])
    }

    /// The action of step `index` (counted from 0) in a state; `None` where the option has ended.
    fn action(&self, index: usize, state: usize) -> Option<usize> {
        match self {
            Self::Sequence(actions) => actions.get(index).copied(),
            Self::Towards {
                actions,
                stops,
                n_steps_max,
            } => {
                let has_ended = index >= *n_steps_max || (index > 0 && stops[state]);
                (!has_ended).then(|| actions[state])
            }
        }
    }

    /// The exact model of the option in an MDP.
    pub fn model(&self, mdp: &Mdp) -> OptionModel {
        let rows = (0..mdp.n_states()).map(|state| self.row(mdp, state));
        OptionModel {
            rows: rows.collect(),
        }
    }

    fn row(&self, mdp: &Mdp, state: usize) -> Row {
        let mut row = Row::default();
        let mut here = vec![(state, 1.0)];
        for index in 0.. {
            let mut there: Vec<(usize, f64)> = Vec::new();
            for (state, mass) in here {
                let action = self.action(index, state);
                let Some(action) = action.filter(|_| !mdp.is_terminal(state)) else {
                    add(&mut row.next, state, mass);
                    continue;
                };
                // The mass is discounted already, so it is γ^k times the probability.
                row.reward += mass * mdp.reward(state, action);
                row.n_steps += mass / mdp.discount().powi(index as i32);
                for (to, probability) in mdp.next(state, action) {
                    add(&mut there, *to, mass * probability * mdp.discount());
                }
            }
            if there.is_empty() {
                break;
            }
            here = there;
        }
        row
    }

    /// Runs the option once: its discounted reward, the state it ends in, and its steps.
    pub fn run(&self, mdp: &Mdp, start: usize, draws: &mut Draws) -> (f64, usize, usize) {
        let (mut reward, mut state, mut n_steps, mut weight) = (0.0, start, 0, 1.0);
        while !mdp.is_terminal(state) {
            let Some(action) = self.action(n_steps, state) else {
                break;
            };
            reward += weight * mdp.reward(state, action);
            state = mdp.draw_next(state, action, draws);
            weight *= mdp.discount();
            n_steps += 1;
        }
        (reward, state, n_steps)
    }
}

fn add(masses: &mut Vec<(usize, f64)>, state: usize, mass: f64) {
    match masses.iter_mut().find(|(other, _)| *other == state) {
        Some((_, sum)) => *sum += mass,
        None => masses.push((state, mass)),
    }
}

/// The semi-Markov model of an option in one MDP.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionModel {
    /// `[state]`.
    pub rows: Vec<Row>,
}

/// An option started in one state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// `R(s)`: expected discounted reward.
    pub reward: f64,
    /// `F(s, ·)`: next states with `E γ^τ`, sparse.
    pub next: Vec<(usize, f64)>,
    /// `E τ`: expected primitive steps.
    pub n_steps: f64,
}

impl Row {
    /// `R(s) + Σ_{s'} F(s, s') v(s')`.
    pub fn backup(&self, values: &[f64]) -> f64 {
        let later: f64 = self.next.iter().map(|(to, f)| f * values[*to]).sum();
        self.reward + later
    }
}

#[cfg(test)]
mod tests {
    use ra3::seed::Seed;

    use super::*;
    use crate::mdp::Outcome;

    /// Two states: action 0 moves from 0 to 1 with probability 1/2 and earns 1; 1 is terminal.
    fn coin() -> Mdp {
        Mdp::new(2, 1, 0.5, |state, _| match state {
            0 => Outcome {
                reward: 1.0,
                next: vec![(0, 0.5), (1, 0.5)],
            },
            _ => Outcome {
                reward: 0.0,
                next: vec![(1, 1.0)],
            },
        })
    }

    #[test]
    fn a_model_by_hand() {
        // Two steps: 1 + ½·½·1; still in 0 with γ²/4, in 1 after one step γ/2 or two γ²/4.
        let row = &Course::Sequence(vec![0, 0]).model(&coin()).rows[0];
        assert_eq!(row.reward, 1.25);
        assert_eq!(row.n_steps, 1.5);
        assert_eq!(row.next, [(1, 0.25 + 0.0625), (0, 0.0625)]);
    }

    #[test]
    fn runs_agree_with_the_model() {
        let option = Course::Towards {
            actions: vec![0, 0],
            stops: vec![false, true],
            n_steps_max: 4,
        };
        let mdp = coin();
        let row = &option.model(&mdp).rows[0];
        let mut draws = Draws::new(Seed::root(1));
        let n = 40_000;
        let (mut reward, mut end, mut steps) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let (earned, state, n_steps) = option.run(&mdp, 0, &mut draws);
            reward += earned / f64::from(n);
            end += 0.5f64.powi(n_steps as i32) * state as f64 / f64::from(n);
            steps += n_steps as f64 / f64::from(n);
        }
        let f: f64 = row
            .next
            .iter()
            .filter(|(to, _)| *to == 1)
            .map(|(_, f)| f)
            .sum();
        assert!(
            (reward - row.reward).abs() < 0.02,
            "{reward} {}",
            row.reward
        );
        assert!((end - f).abs() < 0.01, "{end} {f}");
        assert!(
            (steps - row.n_steps).abs() < 0.03,
            "{steps} {}",
            row.n_steps
        );
    }
}
