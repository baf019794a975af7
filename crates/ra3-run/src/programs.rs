//! Programs of a model for problems: written, stripped, graded, counted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ra3::completion::Completion;
use ra3::generation::{WritingRule, complete};
use ra3::guided::{Guide, complete_guided};
use ra3::model::Model;
use ra3::policy::{Policy, TokenId, Work};
use ra3::seed::Seed;
use ra3_evals::bench::Name;
use ra3_evals::contest::reward::Scheme;
use ra3_evals::grade::Purpose;
use ra3_evals::outcome::{Fault, Verdict, grade_all};
use ra3_evals::prompt::{Form, program, zero_shot};
use ra3_evals::rlvr::reward_command::{Item, Reward, RewardCommand};
use ra3_evals::task::Task;
use ra3_records::ledger::{PlanRecord, ScoreRecord};
use ra3_records::samples::{ProgramSample, Sample};
use ra3_sandbox::{Limits, Pool};
use ra3_statistics::pass_at_k::{estimate, pass_at_k};
use ra3_text::tokenizer::Tokenizer;

use crate::run_file::{GradingSection, ProblemSetName};

/// Limits of a short program; those of contests are their problems'.
const LIMITS: Limits = Limits {
    cpu_s: 3,
    // What missed it runs once more.
    wall_s: 3.0,
    memory_bytes: 1 << 30,
    result_bytes_max: 1 << 20,
};

/// A pool that grades.
pub(crate) fn pool(grading: &GradingSection, set: ProblemSetName) -> Result<Pool> {
    let limits = match set {
        // What is published is graded as `ra3 eval` grades it.
        ProblemSetName::HumanevalPlus | ProblemSetName::MbppPlus | ProblemSetName::Mbpp => {
            set.bench().map_or(LIMITS, Name::limits)
        }
        _ => LIMITS,
    };
    Pool::new(grading.n_workers, limits, grading.confinement).context("cannot set up the sandbox")
}

/// Problems that are ready to be written for and graded.
pub(crate) struct ProblemSet {
    /// What its scores are called.
    name: String,
    pub(crate) tasks: Vec<Task>,
    /// The prompts' ids.
    pub(crate) prompts: Vec<Vec<TokenId>>,
    pool: Pool,
}

/// What came of a program, and what it earns.
#[derive(Clone, Debug)]
pub(crate) struct Earned {
    pub(crate) verdict: Verdict,
    pub(crate) reward: f64,
}

impl ProblemSet {
    pub(crate) fn new(name: &str, mut tasks: Vec<Task>, tokenizer: &Tokenizer, pool: Pool) -> Self {
        Task::prepare(&mut tasks, Purpose::Reward, &pool);
        Self::of_ready(name, tasks, tokenizer, pool)
    }

    /// Of tasks that were taken apart.
    pub(crate) fn of_ready(
        name: &str,
        tasks: Vec<Task>,
        tokenizer: &Tokenizer,
        pool: Pool,
    ) -> Self {
        let prompt = |task| tokenizer.encode_prompt(&zero_shot(task));
        Self {
            name: name.to_owned(),
            prompts: tasks.iter().map(prompt).collect(),
            tasks,
            pool,
        }
    }

    /// Leaves out problems whose prompt leaves no room in the model's context; how many.
    pub(crate) fn keep_fitting(&mut self, n_tokens_max: usize) -> usize {
        let n_before = self.tasks.len();
        let mut prompts = self.prompts.iter();
        let fits = |ids: &Vec<TokenId>| ids.len() <= n_tokens_max;
        self.tasks.retain(|_| prompts.next().is_some_and(fits));
        self.prompts.retain(fits);
        n_before - self.tasks.len()
    }

    /// What programs come to; `of` says whose problem each is.
    pub(crate) fn grade(
        &self,
        of: &[usize],
        rows: &[Completion],
        scheme: Scheme,
        tokenizer: &Tokenizer,
    ) -> Vec<Result<Earned, Fault>> {
        let written = of.iter().zip(rows);
        let written = written.map(|(problem, row)| self.written(*problem, row, tokenizer));
        let items: Vec<(&Task, String)> = written.collect();
        let grade = |(task, program): &(&Task, String)| task.grade_for(scheme, program, &self.pool);
        let graded = grade_all(&items, &self.pool, grade, &mut |_| {});
        let earned = |((task, program), graded): (&(&Task, String), Result<Verdict, Fault>)| {
            graded.map(|verdict| Earned {
                reward: task.reward(scheme, program, &verdict.base),
                verdict,
            })
        };
        items.iter().zip(graded).map(earned).collect()
    }

    /// A problem, and the whole program that was written for it.
    fn written(&self, problem: usize, row: &Completion, tokenizer: &Tokenizer) -> (&Task, String) {
        let task = &self.tasks[problem];
        let answer = tokenizer.decode(&row.program());
        (task, program(task, &Form::ZERO_SHOT, &answer))
    }

