//! The page: tables, curves and the viewer, in one file that needs no network.

use std::fmt::Write;

use super::plot::{Line, Point, figure};
use super::table::{Table, percent, scores};
use crate::arm::Arm;
use crate::clock::ClockRecord;
use crate::ledger::{CorpusRecord, Record, ScoreRecord, UpdateRecord};
use crate::samples::Sample;

const STYLE: &str = include_str!("style.css");
const VIEWER: &str = include_str!("viewer.js");

pub(super) fn page(
    plan: &str,
    table: &Table,
    ledger: &[Record],
    samples: &[Sample],
    clock: &[ClockRecord],
) -> String {
    let run = ledger.iter().find_map(|record| match record {
        Record::Run(run) => Some(run),
        _ => None,
    });
    let name = escape(run.map_or("run", |run| run.name.as_str()));
    let environment = run.map_or_else(String::new, |run| {
        format!(
            "ra3 {} · seed {} · {} threads · plan {}",
            escape(&run.version),
            run.seed,
            run.n_threads,
            &run.plan_hash[..12.min(run.plan_hash.len())]
        )
    });
    let mut body = format!("<header><h1>{name}</h1><p>{environment}</p></header>");
    section(&mut body, "Arms", &html_table(&table.cells()));
    section(&mut body, "RLVR", &rlvr(ledger));
    section(
        &mut body,
        "pass@1 by family and decision",
        &families(ledger),
    );
    section(&mut body, "Mid-training", &training(ledger));
    section(&mut body, "Viewer", VIEWER_HTML);
    section(&mut body, "Corpus", &corpus(ledger));
    section(&mut body, "Time", &times(clock));
    section(&mut body, "Plan", &format!("<pre>{}</pre>", escape(plan)));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{name} – ra3</title>\
         <style>{STYLE}</style></head><body><main>{body}</main><script type=\"application/json\" \
         id=\"samples\">{}</script><script>{VIEWER}</script></body></html>\n",
        embedded(samples)
    )
}

const VIEWER_HTML: &str = "<div id=\"viewer\"><nav><select id=\"kind\" aria-label=\"kind\">\
<option value=\"document\">documents</option><option value=\"program\">programs</option></select>\
<select id=\"arm\" aria-label=\"arm\"></select><select id=\"verdict\" aria-label=\"verdict\">\
</select><button id=\"previous\">← previous</button><span id=\"place\"></span>\
<button id=\"next\">next →</button></nav><div id=\"shown\"></div></div>";

fn section(body: &mut String, title: &str, content: &str) {
    let content = if content.is_empty() {
        "<p class=\"none\">Not in this run.</p>"
    } else {
        content
    };
    let _ = write!(body, "<section><h2>{title}</h2>{content}</section>");
}

/// Text as HTML text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// JSON that cannot end the script it stands in.
fn embedded(samples: &[Sample]) -> String {
    let json = serde_json::to_string(samples).expect("samples have only plain fields");
    json.replace('<', "\\u003c")
}

