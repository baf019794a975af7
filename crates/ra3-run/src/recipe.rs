//! What a stage depends on, and the key that follows from it.
//!
//! A stage is named by the hash of all that can change its result: its name, the settings that it
//! reads, the keys of the stages that it builds on, the contents of the files that it reads, and
//! the version of `ra3`. Two stages of one key have the same bits, whichever run made them; so what
//! is finished is used again, and what has changed is run again with what depends on it.
//! Paths are no part of it: files are known by their contents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ra3_corpus::read;
use ra3_records::ledger::StageRecord;
use serde::{Deserialize, Serialize};

use crate::benchmark_data;
use crate::event::Watcher;
use crate::model;
use crate::on_disk::entries;
use crate::plan::{Method, Origin, Plan, Stage, Task, Until};
use crate::run_file::{
    Allowed, BaseSection, Budget, EngineSection, Leaf, ProblemsSection, RunFile, TokenizerSection,
    key, leaves, shown,
};
use crate::store::checksum;

/// Raised where stages of an older version would not be what this one makes.
const FORMAT: u32 = 3;
/// Keys that change no bit of a result.
pub(crate) const FREE: [&str; 9] = [
    "training.cache_mib",
    "training.recorded_mib",
    "grading.n_workers",
    // As a processor of another family does, a device may change the last bits, and so may the form
    // of its passes and a number of processes.
    "engine.device",
    "engine.cuda_graphs",
    "engine.deadline_s",
    "engine.processes",
    "engine.sharding",
    "engine.listen",
];

/// The key of what products are computed in, which all stages with models read.
const COMPUTE_PRECISION: &str = "training.compute_precision";

/// Keys of the engine that stages read which train, and no others.
const LORA: &str = "engine.lora.";
const COMPILE: &str = "engine.compile";

/// What settings were before there were keys for them: stages that have these keep their own keys.
const AS_BEFORE: [(&str, &str); 6] = [
    (COMPUTE_PRECISION, r#""float32""#),
    (COMPILE, "false"),
    ("corpus.testbed.stale_comment_share", "0.0"),
    ("corpus.testbed.vague_comment_share", "0.0"),
    ("supervised.ntp_documents", r#""all""#),
    ("ra3.selection_rounds", "0"),
];

/// What a stage depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// The stage's name.
    pub(crate) stage: String,
    /// What made it.
    version: String,
    /// The settings that it reads, by key.
    settings: BTreeMap<String, String>,
    /// What it builds on: keys of stages, hashes of files, amounts.
    inputs: BTreeMap<String, String>,
}

impl Recipe {
    /// The hash of all of it.
    pub(crate) fn key(&self) -> String {
        let json = serde_json::to_vec(self).expect("a recipe has only texts");
        blake3::hash(&json).to_hex().to_string()
    }

    /// Why this is not `old`, for a reader: `ra3.rounds was 2 and is now 3`.
    pub(crate) fn differences(&self, old: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.version != old.version {
            found.push(format!("{} made it", old.version));
        }
        for (before, after) in [(&old.settings, &self.settings), (&old.inputs, &self.inputs)] {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            names.retain(|name| before.get(*name) != after.get(*name));
            found.extend(
                names
                    .into_iter()
                    .map(|name| match (before.get(name), after.get(name)) {
                        (Some(before), Some(after)) if is_hash(before) && is_hash(after) => {
                            format!("{name} is another")
                        }
                        (Some(before), Some(after)) => {
                            format!("{name} was {before} and is now {after}")
                        }
                        (Some(_), None) => format!("{name} is gone"),
                        (None, Some(value)) if is_hash(value) => format!("{name} is new"),
                        (None, Some(value)) => format!("{name} is new: {value}"),
                        (None, None) => unreachable!("a name of one of them"),
                    }),
            );
        }
        found
    }
}

fn is_hash(value: &str) -> bool {
    value.len() == 64 && value.chars().all(|c| c.is_ascii_hexdigit())
}

/// What is known of the stages before one.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Their keys by name.
    pub(crate) keys: BTreeMap<String, String>,
    /// What those that train have spent.
    pub(crate) spent: BTreeMap<String, StageRecord>,
}

