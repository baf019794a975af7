//! A chain with skills: primitive actions step left and right, options run several steps. A task
//! puts the goal somewhere and pays 1 for reaching it. Steps fail with a small probability.

use crate::families::Family;
use crate::mdp::{Mdp, Outcome};
use crate::option::Course;

const N_CELLS: usize = 25;
const SLIP: f64 = 0.1;

/// The chain, started in its middle, with runs of 2 to 12 steps in both directions.
pub fn chain(discount: f64) -> Family {
    let options = [2, 3, 4, 6, 8, 12]
        .into_iter()
        .flat_map(|n_steps| [0, 1].map(|way| Course::Sequence(vec![way; n_steps])));
    // Goals are at the ends of runs more often than not: tasks that share structure.
    let goals = (0..N_CELLS).filter(|cell| *cell != N_CELLS / 2 && cell.is_multiple_of(2));
    Family {
        name: "chain",
        tasks: goals.map(|goal| task(goal, discount)).collect(),
        start: N_CELLS / 2,
        options: options.collect(),
    }
}

fn task(goal: usize, discount: f64) -> Mdp {
    Mdp::new(N_CELLS, 2, discount, |cell, way| {
        if cell == goal {
            return Outcome {
                reward: 0.0,
                next: vec![(cell, 1.0)],
            };
        }
        let to = match way {
            0 => cell.saturating_sub(1),
            _ => (cell + 1).min(N_CELLS - 1),
        };
        let mut next = vec![(cell, 1.0)];
        if to != cell {
            next = vec![(to, 1.0 - SLIP), (cell, SLIP)];
        }
        Outcome {
            reward: if to == goal { 1.0 - SLIP } else { 0.0 },
            next,
        }
    })
}
