//! RLVR from an arm: GRPO on training problems, scored on held-out problems at intervals.

mod problems;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ra3::generation::complete;
use ra3::group;
use ra3::grpo;
use ra3::model::Model;
use ra3::policy::{Surrogate, TokenId, Work};
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
use ra3::settings::GrpoConfig;
use ra3::statistics::GroupStats;
use ra3_evals::rlvr::difficulty::Difficulty;
use ra3_evals::rlvr::reward_command::RewardCommand;
use ra3_evals::task::Task;
use ra3_records::ledger::ScoreRecord;
use ra3_records::samples::Sample;
use ra3_text::tokenizer::Tokenizer;

use super::base::save_model;
use super::corpus::{self, Split};
use super::rehearsal;
use super::training::{Course, Spent, Step, drive, gap_figure};
use crate::engine::Engine;
use crate::event::Watcher;
use crate::model_note::ModelNote;
use crate::on_disk::read_json;
use crate::plan::Arm;
use crate::programs::{Evaluation, ProblemSet, evaluate, writing_rule};
use crate::run_file::RlvrSection;
use crate::store::StageFolder;
use written::{Written, figures};

/// The file of what is known of the problems.
const DIFFICULTY: &str = "difficulty.json";
/// Programs of a score that the report shows.
const N_SHOWN_PROGRAMS: usize = 8;

/// GRPO on problems.
pub(crate) struct RlvrCourse<'a> {
    section: &'a RlvrSection,
    stage: String,
    config: GrpoConfig,
    train: ProblemSet,
    held_out: ProblemSet,
    tokenizer: &'a Tokenizer,
    seed: Seed,
    /// Problems whose checkers are broken, as this process has said.
    known_faults: BTreeSet<String>,
    /// The model that the distance is from, where it costs something.
    reference: Option<Box<dyn Model>>,
    /// The user's command that says what programs earn.
    command: Option<RewardCommand>,
    /// How often problems were solved.
    difficulty: Difficulty,
}

pub(crate) fn run(
    arm: &Arm,
    engine: &Engine,
    corpus: &Path,
    start: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let file = &arm.file;
    let section = file.rlvr.as_ref().context("there is no [rlvr]")?;
    let tokenizer = corpus::tokenizer(corpus)?;
    let lm = engine.load(start)?;
    let set_name = section.problems.set;
    let (train, held_out) = if let Some(forms) = set_name.forms() {
        let set =
            |split| problems::of_testbed(&file.grading, set_name, forms, corpus, &tokenizer, split);
        (set(Split::Train)?, set(Split::HeldOut)?)
    } else {
        let n_context = lm.shape().n_context;
        let n_prompt_max = n_context.saturating_sub(section.program_tokens_max);
        problems::published(file, section, &tokenizer, n_prompt_max, watcher)?
    };
    let course = RlvrCourse {
        section,
        stage: folder.stage().to_owned(),
        config: config(section, &*lm, &tokenizer),
        train,
        held_out,
        tokenizer: &tokenizer,
        // One seed for all arms: they meet the problems in the same order.
        seed: Seed::root(file.seed).child("rlvr"),
        known_faults: BTreeSet::new(),
        reference: reference(engine, section, start)?,
        command: command(section)?,
        difficulty: Difficulty::default(),
    };
    let course = Course::Rlvr(Box::new(course));
    let lm = drive(lm, course, file.checkpoint_every, folder, watcher)?;
    let note = ModelNote::read(start)?;
    save_model(&folder.path("model"), corpus, &*lm, &tokenizer, &note)
}

/// The model that the distance is from, where it costs something: the one that RLVR begins with.
fn reference(
    engine: &Engine,
    section: &RlvrSection,
    start: &Path,
) -> Result<Option<Box<dyn Model>>> {
    let is_needed = section.kl > 0.0;
    is_needed.then(|| engine.load_frozen(start)).transpose()
}

