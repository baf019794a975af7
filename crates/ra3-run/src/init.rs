//! `ra3 init`: a run file for a model, a corpus and problems that are there, with settings that
//! follow from looking at them. It asks nothing, and it runs nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ra3_corpus::read::{self, OnError, Source};
use ra3_evals::bench::{self, Name, Selection};
use ra3_lm::TrainSettings;
use ra3_lm::config::{ModelConfig, Precision};
use ra3_lm::memory::UpdateMemory;
use ra3_text::tokenizer::Tokenizer;

use crate::event::{Event, Watcher};
use crate::free_memory::free_bytes;
use crate::model;
use crate::run_file::ProblemSetName;

/// Documents whose lengths are looked at.
const N_DOCUMENTS: usize = 500;
/// Share of the documents that the longest that is kept is above.
const QUANTILE: f64 = 0.95;
const BYTES_PER_TOKEN: f64 = 3.0;
/// Sets whose form a file of problems may have, the likeliest first.
const SETS: [ProblemSetName; 6] = [
    ProblemSetName::Humaneval,
    ProblemSetName::Asserts,
    ProblemSetName::Leetcode,
    ProblemSetName::Puzzles,
    ProblemSetName::Codeforces,
    ProblemSetName::MbppTrain,
];

/// What a run file is written for.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// The checkpoint: a folder, or a name on the Hub.
    pub model: PathBuf,
    /// Files or folders of documents.
    pub corpus: Vec<PathBuf>,
    /// A file of problems for RLVR.
    pub problems: Option<PathBuf>,
    /// The run file that is written.
    pub out: PathBuf,
}

/// Writes the run file and returns its text.
///
/// # Errors
/// It is there already, or something that it is written for cannot be read.
pub fn write(request: &InitRequest, watcher: &mut Watcher<'_>) -> Result<String> {
    ensure!(
        !request.out.exists(),
        "{} is there already: remove it, or write another with --out",
        request.out.display()
    );
    let folder = request.out.parent().unwrap_or(Path::new(""));
    let model = model::folder_of(&request.model, watcher).context("--model")?;
    let config = ModelConfig::load(&model.join("config.json")).context("--model")?;
    let tokenizer = Tokenizer::load(&model.join("tokenizer.json")).context("--model")?;
    let sources = request.corpus.iter().map(|path| read::look(path));
    let sources: Vec<Vec<Source>> = sources.collect::<Result<_, _>>().context("--corpus")?;
    let sources = sources.concat();
    let seen = look_at(&sources, &tokenizer)?;
    let mut text = head(request, folder);
    text += &corpus(&sources, &seen, &config, folder);
    text += &training(&config);
    if let Some(problems) = &request.problems {
        text += &rlvr(problems, folder)?;
    }
    text += ARMS;
    ra3_files::write(&request.out, text.as_bytes())?;
    watcher(Event::Note(format!(
        "{}: {} documents looked at",
        request.out.display(),
        seen.lengths.len()
    )));
    Ok(text)
}

const ARMS: &str = "
# The models that are compared. Without arms: the base, NTP on RA3's corpus tokens, and RA3.
[[arms]]
name = \"base\"

