//! Drawing tokens and scoring them, from the logits of one node.
//!
//! What is reported is always the log-probability of the unmodified distribution, restricted to
//! the rule's choices where there are any: temperature, top-k and top-p change the draw only.

use std::borrow::Cow;

use ra3::policy::{SampleRule, TokenId};

use super::row::{Answer, Kind, Question};
use crate::model::lanes::{exp_each, log_sum_exp, log_sum_exp_among, max};

/// Answers all questions about one node.
pub(crate) fn answer(logits: &[f32], questions: &[&Question]) -> Vec<Answer> {
    let log_sum = log_sum_exp(logits);
    questions
        .iter()
        .map(|question| {
            let (token, choices) = match &question.kind {
                Kind::Score { token, choices, .. } => (*token, choices),
                Kind::Draw { rule, uniform } => (draw(logits, rule, *uniform), &rule.choices),
            };
            let own_sum = log_sum_exp_among(logits, choices.as_deref(), log_sum);
            let logprob = logits[token as usize] - own_sum;
            Answer { token, logprob }
        })
        .collect()
}

/// Tokens among which a nucleus is looked for first.
const NUCLEUS: usize = 64;

/// A token for a number in [0, 1).
fn draw(logits: &[f32], rule: &SampleRule, uniform: f64) -> TokenId {
    let choices = rule.choices.as_deref();
    let token = |index: usize| choices.map_or(index as TokenId, |choices| choices[index]);
    let chosen: Cow<'_, [f32]> = choices.map_or(logits.into(), |choices| {
        choices
            .iter()
            .map(|choice| logits[*choice as usize])
            .collect()
    });
    let top = max(&chosen);
    if rule.temperature <= 0.0 {
        let likeliest = (0..chosen.len())
            .filter(|index| chosen[*index] == top)
            .map(token);
        return likeliest.min().unwrap_or_else(|| token(0));
    }
    let mut weights = chosen.into_owned();
    weigh(&mut weights, top, rule.temperature);
    if rule.top_k.is_none() && rule.top_p.is_none() {
        return token(pick(&weights, uniform));
    }
    let mut kept: Vec<(TokenId, f32)> = weights
        .iter()
        .enumerate()
        .map(|(index, weight)| (token(index), *weight))
        .collect();
    if let Some(k) = rule.top_k {
        keep_likeliest(&mut kept, k.get());
    }
    if let Some(p) = rule.top_p {
        keep_nucleus(&mut kept, p);
    }
    let weights: Vec<f32> = kept.iter().map(|(_, weight)| *weight).collect();
    kept[pick(&weights, uniform)].0
}

/// Logits become `exp((logit − top) / temperature)`.
fn weigh(logits: &mut [f32], top: f32, temperature: f32) {
    for logit in &mut *logits {
        *logit = (*logit - top) / temperature;
    }
    exp_each(logits, 0.0);
}

