//! The plan: what a run file means.
//!
//! Conversion is the only place that rejects; a plan that exists is valid. Its arms have their own
//! settings over the file's, and its stages follow from the arms. No arm's name is known here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use toml::Table;

use crate::rules;
use crate::run_file::{
    self, ArmSection, BASE, BaseSection, Budget, EvaluateSection, MethodName, OWN, RunFile,
};

/// A run file whose rules were checked, with the arms and stages that follow from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What was written, with the defaults of what was not.
    pub file: RunFile,
    /// The models that are compared, in the file's order.
    pub arms: Vec<Arm>,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

/// A model that is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name in files and tables.
    pub name: String,
    /// Where it begins.
    pub from: Origin,
    /// What is done to it.
    pub method: Method,
    /// Whether it is measured.
    pub is_measured: bool,
    /// Whether it goes to RLVR.
    pub goes_to_rlvr: bool,
    /// The file with the arm's own settings over it.
    pub file: RunFile,
}

/// Where an arm begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The model that `[base]` makes.
    Base,
    /// Another arm, before its RLVR: its place among the arms.
    Arm(usize),
    /// A checkpoint from elsewhere.
    Checkpoint(PathBuf),
}

/// What is done to an arm.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Nothing.
    None,
    /// Next-token prediction.
    Ntp(Budget),
    /// RA3.
    Ra3,
}

/// When next-token prediction ends: a budget, with what another arm has spent looked up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Until {
    /// After so many updates.
    Updates(u64),
    /// Once so many corpus tokens were seen.
    CorpusTokens(u64),
    /// Once so many FLOPs were spent.
    Flops(f64),
}

/// A model that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its arm's place.
    pub arm: usize,
    /// Whether after RLVR.
    pub is_after_rlvr: bool,
}

/// A step of the pipeline. Stages meet on disk only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name in the ledger and on disk.
    pub name: String,
    /// What it does.
    pub task: Task,
}

/// What a stage does; arms and measures by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Documents, tokenizer, problems.
    Corpus,
    /// The base model.
    Base,
    /// The checkpoint that an arm begins from, made ready.
    Checkpoint(usize),
    /// Mid-training of an arm.
    Midtrain(usize),
    /// Bits per byte and bounds of a model on held-out documents.
    HeldOut(Subject),
    /// A model's programs for a measure's problems.
    Evaluate(Subject, usize),
    /// RLVR from an arm.
    Rlvr(usize),
}

impl Plan {
    /// That of `runs/tiny.toml` with changes.
    #[cfg(test)]
    pub(crate) fn tiny(changes: &[&str]) -> Self {
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        let text = include_str!("../../../runs/tiny.toml");
        let file = run_file::parse(text, Path::new("tiny.toml"), &changes).unwrap();
        Self::new(file).unwrap()
    }

    /// Checks each key's range and the rules between keys, and derives arms and stages.
    ///
    /// # Errors
    /// A key is out of its range or a rule is broken: the message names the keys.
    pub fn new(mut file: RunFile) -> Result<Self> {
        run_file::check(&file)?;
        file.name_measures();
        let arms = arms(&file)?;
        let order = in_order(&file, &arms)?;
        rules::check(&file, &arms)?;
        let stages = stages(&file, &arms, &order)?;
        Ok(Self { file, arms, stages })
    }

    /// Reads a run file with overrides and plans it.
    ///
    /// # Errors
    /// As [`crate::run_file::load`] and [`Plan::new`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let file = run_file::load(path, overrides)?;
        Self::new(file).with_context(|| format!("run file {}", path.display()))
    }

    /// The resolved plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(&self.file).expect("a run file is made of TOML's types")
    }

    /// The resolved plan as TOML without its places: a run may be moved.
    pub fn settings(&self) -> String {
        let file = RunFile {
            directory: PathBuf::new(),
            store: None,
            ..self.file.clone()
        };
        toml::to_string(&file).expect("a run file is made of TOML's types")
    }

    /// blake3 of [`Self::settings`].
    pub fn hash(&self) -> String {
        let hash = blake3::hash(self.settings().as_bytes());
        hash.to_hex().to_string()
    }

    /// What is measured on problems.
    pub(crate) fn measures(&self) -> &[EvaluateSection] {
        self.file.evaluate.as_deref().unwrap_or_default()
    }

    /// The name of a model in files and tables.
    pub fn model_name(&self, subject: Subject) -> String {
        model_name(&self.arms, subject)
    }

    /// The stage that makes a model.
    pub(crate) fn maker(&self, subject: Subject) -> String {
        if subject.is_after_rlvr {
            return rlvr_name(&self.arms[subject.arm]);
        }
        self.trained(subject.arm)
    }

    /// The stage that makes what an arm begins from.
    pub(crate) fn start(&self, arm: usize) -> String {
        match &self.arms[arm].from {
            Origin::Base => BASE.to_owned(),
            Origin::Arm(other) => self.trained(*other),
            Origin::Checkpoint(_) => checkpoint_name(&self.arms[arm]),
        }
    }

    /// The checkpoints that the plan begins from, as they were named.
    pub(crate) fn checkpoints(&self) -> impl Iterator<Item = &Path> {
        let of_base = match &self.file.base {
            BaseSection::Checkpoint { path, .. } => Some(path.as_path()),
            BaseSection::Pretrain { .. } => None,
        };
        let of_arms = self.arms.iter().filter_map(|arm| match &arm.from {
            Origin::Checkpoint(path) => Some(path.as_path()),
            Origin::Base | Origin::Arm(_) => None,
        });
        of_base.into_iter().chain(of_arms)
    }

    /// What was done to an arm last, in this plan.
    pub(crate) fn last_method(&self, arm: usize) -> &Method {
        match (&self.arms[arm].method, &self.arms[arm].from) {
            (Method::None, Origin::Arm(other)) => self.last_method(*other),
            (method, _) => method,
        }
    }

    /// The stage that makes an arm's model before RLVR.
    pub(crate) fn trained(&self, arm: usize) -> String {
        match self.arms[arm].method {
            Method::None => self.start(arm),
            Method::Ntp(_) | Method::Ra3 => self.arms[arm].name.clone(),
        }
    }
}

