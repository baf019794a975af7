//! Comparisons of runs that are made by hand.

use std::collections::BTreeMap;

use ra3_records::ledger::{Interval, PlanRecord, ScoreRecord};

use super::*;

fn run(place: &str, seed: u64, settings: &[(&str, &str)], n_right: &[u64]) -> RunRecords {
    let score = |arm: &str, n_right: &[u64]| {
        Record::Score(ScoreRecord {
            stage: format!("evaluate-{arm}-testbed"),
            arm: arm.to_owned(),
            decision: "plain".to_owned(),
            benchmark: "testbed".to_owned(),
            n_problems: n_right.len() as u64,
            n_samples: 2,
            temperature: 0.8,
            n_right: n_right.to_vec(),
            plans: BTreeMap::from([(
                "worked".to_owned(),
                PlanRecord {
                    n_programs: 8,
                    n_right: 4,
                    n_planned: 2,
                    n_planned_right: 1,
                },
            )]),
            ..ScoreRecord::default()
        })
    };
    let settings = settings
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    RunRecords {
        directory: place.into(),
        variation: String::new(),
        settings: settings.collect(),
        seed,
        ledger: vec![score("base", &[0, 0, 0, 0]), score("ra3", n_right)],
    }
}

fn named(mut runs: Vec<RunRecords>) -> Vec<RunRecords> {
    name_variations(&mut runs);
    runs
}

#[test]
fn what_all_have_is_left_out_of_a_variation() {
    let settings = |cost| [("ra3.rounds", "2"), ("ra3.e_step.penalty.cost", cost)];
    let runs = named(vec![
        run("a", 1, &settings("0.1"), &[0, 1, 2, 0]),
        run("b", 1, &settings("0.3"), &[0, 1, 2, 0]),
    ]);
    assert_eq!(runs[0].variation, "ra3.e_step.penalty.cost=0.1");
    assert_eq!(runs[1].variation, "ra3.e_step.penalty.cost=0.3");
    let alone = named(vec![run("a", 1, &settings("0.1"), &[0])]);
    assert_eq!(alone[0].variation, "");
}

#[test]
fn long_variations_get_a_number_and_a_table() {
    let long = "x".repeat(99);
    let runs = named(vec![
        run("a", 1, &[("key", &long), ("only", "1")], &[0, 1, 2, 0]),
        run("b", 1, &[("key", "2")], &[0, 1, 2, 0]),
        run("c", 2, &[("key", "2")], &[0, 1, 1, 0]),
    ]);
    let names: Vec<&str> = runs.iter().map(|run| run.variation.as_str()).collect();
    assert_eq!(names, ["settings 1", "settings 2", "settings 2"]);
    let text = Comparison::new(&runs, Some("base")).unwrap().to_text();
    let table = text.split("settings that differ\n").nth(1).unwrap();
    assert!(table.contains(&long) && table.contains("only"), "{text}");
}

#[test]
fn runs_that_are_the_same_are_named() {
    let runs = vec![run("one", 1, &[], &[1]), run("other", 1, &[], &[1])];
    let error = Comparison::new(&named(runs), None).unwrap_err().to_string();
    assert!(error.contains("one and other have the same"), "{error}");
}

/// Two seeds far apart: `t(1) = 12.7` would take the interval out of what a share can be.
#[test]
fn an_interval_stays_where_shares_are_and_says_when_it_knows_nothing() {
    let runs = named(vec![
        run("a", 1, &[], &[2, 2, 2, 2]),
        run("b", 2, &[], &[1, 1, 0, 0]),
    ]);
    let found = Comparison::new(&runs, Some("base")).unwrap();
    let rows = &found.benchmarks[0].rows;
    assert_eq!(rows[1].pass_at_1.mean, 0.625);
    assert_eq!((rows[1].pass_at_1.low, rows[1].pass_at_1.high), (0.0, 1.0));
    let difference = rows[1].difference.as_ref().unwrap();
    assert_eq!((difference.low, difference.high), (-1.0, 1.0));
    let text = found.to_text();
    assert!(text.contains("0.0 [all alike]"), "{text}");
    assert!(text.contains("62.5 [0.0, 100.0]"), "{text}");
}

#[test]
fn programs_with_a_plan_are_counted_over_seeds() {
    let runs = named(vec![run("a", 1, &[], &[2; 4]), run("b", 2, &[], &[1; 4])]);
    let found = Comparison::new(&runs, None).unwrap();
    assert_eq!(found.benchmarks[0].rows[1].plans["worked"].n_programs, 16);
    // A quarter plans; half of these are right, and half of the others.
    let text = found.to_text();
    let row = text.lines().find(|line| line.contains("ra3  before RLVR"));
    assert!(
        row.is_some_and(|row| row.contains("25.0") && row.contains("50.0")),
        "{text}"
    );
}

/// Curves of two points each, and a seed that one arm has not.
#[test]
fn curves_are_compared_seed_by_seed() {
    let points = |arm: &'static str, heights: [f64; 2]| {
        let point = move |(index, height): (u64, f64)| {
            let mut score = ScoreRecord {
                stage: format!("rlvr-{arm}"),
                arm: arm.to_owned(),
                position: 10 * index,
                ..ScoreRecord::default()
            };
            let pass_at_1 = Interval {
                mean: height,
                low: height,
                high: height,
            };
            score.pass_at.insert("1".to_owned(), pass_at_1);
            Record::Score(score)
        };
        (0..).zip(heights).map(point)
    };
    let seed = |seed: u64, of_base: Option<[f64; 2]>, of_ra3: [f64; 2]| {
        let mut run = run(&seed.to_string(), seed, &[], &[1]);
        let of_base = of_base
            .into_iter()
            .flat_map(|heights| points("base", heights));
        run.ledger.extend(of_base.chain(points("ra3", of_ra3)));
        run
    };
    let runs = named(vec![
        seed(1, Some([0.2, 0.4]), [0.5, 0.5]),
        seed(2, None, [0.9, 0.9]),
        seed(3, Some([0.4, 0.8]), [0.6, 0.8]),
    ]);
    let found = Comparison::new(&runs, Some("base")).unwrap();
    let [base, ra3] = &found.curves[..] else {
        panic!("two arms: {:?}", found.curves);
    };
    assert!((base.area.mean.unwrap().mean - 0.45).abs() < 1e-12);
    assert_eq!(
        (base.area.difference, base.plateau.difference),
        (None, None)
    );
    assert_eq!(base.updates_to_plateau_of_other, Some(10.0));
    assert_eq!(ra3.plateau.by_seed, [0.5, 0.9, 0.8]);
    // Of seeds 1 and 3 alone: (0.5 − 0.3 + 0.7 − 0.6) / 2, and (0.5 − 0.4 + 0.8 − 0.8) / 2.
    assert!((ra3.area.difference.unwrap().mean - 0.15).abs() < 1e-12);
    assert!((ra3.plateau.difference.unwrap().mean - 0.05).abs() < 1e-12);
    // The mean curve of the base ends at 0.6; RA3's begins at two thirds.
    assert_eq!(ra3.updates_to_plateau_of_other, Some(0.0));
    let text = found.to_text();
    assert!(text.contains("over its updates, mean height"), "{text}");
    let ends = text.split("the last quarter\n").nth(1).unwrap();
    assert!(
        ends.contains("+5.0 [") && ends.contains("updates to base's"),
        "{text}"
    );
}
