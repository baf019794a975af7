//! RLVR from an arm: GRPO on training problems, scored on held-out problems at intervals.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ra3::formulas::overlong_penalty;
use ra3::generation::Writing;
use ra3::grpo::{self, Estimator, GrpoConfig, GrpoReport, Search};
use ra3::policy::{Surrogate, TokenId};
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
use ra3_corpus::tokenizer::Tokenizer;
use ra3_evals::grade::Verdict;
use ra3_evals::rlvr::exercise::{Exercise, Graded};
use ra3_evals::rlvr::split::split;
use ra3_evals::rlvr::usable::{LeftOut, keep_checked, keep_usable};
use ra3_lm::Lm;

use super::base::{load_model, save_model};
use super::corpus::{self, Split};
use super::evaluate::exam;
use super::rehearsal;
use super::training::{Course, Spent, Step, Training, drive};
use crate::arm::Arm;
use crate::directory::RunDirectory;
use crate::event::{Event, Watcher};
use crate::model_note::ModelNote;
use crate::plan::Plan;
use crate::programs::{Exam, Sitting, pool, sit, writing_rule};
use crate::run_file::{AdvantageName, ProblemsSection, RlvrSection};

/// Programs of a score that the report shows.
const N_SHOWN_PROGRAMS: usize = 8;

/// GRPO on problems.
pub(crate) struct RlvrCourse<'a> {
    section: &'a RlvrSection,
    name: String,
    config: GrpoConfig,
    train: Exam,
    held_out: Exam,
    tokenizer: &'a Tokenizer,
    seed: Seed,
    /// Problems whose checkers are broken, as this process has said.
    known_faults: BTreeSet<String>,
}

pub(crate) fn run(
    arm: Arm,
    plan: &Plan,
    directory: &mut RunDirectory,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let section = plan.file.rlvr.as_ref().expect("the plan has this stage");
    let evaluate = plan
        .file
        .evaluate
        .as_ref()
        .expect("the plan checked that rlvr has it");
    let tokenizer = corpus::tokenizer(directory)?;
    let name = format!("rlvr-{arm}");
    let lm = load_model(plan, directory, arm.name())?;
    let (train, held_out) = match &section.problems {
        None => (
            exam(plan, directory, &tokenizer, Split::Train)?,
            exam(plan, directory, &tokenizer, Split::HeldOut)?,
        ),
        Some(problems) => {
            let n_context = lm.config().max_position_embeddings;
            let n_prompt_max = n_context.saturating_sub(evaluate.program_tokens_max);
            published(problems, plan, &tokenizer, n_prompt_max, watcher)?
        }
    };
    let course = RlvrCourse {
        section,
        name: name.clone(),
        config: config(section, plan, &lm, &tokenizer),
        train,
        held_out,
        tokenizer: &tokenizer,
        // One seed for all arms: they meet the problems in the same order.
        seed: Seed::root(plan.file.seed).child("rlvr"),
        known_faults: BTreeSet::new(),
    };
    let training = Training {
        stage: name.clone(),
        lm,
        course: Course::Rlvr(Box::new(course)),
        checkpoint_every: plan.file.checkpoint_every,
    };
    let (lm, _) = drive(training, directory, watcher)?;
    let note = ModelNote::read(&directory.model(arm.name()))?;
    save_model(directory, &name, &lm, &tokenizer, &note)
}

fn config(section: &RlvrSection, plan: &Plan, lm: &Lm, tokenizer: &Tokenizer) -> GrpoConfig {
    let evaluate = plan.file.evaluate.as_ref().expect("the plan checked it");
    GrpoConfig {
        group_size: section.group_size,
        estimator: match section.advantage {
            AdvantageName::Grpo => Estimator::Grpo,
            AdvantageName::DrGrpo => Estimator::DrGrpo,
            AdvantageName::Rloo => Estimator::Rloo,
            AdvantageName::Dapo => Estimator::Dapo,
        },
        drop_groups_without_signal: section.drop_groups_without_signal,
        writing: writing_rule(
            lm,
            tokenizer,
            evaluate.program_tokens_max,
            section.temperature,
        ),
        surrogate: if section.updates_per_batch > 1 {
            Surrogate::Clipped {
                low: section.clip_low,
                high: section.clip_high,
            }
        } else {
            Surrogate::LogLikelihood
        },
        updates_per_batch: section.updates_per_batch,
    }
}

