//! The experiments, one file each, in the order of the page. Each is a pure function of its
//! settings: seeds run in parallel and are collected in their order, so the number of threads
//! changes nothing.

pub mod counting;
pub mod watching;

pub mod convergence;
pub mod samples;

pub mod decomposition;
pub mod trade_off;

pub mod abstraction;

use ra3::policy::PolicyError;
use ra3::seed::Seed;
use rayon::prelude::*;

use crate::finding::Finding;

/// What all experiments share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seeds of each experiment; at least 2, for there are intervals.
    pub n_seeds: usize,
    /// The root of all seeds.
    pub seed: u64,
}

/// The experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experiment {
    /// Demonstrations until every bad option is pruned.
    Counting,
    /// Pruning by keeping what experts use.
    Watching,
    /// Sweeps of value iteration.
    Convergence,
    /// Samples of Q-learning and policy gradient.
    Samples,
    /// Regret and its two parts during learning.
    Decomposition,
    /// Regret from primitive to over-compact sets.
    TradeOff,
    /// Options learnt by RA3.
    Abstraction,
}

impl Experiment {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 7] = [
        Self::Counting,
        Self::Watching,
        Self::Convergence,
        Self::Samples,
        Self::Decomposition,
        Self::TradeOff,
        Self::Abstraction,
    ];

    /// Its name for a reader.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counting => "pruning bound",
            Self::Watching => "pruning error",
            Self::Convergence => "value iteration",
            Self::Samples => "samples",
            Self::Decomposition => "decomposition",
            Self::TradeOff => "trade-off",
            Self::Abstraction => "learnt options",
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// A loss of the learnt options that is not finite.
    pub fn run(self, settings: &Settings) -> Result<Finding, PolicyError> {
        assert!(settings.n_seeds >= 2, "an interval needs two seeds");
        Ok(match self {
            Self::Counting => counting::run(settings),
            Self::Watching => watching::run(settings),
            Self::Convergence => convergence::run(settings),
            Self::Samples => samples::run(settings),
            Self::Decomposition => decomposition::run(settings),
            Self::TradeOff => trade_off::run(settings),
            Self::Abstraction => abstraction::run(settings)?,
        })
    }
}

impl Settings {
    /// `run` once for each seed, in parallel, in the order of the seeds.
    fn by_seed<T: Send>(&self, name: &str, run: impl Fn(Seed) -> T + Sync) -> Vec<T> {
        let root = Seed::root(self.seed).child(name);
        (0..self.n_seeds as u64)
            .into_par_iter()
            .map(|index| run(root.nth(index)))
            .collect()
    }
}

/// `[seed][point]` from `[seed]` of anything.
fn column<T>(by_seed: &[T], values: impl Fn(&T) -> Vec<f64>) -> Vec<Vec<f64>> {
    by_seed.iter().map(values).collect()
}

/// The mean of some values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
