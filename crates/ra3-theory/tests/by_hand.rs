//! Tasks solved by hand, learners on them, and the loop that learns options.

use ra3::seed::Seed;
use ra3_theory::draws::Draws;
use ra3_theory::experiments::{Experiment, Settings};
use ra3_theory::families::corridors::Layout;
use ra3_theory::families::program::Language;
use ra3_theory::learnt::{Corpus, Learner, learn};
use ra3_theory::mdp::{Mdp, Outcome};
use ra3_theory::option::{Course, OptionModel};
use ra3_theory::page;
use ra3_theory::policy_gradient::PolicyGradient;
use ra3_theory::q_learning::QLearner;
use ra3_theory::smdp::{Smdp, distance};

/// Three cells in a row, `γ = ½`: action 0 moves on and earns 1 on reaching the last cell, action 1
/// stays and earns 0.1.
fn row() -> Mdp {
    Mdp::new(3, 2, 0.5, |cell, action| {
        let step = |reward, to| Outcome {
            reward,
            next: vec![(to, 1.0)],
        };
        match (cell, action) {
            (2, _) => step(0.0, 2),
            (_, 0) => step(f64::from(u8::from(cell == 1)), cell + 1),
            (_, _) => step(0.1, cell),
        }
    })
}

#[test]
fn a_row_by_hand() {
    let mdp = row();
    let models: Vec<OptionModel> = [vec![0], vec![1], vec![0, 0]]
        .map(|actions| Course::Sequence(actions).model(&mdp))
        .into();
    // Step on: ½ · 1 from the first cell, 1 from the second. Stay for ever: 0.1 / (1 − ½).
    let primitive = Smdp::new(&mdp, vec![&models[0], &models[1]]);
    assert!(distance(&primitive.optimal(), &[0.5, 1.0, 0.0]) < 1e-12);
    assert!(distance(&primitive.evaluate(&[1, 1, 1]), &[0.2, 0.2, 0.0]) < 1e-12);
    // With half a chance of each at the first cell: v = ½ (½ · 1) + ½ (0.1 + ½ v).
    let mixed = vec![vec![(0, 0.5), (1, 0.5)], vec![(0, 1.0)], vec![(0, 1.0)]];
    assert!(distance(&primitive.evaluate_mixed(&mixed), &[0.4, 1.0, 0.0]) < 1e-12);
    // Two steps at once find the end from both cells.
    let twice = Smdp::new(&mdp, vec![&models[2]]);
    assert!(distance(&twice.optimal(), &[0.5, 1.0, 0.0]) < 1e-12);
    // One sweep is enough where two primitive sweeps are needed.
    assert_eq!(twice.value_iteration(&[0.5, 1.0, 0.0], 1e-12).len(), 2);
    assert_eq!(primitive.value_iteration(&[0.5, 1.0, 0.0], 1e-12).len(), 3);
}

#[test]
fn a_program_by_hand() {
    let language = Language {
        n_tokens: 2,
        idioms: vec![vec![0, 1], vec![1, 1]],
        n_slots: 2,
        discount: 0.5,
    };
    let family = language.family(&[vec![0, 1]]);
    // The lines 01 and 11 are paid after the second and the fourth token: γ + γ³.
    let primitive = family.with(family.primitives());
    assert!((primitive.best_values(&[0, 1])[0] - 0.625).abs() < 1e-12);
    // Without idiom 1 the second slot stays empty; without any option nothing is earned.
    let options = family.with(family.options.clone());
    assert!((options.best_values(&[0])[0] - 0.5).abs() < 1e-12);
    assert_eq!(options.best_values(&[]), [0.0]);
}

#[test]
fn learners_reach_the_optimum() {
    let layout = Layout {
        n_junctions: 3,
        n_lanes: 4,
        n_steps: 2,
        discount: 0.9,
    };
    let mdp = layout.task(|junction, lane| f64::from(u8::from(lane == junction)));
    let courses: Vec<Course> = (0..4).map(Course::primitive).collect();
    let models: Vec<OptionModel> = courses.iter().map(|course| course.model(&mdp)).collect();
    let smdp = Smdp::new(&mdp, models.iter().collect());
    let best = smdp.optimal()[0];
    assert!((best - (1.0 + 0.81 + 0.81 * 0.81)).abs() < 1e-12);
    let mut draws = Draws::new(Seed::root(1));
    let mut learner = QLearner::new(&mdp, courses.iter().collect(), 0.0);
    for _ in 0..200 {
        learner.episode(0, 0.3, 100, &mut draws);
    }
    assert!((smdp.evaluate_mixed(&learner.policy())[0] - best).abs() < 1e-9);
    let mut gradient = PolicyGradient::new(&mdp, &courses, 0.5);
    (0..2000).for_each(|_| gradient.learn(0, &mut draws));
    let reached = smdp.evaluate_mixed(&gradient.policy())[0];
    assert!(reached > 0.95 * best, "{reached} of {best}");
}

#[test]
fn ra3_finds_idioms_and_keeps_one_latent_where_switching_is_dear() {
    let language = Language {
        n_tokens: 4,
        idioms: vec![vec![0, 1, 2], vec![0, 2, 1], vec![1, 0, 3], vec![1, 3, 0]],
        n_slots: 3,
        discount: 0.95,
    };
    let corpus = Corpus::new(&language, Seed::root(2));
    let plain = corpus.choices_without_latents();
    let found = |cost| learn(&corpus, cost, Learner::Ra3, Seed::root(3)).expect("finite losses");
    let cheap = found(0.1);
    let n_true = cheap
        .options
        .iter()
        .filter(|o| language.idioms.contains(o))
        .count();
    assert!(n_true >= 3, "{cheap:?}");
    assert!(cheap.choices < 0.7 * plain, "{cheap:?} {plain}");
    let dear = found(4.0);
    assert!(dear.lines_per_latent > 9.0, "{dear:?}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let settings = Settings {
        n_seeds: 3,
        seed: 6,
    };
    let run = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build();
        pool.expect("threads").install(|| {
            let found = Experiment::TradeOff.run(&settings).expect("finite losses");
            (found.records(), page::html(&found, &settings))
        })
    };
    let (records, html) = run(1);
    assert_eq!((records.clone(), html.clone()), run(2));
    assert!(records.len() > 40);
    // Each record of a point is on the page: in its chart's data, and in the table behind it.
    let is_point = |record: &&serde_json::Value| record.get("figure").is_some();
    let n_points = records.iter().filter(is_point).count();
    let charts = html.split("class=\"chart\">").skip(1);
    let data = charts.map(|rest| rest.split("</script>").next().expect("an end"));
    let figures = data.map(|json| serde_json::from_str(json).expect("JSON"));
    let n_drawn = figures.flat_map(|figure: serde_json::Value| {
        let series = figure["series"].as_array().expect("series").clone();
        series
            .into_iter()
            .map(|one| one["points"].as_array().map_or(0, Vec::len))
    });
    assert_eq!(n_drawn.sum::<usize>(), n_points);
    assert!(html.contains("<summary>values</summary>") && !html.contains("NaN"));
}