[[arms]]
name = \"ntp\"
method = \"ntp\"
budget = { corpus_tokens_of = \"ra3\" }

[[arms]]
name = \"ra3\"
method = \"ra3\"
";

fn head(request: &InitRequest, folder: &Path) -> String {
    let name = request.out.file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    let model = &request.model;
    let model = if model.is_dir() {
        beside(model, folder)
    } else {
        quoted(&model.display().to_string())
    };
    format!(
        "# What is not said has a default: `ra3 plan {file}` shows all of it, `ra3 explain KEY` \
         says more.\nname = {name}\ndirectory = {directory}\n\n[base]\nkind = \"checkpoint\"\npath \
         = {model}\n",
        file = request.out.display(),
        name = quoted(&name),
        directory = quoted(&format!("out/{name}")),
    )
}

fn corpus(sources: &[Source], seen: &Seen, config: &ModelConfig, folder: &Path) -> String {
    let mut text = String::new();
    for source in sources {
        let fields = match source {
            Source::Folder { path } => format!("\"folder\"\npath = {}", beside(path, folder)),
            Source::JsonLines { path, text_key, .. } => format!(
                "\"json_lines\"\npath = {}\ntext_key = {}",
                beside(path, folder),
                quoted(text_key)
            ),
            Source::Parquet { path, column } => format!(
                "\"parquet\"\npath = {}\ncolumn = {}",
                beside(path, folder),
                quoted(column)
            ),
            Source::PythonStandardLibrary { .. } => continue,
        };
        let _ = write!(text, "\n[[corpus.sources]]\nkind = {fields}\n");
    }
    let mut sorted = seen.lengths.clone();
    sorted.sort_unstable();
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    if sorted.is_empty() {
        return text;
    }
    // A decision stands before every line, and rationales between them.
    let room = config.max_position_embeddings / 2;
    let longest = (at(QUANTILE) * 5 / 4)
        .next_multiple_of(64)
        .clamp(128, room.max(128));
    let _ = write!(
        text,
        "\n[corpus]\n# Half of the documents looked at have up to {} tokens, 95 % up to {}, the \
         longest {}.\n# Longer ones are cut between statements.\ndocument_tokens_max = {longest}\n",
        at(0.5),
        at(QUANTILE),
        at(1.0)
    );
    if seen.has_unreadable {
        text += "# Some files or records cannot be read.\non_unreadable = \"drop\"\n";
    }
    text
}

/// Micro-batches as large as half of the memory that is free allows.
fn training(config: &ModelConfig) -> String {
    let settings = |n_tokens_micro, recompute| TrainSettings {
        weight_decay: 0.1,
        clip_norm: 1.0,
        n_tokens_micro,
        recompute,
        cache_bytes_max: 512 << 20,
        recorded_bytes_max: 0,
        compute: Precision::Float32,
        moments: Precision::Float32,
        frozen: Precision::Float32,
    };
    let Some(free) = free_bytes() else {
        return String::new();
    };
    let fits = |n: usize, recompute| {
        UpdateMemory::of(config, &settings(n, recompute), n).total() < free / 2
    };
    let found = [false, true].into_iter().find_map(|recompute| {
        let mut sizes = [16_384, 8192, 4096, 2048, 1024].into_iter();
        Some((sizes.find(|n| fits(*n, recompute))?, recompute))
    });
    let gib = free as f64 / (1u64 << 30) as f64;
    match found {
        Some((n, recompute)) => format!(
            "\n[training]\n# For the {gib:.0} GiB that were free here; more is faster.\n\
             micro_batch_tokens = {n}\nrecompute = {recompute}\n"
        ),
        None => format!(
            "\n[training]\n# The {gib:.0} GiB that were free here are too few for this model: see \
             `ra3 plan`.\nmicro_batch_tokens = 1024\nrecompute = true\n"
        ),
    }
}

fn rlvr(problems: &Path, folder: &Path) -> Result<String> {
    let set = set_of(problems)?;
    let name = toml::Value::try_from(set).expect("a name is a text");
    Ok(format!(
        "\n[rlvr]\n# A tenth of the problems is held out for the scores.\nproblems = {{ set = \
         {name}, data = {} }}\n",
        beside(problems, folder)
    ))
}

/// The set whose form a file has.
fn set_of(problems: &Path) -> Result<ProblemSetName> {
    let mut reasons = Vec::new();
    for set in SETS {
        let bench = set.bench().unwrap_or(Name::Contest(Selection::All));
        match bench::read(bench, problems) {
            Ok(_) => return Ok(set),
            Err(error) => reasons.push(format!("as {}: {:#}", set.text(), anyhow::anyhow!(error))),
        }
    }
    bail!(
        "--problems: {} has no form that is known:\n{}",
        problems.display(),
        reasons.join("\n")
    )
}

/// What a look at the sources showed.
#[derive(Debug, Default)]
struct Seen {
    /// Tokens of some documents of each, by the model's tokenizer.
    lengths: Vec<usize>,
    /// Whether something of them cannot be read.
    has_unreadable: bool,
}

fn look_at(sources: &[Source], tokenizer: &Tokenizer) -> Result<Seen> {
    let mut seen = Seen::default();
    for source in sources {
        let reading = read::read(source, OnError::Drop).context("--corpus")?;
        ensure!(
            !reading.documents.is_empty(),
            "--corpus: no document can be read of {}",
            source.name()
        );
        seen.has_unreadable |= !reading.n_dropped.is_empty();
        let step = reading.documents.len().div_ceil(N_DOCUMENTS);
        let documents = reading.documents.iter().step_by(step);
        seen.lengths.extend(documents.map(|document| {
            // A whole file of a megabyte says nothing that its length does not.
            let text = document.whole();
            if text.len() < 100_000 {
                tokenizer.encode(&text).len()
            } else {
                (text.len() as f64 / BYTES_PER_TOKEN) as usize
            }
        }));
    }
    Ok(seen)
}

/// A path as a file in `folder` has it: relative where the path is, and below the folder.
fn beside(path: &Path, folder: &Path) -> String {
    let inside = path
        .strip_prefix(folder)
        .ok()
        .filter(|_| path.is_relative());
    let place = match inside {
        Some(inside) => Path::new(".").join(inside),
        None => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    quoted(&place.display().to_string())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
