//! The command line, as clap sees it.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};

use crate::engine_options::{Compute, EngineOptions};

/// No model's context is longer; the run file has the same bound.
const CONTEXT_MAX: u64 = 1 << 20;

fn from_one_to(n_max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=n_max)
}

fn temperature(text: &str) -> Result<f32, String> {
    let number: f32 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=100.0).contains(&number) {
        Ok(number)
    } else {
        Err("it is not in 0 to 100".to_owned())
    }
}

/// Mid-train language models for code with RA3, and see what that bought.
#[derive(Debug, Parser)]
#[command(name = "ra3", version = crate::commands::BUILD, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed (the run directory keeps what was \
committed; the same command continues), 2 wrong arguments, 130 interrupted, 141 nobody reads the \
output."
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a run file for a model, a corpus and problems of your own.
    #[command(after_help = "Examples:\n  \
        ra3 init --model ./model --corpus code.jsonl --problems problems.jsonl\n  \
        ra3 init --model Qwen/Qwen2.5-Coder-0.5B --corpus src --out runs/mine.toml")]
    Init(InitOptions),
    /// Run a run file from corpus to report, or continue where it stopped.
    #[command(after_help = "Examples:\n  \
        ra3 run runs/quickstart.toml\n  \
        ra3 run runs/quickstart.toml --set seed=2 --set directory=runs/out/second")]
    Run(RunOptions),
    /// Run a run file with every seed and every value of its `[study]`, and compare.
    #[command(after_help = "Examples:\n  \
        ra3 study runs/quickstart.toml\n  \
        ra3 study runs/quickstart.toml --set 'study.seeds=[1, 2]' --json")]
    Study(StudyOptions),
    /// Compare finished runs over their seeds, for each variation of their settings.
    #[command(after_help = "Examples:\n  \
        ra3 compare runs/out/quickstart-study --against ntp\n  \
        ra3 compare runs/out/one runs/out/two --page comparison.html --json")]
    Compare(CompareOptions),
    /// Remove the stages of a run that it no longer names: what other settings left.
    #[command(after_help = "Examples:\n  \
        ra3 clean runs/out/quickstart          # says what it would remove\n  \
        ra3 clean runs/out/quickstart --yes")]
    Clean(CleanOptions),
    /// Print what a run file means: stages, tokens, memory, time. Runs nothing.
    #[command(after_help = "Examples:\n  \
        ra3 plan runs/quickstart.toml\n  \
        ra3 plan runs/miniature.toml --set seed=3 --json")]
    Plan(PlanOptions),
    /// Say what a key of the run file means, what it may be, and what holds where it is not there.
    #[command(after_help = "Examples:\n  \
        ra3 explain                            the sections\n  \
        ra3 explain ra3.e_step                 a section's keys\n  \
        ra3 explain ra3.e_step.penalty.cost    a key; its last name will do\n  \
        ra3 explain γ                          a symbol of the paper, or gamma\n  \
        ra3 explain frozen                     a value, by its name")]
    Explain(ExplainOptions),
    /// Write programs for a prompt, with their decisions and rationales.
    #[command(after_help = "Examples:\n  \
        ra3 sample runs/out/quickstart/models/ra3 --prompt-file problem.py\n  \
        ra3 sample assets/base --prompt 'def add(a, b):\n' --plain -n 3\n  \
        ra3 sample Qwen/Qwen2.5-Coder-1.5B-Instruct --chat --plain --prompt 'Sort a list.'")]
    Sample(SampleOptions),
    /// Grade a model on benchmarks, or on problems in HumanEval's format.
    #[command(after_help = "Examples:\n  \
        ra3 eval Qwen/Qwen2.5-Coder-1.5B --bench humaneval+,mbpp+ --plain --out eval/qwen\n  \
        ra3 eval runs/out/quickstart/models/ra3 --bench humaneval+ -n 10 --temperature 0.8\n  \
        ra3 eval runs/out/quickstart/models/ra3 \
        --problems runs/out/quickstart/corpus/held_out_problems.jsonl -n 4")]
    Eval(EvalOptions),
    /// Check a model: its parts, a forward pass, its speed, and what it needs here.
    #[command(after_help = "Examples:\n  \
        ra3 doctor assets/base\n  \
        ra3 doctor Qwen/Qwen2.5-1.5B --train-tokens 512\n  \
        ra3 doctor assets/base --engine torch --python venv/bin/python\n  \
        ra3 doctor assets/base --engine torch --processes 2 --sharding full")]
    Doctor(DoctorOptions),
    /// Measure how fast the engine is here: training, scoring, generation, E-step.
    #[command(after_help = "Examples:\n  \
        ra3 bench\n  \
        ra3 bench assets/base --jobs train,generate --json")]
    Bench(BenchOptions),
    /// Bring the data of benchmarks, or list what there is.
    #[command(
        subcommand,
        after_help = "Examples:\n  ra3 data list\n  ra3 data get humaneval+"
    )]
    Data(DataCommand),
    /// Grade anybody's samples on a benchmark.
    #[command(after_help = "Examples:\n  \
        ra3 grade samples.jsonl --bench humaneval+ --data HumanEvalPlus.jsonl.gz \
        --out samples_eval_results.json\n  \
        ra3 grade samples.jsonl --bench mbpp --data mbpp.jsonl --failures failures.txt")]
    Grade(GradeOptions),
    /// Write report.html of a run directory again.
    #[command(after_help = "Example:\n  ra3 report runs/out/quickstart")]
    Report(ReportOptions),
    /// Show a source file with the latents that a model finds for it.
    #[command(after_help = "Example:\n  ra3 inspect runs/out/quickstart/models/ra3 file.py")]
    Inspect(InspectOptions),
    /// Run the paper's theory as experiments on small exact tasks: a page and JSON lines.
    #[command(after_help = "Examples:\n  \
        ra3 theory --out runs/out/theory\n  \
        ra3 theory --out /tmp/theory --seeds 4 --json")]
    Theory(TheoryOptions),
}