fn model_name(arms: &[Arm], subject: Subject) -> String {
    let arm = &arms[subject.arm];
    if subject.is_after_rlvr {
        rlvr_name(arm)
    } else {
        arm.name.clone()
    }
}

fn rlvr_name(arm: &Arm) -> String {
    format!("rlvr-{}", arm.name)
}

fn checkpoint_name(arm: &Arm) -> String {
    format!("checkpoint-{}", arm.name)
}

/// How the names of other stages begin.
const TAKEN: [&str; 4] = ["rlvr-", "checkpoint-", "held-out-", "evaluate-"];

fn arms(file: &RunFile) -> Result<Vec<Arm>> {
    let table = Table::try_from(file).expect("a run file is made of TOML's types");
    let mut arms = Vec::new();
    for (place, section) in file.arms.iter().enumerate() {
        check_name(&file.arms[..place], section)?;
        let arm = arm(file, &table, section).with_context(|| format!("arm {:?}", section.name))?;
        arms.push(arm);
    }
    Ok(arms)
}

fn check_name(before: &[ArmSection], section: &ArmSection) -> Result<()> {
    let name = &section.name;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        name.chars().all(is_plain) && !name.starts_with('.'),
        "arms.name = {name:?}: it is the name of a folder: letters, digits, -, _ and . may stand \
         in it"
    );
    let prefix = TAKEN.iter().find(|prefix| name.starts_with(**prefix));
    ensure!(
        prefix.is_none() && name != "corpus" && name != "reference",
        "arms.name = {name:?} is how a stage is called, or begins as one is: take another"
    );
    ensure!(
        !name.ends_with("-reference"),
        "arms.name = {name:?} ends as the model does that gives an RA3 arm's prior: take another"
    );
    ensure!(
        name != BASE || (section.method == MethodName::None && section.from == BASE),
        "arms.name = {name:?} is the model that [base] makes: nothing is done to it, and it begins \
         from nothing else"
    );
    ensure!(
        !before.iter().any(|other| other.name == *name),
        "two arms are called {name:?}"
    );
    Ok(())
}

fn arm(file: &RunFile, table: &Table, section: &ArmSection) -> Result<Arm> {
    let place_of = |name: &str| file.arms.iter().position(|other| other.name == name);
    let from = match section.from.as_str() {
        BASE => Origin::Base,
        from => match place_of(from) {
            Some(place) => Origin::Arm(place),
            None => Origin::Checkpoint(checkpoint(from, file)?),
        },
    };
    let method = match (section.method, &section.budget) {
        (MethodName::None, None) => Method::None,
        (MethodName::Ra3, None) => Method::Ra3,
        (MethodName::Ntp, Some(budget)) => Method::Ntp(budget.clone()),
        (MethodName::Ntp, None) => bail!(
            "method = \"ntp\" needs a budget, such as budget = {{ updates = 100 }} or \
             {{ corpus_tokens_of = \"ra3\" }}"
        ),
        (MethodName::None | MethodName::Ra3, Some(_)) => bail!(
            "a budget is for method = \"ntp\": RA3's are the counts of [ra3], and without a method \
             there is nothing to spend"
        ),
    };
    if let Some(other) = section.budget.as_ref().and_then(Budget::of) {
        let of = file.arms.iter().find(|arm| arm.name == other);
        let trains = of.is_some_and(|arm| arm.method != MethodName::None);
        ensure!(trains, "budget: there is no arm {other:?} that is trained");
    }
    Ok(Arm {
        name: section.name.clone(),
        from,
        method,
        is_measured: section.evaluate,
        goes_to_rlvr: section.rlvr && file.rlvr.is_some(),
        file: with_own_settings(file, table, &section.set)?,
    })
}

