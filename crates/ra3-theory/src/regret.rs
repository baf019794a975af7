//! The regret of post-training and its two parts (docs/theory.md):
//!
//! `V* − V^π = (V* − V*_Ẑ) + (V*_Ẑ − V^π)`: regret = pruning error + RL error,
//!
//! all at the start state of one task. `V*` is over primitive actions and given options together,
//! `π` chooses among the kept options `Ẑ`. Both parts are never negative: that is a theorem.

/// The three values of a task at its start state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regret {
    /// `V*`: the best that any policy does.
    pub best: f64,
    /// `V*_Ẑ`: the best with the options kept.
    pub best_kept: f64,
    /// `V^π`.
    pub reached: f64,
}

impl Regret {
    /// `V* − V^π`.
    pub fn total(&self) -> f64 {
        self.best - self.reached
    }

    /// `V* − V*_Ẑ`.
    pub fn pruning_error(&self) -> f64 {
        self.best - self.best_kept
    }

    /// `V*_Ẑ − V^π`.
    pub fn rl_error(&self) -> f64 {
        self.best_kept - self.reached
    }
}
