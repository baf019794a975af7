//! What `ra3::policy` promises, as checks that every policy has to pass.
//!
//! A policy under test is a [`Subject`]: a function that makes it, and what is known of it. A check
//! asks a fresh one, compares what it says with what the seam's documentation says, and panics with
//! the difference. Expected values come from the policy's own scores of known tokens, so no check
//! knows what the policy computes; its gradients are its own tests' matter.
//!
//! This crate is for tests: failures are panics.

mod drafts;
mod draws;
mod feeds;
mod refusals;
mod scores;
mod script;
mod training;

use std::sync::mpsc;
use std::time::Duration;

use ra3::policy::{Policy, TokenId};

/// A policy under test.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Makes it; the same one each time.
    pub make: fn() -> Box<dyn Policy>,
    /// Its vocabulary, of at least twelve tokens.
    pub n_vocabulary: usize,
    /// Its context, of at least twenty tokens.
    pub n_tokens_max: usize,
    /// Two tokens that are equally likely after any history.
    pub twins: [TokenId; 2],
    /// What its scores and its losses may differ by, in nats: rounding.
    pub tolerance: f64,
    /// False if its memory is so small that tokens are computed more than once.
    pub computes_once: bool,
}

/// A check: its name, and what panics.
pub type Check = (&'static str, fn(&Subject));

/// All checks.
pub const CHECKS: &[Check] = &[
    ("draws have the shares of their rule", draws::shares),
    ("draws of a row are independent", draws::second_draws),
    ("rows draw differently, seeds too", draws::rows_differ),
    ("rows do not depend on neighbours", draws::neighbours),
    ("reported log-probabilities", draws::reported),
    ("greedy draws and their ties", draws::greedy),
    ("stops", draws::stops),
    ("the end of the context", draws::context_end),
    ("feeds in pieces", feeds::pieces),
    ("drafts", drafts::change_nothing),
    ("work", feeds::work),
    ("scores are shares", scores::shares),
    ("scores of targets alone", scores::targets),
    ("scores among choices", scores::choices),
    ("scores do not depend on neighbours", scores::neighbours),
    ("snapshots", scores::snapshots),
    ("bad moves", refusals::moves),
    ("bad examples", refusals::examples),
    ("losses are the scores", training::losses),
    ("the clipped surrogate", training::clipped),
    ("splitting, sharing and order", training::splitting),
    ("what follows the last target", training::ends),
    ("updates", training::updates),
];

/// A check that is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(100);

/// Makes all checks of a policy.
///
/// # Panics
/// The policy breaks a promise, or does not answer.
pub fn check(subject: Subject) {
    for (name, check) in CHECKS {
        let (done, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            check(&subject);
            // Nobody waits any more for one that was given up.
            let _ = done.send(());
        });
        match ended.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name}: no answer, it hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                assert!(thread.join().is_ok(), "{name}: see above");
            }
        }
    }
}
