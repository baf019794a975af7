//! Arms against each other: differences of pass@1 with intervals that are paired over problems. It
//! sets side by side only scores of the same problems, samples and temperature.

use ra3::seed::Seed;
use ra3_records::ledger::{Interval, Record, ScoreRecord};
use ra3_statistics::pass_at_k::difference;
use serde::Serialize;

use super::arms::{arms, plain_scores};

/// How much higher one arm's pass@1 is than another's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The problems.
    pub benchmark: String,
    /// The arm.
    pub arm: String,
    /// The arm that it is compared with.
    pub against: String,
    /// True for the models after RLVR.
    pub after_rlvr: bool,
    /// The difference, with its 95 % interval.
    pub pass_at_1: Interval,
}

impl Difference {
    /// `ra3 − ntp`, `after RLVR`, `4.2 [1.0, 7.3]`.
    pub(super) fn cells(&self) -> [String; 3] {
        let Interval { mean, low, high } = self.pass_at_1;
        let [mean, low, high] = [mean, low, high].map(|share| 100.0 * share);
        let when = if self.after_rlvr {
            "after RLVR"
        } else {
            "before RLVR"
        };
        [
            format!("{} − {}", self.arm, self.against),
            when.to_owned(),
            format!("{mean:+.1} [{low:+.1}, {high:+.1}]"),
        ]
    }
}

/// Every later arm against every earlier one, before RLVR and after it, on each benchmark.
pub(super) fn differences(ledger: &[Record]) -> Vec<Difference> {
    let arms = arms(ledger);
    let mut found = Vec::new();
    for after_rlvr in [false, true] {
        let model = |arm: &str| {
            if after_rlvr {
                format!("rlvr-{arm}")
            } else {
                arm.to_owned()
            }
        };
        for (index, arm) in arms.iter().enumerate() {
            for against in &arms[..index] {
                let (one, other) = (model(arm), model(against));
                for score in plain_scores(&one, ledger) {
                    let mut others = plain_scores(&other, ledger);
                    let alike = others.find_map(|other| paired(score, other));
                    found.extend(alike.map(|pass_at_1| Difference {
                        benchmark: score.benchmark.clone(),
                        arm: (*arm).to_owned(),
                        against: (*against).to_owned(),
                        after_rlvr,
                        pass_at_1,
                    }));
                }
            }
        }
    }
    found
}

/// `None` where the scores were not taken alike.
fn paired(one: &ScoreRecord, other: &ScoreRecord) -> Option<Interval> {
    let alike = |score: &ScoreRecord| {
        let how = (score.n_samples, score.temperature.to_bits());
        (score.benchmark.clone(), score.n_right.len(), how)
    };
    if alike(one) != alike(other) || one.n_right.is_empty() {
        return None;
    }
    let pass = |score: &ScoreRecord| -> Vec<f64> {
        let n = score.n_samples.max(1) as f64;
        score
            .n_right
            .iter()
            .map(|right| *right as f64 / n)
            .collect()
    };
    let seed = Seed::root(0).child("bootstrap");
    Some(difference(&pass(one), &pass(other), seed).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(arm: &str, n_right: &[u64], temperature: f64) -> Record {
        Record::Score(ScoreRecord {
            stage: format!("evaluate-{arm}-testbed"),
            arm: arm.to_owned(),
            decision: "plain".to_owned(),
            benchmark: "testbed".to_owned(),
            n_problems: n_right.len() as u64,
            n_samples: 2,
            temperature,
            n_right: n_right.to_vec(),
            ..ScoreRecord::default()
        })
    }

    #[test]
    fn arms_are_compared_problem_by_problem() {
        let ledger = [
            score("base", &[0, 1, 2, 0], 0.8),
            score("ntp", &[0, 1, 2, 0], 1.0),
            score("ra3", &[1, 2, 2, 1], 0.8),
            score("rlvr-ra3", &[2, 2, 2, 2], 1.0),
            score("rlvr-ntp", &[2, 2, 2, 0], 1.0),
        ];
        let found = differences(&ledger);
        let names: Vec<[String; 3]> = found.iter().map(Difference::cells).collect();
        // Scores at another temperature are never set side by side.
        assert_eq!(found.len(), 2, "{names:?}");
        assert_eq!(names[0][..2], ["ra3 − base", "before RLVR"]);
        assert_eq!(found[0].pass_at_1.mean, 0.375);
        // Half a point on three of four problems: no draw of problems comes below 0.
        assert!(found[0].pass_at_1.low >= 0.0 && found[0].pass_at_1.high == 0.5);
        assert_eq!(names[1][..2], ["ra3 − ntp", "after RLVR"]);
        assert_eq!(found[1].pass_at_1.mean, 0.25);
    }
}
