//! The jobs: what is asked of the engine, the same for every peer.

use std::fmt;

use ra3::e_step;
use ra3::model::Model;
use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, SampleRule, TokenId, Work,
    run_all,
};
use ra3::rewards::Penalty;
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::trajectory::{Markers, Trajectory};
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

use crate::Request;

/// Tokens of a training step, and of a scoring, together: of one document where it has more.
const N_TOKENS: usize = 2048;
/// Tokens of a document, unless the job's name says otherwise.
const N_DOCUMENT: usize = 256;
/// Tokens of a prompt, and as many are written.
const N_PROMPT: usize = 64;
/// The E-step's documents: so many, of a prefix and lines of so many tokens.
const N_TRAJECTORIES: usize = 4;
const N_PREFIX: usize = 32;
const N_LINES: usize = 16;
const N_LINE: usize = 12;
/// Tokens of a rationale.
const N_RATIONALE: usize = 16;
const LEARNING_RATE: f32 = 1e-4;

/// A job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Job {
    /// One AdamW step on 2048 tokens in documents of so many.
    Train {
        /// Tokens of a document.
        document: usize,
    },
    /// The log-probabilities of as many.
    Score {
        /// Tokens of a document.
        document: usize,
    },
    /// 64 tokens behind a prompt of 64, by plain sampling.
    Generate {
        /// Prompts at once.
        batch: usize,
    },
    /// One update of the E-step on 4 documents of 16 lines: rollouts, scores, policy gradient.
    EStep {
        /// Share of the lines before which the model thinks.
        think: f32,
        /// Rollouts of a document.
        group: usize,
    },
}

impl Job {
    /// Every job.
    pub(crate) const ALL: [Self; 9] = [
        Self::Train {
            document: N_DOCUMENT,
        },
        Self::Score {
            document: N_DOCUMENT,
        },
        Self::Generate { batch: 1 },
        Self::Generate { batch: 8 },
        Self::Generate { batch: 32 },
        Self::EStep {
            think: 1.0,
            group: 8,
        },
        Self::EStep {
            think: 0.2,
            group: 8,
        },
        Self::EStep {
            think: 0.05,
            group: 8,
        },
        Self::EStep {
            think: 0.05,
            group: 1,
        },
    ];

    /// The jobs whose names begin so; or the one that it is the whole name of, with numbers of its
    /// own.
    pub(crate) fn named(name: &str) -> Vec<Self> {
        let known = Self::ALL.into_iter();
        let known: Vec<Self> = known
            .filter(|job| job.to_string().starts_with(name))
            .collect();
        if known.is_empty() {
            return Self::parse(name).into_iter().collect();
        }
        known
    }

    /// `train-1024`, `score-1024`, `generate-64` or `e-step-0.1-16`.
    fn parse(name: &str) -> Option<Self> {
        let (job, number) = name.rsplit_once('-')?;
        let n = number.parse().ok().filter(|n| (1..1 << 20).contains(n))?;
        match job {
            "train" if n > 1 => Some(Self::Train { document: n }),
            "score" if n > 1 => Some(Self::Score { document: n }),
            "generate" => Some(Self::Generate { batch: n }),
            _ => {
                let think = job.strip_prefix("e-step-")?.parse().ok()?;
                let is_share = (0.0..=1.0).contains(&think);
                is_share.then_some(Self::EStep { think, group: n })
            }
        }
    }

    /// Positions that the model's context needs.
    pub(crate) fn n_positions(self) -> usize {
        match self {
            Self::Train { document } | Self::Score { document } => document,
            Self::Generate { .. } => 2 * N_PROMPT,
            Self::EStep { .. } => N_PREFIX + N_LINES * (N_LINE + N_RATIONALE + 2) + N_RATIONALE,
        }
    }

