//! Rules between the keys of a run file. What a single key may be stands in
//! [`crate::run_file::KEYS`] and is checked before; here is what two or more must be together.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ra3::formulas::Baseline;
use ra3_corpus::read::Source;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::memory;
use ra3_testbed::Form;

use crate::estimate::Shapes;
use crate::plan::{Arm, Method, Origin};
use crate::run_file::{
    BaseSection, CorpusSection, DeviceName, EngineSection, EvaluateSection, LoraSection,
    LoraTarget, ModelSection, ProblemSetName, ProblemsSection, Ra3Section, RlvrSection, RunFile,
    Sharding, TokenizerSection, name_of,
};

/// Checks what must hold between keys.
pub(crate) fn check(file: &RunFile, arms: &[Arm]) -> Result<()> {
    check_engine(file, arms)?;
    check_corpus(file, arms)?;
    check_tokenizer(file)?;
    if arms.iter().any(|arm| arm.from == Origin::Base) {
        check_base(file)?;
    }
    check_measures(file)?;
    // What is neither in a folder nor in the cache has no shape yet: the stage will see it.
    let shapes = Shapes::of(file, arms).ok();
    for (place, arm) in arms.iter().enumerate() {
        let checked = check_arm(arm, shapes.as_ref().map(|shapes| &shapes.arms[place]));
        // What the file says is no fault of the arm that meets it first.
        if arm.file == *file && !matches!(arm.from, Origin::Checkpoint(_)) {
            checked?;
        } else {
            checked.with_context(|| format!("arm {:?}", arm.name))?;
        }
    }
    if let Some(study) = &file.study {
        study.check(&file.arms)?;
    }
    Ok(())
}

fn check_arm(arm: &Arm, config: Option<&ModelConfig>) -> Result<()> {
    if let Origin::Checkpoint(path) = &arm.from {
        check_checkpoint(path).context("from")?;
    }
    if arm.method == Method::Ra3 {
        check_ra3(&arm.file.ra3)?;
    }
    if arm.goes_to_rlvr
        && let Some(rlvr) = &arm.file.rlvr
    {
        check_rlvr(&arm.file, rlvr)?;
    }
    if let Some(config) = config {
        check_room(&arm.file, config)?;
    }
    Ok(())
}

fn check_engine(file: &RunFile, arms: &[Arm]) -> Result<()> {
    let EngineSection::Torch(torch) = &file.engine else {
        return Ok(());
    };
    if let Some(lora) = &torch.lora {
        check_lora(file, lora)?;
    }
    ensure!(
        torch.sharding == Sharding::None || torch.processes > 1 || torch.listen.is_some(),
        "engine.sharding = \"full\" with engine.processes = 1: one process has all of a model; set \
         engine.processes"
    );
    if let Some(address) = &torch.listen {
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        ensure!(
            matches!(port, Some(Ok(1..))),
            "engine.listen = {address:?}: it is HOST:PORT, as \"0.0.0.0:29400\""
        );
    }
    ensure!(
        !(torch.cuda_graphs && torch.device == DeviceName::Cpu),
        "engine.cuda_graphs = true with engine.device = \"cpu\": a processor has no CUDA graphs; \
         set engine.cuda_graphs = false"
    );
    let python = &torch.python;
    which::which(python).with_context(|| {
        format!(
            "engine.python: there is no program {python:?}, here or on PATH: name the Python that \
             has torch"
        )
    })?;
    for file in [file].into_iter().chain(arms.iter().map(|arm| &arm.file)) {
        ensure!(
            file.training.compute_precision == Precision::Float32,
            "training.compute_precision = \"bfloat16\" is for engine.kind = \"native\": PyTorch \
             computes in engine.dtype"
        );
        ensure!(
            file.training.frozen_precision == Precision::Float32,
            "training.frozen_precision = \"bfloat16\" is for engine.kind = \"native\": PyTorch's \
             frozen models are kept in float32"
        );
        ensure!(
            !(torch.compile && file.training.recompute),
            "engine.compile = true with training.recompute = true: PyTorch compiles no layers that \
             it runs again; set one of them"
        );
    }
    Ok(())
}

