//! Curves of training: what each stage recorded, update by update.

use super::plot::{Figure, Line, Point, Span, thinned};
use super::table::scores;
use crate::arm::Arm;
use crate::ledger::{Record, ScoreRecord, UpdateRecord};

/// Points that a curve is thinned to: more cannot be told apart at its width.
const N_POINTS_MAX: usize = 60;

/// The figures of mid-training.
pub(super) fn training(ledger: &[Record]) -> String {
    let mut html = Figure {
        title: "Loss",
        note: "by budget; RA3 predicts decisions and rationales too: not comparable in level",
        x_label: "corpus tokens",
        y_label: "nats a token",
        lines: arms(|arm| {
            let x = |update: &UpdateRecord| update.n_corpus_tokens as f64;
            let pieces = pieces(ledger, arm, "loss", &x);
            pieces.into_iter().map(without_bands).collect()
        }),
        ..Figure::default()
    }
    .svg();
    for arm in Arm::ALL {
        for (name, title, y_label) in FIGURES {
            html.push_str(&by_update(ledger, arm, name, title, y_label));
        }
    }
    html
}

/// What is drawn of a stage: name in the ledger, title, unit.
const FIGURES: [(&str, &str, &str); 6] = [
    ("loss", "loss", "nats a token"),
    ("mean_return", "return of the E-step", "nats a rollout"),
    ("think_rate", "think rate", "share of lines"),
    ("persistence", "persistence of latents", "lines a latent"),
    ("rationale_tokens", "length of rationales", "tokens"),
    (
        "mean_gain",
        "gain of a think over an act in its group",
        "nats",
    ),
];

fn by_update(ledger: &[Record], arm: Arm, name: &str, title: &str, y_label: &str) -> String {
    let position = |update: &UpdateRecord| update.position as f64;
    let spans = if arm.is_latent() {
        phases(ledger, arm.name())
    } else {
        Vec::new()
    };
    let line = Line {
        name: String::new(),
        class: arm.name().to_owned(),
        pieces: pieces(ledger, arm.name(), name, &position),
    };
    Figure {
        title: &format!("{arm}: {title}"),
        note: if arm.is_latent() {
            "shaded: cold start grey, E-step blue, M-step green"
        } else {
            ""
        },
        x_label: "update",
        y_label,
        lines: vec![line],
        spans,
        ..Figure::default()
    }
    .svg()
}

/// The figures of RLVR.
pub(super) fn rlvr(ledger: &[Record]) -> String {
    let held_out = |title, x_label, x: &dyn Fn(&ScoreRecord) -> f64| {
        Figure {
            title,
            note: "bands: 95 % bootstrap over problems",
            x_label,
            y_label: "held-out pass@1, %",
            lines: arms(|arm| vec![score_points(&format!("rlvr-{arm}"), ledger, x)]),
            ..Figure::default()
        }
        .svg()
    };
    let reward = |title, x_label, x: &dyn Fn(&UpdateRecord) -> f64| {
        Figure {
            title,
            x_label,
            y_label: "mean reward",
            lines: arms(|arm| pieces(ledger, &format!("rlvr-{arm}"), "reward", x)),
            ..Figure::default()
        }
        .svg()
    };
    [
        held_out("Held-out pass@1 against updates", "update", &|s| {
            s.position as f64
        }),
        held_out(
            "Held-out pass@1 against sampled tokens",
            "sampled tokens",
            &|s| s.n_tokens_sampled as f64,
        ),
        reward("Reward on training problems", "update", &|u| {
            u.position as f64
        }),
        reward(
            "Reward on training problems against sampled tokens",
            "sampled tokens",
            &|u| u.n_tokens_sampled as f64,
        ),
    ]
    .concat()
}

/// A line for every arm that has points.
fn arms(pieces: impl Fn(&str) -> Vec<Vec<Point>>) -> Vec<Line> {
    let lines = Arm::ALL.iter().map(|arm| Line {
        name: arm.name().to_owned(),
        class: arm.name().to_owned(),
        pieces: pieces(arm.name()),
    });
    lines
        .filter(|line| line.pieces.iter().any(|piece| !piece.is_empty()))
        .collect()
}

/// The same points; the bands of several noisy curves would hide each other.
fn without_bands(points: Vec<Point>) -> Vec<Point> {
    let bare = points.into_iter().map(|point| Point::new(point.x, point.y));
    bare.collect()
}

