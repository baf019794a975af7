//! Curves of training: what each stage recorded, update by update.

use ra3_page::{Figure, Point, Series, Span};
use ra3_records::ledger::{Record, ScoreRecord, UpdateRecord};

use super::arms::{arms, rlvr_scores, series};

/// Points that a curve is thinned to: more cannot be told apart at its width.
const N_POINTS_MAX: usize = 60;

/// The figures of mid-training.
pub(super) fn training(ledger: &[Record]) -> String {
    let corpus_tokens = |update: &UpdateRecord| update.n_corpus_tokens as f64;
    let mut html = Figure {
        title: "Loss".to_owned(),
        note: "by budget; RA3 predicts decisions and rationales too: not comparable in level"
            .to_owned(),
        x: "corpus tokens".into(),
        y: "nats a token".into(),
        series: lines(ledger, |arm| {
            without_bands(&curve(ledger, arm, "loss", &corpus_tokens))
        }),
        ..Figure::default()
    }
    .html();
    for arm in arms(ledger) {
        for (name, title, y_label) in FIGURES {
            html.push_str(&by_update(ledger, arm, name, title, y_label));
        }
    }
    html
}

/// What is drawn of a stage: name in the ledger, title, unit.
const FIGURES: [(&str, &str, &str); 8] = [
    ("loss", "loss", "nats a token"),
    ("mean_return", "return of the E-step", "nats a rollout"),
    ("think_rate", "think rate", "share of lines"),
    ("persistence", "persistence of latents", "lines a latent"),
    ("rationale_tokens", "length of rationales", "tokens"),
    (
        "rationale_nats",
        "entropy of rationales, by draws",
        "nats a rationale",
    ),
    (
        "mean_gain",
        "gain of a think over an act in its group",
        "nats",
    ),
    ("logprob_gap", GAP_TITLE, "nats a token"),
];

/// How far the pass that trains is from the one that drew.
const GAP_TITLE: &str = "drawn tokens: training's log-probability from drawing's";

fn by_update(ledger: &[Record], arm: &str, name: &str, title: &str, y_label: &str) -> String {
    let position = |update: &UpdateRecord| update.position as f64;
    let mut spans = phases(ledger, arm);
    let note = if spans.len() > 1 {
        "shaded: cold start grey, E-step blue, M-step green"
    } else {
        spans.clear();
        ""
    };
    let points = curve(ledger, arm, name, &position);
    Figure {
        title: format!("{arm}: {title}"),
        note: note.to_owned(),
        x: "update".into(),
        y: y_label.into(),
        series: vec![series(arm, &arms(ledger), points)],
        spans,
        ..Figure::default()
    }
    .html()
}

/// The figures of RLVR.
pub(super) fn rlvr(ledger: &[Record]) -> String {
    let held_out = |title: &str, x_label: &str, x: &dyn Fn(&ScoreRecord) -> f64| {
        Figure {
            title: title.to_owned(),
            note: "bands: 95 % bootstrap over problems".to_owned(),
            x: x_label.into(),
            y: "held-out pass@1, %".into(),
            series: lines(ledger, |arm| score_points(arm, ledger, x)),
            ..Figure::default()
        }
        .html()
    };
    let reward = |title: &str, x_label: &str, x: &dyn Fn(&UpdateRecord) -> f64| {
        Figure {
            title: title.to_owned(),
            x: x_label.into(),
            y: "mean reward".into(),
            series: lines(ledger, |arm| {
                curve(ledger, &format!("rlvr-{arm}"), "reward", x)
            }),
            ..Figure::default()
        }
        .html()
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
        Figure {
            title: GAP_TITLE.to_owned(),
            x: "update".into(),
            y: "nats a token".into(),
            series: lines(ledger, |arm| {
                curve(ledger, &format!("rlvr-{arm}"), "logprob_gap", &|u| {
                    u.position as f64
                })
            }),
            ..Figure::default()
        }
        .html(),
    ]
    .concat()
}

/// A line for every arm that has points.
fn lines(ledger: &[Record], points: impl Fn(&str) -> Vec<Point>) -> Vec<Series> {
    let arms = arms(ledger);
    let all = arms.iter().map(|arm| series(arm, &arms, points(arm)));
    all.filter(|line| !line.points.is_empty()).collect()
}

/// The same points; the bands of several noisy curves would hide each other.
fn without_bands(points: &[Point]) -> Vec<Point> {
    points.iter().map(|p| Point::new(p.x, p.y)).collect()
}

