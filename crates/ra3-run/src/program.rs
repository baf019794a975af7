//! `ra3 sample` and `ra3 eval`: programs of any checkpoint, outside a run.

use std::path::Path;

use anyhow::Result;
use ra3::generation::{WritingRule, complete};
use ra3::seed::Seed;
use ra3_evals::bench::{self, Name};
use ra3_evals::prompt::Prompt;
use ra3_records::ledger::ScoreRecord;
use serde::Serialize;

use crate::answers::encode;
use crate::event::{Event, Watcher};
use crate::model::Loaded;
use crate::programs::{Evaluation, ProblemSet, evaluate, pool, writing_rule};
use crate::run_file::{GradingSection, ProblemSetName};

/// How programs are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProgramRequest {
    /// Programs for each prompt.
    pub n_samples: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Longest program, markers and rationales included.
    pub tokens_max: usize,
    /// The model has no latents: nothing is deleted from what it writes.
    pub plain: bool,
    /// Seed of the draws.
    pub seed: u64,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WrittenProgram {
    /// As the model wrote it, decisions and rationales included.
    pub raw: String,
    /// Without them.
    pub program: String,
    /// True if it ended by itself.
    pub ended: bool,
    /// Sum of the log-probabilities of all sampled tokens, in nats.
    pub logprob: f64,
}

/// How programs are written by this model.
pub(crate) fn rule(model: &Loaded, request: &ProgramRequest) -> WritingRule {
    let (lm, tokenizer) = (&*model.lm, &model.tokenizer);
    WritingRule {
        markers: (!request.plain).then(|| tokenizer.markers()),
        stops: model.stops.clone().into(),
        ..writing_rule(lm, tokenizer, request.tokens_max, request.temperature)
    }
}

/// Writes programs for a prompt; with `chat`, for the prompt as a user's message.
///
/// # Errors
/// The model cannot be loaded or has no chat template, or the prompt does not fit its context.
pub fn sample(
    model: &Path,
    prompt: &str,
    is_chat: bool,
    request: &ProgramRequest,
    watcher: &mut Watcher<'_>,
) -> Result<Vec<WrittenProgram>> {
    let model = Loaded::load(model, watcher)?;
    let prompt = if is_chat {
        Prompt::Conversation {
            system: None,
            user: prompt.to_owned(),
            beginning: "",
        }
    } else {
        Prompt::Text(prompt.to_owned())
    };
    let ids = encode(&model, &prompt)?;
    let (rule, seed) = (rule(&model, request), Seed::root(request.seed));
    let (rows, _) = complete(&*model.lm, &[ids], &rule, request.n_samples, seed)?;
    let tokenizer = &model.tokenizer;
    let written = rows.iter().map(|row| WrittenProgram {
        raw: tokenizer.decode(row.raw()),
        program: tokenizer.decode(&row.program()),
        ended: row.ended,
        logprob: row
            .trace
            .logprobs
            .iter()
            .map(|logprob| f64::from(*logprob))
            .sum(),
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
    grading: &GradingSection,
    watcher: &mut Watcher<'_>,
) -> Result<ScoreRecord> {
    let loaded = Loaded::load(model, watcher)?;
    watcher(Event::began("eval"));
    let name = format!("{}, 0-shot", problems.display());
    let set = ProblemSet::new(
        &name,
        bench::read(Name::HumanEval, problems)?.tasks,
        &loaded.tokenizer,
        pool(grading, ProblemSetName::Humaneval)?,
    );
    let evaluation = Evaluation {
        stage: "eval".to_owned(),
        arm: model.display().to_string(),
        position: 0,
        n_tokens_sampled: 0,
        decision_name: "plain",
        rule: rule(&loaded, request),
        guide: None,
        plans: Vec::new(),
        n_samples: request.n_samples,
        pass_at: if request.n_samples > 1 {
            vec![1, request.n_samples]
        } else {
            vec![1]
        },
        n_shown: 0,
        seed: Seed::root(request.seed),
    };
    let (score, _, work) = evaluate(&*loaded.lm, &set, &loaded.tokenizer, &evaluation)?;
    let message = format!("{} tokens sampled", work.n_tokens_sampled);
    watcher(Event::Finished { message });
    Ok(score)
}
