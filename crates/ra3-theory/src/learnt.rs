//! Options that nobody gave: latents found in demonstrations by RA3 itself, with the `ra3` crate's
//! own E-step, annotation and M-step on its table policy.
//!
//! A demonstration is a program of a [`Language`], read as a trajectory whose lines are single
//! tokens. What is wanted next (the state that an expert sees) is shown once, as a cue right before
//! a line of the program begins. The table sees two tokens back and the latent in force, so it
//! cannot remember the cue: a latent that names the idiom can. A learnt option is what the policy
//! writes from one switch to the next.

use std::collections::BTreeMap;

use ra3::annotate::Choose;
use ra3::em::Em;
use ra3::formulas::effective_choices;
use ra3::latent_rule::LatentRule;
use ra3::phases::EmConfig;
use ra3::policy::{PolicyError, TokenId};
use ra3::rewards::Penalty;
use ra3::rollout::draw;
use ra3::schedule::Schedule;
use ra3::scoring::lines_logprobs;
use ra3::seed::Seed;
use ra3::settings::{EStepConfig, MStepConfig, Scorer};
use ra3::statistics::LatentStats;
use ra3::table::TablePolicy;
use ra3::trace::Trace;
use ra3::trajectory::{Annotated, Document, Latent, Markers, Trajectory};

use crate::families::program::Language;

const MARKERS: Markers = Markers {
    act: 1,
    think: 2,
    close: 3,
    end: 0,
};
/// The first cue, one for each idiom; they are what the corpus' comments name, too.
const CUE: usize = 4;
/// Share of lines that a comment stands before.
const COMMENT_SHARE: f64 = 0.3;
/// Share of comments that name what is really wanted.
const COMMENT_TRUE: f64 = 0.75;
/// Share of lines at which an E-step rollout has to think. Without it the loop ends, on some seeds,
/// with one latent for the whole document: a local optimum that thinks too seldom to see the gain.
const THINK_FLOOR: f32 = 0.1;
/// An option is kept if it makes up at least this share of all segments.
const SHARE_MIN: f64 = 0.05;
/// Documents of the corpus, and those that are looked at in the end.
const N_DOCUMENTS: usize = 96;
const N_LOOKED_AT: usize = 128;

/// How latents are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learner {
    /// The whole loop.
    Ra3,
    /// The loop without its E-step: nothing but the comments says where a latent is worth its
    /// cost.
    Supervised,
}

/// What a learner found.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// Distinct token sequences, one a latent at most, the most used first.
    pub options: Vec<Vec<usize>>,
    /// Lines (tokens of the language) that a latent stays in force.
    pub lines_per_latent: f64,
    /// Effective number of choices of the next line, the latent given.
    pub choices: f64,
}

/// A corpus of demonstrations.
#[derive(Clone, Debug)]
pub struct Corpus<'a> {
    language: &'a Language,
    /// The idioms of each document.
    programs: Vec<Vec<usize>>,
    seed: Seed,
}

impl<'a> Corpus<'a> {
    /// Programs whose idioms are drawn uniformly.
    pub fn new(language: &'a Language, seed: Seed) -> Self {
        let n = language.idioms.len();
        let pick = |document: Seed, slot: usize| {
            let uniform = document.nth(slot as u64).uniform();
            ((uniform * n as f64) as usize).min(n - 1)
        };
        let program = |document: u64| {
            let seed = seed.child("program").nth(document);
            (0..language.n_slots).map(|slot| pick(seed, slot)).collect()
        };
        Self {
            language,
            programs: (0..N_DOCUMENTS as u64).map(program).collect(),
            seed,
        }
    }

    /// Effective number of choices of the next line for whoever knows the corpus and the last token
    /// of the line before, and has no latent: `exp H(a_t | last token)`, counted.
    pub fn choices_without_latents(&self) -> f64 {
        let mut counts: BTreeMap<TokenId, BTreeMap<Vec<TokenId>, usize>> = BTreeMap::new();
        for index in 0..self.programs.len() {
            let trajectory = self.document(index).trajectory();
            let mut last = trajectory.prefix.last().copied();
            for line in trajectory.lines {
                let before = last.expect("prefixes and lines have tokens");
                last = line.last().copied();
                *counts.entry(before).or_default().entry(line).or_default() += 1;
            }
        }
        let (mut nats, mut n_lines) = (0.0, 0);
        for lines in counts.values() {
            let total: usize = lines.values().sum();
            n_lines += total;
            let surprise = |count: &usize| *count as f64 * (total as f64 / *count as f64).ln();
            nats += lines.values().map(surprise).sum::<f64>();
        }
        (nats / n_lines as f64).exp()
    }

    /// A document with the corpus' own latents: comments at a random share of all lines, each of
    /// which names what is wanted there with probability `COMMENT_TRUE`.
    pub fn document(&self, index: usize) -> Document {
        let program = &self.programs[index];
        let n_idioms = self.language.idioms.len();
        let cue = |idiom: usize| (CUE + idiom) as TokenId;
        let mut lines: Vec<Vec<TokenId>> = Vec::new();
        for (slot, idiom) in program.iter().enumerate() {
            let tokens = self.language.idioms[*idiom].iter();
            lines.extend(tokens.map(|token| vec![(CUE + n_idioms + token) as TokenId]));
            let last = lines.last_mut().expect("idioms have tokens");
            last.extend(program.get(slot + 1).map(|next| cue(*next)));
        }
        let seed = self.seed.child("comment").nth(index as u64);
        let comment = |line: usize| {
            let seed = seed.nth(line as u64);
            let wanted = program[line / self.language.idioms[0].len()];
            let other = (seed.nth(1).uniform() * n_idioms as f64) as usize;
            let is_true = seed.nth(2).uniform() < COMMENT_TRUE;
            if seed.nth(0).uniform() >= COMMENT_SHARE {
                return Some(Latent::Keep);
            }
            Some(Latent::Switch {
                rationale: vec![cue(if is_true { wanted } else { other })],
                forced_close: true,
            })
        };
        let mut latents: Vec<Option<Latent>> = (0..lines.len()).map(comment).collect();
        lines.push(vec![MARKERS.end]);
        latents.push(Some(Latent::Keep));
        let trajectory = Trajectory {
            prefix: vec![MARKERS.end, cue(program[0])],
            lines,
        };
        Document {
            n_corpus_tokens: trajectory.n_tokens() as u64,
            annotated: Annotated {
                trajectory,
                latents,
            },
        }
    }
}