/// The recipe of a stage, all of whose inputs are done.
pub(crate) fn recipe(
    plan: &Plan,
    stage: &Stage,
    before: &Before,
    watcher: &mut Watcher<'_>,
) -> Result<Recipe> {
    let mut recipe = Recipe {
        stage: stage.name.clone(),
        version: format!("ra3 {} format {FORMAT}", env!("CARGO_PKG_VERSION")),
        settings: settings(plan, stage.task),
        inputs: BTreeMap::new(),
    };
    for input in inputs(plan, stage.task) {
        let key = before.keys.get(&input).context("stages are in order")?;
        recipe.inputs.insert(input, key.clone());
    }
    for (name, path) in files(plan, stage.task, watcher)? {
        recipe.inputs.insert(name, contents(&path)?);
    }
    if stage.task == Task::Corpus {
        for (place, source) in plan.file.corpus.sources.iter().enumerate() {
            let files = read::files(source)?;
            recipe
                .inputs
                .insert(format!("corpus.sources[{place}]"), contents_of(&files));
        }
    }
    if let Task::Midtrain(arm) = stage.task
        && let Method::Ntp(budget) = &plan.arms[arm].method
    {
        let (name, amount) = match until(budget, before)? {
            Until::Updates(n) => ("updates", n.to_string()),
            Until::CorpusTokens(n) => ("corpus_tokens", n.to_string()),
            Until::Flops(x) => ("flops", format!("{x:?}")),
        };
        recipe.inputs.insert(format!("budget.{name}"), amount);
    }
    Ok(recipe)
}

/// A budget in numbers: that of another arm is what it has spent.
pub(crate) fn until(budget: &Budget, before: &Before) -> Result<Until> {
    let spent = |arm: &String| {
        let spent = before.spent.get(arm);
        spent.with_context(|| format!("stage {arm} has left no word of what it spent"))
    };
    Ok(match budget {
        Budget::Updates(n) => Until::Updates(*n),
        Budget::CorpusTokens(n) => Until::CorpusTokens(*n),
        Budget::Flops(x) => Until::Flops(*x),
        Budget::CorpusTokensOf(arm) => Until::CorpusTokens(spent(arm)?.n_corpus_tokens),
        Budget::FlopsOf(arm) => Until::Flops(spent(arm)?.flops),
    })
}

/// The stages that one builds on.
pub(crate) fn inputs(plan: &Plan, task: Task) -> Vec<String> {
    let corpus = "corpus".to_owned();
    match task {
        Task::Corpus => Vec::new(),
        Task::Base | Task::Checkpoint(_) => vec![corpus],
        Task::Midtrain(arm) => vec![corpus, plan.start(arm)],
        Task::HeldOut(subject) | Task::Evaluate(subject, _) => vec![corpus, plan.maker(subject)],
        Task::Rlvr(arm) => vec![corpus, plan.trained(arm)],
    }
}