    /// What the user's command says of programs that could be graded, in their order.
    pub(crate) fn ask(
        &self,
        command: &mut RewardCommand,
        of: &[usize],
        rows: &[Completion],
        graded: &[Result<Earned, Fault>],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Reward>> {
        let sound = of.iter().zip(rows).zip(graded);
        let sound = sound.filter_map(|((problem, row), graded)| {
            let (task, program) = self.written(*problem, row, tokenizer);
            let latents = rationales(row, tokenizer);
            Some((task, program, latents, &graded.as_ref().ok()?.verdict))
        });
        let programs: Vec<_> = sound.collect();
        let prompts: Vec<_> = programs.iter().map(|(task, ..)| zero_shot(task)).collect();
        let items = programs.iter().zip(&prompts);
        let items = items.map(|((task, program, latents, verdict), prompt)| Item {
            task_id: task.task_id(),
            prompt,
            program,
            latents,
            verdict,
        });
        let items: Vec<Item<'_>> = items.collect();
        command.rewards(&items).context("rlvr.reward_command")
    }
}

/// The rationales of a program, in their order.
fn rationales(row: &Completion, tokenizer: &Tokenizer) -> Vec<String> {
    let markers = tokenizer.markers();
    let thoughts = row.raw().split(|token| *token == markers.think).skip(1);
    let rationale = |thought: &[TokenId]| {
        let end = thought.iter().position(|token| *token == markers.close);
        tokenizer.decode(&thought[..end.unwrap_or(thought.len())])
    };
    thoughts.map(rationale).collect()
}

/// How a score is taken.
#[derive(Clone, Debug)]
pub(crate) struct Evaluation {
    /// The stage that takes it.
    pub(crate) stage: String,
    pub(crate) arm: String,
    pub(crate) position: u64,
    pub(crate) n_tokens_sampled: u64,
    /// Name of the decision's rule, for the record.
    pub(crate) decision_name: &'static str,
    pub(crate) rule: WritingRule,
    /// What is forced upon the programs; nothing for plain sampling.
    pub(crate) guide: Option<Guide>,
    /// A given first rationale for each problem that has one, where the guide is that.
    pub(crate) plans: Vec<Option<Vec<TokenId>>>,
    pub(crate) n_samples: usize,
    pub(crate) pass_at: Vec<usize>,
    /// Programs that are kept for the report.
    pub(crate) n_shown: usize,
    pub(crate) seed: Seed,
}

/// Writes and grades `n_samples` programs for every problem.
///
/// # Errors
/// The engine refuses a prompt, or the sandbox fails (which is never counted as a wrong answer).
pub(crate) fn evaluate(
    policy: &dyn Policy,
    set: &ProblemSet,
    tokenizer: &Tokenizer,
    evaluation: &Evaluation,
) -> Result<(ScoreRecord, Vec<Sample>, Work)> {
    let n = evaluation.n_samples;
    let of: Vec<usize> = (0..set.tasks.len() * n).map(|row| row / n).collect();
    let (prompts, rule, plans) = (&set.prompts, &evaluation.rule, &evaluation.plans);
    let (rows, work) = match &evaluation.guide {
        None => complete(policy, prompts, rule, n, evaluation.seed)?,
        Some(guide) => complete_guided(policy, prompts, rule, guide, plans, n, evaluation.seed)?,
    };
    let graded = set.grade(&of, &rows, Scheme::Pass, tokenizer);
    // A broken checker is a fault of the data, which the record counts under its own name.
    let fault = graded.iter().filter_map(|graded| graded.as_ref().err());
    if let Some(Fault::Sandbox(reason)) = fault.clone().find(|f| matches!(f, Fault::Sandbox(_))) {
        anyhow::bail!("the sandbox failed while grading: {reason}");
    }
    let samples = rows
        .iter()
        .zip(&graded)
        .zip(&of)
        .step_by(n)
        .take(evaluation.n_shown)
        .map(|((row, graded), problem)| {
            let task = &set.tasks[*problem];
            Sample::Program(ProgramSample {
                arm: evaluation.arm.clone(),
                position: evaluation.position,
                task_id: task.task_id().to_owned(),
                family: task.family().to_owned(),
                prompt: zero_shot(task).into_owned(),
                raw: tokenizer.decode(row.raw()),
                completion: tokenizer.decode(&row.program()),
                verdict: name_of(graded).to_owned(),
                detail: match graded {
                    Ok(earned) => earned.verdict.base.detail(),
                    Err(fault) => fault.to_string(),
                },
            })
        })
        .collect();
    let score = score(set, evaluation, &rows, &graded, tokenizer);
    Ok((score, samples, work))
}

/// True of a program with a rationale, or with a comment on a line of its own.
fn has_plan(row: &Completion, tokenizer: &Tokenizer) -> bool {
    let is_said = |text: &String| !text.trim().is_empty();
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    rationales(row, tokenizer).iter().any(is_said)
        || tokenizer.decode(&row.program()).lines().any(is_comment)
}

/// How programs with a plan and those without did, by family.
fn planned(
    set: &ProblemSet,
    n_samples: usize,
    rows: &[Completion],
    graded: &[Result<Earned, Fault>],
    tokenizer: &Tokenizer,
) -> BTreeMap<String, PlanRecord> {
    let mut found: BTreeMap<String, PlanRecord> = BTreeMap::new();
    for (place, (row, graded)) in rows.iter().zip(graded).enumerate() {
        let family = set.tasks[place / n_samples].family();
        let (right, planned) = (
            u64::from(is_right(graded)),
            u64::from(has_plan(row, tokenizer)),
        );
        *found.entry(family.to_owned()).or_default() += PlanRecord {
            n_programs: 1,
            n_right: right,
            n_planned: planned,
            n_planned_right: right * planned,
        };
    }
    found
}

fn is_right(graded: &Result<Earned, Fault>) -> bool {
    let earned = graded.as_ref();
    earned.is_ok_and(|earned| earned.verdict.is_passed())
}

/// What came of a program, in a word.
fn name_of(graded: &Result<Earned, Fault>) -> &'static str {
    match graded {
        Ok(earned) => earned.verdict.base.kind.name(),
        Err(fault) => fault.name(),
    }
}

