//! The corpus stage: documents, tokenizer, shards and problems, all below `corpus/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ra3::seed::Seed;
use ra3_corpus::document::Document;
use ra3_corpus::filter::Filters;
use ra3_corpus::pipeline::{self, CorpusConfig, CorpusReport};
use ra3_corpus::read::Source;
use ra3_corpus::shards::Shards;
use ra3_evals::bench::{self, Name};
use ra3_evals::task::Task;
use ra3_lm::config::ModelConfig;
use ra3_page::number as short;
use ra3_records::journal::read_journal;
use ra3_records::ledger::{CorpusRecord, Record};
use ra3_testbed::{Form, Problem, Testbed, TestbedConfig};
use ra3_text::tokenizer::Tokenizer;

use crate::event::{Event, Watcher};
use crate::model;
use crate::plan::Plan;
use crate::run_file::{BaseSection, TestbedSection, TokenizerSection};
use crate::store::StageFolder;

/// Files below `corpus/`.
const TRAIN_PROBLEMS: &str = "train_problems.jsonl";
const HELD_OUT_PROBLEMS: &str = "held_out_problems.jsonl";
/// Documents that a tokenizer is trained on, at most about so many.
const TOKENIZER_DOCUMENTS_MAX: usize = 20_000;

pub(crate) fn run(plan: &Plan, stage: &mut StageFolder, watcher: &mut Watcher<'_>) -> Result<()> {
    watcher(Event::began(stage.stage()));
    // A path that leads nowhere is found now, and not when the base model is made.
    let base = base_folder(plan, watcher)?;
    let seed = Seed::root(plan.file.corpus.seed).child("corpus");
    let testbed = plan
        .file
        .corpus
        .testbed
        .as_ref()
        .map(|section| generate(section, seed));
    let config = config(plan);
    let mut report = CorpusReport::default();
    let documents = gather(&config, testbed.as_ref(), &mut report)?;
    if documents.is_empty() && plan.file.corpus.has_documents() {
        bail!(nothing_left(&report, plan));
    }
    let tokenizer = match &base {
        Some(base) => load_tokenizer(&base.join("tokenizer.json"))?,
        None => make_tokenizer(plan, &documents)?,
    };
    let split = pipeline::split(&documents, &tokenizer, &config, seed, &mut report);
    if plan.file.corpus.has_documents() {
        check_split(&report, plan)?;
    }
    ra3_files::write_folder(&stage.path("corpus"), |folder| -> Result<()> {
        tokenizer.save(folder)?;
        if let Some(base) = &base {
            model::copy_companions(base, folder)?;
        }
        split.write(folder)?;
        if let Some(testbed) = &testbed {
            write_problems(&folder.join(TRAIN_PROBLEMS), &testbed.train_problems)?;
            write_problems(&folder.join(HELD_OUT_PROBLEMS), &testbed.held_out_problems)?;
        }
        Ok(())
    })?;
    let record = record(&report, plan);
    watcher(Event::Finished {
        message: format!(
            "{} training documents, {} tokens, {} held out",
            record.n_train,
            short(record.n_tokens as f64),
            record.n_held_out
        ),
    });
    say_what_was_dropped(&report, watcher);
    stage.record(&Record::Corpus(record))
}

/// Drops above this share of what was read are a warning.
const DROPPED_SHARE_MAX: f64 = 0.2;

/// How much was dropped, and why.
fn say_what_was_dropped(report: &CorpusReport, watcher: &mut Watcher<'_>) {
    if report.n_dropped.is_empty() {
        return;
    }
    let share = report.n_bytes_dropped as f64 / report.n_bytes_read.max(1) as f64;
    // What could not be read has no size.
    let n_unreadable: u64 = ["unreadable", "not_utf8"]
        .iter()
        .filter_map(|reason| report.n_dropped.get(*reason))
        .sum();
    let n_read: u64 = report.n_read.values().sum();
    let unread_share = n_unreadable as f64 / (n_read + n_unreadable).max(1) as f64;
    let word = if share.max(unread_share) > DROPPED_SHARE_MAX {
        "warning: "
    } else {
        ""
    };
    watcher(Event::Note(format!(
        "{word}{:.0} % of the {}B read were dropped: {}",
        100.0 * share,
        short(report.n_bytes_read as f64),
        counts(&report.n_dropped)
    )));
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    if counts.is_empty() {
        "nothing".to_owned()
    } else {
        counts.join(", ")
    }
}

