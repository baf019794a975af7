//! The memory that a plan needs: its largest update, the models beside the one that is trained, and
//! what generation keeps.

use anyhow::{Result, ensure};
use ra3::settings::Scorer;
use ra3_lm::config::ModelConfig;
use ra3_lm::memory::{UpdateMemory, packed_weights};
use ra3_lm::weights::Layout;

use super::{Shapes, device};
use crate::engine::train_settings;
use crate::free_memory::machine_bytes;
use crate::plan::{Arm, Method, Plan};
use crate::run_file::{BaseSection, RunFile};

/// Bytes that a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Without a single token: the model that is trained, and those beside it.
    pub(super) held: usize,
    /// At most.
    pub(super) peak: usize,
}

/// The largest update of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update<'a> {
    /// Its shape.
    pub(super) config: &'a ModelConfig,
    /// The settings that it is trained by.
    pub(super) file: &'a RunFile,
    /// Rows that are live at once.
    pub(super) n_rows: usize,
    /// Copies of the model beside it.
    pub(super) n_frozen: usize,
    /// True if it learns from what it draws.
    pub(super) draws: bool,
}

/// Those of the base, and of each arm.
pub(super) fn updates<'a>(shapes: &'a Shapes, plan: &'a Plan) -> Vec<Update<'a>> {
    let base = Update {
        config: &shapes.base,
        file: &plan.file,
        n_rows: rows_of_base(&shapes.base, &plan.file),
        n_frozen: 0,
        draws: false,
    };
    let arms = plan.arms.iter().zip(&shapes.arms);
    let of_arm = |(arm, config): (&'a Arm, &'a ModelConfig)| Update {
        config,
        file: &arm.file,
        n_rows: rows_max(config, arm),
        n_frozen: n_frozen(arm),
        draws: arm.goes_to_rlvr || arm.method == Method::Ra3,
    };
    [base].into_iter().chain(arms.map(of_arm)).collect()
}

pub(super) fn of(shapes: &Shapes, plan: &Plan) -> Memory {
    let none = Memory { held: 0, peak: 0 };
    updates(shapes, plan).iter().fold(none, |most, update| {
        let found = of_update(update);
        Memory {
            held: most.held.max(found.held),
            peak: most.peak.max(found.peak),
        }
    })
}

fn of_update(update: &Update<'_>) -> Memory {
    let Update {
        config,
        file,
        n_rows,
        n_frozen,
        draws,
    } = *update;
    let settings = train_settings(&file.training);
    let update = UpdateMemory::of(config, &settings, n_rows);
    let number_bytes = file.training.frozen_precision.n_bytes();
    let packed = packed_weights(config, settings.compute);
    let frozen = n_frozen * (Layout::new(config).n_params() * number_bytes + packed);
    // The model's own cache stays while a frozen one scores what was drawn.
    let n_caches = 1 + usize::from(n_frozen > 0);
    let recorded = if draws && settings.can_record() {
        settings.recorded_bytes_max
    } else {
        0
    };
    Memory {
        held: update.parameters + frozen,
        peak: update.total() + frozen + n_caches * settings.cache_bytes_max + recorded,
    }
}

/// Copies of a model that are kept beside it. The reference is kept for the bounds even where the
/// penalty does not need it.
fn n_frozen(arm: &Arm) -> usize {
    let rlvr = arm.file.rlvr.as_ref().filter(|_| arm.goes_to_rlvr);
    let of_rlvr = usize::from(rlvr.is_some_and(|rlvr| rlvr.kl > 0.0));
    let scorer = usize::from(arm.file.ra3.e_step.scorer == Scorer::Frozen);
    match arm.method {
        Method::Ra3 => of_rlvr.max(1 + scorer),
        Method::None | Method::Ntp(_) => of_rlvr,
    }
}

/// Rows that are live at once in the largest update of some trees: as many as a micro-batch holds,
/// or one that is larger and runs alone.
fn rows(file: &RunFile, n_trees: usize, tree: usize) -> usize {
    let all = n_trees.saturating_mul(tree);
    all.min(file.training.micro_batch_tokens).max(tree)
}

fn rows_of_base(config: &ModelConfig, file: &RunFile) -> usize {
    let document = file.corpus.document_tokens_max;
    let document = document.min(config.max_position_embeddings);
    match &file.base {
        BaseSection::Pretrain {
            batch_documents, ..
        } => rows(file, *batch_documents, document),
        BaseSection::Checkpoint { .. } => document,
    }
}

