//! The E-step on a policy so small that everything it does can be summed exactly.
//!
//! A document is `x | filler | y(x) | end`. The policy, a table, sees four tokens back and the
//! latent in force, so where `y` is written `x` is out of sight: without latents the line costs
//! `log 2`. The cure is to think before the filler with a rationale that names `x`, and to keep it.
//! The table already follows such a latent, but decides and thinks at random; the E-step teaches it
//! which latents pay. [`Enumeration`] lists all that there are, so there is no sampling in what is
//! printed: the mean return, which the E-step raises, and the part of it that is the lines' own
//! log-likelihood. The rest is the price of the switches.
//!
//! Another model takes the table's place by implementing `ra3::policy::Policy`: `ra3::table` is the
//! shortest example of that, and the crate `ra3-contract` has the tests that it has to pass.
//!
//! ```text
//! cargo run -p ra3 --example e_step
//! ```
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use ra3::e_step;
use ra3::enumeration::{Enumeration, annotations, latents, mean};
use ra3::policy::{PolicyError, TokenId};
use ra3::rewards::Penalty;
use ra3::scoring::Frozen;
use ra3::seed::Seed;
use ra3::settings::EStepConfig;
use ra3::table::TablePolicy;
use ra3::trace::Trace;
use ra3::trajectory::{Annotated, Latent, Markers, Trajectory};

const MARKERS: Markers = Markers {
    act: 1,
    think: 2,
    close: 3,
    end: 0,
};
/// The two values of `x`.
const X: [TokenId; 2] = [4, 5];
const FILLER: TokenId = 6;
/// What follows from either `x`.
const Y: [TokenId; 2] = [7, 8];
const N_VOCABULARY: usize = 9;
const N_UPDATES: u64 = 300;

fn document(bit: usize) -> Trajectory {
    Trajectory {
        prefix: vec![MARKERS.end, X[bit]],
        lines: vec![vec![FILLER; 3], vec![Y[bit]], vec![MARKERS.end]],
    }
}

/// Every way of putting latents before a document's lines.
fn all_annotations(document: &Trajectory) -> Vec<Annotated> {
    let rationale_tokens_max = config().rationale_tokens_max;
    annotations(
        document,
        &latents(&MARKERS, N_VOCABULARY, rationale_tokens_max),
    )
}

/// A table that can write every line after any latents. What it expects of `y` follows the latent
/// in force where that names an `x`, and is a toss of a coin elsewhere.
fn policy() -> TablePolicy {
    let mut table = TablePolicy::random(N_VOCABULARY, 4, 0.0, Seed::root(0))
        .with_latent_in_force(MARKERS.think);
    for bit in 0..2 {
        for annotated in all_annotations(&document(bit)) {
            let trace = Trace::of(&annotated, &MARKERS);
            for at in trace.lines.iter().flat_map(|span| span.action.clone()) {
                let (before, token) = (&trace.tokens[..at], trace.tokens[at]);
                let is_contrary = token == Y[bit] && in_force(before) == Some(X[1 - bit]);
                let logit = if is_contrary { 6.0 } else { 8.0 };
                table.logits_after(before)[token as usize] = logit;
            }
        }
    }
    table
}

/// The rationale in force.
fn in_force(tokens: &[TokenId]) -> Option<TokenId> {
    let think = tokens.iter().rposition(|token| *token == MARKERS.think)?;
    tokens.get(think + 1).copied()
}

fn config() -> EStepConfig {
    EStepConfig {
        group_size: 8,
        rationale_tokens_max: 1,
        horizon: 0,
        penalty: Penalty::SwitchCost { cost: 0.15 },
        // Rationales do not pay at first: without a floor the table would give up thinking before
        // it has learnt which ones do.
        think_floor: 0.25,
        ..EStepConfig::default()
    }
}

/// What the table does with a document.
struct Exact {
    /// `E_q Σ_t r_t`.
    mean_return: f64,
    /// `E_q Σ_t log π(a_t | h_t, z_t)`.
    mean_lines: f64,
    /// The likeliest latents, one a line, and their probability.
    likeliest: (Vec<Option<Latent>>, f64),
}

fn look(policy: &TablePolicy, document: &Trajectory) -> Result<Exact, PolicyError> {
    let annotated = all_annotations(document);
    let all = Enumeration::of(policy, &Frozen::default(), &annotated, &MARKERS)?;
    let log_q = all.log_q();
    let probabilities: Vec<f64> = log_q.iter().map(|log_q| log_q.exp()).collect();
    let total: f64 = probabilities.iter().sum();
    assert!(
        (total - 1.0).abs() < 1e-4,
        "all latents are listed: {total}"
    );
    let best = (0..annotated.len())
        .max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]))
        .expect("there are latents");
    Ok(Exact {
        mean_return: all.mean_return(config().penalty),
        mean_lines: mean(&log_q, &all.log_lines()),
        likeliest: (annotated[best].latents.clone(), probabilities[best]),
    })
}

fn main() -> Result<(), PolicyError> {
    let mut policy = policy();
    let documents = [document(0), document(1)];
    println!("updates  x  mean return  mean log p(lines)  likeliest latents");
    for update in 0..N_UPDATES {
        if update.is_multiple_of(N_UPDATES / 3) {
            show(update, &policy, &documents)?;
        }
        let (frozen, seed) = (Frozen::default(), Seed::root(1).nth(update));
        let (config, learning_rate) = (config(), 4.0);
        e_step::update(
            &mut policy,
            &frozen,
            &documents,
            &MARKERS,
            &config,
            learning_rate,
            seed,
        )?;
    }
    let found = show(N_UPDATES, &policy, &documents)?;
    for (exact, x) in found.iter().zip(X) {
        let (latents, probability) = &exact.likeliest;
        let named = Latent::Switch {
            rationale: vec![x],
            forced_close: true,
        };
        let best = [named, Latent::Keep, Latent::Keep].map(Some);
        assert!(latents == &best && *probability > 0.8, "x is named once");
        // Without thinks both are −log 2.
        assert!(exact.mean_lines > -0.2, "y is known: {}", exact.mean_lines);
        assert!(exact.mean_return > -0.35, "it pays: {}", exact.mean_return);
    }
    Ok(())
}

fn show(
    n_updates: u64,
    policy: &TablePolicy,
    documents: &[Trajectory],
) -> Result<Vec<Exact>, PolicyError> {
    let mut found = Vec::new();
    for (document, x) in documents.iter().zip(X) {
        let exact = look(policy, document)?;
        println!(
            "{n_updates:>7}  {x}  {:>11.3}  {:>17.3}  {} ({:.0} %)",
            exact.mean_return,
            exact.mean_lines,
            words(&exact.likeliest.0),
            100.0 * exact.likeliest.1
        );
        found.push(exact);
    }
    Ok(found)
}

fn words(latents: &[Option<Latent>]) -> String {
    let word = |latent: &Option<Latent>| match latent {
        None => "nothing".to_owned(),
        Some(Latent::Keep) => "act".to_owned(),
        Some(Latent::Switch { rationale, .. }) => format!("think {rationale:?}"),
    };
    latents.iter().map(word).collect::<Vec<_>>().join(", ")
}
