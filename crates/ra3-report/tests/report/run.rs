//! A run as its journals would have it, made by code: all arms, all stages, and text that would
//! break a careless page. The figures are made up; only their shapes are real.

use std::collections::BTreeMap;

use ra3_records::clock::ClockRecord;
use ra3_records::ledger::{
    ArmRecord, CorpusRecord, HeldOutRecord, Interval, Record, RunRecord, ScoreRecord, StageRecord,
    UpdateRecord,
};
use ra3_records::samples::{AnnotatedLine, DocumentSample, ProgramSample, Sample};
use ra3_report::ReportInputs;

/// Markup that must arrive as text.
pub(crate) const HOSTILE: &str = "</script><!--<script>document.title='owned'</script>";

/// Everything that a page is made of.
#[derive(Debug)]
pub(crate) struct Run {
    pub ledger: Vec<Record>,
    pub samples: Vec<Sample>,
    pub clock: Vec<ClockRecord>,
}

impl Run {
    pub(crate) fn inputs(&self) -> ReportInputs<'_> {
        ReportInputs {
            is_finished: true,
            name: format!("fixture {HOSTILE}"),
            plan_toml: format!("name = \"fixture\" # {HOSTILE}\n"),
            environment: named(&[("version", "ra3 0.1.0"), ("plan", HOSTILE)]),
            ledger: &self.ledger,
            samples: &self.samples,
            clock: &self.clock,
        }
    }
}

const ARMS: [&str; 4] = ["base", "ntp", "ntp-compute", "ra3"];
const METHODS: [&str; 4] = ["none", "ntp", "ntp", "ra3"];
const PHASES: [(&str, u64); 5] = [
    ("cold_start", 30),
    ("e_step", 20),
    ("annotate", 10),
    ("m_step", 30),
    ("e_step", 20),
];

/// A whole run.
pub(crate) fn run() -> Run {
    let mut ledger = vec![run_record(), corpus()];
    for (i, arm) in ARMS.iter().enumerate() {
        midtrain(arm, i, &mut ledger);
        ledger.push(held_out(arm, i));
        let decisions: &[&str] = match *arm {
            "ra3" => &["plain", "free", "act", "think", "true_plan"],
            _ => &["plain"],
        };
        for (j, decision) in decisions.iter().enumerate() {
            let mean = 0.5 + 0.05 * (i + j) as f64;
            ledger.push(score(&format!("evaluate-{arm}"), arm, decision, 0, mean));
        }
        rlvr(arm, i, &mut ledger);
    }
    let stages = ledger.iter().filter_map(|record| match record {
        Record::Stage(stage) => Some(stage.stage.clone()),
        _ => None,
    });
    let clock = stages.enumerate().map(|(i, stage)| ClockRecord {
        stage,
        since: 0.0,
        from_position: 0,
        to_position: 10,
        wall_s: 12.5 * (i + 1) as f64,
        peak_rss_mib: 300,
    });
    Run {
        clock: clock.collect(),
        ledger,
        samples: samples(),
    }
}

fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn numbers<T: Copy>(pairs: &[(&str, T)]) -> BTreeMap<String, T> {
    let owned = |(name, value): &(&str, T)| ((*name).to_owned(), *value);
    pairs.iter().map(owned).collect()
}

fn run_record() -> Record {
    Record::Run(RunRecord {
        name: "fixture".to_owned(),
        seed: 1,
        plan_hash: "00".repeat(32),
        version: "0.1.0".to_owned(),
        n_threads: 2,
        processor: "a fast one".to_owned(),
        arms: ARMS
            .iter()
            .zip(METHODS)
            .map(|(name, method)| ArmRecord {
                name: (*name).to_owned(),
                from: "base".to_owned(),
                method: method.to_owned(),
            })
            .collect(),
    })
}

fn corpus() -> Record {
    Record::Corpus(CorpusRecord {
        n_bytes_read: 70_000,
        n_bytes_dropped: 7000,
        n_read: numbers(&[("testbed", 12_000)]),
        n_dropped: numbers(&[("duplicate", 400), ("too_large", 7)]),
        n_train: 11_000,
        n_held_out: 593,
        n_lines: 38_000,
        n_tokens: 670_000,
        n_bytes: 1_900_000,
        n_train_problems: 400,
        n_held_out_problems: 200,
    })
}

fn update(stage: &str, phase: &str, position: u64, figures: &[(&str, f64)]) -> Record {
    Record::Update(UpdateRecord {
        stage: stage.to_owned(),
        phase: phase.to_owned(),
        position,
        figures: numbers(figures),
        n_corpus_tokens: 2500 * (position + 1),
        n_tokens_sampled: 3600 * position,
        flops: 3e10 * (position + 1) as f64,
    })
}

fn midtrain(arm: &str, i: usize, ledger: &mut Vec<Record>) {
    if arm == "ra3" {
        let phases = PHASES
            .iter()
            .flat_map(|(name, n)| (0..*n).map(move |_| *name));
        ledger.extend(
            phases
                .enumerate()
                .map(|(position, phase)| ra3_update(phase, position as u64)),
        );
    } else {
        ledger.extend(
            (0..110).map(|p| update(arm, "ntp", p, &[("loss", fallen(p) + 0.1 * i as f64)])),
        );
    }
    ledger.push(stage(arm, 275_000));
}

