//! Scores on programs: bars by arm, by family and by decision, and the counts of verdicts.

use std::collections::BTreeSet;

use ra3_page::{figures, table};
use ra3_records::ledger::{Interval, PlanRecord, Record, ScoreRecord};

use super::arms::{all_scores, arms, colour, is_finished};
use super::bars::{Bar, Chart, Group, Unit};
use super::table::{Benchmark, BenchmarkRow, dash, digits, percent};

/// pass@1 of every arm, before and after RLVR.
pub(super) fn headline(benchmark: &Benchmark, ledger: &[Record]) -> String {
    let arms = arms(ledger);
    let title = format!("pass@1: {}", benchmark.benchmark);
    Chart {
        title: &title,
        note: "pale: after mid-training, full: after RLVR; whiskers: 95 % bootstrap over problems",
        unit: Unit::Percent,
        groups: benchmark
            .rows
            .iter()
            .filter_map(|row| arm_group(row, &colour(&row.arm, &arms)))
            .collect(),
    }
    .html()
}

fn arm_group(row: &BenchmarkRow, colour: &str) -> Option<Group> {
    let before = row.plain().and_then(|by_k| by_k.get("1"));
    let before = before.map(|pass| bar("before RLVR", &format!("{colour} before"), pass));
    let after = row.after_rlvr.get("1");
    let after = after.map(|pass| bar("after RLVR", colour, pass));
    let bars: Vec<Bar> = [before, after].into_iter().flatten().collect();
    (!bars.is_empty()).then(|| Group {
        name: row.arm.clone(),
        bars,
    })
}

fn bar(name: &str, class: &str, pass: &Interval) -> Bar {
    Bar {
        name: name.to_owned(),
        class: class.to_owned(),
        value: 100.0 * pass.mean,
        interval: Some((100.0 * pass.low, 100.0 * pass.high)),
    }
}

/// Bars by family for each arm and for each decision of the arms with latents, and the figures; a
/// part for each benchmark.
pub(super) fn families(ledger: &[Record]) -> String {
    let finished: Vec<&ScoreRecord> = all_scores(ledger).filter(|it| is_finished(it)).collect();
    let is_before = |score: &&&ScoreRecord| !score.arm.starts_with("rlvr-");
    let all: Vec<&ScoreRecord> = finished.iter().filter(is_before).copied().collect();
    let mut names: Vec<&str> = all.iter().map(|score| score.benchmark.as_str()).collect();
    names.dedup();
    names.sort_unstable();
    names.dedup();
    let part = |name: &&str| {
        let of = |score: &&&ScoreRecord| score.benchmark == *name;
        families_of(
            name,
            &all.iter().filter(of).copied().collect::<Vec<_>>(),
            ledger,
        )
    };
    names.iter().map(part).collect::<String>() + &plan_table(&finished)
}

/// Programs with a plan of their own, by model and family, sampled plainly.
fn plan_table(scores: &[&ScoreRecord]) -> String {
    let head = ["model", "problems", "family"].into_iter();
    let head = head.chain(PlanRecord::HEAD).map(str::to_owned).collect();
    let mut cells: Vec<Vec<String>> = vec![head];
    for score in scores.iter().filter(|score| score.decision == "plain") {
        let all: PlanRecord = score.plans.values().copied().sum();
        let families = score.plans.iter().filter(|(family, _)| !family.is_empty());
        let families = families.map(|(family, plans)| (family.as_str(), plans));
        for (family, plans) in [("all", &all)].into_iter().chain(families) {
            let named = [score.arm.as_str(), &score.benchmark, family].map(str::to_owned);
            cells.push(named.into_iter().chain(plans.cells()).collect());
        }
    }
    if cells.len() == 1 {
        return String::new();
    }
    let note = "A plan is a rationale, or a comment on a line of its own.";
    format!(
        "<h3>Programs with a plan</h3><p>{note}</p>{}",
        table(&cells)
    )
}

fn families_of(benchmark: &str, all: &[&ScoreRecord], ledger: &[Record]) -> String {
    let arms = arms(ledger);
    let is_own = |score: &&&ScoreRecord| score.decision == "plain";
    let own: Vec<&ScoreRecord> = all.iter().filter(is_own).copied().collect();
    let title = format!("pass@1 by family and arm: {benchmark}");
    let of_arm = |score: &ScoreRecord| (score.arm.clone(), colour(&score.arm, &arms));
    let mut charts = chart(&title, "", &own, of_arm);
    for arm in &arms {
        let of_arm: Vec<&ScoreRecord> = all
            .iter()
            .filter(|score| score.arm == *arm)
            .copied()
            .collect();
        if of_arm.len() > 1 {
            let title = format!("pass@1 by family and decision: {arm}");
            let note = "sampled plainly; decisions drawn between the markers, forced to act, \
                        forced to think; given the true plan";
            charts.push_str(&chart(&title, note, &of_arm, |score| {
                let name = score.decision.replace('_', " ");
                (name, format!("decision {}", score.decision))
            }));
        }
    }
    figures(&charts) + &family_table(all) + &verdict_table(all)
}

