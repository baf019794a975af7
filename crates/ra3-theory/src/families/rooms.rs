//! Four rooms with doorways (Sutton, Precup and Singh, 1999), smaller: primitive actions are four
//! moves that slip, options walk to a doorway or to the middle of a room. A task puts the goal into
//! one cell and pays 1 for reaching it.

use crate::families::Family;
use crate::mdp::{Mdp, Outcome};
use crate::option::Course;

const MAP: [&str; 7] = [
    "...#...", ".......", "...#...", "#.###.#", "...#...", ".......", "...#...",
];
const MOVES: [(isize, isize); 4] = [(-1, 0), (0, 1), (1, 0), (0, -1)];
const SLIP: f64 = 0.1;
/// The doorways, and the middles of the four rooms.
const PLACES: [(usize, usize); 8] = [
    (1, 3),
    (3, 1),
    (3, 5),
    (5, 3),
    (1, 1),
    (1, 5),
    (5, 1),
    (5, 5),
];
/// Longest walk of an option.
const WALK_MAX: usize = 12;

/// The rooms, started in the top left corner. Goals are the four middles and their neighbours.
pub fn rooms(discount: f64) -> Family {
    let cells = cells();
    let number = |place: &(usize, usize)| {
        cells
            .iter()
            .position(|cell| cell == place)
            .expect("places are free cells")
    };
    let near = |cell: &(usize, usize)| {
        let middles = PLACES[4..].iter();
        middles
            .map(|place| cell.0.abs_diff(place.0) + cell.1.abs_diff(place.1))
            .any(|steps| steps <= 1)
    };
    let goals = cells.iter().filter(|cell| near(cell)).map(number);
    Family {
        name: "rooms",
        tasks: goals.map(|goal| task(&cells, goal, discount)).collect(),
        start: 0,
        options: PLACES
            .iter()
            .map(|place| towards(&cells, number(place)))
            .collect(),
    }
}

fn cells() -> Vec<(usize, usize)> {
    let rows = MAP.iter().enumerate();
    rows.flat_map(|(row, line)| {
        let free = line.bytes().enumerate().filter(|(_, mark)| *mark == b'.');
        free.map(move |(column, _)| (row, column))
    })
    .collect()
}

fn moved(cells: &[(usize, usize)], cell: usize, way: usize) -> usize {
    let (row, column) = cells[cell];
    let to = (
        row.wrapping_add_signed(MOVES[way].0),
        column.wrapping_add_signed(MOVES[way].1),
    );
    cells.iter().position(|other| *other == to).unwrap_or(cell)
}

fn task(cells: &[(usize, usize)], goal: usize, discount: f64) -> Mdp {
    Mdp::new(cells.len(), 4, discount, |cell, way| {
        let to = moved(cells, cell, way);
        if cell == goal || to == cell {
            return Outcome {
                reward: 0.0,
                next: vec![(cell, 1.0)],
            };
        }
        Outcome {
            reward: if to == goal { 1.0 - SLIP } else { 0.0 },
            next: vec![(to, 1.0 - SLIP), (cell, SLIP)],
        }
    })
}

/// The shortest way to a cell from everywhere, by breadth first search.
fn towards(cells: &[(usize, usize)], place: usize) -> Course {
    let mut actions = vec![0; cells.len()];
    let mut seen = vec![false; cells.len()];
    let mut queue = vec![place];
    seen[place] = true;
    let mut index = 0;
    while index < queue.len() {
        let here = queue[index];
        index += 1;
        for cell in 0..cells.len() {
            let way = (0..4).find(|way| moved(cells, cell, *way) == here);
            if let Some(way) = way.filter(|_| !seen[cell]) {
                actions[cell] = way;
                seen[cell] = true;
                queue.push(cell);
            }
        }
    }
    let stops = (0..cells.len()).map(|cell| cell == place).collect();
    Course::Towards {
        actions,
        stops,
        n_steps_max: WALK_MAX,
    }
}