/// The user's command that says what programs earn, if there is one.
pub(crate) fn command(section: &RlvrSection) -> Result<Option<RewardCommand>> {
    if section.reward_command.is_empty() {
        return Ok(None);
    }
    let deadline = Duration::from_secs_f64(section.reward_seconds);
    let here = std::env::current_dir().context("the current folder")?;
    let command = RewardCommand::start(&section.reward_command, &here, deadline);
    Ok(Some(command.context("rlvr.reward_command")?))
}

fn config(section: &RlvrSection, lm: &dyn Model, tokenizer: &Tokenizer) -> GrpoConfig {
    GrpoConfig {
        group_size: section.group_size,
        estimator: section.advantage,
        drop_groups_without_signal: section.drop_groups_without_signal,
        overlong_tokens: section.overlong_tokens,
        writing: writing_rule(
            lm,
            tokenizer,
            section.program_tokens_max,
            section.temperature,
        ),
        surrogate: Surrogate::over(
            section.updates_per_batch,
            section.clip_low,
            section.clip_high,
        ),
        updates_per_batch: section.updates_per_batch,
    }
}

impl RlvrCourse<'_> {
    pub(crate) fn rehearse(&self, lm: &dyn Model) -> Result<()> {
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
        lm: &mut dyn Model,
        position: u64,
        spent: &Spent,
    ) -> Result<Option<Step>> {
        if position >= self.section.n_updates {
            return Ok(None);
        }
        let mut scores = Vec::new();
        if position == 0 {
            // Where the curve begins.
            let (score, _) = self.score(lm, 0, spent.n_tokens_sampled)?;
            scores.push(score);
        }
        let mut step = self.update(lm, position)?;
        let n_sampled = spent.n_tokens_sampled + step.work.n_tokens_sampled;
        let is_last = position + 1 == self.section.n_updates;
        if is_last || (position + 1).is_multiple_of(self.section.evaluate_every) {
            let (score, shown) = self.score(lm, position + 1, n_sampled)?;
            scores.push(score);
            step.samples = shown;
        }
        Ok(Some(Step { scores, ..step }))
    }

    /// Words about checkers that were not known to be broken.
    fn notes_of_new(&mut self, faults: BTreeMap<usize, String>) -> Vec<String> {
        let mut notes = Vec::new();
        for (problem, reason) in faults {
            let task_id = self.train.tasks[problem].task_id();
            if self.known_faults.insert(task_id.to_owned()) {
                notes.push(format!("{task_id} is left out: {reason}"));
            }
        }
        notes
    }

    /// One GRPO update at `position`: programs, rewards, gradient. With several tries it is DAPO's
    /// dynamic sampling (arXiv 2503.14476): until as many groups as a batch has problems have
    /// signal, or the tries are used up, more problems are drawn, and only groups with signal are
    /// learnt from.
    fn update(&mut self, lm: &mut dyn Model, position: u64) -> Result<Step> {
        let n_tries = self.section.n_tries_max as u64;
        let n_wanted = self.section.batch_problems;
        let is_dynamic = n_tries > 1;
        let seed = self.seed.child("programs").nth(position);
        let (mut all, mut kept, mut work) = (Vec::new(), Vec::new(), Work::default());
        let (mut notes, mut components) = (Vec::new(), Vec::new());
        for index in 0..n_tries {
            if kept.len() >= n_wanted {
                break;
            }
            let seed = if is_dynamic { seed.nth(index) } else { seed };
            lm.expect_update();
            let (written, writing) = self.written(lm, position * n_tries + index, seed)?;
            work += writing;
            components.push(written.components);
            notes.extend(self.notes_of_new(written.faults));
            let learnt = written.groups.iter();
            let learnt = learnt.filter(|group| group.has_signal() || !is_dynamic);
            kept.extend(learnt.take(n_wanted - kept.len()).cloned());
            all.extend(written.groups);
        }
        let mut further = written::mean(&components);
        if let Some(reference) = &self.reference {
            let (kl, scoring) = group::charge(&mut kept, &**reference, self.section.kl)?;
            further.insert("kl".to_owned(), kl);
            work += scoring;
        }
        let schedule = Schedule::Constant {
            peak: self.section.learning_rate,
            warmup: self.section.warmup,
        };
        let lr = schedule.at(position, self.section.n_updates);
        let (update, training) = grpo::update(lm, &kept, &self.config, lr)?;
        work += training;
        // Where nothing could be graded there is nothing to say of groups.
        let groups = (!all.is_empty()).then(|| GroupStats::of(&all));
        let mut figures = figures(groups, update.gradient_norm);
        figures.extend(gap_figure(&update));
        figures.extend(further);
        Ok(Step {
            phase: "grpo",
            figures,
            work,
            notes,
            ..Step::default()
        })
    }

    /// Writes and grades the programs of batch `nth` of the problems that are worth it.
    fn written(&mut self, lm: &dyn Model, nth: u64, seed: Seed) -> Result<(Written, Work)> {
        let (section, config) = (self.section, &self.config);
        let worth = self.worth();
        let places = batch(worth.len(), section.batch_problems, nth, self.seed);
        let problems: Vec<usize> = places.into_iter().map(|place| worth[place]).collect();
        let prompt = |problem: &usize| self.train.prompts[*problem].clone();
        let prompts: Vec<Vec<TokenId>> = problems.iter().map(prompt).collect();
        let (programs, work) = complete(lm, &prompts, &config.writing, config.group_size, seed)?;
        let repeated = |problem: &usize| std::iter::repeat_n(*problem, config.group_size);
        let of: Vec<usize> = problems.iter().flat_map(repeated).collect();
        let scheme = section.reward;
        let mut graded = self.train.grade(&of, &programs, scheme, self.tokenizer);
        let mut components = BTreeMap::new();
        if let Some(command) = &mut self.command {
            let answers = self
                .train
                .ask(command, &of, &programs, &graded, self.tokenizer)?;
            components = written::set_rewards(&mut graded, &answers);
        }
        if section.difficulty().is_some() {
            for (problem, graded) in problems.iter().zip(graded.chunks(config.group_size)) {
                let earned = graded.iter().flatten();
                let n_right = earned.filter(|earned| earned.verdict.is_passed()).count();
                let task_id = self.train.tasks[*problem].task_id();
                self.difficulty.record(task_id, n_right, graded.len());
            }
        }
        let written = Written::of(&problems, programs, &graded)?;
        Ok((
            Written {
                components,
                ..written
            },
            work,
        ))
    }

    /// The problems that are neither too easy nor too hard, by their places.
    fn worth(&self) -> Vec<usize> {
        let Some(band) = self.section.difficulty() else {
            return (0..self.train.tasks.len()).collect();
        };
        let tasks = self.train.tasks.iter();
        let names: Vec<&str> = tasks.map(Task::task_id).collect();
        self.difficulty.staying(&names, &band)
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec(&self.difficulty).expect("counts by name");
        Ok(ra3_files::write(&folder.join(DIFFICULTY), &json)?)
    }

    pub(crate) fn load(&mut self, folder: &Path) -> Result<()> {
        self.difficulty = read_json(&folder.join(DIFFICULTY), "is damaged")?;
        Ok(())
    }

    fn score(
        &self,
        lm: &dyn Model,
        position: u64,
        n_tokens_sampled: u64,
    ) -> Result<(ScoreRecord, Vec<Sample>)> {
        let evaluation = Evaluation {
            stage: self.stage.clone(),
            arm: self.stage.clone(),
            position,
            n_tokens_sampled,
            decision_name: "plain",
            rule: self.config.writing.clone(),
            guide: None,
            plans: Vec::new(),
            n_samples: self.section.evaluate_samples,
            pass_at: vec![1],
            n_shown: N_SHOWN_PROGRAMS,
            seed: self.seed.child("score"),
        };
        let (score, samples, _) = evaluate(lm, &self.held_out, self.tokenizer, &evaluation)?;
        Ok((score, samples))
    }
}
