//! The vocabulary of these tests, and settings to vary.

use ra3::annotate::Choose;
use ra3::e_step::{EStepConfig, Penalty, Persistence, Policies};
use ra3::em::{Ablation, EmConfig};
use ra3::formulas::Baseline;
use ra3::generation::WritingRule;
use ra3::grpo::{Estimator, GrpoConfig};
use ra3::interleave::TokenWeights;
use ra3::policy::{Policy, Surrogate, TokenId};
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3::table::TablePolicy;
use ra3::trajectory::Markers;

pub(crate) const MARKERS: Markers = Markers {
    act: ACT,
    think: THINK,
    close: CLOSE,
    end: END,
};
pub(crate) const END: TokenId = 0;
pub(crate) const ACT: TokenId = 1;
pub(crate) const THINK: TokenId = 2;
pub(crate) const CLOSE: TokenId = 3;
pub(crate) const NEWLINE: TokenId = 4;
/// Ids from here to the vocabulary's end are plain text.
pub(crate) const TEXT: TokenId = 5;
pub(crate) const VOCABULARY: usize = 8;

pub(crate) const CLIP: Surrogate = Surrogate::Clipped {
    low: 0.2,
    high: 0.28,
};

pub(crate) fn table(seed: u64) -> TablePolicy {
    TablePolicy::random(VOCABULARY, 2, 1.0, Seed::root(seed))
}

/// A model that is its own scorer and reference.
pub(crate) fn alone(policy: &mut dyn Policy) -> Policies<'_> {
    Policies {
        policy,
        scorer: None,
        reference: None,
    }
}

pub(crate) fn e_step() -> EStepConfig {
    EStepConfig {
        group_size: 3,
        rationale_tokens_max: 2,
        horizon: None,
        discount: 1.0,
        penalty: Penalty::SwitchCost(0.25),
        baseline: Baseline::LeaveOneOut,
        surrogate: Surrogate::LogLikelihood,
        updates_per_batch: 1,
        temperature: 1.0,
        persistence: Persistence::Sticky,
    }
}

pub(crate) fn em() -> EmConfig {
    let constant = |peak| Schedule::Constant { peak, warmup: 0 };
    EmConfig {
        cold_start_updates: 2,
        rounds: 2,
        e_updates: 3,
        e_batch_documents: 4,
        annotate_documents: 8,
        m_updates: 2,
        m_batch_documents: 4,
        corpus_latents_share: 0.5,
        e_step: e_step(),
        choose: Choose::Sample,
        weights: TokenWeights {
            prefix: 0.0,
            line: 1.0,
            decision: 1.0,
            rationale: 1.0,
        },
        supervised_schedule: constant(0.1),
        e_schedule: constant(0.1),
        ablation: Ablation::None,
    }
}

/// Programs are written plainly, up to the end of the text.
pub(crate) fn writing() -> WritingRule {
    WritingRule {
        markers: Some(MARKERS),
        stops: [END].into(),
        rests: None,
        program_tokens_max: 10,
        temperature: 1.0,
        top_k: None,
        top_p: None,
    }
}

pub(crate) fn grpo(estimator: Estimator) -> GrpoConfig {
    GrpoConfig {
        group_size: 3,
        estimator,
        drop_groups_without_signal: false,
        writing: writing(),
        surrogate: Surrogate::LogLikelihood,
        updates_per_batch: 1,
    }
}
