//! How fast the engine is on this machine: one training step, scoring, generation and one E-step,
//! on a model of random weights and known shape, each against what the machine could do.
//!
//! It measures no quality, and no stage of a run but these: what else a run does is small beside
//! them. `bench/` asks PyTorch for the same jobs.

mod job;
mod model;
mod result;

use std::path::PathBuf;
use std::time::Instant;

use ra3::policy::{PolicyError, Work};
use ra3_lm::checkpoint::CheckpointError;
use ra3_lm::config::ModelConfig;
pub use ra3_lm::config::Precision;

use job::{Job, Subject};
pub use result::{Figure, Machine, Measured};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Request {
    /// Checkpoint folder whose shape the model has; its weights are random.
    pub model: Option<PathBuf>,
    /// A shape by its name where no folder is given: XS, S, M, L or XL.
    pub size: String,
    /// Tokens of its vocabulary in place of the shape's own.
    pub vocabulary: Option<usize>,
    /// How the names of the jobs begin, or names with numbers of their own; every job where it is
    /// empty.
    pub jobs: Vec<String>,
    /// Precision of the operands of matrix products.
    pub compute: Precision,
    /// Precision of the weights: in `bf16` the model is run and not trained.
    pub weights: Precision,
    /// How often a job runs, after once that does not count.
    pub n_runs: usize,
    /// Threads of the engine; as many as the machine runs at once where it is left out.
    pub n_threads: Option<usize>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There is no such shape.
    #[error("the shape {0:?} is not known: use XS, S, M, L or XL, or a checkpoint's folder")]
    Size(String),
    /// There are no such jobs.
    #[error("no job begins with {0}: there are {known}; train-T and score-T with documents of T \
             tokens, generate-B with B prompts, and e-step-P-G with a share P of thinks and G \
             rollouts", known = known_jobs())]
    Jobs(String),
    /// The checkpoint has no shape that can be read.
    #[error("the model's shape")]
    Checkpoint(#[from] CheckpointError),
    /// The engine refused a job.
    #[error("{job} on {model}")]
    Engine {
        /// The job.
        job: String,
        /// The model.
        model: String,
        /// Why.
        source: PolicyError,
    },
    /// The job trains, and the weights are for running only.
    #[error("{0} trains, and weights in bf16 are for running only: ask for score and generate")]
    Frozen(String),
    /// The model has no place for a job's tokens.
    #[error("{model} has a context of {n_context} tokens, and {job} needs {n_needed}")]
    Context {
        /// The job.
        job: String,
        /// The model.
        model: String,
        /// Its context.
        n_context: usize,
        /// What the job needs.
        n_needed: usize,
    },
}

fn known_jobs() -> String {
    Job::ALL.map(|job| job.to_string()).join(", ")
}

/// Measures the machine and every job, and says which one comes next.
///
/// # Errors
/// The request names what is not there, or the engine refuses a job.
pub fn measure(request: &Request, watcher: &mut dyn FnMut(&str)) -> Result<Measured, BenchError> {
    let jobs = jobs(&request.jobs)?;
    let n_positions = jobs.iter().map(|job| job.n_positions()).max();
    let (name, config) = model::find(request, n_positions.unwrap_or(0))?;
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = request.n_threads.unwrap_or(n_cores);
    ra3_lm::set_threads(n_threads);
    watcher("the machine");
    let mut measured = Measured {
        machine: Machine::measure(n_threads, request, model::n_params(&config)),
        figures: Vec::new(),
    };
    for job in jobs {
        watcher(&job.to_string());
        let (seconds, work) = repeat(job, &name, &config, request)?;
        let figure = Figure::of(job, &name, &measured.machine, seconds, work);
        measured.figures.push(figure);
    }
    Ok(measured)
}

/// The jobs of these names, each once.
fn jobs(names: &[String]) -> Result<Vec<Job>, BenchError> {
    if names.is_empty() {
        return Ok(Job::ALL.to_vec());
    }
    let mut jobs: Vec<Job> = Vec::new();
    for name in names {
        let named = Job::named(name);
        if named.is_empty() {
            return Err(BenchError::Jobs(name.clone()));
        }
        for job in named {
            if !jobs.contains(&job) {
                jobs.push(job);
            }
        }
    }
    Ok(jobs)
}

/// The seconds of each run, and the work of the first.
fn repeat(
    job: Job,
    model: &str,
    config: &ModelConfig,
    request: &Request,
) -> Result<(Vec<f64>, Work), BenchError> {
    let (n_context, n_needed) = (config.max_position_embeddings, job.n_positions());
    if n_context < n_needed {
        return Err(BenchError::Context {
            job: job.to_string(),
            model: model.to_owned(),
            n_context,
            n_needed,
        });
    }
    if job.trains() && request.weights != Precision::Float32 {
        return Err(BenchError::Frozen(job.to_string()));
    }
    let mut subject = Subject::new(config, request);
    let mut timed = || -> Result<(f64, Work), BenchError> {
        let began = Instant::now();
        let work = job.run(&mut subject).map_err(|source| BenchError::Engine {
            job: job.to_string(),
            model: model.to_owned(),
            source,
        })?;
        Ok((began.elapsed().as_secs_f64(), work))
    };
    let (_, work) = timed()?;
    let runs = (0..request.n_runs).map(|_| timed());
    let runs: Vec<(f64, Work)> = runs.collect::<Result<_, _>>()?;
    let seconds = runs.into_iter().map(|(seconds, _)| seconds).collect();
    Ok((seconds, work))
}
