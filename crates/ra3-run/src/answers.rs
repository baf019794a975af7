//! `ra3 eval --bench`: a model's answers to published benchmarks, written, cut, graded.
//!
//! A folder of results holds, for each benchmark, `<name>.samples.jsonl` in EvalPlus's form (and
//! the raw answer with its decisions beside each), `<name>.results.json` and `<name>.failures.txt`.
//! Answers are written in batches and kept as each is whole: a run that was killed goes on. Not
//! done here: grading (`grading`), and what is asked (`ra3_evals::prompt`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ra3::generation::{Program, WritingRule};
use ra3::policy::{Episode, Move, Observation, TokenId, run_all};
use ra3::seed::Seed;
use ra3_evals::bench::Bench;
use ra3_evals::livecodebench::prompt::Example;
use ra3_evals::prompt::{Form, Prompt, Style, program, prompt, style};
use ra3_evals::sampling::Sampling;
use ra3_evals::task::Task;
use ra3_text::chat_template::{Chat, message};
use ra3_text::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Watcher};
use crate::grade_report::GradeReport;
use crate::grading::{self, GradeRequest};
use crate::model::Loaded;
use crate::on_disk::{read_json, read_text};
use crate::program::{ProgramRequest, rule};

/// Tasks whose answers are written together, and kept together.
const N_TASKS_BATCH: usize = 16;
/// What EvalPlus samples with, where it samples.
const TOP_P: f32 = 0.95;

/// A model, and what it is graded on.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// The checkpoint.
    pub model: PathBuf,
    /// How answers are sampled; `tokens_max` is of the benchmark where it is 0.
    pub writing: ProgramRequest,
    /// As a chat model.
    pub is_chat: bool,
    /// Solved tasks that are shown, where the benchmark has the choice.
    pub n_shots: usize,
    /// The folder of `LiveCodeBench`'s few-shot files.
    pub examples: Option<PathBuf>,
    /// Tasks at most, the first by name; for a look.
    pub n_tasks_max: Option<usize>,
    /// The folder of results.
    pub out: PathBuf,
    /// How answers are graded; its samples and result file are set here.
    pub grading: GradeRequest,
}

/// A line of the samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SampleLine {
    task_id: String,
    /// The program that is graded.
    solution: String,
    /// The answer with decisions and rationales.
    raw: String,
    /// It ended by itself or at a stop.
    ended: bool,
}

/// Writes and grades answers to benchmarks.
///
/// # Errors
/// The model, the data or the folder cannot be read or written, the folder holds answers that were
/// written in another way, or the sandbox fails.
pub fn evaluate(
    request: &BenchRequest,
    benches: &[String],
    watcher: &mut Watcher<'_>,
) -> Result<Vec<GradeReport>> {
    ensure!(!benches.is_empty(), "no benchmark is named");
    let mut model = Loaded::load(&request.model, watcher)?;
    let form = form(request)?;
    std::fs::create_dir_all(&request.out)
        .with_context(|| format!("cannot create {}", request.out.display()))?;
    let mut reports = Vec::new();
    for name in benches {
        let grading = GradeRequest {
            bench: name.clone(),
            samples: request.out.join(format!("{name}.samples.jsonl")),
            out: Some(request.out.join(format!("{name}.results.json"))),
            ..request.grading.clone()
        };
        let (bench, pool) = grading::prepare(&grading, watcher)?;
        let style = style(&bench, &form)?;
        let answering = Answers {
            request,
            bench: &bench,
            form: &form,
            style: &style,
            path: &grading.samples,
        };
        answering.write(&mut model, watcher)?;
        let sampling = Some(answering.sampling());
        let report = grading::grade_prepared(&grading, sampling, &bench, &pool, watcher)?;
        let failures = request.out.join(format!("{name}.failures.txt"));
        ra3_files::write(&failures, report.failures_text().as_bytes())?;
        reports.push(report);
    }
    Ok(reports)
}

fn form(request: &BenchRequest) -> Result<Form> {
    if request.is_chat {
        return Ok(Form::Chat);
    }
    let read = |folder: &Path| -> Result<Box<[Example; 2]>> {
        let first = |name: &str| -> Result<Example> {
            let path = folder.join(name);
            let examples: Vec<Example> = read_json(&path, "is no list of examples")?;
            let first = examples.into_iter().next();
            first.with_context(|| format!("{} is empty", path.display()))
        };
        Ok(Box::new([first("stdin.json")?, first("func.json")?]))
    };
    Ok(Form::Base {
        n_shots: request.n_shots,
        examples: request.examples.as_deref().map(read).transpose()?,
    })
}

