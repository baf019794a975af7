//! One function for each subcommand: call `ra3-run`, `ra3-theory` or `ra3-bench`, print text or
//! JSON.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ra3_report::compare::Comparison;
use ra3_run::HubSettings;
use ra3_run::Level;
use ra3_run::answers::{self, BenchRequest};
use ra3_run::benchmark_data;
use ra3_run::directory::{self, Unused};
use ra3_run::doctor::{self, Examination};
use ra3_run::event::Event;
use ra3_run::grade_report;
use ra3_run::grading::{self, GradeRequest};
use ra3_run::init::{self, InitRequest};
use ra3_run::inspect::{self, Annotation};
use ra3_run::pipeline::{self, Start};
use ra3_run::plan::Plan;
use ra3_run::program::{self, ProgramRequest};
use ra3_run::run_file::{self, EngineSection, GradingSection};
use ra3_run::study;
use ra3_run::visible::to_visible_json;
use ra3_run::{estimate, finished_runs, report};
use ra3_theory::experiments::{Experiment, Settings};
use ra3_theory::finding::Finding;
use ra3_theory::results;
use serde::Serialize;

use crate::arguments::{
    BenchOptions, CleanOptions, CompareOptions, Confinement, DataCommand, DoctorOptions,
    EvalOptions, ExplainOptions, GradeOptions, GradingOptions, InitOptions, InspectOptions,
    PlanOptions, ReportOptions, RunOptions, SampleOptions, StudyOptions, TheoryOptions,
};
use crate::bars::Bars;
use crate::output::{is_coloured, print, print_as_is, tell};

/// Version and commit, see build.rs.
pub(crate) const BUILD: &str = env!("RA3_BUILD");

/// `ra3 init`
pub(crate) fn init(options: &InitOptions) -> Result<()> {
    let request = InitRequest {
        model: options.model.clone(),
        corpus: options.corpus.clone(),
        problems: options.problems.clone(),
        out: options.out.clone(),
    };
    let mut bars = Bars::new();
    let text = init::write(&request, &mut |event| bars.show(event))?;
    print(text.trim_end())
}

/// `ra3 run`
pub(crate) fn run(options: &RunOptions) -> Result<()> {
    let plan = Plan::load(&options.plan.file, &options.plan.overrides)?;
    let mut bars = Bars::new();
    let start = Start {
        build: BUILD,
        restarts_stage: options.restart_stage,
        ignores_memory: options.force,
    };
    let table = pipeline::run(&plan, start, &mut |event| bars.show(event))?;
    if options.plan.json {
        print(table.to_json())?;
    } else {
        print(table.to_text(options.wide))?;
        let page = plan.file.directory.join("report.html");
        print(format_args!("report: {}", page.display()))?;
    }
    Ok(())
}

/// `ra3 study`
pub(crate) fn study(options: &StudyOptions) -> Result<()> {
    let StudyOptions { plan, force } = options;
    let file = run_file::load(&plan.file, &plan.overrides)?;
    let start = Start {
        build: BUILD,
        restarts_stage: false,
        ignores_memory: *force,
    };
    let mut bars = Bars::new();
    let directories = study::run(&file, start, &mut |event| bars.show(event))
        .with_context(|| format!("run file {}", plan.file.display()))?;
    let against = study::against(&file);
    let page = study::directory(&file).join("study.html");
    show_comparison(&directories, against.as_deref(), Some(&page), plan.json)
}

/// `ra3 compare`
pub(crate) fn compare(options: &CompareOptions) -> Result<()> {
    let directories = finished_runs::directories(&options.directories)?;
    let against = options.against.as_deref();
    show_comparison(&directories, against, options.page.as_deref(), options.json)
}

fn show_comparison(
    directories: &[PathBuf],
    against: Option<&str>,
    page: Option<&Path>,
    is_json: bool,
) -> Result<()> {
    let comparison = Comparison::new(&finished_runs::read(directories)?, against)?;
    if let Some(page) = page {
        comparison.write_page(page)?;
    }
    if is_json {
        return print(comparison.to_json());
    }
    print(comparison.to_text())?;
    match page {
        Some(page) => print(format_args!("page: {}", page.display())),
        None => Ok(()),
    }
}

/// `ra3 clean`
pub(crate) fn clean(options: &CleanOptions) -> Result<()> {
    let unused = directory::unused(&options.directory, options.forget_missing)?;
    if options.yes {
        unused.iter().try_for_each(Unused::remove)?;
    }
    if options.json {
        let value = serde_json::json!({ "removed": options.yes, "unused": unused });
        return print_json(&value);
    }
    let n_bytes: u64 = unused.iter().map(|stage| stage.n_bytes).sum();
    for stage in &unused {
        let mib = stage.n_bytes as f64 / 1_048_576.0;
        print(format_args!("{mib:>10.1} MiB  {}", stage.path.display()))?;
    }
    let word = match (unused.len(), options.yes) {
        (0, _) => "nothing is unused",
        (_, true) => "removed",
        (_, false) => "unused; --yes removes it",
    };
    let mib = n_bytes as f64 / 1_048_576.0;
    print(format_args!("{mib:>10.1} MiB  {word}"))
}