/// A run.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    /// Begin the stage in progress again: settings that no finished stage has read may be others.
    #[arg(long)]
    pub(crate) restart_stage: bool,
    /// Run a plan that needs more memory than this machine has.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print more columns than 80 characters hold.
    #[arg(long)]
    pub(crate) wide: bool,
}

/// How a study is run.
#[derive(Debug, Args)]
pub(crate) struct StudyOptions {
    #[command(flatten)]
    pub(crate) plan: PlanOptions,
    /// Run plans that need more memory than this machine has.
    #[arg(long)]
    pub(crate) force: bool,
}

/// A run file and its overrides.
#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    /// The run file.
    pub(crate) file: PathBuf,
    /// Replace a key of the run file, such as `rlvr.n_updates=10`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a run file is written for.
#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// Checkpoint folder, or `org/name[@revision]` on the Hugging Face Hub.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// Files or folders of documents: JSON lines, Parquet, Python files; may be repeated.
    #[arg(long, required = true, num_args = 1..)]
    pub(crate) corpus: Vec<PathBuf>,
    /// A file of problems for RLVR.
    #[arg(long)]
    pub(crate) problems: Option<PathBuf>,
    /// The run file; one that is there is never replaced.
    #[arg(long, default_value = "run.toml")]
    pub(crate) out: PathBuf,
}

/// Runs side by side.
#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Run directories, and directories of studies for all of their runs.
    #[arg(required = true)]
    pub(crate) directories: Vec<PathBuf>,
    /// The arm that others are compared with.
    #[arg(long)]
    pub(crate) against: Option<String>,
    /// Write a page there, too.
    #[arg(long)]
    pub(crate) page: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What may be removed.
