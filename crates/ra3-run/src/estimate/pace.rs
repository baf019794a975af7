//! How long a run may still take: the plan's estimate, corrected by how long its stages took.

use std::time::Duration;

use super::StageEstimate;

/// The estimates of a run's stages, and how those that ran compare.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Seconds of every stage, as they were estimated.
    estimates: Vec<f64>,
    /// Of the stages that ran: as it was estimated, and as it was.
    estimated: f64,
    taken: f64,
}

impl Pace {
    /// Before the first stage.
    pub(crate) fn new(stages: &[StageEstimate]) -> Self {
        Self {
            estimates: stages.iter().map(|stage| stage.seconds).collect(),
            estimated: 0.0,
            taken: 0.0,
        }
    }

    /// A stage ran whole.
    pub(crate) fn took(&mut self, place: usize, time: Duration) {
        if self.estimates[place] > 0.0 {
            self.estimated += self.estimates[place];
            self.taken += time.as_secs_f64();
        }
    }

    /// Seconds from a stage on, if each of them runs; `None` where no length is known.
    pub(crate) fn seconds_from(&self, place: usize) -> Option<f64> {
        let left: f64 = self.estimates[place..].iter().sum();
        let factor = if self.estimated > 0.0 {
            self.taken / self.estimated
        } else {
            1.0
        };
        (left > 0.0).then_some(left * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_how_long_stages_took() {
        let stage = |seconds| StageEstimate {
            seconds,
            ..StageEstimate::default()
        };
        let mut pace = Pace::new(&[stage(0.0), stage(10.0), stage(20.0), stage(0.0)]);
        assert_eq!(pace.seconds_from(0), Some(30.0));
        // One that nobody had an idea of says nothing of the others.
        pace.took(0, Duration::from_secs(100));
        pace.took(1, Duration::from_secs(5));
        assert_eq!(pace.seconds_from(2), Some(10.0));
        assert_eq!(pace.seconds_from(3), None);
    }
}
