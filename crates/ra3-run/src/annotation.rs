//! A document with the latents that a model finds for it.

use anyhow::Result;
use ra3::bounds::act_logprobs;
use ra3::latent_rule::LatentRule;
use ra3::policy::{Policy, TokenId};
use ra3::rollout::draw;
use ra3::scoring::{Frozen, score};
use ra3::seed::Seed;
use ra3::trace::Trace;
use ra3::trajectory::{Latent, Trajectory};
use ra3_records::samples::{AnnotatedLine, DocumentSample};
use ra3_text::tokenizer::Tokenizer;

/// A document with latents drawn from the model, and each line's log-probability with and without.
pub(crate) fn annotate(
    policy: &dyn Policy,
    document: &Trajectory,
    name: &str,
    arm: &str,
    rule: &LatentRule,
    tokenizer: &Tokenizer,
    seed: Seed,
) -> Result<DocumentSample> {
    let batch = std::slice::from_ref(document);
    let (traces, _) = draw(policy, batch, rule, 1, seed.child(name))?;
    let (mut rollouts, _) = score(policy, &Frozen::default(), traces)?;
    let rollout = rollouts.remove(0);
    let trace = &rollout.trace;
    let lines = (0..trace.lines.len()).filter(|line| trace.lines[*line].is_think());
    let thinks: Vec<(&Trace, usize)> = lines.map(|line| (trace, line)).collect();
    let (without, _) = act_logprobs(policy, &thinks, &rule.markers)?;
    let of_line = |(line, text): (usize, &Vec<TokenId>)| {
        let (span, score) = (&trace.lines[line], &rollout.lines[line]);
        let chosen = f64::from(trace.logprobs[span.latent.start]).exp();
        AnnotatedLine {
            text: tokenizer.decode(text),
            rationale: match trace.latent(line) {
                Some(Latent::Switch { rationale, .. }) => Some(tokenizer.decode(&rationale)),
                Some(Latent::Keep) | None => None,
            },
            logprob: f64::from(score.line_logprob),
            logprob_act: f64::from(score.line_logprob),
            think_probability: if span.is_think() {
                chosen
            } else {
                1.0 - chosen
            },
        }
    };
    let mut lines: Vec<AnnotatedLine> = document.lines.iter().enumerate().map(of_line).collect();
    for ((_, line), without) in thinks.iter().zip(without) {
        lines[*line].logprob_act = f64::from(without);
    }
    Ok(DocumentSample {
        arm: arm.to_owned(),
        name: name.to_owned(),
        prefix: tokenizer.decode(&document.prefix[1..]),
        lines,
    })
}
