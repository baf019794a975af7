//! RLVR from an arm: GRPO on training problems, scored on held-out problems at intervals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use ra3::generation::{Completion, complete};
use ra3::grpo::{self, Group, GroupStats, GrpoConfig};
use ra3::model::Model;
use ra3::policy::{Surrogate, TokenId, UpdateStats, Work};
use ra3::schedule::{Schedule, batch};
use ra3::seed::Seed;
use ra3_evals::bench::{self, Name};
use ra3_evals::outcome::Fault;
use ra3_evals::rlvr::split::split;
use ra3_evals::rlvr::usable::{LeftOut, keep_checked, keep_usable};
use ra3_evals::task::Task;
use ra3_text::tokenizer::Tokenizer;

use super::base::save_model;
use super::corpus::{self, Split};
use super::rehearsal;
use super::training::{Course, Spent, Step, drive};
use crate::engine::Engine;
use crate::event::{Event, Watcher};
use crate::model_note::ModelNote;
use crate::plan::Arm;
use crate::programs::{Earned, Evaluation, ProblemSet, evaluate, pool, writing_rule};
use crate::run_file::{GradingSection, ProblemSetName, RlvrSection, RunFile};
use crate::store::StageFolder;

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
}

/// What an update did.
struct Report {
    /// Everything that was written and graded; `None` where nothing could be graded.
    groups: Option<GroupStats>,
    /// The last update.
    update: UpdateStats,
    /// Everything that ran.
    work: Work,
    /// What a user should know.
    notes: Vec<String>,
}

/// Programs of a batch of problems that could be graded.
struct Written {
    /// They and their rewards, by problem.
    groups: Vec<Group>,
    /// Problems with a broken checker, and what is wrong with it.
    faults: BTreeMap<usize, String>,
}