fn score_points(stage: &str, ledger: &[Record], x: &dyn Fn(&ScoreRecord) -> f64) -> Vec<Point> {
    let point = |score: &&ScoreRecord| {
        let pass = score.pass_at.get("1")?;
        let [y, low, high] = [pass.mean, pass.low, pass.high].map(|v| 100.0 * v);
        Some(Point {
            x: x(score),
            y,
            low,
            high,
        })
    };
    scores(stage, ledger).iter().filter_map(point).collect()
}

/// One figure of a stage, a piece for each uninterrupted stretch of one phase.
fn pieces(
    ledger: &[Record],
    stage: &str,
    figure: &str,
    x: &dyn Fn(&UpdateRecord) -> f64,
) -> Vec<Vec<Point>> {
    let mut pieces: Vec<Vec<Point>> = Vec::new();
    let mut phase = "";
    for update in updates(ledger, stage) {
        let Some(value) = update.figures.get(figure) else {
            phase = "";
            continue;
        };
        if phase != update.phase || pieces.is_empty() {
            pieces.push(Vec::new());
        }
        phase = &update.phase;
        let last = pieces.last_mut().expect("a piece was just begun");
        last.push(Point::new(x(update), *value));
    }
    let n_all: usize = pieces.iter().map(Vec::len).sum();
    let share = |n: usize| (n * N_POINTS_MAX).div_ceil(n_all.max(N_POINTS_MAX));
    pieces
        .iter()
        .map(|piece| thinned(piece, share(piece.len())))
        .collect()
}

fn updates<'a>(ledger: &'a [Record], stage: &str) -> impl Iterator<Item = &'a UpdateRecord> {
    ledger.iter().filter_map(move |record| match record {
        Record::Update(update) if update.stage == stage => Some(update),
        _ => None,
    })
}

/// Stretches of one phase each.
fn phases(ledger: &[Record], stage: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for update in updates(ledger, stage) {
        let position = update.position as f64;
        match spans.last_mut() {
            Some(span) if span.name == update.phase => span.to = position,
            Some(_) | None => spans.push(Span {
                name: update.phase.clone(),
                from: position,
                to: position,
            }),
        }
    }
    // A phase lasts until the next one begins.
    for i in 1..spans.len() {
        spans[i - 1].to = spans[i].from;
    }
    spans
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn update(position: u64, phase: &str, figure: &str) -> Record {
        Record::Update(UpdateRecord {
            stage: "ra3".to_owned(),
            phase: phase.to_owned(),
            position,
            figures: BTreeMap::from([(figure.to_owned(), position as f64)]),
            n_corpus_tokens: 100 * position,
            n_tokens_sampled: 0,
            flops: 0.0,
        })
    }

    fn ledger() -> Vec<Record> {
        vec![
            update(0, "cold_start", "loss"),
            update(1, "cold_start", "loss"),
            update(2, "e_step", "mean_return"),
            update(3, "e_step", "mean_return"),
            update(4, "m_step", "loss"),
        ]
    }

    #[test]
    fn a_curve_is_interrupted_where_another_phase_lies_between() {
        let ledger = ledger();
        let found = pieces(&ledger, "ra3", "loss", &|update| {
            update.n_corpus_tokens as f64
        });
        let expected = [
            vec![Point::new(0.0, 0.0), Point::new(100.0, 1.0)],
            vec![Point::new(400.0, 4.0)],
        ];
        assert_eq!(found, expected);
        assert!(pieces(&ledger, "ntp", "loss", &|_| 0.0).is_empty());
    }

    #[test]
    fn phases_follow_each_other_without_gaps() {
        let spans = phases(&ledger(), "ra3");
        let found: Vec<(&str, f64, f64)> = spans
            .iter()
            .map(|span| (span.name.as_str(), span.from, span.to))
            .collect();
        let expected = [
            ("cold_start", 0.0, 2.0),
            ("e_step", 2.0, 4.0),
            ("m_step", 4.0, 4.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn long_curves_are_thinned() {
        let ledger: Vec<Record> = (0..1000).map(|i| update(i, "ntp", "loss")).collect();
        let found = pieces(&ledger, "ra3", "loss", &|update| update.position as f64);
        assert_eq!(found.len(), 1);
        assert!(
            (N_POINTS_MAX - 10..=N_POINTS_MAX).contains(&found[0].len()),
            "{}",
            found[0].len()
        );
        assert!(training(&ledger).matches("<polyline").count() == 2);
    }
}
