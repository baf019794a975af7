//! The formulas against slow references, for numbers of any kind.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ra3::formulas::{
    Baseline, advantages, bernoulli_divergence, effective_choices, log_mean_exp,
    mean_and_deviation, overlong_penalty, returns, softmax,
};
use ra3::grpo::group_advantages;
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
use ra3::settings::Estimator;

fn numbers(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-20.0f32..20.0, n)
}

fn close(found: f64, expected: f64, size: f64) -> bool {
    (found - expected).abs() <= 1e-5 * (1.0 + size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn returns_are_discounted_sums_up_to_the_horizon(
        rewards in numbers(0..8),
        horizon in prop::option::of(1usize..10),
        discount in 0.0f32..=1.0,
    ) {
        let found = returns(&rewards, horizon, discount);
        prop_assert_eq!(found.len(), rewards.len());
        for (t, found) in found.iter().enumerate() {
            let mut expected = 0.0;
            for (k, reward) in rewards.iter().enumerate() {
                if k >= t && horizon.is_none_or(|lines| k < t + lines) {
                    expected += f64::from(discount).powi((k - t) as i32) * f64::from(*reward);
                }
            }
            prop_assert!(close(f64::from(*found), expected, 200.0), "{found} {expected}");
        }
    }

    #[test]
    fn a_baseline_takes_what_the_group_shares(returns in numbers(2..8), shift in -50.0f32..50.0) {
        let n = returns.len() as f64;
        let of = |baseline| -> Vec<f64> {
            advantages(&returns, baseline).into_iter().map(f64::from).collect()
        };
        let others = of(Baseline::LeaveOneOut);
        for (own, advantage) in returns.iter().zip(&others) {
            let rest: f64 = returns.iter().map(|r| f64::from(*r)).sum::<f64>() - f64::from(*own);
            prop_assert!(close(*advantage, f64::from(*own) - rest / (n - 1.0), 40.0));
        }
        // The leave-one-out advantages sum to nothing, and so do the centred ones.
        for baseline in [Baseline::LeaveOneOut, Baseline::GroupMean, Baseline::Standardised] {
            prop_assert!(close(of(baseline).iter().sum(), 0.0, 20.0 * n), "{baseline:?}");
        }
        for (group, other) in of(Baseline::GroupMean).iter().zip(&others) {
            prop_assert!(close(*group, other * (n - 1.0) / n, 40.0));
        }
        let plain: Vec<f64> = returns.iter().map(|r| f64::from(*r)).collect();
        prop_assert_eq!(of(Baseline::None), plain);
        // What is added to a whole group cancels.
        let shifted: Vec<f32> = returns.iter().map(|r| r + shift).collect();
        for (a, b) in others.iter().zip(advantages(&shifted, Baseline::LeaveOneOut)) {
            prop_assert!(close(*a, f64::from(b), 100.0));
        }
    }

    #[test]
    fn standardised_advantages_have_deviation_one(returns in numbers(2..8)) {
        let (_, deviation) = mean_and_deviation(&returns);
        let found = advantages(&returns, Baseline::Standardised);
        let (mean, one) = mean_and_deviation(&found);
        prop_assert!(close(mean, 0.0, 1.0));
        prop_assert!(close(one, deviation / (deviation + 1e-4), 1.0));
    }

    /// A group of one has nobody to be compared with: only without a baseline does it learn.
    #[test]
    fn a_group_of_one_is_its_own_mean(reward in -20.0f32..20.0) {
        for estimator in [Estimator::Grpo, Estimator::DrGrpo, Estimator::Dapo] {
            prop_assert_eq!(group_advantages(&[reward], estimator), [0.0]);
        }
        prop_assert_eq!(group_advantages(&[reward], Estimator::Rloo), [reward]);
    }

    #[test]
    fn log_means_and_softmaxes_are_what_they_say(
        weights in prop::collection::vec(-30.0f64..30.0, 1..8),
        shift in -1e4f64..1e4,
    ) {
        let n = weights.len() as f64;
        let slow = (weights.iter().map(|w| w.exp()).sum::<f64>() / n).ln();
        prop_assert!((log_mean_exp(&weights) - slow).abs() < 1e-9);
        let shifted: Vec<f64> = weights.iter().map(|w| w + shift).collect();
        prop_assert!((log_mean_exp(&shifted) - slow - shift).abs() < 1e-7);
        let shares = softmax(&weights);
        let whole: f64 = weights.iter().map(|w| w.exp()).sum();
        for (share, weight) in shares.iter().zip(&weights) {
            prop_assert!((share - weight.exp() / whole).abs() < 1e-9);
        }
        for (a, b) in shares.iter().zip(softmax(&shifted)) {
            prop_assert!((a - b).abs() < 1e-7);
        }
    }

    #[test]
    fn a_divergence_is_never_negative(p in 0.0f64..=1.0, q in 0.01f64..0.99) {
        let found = bernoulli_divergence(p, q);
        prop_assert!(found >= -1e-12 && found.is_finite(), "{found}");
        prop_assert!(bernoulli_divergence(q, q).abs() < 1e-12);
    }

    #[test]
    fn effective_choices_of_equal_lines(p in 0.01f64..1.0, n_lines in 1usize..50) {
        let found = effective_choices(p.ln() * n_lines as f64, n_lines);
        prop_assert!((found * p - 1.0).abs() < 1e-9);
    }

    #[test]
    fn overlong_penalties_fall_from_nothing_to_one(
        n in 0usize..200,
        n_soft in 0usize..60,
        n_max in 1usize..150,
    ) {
        let found = overlong_penalty(n, n_soft, n_max);
        prop_assert!((-1.0..=0.0).contains(&found));
        prop_assert!(overlong_penalty(n + 1, n_soft, n_max) <= found);
        prop_assert_eq!(found == -1.0, n >= n_max);
        if n + n_soft <= n_max && n < n_max {
            prop_assert_eq!(found, 0.0);
        }
    }

    /// Consecutive batches are epochs: every document once in each, in an order of its own.
    #[test]
    fn batches_are_parts_of_epochs(
        n_documents in 1usize..20,
        size in 1usize..9,
        seed in any::<u64>(),
    ) {
        let seed = Seed::root(seed);
        let n_batches = (3 * n_documents).div_ceil(size);
        let drawn: Vec<usize> = (0..n_batches)
            .flat_map(|index| {
                let found = batch(n_documents, size, index as u64, seed);
                assert_eq!(found.len(), size);
                found
            })
            .collect();
        for epoch in drawn.chunks_exact(n_documents).take(3) {
            let seen: BTreeSet<usize> = epoch.iter().copied().collect();
            prop_assert_eq!(seen, (0..n_documents).collect::<BTreeSet<_>>());
        }
        if n_documents > 12 {
            let (first, rest) = drawn.split_at(n_documents);
            prop_assert_ne!(first, &rest[..n_documents]);
        }
    }

    #[test]
    fn step_sizes_rise_stay_and_fall(
        peak in 1e-6f32..1.0,
        warmup in 0u64..10,
        n_updates in 0u64..30,
        decay in 0u64..40,
        floor_share in 0.0f32..=1.0,
        index in 0u64..60,
    ) {
        let schedules = [
            Schedule::Constant { peak, warmup },
            Schedule::Cosine { peak, warmup, floor_share },
            Schedule::WarmupStableDecay { peak, warmup, decay, floor_share },
        ];
        for schedule in schedules {
            let at = |index| schedule.at(index, n_updates);
            let (now, next) = (at(index), at(index + 1));
            prop_assert!(now.is_finite() && (0.0..=1.00001 * peak).contains(&now), "{schedule:?}");
            if index < warmup {
                let share = (index + 1) as f32 / warmup as f32;
                prop_assert!(now <= 1.0001 * share * peak, "{schedule:?}");
            } else if warmup < n_updates {
                // After the warm-up nothing rises, and nothing falls below the floor.
                prop_assert!(next <= now * 1.00001, "{schedule:?}");
                prop_assert!(now >= 0.999 * floor_share * peak, "{schedule:?}");
            }
        }
    }
}

#[test]
fn a_warm_up_rises_in_equal_steps() {
    let schedule = Schedule::Constant {
        peak: 1.0,
        warmup: 4,
    };
    let found = [0, 1, 2, 3, 4, 100].map(|index| schedule.at(index, 4));
    assert_eq!(found, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    // Without an end there is nothing to fall to.
    let cosine = Schedule::Cosine {
        peak: 1.0,
        warmup: 2,
        floor_share: 0.5,
    };
    assert_eq!([2, 3, 9].map(|index| cosine.at(index, 2)), [1.0; 3]);
    assert_eq!(
        [2, 3, 4, 9].map(|index| cosine.at(index, 4)),
        [1.0, 0.75, 0.5, 0.5]
    );
    let stable = Schedule::WarmupStableDecay {
        peak: 1.0,
        warmup: 0,
        decay: 4,
        floor_share: 0.5,
    };
    let found = [0, 3, 4, 5, 6, 7, 8, 20].map(|index| stable.at(index, 8));
    assert_eq!(found, [1.0, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.5]);
}
