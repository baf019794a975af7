//! MBPP's training part (ids 511 to 974) without what MBPP+ and MBPP's test split ask.
//!
//! MBPP+ is made of MBPP's own tasks, many of them from the training part: who trains on all of it
//! has seen the test. Dropped are its ids, and tasks that repeat one of these or of the test split:
//! the same program, an assert in common, or nearly the same words.

use std::collections::BTreeSet;
use std::path::Path;

use crate::mbpp::{self, Task};
use crate::problem::{Problem, docstring};
use crate::records::DataError;
use crate::rlvr::split::{are_twins, words};

/// The ids of validation and training split.
const PART: std::ops::RangeInclusive<u32> = 511..=974;

/// MBPP+'s ids (v0.2.0) in the training part.
#[rustfmt::skip]
pub const OF_MBPP_PLUS: &[u32] = &[
    554, 555, 556, 557, 558, 559, 560, 562, 563, 564, 565, 566, 567, 568, 569, 572, 573, 576, 577,
    578, 579, 580, 581, 583, 585, 586, 587, 588, 589, 590, 591, 592, 593, 594, 596, 597, 598, 599,
    600, 602, 603, 604, 605, 606, 607, 608, 610, 611, 612, 614, 615, 616, 618, 619, 620, 622, 623,
    624, 626, 628, 629, 630, 631, 632, 633, 635, 637, 638, 639, 641, 643, 644, 720, 721, 722, 723,
    724, 725, 726, 728, 730, 731, 732, 733, 734, 735, 736, 737, 739, 740, 741, 742, 743, 744, 745,
    748, 749, 750, 751, 752, 753, 754, 755, 757, 758, 759, 760, 762, 763, 764, 765, 766, 767, 769,
    770, 771, 772, 773, 775, 777, 778, 780, 781, 782, 784, 785, 786, 787, 788, 790, 791, 792, 793,
    794, 796, 797, 798, 799, 800, 801, 803, 804, 805, 806, 807, 808, 809,
];

/// Twins of tasks that MBPP+ words anew (592 and 427), which MBPP's own words do not show.
const TWINS_OF_REWORDED: [u32; 2] = [905, 928];

/// What was left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// MBPP+ asks it.
    pub n_of_mbpp_plus: usize,
    /// It repeats what MBPP+ or the test split asks.
    pub n_twins: usize,
}

/// Reads `mbpp.jsonl`: problems to train on, what was dropped, and the checksum of the file.
///
/// # Errors
/// The file cannot be read, or a record lacks a key.
pub fn read(path: &Path) -> Result<(Vec<Problem>, Dropped, String), DataError> {
    let (tasks, checksum) = mbpp::read(path)?;
    let (kept, dropped) = select(&tasks);
    let problems = kept.into_iter().map(problem).collect();
    Ok((problems, dropped, checksum))
}

/// The tasks to train on.
pub fn select(tasks: &[Task]) -> (Vec<&Task>, Dropped) {
    let is_tested = |task: &&Task| task.is_of_test_split() || is_of_mbpp_plus(task);
    let tested = tasks.iter().filter(is_tested);
    let tested: Vec<Fingerprint> = tested.map(Fingerprint::of).collect();
    let mut dropped = Dropped::default();
    let mut kept = Vec::new();
    for task in tasks.iter().filter(|task| PART.contains(&task.number)) {
        let own = Fingerprint::of(task);
        if is_of_mbpp_plus(task) {
            dropped.n_of_mbpp_plus += 1;
        } else if TWINS_OF_REWORDED.contains(&task.number)
            || tested.iter().any(|other| own.repeats(other))
        {
            dropped.n_twins += 1;
        } else {
            kept.push(task);
        }
    }
    (kept, dropped)
}

fn is_of_mbpp_plus(task: &Task) -> bool {
    OF_MBPP_PLUS.contains(&task.number)
}

/// What two tasks are compared by.
struct Fingerprint {
    words: BTreeSet<String>,
    code: String,
    asserts: BTreeSet<String>,
}

impl Fingerprint {
    fn of(task: &Task) -> Self {
        let dense = |text: &String| text.to_lowercase().split_whitespace().collect::<String>();
        Self {
            words: words(&task.text),
            code: dense(&task.code),
            asserts: task.tests.iter().map(dense).collect(),
        }
    }

    fn repeats(&self, other: &Self) -> bool {
        self.code == other.code
            || self.asserts.intersection(&other.asserts).next().is_some()
            || are_twins(&self.words, &other.words)
    }
}

fn problem(task: &Task) -> Problem {
    let first = task.tests.first().map_or("", String::as_str);
    Problem {
        prompt: docstring(&format!("{}\n{first}", task.text.trim())),
        canonical_solution: task.code.replace('\r', ""),
        ..task.problem()
    }
}
