//! Both errors after a fixed budget of demonstrations and interaction, as the action set goes from
//! everything to a few lines: what a compact set wins in learning and loses in reach.

use ra3::seed::Seed;
use ra3_page::{Axis, Figure as Chart};

use crate::demonstrations::{Uses, experts};
use crate::draws::Draws;
use crate::experiments::{Settings, column};
use crate::families::Modelled;
use crate::families::program::Language;
use crate::finding::{Check, Figure, Finding, measured};
use crate::option::Course;
use crate::q_learning::QLearner;
use crate::regret::Regret;
use crate::statistics::estimate;

const N_TOKENS: usize = 6;
const N_IDIOMS: usize = 12;
const N_JUNK: usize = 36;
const N_SLOTS: usize = 4;
const N_DEMONSTRATIONS: usize = 24;
/// Primitive steps of interaction on each task.
const BUDGET: usize = 240;
/// Tasks that are learnt in each seed.
const N_TASKS: usize = 8;
/// Options that are kept of the ranked list.
const KEPT: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 18, 30, 48];

/// Mean regret over the first tasks after learning with a set for a budget.
pub(super) fn after_budget(
    modelled: &Modelled<'_>,
    kept: &[usize],
    best: &[f64],
    budget: usize,
    seed: Seed,
) -> Regret {
    let start = modelled.family.start;
    let best_kept = modelled.best_values(kept);
    let n_tasks = N_TASKS.min(best.len());
    let share = 1.0 / n_tasks as f64;
    let mut sum = Regret {
        best: 0.0,
        best_kept: 0.0,
        reached: 0.0,
    };
    for task in 0..n_tasks {
        let mdp = &modelled.family.tasks[task];
        let mut draws = Draws::new(seed.nth(task as u64));
        let reached = if kept.is_empty() {
            0.0
        } else {
            let courses = kept.iter().map(|option| &modelled.courses[*option]);
            // Tasks are deterministic: a whole step forgets nothing that is still true.
            let mut learner = QLearner::new(mdp, courses.collect(), 0.0);
            learner.explore(start, 0, budget, &mut draws);
            modelled.smdp(task, kept).evaluate_mixed(&learner.policy())[start]
        };
        sum.best += share * best[task];
        sum.best_kept += share * best_kept[task];
        sum.reached += share * reached;
    }
    sum
}

/// What one seed found; regrets as shares of the best value.
struct Ladder {
    lines: Vec<[f64; 3]>,
    pairs: Vec<[f64; 3]>,
    primitive: [f64; 3],
    everything: [f64; 3],
}

fn shares(regret: Regret) -> [f64; 3] {
    let parts = [regret.total(), regret.pruning_error(), regret.rl_error()];
    parts.map(|part| part / regret.best)
}

fn ladder(seed: Seed) -> Ladder {
    let language = Language::random(N_TOKENS, N_IDIOMS, 4, N_SLOTS, seed.child("language"));
    let wanted = language.common_and_rare(24, seed.child("tasks"));
    let family = language.family(&wanted);
    let mut lines: Vec<Course> = family.options.clone();
    lines.extend(language.junk(N_JUNK, seed.child("junk")));
    let pairs = language.idioms.iter().flat_map(|first| {
        let seconds = language.idioms.iter();
        seconds.map(move |second| Course::Sequence([first.as_slice(), second].concat()))
    });
    // Options that were never seen stay in the order of the list, which must not tell the idioms
    // from the junk, nor the common from the rare.
    let lines = shuffled(&lines, seed.child("order of lines"));
    let pairs = shuffled(&pairs.collect::<Vec<_>>(), seed.child("order of pairs"));
    let primitive = family.with(family.primitives());
    let all: Vec<usize> = (0..N_TOKENS).collect();
    let best = primitive.best_values(&all);
    let mut everything: Vec<Course> = family.primitives();
    everything.extend(lines.iter().cloned());
    let n_everything = everything.len();
    let learn = |modelled: &Modelled<'_>, kept: &[usize], name: &str| {
        shares(after_budget(
            modelled,
            kept,
            &best,
            BUDGET,
            seed.child(name),
        ))
    };
    let rungs = |modelled: &Modelled<'_>, name: &str| {
        let ranked = ranked(modelled, seed.child(name));
        KEPT.map(|n| learn(modelled, &ranked[..n], name)).to_vec()
    };
    Ladder {
        lines: rungs(&family.with(lines), "lines"),
        pairs: rungs(&family.with(pairs), "pairs"),
        primitive: learn(&primitive, &all, "primitive"),
        everything: learn(
            &family.with(everything),
            &(0..n_everything).collect::<Vec<_>>(),
            "everything",
        ),
    }
}

