//! A model's programs for the problems of a measure.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ra3::generation::WritingRule;
use ra3::guided::Guide;
use ra3::latent_rule::{Decision, LatentRule};
use ra3::model::Model;
use ra3::policy::TokenId;
use ra3::seed::Seed;
use ra3_corpus::lines::encode_rationale;
use ra3_evals::bench;
use ra3_evals::evalplus::data::Rules;
use ra3_records::ledger::{Record, ScoreRecord};
use ra3_testbed::{Form, Problem};
use ra3_text::tokenizer::Tokenizer;

use super::corpus::{self, Split};
use crate::benchmark_data;
use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::model_note::ModelNote;
use crate::programs::{Evaluation, ProblemSet, evaluate, pool, writing_rule};
use crate::run_file::{EvaluateSection, GradingSection, RunFile};
use crate::store::StageFolder;

/// Programs of a model that the report shows.
const N_SHOWN_PROGRAMS: usize = 40;

/// A model that is measured.
pub(crate) struct Measured<'a> {
    /// What it is measured on.
    pub(crate) measure: &'a EvaluateSection,
    /// Its name.
    pub(crate) name: String,
    /// Whether it has been through RLVR.
    pub(crate) is_after_rlvr: bool,
    /// Its folder.
    pub(crate) model: PathBuf,
}

pub(crate) fn run(
    file: &RunFile,
    engine: &Engine,
    measured: &Measured<'_>,
    corpus: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    watcher(Event::began(folder.stage()));
    let tokenizer = corpus::tokenizer(corpus)?;
    let Measured {
        measure,
        name,
        is_after_rlvr,
        model,
    } = measured;
    let lm = engine.load(model)?;
    let set = problem_set(measure, &file.grading, corpus, &tokenizer, &*lm, watcher)?;
    let is_latent = ModelNote::read(model)?.is_latent();
    let way = Way {
        measure,
        stage: folder.stage().to_owned(),
        arm: name.clone(),
        rule: writing_rule(
            &*lm,
            &tokenizer,
            measure.program_tokens_max,
            measure.temperature,
        ),
        seed: Seed::root(file.seed).child("evaluate"),
    };
    let mut evaluations = vec![Evaluation {
        n_shown: N_SHOWN_PROGRAMS,
        ..way.plainly("plain")
    }];
    if is_latent && !is_after_rlvr && measure.decision_table {
        evaluations.extend(way.by_decision(file, corpus, &tokenizer)?);
    }
    let mut first = None;
    for evaluation in evaluations {
        let (score, samples, _) = evaluate(&*lm, &set, &tokenizer, &evaluation)?;
        let pass = headline(&score);
        watcher(Event::Note(format!(
            "  {name} {}: {pass}",
            evaluation.decision_name
        )));
        first.get_or_insert(pass);
        folder.record(&Record::Score(score))?;
        samples
            .iter()
            .try_for_each(|sample| folder.sample(sample))?;
    }
    let message = first.unwrap_or_default();
    watcher(Event::Finished { message });
    Ok(())
}

/// pass@k at the smallest k that was asked for.
fn headline(score: &ScoreRecord) -> String {
    let smallest = score
        .pass_at
        .iter()
        .filter_map(|(k, interval)| Some((k.parse::<u64>().ok()?, interval.mean)))
        .min_by_key(|(k, _)| *k);
    smallest.map_or_else(String::new, |(k, mean)| {
        format!("pass@{k} {:.1} %", 100.0 * mean)
    })
}

