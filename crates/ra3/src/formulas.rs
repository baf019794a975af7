//! The formulas of docs/algorithm.md that are arithmetic on slices, each with its table of values.
//! No policy, no tokens; sums are in `f64`.

/// Reward-to-go with horizon and discount (docs/algorithm.md, "E-step"):
/// `R_t = Σ_{k=t}^{min(t+H, T)-1} γ^{k−t} r_k`.
///
/// `horizon` is `H ≥ 1` in lines; `None` reaches to the end.
pub fn returns(rewards: &[f32], horizon: Option<usize>, discount: f32) -> Vec<f32> {
    let n = rewards.len();
    (0..n)
        .map(|t| {
            let end = horizon.map_or(n, |h| (t + h).min(n));
            let mut factor = 1.0f64;
            let mut sum = 0.0f64;
            for reward in &rewards[t..end] {
                sum += factor * f64::from(*reward);
                factor *= f64::from(discount);
            }
            sum as f32
        })
        .collect()
}

/// How returns become advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Baseline {
    /// The mean of the *other* rollouts at the same line: unbiased.
    LeaveOneOut,
    /// The mean of all rollouts at the same line: the leave-one-out advantage times `(G − 1) / G`.
    GroupMean,
    /// The mean of all rollouts, and division by their population deviation: a scale that does not
    /// depend on the length of lines, but no longer the gradient of the bound.
    Standardised,
    /// Nothing.
    None,
}

/// Added to a deviation before dividing by it, so that equal rewards give 0.
const DEVIATION_MIN: f64 = 1e-4;

/// Advantages of one line over a group: `A^g = R^g − baseline^g`.
pub fn advantages(returns: &[f32], baseline: Baseline) -> Vec<f32> {
    if baseline == Baseline::Standardised {
        let (mean, deviation) = mean_and_deviation(returns);
        let standardised = |r: &f32| ((f64::from(*r) - mean) / (deviation + DEVIATION_MIN)) as f32;
        return returns.iter().map(standardised).collect();
    }
    let n = returns.len() as f64;
    let sum: f64 = returns.iter().map(|r| f64::from(*r)).sum();
    returns
        .iter()
        .map(|r| {
            let own = f64::from(*r);
            let baseline = match baseline {
                Baseline::LeaveOneOut if returns.len() > 1 => (sum - own) / (n - 1.0),
                Baseline::GroupMean => sum / n,
                Baseline::LeaveOneOut | Baseline::None | Baseline::Standardised => 0.0,
            };
            (own - baseline) as f32
        })
        .collect()
}

/// `KL(Bern(p) ‖ Bern(q)) = p log p/q + (1 − p) log (1 − p)/(1 − q)`, the
/// decision's part of one step of the bound, with `0 log 0 = 0`.
pub fn bernoulli_divergence(p: f64, q: f64) -> f64 {
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    term(p, q) + term(1.0 - p, 1.0 - q)
}

/// `Σ_t log p(y_t) − log q(y_t)` over the tokens that were drawn from `p`: its mean over draws is
/// `KL(p ‖ q)`.
pub fn log_ratio(p: &[f32], q: &[f32], is_drawn: &[bool]) -> f64 {
    let pairs = p.iter().zip(q).zip(is_drawn);
    pairs
        .filter(|(_, is_drawn)| **is_drawn)
        .map(|((p, q), _)| f64::from(*p) - f64::from(*q))
        .sum()
}

/// Overlong shaping (DAPO, arXiv 2503.14476, equation 13), to be added to a program's reward: 0 up
/// to `n_max − n_soft` tokens, then linear down to −1 at `n_max` and beyond.
pub fn overlong_penalty(n_tokens: usize, n_soft: usize, n_max: usize) -> f32 {
    if n_tokens >= n_max {
        return -1.0;
    }
    let n_free = n_max.saturating_sub(n_soft);
    if n_tokens <= n_free {
        return 0.0;
    }
    -((n_tokens - n_free) as f32) / n_soft as f32
}

/// Mean and population standard deviation.
pub fn mean_and_deviation(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean, variance.sqrt())
}

/// `log (1/K) Σ exp w_k`: IWAE's bound from log-weights (arXiv 1509.00519).
pub fn log_mean_exp(log_weights: &[f64]) -> f64 {
    let top = log_weights
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = log_weights.iter().map(|w| (w - top).exp()).sum();
    top + (sum / log_weights.len() as f64).ln()
}

