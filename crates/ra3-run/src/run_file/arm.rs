//! Section of the run file: the models that are compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Table;

/// The name of the model that `[base]` makes, as other arms begin from it.
pub const BASE: &str = "base";

/// A model that is compared: where it begins, what is done to it, and what becomes of it.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSection {
    /// Its name in files and tables: letters, digits, `-`, `_` and `.`; `base` is the model that
    /// `[base]` makes.
    pub name: String,
    /// Where it begins: `base`, the name of another arm, or a checkpoint: a folder, or
    /// `org/name[@revision]` on the Hub.
    #[serde(default = "base")]
    pub from: String,
    /// What is done to it.
    #[serde(default)]
    pub method: MethodName,
    /// When NTP ends: one of these keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Whether it is measured.
    #[serde(default = "yes")]
    pub evaluate: bool,
    /// Whether it goes to RLVR, where there is an `[rlvr]`.
    #[serde(default = "yes")]
    pub rlvr: bool,
    /// Keys of `training`, `supervised`, `ra3` and `rlvr` that this arm has otherwise than the
    /// file, by their whole path: `set.ra3.e_step.horizon = 0`.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub set: Table,
}

/// What is done to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// Nothing: it is measured as it is.
    #[default]
    None,
    /// Next-token prediction on the corpus.
    Ntp,
    /// RA3.
    Ra3,
}

/// When next-token prediction ends: one of these keys.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Budget {
    /// After so many updates.
    Updates(u64),
    /// After so many corpus tokens.
    CorpusTokens(u64),
    /// After so many floating-point operations.
    Flops(f64),
    /// After as many corpus tokens as another arm.
    CorpusTokensOf(String),
    /// After as many floating-point operations as another arm.
    FlopsOf(String),
}

impl Budget {
    /// The arm that it is taken from.
    pub(crate) fn of(&self) -> Option<&str> {
        match self {
            Self::CorpusTokensOf(arm) | Self::FlopsOf(arm) => Some(arm),
            Self::Updates(_) | Self::CorpusTokens(_) | Self::Flops(_) => None,
        }
    }
}

/// The comparison that the paper makes.
pub(super) fn comparison() -> Vec<ArmSection> {
    let arm = |name: &str, method, budget| ArmSection {
        name: name.to_owned(),
        from: base(),
        method,
        budget,
        evaluate: true,
        rlvr: true,
        set: Table::new(),
    };
    vec![
        arm(BASE, MethodName::None, None),
        arm(
            "ntp",
            MethodName::Ntp,
            Some(Budget::CorpusTokensOf("ra3".to_owned())),
        ),
        arm("ra3", MethodName::Ra3, None),
    ]
}

fn base() -> String {
    BASE.to_owned()
}

const fn yes() -> bool {
    true
}
