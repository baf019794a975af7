//! Long runs in small: the whole loop and GRPO on the engine, over many seeds and random small
//! shapes, with contexts that documents only just fit and a cache that holds few rows. Whatever is
//! drawn, nothing dies and nothing is lost.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use ra3::annotate::Choose;
use ra3::completion::Completion;
use ra3::em::Em;
use ra3::formulas::Baseline;
use ra3::generation::{WritingRule, complete};
use ra3::group::Group;
use ra3::grpo;
use ra3::phases::{Done, EmConfig};
use ra3::policy::{Surrogate, TokenId};
use ra3::rewards::Penalty;
use ra3::schedule::Schedule;
use ra3::seed::Seed;
use ra3::settings::{EStepConfig, Estimator, GrpoConfig, MStepConfig, Scorer};
use ra3::statistics::GroupStats;
use ra3::trajectory::{Annotated, Document, Latent, Markers, Trajectory};
use ra3_lm::config::{Architecture, ModelConfig, Precision};
use ra3_lm::{Lm, TrainSettings};

const MARKERS: Markers = Markers {
    act: 1,
    think: 2,
    close: 3,
    end: 0,
};
const VOCABULARY: usize = 16;

/// Draws of one seed.
struct Draw(Seed, u64);

impl Draw {
    /// In `from..=to`.
    fn number(&mut self, from: usize, to: usize) -> usize {
        self.1 += 1;
        from + (self.0.nth(self.1).uniform() * (to - from + 1) as f64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.number(0, from.len() - 1)]
    }

    fn tokens(&mut self, n: usize) -> Vec<TokenId> {
        (0..n)
            .map(|_| self.number(4, VOCABULARY - 1) as TokenId)
            .collect()
    }
}

/// Documents of one line and of several, with rationales of no tokens among their latents.
fn document(draw: &mut Draw) -> Document {
    let n_prefix = draw.number(0, 3);
    let prefix = [vec![MARKERS.end], draw.tokens(n_prefix)].concat();
    let n_lines = draw.number(0, 5);
    let mut lines: Vec<Vec<TokenId>> = (0..n_lines)
        .map(|_| {
            let n = draw.number(1, 5);
            draw.tokens(n)
        })
        .collect();
    lines.push(vec![MARKERS.end]);
    let latents = (0..lines.len())
        .map(|_| {
            Some(match draw.number(0, 2) {
                0 => {
                    let n = draw.number(0, 2);
                    Latent::Switch {
                        rationale: draw.tokens(n),
                        forced_close: false,
                    }
                }
                _ => Latent::Keep,
            })
        })
        .collect();
    let trajectory = Trajectory { prefix, lines };
    Document {
        n_corpus_tokens: trajectory.n_tokens() as u64,
        annotated: Annotated {
            trajectory,
            latents,
        },
    }
}

/// Tokens of the longest sequence that the corpus asks for: with its own latents, or an act a line.
fn n_least(documents: &[Document]) -> usize {
    let own = |document: &Document| {
        let latents = document.annotated.latents.iter().flatten();
        let n_latent: usize = latents.map(Latent::n_tokens).sum();
        let trajectory = &document.annotated.trajectory;
        trajectory.n_tokens() + n_latent.max(trajectory.lines.len())
    };
    documents.iter().map(own).max().unwrap()
}

fn model(draw: &mut Draw, n_context: usize, seed: Seed) -> Lm {
    let mut config = ModelConfig::new(draw.pick(&[Architecture::Qwen2, Architecture::Llama]));
    config.vocab_size = VOCABULARY;
    config.hidden_size = 8 * draw.number(1, 2);
    config.intermediate_size = draw.number(3, 9);
    config.num_hidden_layers = draw.number(1, 2);
    config.num_attention_heads = 2;
    config.num_key_value_heads = draw.number(1, 2);
    config.max_position_embeddings = n_context;
    config.initializer_range = 0.5;
    // A position costs (2 · layers · keys + hidden) numbers and its place in the trie.
    let n_bytes_a_token = 4 * (2 * 2 * 16 + 16) + 128;
    let settings = TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro: draw.number(1, 64),
        recompute: draw.number(0, 1) == 1,
        cache_bytes_max: n_bytes_a_token * n_context * draw.number(2, 8),
        recorded_bytes_max: 1 << 28,
        compute: draw.pick(&[Precision::Float32, Precision::Bfloat16]),
        moments: draw.pick(&[Precision::Float32, Precision::Bfloat16]),
        frozen: draw.pick(&[Precision::Float32, Precision::Bfloat16]),
    };
    Lm::random(config, settings, seed)
}

fn e_step_config(draw: &mut Draw) -> EStepConfig {
    let (think_floor, think_every_line) = draw.pick(&[(0.0, false), (0.0, true), (0.5, false)]);
    EStepConfig {
        batch_documents: draw.number(1, 3),
        group_size: draw.number(1, 4),
        rationale_tokens_max: draw.number(1, 6),
        horizon: draw.number(0, 2),
        discount: draw.pick(&[0.0, 0.5, 1.0]),
        penalty: draw.pick(&[
            Penalty::SwitchCost { cost: 0.3 },
            Penalty::SwitchCost {
                cost: f32::INFINITY,
            },
            Penalty::ExactKl { alpha: 0.8 },
            Penalty::SwitchCostOnMean { cost: 0.1 },
            Penalty::SwitchCostOnProbability { cost: 0.1 },
        ]),
        baseline: draw.pick(&[
            Baseline::LeaveOneOut,
            Baseline::GroupMean,
            Baseline::Standardised,
            Baseline::None,
        ]),
        updates_per_batch: draw.number(1, 2),
        temperature: draw.pick(&[1.0, 0.5]),
        think_floor,
        think_every_line,
        scorer: draw.pick(&[Scorer::Live, Scorer::Frozen]),
        learning_rate: 1e-2,
        warmup: 0,
        ..EStepConfig::default()
    }
}