pub(crate) fn run(
    arm: &Arm,
    corpus: &Path,
    start: &Path,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<()> {
    let file = &arm.file;
    let section = file.rlvr.as_ref().context("there is no [rlvr]")?;
    let tokenizer = corpus::tokenizer(corpus)?;
    let lm = Engine::of(&file.training).load(start)?;
    let (train, held_out) = if section.problems.set == ProblemSetName::Testbed {
        let set = |split| problems_of_testbed(&file.grading, corpus, &tokenizer, split);
        (set(Split::Train)?, set(Split::HeldOut)?)
    } else {
        let n_context = lm.shape().n_context;
        let n_prompt_max = n_context.saturating_sub(section.program_tokens_max);
        published(file, section, &tokenizer, n_prompt_max, watcher)?
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
    };
    let course = Course::Rlvr(Box::new(course));
    let (lm, _) = drive(lm, course, file.checkpoint_every, folder, watcher)?;
    let note = ModelNote::read(start)?;
    save_model(&folder.path("model"), corpus, &*lm, &tokenizer, &note)
}

fn problems_of_testbed(
    grading: &GradingSection,
    corpus: &Path,
    tokenizer: &Tokenizer,
    split: Split,
) -> Result<ProblemSet> {
    let tasks = bench::read(Name::HumanEval, &corpus::problems_path(corpus, split))?.tasks;
    let name = match split {
        Split::Train => "testbed, training problems, 0-shot",
        Split::HeldOut => "testbed, held-out problems, 0-shot",
    };
    let pool = pool(grading, ProblemSetName::Testbed)?;
    Ok(ProblemSet::new(name, tasks, tokenizer, pool))
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

/// Training and held-out problems of a published set, those whose prompts fit.
fn published(
    file: &RunFile,
    section: &RlvrSection,
    tokenizer: &Tokenizer,
    n_prompt_max: usize,
    watcher: &mut Watcher<'_>,
) -> Result<(ProblemSet, ProblemSet)> {
    let set_name = section.problems.set;
    let data = section.problems.data.clone().unwrap_or_default();
    let sorting = pool(&file.grading, set_name)?;
    let mut problems = section.problems.read()?;
    let left_out = keep_usable(&mut problems, &sorting);
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
    // Of the corpus' root: runs of several seeds are scored on the same problems.
    let seed = Seed::root(file.corpus.seed).child("problems");
    let (training, held_out) = split(problems, section.held_out_share, seed);
    let mut set = |side: &str, problems: Vec<Task>| -> Result<ProblemSet> {
        anyhow::ensure!(
            !problems.is_empty(),
            "rlvr.problems: there is no {side} problem in {}: too few, too many alike, or \
             rlvr.held_out_share = {} leaves none",
            data.display(),
            section.held_out_share
        );
        let pool = pool(&file.grading, set_name)?;
        let name = format!("{}, {side} problems, 0-shot", set_name.text());
        let mut set = ProblemSet::new(&name, problems, tokenizer, pool);
        let n_left_out = set.keep_fitting(n_prompt_max);
        let n = set.tasks.len();
        anyhow::ensure!(
            n > 0,
            "rlvr.problems: no {side} problem of {} has a prompt of {n_prompt_max} tokens or fewer",
            data.display()
        );
        watcher(Event::Note(format!(
            "{n} {side} problems of {}; {n_left_out} prompts do not fit the context",
            data.display()
        )));
        Ok(set)
    };
    Ok((set("training", training)?, set("held-out", held_out)?))
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
            figures: figures(report.groups, report.update.gradient_norm),
            n_corpus_tokens: 0,
            work: report.work,
            scores,
            samples,
            notes: report.notes,
        }))
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
    fn update(&mut self, lm: &mut dyn Model, position: u64) -> Result<Report> {
        let n_tries = self.section.n_tries_max as u64;
        let n_wanted = self.section.batch_problems;
        let is_dynamic = n_tries > 1;
        let seed = self.seed.child("programs").nth(position);
        let (mut all, mut kept, mut work) = (Vec::new(), Vec::new(), Work::default());
        let mut notes = Vec::new();
        for index in 0..n_tries {
            if kept.len() >= n_wanted {
                break;
            }
            let seed = if is_dynamic { seed.nth(index) } else { seed };
            let (written, writing) = self.written(lm, position * n_tries + index, seed)?;
            work += writing;
            notes.extend(self.notes_of_new(written.faults));
            let learnt = written.groups.iter();
            let learnt = learnt.filter(|group| group.has_signal() || !is_dynamic);
            kept.extend(learnt.take(n_wanted - kept.len()).cloned());
            all.extend(written.groups);
        }
        let schedule = Schedule::Constant {
            peak: self.section.learning_rate,
            warmup: self.section.warmup,
        };
        let lr = schedule.at(position, self.section.n_updates);
        let (update, training) = grpo::update(lm, &kept, &self.config, lr)?;
        work += training;
        Ok(Report {
            groups: (!all.is_empty()).then(|| GroupStats::of(&all)),
            update,
            work,
            notes,
        })
    }

    /// Writes and grades the programs of batch `nth` of the problems.
    fn written(&self, lm: &dyn Model, nth: u64, seed: Seed) -> Result<(Written, Work)> {
        let (section, config) = (self.section, &self.config);
        let n_problems = self.train.tasks.len();
        let problems = batch(n_problems, section.batch_problems, nth, self.seed);
        let prompt = |problem: &usize| self.train.prompts[*problem].clone();
        let prompts: Vec<Vec<TokenId>> = problems.iter().map(prompt).collect();
        let (programs, work) = complete(lm, &prompts, &config.writing, config.group_size, seed)?;
        let repeated = |problem: &usize| std::iter::repeat_n(*problem, config.group_size);
        let of: Vec<usize> = problems.iter().flat_map(repeated).collect();
        let scheme = section.reward.scheme();
        let graded = self.train.grade(&of, &programs, scheme, self.tokenizer);
        Ok((Written::of(&problems, programs, &graded)?, work))
    }

    fn score(
        &self,
        lm: &dyn Model,
        position: u64,
        n_tokens_sampled: u64,
    ) -> Result<(crate::ledger::ScoreRecord, Vec<crate::samples::Sample>)> {
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

impl Written {
    /// As many programs for each problem, in the problems' order. A problem whose checker turns out
    /// to be broken has no group: no program for it earns or loses anything.
    ///
    /// # Errors
    /// The sandbox failed, which is no program's fault.
    fn of(
        problems: &[usize],
        programs: Vec<Completion>,
        graded: &[Result<Earned, Fault>],
    ) -> Result<Self> {
        let group_size = programs.len() / problems.len();
        let is_failed = |graded: &&_| matches!(graded, Err(Fault::Sandbox(_)));
        let n_failed = graded.iter().filter(is_failed).count();
        anyhow::ensure!(n_failed == 0, "the sandbox failed for {n_failed} programs");
        let mut faults = BTreeMap::new();
        for (problem, graded) in problems.iter().zip(graded.chunks(group_size)) {
            for fault in graded.iter().filter_map(|graded| graded.as_ref().err()) {
                faults.insert(*problem, fault.to_string());
            }
        }
        let reward = |earned: &Earned| earned.reward as f32;
        // What a broken checker says of a program is in no group that stays.
        let reward = |graded: &Result<Earned, Fault>| graded.as_ref().map_or(0.0, reward);
        let rewards: Vec<f32> = graded.iter().map(reward).collect();
        let groups = Group::split(programs, &rewards, group_size).into_iter();
        let sound = groups.zip(problems);
        let sound = sound.filter(|(_, problem)| !faults.contains_key(*problem));
        Ok(Self {
            groups: sound.map(|(group, _)| group).collect(),
            faults,
        })
    }
}

/// The figures of an update. Where nothing could be graded there is no reward, which is not one of
/// 0.
fn figures(groups: Option<GroupStats>, gradient_norm: f64) -> BTreeMap<String, f64> {
    let of_groups = groups.into_iter().flat_map(|groups| {
        [
            ("reward", groups.mean_reward),
            ("groups_with_signal", groups.groups_with_signal),
            ("program_tokens", groups.program_tokens),
            ("ended_share", groups.ended_share),
        ]
    });
    let all = of_groups.chain([("gradient_norm", gradient_norm)]);
    all.map(|(name, figure)| (name.to_owned(), figure))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ra3::trace::Trace;
    use ra3_evals::outcome::{Part, Verdict};

    use super::*;

    const GROUP_SIZE: usize = 3;

    /// Programs are told apart by a token.
    fn program(token: TokenId) -> Completion {
        Completion {
            trace: Trace {
                tokens: vec![token],
                ..Trace::default()
            },
            n_prompt: 0,
            ended: false,
            markers: None,
        }
    }

    fn earned(reward: f64) -> Earned {
        let verdict = Verdict::from(Part::passed(1));
        Earned { verdict, reward }
    }

    fn written(problems: &[usize], graded: &[Result<Earned, Fault>]) -> Result<Written> {
        let programs = (0..graded.len() as TokenId).map(program).collect();
        Written::of(problems, programs, graded)
    }

    proptest! {
        #[test]
        fn a_problem_with_a_broken_checker_has_no_group(
            problems in prop::collection::vec(0usize..4, 1..6),
            breaks in prop::collection::vec(prop::bool::weighted(0.2), 5 * GROUP_SIZE),
        ) {
            let n = problems.len() * GROUP_SIZE;
            let broken = || Err(Fault::Checker("is broken".to_owned()));
            let graded: Vec<_> = (0..n)
                .map(|at| if breaks[at] { broken() } else { Ok(earned(at as f64)) })
                .collect();
            let found = written(&problems, &graded).expect("no sandbox failed");
            let faulty: BTreeSet<usize> =
                (0..n).filter(|at| breaks[*at]).map(|at| problems[at / GROUP_SIZE]).collect();
            prop_assert_eq!(found.faults.keys().copied().collect::<BTreeSet<_>>(), faulty.clone());
            let sound = (0..problems.len()).filter(|at| !faulty.contains(&problems[*at]));
            let wanted: Vec<f32> = sound
                .flat_map(|at| at * GROUP_SIZE..(at + 1) * GROUP_SIZE)
                .map(|at| at as f32)
                .collect();
            let rewards: Vec<f32> = found.groups.iter().flat_map(|g| g.rewards.clone()).collect();
            let programs = found.groups.iter().flat_map(|group| &group.programs);
            let tokens: Vec<f32> = programs.map(|program| program.raw()[0] as f32).collect();
            prop_assert_eq!(&rewards, &wanted);
            prop_assert_eq!(tokens, wanted);
        }
    }

    #[test]
    fn where_all_checkers_are_broken_there_is_no_reward() {
        let broken = Err(Fault::Checker("gives no number".to_owned()));
        let found = written(&[5, 8], &vec![broken; 2 * GROUP_SIZE]).expect("no sandbox failed");
        assert!(found.groups.is_empty());
        assert_eq!(
            found.faults[&8],
            "the problem's checker gives no number".to_owned()
        );
        assert_eq!(
            figures(None, 0.5).into_iter().collect::<Vec<_>>(),
            [("gradient_norm".to_owned(), 0.5)]
        );
        let none_earned = figures(Some(GroupStats::default()), 0.5);
        assert_eq!((none_earned["reward"], none_earned.len()), (0.0, 5));
    }

    #[test]
    fn a_sandbox_that_fails_stops_the_update() {
        let failed = Err(Fault::Sandbox("no process".to_owned()));
        let error = written(&[1], &[Ok(earned(0.0)), failed, Ok(earned(1.0))]);
        let error = error.err().expect("it stops").to_string();
        assert_eq!(error, "the sandbox failed for 1 programs");
    }
}
