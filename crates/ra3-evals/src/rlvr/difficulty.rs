//! A curriculum by difficulty: which problems are worth writing programs for, by how many of those
//! that were written for them were right.
//!
//! A group of programs that are all right or all wrong teaches nothing. Nothing is drawn here, and
//! nothing is graded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which problems stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Least solve rate; above 0 it leaves out what is never solved.
    pub low: f64,
    /// Greatest solve rate; below 1 it leaves out what is always solved.
    pub high: f64,
    /// Programs that a problem has before it may be left out.
    pub n_programs_min: u64,
}

/// How problems were solved so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Difficulty {
    counts: BTreeMap<String, Counts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    /// Programs that were written.
    n_programs: u64,
    /// Right ones of them, a whole number.
    right: f64,
}

impl Difficulty {
    /// Counts a visit of a problem: programs that were written and graded, and right ones of them.
    pub fn record(&mut self, task_id: &str, n_right: usize, n_written: usize) {
        assert!(n_right <= n_written, "right programs are programs");
        if n_written == 0 {
            return;
        }
        let counts = self.counts.entry(task_id.to_owned()).or_default();
        counts.n_programs += n_written as u64;
        counts.right += n_right as f64;
    }

    /// The indices of the problems that stay, in their order: those that were tried too little, and
    /// those within the band, its ends included. What is left out is tried no more and so stays
    /// out, until no problem is left: then all stay, until some are within the band again.
    pub fn staying(&self, task_ids: &[&str], band: &Band) -> Vec<usize> {
        let all = 0..task_ids.len();
        let stays = |index: &usize| self.is_within(task_ids[*index], band);
        let staying: Vec<usize> = all.clone().filter(stays).collect();
        if staying.is_empty() {
            return all.collect();
        }
        staying
    }

    fn is_within(&self, task_id: &str, band: &Band) -> bool {
        self.counts.get(task_id).is_none_or(|counts| {
            let rate = counts.right / counts.n_programs as f64;
            counts.n_programs < band.n_programs_min || (band.low..=band.high).contains(&rate)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BAND: Band = Band {
        low: 0.2,
        high: 0.8,
        n_programs_min: 4,
    };

    #[test]
    fn problems_stay_by_hand() {
        let names = ["never", "seldom", "always", "new", "few"];
        let mut difficulty = Difficulty::default();
        assert_eq!(difficulty.staying(&names, &BAND), [0, 1, 2, 3, 4]);
        for (name, n_right, n_written) in [
            ("never", 0, 4),
            ("seldom", 0, 2),
            ("seldom", 1, 3),
            ("always", 4, 4),
            ("few", 0, 3),
            ("new", 0, 0),
        ] {
            difficulty.record(name, n_right, n_written);
        }
        // The band's ends are in it.
        assert_eq!(difficulty.staying(&names, &BAND), [1, 3, 4]);
        difficulty.record("few", 0, 1);
        assert_eq!(difficulty.staying(&names, &BAND), [1, 3]);
        // Where none would stay, all do; one that is solved by halves is back alone.
        let hopeless = ["never", "always", "few"];
        assert_eq!(difficulty.staying(&hopeless, &BAND), [0, 1, 2]);
        difficulty.record("never", 4, 4);
        assert_eq!(difficulty.staying(&hopeless, &BAND), [0]);
        assert!(difficulty.staying(&[], &BAND).is_empty());
    }

    /// A problem of a few, and right and all programs of a visit.
    fn visits() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
        let visit = (0usize..4, 0usize..5, 0usize..5);
        prop::collection::vec(visit.prop_map(|(at, a, b)| (at, a.min(b), b)), 0..30)
    }

    prop_compose! {
        fn any_band()(
            low in 0.0f64..0.6,
            width in 0.0f64..0.6,
            n_programs_min in 0u64..12,
        ) -> Band {
            Band { low, high: (low + width).min(1.0), n_programs_min }
        }
    }

    const NAMES: [&str; 4] = ["a", "b", "ç", "d\n"];

    fn recorded(visits: &[(usize, usize, usize)]) -> Difficulty {
        let mut difficulty = Difficulty::default();
        for (at, n_right, n_written) in visits {
            difficulty.record(NAMES[*at], *n_right, *n_written);
        }
        difficulty
    }

    proptest! {
        #[test]
        fn something_always_stays_and_nothing_without_a_reason(
            visits in visits(),
            band in any_band(),
            n_problems in 1usize..4,
        ) {
            let staying = recorded(&visits).staying(&NAMES[..n_problems], &band);
            let is_good = |at: usize| {
                let own = visits.iter().filter(|visit| visit.0 == at);
                let (right, all) = own.fold((0, 0), |sum, own| (sum.0 + own.1, sum.1 + own.2));
                let rate = right as f64 / all as f64;
                all == 0
                    || (all as u64) < band.n_programs_min
                    || (band.low <= rate && rate <= band.high)
            };
            let good: Vec<usize> = (0..n_problems).filter(|at| is_good(*at)).collect();
            let all: Vec<usize> = (0..n_problems).collect();
            prop_assert_eq!(staying, if good.is_empty() { all } else { good });
        }

        /// What is written to a file and read goes on with the same bits.
        #[test]
        fn a_file_holds_all_of_it(visits in visits(), at in 0usize..30) {
            let (before, after) = visits.split_at(at.min(visits.len()));
            let text = serde_json::to_string(&recorded(before)).expect("it is plain");
            let mut resumed: Difficulty = serde_json::from_str(&text).expect("it was just written");
            for (at, n_right, n_written) in after {
                resumed.record(NAMES[*at], *n_right, *n_written);
            }
            prop_assert_eq!(resumed, recorded(&visits));
        }
    }
}
