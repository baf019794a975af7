//! Which of our crates may import which: the walls of ARCHITECTURE.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Crate, and our crates that it may depend on.
pub const WALLS: &[(&str, &[&str])] = &[
    ("ra3", &[]),
    ("ra3-contract", &["ra3"]),
    ("ra3-files", &[]),
    ("ra3-hub", &["ra3-files"]),
    ("ra3-lm", &["ra3", "ra3-files"]),
    ("ra3-torch", &["ra3", "ra3-files"]),
    ("ra3-bench", &["ra3", "ra3-lm"]),
    ("ra3-text", &["ra3"]),
    ("ra3-parquet", &[]),
    (
        "ra3-corpus",
        &["ra3", "ra3-files", "ra3-parquet", "ra3-text"],
    ),
    ("ra3-testbed", &["ra3"]),
    ("ra3-sandbox", &[]),
    ("ra3-evals", &["ra3", "ra3-parquet", "ra3-sandbox"]),
    ("ra3-page", &[]),
    ("ra3-statistics", &["ra3"]),
    ("ra3-records", &["ra3-files", "ra3-statistics"]),
    (
        "ra3-report",
        &[
            "ra3",
            "ra3-files",
            "ra3-page",
            "ra3-records",
            "ra3-statistics",
        ],
    ),
    (
        "ra3-run",
        &[
            "ra3",
            "ra3-files",
            "ra3-hub",
            "ra3-lm",
            "ra3-text",
            "ra3-corpus",
            "ra3-testbed",
            "ra3-sandbox",
            "ra3-evals",
            "ra3-page",
            "ra3-records",
            "ra3-report",
            "ra3-statistics",
            "ra3-torch",
        ],
    ),
    ("ra3-theory", &["ra3", "ra3-files", "ra3-page"]),
    (
        "ra3-cli",
        &["ra3-bench", "ra3-report", "ra3-run", "ra3-theory"],
    ),
    ("xtask", &[]),
];

/// Crates that must not see a library, and why.
pub const BANNED: &[(&str, &[&str], &str)] = &[
    (
        "ra3",
        &["serde", "clap", "rayon", "gemm-f32"],
        "the algorithm knows token ids and f32 only",
    ),
    (
        "ra3-evals",
        &["gemm-f32", "safetensors"],
        "grading knows no tensors",
    ),
    (
        "ra3-run",
        &["clap", "indicatif"],
        "a run does not know the terminal",
    ),
];

/// Libraries of [`BANNED`] that a crate may have behind a feature of their name, off by default.
pub const OPTIONAL: &[(&str, &str)] = &[("ra3", "serde")];

/// What breaks the walls, one sentence each.
///
/// # Errors
/// `cargo metadata` cannot be run or read.
pub fn violations(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("metadata has no packages")?;
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let dependencies: Vec<&str> = package["dependencies"]
            .as_array()
            .context("a package has no dependencies")?
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter(|dependency| !is_behind_a_feature(name, package, dependency))
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        found.extend(check(name, &dependencies));
    }
    Ok(found)
}

/// True for a dependency of [`OPTIONAL`] that nobody gets who does not ask for it.
fn is_behind_a_feature(name: &str, package: &Value, dependency: &Value) -> bool {
    let library = dependency["name"].as_str().unwrap_or_default();
    let defaults = package["features"]["default"].as_array();
    dependency["optional"] == true
        && OPTIONAL.contains(&(name, library))
        && defaults.is_none_or(|features| !features.contains(&Value::from(library)))
}

fn check(name: &str, dependencies: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = WALLS.iter().find(|(crate_name, _)| *crate_name == name) else {
        return vec![format!(
            "{name} is not in the table of walls (xtask/src/dependencies.rs)"
        )];
    };
    let ours = |dependency: &str| {
        WALLS
            .iter()
            .any(|(crate_name, _)| *crate_name == dependency)
    };
    let mut found: Vec<String> = dependencies
        .iter()
        .filter(|dependency| ours(dependency) && !allowed.contains(dependency))
        .map(|dependency| format!("{name} must not depend on {dependency}"))
        .collect();
    for (crate_name, banned, reason) in BANNED {
        let broken = dependencies
            .iter()
            .filter(|d| *crate_name == name && banned.contains(d));
        found.extend(broken.map(|d| format!("{name} must not depend on {d}: {reason}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check, is_behind_a_feature};

    #[test]
    fn a_breach_is_found() {
        assert!(check("ra3", &["thiserror"]).is_empty());
        assert_eq!(check("ra3", &["serde"]).len(), 1);
        assert_eq!(
            check("ra3-lm", &["ra3-corpus"]),
            ["ra3-lm must not depend on ra3-corpus"]
        );
        assert_eq!(check("ra3-new", &[]).len(), 1);
    }

    #[test]
    fn a_banned_library_may_be_behind_a_feature_that_is_off() {
        let optional = json!({"name": "serde", "optional": true});
        let plain = json!({"name": "serde", "optional": false});
        let off = json!({"features": {"serde": ["dep:serde"]}});
        let on = json!({"features": {"default": ["serde"], "serde": ["dep:serde"]}});
        assert!(is_behind_a_feature("ra3", &off, &optional));
        assert!(!is_behind_a_feature("ra3", &on, &optional));
        assert!(!is_behind_a_feature("ra3", &off, &plain));
        assert!(!is_behind_a_feature("ra3-lm", &off, &optional));
    }
}