fn html_table(cells: &[Vec<String>]) -> String {
    let row = |cells: &Vec<String>, tag: &str| {
        let cells = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let head = row(&cells[0], "th");
    let body: String = cells[1..].iter().map(|cells| row(cells, "td")).collect();
    format!("<div class=\"wide\"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>")
}

fn rlvr(ledger: &[Record]) -> String {
    let curve = |x: &dyn Fn(&ScoreRecord) -> f64| -> Vec<Line> {
        arm_lines(|arm| {
            let of_arm = scores(&format!("rlvr-{arm}"), ledger);
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
            of_arm.iter().filter_map(point).collect()
        })
    };
    let reward = arm_lines(|arm| figure_points(ledger, &format!("rlvr-{arm}"), "reward"));
    let y = "held-out pass@1, %";
    [
        figure(
            "Held-out pass@1 against updates",
            "updates",
            y,
            &curve(&|s| s.position as f64),
        ),
        figure(
            "Held-out pass@1 against sampled tokens",
            "sampled tokens",
            y,
            &curve(&|s| s.n_tokens_sampled as f64),
        ),
        figure(
            "Reward on training problems",
            "updates",
            "mean reward",
            &reward,
        ),
    ]
    .concat()
}

fn arm_lines(points: impl Fn(&str) -> Vec<Point>) -> Vec<Line> {
    Arm::ALL
        .iter()
        .map(|arm| Line {
            name: arm.name().to_owned(),
            class: arm.name().to_owned(),
            points: points(arm.name()),
        })
        .filter(|line| !line.points.is_empty())
        .collect()
}

fn figure_points(ledger: &[Record], stage: &str, figure: &str) -> Vec<Point> {
    let of_stage = |record: &Record| match record {
        Record::Update(update) if update.stage == stage => point_of(update, figure),
        _ => None,
    };
    ledger.iter().filter_map(of_stage).collect()
}

fn point_of(update: &UpdateRecord, figure: &str) -> Option<Point> {
    Some(Point::new(
        update.position as f64,
        *update.figures.get(figure)?,
    ))
}

fn training(ledger: &[Record]) -> String {
    let by_arm = |name: &str| arm_lines(|arm| figure_points(ledger, arm, name));
    let of_ra3 = |name: &str| -> Vec<Line> {
        by_arm(name)
            .into_iter()
            .filter(|line| line.name == "ra3")
            .collect()
    };
    [
        figure("Loss", "position", "nats a token", &by_arm("loss")),
        figure(
            "Return of the E-step",
            "position",
            "nats a rollout",
            &of_ra3("mean_return"),
        ),
        figure(
            "Think rate",
            "position",
            "share of lines",
            &of_ra3("think_rate"),
        ),
        figure(
            "Gain of a think over an act in its group",
            "position",
            "nats",
            &of_ra3("mean_gain"),
        ),
    ]
    .concat()
}

fn families(ledger: &[Record]) -> String {
    let columns: Vec<(String, &ScoreRecord)> = Arm::ALL
        .iter()
        .flat_map(|arm| scores(arm.name(), ledger))
        .map(|score| (format!("{} {}", score.arm, score.decision), score))
        .collect();
    let Some((_, first)) = columns.first() else {
        return String::new();
    };
    let mut cells = vec![vec!["family".to_owned()]];
    cells[0].extend(columns.iter().map(|(name, _)| name.clone()));
    for family in first.by_family.keys() {
        let of = |(_, score): &(String, &ScoreRecord)| {
            score
                .by_family
                .get(family)
                .map_or("–".to_owned(), |v| format!("{:.1}", 100.0 * v))
        };
        let mut row = vec![family.clone()];
        row.extend(columns.iter().map(of));
        cells.push(row);
    }
    let mut all = vec!["all [95 %]".to_owned()];
    all.extend(
        columns
            .iter()
            .map(|(_, s)| s.pass_at.get("1").map_or("–".to_owned(), percent)),
    );
    cells.push(all);
    html_table(&cells)
}

fn corpus(ledger: &[Record]) -> String {
    let found = ledger.iter().find_map(|record| match record {
        Record::Corpus(corpus) => Some(corpus),
        _ => None,
    });
    found.map_or_else(String::new, corpus_table)
}

fn corpus_table(corpus: &CorpusRecord) -> String {
    let row = |name: &str, value: u64| vec![name.to_owned(), value.to_string()];
    let mut cells = vec![vec![String::new(), "count".to_owned()]];
    cells.extend(
        corpus
            .n_read
            .iter()
            .map(|(source, n)| row(&format!("read from {source}"), *n)),
    );
    cells.extend(
        corpus
            .n_dropped
            .iter()
            .map(|(why, n)| row(&format!("dropped: {why}"), *n)),
    );
    cells.extend([
        row("training documents", corpus.n_train),
        row("held-out documents", corpus.n_held_out),
        row("training lines", corpus.n_lines),
        row("training tokens", corpus.n_tokens),
        row("training bytes", corpus.n_bytes),
        row("training problems", corpus.n_train_problems),
        row("held-out problems", corpus.n_held_out_problems),
    ]);
    html_table(&cells)
}

fn times(clock: &[ClockRecord]) -> String {
    if clock.is_empty() {
        return String::new();
    }
    let mut cells = vec![
        ["stage", "from update", "seconds", "peak MiB"]
            .map(str::to_owned)
            .to_vec(),
    ];
    cells.extend(clock.iter().map(|record| {
        vec![
            record.stage.clone(),
            record.from_position.to_string(),
            format!("{:.1}", record.wall_s),
            record.peak_rss_mib.to_string(),
        ]
    }));
    html_table(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::ProgramSample;

    #[test]
    fn samples_cannot_break_out_of_their_script() {
        let hostile = "</script><!-- <b>".to_owned();
        let sample = Sample::Program(ProgramSample {
            arm: hostile.clone(),
            position: 0,
            task_id: String::new(),
            family: String::new(),
            prompt: hostile.clone(),
            raw: String::new(),
            completion: String::new(),
            verdict: String::new(),
            detail: String::new(),
        });
        let json = embedded(std::slice::from_ref(&sample));
        assert!(!json.contains('<'));
        let back: Vec<Sample> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, [sample]);
        let page = page(&hostile, &Table::default(), &[], &[], &[]);
        assert_eq!(page.matches("</script>").count(), 2);
    }
}
