//! Which Parquet files a split of a data set on the Hugging Face Hub has.
//!
//! They are called `data/test-00000-of-00003.parquet`, and become more or fewer as the data set
//! changes. Not done here: fetching and reading them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ra3_hub::{HubSettings, agent};
use serde::Deserialize;

/// Where data sets keep their files.
const FOLDER: &str = "data";
const SUFFIX: &str = ".parquet";

/// An entry of the Hub's listing.
#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
}

/// The names of a split's files, in order.
pub(crate) fn list(repository: &str, split: &str, settings: &HubSettings) -> Result<Vec<String>> {
    let endpoint = &settings.endpoint;
    let address = format!("{endpoint}/api/datasets/{repository}/tree/main/{FOLDER}");
    ensure!(
        !settings.is_offline,
        "offline (HF_HUB_OFFLINE): {address} is not asked for"
    );
    let mut response = agent(settings)?
        .get(&address)
        .call()
        .with_context(|| format!("cannot ask {address}; run again to continue"))?;
    let status = response.status().as_u16();
    ensure!(
        status == 200,
        "{address} answers with status {status}; is the data set still there?"
    );
    let text = response
        .body_mut()
        .read_to_string()
        .with_context(|| format!("cannot read what {address} answers; run again to continue"))?;
    let names = names(&text, split)
        .with_context(|| format!("{address} answers with something else than a list of files"))?;
    check(&names).with_context(|| {
        format!("{address} does not list the files of {split}: fetch them by hand, and use --data")
    })?;
    Ok(names)
}

fn names(listing: &str, split: &str) -> serde_json::Result<Vec<String>> {
    let entries: Vec<Entry> = serde_json::from_str(listing)?;
    let name = |entry: Entry| {
        let name = entry.path.strip_prefix(FOLDER)?.strip_prefix('/')?;
        // A name becomes a part of a path here.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_of_split = name
            .strip_prefix(split)
            .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(SUFFIX));
        let is_named = entry.r#type == "file" && is_of_split && name.chars().all(is_plain);
        is_named.then(|| name.to_owned())
    };
    let names: BTreeSet<String> = entries.into_iter().filter_map(name).collect();
    Ok(names.into_iter().collect())
}

/// The names say how many files there are.
fn check(names: &[String]) -> Result<()> {
    let first = names.first().context("there is no such file")?;
    let n_wanted = first
        .trim_end_matches(SUFFIX)
        .rsplit_once("-of-")
        .and_then(|(_, number)| number.parse::<usize>().ok());
    ensure!(
        n_wanted.is_none_or(|n_wanted| n_wanted == names.len()),
        "{} files are listed, the first of them {first}",
        names.len()
    );
    Ok(())
}

/// Where a file is fetched from.
pub(crate) fn address(repository: &str, file: &str, settings: &HubSettings) -> String {
    let endpoint = &settings.endpoint;
    format!("{endpoint}/datasets/{repository}/resolve/main/{FOLDER}/{file}")
}

/// The page of a data set's files, for a reader.
pub(crate) fn page(repository: &str, settings: &HubSettings) -> String {
    let endpoint = &settings.endpoint;
    format!("{endpoint}/datasets/{repository}/tree/main/{FOLDER}")
}

/// True if a folder has Parquet files.
pub(crate) fn is_in(folder: &Path) -> bool {
    !parquet_names(folder).is_empty()
}

/// All Parquet files of a folder are read: refuses one that has others than the split's, as an
/// older version of a data set leaves them.
pub(crate) fn refuse_others(folder: &Path, files: &[String]) -> Result<()> {
    let names = parquet_names(folder);
    let other = names.iter().find(|name| !files.contains(name));
    ensure!(
        other.is_none(),
        "{} has {}, which the data set has no longer: move it away, or name another folder with \
         --to",
        folder.display(),
        other.map_or("", String::as_str)
    );
    Ok(())
}

fn parquet_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(SUFFIX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_the_listing() {
        let listing = r#"[{"type": "file", "path": "data/test-00001-of-00002.parquet", "size": 3},
            {"type": "file", "path": "data/test-00000-of-00002.parquet"},
            {"type": "file", "path": "data/train-00000-of-00001.parquet"},
            {"type": "file", "path": "data/testing-0.parquet"},
            {"type": "file", "path": "data/test-notes.md"},
            {"type": "file", "path": "data/test-a b.parquet"},
            {"type": "file", "path": "data/test-/../x.parquet"},
            {"type": "directory", "path": "data/test-1.parquet"}]"#;
        let found = names(listing, "test").unwrap();
        assert_eq!(
            found,
            ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"]
        );
        check(&found).unwrap();
        assert!(check(&found[1..]).is_err());
        assert!(check(&[]).is_err());
        check(&["test-all.parquet".to_owned()]).unwrap();
        assert!(names(r#"{"error": "gone"}"#, "test").is_err());
    }

    #[test]
    fn files_of_another_version_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.parquet".to_owned()];
        refuse_others(&folder.path().join("absent"), &files).unwrap();
        for name in ["a.parquet", "a.parquet.sha256"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        refuse_others(folder.path(), &files).unwrap();
        std::fs::write(folder.path().join("b.parquet"), "").unwrap();
        let error = refuse_others(folder.path(), &files)
            .unwrap_err()
            .to_string();
        assert!(error.contains("b.parquet"), "{error}");
    }
}
