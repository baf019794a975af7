//! A table policy that keeps what it was asked.

use std::cell::{Cell, RefCell};

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
    pub(crate) seeds: RefCell<Vec<Seed>>,
    /// Every rule that something was sampled under, by row of the last run.
    pub(crate) rules: RefCell<Vec<Vec<SampleRule>>>,
    /// How many copies were taken.
    pub(crate) n_snapshots: Cell<usize>,
    /// What was trained on.
    pub(crate) updates: Vec<(Vec<Example>, Objective)>,
}

impl Recording {
    /// Records a table.
    pub(crate) fn new(table: TablePolicy) -> Self {
        Self {
            table,
            seeds: RefCell::default(),
            rules: RefCell::default(),
            n_snapshots: Cell::default(),
            updates: Vec::new(),
        }
    }

    /// The step sizes of all updates.
    pub(crate) fn learning_rates(&self) -> Vec<f32> {
        let rate = |(_, objective): &(Vec<Example>, Objective)| objective.learning_rate;
        self.updates.iter().map(rate).collect()
    }

    /// Among what each line's decision was drawn, by row.
    pub(crate) fn choices(&self) -> Vec<Vec<Vec<u32>>> {
        let of_row = |rules: &Vec<SampleRule>| {
            let decisions = rules.iter().filter_map(|rule| rule.choices.as_deref());
            decisions.map(<[u32]>::to_vec).collect()
        };
        self.rules.borrow().iter().map(of_row).collect()
    }
}

/// An episode that is listened to.
struct Heard<'a> {
    episode: &'a mut dyn Episode,
    rules: Vec<SampleRule>,
}

impl Episode for Heard<'_> {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let next = self.episode.next(seen);
        if let Move::Sample(rule) = &next {
            self.rules.push(rule.clone());
        }
        next
    }
}

impl Policy for Recording {
    fn run(&self, episodes: &mut [&mut dyn Episode], seed: Seed) -> Result<Work, PolicyError> {
        self.seeds.borrow_mut().push(seed);
        let rows = episodes.iter_mut();
        let mut heard: Vec<Heard<'_>> = rows
            .map(|episode| Heard {
                episode: &mut **episode,
                rules: Vec::new(),
            })
            .collect();
        let mut episodes: Vec<&mut dyn Episode> = heard
            .iter_mut()
            .map(|episode| episode as &mut dyn Episode)
            .collect();
        let work = self.table.run(&mut episodes, seed);
        *self.rules.borrow_mut() = heard.into_iter().map(|heard| heard.rules).collect();
        work
    }

    fn score(&self, sequences: &[Example]) -> Result<(Vec<Vec<f32>>, Work), PolicyError> {
        self.table.score(sequences)
    }

    /// The table alone: nobody listens to a copy.
    fn snapshot(&self) -> Box<dyn Policy> {
        self.n_snapshots.set(self.n_snapshots.get() + 1);
        self.table.snapshot()
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