#[derive(Debug, Args)]
pub(crate) struct CleanOptions {
    /// The run directory.
    pub(crate) directory: PathBuf,
    /// Remove it, rather than say what it is.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Runs that used the store and are no longer where they were are gone for good.
    #[arg(long)]
    pub(crate) forget_missing: bool,
    /// Print JSON instead of lines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is explained.
#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// A key, a section, a symbol of the paper or a value's name; the sections where it is left
    /// out.
    pub(crate) name: Option<String>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A model and how it samples.
#[derive(Debug, Args)]
pub(crate) struct SampleOptions {
    /// Checkpoint folder, or `org/name[@revision]` on the Hugging Face Hub.
    pub(crate) model: PathBuf,
    /// The prompt.
    #[arg(
        long,
        conflicts_with = "prompt_file",
        required_unless_present = "prompt_file"
    )]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt.
    #[arg(long)]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Programs to write.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = from_one_to(10_000))]
    pub(crate) n_samples: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.8, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Longest program in tokens.
    #[arg(long, default_value_t = 256, value_parser = from_one_to(CONTEXT_MAX))]
    pub(crate) max_tokens: usize,
    /// Write without decisions, as a model without latents does.
    #[arg(long)]
    pub(crate) plain: bool,
    /// Give the prompt as a user's message in the model's chat template.
    #[arg(long)]
    pub(crate) chat: bool,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print JSON lines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A model and what it is graded on.
#[derive(Debug, Args)]
pub(crate) struct EvalOptions {
    /// Checkpoint folder, or `org/name[@revision]` on the Hugging Face Hub.
    pub(crate) model: PathBuf,
    /// Problems in HumanEval's JSON lines, plain or `.gz`.
    #[arg(long, conflicts_with = "bench", required_unless_present = "bench")]
    pub(crate) problems: Option<PathBuf>,
    /// Benchmarks by name, such as `humaneval+,mbpp+`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) bench: Vec<String>,
    /// Ask as a chat model is asked.
    #[arg(long, requires = "bench")]
    pub(crate) chat: bool,
    /// Solved tasks that MBPP's prompt shows: 3, or 0.
    #[arg(long, default_value_t = 3)]
    pub(crate) shots: usize,
    /// Folder with LiveCodeBench's few-shot files `stdin.json` and `func.json`.
    #[arg(long, requires = "bench")]
    pub(crate) examples: Option<PathBuf>,
    /// Only the first tasks, for a look.
    #[arg(long, requires = "bench", value_parser = from_one_to(u64::MAX))]
    pub(crate) tasks: Option<usize>,
    /// Folder of answers and results of `--bench`; the same command continues in it.
    #[arg(long, default_value = "eval")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) grading: GradingOptions,
    /// Samples of each problem.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = from_one_to(10_000))]
    pub(crate) n_samples: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Longest program in tokens; 256, or the benchmark's own.
    #[arg(long, value_parser = from_one_to(CONTEXT_MAX))]
    pub(crate) max_tokens: Option<usize>,
    /// Sample without decisions, as a model without latents does.
    #[arg(long)]
    pub(crate) plain: bool,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A model to be checked.
#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Checkpoint folder, or `org/name[@revision]` on the Hugging Face Hub.
    pub(crate) model: PathBuf,
    /// Score this Python file instead of a built-in one.
    #[arg(long)]
    pub(crate) document: Option<PathBuf>,
    /// Also take two training steps of so many tokens, with recomputation; with `--engine torch`,
    /// tokens of the document.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(2..=CONTEXT_MAX))]
    pub(crate) train_tokens: Option<usize>,
    #[command(flatten)]
    pub(crate) engine: EngineOptions,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Checkpoint folder whose shape is measured; its weights are not read.
    #[arg(conflicts_with = "size")]
    pub(crate) model: Option<PathBuf>,
    /// A shape instead: XS, S, M, L or XL (2M, 5.5M, 27M, 140M and 1.5B parameters).
    #[arg(long, default_value = "S", value_parser = ["XS", "S", "M", "L", "XL"])]
    pub(crate) size: String,
    /// Tokens of the vocabulary in place of the shape's own.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(16..=1 << 20))]
    pub(crate) vocabulary: Option<usize>,
    /// Jobs whose names begin like this, all where it is left out; or `train-1024`, `score-1024`
    /// (tokens of a document), `generate-64` (prompts), `e-step-0.1-16` (thinks, rollouts).
    #[arg(long, value_delimiter = ',')]
    pub(crate) jobs: Vec<String>,
    /// Precision of the operands of matrix products (`training.compute_precision` of a run file).
    #[arg(long, value_enum, default_value_t = Compute::Float32)]
    pub(crate) compute: Compute,
    /// Precision of the weights: in bfloat16 they are run and not trained, as a checkpoint may be.
    #[arg(long, value_enum, default_value_t = Compute::Float32)]
    pub(crate) weights: Compute,
    /// Runs of each job, after one that does not count.
    #[arg(long, default_value_t = 3, value_parser = from_one_to(1000))]
    pub(crate) runs: usize,
    /// Threads of the engine; as many as the machine runs at once where it is left out.
    #[arg(long, value_parser = from_one_to(256))]
    pub(crate) threads: Option<usize>,
    /// Print JSON lines instead of a table: the machine first, then a line a job.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How programs are graded.
#[derive(Debug, Args)]
pub(crate) struct GradingOptions {
    /// The benchmark's data file, plain or `.gz`, or a folder with it; what `ra3 data get` brought
    /// where it is left out.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Processes that grade.
    #[arg(long, default_value_t = 2, value_parser = from_one_to(256))]
    pub(crate) workers: usize,
    /// What must hold of the sandbox.
    #[arg(long, value_enum, default_value_t = Confinement::BestEffort)]
    pub(crate) confinement: Confinement,
    /// Tasks of this day and later, such as 2024-08-01.
    #[arg(long, value_name = "DATE")]
    pub(crate) from: Option<String>,
    /// Tasks of this day and earlier.
    #[arg(long, value_name = "DATE")]
    pub(crate) to: Option<String>,
    /// Grade by EvalPlus's rules of 2024: calls have 1 s, no task is compared as sets.
    #[arg(long)]
    pub(crate) rules_of_2024: bool,
}

/// What must hold of the sandbox.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Confinement {
    /// Refuse to run unless the kernel confines the program.
    Require,
    /// Take what the kernel offers, and record it.
    BestEffort,
    /// Limits only.
    Off,
}

