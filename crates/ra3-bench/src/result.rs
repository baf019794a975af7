//! What was measured, for programs and for readers.

use ra3::policy::Work;
use ra3_lm::config::Precision;
use serde::Serialize;

use crate::Request;
use crate::job::Job;

/// What the machine can do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// As the system names it.
    pub processor: String,
    /// Threads of the engine.
    pub n_threads: usize,
    /// Precision of the operands of products, whose sums are `f32`.
    pub compute: Precision,
    /// Precision of the weights.
    pub weights: Precision,
    /// Of a large product, all threads together.
    pub gflops: f64,
    /// Of reading as many bytes as the model has, again and again.
    pub gbytes_per_s: f64,
    /// Those bytes: of the weights as products read them.
    pub model_mib: f64,
}

impl Machine {
    pub(crate) fn measure(n_threads: usize, request: &Request, n_params: usize) -> Self {
        let (compute, weights) = (request.compute, request.weights);
        let n_bytes = n_params * compute.n_bytes().min(weights.n_bytes());
        Self {
            processor: processor(),
            n_threads,
            compute,
            weights,
            gflops: ra3_lm::machine::flops_per_second(compute) / 1e9,
            gbytes_per_s: ra3_lm::machine::bytes_per_second(n_bytes) / 1e9,
            model_mib: n_bytes as f64 / f64::from(1 << 20),
        }
    }
}

/// What a job took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The job.
    pub job: String,
    /// The model.
    pub model: String,
    /// Median, least and most.
    pub seconds: f64,
    /// The fastest run.
    pub min: f64,
    /// The slowest.
    pub max: f64,
    /// What `per_second` counts.
    pub unit: &'static str,
    /// So many of them a second.
    pub per_second: f64,
    /// Floating point operations of the products.
    pub gflop: f64,
    /// Seconds that the machine would need at least: for the products, or for reading the weights
    /// as often as the job has to.
    pub bound_s: f64,
    /// The bound by the median.
    pub share_of_bound: f64,
    /// Tokens, as the job counts them.
    pub n_tokens: u64,
    /// Tokens that the network ran.
    pub n_tokens_run: u64,
    /// Share of the tokens that shared prefixes saved.
    pub saved_by_sharing: f64,
    /// Peak of this process until now.
    pub peak_rss_mib: u64,
}

impl Figure {
    pub(crate) fn of(
        job: Job,
        model: &str,
        machine: &Machine,
        mut seconds: Vec<f64>,
        work: Work,
    ) -> Self {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let (unit, n_units) = job.units();
        let n_flops = work.flops - work.flops_recorded;
        let of_products = n_flops / 1e9 / machine.gflops;
        let model_gbytes = machine.model_mib * f64::from(1 << 20) / 1e9;
        let of_reading = job.n_passes() as f64 * model_gbytes / machine.gbytes_per_s;
        let bound_s = of_products.max(of_reading);
        Self {
            job: job.to_string(),
            model: model.to_owned(),
            seconds: median,
            min: seconds[0],
            max: seconds[seconds.len() - 1],
            unit,
            per_second: n_units as f64 / median,
            gflop: n_flops / 1e9,
            bound_s,
            share_of_bound: bound_s / median,
            n_tokens: work.n_tokens,
            n_tokens_run: work.n_tokens_run,
            saved_by_sharing: 1.0 - work.n_tokens_run as f64 / work.n_tokens as f64,
            peak_rss_mib: status("VmHWM:") / 1024,
        }
    }
}

/// The machine and the jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The machine.
    pub machine: Machine,
    /// In the order of their running.
    pub figures: Vec<Figure>,
}

impl Measured {
    /// JSON lines: the machine, then the jobs.
    pub fn to_json_lines(&self) -> String {
        let machine = serde_json::to_string(&self.machine);
        let figures = self.figures.iter().map(serde_json::to_string);
        let lines: Result<Vec<String>, _> = std::iter::once(machine).chain(figures).collect();
        lines.expect("plain fields").join("\n")
    }

    /// A table for a reader.
    pub fn to_text(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{}, {} threads: {:.0} GFLOP/s in products, {:.1} GB/s over the model's {:.0} MiB\n\n",
            machine.processor,
            machine.n_threads,
            machine.gflops,
            machine.gbytes_per_s,
            machine.model_mib,
        );
        text += &format!(
            "{:<14} {:>9} {:>9} {:>9} {:>20} {:>9} {:>6} {:>6}\n",
            "job", "median s", "min", "max", "a second", "bound s", "share", "saved",
        );
        for figure in &self.figures {
            let rate = format!("{:.1} {}", figure.per_second, figure.unit);
            text += &format!(
                "{:<14} {:>9.4} {:>9.4} {:>9.4} {rate:>20} {:>9.4} {:>4.0} % {:>4.0} %\n",
                figure.job,
                figure.seconds,
                figure.min,
                figure.max,
                figure.bound_s,
                100.0 * figure.share_of_bound,
                100.0 * figure.saved_by_sharing,
            );
        }
        text + "\nbound: the job's products at the machine's rate, or its passes over the weights \
                at the rate of reading them\nsaved: tokens that shared prefixes spare the network"
    }
}

/// A number of this process's status; 0 where the system does not say.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    found.unwrap_or(0)
}

/// The processor's name.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}
