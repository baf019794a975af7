//! Facts of a run that are no results: its corpus, what its stages cost, its environment, its plan.

use std::collections::{BTreeMap, BTreeSet};

use ra3_page::{duration, escape, figures, grouped, number, table};
use ra3_records::clock::ClockRecord;
use ra3_records::ledger::{CorpusRecord, Record, StageRecord};

use super::arms::{arms, colour};
use super::bars::{Bar, Chart, Group, Unit};
use super::table::dash;

/// What was read, dropped and kept.
pub(super) fn corpus(ledger: &[Record]) -> String {
    let found = ledger.iter().find_map(|record| match record {
        Record::Corpus(corpus) => Some(corpus),
        _ => None,
    });
    found.map_or_else(String::new, |corpus| {
        figures(&(drops(corpus) + &corpus_table(corpus)))
    })
}

fn drops(corpus: &CorpusRecord) -> String {
    let groups = corpus
        .n_dropped
        .iter()
        .map(|(reason, n)| single(&reason.replace('_', " "), "quiet", *n as f64));
    Chart {
        title: "Documents dropped, by reason",
        note: "",
        unit: Unit::Count,
        groups: groups.collect(),
    }
    .html()
}

fn single(name: &str, class: &str, value: f64) -> Group {
    let bar = Bar {
        name: String::new(),
        class: class.to_owned(),
        value,
        interval: None,
    };
    Group {
        name: name.to_owned(),
        bars: vec![bar],
    }
}

fn corpus_table(corpus: &CorpusRecord) -> String {
    let row = |name: &str, value: u64| vec![name.to_owned(), grouped(value)];
    let mut cells = vec![vec!["corpus".to_owned(), "count".to_owned()]];
    let read = corpus.n_read.iter();
    cells.extend(
        read.map(|(source, n)| row(&format!("read from {}", source.replace('_', " ")), *n)),
    );
    cells.extend([
        row(
            "dropped, of documents and their pieces",
            corpus.n_dropped.values().sum(),
        ),
        row("bytes read", corpus.n_bytes_read),
        row("bytes dropped", corpus.n_bytes_dropped),
        row("training documents", corpus.n_train),
        row("held-out documents", corpus.n_held_out),
        row("training lines", corpus.n_lines),
        row("training tokens", corpus.n_tokens),
        row("training bytes", corpus.n_bytes),
        row("training problems", corpus.n_train_problems),
        row("held-out problems", corpus.n_held_out_problems),
    ]);
    table(&cells)
}

/// A stage as all processes ran it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Time {
    wall_s: f64,
    peak_rss_mib: u64,
    /// When processes took it up.
    since: BTreeSet<u64>,
}

/// Seconds, memory and work of every stage, in the order in which they ran.
pub(super) fn costs(ledger: &[Record], clock: &[ClockRecord]) -> String {
    let arms = arms(ledger);
    let mut names: Vec<&str> = Vec::new();
    let mut times: BTreeMap<&str, Time> = BTreeMap::new();
    for record in clock {
        let time = times.entry(&record.stage).or_insert_with(|| {
            names.push(&record.stage);
            Time::default()
        });
        time.wall_s += record.wall_s;
        time.peak_rss_mib = time.peak_rss_mib.max(record.peak_rss_mib);
        time.since.insert(record.since.to_bits());
    }
    let stages: Vec<&StageRecord> = ledger
        .iter()
        .filter_map(|record| match record {
            Record::Stage(stage) => Some(stage),
            _ => None,
        })
        .collect();
    for stage in &stages {
        if !names.contains(&stage.stage.as_str()) {
            names.push(&stage.stage);
        }
    }
    let chart = Chart {
        title: "Wall time by stage",
        note: "",
        unit: Unit::Seconds,
        groups: names
            .iter()
            .filter_map(|name| {
                Some(single(
                    name,
                    &colour(arm_of(name, &arms), &arms),
                    times.get(name)?.wall_s,
                ))
            })
            .collect(),
    };
    if names.is_empty() {
        return String::new();
    }
    figures(&chart.html()) + &cost_table(&names, &times, &stages)
}

