//! Measuring an arm: bits per byte and bounds on held-out documents, programs on held-out problems.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use ra3::bounds::{self, without_think};
use ra3::generation::{Guide, WritingRule};
use ra3::policy::{Policy, TokenId};
use ra3::rollout::{Decision, LatentRule};
use ra3::scoring::{Frozen, draw, lines_logprobs, rescore};
use ra3::seed::Seed;
use ra3::trace::Trace;
use ra3::trajectory::{Latent, Trajectory};
use ra3_corpus::lines::encode_rationale;
use ra3_evals::bench::{self, Name};
use ra3_text::tokenizer::Tokenizer;

use super::base::load_model;
use super::corpus::{self, Split};
use super::held_out::Text;
use super::midtrain::REFERENCE;
use crate::arm::Arm;
use crate::clock;
use crate::directory::RunDirectory;
use crate::event::{Event, Watcher};
use crate::ledger::{HeldOutRecord, Record, ScoreRecord};
use crate::plan::Plan;
use crate::programs::{Evaluation, ProblemSet, evaluate, pool, writing_rule};
use crate::run_file::EvaluateSection;
use crate::samples::{AnnotatedLine, DocumentSample, Sample};

/// Documents and programs of an arm that the report shows.
const N_SHOWN_DOCUMENTS: usize = 12;
const N_SHOWN_PROGRAMS: usize = 40;