/// Keeps the `k` likeliest, in their order: likeliest first, ties to the lowest id.
fn keep_likeliest(tokens: &mut Vec<(TokenId, f32)>, k: usize) {
    let order = |a: &(TokenId, f32), b: &(TokenId, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < tokens.len() {
        tokens.select_nth_unstable_by(k, order);
        tokens.truncate(k);
    }
    tokens.sort_unstable_by(order);
}

/// Keeps the likeliest that reach a share `p` of all together, in their order.
fn keep_nucleus(tokens: &mut Vec<(TokenId, f32)>, p: f32) {
    let weights = tokens.iter().map(|(_, weight)| f64::from(*weight));
    let goal = f64::from(p) * weights.sum::<f64>();
    let mut n = NUCLEUS;
    loop {
        let mut nucleus = tokens.clone();
        keep_likeliest(&mut nucleus, n);
        let mut sum = 0.0;
        let reached = nucleus.iter().position(|(_, weight)| {
            sum += f64::from(*weight);
            sum >= goal
        });
        if reached.is_some() || n >= tokens.len() {
            nucleus.truncate(reached.map_or(nucleus.len(), |last| last + 1));
            *tokens = nucleus;
            return;
        }
        n *= NUCLEUS;
    }
}

/// Weights that are added up together: one after the other they would wait for each other.
const BLOCK: usize = 64;
/// Sums of a block that are made beside each other.
const LANES: usize = 8;

/// The sum of a block's weights.
fn total(block: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for weights in block.chunks(LANES) {
        for (lane, weight) in lanes.iter_mut().zip(weights) {
            *lane += f64::from(*weight);
        }
    }
    lanes.iter().sum()
}

/// The first index at which the running sum exceeds `uniform · total`. Where rounding leaves none,
/// it is the last that can be drawn.
fn pick(weights: &[f32], uniform: f64) -> usize {
    let totals: Vec<f64> = weights.chunks(BLOCK).map(total).collect();
    let mut left = uniform * totals.iter().sum::<f64>();
    let Some(index) = walk(totals.into_iter(), &mut left) else {
        return last_possible(weights);
    };
    let first = index * BLOCK;
    let block = &weights[first..(first + BLOCK).min(weights.len())];
    let in_block = walk(block.iter().map(|weight| f64::from(*weight)), &mut left);
    first + in_block.unwrap_or_else(|| last_possible(block))
}

/// The index of the first weight that is larger than what is left by those before it, which are
/// taken off.
fn walk(mut weights: impl Iterator<Item = f64>, left: &mut f64) -> Option<usize> {
    weights.position(|weight| {
        let is_here = *left < weight;
        if !is_here {
            *left -= weight;
        }
        is_here
    })
}

/// The last index that can be drawn at all.
fn last_possible(weights: &[f32]) -> usize {
    let possible = weights.iter().rposition(|weight| *weight > 0.0);
    possible.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LN_2;

    use super::*;

    fn rule() -> SampleRule {
        SampleRule::plain(1.0, 1)
    }

    /// Probabilities 0.5, 0.25, 0.125, 0.125.
    const LOGITS: [f32; 4] = [3.0 * LN_2, 2.0 * LN_2, LN_2, LN_2];

    #[test]
    fn draws_invert_the_distribution() {
        let draws =
            |rule: &SampleRule| [0.0, 0.49, 0.51, 0.74, 0.76, 0.99].map(|u| draw(&LOGITS, rule, u));
        assert_eq!(draws(&rule()), [0, 0, 1, 1, 2, 3]);
        let two = SampleRule {
            top_k: std::num::NonZeroUsize::new(2),
            ..rule()
        };
        assert_eq!(draws(&two), [0, 0, 0, 1, 1, 1]);
        let nucleus = SampleRule {
            top_p: Some(0.74),
            ..rule()
        };
        assert_eq!(draws(&nucleus), [0, 0, 0, 1, 1, 1]);
        let chosen = SampleRule {
            choices: Some([2, 3].into()),
            ..rule()
        };
        assert_eq!(draws(&chosen), [2, 2, 3, 3, 3, 3]);
        let cold = SampleRule {
            temperature: 0.0,
            ..rule()
        };
        assert_eq!(draws(&cold), [0; 6]);
        assert_eq!(
            draw(&[1.0, 3.0, 3.0], &cold, 0.9),
            1,
            "ties go to the lowest id"
        );
    }

    /// Only differences of logits count, however far from 0 they are.
    #[test]
    fn large_logits_are_drawn_like_small_ones() {
        for shift in [-3000.0, 3000.0] {
            let logits = LOGITS.map(|logit| logit + shift);
            let found = [0.0, 0.49, 0.51, 0.74, 0.76, 0.99].map(|u| draw(&logits, &rule(), u));
            assert_eq!(found, [0, 0, 1, 1, 2, 3]);
        }
    }

    /// A share of 0 is picked at neither end: not where nothing has to be exceeded yet, and not
    /// where rounding leaves something over.
    #[test]
    fn what_has_no_share_is_never_picked() {
        let at = |weights: &[f32]| [0.0, 0.45, 0.5, 1.0].map(|uniform| pick(weights, uniform));
        assert_eq!(at(&[0.0, 0.5, 0.5, 0.0]), [1, 1, 2, 2]);
        assert_eq!(at(&[2.0, 0.0, 0.0, 2.0]), [0, 0, 3, 3]);
        assert_eq!(at(&[0.0, 1.0, 0.0]), [1; 4]);
        let mut far = [0.0; 300];
        (far[70], far[230]) = (1.0, 1.0);
        assert_eq!(at(&far), [70, 70, 230, 230]);
    }

    /// Of weights of one block and of several, some of them zero.
    #[test]
    fn what_is_picked_has_the_number_in_its_share() {
        for n in [1, 7, 64, 65, 1000] {
            let weight = |index: usize| ((index * 7919 % 1009) as f32 - 300.0).max(0.0);
            let weights: Vec<f32> = (1..=n).map(weight).collect();
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for step in 0..1000 {
                let uniform = (f64::from(step) + 0.37) / 1000.0;
                let picked = pick(&weights, uniform);
                let before = weights[..picked].iter().map(|weight| f64::from(*weight));
                let left = uniform * total - before.sum::<f64>();
                let share = f64::from(weights[picked]);
                assert!(
                    share > 0.0 && (-1e-9..share + 1e-9).contains(&left),
                    "{n} {uniform}"
                );
            }
        }
    }

    /// A nucleus is a share of what top-k kept: of 7/8, 0.85 is 0.744, which 1/2 and 1/4 reach.
    #[test]
    fn a_nucleus_is_a_share_of_what_was_kept() {
        let both = SampleRule {
            top_k: std::num::NonZeroUsize::new(3),
            top_p: Some(0.85),
            ..rule()
        };
        assert_eq!([0.6, 0.7, 0.99].map(|u| draw(&LOGITS, &both, u)), [0, 1, 1]);
        let wide = SampleRule {
            top_p: Some(0.9),
            ..both
        };
        assert_eq!([0.5, 0.8, 0.99].map(|u| draw(&LOGITS, &wide, u)), [0, 1, 2]);
    }

    /// A nucleus of more tokens than are looked at first.
    #[test]
    fn a_nucleus_may_be_most_of_the_vocabulary() {
        let logits: Vec<f32> = (0..5000).map(|token| 1e-4 * (token % 977) as f32).collect();
        let rule = SampleRule {
            top_p: Some(0.9),
            ..rule()
        };
        let mut by_weight: Vec<usize> = (0..5000).collect();
        by_weight.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let weight = |token: &usize| f64::from(logits[*token]).exp();
        let goal = 0.9 * by_weight.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let last = by_weight.iter().find(|token| {
            sum += weight(token);
            sum >= goal
        });
        assert_eq!(draw(&logits, &rule, 0.0) as usize, by_weight[0]);
        assert_eq!(draw(&logits, &rule, 1.0 - 1e-9) as usize, *last.unwrap());
    }

    #[test]
    fn reported_logprobs_are_of_the_unmodified_distribution() {
        let warm = SampleRule {
            temperature: 5.0,
            top_k: std::num::NonZeroUsize::new(1),
            ..rule()
        };
        let ask = |kind| {
            answer(
                &LOGITS,
                &[&Question {
                    row: 0,
                    node: 0,
                    kind,
                }],
            )[0]
            .logprob
        };
        let drawn = ask(Kind::Draw {
            rule: warm,
            uniform: 0.5,
        });
        assert!((drawn - 0.5f32.ln()).abs() < 1e-6);
        let choices: std::sync::Arc<[TokenId]> = [1, 2].into();
        let scored = ask(Kind::Score {
            position: 1,
            token: 1,
            choices: Some(choices),
        });
        assert!((scored - (2.0f32 / 3.0).ln()).abs() < 1e-6);
    }
}
