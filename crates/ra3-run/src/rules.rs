//! Rules between the keys of a run file. What a single key may be stands in
//! [`crate::run_file::KEYS`] and is checked before; here is what two or more must be together.

use anyhow::{Context, Result, bail, ensure};
use ra3::formulas::Baseline;
use ra3_corpus::read::Source;
use ra3_lm::config::ModelConfig;

use crate::estimate::config_of;
use crate::run_file::{
    AblationName, BaseSection, EvaluateSection, MidtrainSection, ModelSection, RlvrSection,
    RunFile, TokenizerSection,
};

/// Checks what must hold between keys.
///
/// # Errors
/// A rule is broken: the message names the keys and their values.
pub(crate) fn check(file: &RunFile) -> Result<()> {
    check_corpus(file)?;
    check_base(file)?;
    if let Some(midtrain) = &file.midtrain {
        check_midtrain(midtrain)?;
    }
    if let Some(evaluate) = &file.evaluate {
        check_evaluate(file, evaluate)?;
    }
    if let Some(rlvr) = &file.rlvr {
        check_rlvr(file, rlvr)?;
    }
    // What is neither in a folder nor in the cache has no shape yet: the stage will see it.
    if let Ok(config) = config_of(file) {
        check_room(file, &config)?;
    }
    Ok(())
}

fn check_corpus(file: &RunFile) -> Result<()> {
    let corpus = &file.corpus;
    let n_generated = corpus.testbed.as_ref().map_or(0, |it| it.n_documents);
    ensure!(
        !corpus.sources.is_empty() || n_generated > 0,
        "corpus has no sources, and corpus.testbed.n_documents is 0 or not there: there is \
         nothing to train on"
    );
    for source in &corpus.sources {
        if let Source::Folder { path }
        | Source::JsonLines { path, .. }
        | Source::Parquet { path, .. } = source
        {
            ensure!(
                path.exists(),
                "corpus.sources.path: {} does not exist",
                path.display()
            );
        }
    }
    Ok(())
}

fn check_base(file: &RunFile) -> Result<()> {
    match (&file.tokenizer, &file.base) {
        (TokenizerSection::Base {}, BaseSection::Pretrain { .. }) => {
            bail!("tokenizer.kind = \"base\" needs base.kind = \"checkpoint\"")
        }
        (TokenizerSection::Train { .. }, BaseSection::Checkpoint { .. }) => bail!(
            "base.kind = \"checkpoint\" comes with its own tokenizer: tokenizer.kind = \"base\""
        ),
        _ => {}
    }
    match &file.base {
        // What is no folder is a name on the Hub, and looked up when the run begins.
        BaseSection::Checkpoint { path, .. } => ensure!(
            path.join("config.json").exists() || !path.is_dir(),
            "base.path: {} has no config.json",
            path.display()
        ),
        BaseSection::Pretrain { model, .. } => check_heads(model)?,
    }
    Ok(())
}

fn check_heads(model: &ModelSection) -> Result<()> {
    ensure!(
        model.n_heads.is_multiple_of(model.n_key_value_heads),
        "base.model.n_heads = {} query heads cannot be shared among \
         base.model.n_key_value_heads = {}",
        model.n_heads,
        model.n_key_value_heads
    );
    // Rotary positions turn pairs of a head's columns.
    ensure!(
        model.hidden_size.is_multiple_of(2 * model.n_heads),
        "base.model.hidden_size = {} is no multiple of twice base.model.n_heads = {}: a head has \
         an even width",
        model.hidden_size,
        model.n_heads
    );
    Ok(())
}

fn check_midtrain(midtrain: &MidtrainSection) -> Result<()> {
    let ra3 = &midtrain.ra3;
    let search = &ra3.e_step;
    ensure!(
        search.group_size >= 2 || search.baseline == Baseline::None,
        "midtrain.ra3.e_step.group_size = 1 leaves nothing for a leave-one-out baseline, and a \
         group's mean is the rollout itself: take 2 or more, or baseline = \"none\""
    );
    let n_m_updates = ra3.rounds * ra3.m_updates;
    let trains_on_annotated = n_m_updates > 0 && ra3.ablation != AblationName::NoEm;
    ensure!(
        ra3.annotate_documents > 0 || !trains_on_annotated,
        "midtrain.ra3.annotate_documents = 0 leaves nothing for midtrain.ra3.m_updates = {}: take \
         1 or more, or m_updates = 0",
        ra3.m_updates
    );
    Ok(())
}

