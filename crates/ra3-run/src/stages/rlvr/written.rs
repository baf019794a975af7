//! Programs of a batch of problems with what they earned, and the figures of an update.

use std::collections::BTreeMap;

use anyhow::Result;
use ra3::completion::Completion;
use ra3::group::Group;
use ra3::statistics::GroupStats;
use ra3_evals::outcome::Fault;
use ra3_evals::rlvr::reward_command::Reward;

use crate::programs::Earned;

/// Programs of a batch of problems that could be graded.
pub(super) struct Written {
    /// They and their rewards, by problem.
    pub(super) groups: Vec<Group>,
    /// Problems with a broken checker, and what is wrong with it.
    pub(super) faults: BTreeMap<usize, String>,
    /// Means of what the user's command has named, for the ledger.
    pub(super) components: BTreeMap<String, f64>,
}

/// Puts what the user's command has said in the place of what the tests came to; the means of what
/// it has named. It was asked of the programs that could be graded.
pub(super) fn set_rewards(
    graded: &mut [Result<Earned, Fault>],
    answers: &[Reward],
) -> BTreeMap<String, f64> {
    let mut components: BTreeMap<String, f64> = BTreeMap::new();
    for (earned, answer) in graded.iter_mut().flatten().zip(answers) {
        earned.reward = answer.total;
        for (name, value) in &answer.components {
            *components.entry(format!("reward_{name}")).or_default() += value;
        }
    }
    let n = answers.len().max(1) as f64;
    components.values_mut().for_each(|sum| *sum /= n);
    components
}

impl Written {
    /// As many programs for each problem, in the problems' order. A problem whose checker turns out
    /// to be broken has no group: no program for it earns or loses anything.
    ///
    /// # Errors
    /// The sandbox failed, which is no program's fault.
    pub(super) fn of(
        problems: &[usize],
        programs: Vec<Completion>,
        graded: &[Result<Earned, Fault>],
    ) -> Result<Self> {
        let group_size = programs.len() / problems.len();
        let is_failed = |graded: &&_| matches!(graded, Err(Fault::Sandbox(_)));
        let n_failed = graded.iter().filter(is_failed).count();
        anyhow::ensure!(n_failed == 0, "the sandbox failed for {n_failed} programs");
        let mut faults = BTreeMap::new();
        for (problem, graded) in problems.iter().zip(graded.chunks(group_size)) {
            for fault in graded.iter().filter_map(|graded| graded.as_ref().err()) {
                faults.insert(*problem, fault.to_string());
            }
        }
        let reward = |earned: &Earned| earned.reward as f32;
        // What a broken checker says of a program is in no group that stays.
        let reward = |graded: &Result<Earned, Fault>| graded.as_ref().map_or(0.0, reward);
        let rewards: Vec<f32> = graded.iter().map(reward).collect();
        let groups = Group::split(programs, &rewards, group_size).into_iter();
        let sound = groups.zip(problems);
        let sound = sound.filter(|(_, problem)| !faults.contains_key(*problem));
        Ok(Self {
            groups: sound.map(|(group, _)| group).collect(),
            faults,
            components: BTreeMap::new(),
        })
    }
}

/// The means of some figures, each over those that have it.
pub(super) fn mean(all: &[BTreeMap<String, f64>]) -> BTreeMap<String, f64> {
    let mut found: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (name, value) in all.iter().flatten() {
        let (sum, n) = found.entry(name.clone()).or_default();
        *sum += value;
        *n += 1.0;
    }
    let means = found.into_iter();
    means.map(|(name, (sum, n))| (name, sum / n)).collect()
}