/// Nothing is committed that no stage can train on or measure on.
fn check_split(report: &CorpusReport, plan: &Plan) -> Result<()> {
    if report.n_train == 0 {
        bail!(nothing_left(report, plan));
    }
    ensure!(
        plan.file.corpus.held_out_share == 0.0 || report.n_held_out > 0,
        "none of the {} documents is held out to measure on: raise corpus.held_out_share, add \
         documents, or set corpus.held_out_share = 0",
        report.n_train
    );
    Ok(())
}

/// Why there is no document: what was read and dropped, and what to do.
fn nothing_left(report: &CorpusReport, plan: &Plan) -> String {
    let places: Vec<String> = plan.file.corpus.sources.iter().map(place).collect();
    let held_out = match report.n_held_out {
        0 => String::new(),
        n => format!("; held out: {n}"),
    };
    format!(
        "the corpus is empty, nothing was written: no document to train on is left of {}; \
         read: {}; dropped: {}{held_out}; check the paths and keys of corpus.sources, or loosen \
         what is dropped",
        if places.is_empty() {
            "the testbed".to_owned()
        } else {
            places.join(", ")
        },
        counts(&report.n_read),
        counts(&report.n_dropped)
    )
}

/// Where a source lies.
fn place(section: &Source) -> String {
    match section {
        Source::PythonStandardLibrary { python, .. } => {
            format!("the standard library of {}", python.display())
        }
        Source::Folder { path } => format!("{} (*.py)", path.display()),
        Source::JsonLines { path, text_key, .. } => {
            format!("{} (key {text_key:?})", path.display())
        }
        Source::Parquet { path, column } => {
            format!("{} (column {column:?})", path.display())
        }
    }
}

/// The documents of the sources and of the testbed.
fn gather(
    config: &CorpusConfig,
    testbed: Option<&Testbed>,
    report: &mut CorpusReport,
) -> Result<Vec<Document>> {
    let problem_texts: Vec<String> = testbed
        .iter()
        .flat_map(|testbed| &testbed.held_out_problems)
        .map(|problem| format!("{}{}", problem.prompt, problem.canonical_solution))
        .collect();
    let mut documents = pipeline::gather(config, &problem_texts, report)?;
    // The testbed's own split is by composition: its documents need no decontamination, and
    // documents that differ in one number are no duplicates there.
    if let Some(testbed) = testbed {
        let generated = testbed.documents.iter().map(|document| Document {
            name: document.id.clone(),
            source: "testbed".to_owned(),
            prefix: document.prefix.clone(),
            text: document.text.clone(),
            is_open: false,
        });
        report.n_read.entry("testbed".to_owned()).or_default();
        for document in generated {
            report.read(&document);
            documents.push(document);
        }
    }
    Ok(documents)
}

/// The base checkpoint, if its tokenizer is the corpus': its files travel with the corpus.
fn base_folder(plan: &Plan, watcher: &mut Watcher<'_>) -> Result<Option<PathBuf>> {
    let BaseSection::Checkpoint { path, .. } = &plan.file.base else {
        return Ok(None);
    };
    let folder = model::folder_of(path, watcher).context("base.path")?;
    // A folder that holds no model says so before anything is read for it.
    ModelConfig::load(&folder.join("config.json")).context("base.path")?;
    let lends = plan.file.tokenizer == TokenizerSection::Base {};
    Ok(lends.then_some(folder))
}

fn generate(section: &TestbedSection, seed: Seed) -> Testbed {
    ra3_testbed::generate(&testbed_config(section), seed.child("testbed"))
}

/// The testbed that a section names.
pub(crate) fn testbed_config(section: &TestbedSection) -> TestbedConfig {
    let mut config = TestbedConfig::standard(
        section.n_documents,
        section.n_train_problems,
        section.n_held_out_problems,
        section.comment_share,
        section.mbpp_share,
    );
    config.comments.stale = section.stale_comment_share;
    config.comments.vague = section.vague_comment_share;
    config
}

