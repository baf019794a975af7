//! What the comments of documents are worth: the true rationale, another program's, or nothing.
//!
//! In code that people keep, comments are left behind when the line below them changes, and many
//! say nothing. Neither changes a line of the program. Problems know nothing of this: their plans
//! are the true ones.

use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::sketch::Sketch;

/// Comments that say nothing of the line below them.
const VAGUE: [&str; 6] = [
    "work it out",
    "as it was asked",
    "do what is said above",
    "the value that we need",
    "this is the step that counts",
    "see the description",
];

/// How many comments there are, and what they are worth; each share is of `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommentShares {
    /// Of the documents, those written with comments.
    pub documents: f64,
    /// Of their rationales, those that stand as another program of the same family has them.
    pub stale: f64,
    /// Of the others, those that say nothing.
    pub vague: f64,
    /// Of the boilerplate lines of these documents, those that get a comment of no use.
    pub idle: f64,
}

/// The sketch with some of its rationales stale or vague; `another` draws a program of the same
/// family and length.
pub(crate) fn worn(
    mut sketch: Sketch,
    shares: &CommentShares,
    draw: &mut Draw,
    another: impl Fn(&mut Draw) -> Sketch,
) -> Sketch {
    let rationales = sketch.lines.iter_mut().map(|line| &mut line.rationale);
    for rationale in rationales.flatten() {
        if draw.chance(shares.stale) {
            let mut lines = another(draw).lines.into_iter();
            *rationale = lines
                .find_map(|line| line.rationale)
                .expect("programs of a family that has rationales have one each");
        } else if draw.chance(shares.vague) {
            draw.pick(&VAGUE).clone_into(rationale);
        }
    }
    sketch
}