    /// Passes over all weights that wait for one another, where these are what bounds the job.
    pub(crate) fn n_passes(self) -> usize {
        match self {
            Self::Train { .. } | Self::Score { .. } | Self::EStep { .. } => 1,
            Self::Generate { .. } => N_PROMPT,
        }
    }

    /// True if the weights move.
    pub(crate) fn trains(self) -> bool {
        match self {
            Self::Train { .. } | Self::EStep { .. } => true,
            Self::Score { .. } | Self::Generate { .. } => false,
        }
    }

    /// What a reader counts in it, and how many.
    pub(crate) fn units(self) -> (&'static str, usize) {
        match self {
            Self::Train { document } | Self::Score { document } => {
                ("tokens", n_documents(document) * document)
            }
            Self::Generate { batch } => ("tokens", batch * N_PROMPT),
            Self::EStep { .. } => ("trajectories", N_TRAJECTORIES),
        }
    }

    /// Does the job once.
    pub(crate) fn run(self, subject: &mut Subject) -> Result<Work, PolicyError> {
        match self {
            Self::Train { document } => subject.train(document),
            Self::Score { document } => Ok(subject.lm.score(&subject.documents(document))?.1),
            Self::Generate { batch } => subject.generate(batch),
            Self::EStep { think, group } => subject.e_step(think, group),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train {
                document: N_DOCUMENT,
            } => write!(formatter, "train"),
            Self::Train { document } => write!(formatter, "train-{document}"),
            Self::Score {
                document: N_DOCUMENT,
            } => write!(formatter, "score"),
            Self::Score { document } => write!(formatter, "score-{document}"),
            Self::Generate { batch } => write!(formatter, "generate-{batch}"),
            Self::EStep { think, group } => write!(formatter, "e-step-{think}-{group}"),
        }
    }
}

/// Documents of so many tokens that make a job.
fn n_documents(document: usize) -> usize {
    (N_TOKENS / document).max(1)
}

/// The model that is measured.
pub(crate) struct Subject {
    lm: Lm,
    /// The last three tokens of the vocabulary.
    markers: Markers,
}

impl Subject {
    pub(crate) fn new(config: &ModelConfig, request: &Request) -> Self {
        let settings = TrainSettings {
            weight_decay: 0.01,
            clip_norm: 1.0,
            n_tokens_micro: 4096,
            recompute: false,
            cache_bytes_max: 4 << 30,
            recorded_bytes_max: 4 << 30,
            compute: request.compute,
            moments: Precision::Float32,
            frozen: request.weights,
        };
        let mut lm = Lm::random(config.clone(), settings, Seed::root(0));
        let last = config.vocab_size as TokenId - 1;
        let markers = Markers {
            act: last,
            think: last - 1,
            close: last - 2,
            end: last,
        };
        avoid(&mut lm, [markers.think, markers.close]);
        if request.weights != Precision::Float32 {
            lm.freeze();
        }
        Self { lm, markers }
    }

    fn token(&self, seed: Seed) -> TokenId {
        let n_plain = self.lm.config().vocab_size - 8;
        (seed.uniform() * n_plain as f64) as TokenId
    }

    fn tokens(&self, n: usize, seed: Seed) -> Vec<TokenId> {
        (0..n as u64)
            .map(|index| self.token(seed.nth(index)))
            .collect()
    }

    fn documents(&self, n_tokens: usize) -> Vec<Example> {
        let n = n_documents(n_tokens);
        let mut weights = vec![1.0 / (n * (n_tokens - 1)) as f32; n_tokens];
        weights[0] = 0.0;
        let document = |index: usize| {
            let tokens = self.tokens(n_tokens, Seed::root(index as u64));
            Example::plain(tokens, weights.clone())
        };
        (0..n).map(document).collect()
    }

    fn train(&mut self, document: usize) -> Result<Work, PolicyError> {
        let objective = Objective::likelihood(LEARNING_RATE);
        Ok(self.lm.update(&self.documents(document), objective)?.work)
    }