/// The problems of a measure, ready to be graded.
fn problem_set(
    measure: &EvaluateSection,
    grading: &GradingSection,
    corpus: &Path,
    tokenizer: &Tokenizer,
    lm: &dyn Model,
    watcher: &mut Watcher<'_>,
) -> Result<ProblemSet> {
    let n_prompt_max = lm
        .shape()
        .n_context
        .saturating_sub(measure.program_tokens_max);
    let name = format!("{}, held-out problems, 0-shot", measure.name());
    let pool = pool(grading, measure.problems.set)?;
    if let Some(forms) = measure.problems.set.forms() {
        let (_, tasks) = corpus::problems(corpus, Split::HeldOut, forms)?;
        return Ok(ProblemSet::new(&name, tasks, tokenizer, pool));
    }
    let bench = measure.problems.set.bench();
    let bench = bench.context("what is not the testbed is a benchmark")?;
    let data = benchmark_data::locate(bench, measure.problems.data.as_deref())?;
    let cache = ra3_files::cache_folder(|name| std::env::var_os(name)).join("ra3/expected");
    let ready = bench::load(
        bench,
        Rules::Current,
        &data,
        &pool,
        Some(&cache),
        &mut |_| {},
    )
    .with_context(|| format!("evaluate.problems.data: {}", data.display()))?;
    watcher(Event::Note(format!(
        "{}: {}",
        measure.name(),
        ready.version
    )));
    let name = format!("{}, 0-shot", measure.name());
    let mut set = ProblemSet::of_ready(&name, ready.into_tasks(), tokenizer, pool);
    let n_left_out = set.keep_fitting(n_prompt_max);
    ensure!(
        !set.tasks.is_empty(),
        "evaluate.problems: no problem of {} has a prompt of {n_prompt_max} tokens or fewer",
        data.display()
    );
    if n_left_out > 0 {
        watcher(Event::Note(format!(
            "warning: {n_left_out} problems of {} are left out: with evaluate.program_tokens_max = \
             {} their prompts do not fit the context",
            data.display(),
            measure.program_tokens_max
        )));
    }
    Ok(set)
}

/// How the programs of a model are written and counted.
struct Way<'a> {
    measure: &'a EvaluateSection,
    stage: String,
    arm: String,
    rule: WritingRule,
    seed: Seed,
}

impl Way<'_> {
    /// By plain sampling, as any server samples.
    fn plainly(&self, decision_name: &'static str) -> Evaluation {
        Evaluation {
            stage: self.stage.clone(),
            arm: self.arm.clone(),
            position: 0,
            n_tokens_sampled: 0,
            decision_name,
            rule: self.rule.clone(),
            guide: None,
            plans: Vec::new(),
            n_samples: self.measure.n_samples,
            pass_at: self.measure.pass_at.clone(),
            n_shown: 0,
            seed: self.seed.child(decision_name),
        }
    }

    /// With decisions drawn between the markers, forced, and after the true plan, where problems
    /// have one.
    fn by_decision(
        &self,
        file: &RunFile,
        corpus: &Path,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Evaluation>> {
        let newlines: Arc<[TokenId]> = tokenizer.newlines().collect();
        let (n_max, temperature) = (file.corpus.rationale_tokens_max, self.measure.temperature);
        let latents = LatentRule::free(tokenizer.markers(), n_max, temperature);
        let guided = |name, decision| Evaluation {
            guide: Some(Guide {
                latents: LatentRule {
                    decision,
                    ..latents.clone()
                },
                newlines: Arc::clone(&newlines),
            }),
            ..self.plainly(name)
        };
        let mut evaluations = vec![
            guided("free", Decision::Free),
            guided("act", Decision::Act),
            guided("think", Decision::Think),
        ];
        if let Some(forms) = self.measure.problems.set.forms() {
            evaluations.push(Evaluation {
                plans: true_plans(corpus, forms, tokenizer)?,
                ..guided("true_plan", Decision::Absent)
            });
        }
        Ok(evaluations)
    }
}

/// The true rationale before the first line, where a problem has one there.
fn true_plans(
    corpus: &Path,
    forms: &[Form],
    tokenizer: &Tokenizer,
) -> Result<Vec<Option<Vec<u32>>>> {
    let (problems, _) = corpus::problems(corpus, Split::HeldOut, forms)?;
    let plan = |problem: &Problem| {
        let first = problem.plan.iter().find(|planned| planned.line == 0)?;
        Some(encode_rationale(&first.rationale, tokenizer))
    };
    Ok(problems.iter().map(plan).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ra3_records::ledger::Interval;

    #[test]
    fn a_score_is_called_by_its_smallest_k() {
        let interval = |mean| Interval {
            mean,
            low: 0.0,
            high: 1.0,
        };
        let score = |pass_at: &[(usize, f64)]| ScoreRecord {
            n_samples: 10,
            pass_at: pass_at
                .iter()
                .map(|(k, mean)| (k.to_string(), interval(*mean)))
                .collect(),
            ..ScoreRecord::default()
        };
        // Keys are texts: "10" is before "3".
        assert_eq!(headline(&score(&[(10, 0.75), (3, 0.5)])), "pass@3 50.0 %");
        assert_eq!(headline(&score(&[(10, 0.75), (1, 0.25)])), "pass@1 25.0 %");
        assert_eq!(headline(&score(&[])), "");
    }
}
