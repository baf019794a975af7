//! What a plan will need: memory, tokens, time. Figures to plan with, not a promise.
//!
//! ```text
//! memory  = an update's peak (`ra3_lm::memory`, or by `device` PyTorch's) + frozen copies + the
//!           key and value cache
//! FLOPs   = 6 P a trained token, 2 P a token that is sampled or scored
//! ```
//!
//! with `P` the parameters of matrix products, for the native engine. Documents are taken to be as
//! long as a sample of them: of the testbed's where it has some, else of the sources (`sample`).

mod device;
mod memory;
mod pace;
mod sample;
mod shapes;

use anyhow::Result;
use ra3::annotate::Choose;
use ra3::seed::Seed;
use ra3::settings::Scorer;
use ra3_lm::weights::Layout;
use serde::Serialize;

pub use device::DeviceEstimate;
pub(crate) use device::check_devices;
pub(crate) use memory::check_memory;
pub(crate) use pace::Pace;
pub(crate) use shapes::Shapes;

use crate::plan::{Method, Plan, Subject, Task};
use crate::run_file::{BaseSection, Budget, RlvrSection, RunFile};
use crate::stages::corpus::testbed_config;
use crate::stages::midtrain::em_config;

/// FLOP/s of a thread in quickstart's stages; a wider model is faster.
const FLOPS_PER_THREAD: f64 = 4.5e10;
const BYTES_PER_TOKEN: f64 = 3.0;
/// Problems of a published set, whose file is not read for a plan.
const N_PUBLISHED_PROBLEMS: usize = 300;
const N_SAMPLED_DOCUMENTS: usize = 200;

/// What a plan will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// What runs and trains models; time is the native engine's all the same.
    pub engine: String,
    /// Parameters of the largest model.
    pub n_params: u64,
    /// Peak of the engine's memory in MiB; of PyTorch's, that of each device.
    pub memory_mib: u64,
    /// What PyTorch needs of each device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceEstimate>,
    /// Tokens of a document.
    pub document_tokens: f64,
    /// The stages in order.
    pub stages: Vec<StageEstimate>,
}

/// What a stage will need.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageEstimate {
    /// Its name.
    pub stage: String,
    /// Updates and annotated batches.
    pub n_updates: u64,
    /// Tokens that are trained on, sampled or scored.
    pub n_tokens: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Seconds on this plan's threads.
    pub seconds: f64,
    /// Corpus tokens of mid-training.
    #[serde(skip)]
    n_corpus_tokens: f64,
}

/// Estimates a plan.
///
/// # Errors
/// The `config.json` of the base, or of a checkpoint, cannot be read.
pub fn estimate(plan: &Plan) -> Result<Estimate> {
    let shapes = Shapes::of(&plan.file, &plan.arms)?;
    let document_tokens = document_tokens(plan);
    let device = device::of(&shapes, plan);
    let natively_mib = memory::of(&shapes, plan).peak as u64 >> 20;
    let costs = |task| Costs {
        n_matmul_params: shapes.of_task(task).n_matmul_params() as f64,
        document_tokens,
        flops_per_second: FLOPS_PER_THREAD * plan.file.n_threads as f64,
    };
    Ok(Estimate {
        engine: plan.file.engine.name().to_owned(),
        n_params: Layout::new(shapes.largest()).n_params() as u64,
        memory_mib: device.map_or(natively_mib, |device| device.total_mib),
        device,
        document_tokens,
        stages: stages(plan, costs),
    })
}

fn stages(plan: &Plan, costs: impl Fn(Task) -> Costs) -> Vec<StageEstimate> {
    let mut stages: Vec<StageEstimate> = Vec::new();
    for stage in &plan.stages {
        let found = costs(stage.task).of(plan, stage.task, &stages);
        stages.push(StageEstimate {
            stage: stage.name.clone(),
            ..found
        });
    }
    stages
}

/// Multiplies counts into costs.
struct Costs {
    n_matmul_params: f64,
    document_tokens: f64,
    flops_per_second: f64,
}

