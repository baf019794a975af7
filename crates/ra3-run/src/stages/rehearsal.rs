//! The largest work of a stage, run forward and backward and forgotten: what does not fit fails now
//! and not after an hour. Micro-batches bound what several trees take together, so the largest tree
//! alone is what there is to try.

use anyhow::Result;
use ra3::interleave::{TokenWeights, interleave, normalise, plain};
use ra3::model::Model;
use ra3::policy::{Example, Objective, TokenId};
use ra3::trajectory::{Annotated, Latent, Markers, Trajectory};
use ra3_corpus::shards::Shards;

/// The longest documents, as next-token prediction has them.
pub(super) fn documents(lm: &dyn Model, documents: &Shards, batch_documents: usize) -> Result<()> {
    let longest = longest(documents, batch_documents);
    run(
        lm,
        longest
            .iter()
            .map(|document| plain(document, 1.0))
            .collect(),
    )
}

/// The rollouts of the longest document, as long as the context lets them be, no two alike.
pub(super) fn rollouts(
    lm: &dyn Model,
    documents: &Shards,
    markers: &Markers,
    group_size: usize,
    rationale_tokens_max: usize,
) -> Result<()> {
    let room = lm.shape().n_context;
    let mut examples = Vec::new();
    for trajectory in longest(documents, 1) {
        for member in 0..group_size {
            let token = other_than(markers, member, lm.shape().n_vocabulary);
            let rationale = vec![token; rationale_tokens_max];
            examples.push(thinking(&trajectory, &rationale, markers, room));
        }
    }
    run(lm, examples)
}

/// The programs of the longest prompt, as long as they may be, no two alike.
pub(super) fn programs(
    lm: &dyn Model,
    prompts: &[Vec<TokenId>],
    markers: &Markers,
    group_size: usize,
    program_tokens_max: usize,
) -> Result<()> {
    let Some(prompt) = prompts.iter().max_by_key(|prompt| prompt.len()) else {
        return Ok(());
    };
    let shape = lm.shape();
    let n_tokens = (prompt.len() + program_tokens_max).min(shape.n_context);
    let program = |member: usize| {
        let mut tokens = prompt.clone();
        tokens.resize(n_tokens, other_than(markers, member, shape.n_vocabulary));
        let mut weights = vec![0.0; prompt.len()];
        weights.resize(n_tokens, 1.0);
        Example::plain(tokens, weights)
    };
    run(lm, (0..group_size).map(program).collect())
}

fn run(lm: &dyn Model, mut batch: Vec<Example>) -> Result<()> {
    normalise(&mut batch);
    let objective = Objective::likelihood(0.0);
    Ok(lm.rehearse(&batch, objective)?)
}

fn longest(documents: &Shards, n: usize) -> Vec<Trajectory> {
    let n_tokens = |index: &usize| documents.trajectory(*index).n_tokens();
    let mut longest: Vec<usize> = (0..documents.len()).collect();
    longest.sort_by_cached_key(|index| std::cmp::Reverse(n_tokens(index)));
    let longest = longest.into_iter().take(n);
    longest.map(|index| documents.trajectory(index)).collect()
}

/// The trajectory with this rationale before every line for which there is room.
fn thinking(
    trajectory: &Trajectory,
    rationale: &[TokenId],
    markers: &Markers,
    room: usize,
) -> Example {
    let n_least = trajectory.n_tokens() + trajectory.lines.len();
    let n_thinks = room.saturating_sub(n_least) / (rationale.len() + 1);
    let latent = |line: usize| {
        Some(if line < n_thinks {
            Latent::Switch {
                rationale: rationale.to_vec(),
                forced_close: true,
            }
        } else {
            Latent::Keep
        })
    };
    let annotated = Annotated {
        latents: (0..trajectory.lines.len()).map(latent).collect(),
        trajectory: trajectory.clone(),
    };
    let weights = TokenWeights {
        prefix: 0.0,
        line: 0.0,
        decision: 1.0,
        rationale: 1.0,
    };
    interleave(&annotated, markers, weights)
}

/// A token for each member of a group that is no marker.
fn other_than(markers: &Markers, member: usize, n_vocabulary: usize) -> TokenId {
    let all = [markers.act, markers.think, markers.close, markers.end];
    let others: Vec<TokenId> = (0..n_vocabulary as TokenId)
        .filter(|token| !all.contains(token))
        .take(member + 1)
        .collect();
    others
        .get(member)
        .or(others.last())
        .copied()
        .unwrap_or(markers.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKERS: Markers = Markers {
        act: 1,
        think: 2,
        close: 3,
        end: 0,
    };

    #[test]
    fn the_longest_rollout_fits_its_context() {
        let trajectory = Trajectory {
            prefix: vec![0],
            lines: vec![vec![5, 5], vec![6], vec![0]],
        };
        // 5 tokens and 3 markers; a rationale of 2 takes 3 more than an act.
        for (room, n_tokens) in [(8, 8), (10, 8), (11, 11), (14, 14), (17, 17), (99, 17)] {
            let example = thinking(&trajectory, &[7, 7], &MARKERS, room);
            assert_eq!(example.tokens.len(), n_tokens, "{room}");
        }
        assert_eq!([0, 1].map(|member| other_than(&MARKERS, member, 8)), [4, 5]);
        assert_eq!(other_than(&MARKERS, 9, 8), 7);
    }
}
