//! Exact sums over every latent that a rollout can find, for problems small enough to list them:
//! what the estimators and bounds are tested against.
//!
//! ```text
//! J          = Σ_z q(z) Σ_t [ log π(a_t | h_t, z_t) + log p(z_t | h_t) − log q(z_t | h_t) ]
//! log p(a)   = log Σ_z Π_t π(a_t | h_t, z_t) p(z_t | h_t)
//! posterior  = p(z | a) = Π_t π p / p(a)
//! ```
//!
//! where `z` runs over sequences of latents, one a line (docs/algorithm.md, "The bound"). The
//! number of terms
//! is `(1 + n_rationales)^T`; there is no sampling here.

use std::sync::Arc;

use crate::formulas::log_mean_exp;
use crate::policy::{Example, Policy, PolicyError, TokenId};
use crate::rewards::{LineScore, Penalty};
use crate::scoring::{Frozen, Scored, score};
use crate::trace::Trace;
use crate::trajectory::{Annotated, Latent, Markers, Trajectory};

/// Every latent that a decision and a rationale of at most `rationale_tokens_max` sampled tokens
/// can give, closed by itself or by force.
pub fn latents(markers: &Markers, n_vocabulary: usize, rationale_tokens_max: usize) -> Vec<Latent> {
    let mut found = vec![Latent::Keep];
    let mut open = vec![Vec::new()];
    for _ in 0..rationale_tokens_max {
        found.extend(open.iter().cloned().map(|rationale| Latent::Switch {
            rationale,
            forced_close: false,
        }));
        let longer = |rationale: &Vec<TokenId>| -> Vec<Vec<TokenId>> {
            let tokens = (0..n_vocabulary as TokenId).filter(|token| *token != markers.close);
            tokens
                .map(|token| [&rationale[..], &[token]].concat())
                .collect()
        };
        open = open.iter().flat_map(longer).collect();
    }
    found.extend(open.into_iter().map(|rationale| Latent::Switch {
        rationale,
        forced_close: true,
    }));
    found
}

/// Every way of putting one of these latents before each line.
pub fn annotations(trajectory: &Trajectory, latents: &[Latent]) -> Vec<Annotated> {
    let mut rows: Vec<Vec<Option<Latent>>> = vec![Vec::new()];
    for _ in &trajectory.lines {
        let extend = |row: &Vec<Option<Latent>>| -> Vec<Vec<Option<Latent>>> {
            let with = |latent: &Latent| [&row[..], &[Some(latent.clone())]].concat();
            latents.iter().map(with).collect()
        };
        rows = rows.iter().flat_map(extend).collect();
    }
    let annotate = |latents| Annotated {
        trajectory: trajectory.clone(),
        latents,
    };
    rows.into_iter().map(annotate).collect()
}

/// A trajectory under every sequence of latents.
#[derive(Clone, Debug)]
pub struct Enumeration {
    /// What a rollout of each would have been: `log q` of the policy, `log π` of the scorer.
    pub rollouts: Vec<Scored>,
}

impl Enumeration {
    /// Scores all annotations as an E-step scores its rollouts.
    ///
    /// # Errors
    /// As [`Policy::score`].
    pub fn of(
        policy: &dyn Policy,
        frozen: &Frozen,
        annotated: &[Annotated],
        markers: &Markers,
    ) -> Result<Self, PolicyError> {
        let mut traces: Vec<Trace> = annotated.iter().map(|a| as_drawn(a, markers)).collect();
        let latents: Vec<Example> = traces.iter().map(|trace| trace.example(|_| 1.0)).collect();
        let (logprobs, _) = policy.score(&latents)?;
        for (trace, logprobs) in traces.iter_mut().zip(logprobs) {
            trace.logprobs = logprobs;
        }
        let (rollouts, _) = score(policy, frozen, traces)?;
        Ok(Self { rollouts })
    }

    /// `log q(z)` of each.
    pub fn log_q(&self) -> Vec<f64> {
        self.sums(|line| f64::from(line.latent_logprob))
    }

    /// `Σ_t log p(z_t | h_t)` of each.
    pub fn log_prior(&self, alpha: f32) -> Vec<f64> {
        self.sums(|line| f64::from(line.log_prior(alpha)))
    }

    /// `Σ_t log π(a_t | h_t, z_t)` of each.
    pub fn log_lines(&self) -> Vec<f64> {
        self.sums(|line| f64::from(line.line_logprob))
    }