impl Costs {
    /// A stage behind those `before` it.
    fn of(&self, plan: &Plan, task: Task, before: &[StageEstimate]) -> StageEstimate {
        let file = &plan.file;
        match task {
            Task::Corpus | Task::Checkpoint(_) => StageEstimate::default(),
            Task::Base => match &file.base {
                BaseSection::Checkpoint { .. } => StageEstimate::default(),
                BaseSection::Pretrain {
                    n_updates,
                    batch_documents,
                    ..
                } => self.stage(
                    *n_updates,
                    self.documents(*n_updates, *batch_documents),
                    0.0,
                ),
            },
            Task::Midtrain(arm) => match &plan.arms[arm].method {
                Method::None => StageEstimate::default(),
                Method::Ra3 => self.ra3(&plan.arms[arm].file),
                Method::Ntp(budget) => self.ntp(&plan.arms[arm].file, budget, before),
            },
            Task::HeldOut(subject) => {
                let is_latent = plan.arms[subject.arm].method == Method::Ra3;
                let draws = file.held_out.iwae.iter().max().copied().unwrap_or(1);
                // Each draw is sampled and read again, by the model and by its reference.
                let n_passes = if is_latent { 1 + 3 * draws } else { 1 };
                let n_tokens = self.documents(1, file.held_out.n_documents) * n_passes as f64;
                self.stage(0, 0.0, n_tokens)
            }
            Task::Evaluate(subject, place) => self.evaluate(plan, subject, place),
            Task::Rlvr(arm) => {
                let section = plan.arms[arm].file.rlvr.as_ref();
                section.map_or_else(StageEstimate::default, |section| self.rlvr(section))
            }
        }
    }

    fn stage(&self, n_updates: u64, trained: f64, run: f64) -> StageEstimate {
        let flops = self.n_matmul_params * (6.0 * trained + 2.0 * run);
        StageEstimate {
            n_updates,
            n_tokens: trained + run,
            flops,
            seconds: flops / self.flops_per_second,
            ..StageEstimate::default()
        }
    }

    fn documents(&self, n_updates: u64, batch_documents: usize) -> f64 {
        n_updates as f64 * batch_documents as f64 * self.document_tokens
    }

    fn ra3(&self, file: &RunFile) -> StageEstimate {
        let em = em_config(file);
        let group = em.e_step.group_size;
        let searched_by = self.documents(em.n_e_updates(), em.e_step.batch_documents);
        let rollouts = searched_by * group as f64;
        let n_annotated = em.annotate_documents.next_multiple_of(em.m_batch_documents);
        let searched = self.documents(em.rounds, n_annotated)
            * (1.0 - f64::from(em.m_step.corpus_latents_share));
        let draws = searched * em.m_step.choose.group_size() as f64;
        // A rollout is sampled, which is all that the model needs to score it; a frozen scorer and
        // a reference read it again where there are any. Annotation by one draw reads
        // nothing again.
        let other_readers = [
            em.e_step.scorer == Scorer::Frozen,
            em.e_step.penalty.needs_reference(),
        ];
        let n_readers = 1.0
            + other_readers
                .map(|reads| f64::from(u8::from(reads)))
                .iter()
                .sum::<f64>();
        let n_readings = if matches!(em.m_step.choose, Choose::Sample {}) {
            1.0
        } else {
            n_readers
        };
        // An update of the M-step learns from every draw of its documents that has a weight.
        let own = f64::from(em.m_step.corpus_latents_share);
        let n_learnt = own + (1.0 - own) * em.m_step.choose.n_learnt() as f64;
        let cold = self.documents(em.cold_start_updates, em.m_batch_documents);
        let m_step = self.documents(em.rounds * em.m_updates, em.m_batch_documents);
        let trained = cold + m_step * n_learnt + rollouts * em.e_step.updates_per_batch as f64;
        let run = rollouts * n_readers + draws * n_readings;
        StageEstimate {
            // Annotation reads documents and learns from none.
            n_corpus_tokens: cold + m_step + searched_by,
            ..self.stage(em.n_positions(), trained, run)
        }
    }

    fn ntp(&self, file: &RunFile, budget: &Budget, before: &[StageEstimate]) -> StageEstimate {
        let of = |arm: &String| before.iter().find(|stage| stage.stage == *arm);
        let per_update = self.documents(1, file.supervised.batch_documents);
        let n_tokens = match budget {
            Budget::Updates(n) => *n as f64 * per_update,
            Budget::CorpusTokens(n) => *n as f64,
            Budget::Flops(flops) => flops / (6.0 * self.n_matmul_params),
            Budget::CorpusTokensOf(arm) => of(arm).map_or(0.0, |stage| stage.n_corpus_tokens),
            Budget::FlopsOf(arm) => {
                of(arm).map_or(0.0, |stage| stage.flops) / (6.0 * self.n_matmul_params)
            }
        };
        StageEstimate {
            n_corpus_tokens: n_tokens,
            ..self.stage((n_tokens / per_update).ceil() as u64, n_tokens, 0.0)
        }
    }