fn config(switch_cost: f32, learner: Learner) -> EmConfig {
    EmConfig {
        cold_start_updates: 20,
        cold_start_lines_share: 0.0,
        rounds: 12,
        selection_rounds: 0,
        e_updates: match learner {
            Learner::Ra3 => 8,
            Learner::Supervised => 0,
        },
        annotate_documents: 64,
        m_updates: 8,
        m_batch_documents: 32,
        e_step: EStepConfig {
            scorer: Scorer::Frozen,
            learning_rate: 4.0,
            warmup: 0,
            group_size: 8,
            rationale_tokens_max: 1,
            horizon: 0,
            discount: 0.8,
            penalty: Penalty::SwitchCost { cost: switch_cost },
            think_floor: THINK_FLOOR,
            ..EStepConfig::default()
        },
        m_step: MStepConfig {
            choose: Choose::BestOf { group_size: 8 },
            corpus_latents_share: 0.0,
            ..MStepConfig::default()
        },
        prefix_weight: 0.0,
        supervised_schedule: Schedule::Constant {
            peak: 8.0,
            warmup: 0,
        },
    }
}

/// Runs the loop from a random table and reads the options off what it then does.
///
/// # Errors
/// As [`Em::advance`]: a loss that is not finite.
pub fn learn(
    corpus: &Corpus<'_>,
    switch_cost: f32,
    learner: Learner,
    seed: Seed,
) -> Result<Learnt, PolicyError> {
    let n_vocabulary = CUE + corpus.language.idioms.len() + corpus.language.n_tokens;
    let mut policy = TablePolicy::random(n_vocabulary, 2, 0.1, seed.child("table"))
        .with_latent_in_force(MARKERS.think);
    let mut em = Em::new(config(switch_cost, learner), MARKERS, N_DOCUMENTS);
    let (documents, of_loop) = (|index| corpus.document(index), seed.child("loop"));
    while em.advance(&mut policy, &documents, of_loop)?.is_some() {}
    let rule = em.config.e_step.latent_rule(MARKERS);
    look(corpus, &policy, &rule, seed.child("look"))
}

/// Draws latents for the corpus' documents and reads the options off them.
fn look(
    corpus: &Corpus<'_>,
    policy: &TablePolicy,
    rule: &LatentRule,
    seed: Seed,
) -> Result<Learnt, PolicyError> {
    let batch: Vec<Trajectory> = (0..N_LOOKED_AT)
        .map(|index| corpus.document(index % N_DOCUMENTS).trajectory())
        .collect();
    let (drawn, _) = draw(policy, &batch, rule, 1, seed)?;
    let (lines, _) = lines_logprobs(policy, &drawn)?;
    let logprobs: Vec<f64> = lines.into_iter().flatten().map(f64::from).collect();
    let annotated: Vec<Annotated> = drawn.iter().map(Trace::annotated).collect();
    let first_action = CUE + corpus.language.idioms.len();
    Ok(Learnt {
        options: options_of(&annotated, first_action),
        lines_per_latent: LatentStats::of(annotated.iter()).persistence,
        choices: effective_choices(logprobs.iter().sum(), logprobs.len()),
    })
}

/// The most common segment of each latent, if common enough. What stands before a document's first
/// switch belongs to the empty latent.
fn options_of(annotated: &[Annotated], first_action: usize) -> Vec<Vec<usize>> {
    let mut counts: BTreeMap<(Option<TokenId>, Vec<usize>), usize> = BTreeMap::new();
    for document in annotated {
        let (mut latent, mut segment) = (None, Vec::new());
        for (line, decision) in document.trajectory.lines.iter().zip(&document.latents) {
            if let Some(Latent::Switch { rationale, .. }) = decision {
                *counts.entry((latent, segment)).or_default() += 1;
                (latent, segment) = (rationale.first().copied(), Vec::new());
            }
            // The end of the document is no action of the language.
            segment.extend((line[0] as usize).checked_sub(first_action));
        }
        *counts.entry((latent, segment)).or_default() += 1;
    }
    counts.retain(|(_, segment), _| !segment.is_empty());
    let total: usize = counts.values().sum();
    let mut best: BTreeMap<Option<TokenId>, (usize, Vec<usize>)> = BTreeMap::new();
    for ((latent, segment), count) in counts {
        let held = best.entry(latent).or_default();
        if count > held.0 {
            *held = (count, segment);
        }
    }
    let mut found: Vec<(usize, Vec<usize>)> = best.into_values().collect();
    found.retain(|(count, _)| *count as f64 >= SHARE_MIN * total as f64);
    found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let mut options: Vec<Vec<usize>> = Vec::new();
    for (_, segment) in found {
        if !options.contains(&segment) {
            options.push(segment);
        }
    }
    options
}