fn check_evaluate(file: &RunFile, evaluate: &EvaluateSection) -> Result<()> {
    let Some(testbed) = &file.corpus.testbed else {
        bail!("evaluate needs corpus.testbed: that is where the problems come from");
    };
    ensure!(
        testbed.n_held_out_problems > 0,
        "evaluate needs problems: corpus.testbed.n_held_out_problems is 0"
    );
    ensure!(
        file.corpus.held_out_share > 0.0,
        "evaluate needs held-out documents: corpus.held_out_share is 0"
    );
    let Some(k_max) = evaluate.pass_at.iter().max() else {
        bail!("evaluate.pass_at is empty: it asks for no score");
    };
    ensure!(
        *k_max <= evaluate.n_samples,
        "evaluate.pass_at asks for k = {k_max} with evaluate.n_samples = {}",
        evaluate.n_samples
    );
    Ok(())
}

fn check_rlvr(file: &RunFile, rlvr: &RlvrSection) -> Result<()> {
    let Some(evaluate) = &file.evaluate else {
        bail!("rlvr needs evaluate: its scores use those settings");
    };
    ensure!(
        rlvr.overlong_tokens < evaluate.program_tokens_max,
        "rlvr.overlong_tokens = {} is not below evaluate.program_tokens_max = {}: every program \
         would pay from its first token",
        rlvr.overlong_tokens,
        evaluate.program_tokens_max
    );
    match &rlvr.problems {
        Some(problems) => {
            let n = problems.read().context("rlvr.problems.data")?.len();
            let n_held_out = (problems.held_out_share * n as f64).round() as usize;
            ensure!(
                n_held_out > 0 && n_held_out < n,
                "rlvr.problems.held_out_share = {} holds {n_held_out} of the {n} problems of {} \
                 out: some are needed on either side",
                problems.held_out_share,
                problems.data.display()
            );
        }
        None => ensure!(
            file.corpus
                .testbed
                .as_ref()
                .is_some_and(|testbed| testbed.n_train_problems > 0),
            "rlvr needs problems: corpus.testbed.n_train_problems is 0, and there is no \
             rlvr.problems"
        ),
    }
    Ok(())
}

/// What must fit the model's context and the generator's cache.
fn check_room(file: &RunFile, config: &ModelConfig) -> Result<()> {
    let context = config.max_position_embeddings;
    let fits = |key: &str, n_tokens: usize, limit: usize| {
        ensure!(
            n_tokens <= limit,
            "{key} = {n_tokens} does not fit the model's context of {context} tokens: at most \
             {limit} do"
        );
        Ok(())
    };
    let corpus = &file.corpus;
    fits(
        "corpus.document_tokens_max",
        corpus.document_tokens_max,
        context,
    )?;
    // A rationale has a token before and behind it, a program at least a token before it.
    let rationale_limit = context.saturating_sub(2);
    fits(
        "corpus.rationale_tokens_max",
        corpus.rationale_tokens_max,
        rationale_limit,
    )?;
    let mut longest = corpus.document_tokens_max;
    if let Some(midtrain) = &file.midtrain {
        fits(
            "midtrain.ra3.e_step.rationale_tokens_max",
            midtrain.ra3.e_step.rationale_tokens_max,
            rationale_limit,
        )?;
    }
    if let Some(evaluate) = &file.evaluate {
        fits(
            "evaluate.program_tokens_max",
            evaluate.program_tokens_max,
            context.saturating_sub(1),
        )?;
        longest = longest.max(evaluate.program_tokens_max);
    }
    // Twice the longest: a prompt or rationales come to it.
    let n_rows = longest.saturating_mul(2).min(context);
    let n_needed_mib = (n_rows * cache_bytes_per_token(config)).div_ceil(1 << 20);
    ensure!(
        file.training.cache_mib >= n_needed_mib,
        "training.cache_mib = {} does not hold one sequence of {n_rows} tokens: it takes \
         {n_needed_mib}",
        file.training.cache_mib
    );
    Ok(())
}

/// Keys and values of every layer, and a last hidden state.
pub(crate) fn cache_bytes_per_token(config: &ModelConfig) -> usize {
    let per_layer = 2 * config.key_width();
    size_of::<f32>() * (config.num_hidden_layers * per_layer + config.hidden_size)
}
