//! A stream of uniform draws from one seed: what a simulation consumes one number at a time.
//! It knows no distribution but the uniform one and what is cut out of it.

use ra3::seed::Seed;

/// The draws of one simulation, in order.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: Seed,
    n_drawn: u64,
}

impl Draws {
    /// The stream of a seed.
    pub fn new(seed: Seed) -> Self {
        Self { seed, n_drawn: 0 }
    }

    /// A number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        self.n_drawn += 1;
        self.seed.nth(self.n_drawn).uniform()
    }

    /// An index below `n`; `n > 0`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// An index drawn in proportion to weights, which are not negative and not all 0.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        // Rounding alone can leave something over.
        weights
            .iter()
            .rposition(|weight| *weight > 0.0)
            .unwrap_or(0)
    }
}
