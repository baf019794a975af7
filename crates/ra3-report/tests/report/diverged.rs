//! What a diverging model prints is written, read and drawn like anything else.

use proptest::prelude::*;
use ra3_records::ledger::{Interval, Record};
use ra3_records::samples::Sample;
use serde_json::{Value, json};

use crate::run;

/// Numbers as a journal has them.
fn odd_number() -> impl Strategy<Value = Value> {
    let words = ["NaN", "Infinity", "-Infinity"]
        .map(|word| json!(word))
        .to_vec();
    let ends = [f64::MAX, f64::MIN, 5e-324, -5e-324, 1e17, 0.0]
        .map(|x| json!(x))
        .to_vec();
    prop_oneof![
        prop::sample::select(words),
        prop::sample::select(ends),
        any::<f64>().prop_map(|x| if x.is_finite() { json!(x) } else { json!(0.5) }),
    ]
}

/// Puts a drawn number in the place of every number that is not whole by its type.
fn diverge(value: &mut Value, numbers: &mut impl Iterator<Item = Value>) {
    match value {
        Value::Number(number) if number.is_f64() => *value = numbers.next().unwrap(),
        Value::Array(values) => values.iter_mut().for_each(|value| diverge(value, numbers)),
        Value::Object(map) => map.values_mut().for_each(|value| diverge(value, numbers)),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Every chart has its data, and every bar and whisker lies on its track.
fn assert_drawable(page: &str) {
    for part in page.split("class=\"chart\">").skip(1) {
        let figure: Value = serde_json::from_str(part.split("</script>").next().unwrap()).unwrap();
        for series in figure["series"].as_array().unwrap() {
            for point in series["points"].as_array().unwrap() {
                let numbers = point.as_array().unwrap();
                assert!(numbers.iter().all(|n| n.is_f64() || n.is_null()), "{point}");
            }
        }
    }
    for part in page
        .split("%\"></i>")
        .filter(|part| part.contains("<i class=\""))
    {
        let style = part.rsplit("style=\"").next().unwrap();
        for length in style
            .split([':', ';'])
            .filter(|word| !word.ends_with(['t', 'h']))
        {
            let length: f64 = length.trim_end_matches('%').parse().unwrap();
            assert!((0.0..=100.0).contains(&length), "{style}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_diverged_run_has_its_table_and_page(
        drawn in prop::collection::vec(odd_number(), 1..60),
    ) {
        let run = run::run();
        let mut numbers = drawn.into_iter().cycle();
        let mut ledger = Vec::new();
        for record in &run.ledger {
            let mut line = serde_json::to_value(record).unwrap();
            diverge(&mut line, &mut numbers);
            let record: Record = serde_json::from_str(&line.to_string()).unwrap();
            prop_assert_eq!(&serde_json::to_value(&record).unwrap(), &line);
            ledger.push(record);
        }
        let mut samples = Vec::new();
        for sample in &run.samples {
            let mut line = serde_json::to_value(sample).unwrap();
            diverge(&mut line, &mut numbers);
            let sample: Sample = serde_json::from_str(&line.to_string()).unwrap();
            prop_assert_eq!(&serde_json::to_value(&sample).unwrap(), &line);
            samples.push(sample);
        }
        let inputs = ra3_report::ReportInputs {
            ledger: &ledger,
            samples: &samples,
            ..run.inputs()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        ra3_report::write(&inputs, &path).unwrap();
        assert_drawable(&std::fs::read_to_string(path).unwrap());
        let table = ra3_report::summary(&ledger, &run.clock);
        prop_assert!(table.to_text(false).lines().count() >= 5);
        let _: Value = serde_json::from_str(&table.to_json()).unwrap();
    }

    #[test]
    fn every_number_comes_back_with_its_bits(bits in any::<u64>()) {
        let mean = f64::from_bits(bits);
        let text = serde_json::to_string(&Interval { mean, low: -0.0, high: 5e-324 }).unwrap();
        let read: Interval = serde_json::from_str(&text).unwrap();
        let is_same = read.mean.to_bits() == bits || (mean.is_nan() && read.mean.is_nan());
        prop_assert!(is_same, "{text}");
        prop_assert_eq!((read.low.to_bits(), read.high), ((-0.0f64).to_bits(), 5e-324));
    }
}