/// The figures of an update. Where nothing could be graded there is no reward, which is not one of
/// 0.
pub(super) fn figures(groups: Option<GroupStats>, gradient_norm: f64) -> BTreeMap<String, f64> {
    let of_groups = groups.into_iter().flat_map(|groups| {
        [
            ("reward", groups.mean_reward),
            ("groups_with_signal", groups.groups_with_signal),
            ("program_tokens", groups.program_tokens),
            ("ended_share", groups.ended_share),
        ]
    });
    let all = of_groups.chain([("gradient_norm", gradient_norm)]);
    all.map(|(name, figure)| (name.to_owned(), figure))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use ra3::policy::TokenId;
    use ra3::trace::Trace;
    use ra3_evals::outcome::{Part, Verdict};

    use super::*;

    const GROUP_SIZE: usize = 3;

    /// Programs are told apart by a token.
    fn program(token: TokenId) -> Completion {
        Completion {
            trace: Trace {
                tokens: vec![token],
                ..Trace::default()
            },
            n_prompt: 0,
            ended: false,
            markers: None,
        }
    }

    fn earned(reward: f64) -> Earned {
        let verdict = Verdict::from(Part::passed(1));
        Earned { verdict, reward }
    }

    fn written(problems: &[usize], graded: &[Result<Earned, Fault>]) -> Result<Written> {
        let programs = (0..graded.len() as TokenId).map(program).collect();
        Written::of(problems, programs, graded)
    }

    proptest! {
        #[test]
        fn a_problem_with_a_broken_checker_has_no_group(
            problems in prop::collection::vec(0usize..4, 1..6),
            breaks in prop::collection::vec(prop::bool::weighted(0.2), 5 * GROUP_SIZE),
        ) {
            let n = problems.len() * GROUP_SIZE;
            let broken = || Err(Fault::Checker("is broken".to_owned()));
            let graded: Vec<_> = (0..n)
                .map(|at| if breaks[at] { broken() } else { Ok(earned(at as f64)) })
                .collect();
            let found = written(&problems, &graded).expect("no sandbox failed");
            let faulty: BTreeSet<usize> =
                (0..n).filter(|at| breaks[*at]).map(|at| problems[at / GROUP_SIZE]).collect();
            prop_assert_eq!(found.faults.keys().copied().collect::<BTreeSet<_>>(), faulty.clone());
            let sound = (0..problems.len()).filter(|at| !faulty.contains(&problems[*at]));
            let wanted: Vec<f32> = sound
                .flat_map(|at| at * GROUP_SIZE..(at + 1) * GROUP_SIZE)
                .map(|at| at as f32)
                .collect();
            let rewards: Vec<f32> = found.groups.iter().flat_map(|g| g.rewards.clone()).collect();
            let programs = found.groups.iter().flat_map(|group| &group.programs);
            let tokens: Vec<f32> = programs.map(|program| program.raw()[0] as f32).collect();
            prop_assert_eq!(&rewards, &wanted);
            prop_assert_eq!(tokens, wanted);
        }
    }

    #[test]
    fn where_all_checkers_are_broken_there_is_no_reward() {
        let broken = Err(Fault::Checker("gives no number".to_owned()));
        let found = written(&[5, 8], &vec![broken; 2 * GROUP_SIZE]).expect("no sandbox failed");
        assert!(found.groups.is_empty());
        assert_eq!(
            found.faults[&8],
            "the problem's checker gives no number".to_owned()
        );
        assert_eq!(
            figures(None, 0.5).into_iter().collect::<Vec<_>>(),
            [("gradient_norm".to_owned(), 0.5)]
        );
        let none_earned = figures(Some(GroupStats::default()), 0.5);
        assert_eq!((none_earned["reward"], none_earned.len()), (0.0, 5));
    }

    #[test]
    fn a_sandbox_that_fails_stops_the_update() {
        let failed = Err(Fault::Sandbox("no process".to_owned()));
        let error = written(&[1], &[Ok(earned(0.0)), failed, Ok(earned(1.0))]);
        let error = error.err().expect("it stops").to_string();
        assert_eq!(error, "the sandbox failed for 1 programs");
    }
}