fn check_lora(file: &RunFile, lora: &LoraSection) -> Result<()> {
    ensure!(
        matches!(file.base, BaseSection::Checkpoint { .. }),
        "engine.lora is for base.kind = \"checkpoint\": random weights are trained whole; train \
         the base in a run of its own, and begin from it"
    );
    let targets = &lora.target_modules;
    ensure!(
        !targets.is_empty(),
        "engine.lora.target_modules is empty: leave it out for [\"all-linear\"]"
    );
    ensure!(
        targets.len() == 1 || !targets.contains(&LoraTarget::AllLinear),
        "engine.lora.target_modules: \"all-linear\" is all of them, and stands alone"
    );
    let is_again = |place: usize| targets[..place].contains(&targets[place]);
    if let Some(place) = (0..targets.len()).find(|place| is_again(*place)) {
        let name = name_of(&targets[place]);
        bail!("engine.lora.target_modules has {name:?} twice: take one out");
    }
    Ok(())
}

fn check_corpus(file: &RunFile, arms: &[Arm]) -> Result<()> {
    let corpus = &file.corpus;
    let pretrains = matches!(file.base, BaseSection::Pretrain { .. });
    let trains = pretrains || arms.iter().any(|arm| arm.method != Method::None);
    ensure!(
        corpus.has_documents() || !trains,
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

fn check_tokenizer(file: &RunFile) -> Result<()> {
    match (&file.tokenizer, &file.base) {
        (TokenizerSection::Base {}, BaseSection::Pretrain { .. }) => {
            bail!("tokenizer.kind = \"base\" needs base.kind = \"checkpoint\"")
        }
        (TokenizerSection::Train { .. }, BaseSection::Checkpoint { .. }) => bail!(
            "base.kind = \"checkpoint\" comes with its own tokenizer: tokenizer.kind = \"base\""
        ),
        _ => Ok(()),
    }
}

fn check_base(file: &RunFile) -> Result<()> {
    match &file.base {
        BaseSection::Checkpoint { path, .. } => check_checkpoint(path).context("base.path"),
        BaseSection::Pretrain { model, .. } => check_heads(model),
    }
}

/// A folder is a model's; what is none may be a name on the Hub, which is looked up when the run
/// begins, unless it is written as a path.
fn check_checkpoint(path: &Path) -> Result<()> {
    let name = path.to_string_lossy();
    let is_of_hub = name.split('/').count() == 2 && !name.starts_with(['.', '/', '~']);
    ensure!(
        path.is_dir() || is_of_hub,
        "{name} does not exist; a model of the Hub is written as org/name"
    );
    ensure!(
        !path.is_dir() || path.join("config.json").exists(),
        "{name} has no config.json"
    );
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

fn check_ra3(ra3: &Ra3Section) -> Result<()> {
    let search = &ra3.e_step;
    ensure!(
        search.group_size >= 2 || search.baseline == Baseline::None,
        "ra3.e_step.group_size = 1 leaves nothing for a leave-one-out baseline, and a group's mean \
         is the rollout itself: take 2 or more, or baseline = \"none\""
    );
    ensure!(
        ra3.selection_rounds <= ra3.rounds,
        "ra3.selection_rounds = {} are more than ra3.rounds = {}, whose first ones they are",
        ra3.selection_rounds,
        ra3.rounds
    );
    let trains_on_annotated = ra3.rounds > 0 && ra3.m_updates > 0;
    ensure!(
        ra3.annotate_documents > 0 || !trains_on_annotated,
        "ra3.annotate_documents = 0 leaves nothing for ra3.m_updates = {}: take 1 or more, or \
         m_updates = 0",
        ra3.m_updates
    );
    Ok(())
}

fn check_measures(file: &RunFile) -> Result<()> {
    let measures = file.evaluate.as_deref().unwrap_or_default();
    for (place, measure) in measures.iter().enumerate() {
        let name = measure.name();
        let check = || -> Result<()> {
            ensure!(
                measures[..place].iter().all(|other| other.name() != name),
                "two have this name: give one another, with name = \"…\""
            );
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
            ensure!(
                name.chars().all(is_plain) && !name.starts_with('.'),
                "name: it is a part of the name of a folder: letters, digits, -, _, . and + may \
                 stand in it"
            );
            check_problems(file, &measure.problems, CorpusSection::n_held_out_problems)?;
            let k_max = measure.pass_at.iter().max();
            let k_max = k_max.context("pass_at is empty: it asks for no score")?;
            ensure!(
                *k_max <= measure.n_samples,
                "pass_at asks for k = {k_max} with n_samples = {}",
                measure.n_samples
            );
            Ok(())
        };
        check().with_context(|| format!("evaluate, {name}"))?;
    }
    Ok(())
}

fn check_problems(
    file: &RunFile,
    problems: &ProblemsSection,
    n_generated: fn(&CorpusSection, &[Form]) -> usize,
) -> Result<()> {
    if let Some(forms) = problems.set.forms() {
        ensure!(
            problems.data.is_none(),
            "problems.data: the testbed has no file; name another problems.set"
        );
        ensure!(
            n_generated(&file.corpus, forms) > 0,
            "there are no problems: {}, and problems.set names no other",
            why_none_are_generated(file)
        );
        return Ok(());
    }
    if let Some(data) = &problems.data {
        ensure!(
            data.exists(),
            "problems.data: {} does not exist",
            data.display()
        );
    }
    Ok(())
}

/// The settings by which the testbed has no problem of a form.
fn why_none_are_generated(file: &RunFile) -> String {
    let Some(testbed) = &file.corpus.testbed else {
        return "corpus.testbed is not there".to_owned();
    };
    format!(
        "corpus.testbed generates none of this form, by n_train_problems = {}, \
         n_held_out_problems = {} and mbpp_share = {}",
        testbed.n_train_problems, testbed.n_held_out_problems, testbed.mbpp_share
    )
}

fn check_rlvr(file: &RunFile, rlvr: &RlvrSection) -> Result<()> {
    ensure!(
        rlvr.overlong_tokens < rlvr.program_tokens_max,
        "rlvr.overlong_tokens = {} is not below rlvr.program_tokens_max = {}: every program would \
         pay from its first token",
        rlvr.overlong_tokens,
        rlvr.program_tokens_max
    );
    ensure!(
        rlvr.solved_min <= rlvr.solved_max,
        "rlvr.solved_min = {} is above rlvr.solved_max = {}: no problem would stay",
        rlvr.solved_min,
        rlvr.solved_max
    );
    if let Some(command) = rlvr.reward_command.first() {
        which::which(command).with_context(|| {
            format!("rlvr.reward_command: there is no program {command:?}, here or on PATH")
        })?;
    }
    let problems = &rlvr.problems;
    check_problems(file, problems, CorpusSection::n_train_problems).context("rlvr")?;
    if let Some(forms) = problems.set.forms() {
        ensure!(
            file.corpus.n_held_out_problems(forms) > 0,
            "rlvr is scored on held-out problems: {}",
            why_none_are_generated(file)
        );
        return Ok(());
    }
    ensure!(
        !matches!(
            problems.set,
            ProblemSetName::HumanevalPlus | ProblemSetName::MbppPlus
        ),
        "rlvr.problems.set = \"{}\" is what models are measured on: train on others",
        problems.set.text()
    );
    ensure!(
        problems.data.is_some(),
        "rlvr.problems.data is not there: the file of the problems"
    );
    let n = problems.read().context("rlvr.problems.data")?.len();
    let n_held_out = (rlvr.held_out_share * n as f64).round() as usize;
    ensure!(
        n_held_out > 0 && n_held_out < n,
        "rlvr.held_out_share = {} holds {n_held_out} of the {n} problems of {} out: some are \
         needed on either side",
        rlvr.held_out_share,
        problems.data.clone().unwrap_or_default().display()
    );
    let measures = file.evaluate.as_deref().unwrap_or_default();
    let trained_on = |measure: &&EvaluateSection| measure.problems == *problems;
    if let Some(measure) = measures.iter().find(trained_on) {
        bail!(
            "evaluate, {}: these are the problems that RLVR trains on; its own scores are of a \
             part that is held out",
            measure.name()
        );
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
    fits(
        "ra3.e_step.rationale_tokens_max",
        file.ra3.e_step.rationale_tokens_max,
        rationale_limit,
    )?;
    let mut longest = corpus.document_tokens_max;
    let measures = file.evaluate.iter().flatten();
    let mut programs: Vec<(&str, usize)> = measures
        .map(|measure| ("evaluate.program_tokens_max", measure.program_tokens_max))
        .collect();
    programs.extend(
        file.rlvr
            .iter()
            .map(|rlvr| ("rlvr.program_tokens_max", rlvr.program_tokens_max)),
    );
    for (key, n_tokens) in programs {
        fits(key, n_tokens, context.saturating_sub(1))?;
        longest = longest.max(n_tokens);
    }
    // Twice the longest: a prompt or rationales come to it.
    let n_rows = longest.saturating_mul(2).min(context);
    let n_needed_mib = memory::cache_bytes(config, n_rows).div_ceil(1 << 20);
    ensure!(
        file.training.cache_mib >= n_needed_mib,
        "training.cache_mib = {} does not hold one sequence of {n_rows} tokens (context = \
         {context}, n_layers = {}, n_key_value_heads = {}, hidden_size = {}): it takes \
         {n_needed_mib}",
        file.training.cache_mib,
        config.num_hidden_layers,
        config.num_key_value_heads,
        config.hidden_size
    );
    Ok(())
}