/// Answers to one benchmark.
struct Answers<'a> {
    request: &'a BenchRequest,
    bench: &'a Bench,
    form: &'a Form,
    style: &'a Style,
    path: &'a Path,
}

impl Answers<'_> {
    /// Writes what is not written yet.
    fn write(&self, model: &mut Loaded, watcher: &mut Watcher<'_>) -> Result<()> {
        let n_tasks_max = self.request.n_tasks_max.unwrap_or(usize::MAX);
        let task_ids: Vec<&str> = self.bench.task_ids().take(n_tasks_max).collect();
        let n = self.request.writing.n_samples;
        let n_batches_done = self.n_batches_done(task_ids.len())?;
        watcher(Event::Started {
            stage: format!("write {}", self.bench.name.text()),
            position: (n_batches_done * N_TASKS_BATCH).min(task_ids.len()) as u64,
            total: task_ids.len() as u64,
            unit: "tasks",
        });
        let seed = Seed::root(self.request.writing.seed).child(self.bench.name.text());
        let batches = task_ids.chunks(N_TASKS_BATCH).enumerate();
        for (index, batch) in batches.skip(n_batches_done) {
            let (lines, n_tokens) = self.write_batch(model, batch, n, seed.nth(index as u64))?;
            self.append(&lines)?;
            watcher(Event::Advanced {
                position: (index * N_TASKS_BATCH + batch.len()) as u64,
                n_tokens,
                message: String::new(),
            });
        }
        let message = format!("{} answers", task_ids.len() * n);
        watcher(Event::Finished { message });
        Ok(())
    }

    /// How the answers of this folder are written: they do not mix with others.
    fn conditions(&self) -> String {
        let writing = &self.request.writing;
        format!(
            "{} of {} (MD5 {}), {}, temperature {}, {} samples, {} tokens, seed {}, {}\n",
            self.bench.name.text(),
            self.request.model.display(),
            self.bench.checksum,
            self.style.variant,
            writing.temperature,
            writing.n_samples,
            self.tokens_max(),
            writing.seed,
            if writing.plain {
                "plain"
            } else {
                "decisions deleted"
            },
        )
    }

    fn sampling(&self) -> Sampling {
        let writing = &self.request.writing;
        Sampling {
            origin: String::new(),
            model: self.request.model.display().to_string(),
            variant: self.style.variant.to_owned(),
            // The decimal that was asked for, not the nearest binary number.
            temperature: writing.temperature.to_string().parse().unwrap_or_default(),
            n_samples: writing.n_samples,
            tokens_max: self.tokens_max(),
            seed: writing.seed,
        }
    }

    fn tokens_max(&self) -> usize {
        match self.request.writing.tokens_max {
            0 => self.style.tokens_max,
            tokens_max => tokens_max,
        }
    }

    /// Whole batches that are there; what follows them is cut off, and written again.
    fn n_batches_done(&self, n_tasks: usize) -> Result<usize> {
        let beside = self.path.with_extension("conditions");
        let conditions = self.conditions();
        if !self.path.exists() {
            ra3_files::write(&beside, conditions.as_bytes())?;
            return Ok(0);
        }
        ensure!(
            beside.exists(),
            "{} is missing, and nothing else says how the answers in {} were written: put it back, \
             or name another folder with --out",
            beside.display(),
            self.path.display()
        );
        let found = read_text(&beside)?;
        ensure!(
            found == conditions,
            "{} holds answers that were written in another way ({}); name another folder with \
             --out",
            self.path.display(),
            found.trim()
        );
        let text = read_text(self.path)?;
        let whole: Vec<&str> = text
            .split_inclusive('\n')
            .filter(|l| l.ends_with('\n'))
            .collect();
        let n = self.request.writing.n_samples;
        let n_done = if whole.len() == n_tasks * n {
            n_tasks.div_ceil(N_TASKS_BATCH)
        } else {
            whole.len() / (N_TASKS_BATCH * n)
        };
        let kept = whole.iter().take(n_done * N_TASKS_BATCH * n);
        let kept: String = kept.copied().collect();
        if kept.len() < text.len() {
            ra3_files::write(self.path, kept.as_bytes())?;
        }
        Ok(n_done)
    }

    fn append(&self, lines: &[SampleLine]) -> Result<()> {
        let mut text = String::new();
        for line in lines {
            text += &serde_json::to_string(line)?;
            text.push('\n');
        }
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write_batch(
        &self,
        model: &mut Loaded,
        task_ids: &[&str],
        n_samples: usize,
        seed: Seed,
    ) -> Result<(Vec<SampleLine>, u64)> {
        let writing = ProgramRequest {
            tokens_max: self.tokens_max(),
            ..self.request.writing
        };
        let mut rule = rule(model, &writing);
        if rule.temperature > 0.0 {
            rule.top_p = Some(TOP_P);
        }
        // After each line it is seen whether a stop has been written.
        let newlines = model.tokenizer.newlines();
        rule.rests = Some(newlines.chain(rule.stops.iter().copied()).collect());
        let rule = Arc::new(rule);
        let tasks: Vec<&Task> = task_ids
            .iter()
            .map(|task_id| self.bench.task(task_id).expect("it is one of its own"))
            .collect();
        let mut rows = Vec::new();
        let n_context = model.lm.shape().n_context;
        for (task, task_id) in tasks.iter().zip(task_ids) {
            let ids = encode(model, &prompt(self.bench, task, self.form)?)?;
            ensure!(
                ids.len() < n_context,
                "{task_id}: its prompt has {} tokens, and the model's context {n_context}: take \
                 another model, or for mbpp --shots 0",
                ids.len()
            );
            rows.extend((0..n_samples).map(|_| {
                Answering::new(&ids, Arc::clone(&rule), &model.tokenizer, &self.style.stops)
            }));
        }
        let work = run_all(&*model.lm, &mut rows, seed)?;
        let of = task_ids
            .iter()
            .zip(&tasks)
            .flat_map(|pair| (0..n_samples).map(move |_| pair));
        let line = |((task_id, task), row): ((&&str, &&Task), &Answering<'_>)| SampleLine {
            task_id: (*task_id).to_owned(),
            solution: program(task, self.form, &self.style.cut(&row.answer())),
            raw: model.tokenizer.decode(row.program.written.raw()),
            ended: row.program.written.ended || row.is_stopped,
        };
        Ok((of.zip(&rows).map(line).collect(), work.n_tokens_sampled))
    }
}

