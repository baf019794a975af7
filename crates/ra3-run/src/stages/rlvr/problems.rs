//! The problems of RLVR: those that are trained on, and those that the curve is of.

use std::path::Path;

use anyhow::Result;
use ra3::seed::Seed;
use ra3_evals::rlvr::split::split;
use ra3_evals::rlvr::usable::{LeftOut, keep_checked, keep_usable};
use ra3_evals::task::Task;
use ra3_testbed::Form;
use ra3_text::tokenizer::Tokenizer;

use crate::event::{Event, Watcher};
use crate::programs::{ProblemSet, pool};
use crate::run_file::{GradingSection, ProblemSetName, RlvrSection, RunFile};
use crate::stages::corpus::{self, Split};

/// The testbed's problems of a split, of these forms.
pub(super) fn of_testbed(
    grading: &GradingSection,
    set: ProblemSetName,
    forms: &[Form],
    corpus: &Path,
    tokenizer: &Tokenizer,
    split: Split,
) -> Result<ProblemSet> {
    let (_, tasks) = corpus::problems(corpus, split, forms)?;
    let side = match split {
        Split::Train => "training",
        Split::HeldOut => "held-out",
    };
    let name = format!("{}, {side} problems, 0-shot", set.text());
    Ok(ProblemSet::new(
        &name,
        tasks,
        tokenizer,
        pool(grading, set)?,
    ))
}

/// Training and held-out problems of a published set, those whose prompts fit.
pub(super) fn published(
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