/// The settings that a stage reads.
fn settings(plan: &Plan, task: Task) -> BTreeMap<String, String> {
    let measure = |place: usize| format!("evaluate[{place}].");
    let (file, mut sections): (&RunFile, Vec<String>) = match task {
        Task::Corpus => (&plan.file, named(&["corpus.", "tokenizer."])),
        Task::Base => match &plan.file.base {
            BaseSection::Checkpoint { .. } => (&plan.file, named(&["seed", "base."])),
            BaseSection::Pretrain { .. } => (&plan.file, named(&["seed", "base.", "training."])),
        },
        Task::Checkpoint(arm) => (&plan.arms[arm].file, named(&["seed"])),
        Task::Midtrain(arm) => {
            let arm = &plan.arms[arm];
            let mut sections = named(&["seed", "training.", "supervised."]);
            if arm.method == Method::Ra3 {
                sections.push("ra3.".to_owned());
            }
            (&arm.file, sections)
        }
        Task::HeldOut(_) => (
            &plan.file,
            named(&[
                "seed",
                "held_out.",
                "training.micro_batch_tokens",
                COMPUTE_PRECISION,
            ]),
        ),
        Task::Evaluate(_, place) => {
            let mut sections = named(&["seed", "grading.", COMPUTE_PRECISION]);
            sections.push(measure(place));
            (&plan.file, sections)
        }
        Task::Rlvr(arm) => (
            &plan.arms[arm].file,
            named(&["seed", "training.", "rlvr.", "grading."]),
        ),
    };
    // What the native engine makes has the key that it had before there was another.
    if task != Task::Corpus && file.engine != (EngineSection::Native {}) {
        sections.push("engine.".to_owned());
    }
    let trains = trains(plan, task);
    let is_read = |path: &str| {
        if (path.starts_with(LORA) || path == COMPILE) && !trains {
            return false;
        }
        let is_of = |section: &String| path.starts_with(section.as_str());
        let is_path = key(path).is_some_and(|key| key.allowed == Allowed::Path);
        sections.iter().any(is_of) && !FREE.contains(&path) && !is_path
    };
    // A script is known by what stands in it.
    let is_script = |leaf: &Leaf| {
        let text = leaf.value.as_str().unwrap_or_default();
        leaf.path.starts_with("rlvr.reward_command") && Path::new(text).is_file()
    };
    let leaves = leaves(file).into_iter();
    let leaves = leaves.filter(|leaf| is_read(&leaf.path) && !is_script(leaf));
    let is_as_before =
        |leaf: &Leaf| AS_BEFORE.contains(&(leaf.path.as_str(), shown(&leaf.value).as_str()));
    let leaves = leaves.filter(|leaf| !is_as_before(leaf));
    // A measure is known by what it is, not by its place among the others.
    let name = |path: String| match task {
        Task::Evaluate(_, place) => path.replacen(&measure(place), "evaluate.", 1),
        _ => path,
    };
    leaves
        .map(|leaf| (name(leaf.path), shown(&leaf.value)))
        .collect()
}

/// True for a stage that trains a model.
fn trains(plan: &Plan, task: Task) -> bool {
    match task {
        Task::Midtrain(_) | Task::Rlvr(_) => true,
        Task::Base => matches!(plan.file.base, BaseSection::Pretrain { .. }),
        Task::Corpus | Task::Checkpoint(_) | Task::HeldOut(_) | Task::Evaluate(..) => false,
    }
}

fn named(sections: &[&str]) -> Vec<String> {
    sections.iter().map(|name| (*name).to_owned()).collect()
}