/// A path that was written as one, or a name on the Hub.
fn checkpoint(from: &str, file: &RunFile) -> Result<PathBuf> {
    let arms: Vec<&str> = file.arms.iter().map(|arm| arm.name.as_str()).collect();
    ensure!(
        from.contains('/') || Path::new(from).exists(),
        "from = {from:?} is neither {BASE:?} nor one of the arms {}, nor a checkpoint that is \
         there",
        arms.join(", ")
    );
    Ok(PathBuf::from(from))
}

fn with_own_settings(file: &RunFile, table: &Table, set: &Table) -> Result<RunFile> {
    if set.is_empty() {
        return Ok(file.clone());
    }
    for section in set.keys() {
        ensure!(
            OWN.contains(&section.as_str()),
            "set.{section}: an arm has keys of {} of its own",
            OWN.join(", ")
        );
        ensure!(
            section != "rlvr" || file.rlvr.is_some(),
            "set.rlvr: the file has no [rlvr]"
        );
    }
    let whole = run_file::merged(table, set);
    let own: RunFile = whole.try_into().context("set")?;
    run_file::check(&own).context("set")?;
    Ok(own)
}

/// `order`: the arms' places as they are trained.
fn stages(file: &RunFile, arms: &[Arm], order: &[usize]) -> Result<Vec<Stage>> {
    let mut stages = vec![stage("corpus".to_owned(), Task::Corpus)];
    if arms.iter().any(|arm| arm.from == Origin::Base) {
        stages.push(stage(BASE.to_owned(), Task::Base));
    }
    for place in order {
        let arm = &arms[*place];
        if let Origin::Checkpoint(_) = arm.from {
            stages.push(stage(checkpoint_name(arm), Task::Checkpoint(*place)));
        }
        if arm.method != Method::None {
            stages.push(stage(arm.name.clone(), Task::Midtrain(*place)));
        }
    }
    let subject = |arm: usize, is_after_rlvr: bool| Subject { arm, is_after_rlvr };
    let measured = |arm: &usize| arms[*arm].is_measured;
    for arm in (0..arms.len()).filter(measured) {
        if file.corpus.has_documents() && file.corpus.held_out_share > 0.0 {
            let name = format!("held-out-{}", arms[arm].name);
            stages.push(stage(name, Task::HeldOut(subject(arm, false))));
        }
        stages.extend(evaluations(file, arms, subject(arm, false)));
    }
    for arm in (0..arms.len()).filter(|arm| arms[*arm].goes_to_rlvr) {
        stages.push(stage(rlvr_name(&arms[arm]), Task::Rlvr(arm)));
        if measured(&arm) {
            stages.extend(evaluations(file, arms, subject(arm, true)));
        }
    }
    for (place, stage) in stages.iter().enumerate() {
        ensure!(
            stages[..place].iter().all(|other| other.name != stage.name),
            "two stages would be called {:?}: give an arm or a measure another name",
            stage.name
        );
    }
    Ok(stages)
}

fn stage(name: String, task: Task) -> Stage {
    Stage { name, task }
}

fn evaluations(file: &RunFile, arms: &[Arm], subject: Subject) -> Vec<Stage> {
    let model = model_name(arms, subject);
    let measures = file.evaluate.iter().flatten().enumerate();
    let named = measures.map(|(place, measure)| {
        let name = format!("evaluate-{model}-{}", measure.name());
        stage(name, Task::Evaluate(subject, place))
    });
    named.collect()
}

/// The arms' places, so that each comes behind those that it begins from or takes its budget of.
fn in_order(file: &RunFile, arms: &[Arm]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < arms.len() {
        let is_ready = |place: &usize| {
            let is_there = |name: &str| {
                let of = arms.iter().position(|arm| arm.name == name);
                of.is_none_or(|of| order.contains(&of))
            };
            let budget = file.arms[*place].budget.as_ref();
            let begins = match &arms[*place].from {
                Origin::Arm(other) => order.contains(other),
                Origin::Base | Origin::Checkpoint(_) => true,
            };
            begins && budget.and_then(Budget::of).is_none_or(is_there)
        };
        let next = (0..arms.len()).find(|place| !order.contains(place) && is_ready(place));
        let Some(next) = next else {
            let left = (0..arms.len()).filter(|place| !order.contains(place));
            let names: Vec<&str> = left.map(|place| arms[place].name.as_str()).collect();
            bail!("the arms {} wait for each other", names.join(", "));
        };
        order.push(next);
    }
    Ok(order)
}