/// `ra3 plan`
pub(crate) fn plan(options: &PlanOptions) -> Result<()> {
    let plan = Plan::load(&options.file, &options.overrides)?;
    let written = run_file::written(&options.file, &options.overrides)?;
    let estimate = estimate::estimate(&plan)?;
    if options.json {
        return print_json(&serde_json::json!({
            "plan": plan.file,
            "defaults": run_file::defaulted(&plan.file, &written),
            "estimate": estimate,
        }));
    }
    let settings = run_file::marked(&plan.file, &written);
    print(format_args!("{settings}\n{}", estimate.to_text()))
}

/// `ra3 explain`
pub(crate) fn explain(options: &ExplainOptions) -> Result<()> {
    let Some(name) = &options.name else {
        let sections = run_file::sections();
        if options.json {
            return print_json(&sections);
        }
        for section in &sections {
            print(section.to_line())?;
        }
        return Ok(());
    };
    let explanation = run_file::explain(name)?;
    show(options.json, &explanation, explanation.to_text())
}

/// `ra3 sample`
pub(crate) fn sample(options: &SampleOptions) -> Result<()> {
    let prompt = match (&options.prompt, &options.prompt_file) {
        (Some(prompt), _) => prompt.replace("\\n", "\n"),
        (None, Some(path)) => read(path)?,
        (None, None) => unreachable!("clap requires one of the two"),
    };
    let request = ProgramRequest {
        n_samples: options.n_samples,
        temperature: options.temperature,
        tokens_max: options.max_tokens,
        plain: options.plain,
        seed: options.seed,
    };
    let mut bars = Bars::new();
    let watcher = &mut |event| bars.show(event);
    for program in program::sample(&options.model, &prompt, options.chat, &request, watcher)? {
        if options.json {
            print(serde_json::to_string(&program)?)?;
        } else {
            print(format_args!("{prompt}{}", program.raw))?;
        }
    }
    Ok(())
}

/// `ra3 eval`
pub(crate) fn eval(options: &EvalOptions) -> Result<()> {
    let Some(problems) = &options.problems else {
        return eval_benches(options);
    };
    let GradingOptions { data, from, to, .. } = &options.grading;
    let of_benches = [
        ("--data", data.is_some()),
        ("--from", from.is_some()),
        ("--to", to.is_some()),
        ("--rules-of-2024", options.grading.rules_of_2024),
    ];
    if let Some((option, _)) = of_benches.iter().find(|(_, is_there)| *is_there) {
        bail!("{option} is for --bench: --problems names a file of problems, which are all asked");
    }
    let mut bars = Bars::new();
    let score = program::grade_model(
        &options.model,
        problems,
        &writing(options, 256),
        &GradingSection {
            n_workers: options.grading.workers,
            confinement: confinement(options.grading.confinement),
        },
        &mut |event| bars.show(event),
    )?;
    show(options.json, &score, grade_report::score_text(&score))
}

fn writing(options: &EvalOptions, tokens_max: usize) -> ProgramRequest {
    ProgramRequest {
        n_samples: options.n_samples,
        temperature: options.temperature,
        tokens_max: options.max_tokens.unwrap_or(tokens_max),
        plain: options.plain,
        seed: options.seed,
    }
}

fn eval_benches(options: &EvalOptions) -> Result<()> {
    let request = BenchRequest {
        model: options.model.clone(),
        writing: writing(options, 0),
        is_chat: options.chat,
        n_shots: options.shots,
        examples: options.examples.clone(),
        n_tasks_max: options.tasks,
        out: options.out.clone(),
        grading: grade_request(&options.grading),
    };
    let mut bars = Bars::new();
    let reports = answers::evaluate(&request, &options.bench, &mut |event| bars.show(event))?;
    if options.json {
        print(to_visible_json(&reports))?;
    } else {
        for report in &reports {
            print(report.to_text())?;
        }
        print(format_args!(
            "answers, results and failures: {}",
            options.out.display()
        ))?;
    }
    Ok(())
}

fn confinement(named: Confinement) -> Level {
    match named {
        Confinement::Require => Level::Require,
        Confinement::BestEffort => Level::BestEffort,
        Confinement::Off => Level::Off,
    }
}

/// A request that names no samples yet.
fn grade_request(options: &GradingOptions) -> GradeRequest {
    GradeRequest {
        samples: PathBuf::new(),
        bench: String::new(),
        data: options.data.clone(),
        sanitize: false,
        from: options.from.clone(),
        to: options.to.clone(),
        confinement: confinement(options.confinement),
        rules_of_2024: options.rules_of_2024,
        n_workers: options.workers,
        out: None,
        merge: Vec::new(),
    }
}