/// The files and folders that a stage reads, by the keys that name them.
fn files(plan: &Plan, task: Task, watcher: &mut Watcher<'_>) -> Result<Vec<(String, PathBuf)>> {
    let file = &plan.file;
    let of_problems = |key: &str, problems: &ProblemsSection| -> Result<Vec<(String, PathBuf)>> {
        let Some(bench) = problems.set.bench() else {
            return Ok(Vec::new());
        };
        let path = benchmark_data::locate(bench, problems.data.as_deref())
            .with_context(|| format!("{key}.data"))?;
        Ok(vec![(format!("{key}.data"), path)])
    };
    match task {
        Task::Corpus => {
            let mut found = Vec::new();
            if let TokenizerSection::File { path } = &file.tokenizer {
                found.push(("tokenizer.path".to_owned(), path.clone()));
                // What says how texts begin and end lies beside it.
                for name in &model::TEXT_FILES[1..] {
                    let beside = path.with_file_name(name);
                    if beside.exists() {
                        found.push((format!("tokenizer.path/{name}"), beside));
                    }
                }
            }
            if let BaseSection::Checkpoint { path, .. } = &file.base
                && file.tokenizer == (TokenizerSection::Base {})
            {
                let folder = model::folder_of(path, watcher).context("base.path")?;
                for name in model::TEXT_FILES {
                    let path = folder.join(name);
                    if path.exists() {
                        found.push((format!("base.path/{name}"), path));
                    }
                }
            }
            Ok(found)
        }
        Task::Base => match &file.base {
            BaseSection::Pretrain { .. } => Ok(Vec::new()),
            BaseSection::Checkpoint { path, .. } => {
                let folder = model::folder_of(path, watcher).context("base.path")?;
                Ok(vec![("base.path".to_owned(), folder)])
            }
        },
        Task::Checkpoint(arm) => {
            let Origin::Checkpoint(path) = &plan.arms[arm].from else {
                return Ok(Vec::new());
            };
            let folder = model::folder_of(path, watcher).context("arms.from")?;
            Ok(vec![("arms.from".to_owned(), folder)])
        }
        Task::Midtrain(_) | Task::HeldOut(_) => Ok(Vec::new()),
        Task::Evaluate(_, place) => {
            of_problems("evaluate.problems", &plan.measures()[place].problems)
        }
        Task::Rlvr(arm) => {
            let rlvr = plan.arms[arm].file.rlvr.as_ref();
            let rlvr = rlvr.context("an arm that goes to RLVR has its settings")?;
            let mut found = of_problems("rlvr.problems", &rlvr.problems)?;
            for (place, part) in rlvr.reward_command.iter().enumerate() {
                if Path::new(part).is_file() {
                    found.push((format!("rlvr.reward_command[{place}]"), part.into()));
                }
            }
            Ok(found)
        }
    }
}

/// The hash of a file, or of the files of a folder with their names: of a model's those that are
/// read.
fn contents(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return checksum(path);
    }
    let is_model = path.join("config.json").exists();
    let mut files = Vec::new();
    for entry in entries(path)? {
        let name = entry.file_name().unwrap_or_default().display().to_string();
        if entry.is_file() && (!is_model || model::is_read(&name)) {
            files.push((PathBuf::from(name), entry));
        }
    }
    files.sort();
    Ok(contents_of(&files))
}