    /// A program has at most so many tokens, and ends at half of them.
    fn programs(&self, n_programs: usize, program_tokens_max: usize) -> f64 {
        n_programs as f64 * (program_tokens_max as f64 / 2.0 + self.document_tokens)
    }

    fn evaluate(&self, plan: &Plan, subject: Subject, place: usize) -> StageEstimate {
        let measure = &plan.measures()[place];
        let is_latent = plan.arms[subject.arm].method == Method::Ra3;
        let is_table = is_latent && !subject.is_after_rlvr && measure.decision_table;
        let n_problems = match measure.problems.set.forms() {
            Some(forms) => plan.file.corpus.n_held_out_problems(forms),
            None => N_PUBLISHED_PROBLEMS,
        };
        // Plainly, and by each of four decisions.
        let n_ways = if is_table { 5 } else { 1 };
        let n_programs = n_problems * measure.n_samples * n_ways;
        self.stage(
            0,
            0.0,
            self.programs(n_programs, measure.program_tokens_max),
        )
    }

    fn rlvr(&self, section: &RlvrSection) -> StageEstimate {
        let per_update = section.batch_problems * section.group_size;
        let n_programs = section.n_updates as usize * per_update;
        let n_tokens = self.programs(n_programs, section.program_tokens_max);
        let trained = n_tokens * section.updates_per_batch as f64;
        // Of all tries, a batch's worth of programs is learnt from.
        let run = n_tokens * section.n_tries_max as f64;
        self.stage(section.n_updates, trained, run)
    }
}

fn document_tokens(plan: &Plan) -> f64 {
    let corpus = &plan.file.corpus;
    let longest = corpus.document_tokens_max as f64;
    let generated = corpus
        .testbed
        .as_ref()
        .filter(|testbed| testbed.n_documents > 0);
    let Some(section) = generated else {
        let found = sample::document_bytes(&corpus.sources).map(|bytes| bytes / BYTES_PER_TOKEN);
        // A longer one is cut into pieces between statements, which are not quite the longest.
        return found.map_or(longest / 2.0, |tokens| tokens.min(0.75 * longest));
    };
    let mut config = testbed_config(section);
    config.n_documents = config.n_documents.min(N_SAMPLED_DOCUMENTS);
    (config.n_train_problems, config.n_held_out_problems) = (0, 0);
    let sample = ra3_testbed::generate(&config, Seed::root(corpus.seed)).documents;
    let n_bytes: usize = sample
        .iter()
        .map(|document| document.prefix.len() + document.text.len())
        .sum();
    n_bytes as f64 / sample.len().max(1) as f64 / BYTES_PER_TOKEN
}

impl Estimate {
    /// For a reader.
    pub fn to_text(&self) -> String {
        let width = self.stages.iter().map(|stage| stage.stage.len()).max();
        let width = width.unwrap_or_default().max("stage".len());
        let of_other = match self.engine.as_str() {
            "native" => "",
            _ => " (time is what the native engine takes)",
        };
        let of_device = self.device.map_or(String::new(), DeviceEstimate::to_text);
        let mut text = format!(
            "engine      {}{of_other}\nparameters  {:.2}M at most\n\
             memory      {} MiB at most{of_device}\n\
             documents   about {:.0} tokens each\n\n\
             {:<width$} {:>9} {:>10} {:>10} {:>9}\n",
            self.engine,
            self.n_params as f64 / 1e6,
            self.memory_mib,
            self.document_tokens,
            "stage",
            "updates",
            "tokens",
            "TFLOP",
            "time",
        );
        let total = self.stages.iter().fold(
            StageEstimate {
                stage: "in all".to_owned(),
                ..StageEstimate::default()
            },
            |sum, stage| StageEstimate {
                n_updates: sum.n_updates.saturating_add(stage.n_updates),
                n_tokens: sum.n_tokens + stage.n_tokens,
                flops: sum.flops + stage.flops,
                seconds: sum.seconds + stage.seconds,
                ..sum
            },
        );
        for stage in self.stages.iter().chain([&total]) {
            let updates = match stage.n_updates {
                0 => "–".to_owned(),
                n => n.to_string(),
            };
            text += &format!(
                "{:<width$} {:>9} {:>9.2}M {:>10.2} {:>9}\n",
                stage.stage,
                updates,
                stage.n_tokens / 1e6,
                stage.flops / 1e12,
                time(stage.seconds),
            );
        }
        text
    }
}