/// `ra3 data`
pub(crate) fn data(command: &DataCommand) -> Result<()> {
    let settings = HubSettings::from_environment();
    match command {
        DataCommand::Get { name, to, json } => {
            let mut bars = Bars::new();
            let watcher = &mut |event| bars.show(event);
            let fetched = benchmark_data::get(name, to.as_deref(), &settings, watcher)?;
            if *json {
                return print_json(&fetched);
            }
            for file in &fetched {
                let trust = if file.is_pinned {
                    "pinned"
                } else {
                    "of the first download"
                };
                let path = file.path.display();
                print(format_args!("{path}\nSHA-256 {} ({trust})", file.sha256))?;
            }
            let others = benchmark_data::others(name);
            if !others.is_empty() {
                print(format_args!("there is also {}", others.join(", ")))?;
            }
        }
        DataCommand::List { json } => {
            let listed = benchmark_data::list(&settings);
            if *json {
                return print_json(&listed);
            }
            for data in listed {
                let here = if data.path.is_some() { "here" } else { "–" };
                print(format_args!("{:<24} {here:<5} {}", data.name, data.address))?;
            }
        }
    }
    Ok(())
}

/// `ra3 doctor`
pub(crate) fn doctor(options: &DoctorOptions) -> Result<()> {
    let examination = Examination {
        document: options.document.clone(),
        train_tokens: options.train_tokens,
    };
    let mut bars = Bars::new();
    let (model, watcher) = (&options.model, &mut |event| bars.show(event));
    match options.engine.section() {
        EngineSection::Native {} => {
            let checkup = doctor::examine(model, &examination, watcher)?;
            show(options.json, &checkup, checkup.to_text())
        }
        EngineSection::Torch(section) => {
            let checkup = doctor::torch::examine(model, &section, &examination, watcher)?;
            show(options.json, &checkup, checkup.to_text())
        }
    }
}

/// `ra3 bench`
pub(crate) fn bench(options: &BenchOptions) -> Result<()> {
    let request = ra3_bench::Request {
        model: options.model.clone(),
        size: options.size.clone(),
        vocabulary: options.vocabulary,
        jobs: options.jobs.clone(),
        compute: options.compute.precision(),
        weights: options.weights.precision(),
        n_runs: options.runs,
        n_threads: options.threads,
    };
    let measured = ra3_bench::measure(&request, &mut |next| tell(format_args!("{next} …")))?;
    print(if options.json {
        measured.to_json_lines()
    } else {
        measured.to_text()
    })
}

/// `ra3 grade`
pub(crate) fn grade(options: &GradeOptions) -> Result<()> {
    let request = GradeRequest {
        samples: options.samples.clone(),
        bench: options.bench.clone(),
        sanitize: options.sanitize,
        out: options.out.clone(),
        merge: options.merge.clone(),
        ..grade_request(&options.grading)
    };
    grading::check_place(options.failures.as_deref())?;
    let mut bars = Bars::new();
    let report = grading::grade(&request, &mut |event| bars.show(event))?;
    if let Some(path) = &options.failures {
        std::fs::write(path, report.failures_text())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if options.json {
        return print(to_visible_json(&report));
    }
    print(report.to_text())
}

/// `ra3 report`
pub(crate) fn report(options: &ReportOptions) -> Result<()> {
    let table = report::write(&options.directory)?;
    if options.json {
        print(table.to_json())?;
    } else {
        print(table.to_text(options.wide))?;
        let page = options.directory.join("report.html");
        print(format_args!("report: {}", page.display()))?;
        if !directory::is_finished(&options.directory)? {
            print("the run is not finished: `ra3 run` goes on with it")?;
        }
    }
    Ok(())
}

/// `ra3 inspect`
pub(crate) fn inspect(options: &InspectOptions) -> Result<()> {
    let text = read(&options.document)?;
    let mut bars = Bars::new();
    let annotation: Annotation = inspect::annotate(
        &options.model,
        &text,
        options.rationale_tokens,
        options.seed,
        &mut |event| bars.show(event),
    )?;
    show(options.json, &annotation, annotation.to_text(is_coloured()))
}

/// `ra3 theory`
pub(crate) fn theory(options: &TheoryOptions) -> Result<()> {
    results::make_folder(&options.out)?;
    let settings = Settings {
        n_seeds: options.seeds as usize,
        seed: options.seed,
    };
    let mut bars = Bars::new();
    let mut finding = Finding::default();
    let n_experiments = Experiment::ALL.len() as u64;
    bars.show(Event::started("theory", n_experiments, "experiments"));
    for (index, experiment) in Experiment::ALL.into_iter().enumerate() {
        bars.show(Event::Advanced {
            position: index as u64,
            n_tokens: 0,
            message: experiment.name().to_owned(),
        });
        finding.extend(experiment.run(&settings)?);
    }
    bars.show(Event::Finished {
        message: format!("{} figures", finding.figures.len()),
    });
    let [page, records] = results::write(&options.out, &finding, &settings)?;
    if options.json {
        print_as_is(std::fs::read_to_string(records)?)?;
    } else {
        print(finding.to_text())?;
        print(format_args!("page: {}", page.display()))?;
    }
    Ok(())
}

/// Prints a value as indented JSON, or its text.
fn show(is_json: bool, value: &impl Serialize, text: String) -> Result<()> {
    if is_json {
        return print_json(value);
    }
    print(text)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(serde_json::to_string_pretty(value)?)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