    fn generate(&self, batch: usize) -> Result<Work, PolicyError> {
        let row = |index: usize| Writer(self.tokens(N_PROMPT, Seed::root(index as u64)));
        let mut rows: Vec<Writer> = (0..batch).map(row).collect();
        run_all(&self.lm, &mut rows, Seed::root(1))
    }

    /// The decisions that are not forced fall for `<act>`, whose logit is far above that of
    /// `<think>`: so the share of thinks is the floor's, and everything else is what it always is.
    fn e_step(&mut self, think: f32, group: usize) -> Result<Work, PolicyError> {
        let config = EStepConfig {
            group_size: group,
            rationale_tokens_max: N_RATIONALE,
            horizon: 0,
            penalty: Penalty::SwitchCost { cost: 0.1 },
            think_floor: think,
            think_every_line: think >= 1.0,
            ..EStepConfig::default()
        };
        let trajectory = |index: usize| {
            let seed = Seed::root(index as u64);
            let line = |line: usize| self.tokens(N_LINE, seed.child("line").nth(line as u64));
            Trajectory {
                prefix: self.tokens(N_PREFIX, seed),
                lines: (0..N_LINES).map(line).collect(),
            }
        };
        let batch: Vec<Trajectory> = (0..N_TRAJECTORIES).map(trajectory).collect();
        let (markers, frozen) = (self.markers, Frozen::default());
        let lm = &mut self.lm;
        let (rate, seed) = (LEARNING_RATE, Seed::root(1));
        Ok(e_step::update(lm, &frozen, &batch, &markers, &config, rate, seed)?.work)
    }
}

/// Makes some tokens ones that are never drawn beside others: all rows of the embedding, which is
/// the head, get one large number, and these rows its opposite.
fn avoid(lm: &mut Lm, tokens: [TokenId; 2]) {
    const LARGE: f32 = 0.5;
    let d = lm.config().hidden_size;
    let layout = &lm.weights().layout;
    let is_vocabulary =
        |name: &str| ["model.embed_tokens.weight", "lm_head.weight"].contains(&name);
    let tensors = layout.tensors.iter();
    let tensors = tensors.filter(|tensor| is_vocabulary(&tensor.name));
    let places: Vec<_> = tensors.map(|tensor| tensor.range.clone()).collect();
    for place in places {
        let rows = lm.weights_mut().data_mut()[place].chunks_mut(d);
        for (token, row) in rows.enumerate() {
            row[0] = if tokens.contains(&(token as TokenId)) {
                -LARGE
            } else {
                LARGE
            };
        }
    }
}

/// Takes a prompt, then writes as many tokens.
struct Writer(Vec<TokenId>);

impl Episode for Writer {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(std::mem::take(&mut self.0)),
            Observation::Fed { .. } => Move::Sample(SampleRule::plain(1.0, N_PROMPT)),
            Observation::Sampled { .. } => Move::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_named_by_how_they_begin_or_with_numbers_of_their_own() {
        let names = |name: &str| -> Vec<String> {
            let found = Job::named(name).into_iter();
            found.map(|job| job.to_string()).collect()
        };
        assert_eq!(names("train"), ["train"]);
        assert_eq!(names("e-step-0.05"), ["e-step-0.05-8", "e-step-0.05-1"]);
        for name in [
            "train-1024",
            "score-4096",
            "generate-64",
            "e-step-0.1-16",
            "e-step-0-1",
        ] {
            assert_eq!(names(name), [name]);
        }
        for name in [
            "trains",
            "train-0",
            "train-1",
            "train-x",
            "e-step-2-8",
            "e-step-8",
            "-",
            "",
        ] {
            assert!(name.is_empty() || names(name).is_empty(), "{name}");
        }
        assert_eq!(names("").len(), Job::ALL.len());
        assert_eq!([256, 1024, 16384].map(n_documents), [8, 2, 1]);
    }
}