fn cost_table(names: &[&str], times: &BTreeMap<&str, Time>, stages: &[&StageRecord]) -> String {
    let head = [
        "stage",
        "wall time",
        "processes",
        "peak memory",
        "corpus tokens",
        "tokens sampled",
        "tokens run",
        "TFLOP",
        "GFLOP/s",
    ];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for name in names {
        let time = times.get(name);
        let stage = stages.iter().find(|stage| stage.stage == *name);
        let rate = time.zip(stage).map(|(t, s)| s.flops / 1e9 / t.wall_s);
        cells.push(vec![
            (*name).to_owned(),
            time.map_or_else(dash, |time| duration(time.wall_s)),
            time.map_or_else(dash, |time| time.since.len().to_string()),
            time.map_or_else(dash, |time| format!("{} MiB", grouped(time.peak_rss_mib))),
            stage.map_or_else(dash, |stage| grouped(stage.n_corpus_tokens)),
            stage.map_or_else(dash, |stage| grouped(stage.n_tokens_sampled)),
            stage.map_or_else(dash, |stage| grouped(stage.n_tokens_run)),
            stage.map_or_else(dash, |stage| number(stage.flops / 1e12)),
            rate.filter(|rate| rate.is_finite())
                .map_or_else(dash, number),
        ]);
    }
    table(&cells)
}

/// The arm that a stage works on: the longest of their names that stands in its own.
fn arm_of<'a>(stage: &str, arms: &[&'a str]) -> &'a str {
    let parts: Vec<&str> = stage.split('-').collect();
    let is_of = |arm: &&&str| {
        let arm: Vec<&str> = arm.split('-').collect();
        parts.windows(arm.len()).any(|part| part == arm)
    };
    let longest = arms.iter().filter(is_of).max_by_key(|arm| arm.len());
    longest.copied().unwrap_or_default()
}

/// What the run ran on.
pub(super) fn environment(environment: &BTreeMap<String, String>) -> String {
    let entry = |(name, value): (&String, &String)| {
        format!(
            "<div><dt>{}</dt><dd>{}</dd></div>",
            escape(name),
            escape(value)
        )
    };
    let entries: String = environment.iter().map(entry).collect();
    if entries.is_empty() {
        return entries;
    }
    format!("<dl>{entries}</dl>")
}

/// The resolved plan.
pub(super) fn plan(toml: &str) -> String {
    if toml.trim().is_empty() {
        return String::new();
    }
    format!(
        "<details open><summary>plan.toml</summary><pre tabindex=\"0\">{}</pre></details>",
        escape(toml)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continued_stage_is_one_row() {
        let record = |stage: &str, from_position, wall_s, peak_rss_mib| ClockRecord {
            stage: stage.to_owned(),
            since: from_position as f64,
            from_position,
            to_position: from_position + 1,
            wall_s,
            peak_rss_mib,
        };
        let clock = [
            record("corpus", 0, 1.5, 90),
            record("ra3", 0, 20.0, 300),
            record("ra3", 7, 30.0, 200),
        ];
        let stage = Record::Stage(StageRecord {
            stage: "ra3".to_owned(),
            n_corpus_tokens: 1000,
            n_tokens_sampled: 20,
            n_tokens_run: 1500,
            flops: 100e12,
        });
        let html = costs(&[stage], &clock);
        let row = "<th scope=\"row\">ra3</th><td>50 s</td><td>2</td><td>300 MiB</td>\
                   <td>1\u{202f}000</td><td>20</td><td>1\u{202f}500</td><td>100</td><td>2000</td>";
        assert!(html.contains(row), "{html}");
        assert!(
            html.contains("<th scope=\"row\">corpus</th><td>1.5 s</td>"),
            "{html}"
        );
        assert!(costs(&[], &[]).is_empty());
    }

    #[test]
    fn drops_and_counts_are_shown() {
        let corpus_record = CorpusRecord {
            n_read: BTreeMap::from([("testbed".to_owned(), 12_000)]),
            n_dropped: BTreeMap::from([("too_large".to_owned(), 3), ("generated".to_owned(), 1)]),
            ..CorpusRecord::default()
        };
        let html = corpus(&[Record::Corpus(corpus_record)]);
        assert_eq!(html.matches("<i class=\"bar quiet\"").count(), 2);
        assert!(
            html.contains(
                "<th scope=\"row\">dropped, of documents and their pieces</th><td>4</td>"
            ),
            "{html}"
        );
        assert!(corpus(&[]).is_empty());
    }
}
