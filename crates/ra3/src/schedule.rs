//! Step sizes and batches as pure functions of the number of the update, so that nothing has to
//! be remembered to continue.

use crate::seed::Seed;

/// A schedule of step sizes. `warmup` updates rise linearly to `peak`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Schedule {
    /// One step size after the warm-up.
    Constant {
        /// The step size; 0 moves nothing.
        peak: f32,
        /// Updates of linear warm-up; where there are fewer updates, the peak is not reached.
        warmup: u64,
    },
    /// A half cosine from `peak` to `floor_share · peak`, which the update after the last would
    /// have, as in transformers' schedules.
    Cosine {
        /// The largest step size; 0 moves nothing.
        peak: f32,
        /// Updates of linear warm-up; where there are fewer updates, the peak is not reached.
        warmup: u64,
        /// Share of the peak at the end.
        floor_share: f32,
    },
    /// Constant, then linear from `peak` to `floor_share · peak` over the last `decay` updates,
    /// which the update after them would have.
    WarmupStableDecay {
        /// The largest step size; 0 moves nothing.
        peak: f32,
        /// Updates of linear warm-up; where there are fewer updates, the peak is not reached.
        warmup: u64,
        /// Updates of the decay at the end.
        decay: u64,
        /// Share of the peak at the end.
        floor_share: f32,
    },
}

impl Schedule {
    /// The step size of update `index`, counted from 0, of `n_updates`.
    pub fn at(self, index: u64, n_updates: u64) -> f32 {
        match self {
            Self::Constant { peak, warmup } => peak * rise(index, warmup),
            Self::Cosine {
                peak,
                warmup,
                floor_share,
            } => {
                let done = share(index, warmup, n_updates);
                let fall = 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
                peak * rise(index, warmup) * (floor_share + (1.0 - floor_share) * fall)
            }
            Self::WarmupStableDecay {
                peak,
                warmup,
                decay,
                floor_share,
            } => {
                let done = share(index, n_updates.saturating_sub(decay), n_updates);
                peak * rise(index, warmup) * (1.0 - (1.0 - floor_share) * done)
            }
        }
    }
}

/// `(index + 1) / warmup`, at most 1: the first update already moves.
fn rise(index: u64, warmup: u64) -> f32 {
    if index >= warmup {
        1.0
    } else {
        (index + 1) as f32 / warmup as f32
    }
}

/// How far `index` is from `from` to `to`, in [0, 1].
fn share(index: u64, from: u64, to: u64) -> f32 {
    if to <= from {
        return 0.0;
    }
    (index.saturating_sub(from) as f32 / (to - from) as f32).min(1.0)
}

/// The documents of update `index`: consecutive parts of one permutation for each epoch. A batch
/// may span two epochs; it never repeats a document within an epoch.
pub fn batch(n_documents: usize, batch_size: usize, index: u64, seed: Seed) -> Vec<usize> {
    assert!(n_documents > 0, "there is nothing to draw a batch from");
    let first = index as usize * batch_size;
    let mut epoch = usize::MAX;
    let mut order = Vec::new();
    (first..first + batch_size)
        .map(|position| {
            let epoch_here = position / n_documents;
            if epoch_here != epoch {
                epoch = epoch_here;
                order = seed.nth(epoch as u64).permutation(n_documents);
            }
            order[position % n_documents]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_by_hand() {
        let cosine = Schedule::Cosine {
            peak: 1.0,
            warmup: 2,
            floor_share: 0.1,
        };
        let expected = [0.5, 1.0, 1.0, 0.868_198, 0.55, 0.231_802, 0.1];
        for (index, value) in expected.into_iter().enumerate() {
            assert!((cosine.at(index as u64, 6) - value).abs() < 1e-5, "{index}");
        }
        let wsd = Schedule::WarmupStableDecay {
            peak: 2.0,
            warmup: 1,
            decay: 2,
            floor_share: 0.0,
        };
        assert_eq!(
            [0, 3, 4, 5, 6].map(|index| wsd.at(index, 6)),
            [2.0, 2.0, 2.0, 1.0, 0.0]
        );
    }

    #[test]
    fn an_epoch_has_every_document_once() {
        let seed = Seed::root(1);
        let mut seen: Vec<usize> = (0..5).flat_map(|i| batch(20, 4, i, seed)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert_eq!(batch(3, 7, 2, seed).len(), 7);
    }
}