/// The hash of files in their order, with their places below their source, which decide what is
/// held out; one that cannot be read is known by that.
fn contents_of(files: &[(PathBuf, PathBuf)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (place, file) in files {
        hasher.update(place.as_os_str().as_encoded_bytes());
        match checksum(file) {
            Ok(sum) => hasher.update(sum.as_bytes()),
            Err(_) => hasher.update(b"unreadable"),
        };
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of each stage of `tiny` with changes.
    fn read_by_stages(changes: &[&str]) -> Vec<(Task, BTreeMap<String, String>)> {
        let plan = Plan::tiny(changes);
        let stages = plan.stages.iter();
        stages
            .map(|stage| (stage.task, settings(&plan, stage.task)))
            .collect()
    }

    #[test]
    fn the_native_engine_is_in_no_key() {
        let found = read_by_stages(&[]);
        let is_of_engine = |name: &String| name.starts_with("engine");
        for (task, settings) in &found {
            assert!(!settings.keys().any(is_of_engine), "{task:?}");
        }
        assert_eq!(read_by_stages(&["engine={kind='native'}"]), found);
    }

    #[test]
    fn what_products_are_computed_in_is_in_the_keys_of_all_stages_that_run_models() {
        let of = |settings: &BTreeMap<String, String>| settings.get(COMPUTE_PRECISION).cloned();
        let whole = read_by_stages(&[]);
        assert!(whole.iter().all(|(_, settings)| of(settings).is_none()));
        let half = read_by_stages(&["training.compute_precision='bfloat16'"]);
        for ((task, mut settings), (_, as_before)) in half.into_iter().zip(whole) {
            let computes = !matches!(task, Task::Corpus | Task::Checkpoint(_));
            let expected = computes.then(|| r#""bfloat16""#.to_owned());
            assert_eq!(of(&settings), expected, "{task:?}");
            settings.remove(COMPUTE_PRECISION);
            assert_eq!(settings, as_before, "{task:?}");
        }
    }

    #[test]
    fn later_settings_are_in_no_key_where_they_are_as_before() {
        let before = read_by_stages(&[]);
        for setting in [
            "corpus.testbed.stale_comment_share=0.5",
            "corpus.testbed.vague_comment_share=0.5",
            "supervised.ntp_documents='with_comments'",
            "ra3.selection_rounds=1",
        ] {
            let (name, _) = setting.split_once('=').unwrap();
            let is_read = |(_, settings): &(_, BTreeMap<_, _>)| settings.contains_key(name);
            assert!(!before.iter().any(is_read), "{name}");
            assert!(read_by_stages(&[setting]).iter().any(is_read), "{name}");
        }
    }

    #[test]
    fn what_another_engine_computes_in_is_in_the_keys_of_all_stages_with_models() {
        let torch = |more: &str| {
            read_by_stages(&[&format!("engine={{kind='torch', python='python3'{more}}}")])
        };
        let found = torch("");
        for ((task, mut settings), (_, natively)) in
            found.clone().into_iter().zip(read_by_stages(&[]))
        {
            let engine = ["engine.kind", "engine.dtype"].map(|key| settings.remove(key));
            let expected = [r#""torch""#, r#""float32""#].map(|text| Some(text.to_owned()));
            let has_model = task != Task::Corpus;
            assert_eq!(engine, if has_model { expected } else { [None, None] });
            assert_eq!(settings, natively, "{task:?}");
        }
        let elsewhere = ", device='cpu', deadline_s=7, processes=2, sharding='full'";
        assert_eq!(torch(elsewhere), found);
        assert_eq!(torch(", cuda_graphs=true"), found);
        assert_eq!(torch(", listen='localhost:29400'"), found);
        assert_ne!(torch(", dtype='bfloat16'"), found);
    }

    #[test]
    fn compiled_passes_are_in_the_keys_of_stages_that_train() {
        let torch = |more: &str| {
            read_by_stages(&[&format!("engine={{kind='torch', python='python3'{more}}}")])
        };
        let plain = torch("");
        assert_eq!(torch(", compile=false"), plain);
        for ((task, mut settings), (_, plain)) in torch(", compile=true").into_iter().zip(plain) {
            let trains = matches!(task, Task::Base | Task::Midtrain(_) | Task::Rlvr(_));
            assert_eq!(settings.remove(COMPILE).is_some(), trains, "{task:?}");
            assert_eq!(settings, plain, "{task:?}");
        }
    }

    #[test]
    fn adapters_are_in_the_keys_of_stages_that_train() {
        let torch = |more: &str| {
            let engine = format!("engine={{kind='torch', python='python3'{more}}}");
            let base = "base={kind='checkpoint', path='../../assets/base'}";
            read_by_stages(&[base, "tokenizer={kind='base'}", &engine])
        };
        let adapted = torch(", lora={rank=4}").into_iter();
        for ((task, mut settings), (_, plain)) in adapted.zip(torch("")) {
            let trains = matches!(task, Task::Midtrain(_) | Task::Rlvr(_));
            let own = ["rank", "alpha", "target_modules[0]"];
            let own = own.map(|name| settings.remove(&format!("{LORA}{name}")));
            let expected = ["4", "32.0", r#""all-linear""#].map(|text| Some(text.to_owned()));
            let is_own = own == if trains { expected } else { [None, None, None] };
            assert!(is_own, "{task:?}");
            assert_eq!(settings, plain, "{task:?}");
        }
    }
}
