//! `ra3 sample` and `ra3 eval`: programs of any checkpoint, outside a run.

use std::path::Path;

use anyhow::{Context, Result};
use ra3::grpo;
use ra3::rollout::Decision;
use ra3::seed::Seed;
use ra3_corpus::tokenizer::Tokenizer;
use ra3_lm::{Lm, TrainSettings};
use serde::Serialize;

use crate::event::{Event, Watcher};
use crate::ledger::ScoreRecord;
use crate::programs::{Exam, Sitting, pool, sit, writing_rule};
use crate::report::percent;
use crate::run_file::ConfinementName;

/// Longest rationale of a program that is written outside a run.
const RATIONALE_TOKENS_MAX: usize = 64;

/// How programs are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProgramRequest {
    /// Programs for each prompt.
    pub n_samples: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Longest program, markers and rationales included.
    pub tokens_max: usize,
    /// Without decisions.
    pub plain: bool,
    /// Seed of the draws.
    pub seed: u64,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WrittenProgram {
    /// With decisions and rationales.
    pub raw: String,
    /// Without them.
    pub program: String,
    /// True if it ended by itself.
    pub ended: bool,
    /// Sum of the log-probabilities of all sampled tokens, in nats.
    pub logprob: f64,
}

/// Settings of a model that is not trained.
fn inference() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.0,
        clip_norm: 1.0,
        n_tokens_micro: 4096,
        recompute: false,
        cache_bytes_max: 1 << 30,
    }
}

/// Loads a checkpoint folder with its tokenizer.
pub(crate) fn load(model: &Path) -> Result<(Lm, Tokenizer)> {
    let path = model.join("tokenizer.json");
    let tokenizer =
        Tokenizer::load(&path).with_context(|| format!("cannot load {}", path.display()))?;
    let mut lm = Lm::load_to_run(model, inference())
        .with_context(|| format!("cannot load the model {}", model.display()))?;
    // A checkpoint from elsewhere has no rows for the markers.
    lm.grow_vocabulary(tokenizer.vocab_size(), Seed::root(0).child("markers"));
    Ok((lm, tokenizer))
}

fn decision(request: &ProgramRequest) -> Decision {
    if request.plain {
        Decision::Absent
    } else {
        Decision::Free
    }
}

/// Writes programs for a prompt.
///
/// # Errors
/// The checkpoint cannot be loaded, or the prompt does not fit its context.
pub fn sample(model: &Path, prompt: &str, request: &ProgramRequest) -> Result<Vec<WrittenProgram>> {
    let (mut lm, tokenizer) = load(model)?;
    let ids = [vec![tokenizer.markers().end], tokenizer.encode(prompt)].concat();
    let rule = writing_rule(
        &tokenizer,
        decision(request),
        RATIONALE_TOKENS_MAX,
        request.tokens_max,
        request.temperature,
    );
    let seed = Seed::root(request.seed);
    let (rows, _) = grpo::write(&mut lm, &[ids], &rule, request.n_samples, seed)?;
    let written = rows.iter().map(|row| WrittenProgram {
        raw: tokenizer.decode(row.raw()),
        program: tokenizer.decode(&row.program()),
        ended: row.ended,
        logprob: row.logprobs.iter().map(|logprob| f64::from(*logprob)).sum(),
    });
    Ok(written.collect())
}

/// Grades a checkpoint on problems in HumanEval's format.
///
/// # Errors
/// The checkpoint or the problems cannot be read, or there is no sandbox.
pub fn grade_model(
    model: &Path,
    problems: &Path,
    request: &ProgramRequest,
    n_workers: usize,
    watcher: &mut Watcher<'_>,
) -> Result<ScoreRecord> {
    watcher(Event::Started {
        stage: "eval".to_owned(),
        position: 0,
        total: 0,
        unit: "",
    });
    let (mut lm, tokenizer) = load(model)?;
    let name = format!("{}, 0-shot", problems.display());
    let problems = ra3_evals::problem::read(problems)?;
    let exam = Exam::new(
        &name,
        problems,
        &tokenizer,
        pool(n_workers, ConfinementName::BestEffort)?,
    );
    let sitting = Sitting {
        arm: model.display().to_string(),
        position: 0,
        n_tokens_sampled: 0,
        decision_name: if request.plain { "plain" } else { "free" },
        rule: writing_rule(
            &tokenizer,
            decision(request),
            RATIONALE_TOKENS_MAX,
            request.tokens_max,
            request.temperature,
        ),
        plans: None,
        n_samples: request.n_samples,
        pass_at: if request.n_samples > 1 {
            vec![1, request.n_samples]
        } else {
            vec![1]
        },
        n_shown: 0,
        seed: Seed::root(request.seed),
    };
    let (score, _, work) = sit(&mut lm, &exam, &tokenizer, &sitting)?;
    let message = format!("{} tokens sampled", work.n_tokens_sampled);
    watcher(Event::Finished { message });
    Ok(score)
}

/// A score for a reader.
pub fn score_text(score: &ScoreRecord) -> String {
    let mut text = format!(
        "{} problems, {} samples each, temperature {}, decisions {}\n",
        score.n_problems, score.n_samples, score.temperature, score.decision
    );
    for (k, interval) in &score.pass_at {
        text += &format!("pass@{k:<4} {} %\n", percent(interval));
    }
    for (family, pass) in &score.by_family {
        text += &format!("  {family:<12} {:.1} %\n", 100.0 * pass);
    }
    for (verdict, n) in &score.verdicts {
        text += &format!("  {verdict:<16} {n}\n");
    }
    text
}
