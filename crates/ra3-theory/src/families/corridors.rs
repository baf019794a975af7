//! Corridors: a row of junctions, each with the same number of lanes to the next junction. A task
//! puts mud into some lanes. One action walks a whole lane of `τ` primitive steps, so the discount
//! of a decision is `γ^τ`.
//!
//! The kind of a lane is its junction. Which lanes are bad, and on what share of tasks, is set
//! exactly, and so are the costs: this is where the number of demonstrations is measured.

use ra3::seed::Seed;

use crate::mdp::{Mdp, Outcome};

/// How the corridors are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Junctions, each with a decision.
    pub n_junctions: usize,
    /// Lanes at each junction.
    pub n_lanes: usize,
    /// `τ`: primitive steps of a lane.
    pub n_steps: usize,
    /// `γ` of a primitive step.
    pub discount: f64,
}

impl Layout {
    /// The task in which walking lane `l` at junction `j` earns `reward(j, l)`; past the last
    /// junction the task is over. State `j` is junction `j`.
    pub fn task(&self, reward: impl Fn(usize, usize) -> f64) -> Mdp {
        let discount = self.discount.powi(self.n_steps as i32);
        Mdp::new(
            self.n_junctions + 1,
            self.n_lanes,
            discount,
            |junction, lane| {
                let is_over = junction == self.n_junctions;
                Outcome {
                    reward: if is_over { 0.0 } else { reward(junction, lane) },
                    next: vec![(junction + usize::from(!is_over), 1.0)],
                }
            },
        )
    }

    /// Number of options `|Z|`: each lane of each junction is one.
    pub fn n_options(&self) -> usize {
        self.n_junctions * self.n_lanes
    }
}

/// Reward of a clean lane; a muddy one earns nothing.
const CLEAN: f64 = 1.0;

/// A pool of tasks in which lane 0 of every junction is always clean and every other lane is muddy
/// on exactly `n_muddy` of the tasks, drawn independently for each lane.
pub fn muddy_pool(layout: &Layout, n_tasks: usize, n_muddy: usize, seed: Seed) -> Vec<Mdp> {
    let muddy: Vec<Vec<bool>> = (0..layout.n_options())
        .map(|option| {
            let mut is_muddy = vec![false; n_tasks];
            if option % layout.n_lanes != 0 {
                let order = seed.nth(option as u64).permutation(n_tasks);
                order[..n_muddy]
                    .iter()
                    .for_each(|task| is_muddy[*task] = true);
            }
            is_muddy
        })
        .collect();
    let reward = |task: usize, junction: usize, lane: usize| {
        let is_muddy = muddy[junction * layout.n_lanes + lane][task];
        if is_muddy { 0.0 } else { CLEAN }
    };
    (0..n_tasks)
        .map(|task| layout.task(|junction, lane| reward(task, junction, lane)))
        .collect()
}