    /// `Σ_t r_t` of each.
    pub fn rewards(&self, penalty: Penalty) -> Vec<f64> {
        self.sums(|line| f64::from(line.reward(penalty)))
    }

    /// `E_q Σ_t r_t`: what the E-step raises.
    pub fn mean_return(&self, penalty: Penalty) -> f64 {
        mean(&self.log_q(), &self.rewards(penalty))
    }

    /// `J(π, q)`.
    pub fn bound(&self, alpha: f32) -> f64 {
        self.mean_return(Penalty::ExactKl { alpha })
    }

    /// `log p(a | s_0)`.
    pub fn log_likelihood(&self, alpha: f32) -> f64 {
        let joint = self.log_joint(alpha);
        log_mean_exp(&joint) + (joint.len() as f64).ln()
    }

    /// `log p(z | a, s_0)` of each.
    pub fn log_posterior(&self, alpha: f32) -> Vec<f64> {
        let total = self.log_likelihood(alpha);
        self.log_joint(alpha).iter().map(|l| l - total).collect()
    }

    /// These members as one group of rollouts.
    pub fn group(&self, members: &[usize]) -> Vec<Scored> {
        let pick = |member: &usize| self.rollouts[*member].clone();
        members.iter().map(pick).collect()
    }

    fn log_joint(&self, alpha: f32) -> Vec<f64> {
        let prior = self.log_prior(alpha).into_iter();
        prior.zip(self.log_lines()).map(|(z, a)| z + a).collect()
    }

    fn sums(&self, of_line: impl Fn(&LineScore) -> f64) -> Vec<f64> {
        let of_row = |rollout: &Scored| rollout.lines.iter().map(&of_line).sum();
        self.rollouts.iter().map(of_row).collect()
    }
}

/// The rollout that draws these latents, not scored yet.
fn as_drawn(annotated: &Annotated, markers: &Markers) -> Trace {
    let choices: Arc<[TokenId]> = Arc::new([markers.act, markers.think]);
    let mut trace = Trace::default();
    trace.force(&annotated.trajectory.prefix);
    for (line, latent) in annotated.trajectory.lines.iter().zip(&annotated.latents) {
        let start = trace.tokens.len();
        match latent {
            None => {}
            Some(Latent::Keep) => trace.decide(markers.act, 0.0, &choices),
            Some(Latent::Switch {
                rationale,
                forced_close,
            }) => {
                trace.decide(markers.think, 0.0, &choices);
                trace.draw(rationale, &vec![0.0; rationale.len()]);
                if *forced_close {
                    trace.force(&[markers.close]);
                } else {
                    trace.draw(&[markers.close], &[0.0]);
                }
            }
        }
        trace.end_line(start, |trace| trace.force(line));
    }
    trace
}

/// `Σ exp(log_q) · value`.
pub fn mean(log_q: &[f64], values: &[f64]) -> f64 {
    log_q
        .iter()
        .zip(values)
        .map(|(l, value)| l.exp() * value)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKERS: Markers = Markers {
        act: 0,
        think: 1,
        close: 2,
        end: 3,
    };

    #[test]
    fn latents_are_counted_by_hand() {
        // An act; the empty rationale; three tokens that are not `</think>`, closed by force.
        assert_eq!(latents(&MARKERS, 4, 1).len(), 1 + 1 + 3);
        // An act; rationales of 0 and 1 tokens that closed; 9 of 2 tokens that did not.
        assert_eq!(latents(&MARKERS, 4, 2).len(), 1 + (1 + 3) + 9);
        let is_forced_pair = |latent: &Latent| match latent {
            Latent::Switch {
                rationale,
                forced_close,
            } => *forced_close && rationale.len() == 2,
            Latent::Keep => false,
        };
        let all = latents(&MARKERS, 4, 2);
        assert_eq!(
            all.iter().filter(|latent| is_forced_pair(latent)).count(),
            9
        );
    }

    #[test]
    fn annotations_are_a_product() {
        let trajectory = Trajectory {
            prefix: vec![3],
            lines: vec![vec![3]; 3],
        };
        let all = annotations(&trajectory, &latents(&MARKERS, 4, 1));
        assert_eq!(all.len(), 125);
        assert!((0..125).all(|i| !all[..i].contains(&all[i])), "all differ");
    }
}