/// Training and held-out problems of a published set, those whose prompts fit.
fn published(
    section: &ProblemsSection,
    plan: &Plan,
    tokenizer: &Tokenizer,
    n_prompt_max: usize,
    watcher: &mut Watcher<'_>,
) -> Result<(Exam, Exam)> {
    let evaluate = plan.file.evaluate.as_ref().expect("the plan checked it");
    let seed = Seed::root(plan.file.seed).child("problems");
    let sorting = pool(evaluate.n_workers, evaluate.confinement)?;
    let mut problems = section.read()?;
    let left_out = keep_usable(&mut problems, Exercise::function, &sorting);
    if let Some(first) = left_out.first() {
        watcher(Event::Note(format!(
            "{} problems are left out, whose tests need what the sandbox has not: {} ({})",
            left_out.len(),
            first.task_id,
            first.reason
        )));
    }
    for left_out in keep_checked(&mut problems, &sorting) {
        let LeftOut { task_id, reason } = left_out;
        watcher(Event::Note(format!("{task_id} is left out: {reason}")));
    }
    let (training, held_out) = split(problems, section.held_out_share, seed);
    let mut exam = |side: &str, problems: Vec<Exercise>| -> Result<Exam> {
        anyhow::ensure!(
            !problems.is_empty(),
            "rlvr.problems: there is no {side} problem in {}: too few, too many alike, or \
             held_out_share = {} leaves none",
            section.data.display(),
            section.held_out_share
        );
        let pool = pool(evaluate.n_workers, evaluate.confinement)?;
        let name = format!("{:?}, {side} problems, 0-shot", section.set);
        let mut exam = Exam::new(&name, problems, tokenizer, pool);
        let n_left_out = exam.keep_fitting(n_prompt_max);
        let n = exam.problems.len();
        anyhow::ensure!(
            n > 0,
            "rlvr.problems: no {side} problem of {} has a prompt of {n_prompt_max} tokens or fewer",
            section.data.display()
        );
        watcher(Event::Note(format!(
            "{n} {side} problems of {}; {n_left_out} prompts do not fit the context",
            section.data.display()
        )));
        Ok(exam)
    };
    Ok((exam("training", training)?, exam("held-out", held_out)?))
}