/// Share of the lines of programs that stand after a decision of their own.
fn decided_lines(rows: &[Completion], tokenizer: &Tokenizer) -> f64 {
    let (markers, line_ends) = (tokenizer.markers(), tokenizer.line_ends());
    let (mut n_lines, mut n_decided) = (0usize, 0usize);
    for row in rows {
        let (mut is_thinking, mut is_decided) = (false, false);
        for token in row.raw() {
            if *token == markers.think {
                (is_thinking, is_decided) = (true, true);
            } else if *token == markers.close {
                is_thinking = false;
            } else if *token == markers.act {
                is_decided = true;
            } else if !is_thinking && line_ends.get(*token as usize) == Some(&true) {
                n_lines += 1;
                n_decided += usize::from(is_decided);
                is_decided = false;
            }
        }
    }
    n_decided as f64 / n_lines.max(1) as f64
}

fn score(
    set: &ProblemSet,
    evaluation: &Evaluation,
    rows: &[Completion],
    graded: &[Result<Earned, Fault>],
    tokenizer: &Tokenizer,
) -> ScoreRecord {
    let n = evaluation.n_samples;
    let n_right = |graded: &[_]| graded.iter().filter(|graded| is_right(graded)).count();
    let n_right: Vec<usize> = graded.chunks(n).map(n_right).collect();
    let seed = Seed::root(0).child("bootstrap");
    let interval = |k: usize| {
        let by_problem: Vec<f64> = n_right.iter().map(|c| pass_at_k(n, *c, k)).collect();
        estimate(&by_problem, seed).into()
    };
    let mut families: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let has_family = |(task, _): &(&Task, _)| !task.family().is_empty();
    for (task, c) in set.tasks.iter().zip(&n_right).filter(has_family) {
        let entry = families.entry(task.family().to_owned()).or_default();
        entry.0 += *c as f64;
        entry.1 += n as f64;
    }
    let mut names = BTreeMap::new();
    for graded in graded {
        *names.entry(name_of(graded).to_owned()).or_default() += 1;
    }
    ScoreRecord {
        stage: evaluation.stage.clone(),
        arm: evaluation.arm.clone(),
        position: evaluation.position,
        n_tokens_sampled: evaluation.n_tokens_sampled,
        decision: evaluation.decision_name.to_owned(),
        benchmark: set.name.clone(),
        n_problems: set.tasks.len() as u64,
        n_samples: n as u64,
        temperature: f64::from(evaluation.rule.temperature),
        pass_at: evaluation
            .pass_at
            .iter()
            .map(|k| (k.to_string(), interval(*k)))
            .collect(),
        by_family: families
            .into_iter()
            .map(|(name, (right, all))| (name, right / all))
            .collect(),
        n_right: n_right.iter().map(|n| *n as u64).collect(),
        decided_lines: decided_lines(rows, tokenizer),
        verdicts: names,
        plans: planned(set, n, rows, graded, tokenizer),
    }
}

/// How the programs of a run are written: plainly, with decisions and rationales deleted
/// afterwards.
pub(crate) fn writing_rule(
    lm: &dyn Model,
    tokenizer: &Tokenizer,
    program_tokens_max: usize,
    temperature: f32,
) -> WritingRule {
    WritingRule {
        markers: Some(tokenizer.markers()),
        stops: stops(lm, tokenizer).into(),
        rests: None,
        program_tokens_max,
        temperature,
        top_k: None,
        top_p: None,
    }
}

/// The ends of text of a model: its tokenizer's, and those of its configuration.
pub(crate) fn stops(lm: &dyn Model, tokenizer: &Tokenizer) -> Vec<TokenId> {
    let mut stops = lm.shape().stop_ids;
    stops.push(tokenizer.markers().end);
    stops.sort_unstable();
    stops.dedup();
    stops
}
