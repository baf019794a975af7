//! A table policy that keeps what it was asked.

use std::cell::RefCell;

use ra3::policy::{
    Episode, Example, Move, Objective, Observation, Policy, PolicyError, SampleRule, UpdateStats,
    Work,
};
use ra3::seed::Seed;
use ra3::table::TablePolicy;

/// A table, and everything that went through the seam.
pub(crate) struct Recording {
    /// The table.
    pub(crate) table: TablePolicy,
    /// What each run was asked with.
    pub(crate) seeds: Vec<Seed>,
    /// Every rule that something was sampled under, by row of the last run.
    pub(crate) rules: Vec<Vec<SampleRule>>,
    /// What was trained on.
    pub(crate) updates: Vec<(Vec<Example>, Objective)>,
}

impl Recording {
    /// Records a table.
    pub(crate) fn new(table: TablePolicy) -> Self {
        Self {
            table,
            seeds: Vec::new(),
            rules: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// The step sizes of all updates.
    pub(crate) fn learning_rates(&self) -> Vec<f32> {
        let rate = |(_, objective): &(Vec<Example>, Objective)| objective.learning_rate;
        self.updates.iter().map(rate).collect()
    }
}

/// An episode that is listened to.
struct Heard<'a> {
    episode: &'a mut dyn Episode,
    rules: &'a RefCell<Vec<Vec<SampleRule>>>,
    row: usize,
}

impl Episode for Heard<'_> {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let next = self.episode.next(seen);
        if let Move::Sample(rule) = &next {
            self.rules.borrow_mut()[self.row].push(rule.clone());
        }
        next
    }
}

impl Policy for Recording {
    fn run(&mut self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        self.seeds.push(seed);
        let rules = RefCell::new(vec![Vec::new(); episodes.len()]);
        let rows = episodes.iter_mut().enumerate();
        let mut heard: Vec<Heard<'_>> = rows
            .map(|(row, episode)| Heard {
                episode: &mut **episode,
                rules: &rules,
                row,
            })
            .collect();
        let mut episodes: Vec<&mut dyn Episode> = heard
            .iter_mut()
            .map(|episode| episode as &mut dyn Episode)
            .collect();
        let work = self.table.run(&mut episodes, seed);
        drop(heard);
        self.rules = rules.into_inner();
        work
    }

    fn update(
        &mut self,
        batch: &[Example],
        objective: Objective,
    ) -> Result<UpdateStats, PolicyError> {
        self.updates.push((batch.to_vec(), objective));
        self.table.update(batch, objective)
    }
}
