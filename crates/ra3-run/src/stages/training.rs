//! The loop that every training stage shares: advance, record, commit, continue after a kill.
//!
//! What an update *is* stands in the course ([`super::supervised`], [`super::ra3`],
//! [`super::rlvr`]); nothing here knows the algorithm.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use ra3::model::{Model, Saved};
use ra3::policy::{UpdateStats, Work};
use ra3_page::number as short;
use ra3_records::ledger::{Record, ScoreRecord, StageRecord, UpdateRecord};
use ra3_records::samples::Sample;
use serde::{Deserialize, Serialize};

use super::ra3::Ra3Course;
use super::rehearsal;
use super::rlvr::RlvrCourse;
use super::supervised::SupervisedCourse;
use crate::event::{Event, Watcher};
use crate::on_disk::read_json;
use crate::store::StageFolder;

/// How far, in the ledger's figures, an update found drawn tokens from what they were drawn with.
const GAP: &str = "logprob_gap";
/// A mean gap that is worth a word, in nats a token.
const GAP_NOTED: f64 = 0.02;

/// What a stage has spent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spent {
    pub(crate) n_corpus_tokens: u64,
    pub(crate) n_tokens_sampled: u64,
    pub(crate) n_tokens_run: u64,
    pub(crate) flops: f64,
}

impl Spent {
    fn add(&mut self, n_corpus_tokens: u64, work: &Work) {
        self.n_corpus_tokens += n_corpus_tokens;
        self.n_tokens_sampled += work.n_tokens_sampled;
        self.n_tokens_run += work.n_tokens_run;
        self.flops += work.flops;
    }
}

/// What one update did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Which part of the stage.
    pub(crate) phase: &'static str,
    /// Figures for the ledger.
    pub(crate) figures: BTreeMap<String, f64>,
    /// Corpus tokens of the update.
    pub(crate) n_corpus_tokens: u64,
    /// Work of the update.
    pub(crate) work: Work,
    /// Scores taken after the update.
    pub(crate) scores: Vec<ScoreRecord>,
    /// Samples worth looking at.
    pub(crate) samples: Vec<Sample>,
    /// What a user should know.
    pub(crate) notes: Vec<String>,
}

/// What a stage does with its model.
pub(crate) enum Course<'a> {
    Supervised(SupervisedCourse<'a>),
    Ra3(Box<Ra3Course<'a>>),
    Rlvr(Box<RlvrCourse<'a>>),
}

impl Course<'_> {
    /// Tries the largest work that can come.
    fn rehearse(&self, lm: &dyn Model) -> Result<()> {
        match self {
            Self::Supervised(course) => {
                rehearsal::documents(lm, course.documents, course.batch_documents)
            }
            Self::Ra3(course) => course.rehearse(lm),
            Self::Rlvr(course) => course.rehearse(lm),
        }
    }

    /// Updates in all; where a stage ends by tokens or FLOPs, the best guess.
    fn total(&self) -> u64 {
        match self {
            Self::Supervised(course) => course.n_updates_expected,
            Self::Ra3(course) => course.total(),
            Self::Rlvr(course) => course.total(),
        }
    }

    fn step(&mut self, lm: &mut dyn Model, position: u64, spent: &Spent) -> Result<Option<Step>> {
        match self {
            Self::Supervised(course) => course.step(lm, position, spent),
            Self::Ra3(course) => course.step(lm),
            Self::Rlvr(course) => course.step(lm, position, spent),
        }
    }

    /// What it has written of the stage's outputs for good, and a continued run needs.
    fn outputs(&self) -> Vec<String> {
        match self {
            Self::Ra3(course) => course.outputs(),
            Self::Supervised(_) | Self::Rlvr(_) => Vec::new(),
        }
    }

    fn save(&self, folder: &Path) -> Result<()> {
        match self {
            Self::Ra3(course) => course.save(folder),
            Self::Rlvr(course) => course.save(folder),
            Self::Supervised(_) => Ok(()),
        }
    }

    fn load(&mut self, folder: &Path, position: u64) -> Result<()> {
        match self {
            Self::Ra3(course) => course.load(folder, position),
            Self::Rlvr(course) => course.load(folder),
            Self::Supervised(_) => Ok(()),
        }
    }
}

/// The part of a committed state that is neither weights nor the course's own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    position: u64,
    spent: Spent,
}

