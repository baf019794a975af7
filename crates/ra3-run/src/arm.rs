//! The models that are compared, and the stages that make and measure them.

use std::fmt;

/// A model that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// The model before mid-training.
    Base,
    /// Next-token prediction on the corpus tokens that RA3 sees.
    Ntp,
    /// Next-token prediction for as many FLOPs as RA3 spends.
    NtpCompute,
    /// RA3.
    Ra3,
}

impl Arm {
    /// All arms, in the order of tables and legends.
    pub const ALL: [Self; 4] = [Self::Base, Self::Ntp, Self::NtpCompute, Self::Ra3];

    /// Its name in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Ntp => "ntp",
            Self::NtpCompute => "ntp-compute",
            Self::Ra3 => "ra3",
        }
    }

    /// True if its programs are interleaved with decisions and rationales.
    pub const fn is_latent(self) -> bool {
        matches!(self, Self::Ra3)
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A step of the pipeline. Stages meet on disk only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Documents, tokenizer, shards, problems.
    Corpus,
    /// The base model.
    Base,
    /// Mid-training of an arm.
    Midtrain(Arm),
    /// Measuring of an arm.
    Evaluate(Arm),
    /// RLVR from an arm.
    Rlvr(Arm),
}

impl Stage {
    /// What it leaves below the run directory for the stages behind it.
    pub fn outputs(self) -> Vec<String> {
        match self {
            Self::Corpus => vec!["corpus".to_owned()],
            Self::Base => vec!["models/base".to_owned()],
            Self::Midtrain(Arm::Ra3) => {
                vec!["models/ra3".to_owned(), "models/reference".to_owned()]
            }
            Self::Midtrain(arm) => vec![format!("models/{arm}")],
            Self::Evaluate(_) => Vec::new(),
            Self::Rlvr(arm) => vec![format!("models/rlvr-{arm}")],
        }
    }

    /// Its name in the ledger and in the run directory.
    pub fn name(self) -> String {
        match self {
            Self::Corpus => "corpus".to_owned(),
            Self::Base => "base".to_owned(),
            Self::Midtrain(arm) => arm.name().to_owned(),
            Self::Evaluate(arm) => format!("evaluate-{arm}"),
            Self::Rlvr(arm) => format!("rlvr-{arm}"),
        }
    }
}