fn shuffled(courses: &[Course], seed: Seed) -> Vec<Course> {
    let order = seed.permutation(courses.len());
    order
        .into_iter()
        .map(|index| courses[index].clone())
        .collect()
}

/// The options from the most used to the least in the budget of demonstrations.
fn ranked(modelled: &Modelled<'_>, seed: Seed) -> Vec<usize> {
    let experts = experts(modelled);
    let mut uses = Uses::none(modelled.courses.len());
    let mut draws = Draws::new(seed.child("demonstrations"));
    for _ in 0..N_DEMONSTRATIONS {
        uses.watch(modelled, &experts, 0.0, &mut draws);
    }
    uses.ranked()
}

/// Runs the experiment.
pub fn run(settings: &Settings) -> Finding {
    let by_seed = settings.by_seed("trade-off", ladder);
    let xs = KEPT.map(|n| n as f64);
    let part = |rungs: &dyn Fn(&Ladder) -> &Vec<[f64; 3]>, part: usize| {
        column(&by_seed, |seed| {
            rungs(seed).iter().map(|rung| rung[part]).collect()
        })
    };
    let flat = |name: &str, of: &dyn Fn(&Ladder) -> f64| {
        let values = column(&by_seed, |seed| vec![of(seed); 2]);
        measured(name, &[xs[0], xs[KEPT.len() - 1]], &values)
    };
    let total = measured("lines: regret", &xs, &part(&|l| &l.lines, 0));
    let lowest = total.points.iter().min_by(|a, b| a.y.total_cmp(&b.y));
    let optimum = lowest.copied();
    let curves = vec![
        total,
        measured("lines: pruning error", &xs, &part(&|l| &l.lines, 1)),
        measured("lines: RL error", &xs, &part(&|l| &l.lines, 2)),
        measured("pairs of lines: regret", &xs, &part(&|l| &l.pairs, 0)),
        flat("primitive (6 tokens): regret", &|l| l.primitive[0]),
        flat("tokens and all lines (54): regret", &|l| l.everything[0]),
    ];
    let primitive = estimate(&by_seed.iter().map(|l| l.primitive[0]).collect::<Vec<_>>());
    let check = optimum.map(|optimum| Check {
        what: "the best set of lines is inside the ladder and beats primitive actions".to_owned(),
        measured: format!(
            "{:.3} with {} lines, {:.3} ± {:.3} with tokens",
            optimum.y, optimum.x, primitive.mean, primitive.half_width
        ),
        held: optimum.x > xs[0]
            && optimum.x < xs[KEPT.len() - 1]
            && optimum.high < primitive.mean - primitive.half_width,
    });
    Finding {
        figures: vec![Figure {
            id: "trade-off",
            chart: Chart {
                title: format!("Regret after {N_DEMONSTRATIONS} demonstrations and {BUDGET} steps"),
                x: Axis::log10("|Ẑ|: options kept, the most used first"),
                y: "share of V* lost".into(),
                series: curves,
                mark: optimum.map(|point| (point.x, point.y)),
                ..Chart::default()
            },
            reading: READING,
        }],
        fits: Vec::new(),
        checks: check.into_iter().collect(),
    }
}

const READING: &str = "\
    From the right: 48 lines (12 idioms and 36 that are junk), then fewer, down to one. Too \
    many options leave RL error, too few leave pruning error, and the sum has its minimum \
    (circle) between them, close to the number of idioms. Pairs of lines are over-compact: a \
    pair needs half the decisions, but a rare pair was never demonstrated, so their curve lies \
    above at the optimum, and falls below where single lines are too many for the budget. \
    Primitive tokens lose nearly everything at this budget though they prune nothing away: the \
    six tokens are a small set, and it is the length of the decision, not the size of the set, \
    that hurts. The optimum depends on the budget: with unlimited interaction every set \
    without pruning error is as good as any other.";