pub(crate) fn run(
    arm: Arm,
    section: &EvaluateSection,
    plan: &Plan,
    directory: &mut RunDirectory,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let began = Instant::now();
    let stage = format!("evaluate-{arm}");
    watcher(Event::Started {
        stage: stage.clone(),
        position: 0,
        total: 0,
        unit: "",
    });
    let tokenizer = corpus::tokenizer(directory)?;
    let lm = load_model(plan, directory, arm.name())?;
    let held_out = held_out(arm, plan, section, directory, &*lm, &tokenizer)?;
    let bits = held_out.bits_per_byte;
    directory.record(&Record::HeldOut(held_out))?;
    let set = problem_set(section, directory, &tokenizer, Split::HeldOut)?;
    let rule = writing_rule(
        &*lm,
        &tokenizer,
        section.program_tokens_max,
        section.temperature,
    );
    let mut first = None;
    for evaluation in evaluations(arm, plan, section, &set, directory, &rule, &tokenizer)? {
        let (score, samples, _) = evaluate(&*lm, &set, &tokenizer, &evaluation)?;
        let pass = headline(&score);
        watcher(Event::Note(format!(
            "  {arm} {}: {pass}",
            evaluation.decision_name
        )));
        first.get_or_insert(pass);
        directory.record(&Record::Score(score))?;
        samples
            .iter()
            .try_for_each(|sample| directory.sample(sample))?;
    }
    let message = format!("{bits:.4} bits per byte, {}", first.unwrap_or_default());
    watcher(Event::Finished { message });
    clock::stage(directory, &stage, 0, began)
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

/// Problems of a split, ready to be graded.
pub(crate) fn problem_set(
    section: &EvaluateSection,
    directory: &RunDirectory,
    tokenizer: &Tokenizer,
    split: Split,
) -> Result<ProblemSet> {
    let pool = pool(section.n_workers, section.confinement)?;
    let path = corpus::problems_path(directory, split);
    let tasks = bench::read(Name::HumanEval, &path)?.tasks;
    let name = match split {
        Split::Train => "testbed, training problems, 0-shot",
        Split::HeldOut => "testbed, held-out compositions, 0-shot",
    };
    Ok(ProblemSet::new(name, tasks, tokenizer, pool))
}

/// The ways in which an arm's programs are written: plainly, and for an arm with latents with its
/// decisions drawn between the markers, forced, and after the true plan.
fn evaluations(
    arm: Arm,
    plan: &Plan,
    section: &EvaluateSection,
    set: &ProblemSet,
    directory: &RunDirectory,
    rule: &WritingRule,
    tokenizer: &Tokenizer,
) -> Result<Vec<Evaluation>> {
    let evaluation = |decision_name| Evaluation {
        arm: arm.name().to_owned(),
        position: 0,
        n_tokens_sampled: 0,
        decision_name,
        rule: rule.clone(),
        guide: None,
        plans: Vec::new(),
        n_samples: section.n_samples,
        pass_at: section.pass_at.clone(),
        n_shown: 0,
        seed: Seed::root(plan.file.seed)
            .child("evaluate")
            .child(decision_name),
    };
    let mut evaluations = vec![Evaluation {
        n_shown: N_SHOWN_PROGRAMS,
        ..evaluation("plain")
    }];
    if !arm.is_latent() || !section.decision_table {
        return Ok(evaluations);
    }
    let line_ends = tokenizer.line_ends();
    let ends_line = |id: &TokenId| line_ends[*id as usize];
    let newlines: Arc<[TokenId]> = (0..line_ends.len() as TokenId).filter(ends_line).collect();
    let guide = |decision| {
        Some(Guide {
            latents: LatentRule {
                markers: tokenizer.markers(),
                rationale_tokens_max: plan.file.corpus.rationale_tokens_max,
                temperature: section.temperature,
                rationale_temperature: section.temperature,
                decision,
            },
            newlines: Arc::clone(&newlines),
        })
    };
    let forced = [
        ("free", Decision::Free),
        ("act", Decision::Act),
        ("think", Decision::Think),
    ];
    evaluations.extend(forced.map(|(name, decision)| Evaluation {
        guide: guide(decision),
        ..evaluation(name)
    }));
    let plans = true_plans(directory, tokenizer)?;
    anyhow::ensure!(plans.len() == set.tasks.len(), "one plan a problem");
    evaluations.push(Evaluation {
        guide: guide(Decision::Absent),
        plans,
        ..evaluation("true_plan")
    });
    Ok(evaluations)
}

/// The true rationale before the first line, where a problem has one there.
fn true_plans(directory: &RunDirectory, tokenizer: &Tokenizer) -> Result<Vec<Option<Vec<u32>>>> {
    let problems = corpus::problems(directory, Split::HeldOut)?;
    let plan = |problem: &ra3_testbed::Problem| {
        let first = problem.plan.iter().find(|planned| planned.line == 0)?;
        Some(encode_rationale(&first.rationale, tokenizer))
    };
    Ok(problems.iter().map(plan).collect())
}

/// Measures an arm on the text that it was trained on: plain documents as they stand in the corpus,
/// or for an arm with latents those whose comments became latents.
fn held_out(
    arm: Arm,
    plan: &Plan,
    section: &EvaluateSection,
    directory: &mut RunDirectory,
    policy: &dyn Policy,
    tokenizer: &Tokenizer,
) -> Result<HeldOutRecord> {
    let shards = corpus::held_out_documents(directory)?;
    let n = section.n_documents.min(shards.len());
    let stored: Vec<_> = (0..n)
        .map(|i| shards.stored(i * shards.len() / n.max(1)))
        .collect();
    let seed = Seed::root(plan.file.seed).child("held_out");
    let markers = tokenizer.markers();
    if !arm.is_latent() {
        // The end of a document is scored and has no bytes.
        let n_bytes = |plain: &Trajectory| {
            let code = plain.lines.iter().filter(|line| **line != [markers.end]);
            code.map(|line| tokenizer.decode(line).len()).sum::<usize>()
        };
        let (documents, n_bytes) = stored
            .iter()
            .map(|stored| (stored.cut.plain.clone(), n_bytes(&stored.cut.plain)))
            .unzip();
        let text = Text::new("corpus", documents, n_bytes);
        let (nats, _) = bounds::exact(policy, &text.documents)?;
        return Ok(text.record(arm, &nats));
    }
    let (documents, n_bytes) = stored
        .iter()
        .map(|stored| {
            let lifted = &stored.cut.lifted.trajectory;
            (lifted.clone(), stored.cut.n_lifted_bytes)
        })
        .unzip();
    let text = Text::new("lifted", documents, n_bytes);
    let (all_act, _) = bounds::all_act(policy, &text.documents, &markers)?;
    let rule = LatentRule {
        markers,
        rationale_tokens_max: plan.file.corpus.rationale_tokens_max,
        temperature: 1.0,
        rationale_temperature: 1.0,
        decision: Decision::Free,
    };
    let reference = load_model(plan, directory, REFERENCE)?;
    let p_0: Option<&dyn Policy> = Some(&*reference);
    let (documents, alpha, ks) = (&text.documents, section.alpha, &section.iwae);
    let found = bounds::measure(policy, p_0, documents, &rule, alpha, ks, seed)?;
    let record = text.record_bounds(arm, &found, &all_act);
    for stored in &stored[..n.min(N_SHOWN_DOCUMENTS)] {
        let document = &stored.cut.lifted.trajectory;
        let sample = annotate(
            policy,
            document,
            &stored.name,
            arm.name(),
            &rule,
            tokenizer,
            seed,
        )?;
        directory.sample(&Sample::Document(sample))?;
    }
    Ok(record)
}

/// A document with latents drawn from the model, and each line's log-probability with and without.
///
/// # Errors
/// The document does not fit the model.
pub(crate) fn annotate(
    policy: &dyn Policy,
    document: &Trajectory,
    name: &str,
    arm: &str,
    rule: &LatentRule,
    tokenizer: &Tokenizer,
    seed: Seed,
) -> Result<DocumentSample> {
    let batch = std::slice::from_ref(document);
    let (traces, _) = draw(policy, batch, rule, 1, 0.0, seed.child(name))?;
    let (mut rollouts, _) = rescore(policy, &Frozen::default(), traces)?;
    let rollout = rollouts.remove(0);
    let trace = &rollout.trace;
    let thinks: Vec<usize> = (0..trace.lines.len())
        .filter(|line| trace.lines[*line].is_think())
        .collect();
    let variant = |line: &usize| without_think(trace, *line, &rule.markers);
    let variants: Vec<Trace> = thinks.iter().map(variant).collect();
    let (without, _) = lines_logprobs(policy, &variants)?;
    let of_line = |(line, text): (usize, &Vec<TokenId>)| {
        let (span, score) = (&trace.lines[line], &rollout.lines[line]);
        let chosen = f64::from(trace.logprobs[span.latent.start]).exp();
        AnnotatedLine {
            text: tokenizer.decode(text),
            rationale: match trace.latent(line) {
                Some(Latent::Switch { rationale, .. }) => Some(tokenizer.decode(&rationale)),
                Some(Latent::Keep) | None => None,
            },
            logprob: f64::from(score.line_logprob),
            logprob_act: f64::from(score.line_logprob),
            think_probability: if span.is_think() {
                chosen
            } else {
                1.0 - chosen
            },
        }
    };
    let mut lines: Vec<AnnotatedLine> = document.lines.iter().enumerate().map(of_line).collect();
    for (line, without) in thinks.iter().zip(without) {
        lines[*line].logprob_act = f64::from(without[*line]);
    }
    Ok(DocumentSample {
        arm: arm.to_owned(),
        name: name.to_owned(),
        prefix: tokenizer.decode(&document.prefix[1..]),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ledger::Interval;

    #[test]
    fn a_score_is_called_by_its_smallest_k() {
        let interval = |mean| Interval {
            mean,
            low: 0.0,
            high: 1.0,
        };
        let score = |pass_at: &[(usize, f64)]| ScoreRecord {
            arm: "ra3".to_owned(),
            position: 0,
            n_tokens_sampled: 0,
            decision: "free".to_owned(),
            benchmark: String::new(),
            n_problems: 1,
            n_samples: 10,
            temperature: 1.0,
            pass_at: pass_at
                .iter()
                .map(|(k, mean)| (k.to_string(), interval(*mean)))
                .collect(),
            by_family: BTreeMap::new(),
            n_right: Vec::new(),
            decided_lines: 0.0,
            verdicts: BTreeMap::new(),
        };
        // Keys are texts: "10" is before "3".
        assert_eq!(headline(&score(&[(10, 0.75), (3, 0.5)])), "pass@3 50.0 %");
        assert_eq!(headline(&score(&[(10, 0.75), (1, 0.25)])), "pass@1 25.0 %");
        assert_eq!(headline(&score(&[])), "");
    }
}
