//! The vocabulary of these tests, and settings to vary.

use ra3::completion::Completion;
use ra3::e_step::{self, EStepReport};
use ra3::generation::{WritingRule, complete};
use ra3::group::Group;
use ra3::grpo;
use ra3::phases::EmConfig;
use ra3::policy::{Policy, Surrogate, TokenId, UpdateStats, Work};
use ra3::rewards::Penalty;
use ra3::schedule::Schedule;
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::{EStepConfig, Estimator, GrpoConfig, MStepConfig};
use ra3::statistics::GroupStats;
use ra3::table::TablePolicy;
use ra3::trajectory::{Markers, Trajectory};

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

pub(crate) fn e_step() -> EStepConfig {
    EStepConfig {
        group_size: 3,
        batch_documents: 4,
        rationale_tokens_max: 2,
        horizon: 0,
        learning_rate: 0.1,
        warmup: 0,
        penalty: Penalty::SwitchCost { cost: 0.25 },
        ..EStepConfig::default()
    }
}

/// One update of a policy that is its own scorer and reference.
pub(crate) fn e_update(
    policy: &mut dyn Policy,
    batch: &[Trajectory],
    config: &EStepConfig,
    learning_rate: f32,
    seed: u64,
) -> EStepReport {
    let (alone, seed) = (Frozen::default(), Seed::root(seed));
    e_step::update(policy, &alone, batch, &MARKERS, config, learning_rate, seed)
        .expect("nothing fails")
}

pub(crate) fn em() -> EmConfig {
    EmConfig {
        cold_start_updates: 2,
        cold_start_lines_share: 0.0,
        rounds: 2,
        selection_rounds: 0,
        e_updates: 3,
        annotate_documents: 8,
        m_updates: 2,
        m_batch_documents: 4,
        e_step: e_step(),
        m_step: MStepConfig::default(),
        prefix_weight: 0.0,
        supervised_schedule: Schedule::Constant {
            peak: 0.1,
            warmup: 0,
        },
    }
}

/// What comparisons leave out: nothing, the M-step, the E-step, and with that the policy's own
/// rationales.
pub(crate) const ABLATIONS: [fn(EmConfig) -> EmConfig; 4] = [
    |whole| whole,
    |whole| EmConfig {
        annotate_documents: 0,
        m_updates: 0,
        ..whole
    },
    |whole| EmConfig {
        e_updates: 0,
        ..whole
    },
    |whole| EmConfig {
        e_updates: 0,
        m_step: MStepConfig {
            random_rationales: true,
            ..whole.m_step
        },
        ..whole
    },
];

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
        overlong_tokens: 0,
        writing: writing(),
        surrogate: Surrogate::LogLikelihood,
        updates_per_batch: 1,
    }
}

/// What an update of RLVR did.
#[derive(Debug)]
pub(crate) struct GrpoReport {
    pub(crate) groups: GroupStats,
    /// The last update on this batch.
    pub(crate) update: UpdateStats,
    /// Everything that ran.
    pub(crate) work: Work,
}

/// One update: programs are written, graded, and learnt from.
pub(crate) fn grpo_update(
    policy: &mut dyn Policy,
    prompts: &[Vec<TokenId>],
    grade: impl Fn(&[Completion]) -> Vec<f32>,
    config: &GrpoConfig,
    learning_rate: f32,
    seed: u64,
) -> GrpoReport {
    let (size, seed) = (config.group_size, Seed::root(seed));
    let (programs, mut work) =
        complete(policy, prompts, &config.writing, size, seed).expect("it fits");
    let rewards = grade(&programs);
    let groups = Group::split(programs, &rewards, size);
    let (update, training) =
        grpo::update(policy, &groups, config, learning_rate).expect("nothing fails");
    work += training;
    GrpoReport {
        groups: GroupStats::of(&groups),
        update,
        work,
    }
}