fn chart(
    title: &str,
    note: &str,
    scores: &[&ScoreRecord],
    name_and_class: impl Fn(&ScoreRecord) -> (String, String),
) -> String {
    let bar_of = |score: &ScoreRecord, value: f64, interval| {
        let (name, class) = name_and_class(score);
        Bar {
            name,
            class,
            value: 100.0 * value,
            interval,
        }
    };
    let all = scores.iter().filter_map(|score| {
        let pass = score.pass_at.get("1")?;
        Some(bar_of(
            score,
            pass.mean,
            Some((100.0 * pass.low, 100.0 * pass.high)),
        ))
    });
    let mut groups = vec![Group {
        name: "all".to_owned(),
        bars: all.collect(),
    }];
    groups.extend(family_names(scores).into_iter().map(|family| {
        let bars = scores
            .iter()
            .filter_map(|score| Some(bar_of(score, *score.by_family.get(family)?, None)));
        Group {
            name: family.to_owned(),
            bars: bars.collect(),
        }
    }));
    Chart {
        title,
        note,
        unit: Unit::Percent,
        groups,
    }
    .html()
}

fn family_names<'a>(scores: &[&'a ScoreRecord]) -> BTreeSet<&'a str> {
    let names = scores.iter().flat_map(|score| score.by_family.keys());
    names.map(String::as_str).collect()
}

/// `pass@1` in percent by family; a row for each arm and decision.
fn family_table(scores: &[&ScoreRecord]) -> String {
    let families = family_names(scores);
    let mut head = vec!["pass@1, %".to_owned(), "all [95 %]".to_owned()];
    head.extend(families.iter().map(|family| (*family).to_owned()));
    head.extend(["problems", "samples", "temperature"].map(str::to_owned));
    let mut cells = vec![head];
    for score in scores {
        let mut row = vec![name_of(score)];
        row.push(score.pass_at.get("1").map_or_else(dash, percent));
        row.extend(families.iter().map(|family| {
            let share = score.by_family.get(*family);
            digits(share.map(|share| 100.0 * share), 1)
        }));
        row.extend([
            score.n_problems.to_string(),
            score.n_samples.to_string(),
            format!("{:.1}", score.temperature),
        ]);
        cells.push(row);
    }
    table(&cells)
}

/// Counts of verdicts; a row for each arm and decision.
fn verdict_table(scores: &[&ScoreRecord]) -> String {
    let names = scores.iter().flat_map(|score| score.verdicts.keys());
    let names: BTreeSet<&String> = names.collect();
    let mut head = vec!["verdicts".to_owned()];
    head.extend(names.iter().map(|name| name.replace('_', " ")));
    let mut cells = vec![head];
    for score in scores {
        let mut row = vec![name_of(score)];
        let count = |name: &&String| score.verdicts.get(*name).copied().unwrap_or_default();
        row.extend(names.iter().map(|name| count(name).to_string()));
        cells.push(row);
    }
    table(&cells)
}

fn name_of(score: &ScoreRecord) -> String {
    format!("{}, {}", score.arm, score.decision.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn score(arm: &str, decision: &str) -> Record {
        let pass = Interval {
            mean: 0.5,
            low: 0.4,
            high: 0.6,
        };
        Record::Score(ScoreRecord {
            stage: if arm.starts_with("rlvr-") {
                arm.to_owned()
            } else {
                format!("evaluate-{arm}-testbed")
            },
            arm: arm.to_owned(),
            decision: decision.to_owned(),
            benchmark: "testbed".to_owned(),
            n_problems: 20,
            n_samples: 2,
            temperature: 0.8,
            pass_at: BTreeMap::from([("1".to_owned(), pass)]),
            by_family: BTreeMap::from([("days".to_owned(), 0.25), ("order".to_owned(), 0.75)]),
            verdicts: BTreeMap::from([("passed".to_owned(), 20), ("timed_out".to_owned(), 20)]),
            plans: BTreeMap::from([(
                "worked".to_owned(),
                PlanRecord {
                    n_programs: 40,
                    n_right: 20,
                    n_planned: 30,
                    n_planned_right: 18,
                },
            )]),
            ..ScoreRecord::default()
        })
    }

    #[test]
    fn families_are_shown_by_arm_and_by_decision() {
        let ledger = [
            score("base", "plain"),
            score("ra3", "plain"),
            score("ra3", "act"),
            score("rlvr-ra3", "plain"),
        ];
        let html = families(&ledger);
        // All and two families for two arms, then for two decisions.
        assert_eq!(html.matches("<i class=\"bar ").count(), 3 * 2 + 3 * 2);
        assert_eq!(html.matches("class=\"bar decision act\"").count(), 3);
        assert!(html.contains("<th scope=\"row\">ra3, act</th><td>50.0 [40.0, 60.0]</td>"));
        assert!(html.contains("<td>25.0</td><td>75.0</td>"));
        assert!(html.contains("timed out"));
    }

    #[test]
    fn a_run_without_scores_has_no_bars() {
        assert!(families(&[]).is_empty());
    }
}