fn score_points(arm: &str, ledger: &[Record], x: &dyn Fn(&ScoreRecord) -> f64) -> Vec<Point> {
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
    rlvr_scores(arm, ledger).iter().filter_map(point).collect()
}

/// One figure of a stage, with a gap between the uninterrupted stretches of one phase each.
fn curve(
    ledger: &[Record],
    stage: &str,
    figure: &str,
    x: &dyn Fn(&UpdateRecord) -> f64,
) -> Vec<Point> {
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
    let mut points: Vec<Point> = Vec::new();
    for piece in pieces {
        if let (Some(before), Some(after)) = (points.last(), piece.first()) {
            points.push(Point::gap(f64::midpoint(before.x, after.x)));
        }
        points.extend(thinned(&piece, share(piece.len())));
    }
    points
}

/// At most `n_max` points: neighbours are averaged, and the interval is then the middle 80 % of
/// them, so that a noisy curve of thousands of updates can be read.
fn thinned(points: &[Point], n_max: usize) -> Vec<Point> {
    if points.len() <= n_max {
        return points.to_vec();
    }
    // One number that is none must not take its neighbours with it.
    let points: Vec<Point> = points.iter().copied().filter(Point::is_finite).collect();
    let per_chunk = points.len().div_ceil(n_max);
    points.chunks(per_chunk.max(1)).map(middle).collect()
}

fn middle(points: &[Point]) -> Point {
    let n = points.len() as f64;
    let mut heights: Vec<f64> = points.iter().map(|point| point.y).collect();
    heights.sort_by(f64::total_cmp);
    let quantile = |share: f64| heights[((heights.len() - 1) as f64 * share).round() as usize];
    let y = heights.iter().sum::<f64>() / n;
    Point {
        x: points.iter().map(|point| point.x).sum::<f64>() / n,
        y,
        // A skewed chunk can have its mean outside its middle.
        low: quantile(0.1).min(y),
        high: quantile(0.9).max(y),
    }
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
        let phase = update.phase.replace('_', " ");
        match spans.last_mut() {
            Some(span) if span.name == phase => span.to = position,
            Some(_) | None => spans.push(Span {
                colour: match phase.as_str() {
                    "cold start" => Some("soft"),
                    "e step" => Some("arm2"),
                    "m step" => Some("arm3"),
                    _ => None,
                },
                name: phase,
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

    fn point((x, y): (f64, f64)) -> Point {
        Point::new(x, y)
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
        let found = curve(&ledger, "ra3", "loss", &|update| {
            update.n_corpus_tokens as f64
        });
        let (ends, gap) = ([found[0], found[1], found[3]], found[2]);
        assert_eq!(ends, [(0.0, 0.0), (100.0, 1.0), (400.0, 4.0)].map(point));
        assert!(gap.x == 250.0 && !gap.is_finite() && found.len() == 4);
        assert!(curve(&ledger, "ntp", "loss", &|_| 0.0).is_empty());
    }

    #[test]
    fn phases_follow_each_other_without_gaps() {
        let spans = phases(&ledger(), "ra3");
        let found: Vec<(&str, f64, f64)> = spans
            .iter()
            .map(|span| (span.name.as_str(), span.from, span.to))
            .collect();
        let expected = [
            ("cold start", 0.0, 2.0),
            ("e step", 2.0, 4.0),
            ("m step", 4.0, 4.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn long_curves_are_thinned() {
        let ledger: Vec<Record> = (0..1000).map(|i| update(i, "ntp", "loss")).collect();
        let found = curve(&ledger, "ra3", "loss", &|update| update.position as f64);
        assert!((N_POINTS_MAX - 10..=N_POINTS_MAX).contains(&found.len()));
        assert!(found.iter().all(Point::is_finite), "one piece");
        assert_eq!(training(&ledger).matches("class=\"chart\"").count(), 2);
    }

    #[test]
    fn thinning_keeps_means_and_the_middle() {
        let points: Vec<Point> = (0..22)
            .map(|i| Point::new(f64::from(i), f64::from(i % 11)))
            .collect();
        let thin = thinned(&points, 2);
        let [y, low, high] = [5.0, 1.0, 9.0];
        let expected = [5.0, 16.0].map(|x| Point { x, y, low, high });
        assert_eq!(thin, expected);
        assert_eq!(thinned(&points, 22), points);
    }
}
