//! Where benchmarks' data live, officially and on this machine.
//!
//! A file whose bytes are known is accepted with its checksum alone. Of the others the first
//! download's checksum is kept beside the file, and a later one has to equal it. Not done here:
//! which Parquet files a split on the Hub has (`split_files`), and reading what was fetched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ra3_evals::bench::{Name, Selection};
use ra3_hub::{HubSettings, Remote, agent, checksum, fetch};
use serde::Serialize;

use crate::event::{Event, Watcher};
use crate::split_files;

const BYTES_PER_UNIT: u64 = 1 << 10;

/// A file of a benchmark, or files that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    /// What it is asked for by: a benchmark's name, and a variant after a slash.
    name: &'static str,
    /// Its own name; of a split the folder's.
    file: &'static str,
    /// Where it lives.
    origin: Origin,
}

/// Where data live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// One file.
    File {
        /// More than one where a copy stands in.
        addresses: &'static [&'static str],
        /// SHA-256, where its bytes are known.
        sha256: Option<&'static str>,
    },
    /// The Parquet files of a split of a data set on the Hub: how many they are may change.
    Split {
        /// The data set.
        repository: &'static str,
        /// How the files' names begin.
        split: &'static str,
    },
}

macro_rules! source {
    ($name:literal, $file:literal, $sha256:expr, $($address:literal),+) => {
        Source {
            name: $name,
            file: $file,
            origin: Origin::File { addresses: &[$($address),+], sha256: $sha256 },
        }
    };
}

const fn split(
    name: &'static str,
    file: &'static str,
    repository: &'static str,
    split: &'static str,
) -> Source {
    Source {
        name,
        file,
        origin: Origin::Split { repository, split },
    }
}

const GITHUB_RAW: &str = "https://raw.githubusercontent.com";
const EVALPLUS_RELEASES: &str = "https://github.com/evalplus";

#[rustfmt::skip]
const SOURCES: &[Source] = &[
    source!("humaneval+", "HumanEvalPlus.jsonl.gz",
        Some("272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101"),
        "{releases}/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz"),
    source!("humaneval+/mini", "HumanEvalPlus-Mini.jsonl.gz",
        Some("91486741f1627101021fbe50523df08eebb5b0bf5e804b633dcd5ca3c14dbd2f"),
        "{releases}/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus-Mini.jsonl.gz"),
    source!("mbpp+", "MbppPlus.jsonl.gz",
        Some("af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63"),
        "{releases}/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz"),
    source!("humaneval", "HumanEval.jsonl.gz",
        Some("b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"),
        "{raw}/openai/human-eval/master/data/HumanEval.jsonl.gz"),
    source!("mbpp", "mbpp.jsonl",
        Some("ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"),
        "{raw}/google-research/google-research/master/mbpp/mbpp.jsonl",
        "{raw}/deepseek-ai/DeepSeek-Coder/main/Evaluation/MBPP/data/mbpp.jsonl"),
    source!("mbpp/sanitized", "sanitized-mbpp.json",
        Some("7fec016546acaee11dbe14f9f0bb670e59f41919f7b522a59fba34871da78551"),
        "{raw}/google-research/google-research/master/mbpp/sanitized-mbpp.json"),
    source!("leetcode", "LeetCodeDataset-v0.2.0-train.jsonl.gz",
        Some("7c3e4221572920a9e6c822083a327d2238ea70b5b3ba18459bee6855ef93e2c7"),
        "{raw}/newfacade/LeetCodeDataset/main/data/LeetCodeDataset-v0.2.0-train.jsonl.gz"),
    source!("leetcode/test", "LeetCodeDataset-v0.3.1-test.jsonl.gz",
        Some("3ae536cb41342076691730b72424fdfb9264f233e05c81bf37b5f7e227ea1853"),
        "{raw}/newfacade/LeetCodeDataset/main/data/LeetCodeDataset-v0.3.1-test.jsonl.gz"),
    source!("puzzles", "puzzles.json",
        Some("d3b61141ea0d935c389d602867ba2c154db1854df9ff4402daaa947ad880d8bb"),
        "{raw}/microsoft/PythonProgrammingPuzzles/main/puzzles/puzzles.json"),
    source!("codeforces", "rllm_codeforces_test.json",
        Some("8e9eab7fce7e432abe4437dd997c16f1514be51d224f2d72a7bd07d58cce476a"),
        "{raw}/agentica-project/rllm/874daa4a/rllm/data/test/code/codeforces.json"),
    source!("codeforces/code_contests", "rllm_code_contests_test.json",
        Some("0e3c580698270ab930268cbc63ea6b9cf920874ac40de4a06bdbebc7c2eade71"),
        "{raw}/agentica-project/rllm/874daa4a/rllm/data/test/code/code_contests.json"),
    split("codeforces/open-r1", "codeforces-open-r1", "open-r1/codeforces", "test"),
    split("codeforces/open-r1-train", "codeforces-open-r1-train", "open-r1/codeforces", "train"),
    split("asserts", "asserts", "TIGER-Lab/AceCode-87K", "train"),
    source!("livecodebench", "test.jsonl", None,
        "{hub}/datasets/livecodebench/code_generation_lite/resolve/main/test.jsonl"),
    source!("livecodebench/2", "test2.jsonl", None,
        "{hub}/datasets/livecodebench/code_generation_lite/resolve/main/test2.jsonl"),
    source!("livecodebench/3", "test3.jsonl", None,
        "{hub}/datasets/livecodebench/code_generation_lite/resolve/main/test3.jsonl"),
    source!("livecodebench/4", "test4.jsonl", None,
        "{hub}/datasets/livecodebench/code_generation_lite/resolve/main/test4.jsonl"),
    source!("livecodebench/5", "test5.jsonl", None,
        "{hub}/datasets/livecodebench/code_generation_lite/resolve/main/test5.jsonl"),
    source!("livecodebench/6", "test6.jsonl", None,
        "{hub}/datasets/livecodebench/code_generation_lite/resolve/main/test6.jsonl"),
];