fn em_config(draw: &mut Draw) -> EmConfig {
    // A loop without annotation has nothing for an M-step.
    let annotate_documents = draw.number(0, 5);
    EmConfig {
        cold_start_updates: draw.number(0, 2) as u64,
        cold_start_lines_share: 0.0,
        rounds: draw.number(0, 2) as u64,
        selection_rounds: 0,
        e_updates: draw.number(0, 2) as u64,
        annotate_documents,
        m_updates: if annotate_documents > 0 {
            draw.number(0, 2) as u64
        } else {
            0
        },
        m_batch_documents: draw.number(1, 3),
        e_step: e_step_config(draw),
        m_step: MStepConfig {
            corpus_latents_share: draw.pick(&[0.0, 0.3, 1.0]),
            random_rationales: draw.number(0, 3) == 0,
            choose: draw.pick(&[
                Choose::Sample {},
                Choose::BestOf { group_size: 2 },
                Choose::ImportanceWeights { group_size: 2 },
            ]),
            rationale_weight: draw.pick(&[0.0, 1.0]),
            ..MStepConfig::default()
        },
        prefix_weight: draw.pick(&[0.0, 1.0]),
        supervised_schedule: Schedule::Constant {
            peak: 1e-2,
            warmup: 1,
        },
    }
}

/// Every document of the round fits, and its own tokens are all there.
fn check(em: &Em, documents: &[Document], n_context: usize) {
    for found in em.annotated.iter().flat_map(|document| &document.draws) {
        let latents = found.annotated.latents.iter().flatten();
        let n_latent: usize = latents.map(Latent::n_tokens).sum();
        assert!(found.annotated.trajectory.n_tokens() + n_latent <= n_context);
        let is_whole =
            |document: &Document| document.annotated.trajectory == found.annotated.trajectory;
        assert!(documents.iter().any(is_whole));
    }
}

/// Runs the loop; the largest share of lines of an E-step that were decided for want of room.
fn midtrain(
    draw: &mut Draw,
    lm: &mut Lm,
    documents: &[Document],
    n_context: usize,
    seed: Seed,
) -> f64 {
    let mut out_of_room: f64 = 0.0;
    let mut em = Em::new(em_config(draw), MARKERS, documents.len());
    let give = |index: usize| documents[index].clone();
    loop {
        let report = em.advance(lm, &give, seed);
        let report = report.unwrap_or_else(|error| panic!("{:?}: {error}", em.config));
        match report.map(|report| report.done) {
            None => return out_of_room,
            Some(Done::EStep(report)) => {
                assert!(report.rollouts.mean_return.is_finite());
                out_of_room = out_of_room.max(report.rollouts.out_of_room_share);
            }
            Some(Done::Supervised(update)) => assert!(update.loss.is_finite()),
            Some(Done::Annotated(_)) => check(&em, documents, n_context),
        }
    }
}

fn rlvr(draw: &mut Draw, lm: &mut Lm, n_context: usize, seed: Seed) {
    let config = GrpoConfig {
        group_size: draw.number(1, 4),
        estimator: draw.pick(&[
            Estimator::Grpo,
            Estimator::DrGrpo,
            Estimator::Rloo,
            Estimator::Dapo,
        ]),
        drop_groups_without_signal: draw.number(0, 1) == 1,
        overlong_tokens: draw.number(0, n_context),
        writing: WritingRule {
            markers: Some(MARKERS),
            stops: [MARKERS.end].into(),
            rests: None,
            program_tokens_max: draw.number(1, 2 * n_context),
            temperature: 1.0,
            top_k: None,
            top_p: None,
        },
        surrogate: Surrogate::Clipped {
            low: 0.2,
            high: 0.3,
        },
        updates_per_batch: draw.number(1, 2),
    };
    for update in 0..2 {
        // A prompt may fill the context: its program is empty then.
        let prompts: Vec<Vec<TokenId>> = (0..draw.number(1, 3))
            .map(|_| {
                let n = draw.number(1, n_context);
                draw.tokens(n)
            })
            .collect();
        let seed = seed.child("rlvr").nth(update);
        let (programs, _) =
            complete(lm, &prompts, &config.writing, config.group_size, seed).unwrap();
        let reward = |program: &Completion| {
            assert!(program.trace.tokens.len() <= n_context);
            f32::from(u8::from(program.program().len().is_multiple_of(2)))
        };
        let rewards: Vec<f32> = programs.iter().map(reward).collect();
        let groups = Group::split(programs, &rewards, config.group_size);
        assert!(GroupStats::of(&groups).ended_share <= 1.0);
        let (update, _) = grpo::update(lm, &groups, &config, 1e-2).unwrap();
        assert!(update.loss.is_finite());
    }
}

#[test]
fn two_hundred_seeds_of_random_small_shapes_run_to_their_end() {
    let mut shares = Vec::new();
    for index in 0..200 {
        let seed = Seed::root(17).nth(index);
        let mut draw = Draw(seed.child("shape"), 0);
        let documents: Vec<Document> = (0..draw.number(1, 6))
            .map(|_| document(&mut draw))
            .collect();
        let n_context = n_least(&documents) + draw.number(0, 8);
        let mut lm = model(&mut draw, n_context, seed.child("weights"));
        shares.push(midtrain(&mut draw, &mut lm, &documents, n_context, seed));
        rlvr(&mut draw, &mut lm, n_context, seed);
    }
    // Contexts were tight: in many of these runs lines were decided by force, in others none.
    let n_tight = shares.iter().filter(|share| **share > 0.0).count();
    assert!((20..180).contains(&n_tight), "{n_tight}");
}