/// Seconds in the unit that a reader takes them in.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "–".to_owned(),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The training stages of `tiny` with changes, for documents of 10 tokens and one parameter.
    fn counted(changes: &[&str]) -> Vec<(String, u64, f64, f64)> {
        let costs = |_| Costs {
            n_matmul_params: 1.0,
            document_tokens: 10.0,
            flops_per_second: 1.0,
        };
        let found = stages(&Plan::tiny(changes), costs).into_iter();
        let training = found.filter(|stage| stage.n_updates > 0);
        training
            .map(|it| (it.stage, it.n_updates, it.n_tokens, it.flops))
            .collect()
    }

    #[test]
    fn tokens_and_operations_by_hand() {
        let found = counted(&[]);
        let expected = [
            // 6 updates of 8 documents.
            ("base", 6, 480.0, 6.0 * 480.0),
            // 32 documents are learnt from, and 2 × 2 × 8 rollouts, each sampled; of 16 annotated
            // documents, 12 are drawn once.
            ("ra3", 8, 640.0 + 320.0 + 120.0, 6.0 * 640.0 + 2.0 * 440.0),
            // 4 supervised updates of 8 documents and 2 E-step updates of 2: 36 documents.
            ("ntp", 5, 360.0, 6.0 * 360.0),
            // 4720 FLOPs at 6 a token, and 80 tokens an update.
            ("ntp-compute", 10, 4720.0 / 6.0, 4720.0),
            // 2 × 2 × 8 programs of 32 tokens, half of the longest, behind 10.
            ("rlvr-base", 2, 2.0 * 1344.0, 8.0 * 1344.0),
            ("rlvr-ntp", 2, 2.0 * 1344.0, 8.0 * 1344.0),
            ("rlvr-ra3", 2, 2.0 * 1344.0, 8.0 * 1344.0),
        ];
        for (found, (stage, n_updates, n_tokens, flops)) in found.iter().zip(expected) {
            assert_eq!(*found, (stage.to_owned(), n_updates, n_tokens, flops));
        }
        assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn every_update_on_a_batch_and_every_draw_of_a_group_counts() {
        let ra3 = |changes: &[&str]| {
            let (_, _, n_tokens, flops) = counted(changes).swap_remove(1);
            (n_tokens, flops)
        };
        // 320 tokens of documents and 320 of rollouts are learnt from; 320 and 120 are run.
        let (more, groups) = (
            "ra3.e_step.updates_per_batch=3",
            "ra3.m_step.choose={kind='best_of', group_size=4}",
        );
        assert_eq!(ra3(&[more]), (1720.0, 6.0 * 1280.0 + 2.0 * 440.0));
        // 12 documents are drawn four times.
        assert_eq!(ra3(&[groups]), (1440.0, 6.0 * 640.0 + 2.0 * 800.0));
        let weights = "ra3.m_step.choose={kind='importance_weights', group_size=4}";
        // The M-step's 2 updates learn from four draws of three documents in four: 160 tokens
        // become 520.
        assert_eq!(ra3(&[weights]), (1800.0, 6.0 * 1000.0 + 2.0 * 800.0));
        // A reference reads every rollout and every draw, and so does a frozen scorer.
        let kl = "ra3.e_step.penalty={kind='exact_kl', alpha=0.5}";
        assert_eq!(ra3(&[kl]), (1400.0, 6.0 * 640.0 + 2.0 * 760.0));
        assert_eq!(ra3(&[kl, groups]), (2240.0, 6.0 * 640.0 + 2.0 * 1600.0));
        assert_eq!(ra3(&["ra3.e_step.scorer='frozen'"]), ra3(&[kl]));
        // Annotation goes by whole batches of 8: 17 documents are 24, of which 18 are drawn.
        let few = "ra3.annotate_documents=17";
        assert_eq!(ra3(&[few]), (1140.0, 6.0 * 640.0 + 2.0 * 500.0));

        let rlvr = |change| counted(&[change]).swap_remove(4);
        let (_, _, n_tokens, flops) = rlvr("rlvr.updates_per_batch=3");
        assert_eq!((n_tokens, flops), (4.0 * 1344.0, 20.0 * 1344.0));
        let (_, _, n_tokens, flops) = rlvr("rlvr.n_tries_max=3");
        assert_eq!((n_tokens, flops), (4.0 * 1344.0, 12.0 * 1344.0));
    }
}