/// A file that can be had, for a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What it is asked for by.
    pub name: &'static str,
    /// Where it lives.
    pub address: String,
    /// Its SHA-256, where its bytes are known.
    pub sha256: Option<&'static str>,
    /// Where it is on this machine, if it is.
    pub path: Option<PathBuf>,
}

/// What was fetched, or was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// True if its bytes are known, false if they are trusted because they came first.
    pub is_pinned: bool,
}

/// The folder of this machine's copies.
pub fn cache() -> PathBuf {
    let own = std::env::var_os("RA3_BENCHMARKS").map(PathBuf::from);
    own.unwrap_or_else(|| {
        ra3_files::cache_folder(|name| std::env::var_os(name)).join("ra3/benchmarks")
    })
}

/// All data that can be had.
pub fn list(settings: &HubSettings) -> Vec<Listed> {
    let listed = |source: &Source| {
        let path = cache().join(source.file);
        let (address, sha256) = match source.origin {
            Origin::File { addresses, sha256 } => (address(addresses[0], settings), sha256),
            Origin::Split { repository, .. } => (split_files::page(repository, settings), None),
        };
        Listed {
            name: source.name,
            address,
            sha256,
            path: path.exists().then_some(path),
        }
    };
    SOURCES.iter().map(listed).collect()
}

/// The names of further data of the same benchmark, such as `livecodebench/2`.
pub fn others(name: &str) -> Vec<&'static str> {
    let benchmark = |name: &str| name.split('/').next().map(str::to_owned);
    let names = SOURCES.iter().map(|source| source.name);
    names
        .filter(|other| *other != name && benchmark(other) == benchmark(name))
        .collect()
}

