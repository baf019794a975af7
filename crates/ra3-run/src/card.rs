//! A model card beside each finished model: what it is, its scores, and the plan that made it.
//!
//! Cards are written from the records when a run ends, and again with the report.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use ra3_records::ledger::{Record, RunRecord, ScoreRecord};
use ra3_report::{percent, scores};

use crate::model_note::ModelNote;
use crate::on_disk::entries;

/// Loads, samples and strips, in the words of transformers.
const USAGE: &str = r#"import re, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder)
prompt = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
tokens = model.generate(**prompt, max_new_tokens=200)[0, prompt.input_ids.shape[1]:]
written = tokenizer.decode(tokens, skip_special_tokens=True)
program = re.sub(r"<act>|<think>.*?(</think>|\Z)|</think>", "", written, flags=re.DOTALL)
"#;

/// Writes `README.md` into every folder below `models/`.
pub(crate) fn write_all(directory: &Path, plan_toml: &str, ledger: &[Record]) -> Result<()> {
    let models = directory.join("models");
    if !models.exists() {
        return Ok(());
    }
    for folder in entries(&models)? {
        if folder.join("config.json").exists() {
            let arm = folder.file_name().unwrap_or_default().to_string_lossy();
            let is_latent = ModelNote::read(&folder).is_ok_and(|note| note.is_latent());
            let card = card(&arm, is_latent, plan_toml, ledger);
            ra3_files::write(&folder.join("README.md"), card.as_bytes())?;
        }
    }
    Ok(())
}

fn card(arm: &str, is_latent: bool, plan_toml: &str, ledger: &[Record]) -> String {
    let run = ledger.iter().find_map(|record| match record {
        Record::Run(run) => Some(run),
        _ => None,
    });
    let (name, seed) = run.map_or(("run", 0), |run| (run.name.as_str(), run.seed));
    let mut text = format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- code\n- ra3\n\
         ---\n\n# {name}: {arm}\n\n{}\n\nSeed {seed}. Documents begin with the tokenizer's begin \
         (or end) of text.\n",
        what(arm, run)
    );
    text += &usage(is_latent);
    text += &score_table(&scores(arm, ledger).collect::<Vec<_>>());
    let _ = write!(text, "\n## Plan\n\n```toml\n{plan_toml}\n```\n");
    text
}

/// How to sample from it, in a program that a test runs.
fn usage(is_latent: bool) -> String {
    let latents = if is_latent {
        "Decisions and rationales are tokens like any others: sample plainly, keep the markers in \
         the text (they are not special tokens), and delete them.\n"
    } else {
        ""
    };
    format!("\n## Use\n\n{latents}\n```python\n{USAGE}```\n")
}

fn what(model: &str, run: Option<&RunRecord>) -> String {
    if let Some(from) = model.strip_prefix("rlvr-") {
        return format!("RLVR (GRPO with tests as reward) from the arm `{from}`.");
    }
    if let Some(arm) = model.strip_suffix("-reference") {
        return format!("The model of `{arm}` after its cold start: the prior of its rationales.");
    }
    let mut arms = run.into_iter().flat_map(|run| &run.arms);
    let arm = arms.find(|arm| arm.name == model);
    match arm.map(|arm| (arm.method.as_str(), &arm.from)) {
        Some(("ra3", from)) => format!(
            "RA3 mid-training from `{from}`: before each line of a program it writes `<act>` to \
             keep the latent in force or `<think> … </think>` to switch to a new one."
        ),
        Some(("ntp", from)) => {
            format!("Next-token mid-training from `{from}`, on the same documents.")
        }
        _ => "The model that mid-training starts from.".to_owned(),
    }
}

fn score_table(scores: &[&ScoreRecord]) -> String {
    if scores.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n## Scores\n\n| benchmark | decisions | updates | samples | temperature | score in % \
         [95 %] |\n|---|---|---|---|---|---|\n",
    );
    for score in scores {
        let passes: Vec<String> = score
            .pass_at
            .iter()
            .map(|(k, interval)| format!("pass@{k} {}", percent(interval)))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {} |",
            score.benchmark,
            score.decision,
            score.position,
            score.n_samples,
            score.temperature,
            passes.join(", ")
        );
    }
    text
}