/// Drives a stage to its end, from where its last commit left it. Returns the trained model.
///
/// # Errors
/// The engine refuses an update (a non-finite loss, say), or something cannot be written; the
/// last commit then stands.
pub(crate) fn drive(
    mut lm: Box<dyn Model>,
    mut course: Course<'_>,
    checkpoint_every: u64,
    folder: &mut StageFolder,
    watcher: &mut Watcher<'_>,
) -> Result<Box<dyn Model>> {
    let stage = folder.stage().to_owned();
    let (mut position, mut spent) = (0, Spent::default());
    if let Some((committed, state)) = folder.state() {
        let loaded = load_state(&state, &mut *lm, &mut course)
            .with_context(|| format!("cannot continue {stage} from {}", state.display()))?;
        (position, spent) = (committed, loaded.spent);
    }
    course
        .rehearse(&*lm)
        .with_context(|| format!("the largest batch of {stage} does not run"))?;
    watcher(Event::Started {
        stage: stage.clone(),
        position,
        total: course.total(),
        unit: "updates",
    });
    // Once a stage: what one update has, those after it have.
    let mut is_gap_noted = false;
    while let Some(step) = course
        .step(&mut *lm, position, &spent)
        .with_context(|| format!("update {position} of {stage} failed"))?
    {
        spent.add(step.n_corpus_tokens, &step.work);
        watcher(advanced(&step, position + 1));
        for note in &step.notes {
            watcher(Event::Note(note.clone()));
        }
        if let Some(note) = gap_note(&step.figures).filter(|_| !is_gap_noted) {
            watcher(Event::Note(format!("{stage}, update {position}: {note}")));
            is_gap_noted = true;
        }
        record(folder, position, &spent, step)?;
        position += 1;
        if position % checkpoint_every == 0 {
            let state = State { position, spent };
            let outputs = course.outputs();
            folder.commit_state(position, &outputs, |place| {
                save_state(place, &state, &*lm, &course)
            })?;
        }
    }
    folder.spend(StageRecord {
        stage,
        n_corpus_tokens: spent.n_corpus_tokens,
        n_tokens_sampled: spent.n_tokens_sampled,
        n_tokens_run: spent.n_tokens_run,
        flops: spent.flops,
    })?;
    watcher(Event::Finished {
        message: summary(&spent),
    });
    Ok(lm)
}

fn record(folder: &mut StageFolder, position: u64, spent: &Spent, step: Step) -> Result<()> {
    folder.record(&Record::Update(UpdateRecord {
        stage: folder.stage().to_owned(),
        phase: step.phase.to_owned(),
        position,
        figures: step.figures,
        n_corpus_tokens: spent.n_corpus_tokens,
        n_tokens_sampled: spent.n_tokens_sampled,
        flops: spent.flops,
    }))?;
    for score in step.scores {
        folder.record(&Record::Score(score))?;
    }
    for sample in &step.samples {
        folder.sample(sample)?;
    }
    Ok(())
}

/// The figure of an update that learns from what was drawn.
pub(super) fn gap_figure(update: &UpdateStats) -> Option<(String, f64)> {
    update.logprob_gap.map(|gap| (GAP.to_owned(), gap))
}

/// What a user should know of a gap, if anything.
fn gap_note(figures: &BTreeMap<String, f64>) -> Option<String> {
    let gap = figures.get(GAP).filter(|gap| **gap > GAP_NOTED)?;
    Some(format!(
        "the pass that trains gives drawn tokens log-probabilities {gap:.3} nats a token from \
         those that they were drawn with (more than {GAP_NOTED}): the gradient is of a policy that \
         did not draw them; engine.dtype = \"float32\" keeps the two together"
    ))
}

fn advanced(step: &Step, position: u64) -> Event {
    let shown = ["loss", "mean_return", "think_rate", "reward"];
    let figures: Vec<String> = shown
        .iter()
        .filter_map(|name| Some(format!("{name} {:.3}", step.figures.get(*name)?)))
        .collect();
    Event::Advanced {
        position,
        n_tokens: step.work.n_tokens_run,
        message: format!("{} {}", step.phase, figures.join(" ")),
    }
}

fn summary(spent: &Spent) -> String {
    format!(
        "{} corpus tokens, {} sampled, {} FLOP",
        short(spent.n_corpus_tokens as f64),
        short(spent.n_tokens_sampled as f64),
        short(spent.flops)
    )
}

fn save_state(folder: &Path, state: &State, lm: &dyn Model, course: &Course<'_>) -> Result<()> {
    lm.save(&folder.join("model"), Saved::State)
        .map_err(anyhow::Error::from_boxed)?;
    course.save(folder)?;
    let json = serde_json::to_vec(state).expect("a state has only plain fields");
    Ok(ra3_files::write(&folder.join("state.json"), &json)?)
}

fn load_state(folder: &Path, lm: &mut dyn Model, course: &mut Course<'_>) -> Result<State> {
    let state: State = read_json(&folder.join("state.json"), "is damaged")?;
    lm.load_state(&folder.join("model"))
        .map_err(anyhow::Error::from_boxed)?;
    course.load(folder, state.position)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_noted_where_it_is_large() {
        let figure = |logprob_gap| {
            let update = UpdateStats {
                logprob_gap,
                ..UpdateStats::default()
            };
            gap_figure(&update).into_iter().collect::<BTreeMap<_, _>>()
        };
        assert!(figure(None).is_empty());
        assert_eq!(figure(Some(0.01)), BTreeMap::from([(GAP.to_owned(), 0.01)]));
        assert_eq!(gap_note(&figure(None)), None);
        assert_eq!(gap_note(&figure(Some(0.02))), None);
        let note = gap_note(&figure(Some(0.0312))).unwrap();
        assert!(note.contains("0.031 nats a token"), "{note}");
    }
}
