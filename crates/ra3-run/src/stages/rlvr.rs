//! RLVR from an arm: GRPO on training problems, scored on held-out problems at intervals.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::Result;
use ra3::formulas::overlong_penalty;
use ra3::generation::Writing;
use ra3::grpo::{self, Estimator, GrpoConfig, GrpoReport, Search};
use ra3::policy::{Surrogate, TokenId};
use ra3::rollout::Decision;
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
use ra3_corpus::tokenizer::Tokenizer;
use ra3_evals::grade::Verdict;
use ra3_lm::Lm;

use super::base::{load_model, save_model};
use super::corpus::{self, Split};
use super::evaluate::exam;
use super::training::{Course, Spent, Step, Training, drive};
use crate::arm::Arm;
use crate::directory::RunDirectory;
use crate::event::Watcher;
use crate::plan::Plan;
use crate::programs::{Exam, Sitting, sit, writing_rule};
use crate::run_file::{AdvantageName, RlvrSection};

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
    let decision = if arm.is_latent() {
        Decision::Free
    } else {
        Decision::Absent
    };
    let name = format!("rlvr-{arm}");
    let course = RlvrCourse {
        section,
        name: name.clone(),
        config: GrpoConfig {
            group_size: section.group_size,
            estimator: match section.advantage {
                AdvantageName::Grpo => Estimator::Grpo,
                AdvantageName::DrGrpo => Estimator::DrGrpo,
                AdvantageName::Rloo => Estimator::Rloo,
                AdvantageName::Dapo => Estimator::Dapo,
            },
            drop_groups_without_signal: section.drop_groups_without_signal,
            writing: writing_rule(
                &tokenizer,
                decision,
                plan.file.corpus.rationale_tokens_max,
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
        },
        train: exam(plan, directory, &tokenizer, Split::Train)?,
        held_out: exam(plan, directory, &tokenizer, Split::HeldOut)?,
        tokenizer: &tokenizer,
        // One seed for all arms: they meet the problems in the same order.
        seed: Seed::root(plan.file.seed).child("rlvr"),
    };
    let training = Training {
        stage: name.clone(),
        lm: load_model(plan, directory, arm.name())?,
        course: Course::Rlvr(Box::new(course)),
        checkpoint_every: plan.file.checkpoint_every,
    };
    let (lm, _) = drive(training, directory, watcher)?;
    save_model(directory, &name, &lm, &tokenizer)
}

impl RlvrCourse<'_> {
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
        let report = self.update(lm, position)?;
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
        }))
    }

    /// One GRPO update at `position`.
    fn update(&self, lm: &mut Lm, position: u64) -> Result<GrpoReport> {
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
        let mut grade = |rows: &[Writing]| -> Vec<f32> {
            let verdicts = self.train.grade(&by_row.borrow(), rows, self.tokenizer);
            let is_broken = |v: &&Verdict| matches!(v, Verdict::Infrastructure { .. });
            n_broken += verdicts.iter().filter(is_broken).count();
            let graded = rows.iter().zip(&verdicts);
            graded
                .map(|(row, verdict)| self.reward(row, verdict))
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
        Ok(report)
    }

    /// 1 for a program that passes, less what it pays for its length.
    fn reward(&self, row: &Writing, verdict: &Verdict) -> f32 {
        let passed = f32::from(u8::from(*verdict == Verdict::Passed));
        match self.section.overlong_tokens {
            0 => passed,
            n_soft => {
                let n_max = self.config.writing.program_tokens_max;
                passed + overlong_penalty(row.raw().len(), n_soft, n_max)
            }
        }
    }

    fn score(
        &self,
        lm: &mut Lm,
        position: u64,
        n_tokens_sampled: u64,
    ) -> Result<(crate::ledger::ScoreRecord, Vec<crate::samples::Sample>)> {
        let is_latent = self.config.writing.decision == Decision::Free;
        let sitting = Sitting {
            arm: self.name.clone(),
            position,
            n_tokens_sampled,
            decision_name: if is_latent { "free" } else { "plain" },
            rule: self.config.writing.clone(),
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
