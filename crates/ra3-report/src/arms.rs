//! The models of a run in their order, how they are told apart, and what was measured of each.

use ra3_page::{Point, Series, Stroke};
use ra3_records::ledger::{HeldOutRecord, Record, ScoreRecord, StageRecord};

/// Colours that the page's style has for models.
const N_COLOURS: usize = 8;

/// The models that are compared, by name: those that the first line names, or where it is missing
/// those that were measured.
pub(crate) fn arms(ledger: &[Record]) -> Vec<&str> {
    let named = ledger.iter().find_map(|record| match record {
        Record::Run(run) => Some(run.arms.iter().map(|arm| arm.name.as_str()).collect()),
        _ => None,
    });
    named.unwrap_or_else(|| {
        let mut seen = Vec::new();
        for record in ledger {
            let name = match record {
                Record::HeldOut(found) => &found.arm,
                Record::Score(score) => &score.arm,
                Record::Update(update) => &update.stage,
                _ => continue,
            };
            let arm = name.strip_prefix("rlvr-").unwrap_or(name);
            if !seen.contains(&arm) {
                seen.push(arm);
            }
        }
        seen
    })
}

/// The class and the custom property of the page's style that have a model's colour.
pub(super) fn colour(arm: &str, arms: &[&str]) -> String {
    let arm = arm.strip_prefix("rlvr-").unwrap_or(arm);
    let place = arms.iter().position(|other| *other == arm);
    place.map_or_else(
        || "soft".to_owned(),
        |place| format!("arm{}", place % N_COLOURS),
    )
}

/// A line of a model, in its own colour and stroke.
pub(crate) fn series(arm: &str, arms: &[&str], points: Vec<Point>) -> Series {
    let place = arms.iter().position(|other| *other == arm);
    Series {
        name: arm.to_owned(),
        colour: colour(arm, arms),
        stroke: match place.unwrap_or_default() % 3 {
            0 => Stroke::Solid,
            1 => Stroke::Dashed,
            _ => Stroke::Dotted,
        },
        is_reference: false,
        points,
    }
}

/// The scores of a finished model: one for each benchmark and way of writing.
pub fn scores<'a>(model: &'a str, ledger: &'a [Record]) -> impl Iterator<Item = &'a ScoreRecord> {
    all_scores(ledger).filter(move |score| score.arm == model && is_finished(score))
}

/// Those of plain sampling: what any server gets.
pub(crate) fn plain_scores<'a>(
    model: &'a str,
    ledger: &'a [Record],
) -> impl Iterator<Item = &'a ScoreRecord> {
    scores(model, ledger).filter(|score| score.decision == "plain")
}

/// The scores that RLVR takes on its way.
pub(super) fn rlvr_scores<'a>(arm: &str, ledger: &'a [Record]) -> Vec<&'a ScoreRecord> {
    let stage = format!("rlvr-{arm}");
    all_scores(ledger)
        .filter(|score| score.stage == stage)
        .collect()
}

/// False for a score that RLVR takes on its way.
pub(super) fn is_finished(score: &ScoreRecord) -> bool {
    !score.stage.starts_with("rlvr-")
}

/// All scores.
pub(super) fn all_scores(ledger: &[Record]) -> impl Iterator<Item = &ScoreRecord> {
    ledger.iter().filter_map(|record| match record {
        Record::Score(score) => Some(score),
        _ => None,
    })
}

/// How a model was measured on held-out documents.
pub(crate) fn held_out<'a>(arm: &str, ledger: &'a [Record]) -> Option<&'a HeldOutRecord> {
    ledger.iter().find_map(|record| match record {
        Record::HeldOut(found) if found.arm == arm => Some(found),
        _ => None,
    })
}

/// What a stage has spent.
pub(super) fn spent<'a>(stage: &str, ledger: &'a [Record]) -> Option<&'a StageRecord> {
    ledger.iter().find_map(|record| match record {
        Record::Stage(found) if found.stage == stage => Some(found),
        _ => None,
    })
}
