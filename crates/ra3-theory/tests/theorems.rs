//! Theorems on drawn tasks: the parts of regret add up and are never negative, sweeps contract at
//! least by `γ^τ`, the union bound on demonstrations holds.

use proptest::prelude::*;
use ra3::seed::Seed;
use ra3_theory::draws::Draws;
use ra3_theory::families::Family;
use ra3_theory::families::program::Language;
use ra3_theory::mdp::{Mdp, Outcome};
use ra3_theory::option::{Course, OptionModel};
use ra3_theory::pruning::{Costs, Demonstration, bound};
use ra3_theory::regret::Regret;
use ra3_theory::smdp::{Smdp, distance};

/// A dense task with random transitions and rewards.
fn random_mdp(n_states: usize, n_actions: usize, discount: f64, seed: Seed) -> Mdp {
    Mdp::new(n_states, n_actions, discount, |state, action| {
        let mut draws = Draws::new(seed.nth((state * n_actions + action) as u64));
        let weights: Vec<f64> = (0..n_states).map(|_| draws.uniform() + 1e-3).collect();
        let sum: f64 = weights.iter().sum();
        Outcome {
            reward: draws.uniform(),
            next: weights.iter().map(|w| w / sum).enumerate().collect(),
        }
    })
}

/// Random sequences of exactly so many steps.
fn sequences(n: usize, n_steps: usize, n_actions: usize, seed: Seed) -> Vec<Course> {
    let mut draws = Draws::new(seed);
    let mut one = || (0..n_steps).map(|_| draws.below(n_actions)).collect();
    (0..n).map(|_| Course::Sequence(one())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn regret_is_pruning_error_plus_rl_error(
        number in any::<u64>(),
        n_states in 2usize..9,
        n_options in 1usize..6,
        n_steps in 1usize..5,
        discount in 0.1f64..0.98,
    ) {
        let seed = Seed::root(number);
        let mdp = random_mdp(n_states, 3, discount, seed.child("task"));
        let primitive: Vec<OptionModel> =
            (0..3).map(|action| Course::primitive(action).model(&mdp)).collect();
        let kept: Vec<OptionModel> = sequences(n_options, n_steps, 3, seed.child("options"))
            .iter()
            .map(|course| course.model(&mdp))
            .collect();
        let smdp = Smdp::new(&mdp, kept.iter().collect());
        let best = Smdp::new(&mdp, primitive.iter().collect()).optimal();
        let best_kept = smdp.optimal();
        let mut draws = Draws::new(seed.child("policy"));
        let policy: Vec<usize> = (0..n_states).map(|_| draws.below(n_options)).collect();
        let reached = smdp.evaluate(&policy);
        for state in 0..n_states {
            let regret = Regret {
                best: best[state],
                best_kept: best_kept[state],
                reached: reached[state],
            };
            let gap = regret.total() - (regret.pruning_error() + regret.rl_error());
            prop_assert!(gap.abs() <= 1e-12 * best[state].max(1.0));
            prop_assert!(regret.pruning_error() >= -1e-9);
            prop_assert!(regret.rl_error() >= -1e-9);
        }
    }

    #[test]
    fn a_sweep_contracts_by_gamma_to_the_duration(
        number in any::<u64>(),
        n_steps in 1usize..6,
        discount in 0.1f64..0.98,
    ) {
        let seed = Seed::root(number);
        let mdp = random_mdp(6, 3, discount, seed.child("task"));
        let models: Vec<OptionModel> = sequences(4, n_steps, 3, seed.child("options"))
            .iter()
            .map(|course| course.model(&mdp))
            .collect();
        let smdp = Smdp::new(&mdp, models.iter().collect());
        let mut draws = Draws::new(seed.child("values"));
        let mut values = || (0..6).map(|_| 10.0 * draws.uniform()).collect::<Vec<f64>>();
        let (a, b) = (values(), values());
        let after = distance(&smdp.sweep(&a), &smdp.sweep(&b));
        let rate = discount.powi(n_steps as i32);
        prop_assert!(after <= rate * distance(&a, &b) + 1e-12);
    }

    /// More options never hurt, and options never beat the primitive actions that they are made of.
    #[test]
    fn a_larger_set_is_never_worse(number in any::<u64>()) {
        let seed = Seed::root(number);
        let language = Language::random(3, 4, 3, 2, seed.child("language"));
        let wanted = language.common_and_rare(3, seed.child("tasks"));
        let family: Family = language.family(&wanted);
        let options = family.with(family.options.clone());
        let primitive = family.with(family.primitives());
        let best = primitive.best_values(&[0, 1, 2]);
        let mut before = vec![0.0; best.len()];
        for n in 1..=family.options.len() {
            let kept: Vec<usize> = (0..n).collect();
            let values = options.best_values(&kept);
            for task in 0..best.len() {
                prop_assert!(values[task] >= before[task] - 1e-9);
                prop_assert!(values[task] <= best[task] + 1e-9);
            }
            before = values;
        }
    }
}

#[test]
fn the_union_bound_on_demonstrations_is_kept() {
    use ra3_theory::families::corridors::{Layout, muddy_pool};
    let layout = Layout {
        n_junctions: 2,
        n_lanes: 6,
        n_steps: 3,
        discount: 0.9,
    };
    let (sigma, delta, n_runs) = (0.1, 0.1, 2000);
    let tasks = muddy_pool(&layout, 50, 5, Seed::root(4));
    let costs = Costs::in_corridors(&layout, &tasks, 0.1);
    let bad = costs.bad(sigma);
    assert_eq!(
        bad.len(),
        10,
        "all lanes but the clean one of each junction"
    );
    for kind in [Demonstration::WholeTask, Demonstration::OneDecision] {
        let limit = bound(kind, layout.n_options(), bad.len(), delta, sigma).ceil();
        let mut draws = Draws::new(Seed::root(5));
        let failed = (0..n_runs).filter(|_| costs.wait(&bad, kind, &mut draws) as f64 > limit);
        let share = failed.count() as f64 / f64::from(n_runs);
        // Four standard deviations of a share of δ among the runs.
        let slack = 4.0 * (delta * (1.0 - delta) / f64::from(n_runs)).sqrt();
        assert!(share <= delta + slack, "{kind:?}: {share}");
    }
}

/// Once every bad option is pruned, keeping any one that is left of a kind costs more than ε on
/// less than a share σ of the tasks: what the counting is for.
#[test]
fn what_is_left_costs_little_on_most_tasks() {
    use ra3_theory::families::corridors::{Layout, muddy_pool};
    let layout = Layout {
        n_junctions: 1,
        n_lanes: 5,
        n_steps: 2,
        discount: 0.9,
    };
    let tasks = muddy_pool(&layout, 40, 4, Seed::root(7));
    let costs = Costs::in_corridors(&layout, &tasks, 0.1);
    let bad = costs.bad(0.1);
    let left: Vec<usize> = (0..5).filter(|option| !bad.contains(option)).collect();
    assert_eq!(left, [0]);
    let model = |mdp: &Mdp, lane| Course::primitive(lane).model(mdp);
    for mdp in &tasks {
        let only = model(mdp, left[0]);
        let value = Smdp::new(mdp, vec![&only]).optimal()[0];
        assert_eq!(value, 1.0, "the clean lane earns 1 on every task");
    }
    let all: Vec<OptionModel> = (0..5).map(|lane| model(&tasks[0], lane)).collect();
    let errors = Smdp::new(&tasks[0], all.iter().collect()).value_iteration(&[1.0, 0.0], 1e-12);
    assert_eq!(errors.first().copied().unwrap(), 1.0);
}