fn ra3_update(phase: &str, position: u64) -> Record {
    let wave = (position as f64 / 3.0).sin();
    let latents = [
        ("think_rate", 0.2 + 0.05 * wave),
        ("persistence", 5.0 - wave),
        ("rationale_tokens", 15.0 + wave),
    ];
    let figures = match phase {
        "annotate" => latents.to_vec(),
        "e_step" => [
            &latents[..],
            &[("mean_return", -5.0 + wave), ("mean_gain", wave)],
        ]
        .concat(),
        _ => vec![("loss", fallen(position) + 0.1 * wave)],
    };
    update("ra3", phase, position, &figures)
}

fn fallen(position: u64) -> f64 {
    0.5 + 2.0 * (-(position as f64) / 25.0).exp()
}

fn stage(name: &str, n_corpus_tokens: u64) -> Record {
    Record::Stage(StageRecord {
        stage: name.to_owned(),
        n_corpus_tokens,
        n_tokens_sampled: 72_000,
        n_tokens_run: 400_000,
        flops: 3.3e12,
    })
}

fn held_out(arm: &str, i: usize) -> Record {
    let is_latent = arm == "ra3";
    let bounds: &[(&str, f64)] = &[("elbo", 0.408), ("iwae_16", 0.396), ("iwae_4", 0.400)];
    let latents: &[(&str, f64)] = &[("gain", 1.1), ("persistence", 5.2), ("think_rate", 0.19)];
    Record::HeldOut(HeldOutRecord {
        prior: String::new(),
        arm: arm.to_owned(),
        text: if is_latent { "lifted" } else { "corpus" }.to_owned(),
        n_documents: 100,
        n_bytes: 4106,
        bits_per_byte: 0.446 - 0.012 * i as f64,
        bounds: numbers(if is_latent { bounds } else { &[] }),
        intervals: numbers(&[]),
        latents: numbers(if is_latent { latents } else { &[] }),
    })
}

fn score(stage: &str, arm: &str, decision: &str, position: u64, mean: f64) -> Record {
    let interval = Interval {
        mean,
        low: mean - 0.04,
        high: mean + 0.04,
    };
    Record::Score(ScoreRecord {
        stage: stage.to_owned(),
        arm: arm.to_owned(),
        position,
        n_tokens_sampled: 3600 * position,
        decision: decision.to_owned(),
        benchmark: "testbed, held-out compositions, 0-shot".to_owned(),
        n_problems: 200,
        n_samples: 3,
        temperature: 0.8,
        pass_at: numbers(&[("1", interval)]),
        by_family: numbers(&[
            ("days", mean),
            ("order", mean - 0.2),
            ("worked", mean + 0.1),
        ]),
        n_right: (0..200)
            .map(|i| u64::from(i % 20 < (20.0 * mean) as u64) * 3)
            .collect(),
        decided_lines: if arm == "ra3" { 0.98 } else { 0.0 },
        verdicts: numbers(&[("passed", 400), ("wrong_answer", 200)]),
        plans: BTreeMap::new(),
    })
}

fn rlvr(arm: &str, i: usize, ledger: &mut Vec<Record>) {
    let name = format!("rlvr-{arm}");
    let level = |p: u64| 0.9 - (0.35 - 0.04 * i as f64) * (-(p as f64) / 8.0).exp();
    for position in 0..=20 {
        if position % 5 == 0 {
            ledger.push(score(&name, &name, "plain", position, level(position)));
        }
        ledger.push(update(
            &name,
            "grpo",
            position,
            &[("reward", level(position))],
        ));
    }
    ledger.push(stage(&name, 0));
    let after = format!("evaluate-{name}");
    ledger.push(score(&after, &name, "plain", 0, level(20)));
}

fn samples() -> Vec<Sample> {
    let documents = (1..=3).map(|i| Sample::Document(document(i)));
    let programs = [
        program("ra3", 1, "passed"),
        program("rlvr-ra3", 2, "wrong_answer"),
        program("ntp", 3, "timed_out"),
    ];
    let programs = programs.into_iter().map(Sample::Program);
    documents.chain(programs).collect()
}

fn document(number: usize) -> DocumentSample {
    let line = |text: &str, rationale: Option<&str>, gain: f64| AnnotatedLine {
        text: format!("{text}\n"),
        rationale: rationale.map(str::to_owned),
        logprob: -1.25,
        logprob_act: -1.25 - gain,
        think_probability: if rationale.is_some() { 0.8 } else { 0.1 },
    };
    DocumentSample {
        arm: "ra3".to_owned(),
        name: format!("document-{number}.py"),
        prefix: format!("# {HOSTILE}\n"),
        lines: vec![
            line("def weekday(day):", None, 0.0),
            line("    n = 9", Some("count modulo 10 from 3"), 0.75),
            line("    day = (day + n) % 7", None, 0.0),
            line(
                &format!("    return day  # {HOSTILE}"),
                Some("name the day"),
                -0.5,
            ),
            line("", None, 0.0),
        ],
    }
}

fn program(arm: &str, number: usize, verdict: &str) -> ProgramSample {
    let completion = format!("    return 9  # {HOSTILE}\n");
    ProgramSample {
        arm: arm.to_owned(),
        position: 20,
        task_id: format!("testbed/held_out/{number}"),
        family: ["days", "worked"][number % 2].to_owned(),
        prompt: "def find(s):\n    \"\"\"Three days on.\"\"\"\n".to_owned(),
        raw: format!("<think> three days on </think>{completion}<act>"),
        completion,
        verdict: verdict.to_owned(),
        detail: if verdict == "passed" {
            String::new()
        } else {
            HOSTILE.to_owned()
        },
    }
}