fn config(plan: &Plan) -> CorpusConfig {
    let corpus = &plan.file.corpus;
    CorpusConfig {
        sources: corpus.sources.clone(),
        on_error: corpus.on_unreadable,
        filters: Filters::standard(corpus.n_bytes_max),
        document_tokens_max: corpus.document_tokens_max,
        long_statements: corpus.long_statements,
        rationale_tokens_max: corpus.rationale_tokens_max,
        near_duplicate_similarity: corpus.near_duplicate_similarity,
        decontaminate_n_words: corpus.decontaminate_n_words,
        held_out_share: corpus.held_out_share,
    }
}

fn make_tokenizer(plan: &Plan, documents: &[Document]) -> Result<Tokenizer> {
    match &plan.file.tokenizer {
        TokenizerSection::Train { n_vocabulary } => {
            // Merges are settled long before this many documents of each kind.
            let step = (documents.len() / TOKENIZER_DOCUMENTS_MAX).max(1);
            let texts: Vec<String> = documents
                .iter()
                .step_by(step)
                .map(Document::whole)
                .collect();
            Ok(Tokenizer::train(&texts, *n_vocabulary)?)
        }
        TokenizerSection::File { path } => load_tokenizer(path),
        TokenizerSection::Base {} => unreachable!("the plan has rejected this without a base"),
    }
}

fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::load(path).with_context(|| format!("cannot load {}", path.display()))
}

fn write_problems(path: &Path, problems: &[Problem]) -> Result<()> {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| serde_json::to_string(problem).expect("a problem has only plain fields"))
        .collect();
    let text = format!("{}\n", lines.join("\n"));
    Ok(ra3_files::write(path, text.as_bytes())?)
}

fn record(report: &CorpusReport, plan: &Plan) -> CorpusRecord {
    let problems = plan.file.corpus.testbed.as_ref();
    CorpusRecord {
        n_read: report.n_read.clone(),
        n_dropped: report.n_dropped.clone(),
        n_bytes_read: report.n_bytes_read,
        n_bytes_dropped: report.n_bytes_dropped,
        n_train: report.n_train,
        n_held_out: report.n_held_out,
        n_lines: report.n_lines,
        n_tokens: report.n_tokens,
        n_bytes: report.n_bytes,
        n_train_problems: problems.map_or(0, |testbed| testbed.n_train_problems as u64),
        n_held_out_problems: problems.map_or(0, |testbed| testbed.n_held_out_problems as u64),
    }
}

/// Problems of a split, of these forms, with what the testbed knows of them.
pub(crate) fn problems(
    corpus: &Path,
    split: Split,
    forms: &[Form],
) -> Result<(Vec<Problem>, Vec<Task>)> {
    let path = corpus.join(match split {
        Split::Train => TRAIN_PROBLEMS,
        Split::HeldOut => HELD_OUT_PROBLEMS,
    });
    let problems: Vec<Problem> = read_journal(&path)?;
    // The same file: its records are HumanEval's.
    let tasks = bench::read(Name::HumanEval, &path)?.tasks;
    let both = problems.into_iter().zip(tasks);
    Ok(both
        .filter(|(problem, _)| forms.contains(&problem.form))
        .unzip())
}

/// Whose problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// For RLVR.
    Train,
    /// For evaluation.
    HeldOut,
}

/// The run's tokenizer.
pub(crate) fn tokenizer(corpus: &Path) -> Result<Tokenizer> {
    load_tokenizer(&corpus.join("tokenizer.json"))
}

/// The documents that models are trained on.
pub(crate) fn training_documents(corpus: &Path) -> Result<Shards> {
    open(&corpus.join("train"))
}

/// The documents that models are measured on.
pub(crate) fn held_out_documents(corpus: &Path) -> Result<Shards> {
    open(&corpus.join("held_out"))
}

fn open(folder: &Path) -> Result<Shards> {
    Shards::open(folder)
        .with_context(|| format!("the shards in {} cannot be read", folder.display()))
}