/// Brings a benchmark's data into a folder, the cache where none is named.
///
/// # Errors
/// There is no such benchmark, it cannot be fetched, or its bytes are not those that are wanted.
pub fn get(
    name: &str,
    folder: Option<&Path>,
    settings: &HubSettings,
    watcher: &mut Watcher<'_>,
) -> Result<Vec<Fetched>> {
    let source = SOURCES.iter().find(|source| source.name == name);
    let names = || {
        SOURCES
            .iter()
            .map(|source| source.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let source =
        source.with_context(|| format!("no data are called {name}; there are {}", names()))?;
    let path = folder.map_or_else(cache, Path::to_owned).join(source.file);
    match source.origin {
        Origin::File { addresses, sha256 } => {
            let address = |template: &&str| address(template, settings);
            let addresses: Vec<String> = addresses.iter().map(address).collect();
            Ok(vec![get_file(
                &addresses, &path, sha256, settings, watcher,
            )?])
        }
        Origin::Split { repository, split } => {
            let files = split_files::list(repository, split, settings)?;
            split_files::refuse_others(&path, &files)?;
            let get = |file: &String| {
                let address = split_files::address(repository, file, settings);
                get_file(&[address], &path.join(file), None, settings, watcher)
            };
            files.iter().map(get).collect()
        }
    }
}

/// Brings one file, unless it is there.
fn get_file(
    addresses: &[String],
    path: &Path,
    sha256: Option<&str>,
    settings: &HubSettings,
    watcher: &mut Watcher<'_>,
) -> Result<Fetched> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sha256");
    let first = std::fs::read_to_string(&beside).ok();
    let wanted = sha256.or(first.as_deref().map(str::trim));
    let fetched = |found: String| Fetched {
        path: path.to_owned(),
        sha256: found,
        is_pinned: sha256.is_some(),
    };
    if path.exists() {
        let found = checksum_of(path)?;
        if wanted.is_none_or(|wanted| wanted == found) {
            return Ok(fetched(found));
        }
        watcher(Event::Note(format!(
            "{} has another SHA-256 than is wanted: it is fetched again",
            path.display()
        )));
    }
    let name = path.file_name().unwrap_or_default().display();
    watcher(Event::started(format!("download {name}"), 0, "KiB"));
    let found = fetch_any(addresses, path, wanted, settings, watcher)?;
    if sha256.is_none() {
        ra3_files::write(Path::new(&beside), format!("{found}\n").as_bytes())?;
    }
    watcher(Event::Finished {
        message: format!("{}, SHA-256 {found}", path.display()),
    });
    Ok(fetched(found))
}

/// From the first address that has what is wanted.
fn fetch_any(
    addresses: &[String],
    path: &Path,
    wanted: Option<&str>,
    settings: &HubSettings,
    watcher: &mut Watcher<'_>,
) -> Result<String> {
    let (agent, mut failures) = (agent(settings)?, Vec::new());
    for address in addresses {
        ensure!(
            !settings.is_offline,
            "offline (HF_HUB_OFFLINE): {address} is not asked for"
        );
        let mut progress = |n_bytes: u64| {
            watcher(Event::advanced(n_bytes / BYTES_PER_UNIT));
        };
        let remote = Remote {
            address,
            token: None,
            n_bytes: None,
            sha256: wanted,
        };
        match fetch(remote, path, &agent, settings, &mut progress) {
            Ok(()) => return wanted.map_or_else(|| checksum_of(path), |it| Ok(it.to_owned())),
            Err(error) => {
                let error = anyhow::Error::from(error);
                failures.push(format!("cannot fetch {address}: {error:#}"));
            }
        }
    }
    bail!("{}", failures.join("; "))
}

fn checksum_of(path: &Path) -> Result<String> {
    checksum(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `RA3_GITHUB` stands in for GitHub's raw files and releases, `HF_ENDPOINT` for the Hub.
fn address(template: &str, settings: &HubSettings) -> String {
    let mirror = std::env::var("RA3_GITHUB").ok();
    let or = |official| mirror.as_deref().unwrap_or(official);
    template
        .replace("{raw}", or(GITHUB_RAW))
        .replace("{releases}", or(EVALPLUS_RELEASES))
        .replace("{hub}", &settings.endpoint)
}

/// The data of a benchmark: a file that is named, or of a folder that is named, or of this
/// machine's copies, the benchmark's files. `LiveCodeBench`'s files add up to a release: they are
/// their folder.
///
/// # Errors
/// There are none.
pub fn locate(name: Name, data: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = data.filter(|path| !path.is_dir()) {
        ensure!(path.exists(), "{} is not there", path.display());
        return Ok(path.to_owned());
    }
    let asked = match name {
        Name::LiveCodeBench(_) => "livecodebench",
        Name::Contest(Selection::All | Selection::DeepCoder) => "codeforces",
        Name::MbppTrain => "mbpp",
        Name::HumanEvalPlus
        | Name::MbppPlus
        | Name::HumanEval
        | Name::Mbpp
        | Name::LeetCode
        | Name::Puzzles
        | Name::AssertLists => name.text(),
    };
    let source = SOURCES.iter().find(|source| source.name == asked);
    let source = source.expect("every benchmark has a source");
    let folder = data.map_or_else(cache, Path::to_owned);
    let path = folder.join(source.file);
    let is_release = matches!(name, Name::LiveCodeBench(_)) && path.exists();
    if is_release || (!path.exists() && data.is_some() && split_files::is_in(&folder)) {
        return Ok(folder);
    }
    ensure!(
        path.exists(),
        "{} is not there: fetch it with `ra3 data get {asked}`, or name a file, or a folder of \
         Parquet files, with --data",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_has_a_source() {
        let folder = tempfile::tempdir().unwrap();
        for name in Name::ALL {
            let error = locate(name, Some(folder.path())).unwrap_err().to_string();
            assert!(error.contains("ra3 data get"), "{error}");
        }
        for source in SOURCES {
            let path = folder.path().join(source.file);
            std::fs::write(path, "").unwrap();
        }
        for name in Name::ALL {
            let found = locate(name, Some(folder.path())).unwrap();
            let is_folder = matches!(name, Name::LiveCodeBench(_));
            assert_eq!(found == folder.path(), is_folder, "{}", name.text());
        }
    }

    #[test]
    fn a_folder_of_parquet_files_is_data() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("test-0.parquet"), "").unwrap();
        for name in [Name::Contest(Selection::All), Name::AssertLists] {
            assert_eq!(locate(name, Some(folder.path())).unwrap(), folder.path());
        }
    }

    #[test]
    fn further_data_are_named() {
        let others = others("livecodebench");
        assert_eq!(others.first(), Some(&"livecodebench/2"));
        assert_eq!(others.len(), 5);
        assert!(super::others("puzzles").is_empty());
    }
}