/// `exp(−(Σ log p) / n)`: the number of equally likely choices that would surprise as much. For the
/// summed log-probability of `n_lines` expert lines, in nats, it is the effective number of
/// next-line choices; given the latents in force it is the number that is left after these have
/// pruned.
pub fn effective_choices(logprob: f64, n_lines: usize) -> f64 {
    (-logprob / n_lines.max(1) as f64).exp()
}

/// `softmax` of log-weights.
pub fn softmax(log_weights: &[f64]) -> Vec<f64> {
    let top = log_weights
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = log_weights.iter().map(|w| (w - top).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_choices_by_hand() {
        // One certain line and one out of four: two choices each, geometrically.
        let found = effective_choices(0.25f64.ln(), 2);
        assert!((found - 2.0).abs() < 1e-12, "{found}");
        assert_eq!(effective_choices(0.0, 0), 1.0);
    }

    #[test]
    fn returns_by_hand() {
        let rewards = [1.0, 2.0, 4.0];
        assert_eq!(returns(&rewards, None, 1.0), [7.0, 6.0, 4.0]);
        assert_eq!(returns(&rewards, Some(1), 0.5), [1.0, 2.0, 4.0]);
        assert_eq!(returns(&rewards, Some(2), 0.5), [2.0, 4.0, 4.0]);
        assert!(returns(&[], None, 1.0).is_empty());
    }

    #[test]
    fn advantages_by_hand() {
        assert_eq!(
            advantages(&[1.0, 2.0, 6.0], Baseline::LeaveOneOut),
            [-3.0, -1.5, 4.5]
        );
        assert_eq!(
            advantages(&[1.0, 2.0, 6.0], Baseline::GroupMean),
            [-2.0, -1.0, 3.0]
        );
        assert_eq!(advantages(&[5.0], Baseline::LeaveOneOut), [5.0]);
        // A term that is the same for the whole group cancels; a cost for some does not.
        let shifted = advantages(&[11.0, 12.0, 16.0], Baseline::LeaveOneOut);
        assert_eq!(shifted, [-3.0, -1.5, 4.5]);
        let charged = advantages(&[1.0, 2.0, 5.0], Baseline::LeaveOneOut);
        assert_ne!(charged, [-3.0, -1.5, 4.5]);
    }

    #[test]
    fn means_by_hand() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 1.0));
        assert!((log_mean_exp(&[0.0, 0.0]) - 0.0).abs() < 1e-12);
        assert_eq!(softmax(&[0.0, 3f64.ln()])[1], 0.75);
        // Weights far below 1 neither vanish nor overflow.
        let shifted = log_mean_exp(&[-1000.0, -1000.0 + 3f64.ln()]);
        assert!((shifted - (-1000.0 + 2f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn standardised_advantages_by_hand() {
        // Mean 1, deviation 1, and the small number under the fraction.
        let expected = (1.0 / 1.0001) as f32;
        let found = advantages(&[0.0, 2.0], Baseline::Standardised);
        assert_eq!(found, [-expected, expected]);
        assert_eq!(advantages(&[3.0; 3], Baseline::Standardised), [0.0; 3]);
    }

    #[test]
    fn divergences_by_hand() {
        assert_eq!(bernoulli_divergence(0.3, 0.3), 0.0);
        let expected = 0.5 * 2f64.ln() + 0.5 * (2.0f64 / 3.0).ln();
        assert!((bernoulli_divergence(0.5, 0.25) - expected).abs() < 1e-12);
        assert!((bernoulli_divergence(0.0, 0.75) - 4f64.ln()).abs() < 1e-12);
        assert!((bernoulli_divergence(1.0, 0.25) - 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn log_ratios_by_hand() {
        let (p, q) = ([-1.0, -0.5, -2.0, -4.0], [-3.0, -0.25, -9.0, -4.0]);
        assert_eq!(log_ratio(&p, &q, &[true; 4]), 2.0 - 0.25 + 7.0);
        assert_eq!(log_ratio(&p, &q, &[true, true, false, true]), 2.0 - 0.25);
        assert_eq!(log_ratio(&[], &[], &[]), 0.0);
    }

    #[test]
    fn overlong_penalties_by_hand() {
        let lengths = [0, 80, 85, 90, 99, 100, 500];
        let expected = [0.0, 0.0, -0.25, -0.5, -0.95, -1.0, -1.0];
        assert_eq!(lengths.map(|n| overlong_penalty(n, 20, 100)), expected);
        assert_eq!([99, 100].map(|n| overlong_penalty(n, 0, 100)), [0.0, -1.0]);
    }
}
