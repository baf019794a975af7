//! Held-out documents: exact bits per byte of the plain models and the bounds of the latent ones,
//! ELBO and IWAE (arXiv 1509.00519), which fall towards the exact value as K grows.

use ra3_page::{Axis, Figure, Point, Scale, Series, Stroke, figures};
use ra3_records::ledger::{HeldOutRecord, Record};

use super::arms::{arms, held_out, series};
use super::table::digits;

/// The chart of bounds and the table behind it.
pub(super) fn section(ledger: &[Record]) -> String {
    let arms = arms(ledger);
    let records: Vec<&HeldOutRecord> = arms
        .iter()
        .filter_map(|arm| held_out(arm, ledger))
        .collect();
    if records.is_empty() {
        return String::new();
    }
    figures(&chart(&records, &arms)) + &table(&records)
}

/// The bounds of a record by the number of samples that they take.
fn iwae(record: &HeldOutRecord) -> Vec<(u64, f64)> {
    let parsed = record.bounds.iter().filter_map(|(name, bits)| {
        let k = name.strip_prefix("iwae_")?.parse().ok()?;
        Some((k, *bits))
    });
    let mut by_k: Vec<(u64, f64)> = parsed.collect();
    if !by_k.iter().any(|(k, _)| *k == 1)
        && let Some(elbo) = record.bounds.get("elbo")
    {
        // One sample is the ELBO.
        by_k.push((1, *elbo));
    }
    by_k.sort_by_key(|(k, _)| *k);
    by_k
}

fn chart(records: &[&HeldOutRecord], arms: &[&str]) -> String {
    let bounds: Vec<(&HeldOutRecord, Vec<(u64, f64)>)> = records
        .iter()
        .map(|record| (*record, iwae(record)))
        .filter(|(_, by_k)| !by_k.is_empty())
        .collect();
    let all_k = || bounds.iter().flat_map(|(_, by_k)| by_k.iter().map(|b| b.0));
    let (Some(least), Some(most)) = (all_k().min(), all_k().max()) else {
        return String::new();
    };
    let falling = bounds.iter().map(|(record, by_k)| {
        let points = by_k.iter().map(|(k, bits)| Point::new(*k as f64, *bits));
        Series {
            name: format!("{} with latents (upper bound)", record.arm),
            ..series(&record.arm, arms, points.collect())
        }
    });
    // Levels reach beyond the bounds, which may be a single one.
    let ends = [0.8 * least as f64, 1.25 * most as f64];
    let exact = records.iter().map(|record| {
        let points = ends.map(|k| Point::new(k, record.bits_per_byte)).to_vec();
        let own = Series {
            name: format!("{}, exact", record.arm),
            is_reference: true,
            ..series(&record.arm, arms, points)
        };
        if record.bounds.is_empty() {
            return own;
        }
        Series {
            name: format!("{}, all act", record.arm),
            stroke: Stroke::Dotted,
            ..own
        }
    });
    Figure {
        title: "Bits per byte on held-out documents".to_owned(),
        note: "lower is better; the bounds fall towards the exact value of the latent model; each \
               arm on the text that it was trained on, and figures of different texts do not \
               compare"
            .to_owned(),
        x: Axis {
            label: "latent samples K (K = 1 is the ELBO, above it IWAE)".to_owned(),
            scale: Scale::Log2,
        },
        y: "bits per byte".into(),
        series: falling.chain(exact).collect(),
        ..Figure::default()
    }
    .html()
}

/// Figures about latents: name in the ledger, head of the column.
const LATENTS: [(&str, &str); 6] = [
    (
        "marker_probability",
        "probability of a marker where one is due",
    ),
    ("think_rate", "think rate"),
    ("persistence", "lines a latent"),
    ("rationale_tokens", "tokens a rationale"),
    ("gain", "gain of a think, nats"),
    ("choices", "choices left"),
];

fn table(records: &[&HeldOutRecord]) -> String {
    let mut all_k: Vec<u64> = records
        .iter()
        .flat_map(|r| iwae(r))
        .map(|(k, _)| k)
        .collect();
    all_k.sort_unstable();
    all_k.dedup();
    let mut head = ["bits per byte", "of the text", "without latents"]
        .map(str::to_owned)
        .to_vec();
    head.extend(all_k.iter().map(|k| match k {
        1 => "ELBO".to_owned(),
        k => format!("IWAE {k}"),
    }));
    head.push("prior by".to_owned());
    head.extend(LATENTS.map(|(_, title)| title.to_owned()));
    head.extend(["documents", "bytes"].map(str::to_owned));
    let mut cells = vec![head];
    for record in records {
        let bounds = iwae(record);
        let mut row = vec![
            record.arm.clone(),
            record.text.clone(),
            with_interval(record),
        ];
        row.extend(all_k.iter().map(|k| {
            let found = bounds.iter().find(|(other, _)| other == k);
            digits(found.map(|(_, bits)| *bits), 4)
        }));
        let prior = record.prior.as_str();
        row.push(if prior.is_empty() { "–" } else { prior }.to_owned());
        row.extend(LATENTS.map(|(name, _)| digits(record.latents.get(name).copied(), 2)));
        row.extend([record.n_documents.to_string(), record.n_bytes.to_string()]);
        cells.push(row);
    }
    ra3_page::table(&cells)
}

/// `0.4223 [0.4101, 0.4350]`.
fn with_interval(record: &HeldOutRecord) -> String {
    let bits = format!("{:.4}", record.bits_per_byte);
    match record.intervals.get("bits_per_byte") {
        Some(found) => format!("{bits} [{:.4}, {:.4}]", found.low, found.high),
        None => bits,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn record(arm: &str, bounds: &[(&str, f64)]) -> Record {
        let bounds = bounds
            .iter()
            .map(|(name, bits)| ((*name).to_owned(), *bits));
        Record::HeldOut(HeldOutRecord {
            arm: arm.to_owned(),
            text: "corpus".to_owned(),
            n_documents: 10,
            n_bytes: 1000,
            bits_per_byte: 0.5,
            prior: "reference".to_owned(),
            bounds: bounds.collect(),
            intervals: BTreeMap::new(),
            latents: BTreeMap::new(),
        })
    }

    #[test]
    fn bounds_are_ordered_by_their_samples() {
        let bounds = [("elbo", 0.45), ("iwae_16", 0.41), ("iwae_4", 0.43)];
        let Record::HeldOut(ra3) = record("ra3", &bounds) else {
            unreachable!("just made");
        };
        assert_eq!(iwae(&ra3), [(1, 0.45), (4, 0.43), (16, 0.41)]);
    }

    #[test]
    fn the_section_has_levels_and_falling_bounds() {
        let bounds = [("elbo", 0.45), ("iwae_1", 0.45), ("iwae_4", 0.43)];
        let ledger = [record("ntp", &[]), record("ra3", &bounds)];
        let html = section(&ledger);
        assert_eq!(html.matches("\"is_reference\":true").count(), 2);
        assert!(html.contains("[[1.0,0.45,0.45,0.45],[4.0,0.43,0.43,0.43]]"));
        assert!(
            html.contains("ntp, exact") && html.contains("ra3, all act"),
            "{html}"
        );
        assert!(
            html.contains("<td>0.5000</td><td>0.4500</td><td>0.4300</td>"),
            "{html}"
        );
    }

    #[test]
    fn plain_arms_alone_have_a_table_only() {
        let html = section(&[record("ntp", &[])]);
        assert!(
            html.contains("<table>") && !html.contains("<figure"),
            "{html}"
        );
        assert!(section(&[]).is_empty());
    }
}