/// What is done with the data of benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Bring a benchmark's data from where they live.
    Get {
        /// As `ra3 data list` has it.
        name: String,
        /// Into this folder instead of the cache.
        #[arg(long)]
        to: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What can be had, and what is here.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Samples and what they are graded on.
#[derive(Debug, Args)]
pub(crate) struct GradeOptions {
    /// JSON lines with `task_id` and `solution` or `completion`, or a folder `HumanEval_0/0.py`.
    pub(crate) samples: PathBuf,
    /// `humaneval+`, `mbpp+`, `humaneval`, `mbpp`, `livecodebench`, `codeforces`, `leetcode`, …
    #[arg(long)]
    pub(crate) bench: String,
    #[command(flatten)]
    pub(crate) grading: GradingOptions,
    /// Result file in EvalPlus's form; samples with results in it are not graded again.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// A further result file to take results from; may be repeated.
    #[arg(long)]
    pub(crate) merge: Vec<PathBuf>,
    /// Write each failure's first failing input, expected and got to this file.
    #[arg(long)]
    pub(crate) failures: Option<PathBuf>,
    /// Take the programs out of the samples as EvalPlus's `sanitize` does.
    #[arg(long)]
    pub(crate) sanitize: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A run directory.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// The run directory.
    pub(crate) directory: PathBuf,
    /// Print more columns than 80 characters hold.
    #[arg(long)]
    pub(crate) wide: bool,
    /// Print the table as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A model and a document.
#[derive(Debug, Args)]
pub(crate) struct InspectOptions {
    /// Checkpoint folder, or `org/name[@revision]` on the Hugging Face Hub.
    pub(crate) model: PathBuf,
    /// The Python file.
    pub(crate) document: PathBuf,
    /// Longest rationale in tokens.
    #[arg(long, default_value_t = 48, value_parser = from_one_to(CONTEXT_MAX))]
    pub(crate) rationale_tokens: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print JSON instead of the annotated listing.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where results go, and how many seeds.
#[derive(Debug, Args)]
pub(crate) struct TheoryOptions {
    /// Folder for theory.html and theory.jsonl; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seeds of each experiment: intervals are over them.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) seeds: u32,
    /// Root of all seeds: the same number gives the same files.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print the records as JSON lines instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}