/// Rows that are live at once in the largest update of an arm.
fn rows_max(config: &ModelConfig, arm: &Arm) -> usize {
    let file = &arm.file;
    let context = config.max_position_embeddings;
    let mut most = 0;
    let batch_documents = file.supervised.batch_documents;
    match arm.method {
        Method::None => {}
        Method::Ntp(_) => {
            let document = file.corpus.document_tokens_max.min(context);
            most = rows(file, batch_documents, document);
        }
        Method::Ra3 => {
            let annotated = annotated_tokens_max(file, context);
            // The draws of a document that the M-step learns from are one tree.
            let draws = file.ra3.m_step.choose.n_learnt().saturating_mul(annotated);
            // The rollouts of a document part at its first decision, in the worst case.
            let search = &file.ra3.e_step;
            let group = search.group_size.saturating_mul(annotated);
            let m_step = rows(file, batch_documents, draws);
            most = m_step.max(rows(file, search.batch_documents, group));
        }
    }
    if arm.goes_to_rlvr
        && let Some(rlvr) = &file.rlvr
    {
        // The prompt is shared, and at most the rest of the context.
        let program = rlvr.program_tokens_max.min(context);
        let group = (context - program).saturating_add(rlvr.group_size.saturating_mul(program));
        most = most.max(rows(file, rlvr.batch_problems, group));
    }
    most
}

/// Tokens of the longest document with a longest rationale before every line, or the context. A
/// line has two tokens at least, its decision and its end.
fn annotated_tokens_max(file: &RunFile, context: usize) -> usize {
    let document = file.corpus.document_tokens_max;
    let rationale = file.ra3.e_step.rationale_tokens_max + 2;
    let n_lines_max = document.div_ceil(2);
    context.min(document.saturating_add(n_lines_max.saturating_mul(rationale)))
}

/// Refuses a plan whose weights, gradient and moments alone exceed this machine's memory, which is
/// not asked for where they may be on a GPU.
///
/// # Errors
/// They do: the message says both.
pub(crate) fn check_memory(plan: &Plan) -> Result<()> {
    if !plan.file.engine.is_on_processor() {
        return Ok(());
    }
    // What is not here yet is looked at when it is loaded.
    let Ok(shapes) = Shapes::of(&plan.file, &plan.arms) else {
        return Ok(());
    };
    let held = device::held(&shapes, plan).unwrap_or_else(|| of(&shapes, plan).held);
    let held_mib = held as u64 >> 20;
    if let Some(here) = machine_bytes("MemTotal:") {
        let here_mib = here as u64 >> 20;
        ensure!(
            held_mib <= here_mib,
            "the model's weights, their gradient and the optimizer's moments take {held_mib} MiB, \
             and this machine has {here_mib} MiB: take a smaller base.model, or \
             training.moment_precision = \"bfloat16\", or run it all the same with --force"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::estimate;

    fn rows(changes: &[&str]) -> usize {
        let plan = Plan::tiny(changes);
        let shapes = Shapes::of(&plan.file, &plan.arms).unwrap();
        let arms = plan.arms.iter().zip(&shapes.arms);
        let rows = arms.map(|(arm, config)| rows_max(config, arm));
        rows.max().unwrap()
    }

    #[test]
    fn the_largest_tree_counts_where_it_is_larger_than_a_micro_batch() {
        // 2 documents of 8 rollouts of 1024 tokens fill micro-batches.
        assert_eq!(rows(&["training.micro_batch_tokens=9000"]), 9000);
        // One group is a tree, and runs alone.
        assert_eq!(rows(&["training.micro_batch_tokens=100"]), 8 * 1024);
        let few = "ra3.e_step.group_size=2";
        // RLVR: 8 programs of 200 tokens behind one prompt of at most 824.
        let long = "rlvr.program_tokens_max=200";
        assert_eq!(
            rows(&["training.micro_batch_tokens=100", few, long]),
            824 + 8 * 200
        );
        let short = ["rlvr.group_size=2", "training.micro_batch_tokens=100", few];
        assert_eq!(rows(&short), 2 * 1024);
    }

    #[test]
    fn what_no_machine_holds_is_refused() {
        let plan = Plan::tiny(&[
            "base.model.hidden_size=32768",
            "base.model.intermediate_size=131072",
            "base.model.n_layers=1000",
            "training.cache_mib=1000000",
        ]);
        assert!(estimate(&plan).unwrap().memory_mib > 1 << 20);
        let message = check_memory(&plan).unwrap_err().to_string();
        assert!(message.contains("base.model"), "{message}");
    }
}
