//! Figures about latents, an E-step's rollouts and RLVR's programs: what a run reports, and nothing
//! is learnt from.

use crate::e_step::Credit;
use crate::group::Group;
use crate::scoring::Scored;
use crate::trace::LineSpan;
use crate::trajectory::{Annotated, Latent};

/// How latents are used in a set of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatentStats {
    /// Share of lines with a switch.
    pub think_rate: f64,
    /// Mean lines that a latent stays in force: the effective shortening of the horizon. The lines
    /// before a document's first switch count as one latent, the empty one.
    pub persistence: f64,
    /// Mean tokens of a rationale.
    pub rationale_tokens: f64,
}

impl LatentStats {
    /// Counts over annotated documents.
    pub fn of<'a>(documents: impl Iterator<Item = &'a Annotated>) -> Self {
        let length = |latent: &Option<Latent>| latent.as_ref().map_or(0, Latent::n_tokens);
        Self::of_lengths(documents.map(|document| document.latents.iter().map(length).collect()))
    }

    /// Counts over documents given by the number of tokens of each line's latent: 0 where nothing
    /// was decided, 1 for an act, the rationale's and 2 for a switch.
    pub fn of_lengths(documents: impl Iterator<Item = Vec<usize>>) -> Self {
        let (mut n_lines, mut n_thinks, mut n_tokens, mut n_empty) = (0usize, 0usize, 0usize, 0);
        for lengths in documents {
            n_lines += lengths.len();
            n_empty += usize::from(lengths.first().is_some_and(|length| *length < 2));
            for length in lengths.iter().filter(|length| **length >= 2) {
                n_thinks += 1;
                n_tokens += length - 2;
            }
        }
        Self {
            think_rate: n_thinks as f64 / n_lines.max(1) as f64,
            persistence: n_lines as f64 / (n_thinks + n_empty).max(1) as f64,
            rationale_tokens: n_tokens as f64 / n_thinks.max(1) as f64,
        }
    }
}

/// Figures of a batch of rollouts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RolloutStats {
    /// Mean over rollouts of `Σ_t r_t`.
    pub mean_return: f64,
    /// Mean over rollouts and lines of `log π(a_t | h_t, z_t)`.
    pub mean_line_logprob: f64,
    /// The latents of the rollouts.
    pub latents: LatentStats,
    /// Mean difference of `R_t` between thinks and acts of one group at one line, where both occur.
    pub mean_gain: f64,
    /// Mean over switches of `−log q` of the rationale as it was drawn, in nats: an estimate of the
    /// entropy of rationales, whose exponential is how many the model chooses among.
    pub rationale_nats: f64,
    /// Share of lines whose decision was `<act>` by force, for want of room.
    pub out_of_room_share: f64,
}

impl RolloutStats {
    /// Figures of rollouts in groups of `group_size`, and of what they earned.
    pub fn of(rollouts: &[Scored], credit: &Credit, group_size: usize) -> Self {
        let lines = || rollouts.iter().flat_map(|rollout| &rollout.lines);
        let n_lines = lines().count().max(1) as f64;
        let rewards = credit.rewards.iter().flatten();
        let rewards = rewards.map(|reward| f64::from(*reward));
        let logprobs = lines().map(|line| f64::from(line.line_logprob));
        let gains = rollouts
            .chunks(group_size)
            .zip(credit.returns.chunks(group_size))
            .flat_map(|(group, returns)| gains(group, returns));
        Self {
            mean_return: rewards.sum::<f64>() / rollouts.len().max(1) as f64,
            mean_line_logprob: logprobs.sum::<f64>() / n_lines,
            latents: LatentStats::of_lengths(
                rollouts
                    .iter()
                    .map(|rollout| rollout.trace.latent_lengths()),
            ),
            mean_gain: mean(gains),
            rationale_nats: mean_rationale_nats(rollouts),
            out_of_room_share: rollouts.iter().map(n_out_of_room).sum::<usize>() as f64 / n_lines,
        }
    }
}

/// Of tokens that were forced the log-probability is 0.
fn mean_rationale_nats(rollouts: &[Scored]) -> f64 {
    let nats = |rollout: &Scored| -> Vec<f64> {
        let trace = &rollout.trace;
        let thinks = trace.lines.iter().filter(|span| span.is_think());
        let nats_of = |span: &LineSpan| {
            let logprobs = trace.logprobs[span.rationale()].iter();
            -logprobs.map(|logprob| f64::from(*logprob)).sum::<f64>()
        };
        thinks.map(nats_of).collect()
    };
    mean(rollouts.iter().flat_map(nats))
}

/// Acts that were forced. (Where every decision is an act, nothing is learnt from rollouts.)
fn n_out_of_room(rollout: &Scored) -> usize {
    let is_forced_act =
        |span: &&LineSpan| span.latent.len() == 1 && !rollout.trace.mask[span.latent.start];
    rollout.trace.lines.iter().filter(is_forced_act).count()
}

/// By line where both occur: mean `R_t` of the group's thinks less that of its acts.
fn gains(group: &[Scored], returns: &[Vec<f32>]) -> Vec<f64> {
    let n_lines = group.first().map_or(0, |rollout| rollout.lines.len());
    let gain = |line: usize| {
        let mean = |is_think: bool| {
            let chosen: Vec<f32> = (0..group.len())
                .filter(|member| group[*member].trace.lines[line].is_think() == is_think)
                .map(|member| returns[member][line])
                .collect();
            let sum = f64::from(chosen.iter().sum::<f32>());
            (!chosen.is_empty()).then(|| sum / chosen.len() as f64)
        };
        Some(mean(true)? - mean(false)?)
    };
    (0..n_lines).filter_map(gain).collect()
}

/// Figures of what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupStats {
    /// Mean reward of the programs.
    pub mean_reward: f64,
    /// Share of groups whose rewards differ.
    pub groups_with_signal: f64,
    /// Mean tokens of a program.
    pub program_tokens: f64,
    /// Share of programs that ended by themselves.
    pub ended_share: f64,
}

impl GroupStats {
    /// Figures of groups of one size.
    pub fn of(groups: &[Group]) -> Self {
        let programs = || groups.iter().flat_map(|group| &group.programs);
        let rewards = groups.iter().flat_map(|group| &group.rewards);
        let share = |is_so: bool| f64::from(u8::from(is_so));
        Self {
            mean_reward: mean(rewards.map(|reward| f64::from(*reward))),
            groups_with_signal: mean(groups.iter().map(|group| share(group.has_signal()))),
            program_tokens: mean(programs().map(|program| program.raw().len() as f64)),
            ended_share: mean(programs().map(|program| share(program.ended))),
        }
    }
}

/// The mean in `f64`; 0 of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_counted_by_hand() {
        let (first, second) = (vec![5, 1, 1, 3], vec![1, 1]);
        let stats = LatentStats::of_lengths([first, second.clone()].into_iter());
        // Two switches in six lines; three latents, of which one is the second document's empty
        // one.
        assert_eq!(stats.think_rate, 2.0 / 6.0);
        assert_eq!(stats.persistence, 2.0);
        assert_eq!(stats.rationale_tokens, 2.0);
        // Documents without a switch do not run together.
        let silent = LatentStats::of_lengths([second.clone(), second].into_iter());
        assert_eq!((silent.think_rate, silent.persistence), (0.0, 2.0));
    }
}