impl RlvrCourse<'_> {
    pub(crate) fn rehearse(&self, lm: &Lm) -> Result<()> {
        let writing = &self.config.writing;
        rehearsal::programs(
            lm,
            &self.train.prompts,
            &self.tokenizer.markers(),
            self.config.group_size,
            writing.program_tokens_max,
        )
    }

    pub(crate) fn total(&self) -> u64 {
        self.section.n_updates
    }

    pub(crate) fn step(
        &mut self,
        lm: &mut Lm,
        position: u64,
        spent: &Spent,
    ) -> Result<Option<Step>> {
        if position >= self.section.n_updates {
            return Ok(None);
        }
        let mut scores = Vec::new();
        let mut samples = Vec::new();
        if position == 0 {
            // Where the curve begins.
            let (score, _) = self.score(lm, 0, spent.n_tokens_sampled)?;
            scores.push(score);
        }
        let (report, faults) = self.update(lm, position)?;
        let notes = self.notes_of_new(faults);
        let n_sampled = spent.n_tokens_sampled + report.work.n_tokens_sampled;
        let is_last = position + 1 == self.section.n_updates;
        if is_last || (position + 1).is_multiple_of(self.section.evaluate_every) {
            let (score, shown) = self.score(lm, position + 1, n_sampled)?;
            scores.push(score);
            samples = shown;
        }
        Ok(Some(Step {
            phase: "grpo",
            figures: BTreeMap::from([
                ("reward".to_owned(), report.mean_reward),
                ("groups_with_signal".to_owned(), report.groups_with_signal),
                ("program_tokens".to_owned(), report.program_tokens),
                ("ended_share".to_owned(), report.ended_share),
                ("gradient_norm".to_owned(), report.update.gradient_norm),
            ]),
            n_corpus_tokens: 0,
            work: report.work,
            scores,
            samples,
            notes,
        }))
    }

    /// Words about checkers that were not known to be broken.
    fn notes_of_new(&mut self, faults: BTreeMap<String, String>) -> Vec<String> {
        let mut notes = Vec::new();
        for (task_id, reason) in faults {
            if self.known_faults.insert(task_id.clone()) {
                notes.push(format!("{task_id} is left out: {reason}"));
            }
        }
        notes
    }

    /// One GRPO update at `position`, and the problems whose checkers turned out to be broken: no
    /// program for them earns or loses anything, so they have no part in it.
    fn update(&self, lm: &mut Lm, position: u64) -> Result<(GrpoReport, BTreeMap<String, String>)> {
        let section = self.section;
        // The problems of the programs that are graded next.
        let by_row = RefCell::new(Vec::new());
        let mut prompts = |index: usize| -> Vec<Vec<TokenId>> {
            let nth = position * section.n_tries_max as u64 + index as u64;
            let n_problems = self.train.problems.len();
            let of = batch(n_problems, section.batch_problems, nth, self.seed);
            let rows = of.iter().flat_map(|index| vec![*index; section.group_size]);
            by_row.replace(rows.collect());
            let prompt = |index: &usize| self.train.prompts[*index].clone();
            of.iter().map(prompt).collect()
        };
        let mut n_broken = 0;
        let mut faults = BTreeMap::new();
        let mut grade = |rows: &[Writing]| -> Vec<f32> {
            let of = by_row.borrow();
            let scheme = section.reward.scheme();
            let graded = self.train.grade(&of, rows, scheme, self.tokenizer);
            let mut faulty = BTreeSet::new();
            for (graded, problem) in graded.iter().zip(&of[..]) {
                if let Some(reason) = graded.verdict.broken_checker() {
                    let task_id = self.train.problems[*problem].task_id();
                    faults.insert(task_id.to_owned(), reason.to_owned());
                    faulty.insert(*problem);
                } else if matches!(graded.verdict, Verdict::Infrastructure { .. }) {
                    n_broken += 1;
                }
            }
            rows.iter()
                .zip(&graded)
                .zip(&of[..])
                .map(|((row, graded), problem)| {
                    if faulty.contains(problem) {
                        0.0
                    } else {
                        self.reward(row, graded)
                    }
                })
                .collect()
        };
        let schedule = Schedule::Constant {
            peak: section.learning_rate,
            warmup: section.warmup,
        };
        let (lr, seed) = (
            schedule.at(position),
            self.seed.child("programs").nth(position),
        );
        let search = Search {
            n_groups: section.batch_problems,
            n_tries_max: section.n_tries_max,
        };
        let config = &self.config;
        let report = if search.n_tries_max > 1 {
            grpo::update_dynamically(lm, &mut prompts, &mut grade, search, config, lr, seed)?
        } else {
            grpo::update(lm, &prompts(0), &mut grade, config, lr, seed)?
        };
        anyhow::ensure!(n_broken == 0, "the sandbox failed for {n_broken} programs");
        Ok((report, faults))
    }

    /// What the tests come to, less what the program pays for its length.
    fn reward(&self, row: &Writing, graded: &Graded) -> f32 {
        let earned = graded.reward as f32;
        match self.section.overlong_tokens {
            0 => earned,
            n_soft => {
                let n_max = self.config.writing.program_tokens_max;
                earned + overlong_penalty(row.raw().len(), n_soft, n_max)
            }
        }
    }

    fn score(
        &self,
        lm: &mut Lm,
        position: u64,
        n_tokens_sampled: u64,
    ) -> Result<(crate::ledger::ScoreRecord, Vec<crate::samples::Sample>)> {
        let sitting = Sitting {
            arm: self.name.clone(),
            position,
            n_tokens_sampled,
            decision_name: "plain",
            rule: self.config.writing.clone(),
            guide: None,
            plans: None,
            n_samples: self.section.evaluate_samples,
            pass_at: vec![1],
            n_shown: N_SHOWN_PROGRAMS,
            seed: self.seed.child("score"),
        };
        let (score, samples, _) = sit(lm, &self.held_out, self.tokenizer, &sitting)?;
        Ok((score, samples))
    }
}