/// The ids of a prompt, as transformers gives them.
pub(crate) fn encode(model: &Loaded, prompt: &Prompt) -> Result<Vec<TokenId>> {
    match prompt {
        Prompt::Text(text) => Ok(model.tokenizer.encode_prompt(text)),
        Prompt::Conversation {
            system,
            user,
            beginning,
        } => {
            let template = model.chat_template()?;
            let system = system.map(|text| message("system", text));
            let messages = system.into_iter().chain([message("user", user)]).collect();
            let text = template.render(&Chat::new(messages))? + beginning;
            Ok(model.tokenizer.encode_chat(&text))
        }
    }
}

/// An answer in the making, which ends where a stop has been written.
struct Answering<'a> {
    program: Program,
    tokenizer: &'a Tokenizer,
    stops: &'a [&'static str],
    is_stopped: bool,
}

impl<'a> Answering<'a> {
    fn new(
        prompt: &[TokenId],
        rule: Arc<WritingRule>,
        tokenizer: &'a Tokenizer,
        stops: &'a [&'static str],
    ) -> Self {
        Self {
            program: Program::begin(prompt, rule),
            tokenizer,
            stops,
            is_stopped: false,
        }
    }

    /// The answer without decisions and rationales.
    fn answer(&self) -> String {
        self.tokenizer.decode(&self.program.written.program())
    }
}

impl Episode for Answering<'_> {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        let is_written = matches!(seen, Observation::Sampled { .. });
        let next = self.program.next(seen);
        if is_written && next != Move::Done {
            let answer = self.answer();
            self.is_stopped = self.stops.iter().any(|stop| answer.contains(stop));
        }
        if self.is_stopped { Move::Done } else { next }
    }
}
