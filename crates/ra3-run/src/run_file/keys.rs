//! The keys of a run file and what each may be: a flat list, in the order of the sections.
//!
//! Each is a key of the schema and the other way round, which a test says. The upper ends are far
//! above what anyone has run: they keep a slip of the finger from becoming a machine without
//! memory.

use super::allowed::Allowed::{Flag, OneOf, Path, Real, Text, Whole};
use super::allowed::Bound::{Closed, Open};
use super::allowed::{Allowed, Key};

/// Updates, tokens and other counts that a long run may have.
const COUNT_MAX: u64 = 1_000_000_000;
/// Documents or problems of an update.
const BATCH_MAX: u64 = 65_536;
/// Rows of a group, which share a prompt and are in memory together.
const GROUP_MAX: u64 = 1_024;
const CONTEXT_MAX: u64 = 1 << 20;
const ANY: u64 = i64::MAX as u64;

const SHARE: Allowed = Real(Closed(0.0), Closed(1.0));
/// A step size; 0 moves nothing, which is a control.
const STEP_SIZE: Allowed = Real(Closed(0.0), Closed(1.0));
/// Of rollouts whose gradient is taken: greedy ones have none.
const TEMPERATURE: Allowed = Real(Closed(0.01), Closed(100.0));
const PROBABILITY: Allowed = Real(Open(0.0), Open(1.0));
const WEIGHT: Allowed = Real(Closed(0.0), Closed(1000.0));
const PROBLEM_SETS: Allowed = OneOf(&[
    "testbed",
    "testbed-humaneval",
    "testbed-mbpp",
    "humaneval",
    "humaneval+",
    "mbpp",
    "mbpp+",
    "livecodebench",
    "leetcode",
    "mbpp-train",
    "puzzles",
    "asserts",
    "codeforces",
]);
const PRECISIONS: Allowed = OneOf(&["float32", "bfloat16"]);
const DOCUMENTS: Allowed = OneOf(&["all", "with_comments"]);

const LORA_TARGETS: Allowed = OneOf(&[
    "all-linear",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
]);

const fn key(path: &'static str, allowed: Allowed) -> Key {
    Key {
        path,
        allowed,
        unit: None,
        symbol: None,
    }
}

impl Key {
    /// With what its number counts.
    const fn of(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    /// With its letter in the paper and in `docs/algorithm.md`.
    const fn symbol(self, symbol: &'static str) -> Self {
        Self {
            symbol: Some(symbol),
            ..self
        }
    }
}

/// Every key.
pub const KEYS: &[Key] = &[
    key("name", Text(100)),
    key("seed", Whole(0, ANY)),
    key("directory", Path),
    key("store", Path),
    key("n_threads", Whole(1, 256)).of("threads"),
    key("checkpoint_every", Whole(1, ANY)).of("updates"),
    // The engine.
    key("engine.kind", OneOf(&["native", "torch"])),
    key("engine.python", Path),
    key("engine.device", OneOf(&["auto", "cpu", "cuda"])),
    key("engine.dtype", PRECISIONS),
    key("engine.compile", Flag),
    key("engine.cuda_graphs", Flag),
    key("engine.deadline_s", Whole(1, 1_000_000)).of("seconds"),
    key("engine.processes", Whole(1, 1_024)).of("processes"),
    key("engine.sharding", OneOf(&["none", "full"])),
    key("engine.listen", Text(300)),
    key("engine.lora.rank", Whole(1, 65_536)),
    key("engine.lora.alpha", Real(Open(0.0), Closed(1e6))),
    key("engine.lora.target_modules", LORA_TARGETS),
    // The documents.
    key("corpus.seed", Whole(0, ANY)),
    key("corpus.held_out_share", Real(Closed(0.0), Open(1.0))),
    key("corpus.decontaminate_n_words", Whole(1, COUNT_MAX)).of("words"),
    key(
        "corpus.near_duplicate_similarity",
        // Below it the bands of `ra3_corpus::dedupe` would miss more than one pair in eight.
        Real(Closed(0.5), Closed(1.0)),
    ),
    key("corpus.n_bytes_max", Whole(1, ANY)).of("bytes"),
    key("corpus.rationale_tokens_max", Whole(1, CONTEXT_MAX)).of("tokens"),
    key("corpus.document_tokens_max", Whole(16, CONTEXT_MAX)).of("tokens"),
    key("corpus.long_statements", OneOf(&["cut", "drop"])),
    key("corpus.on_unreadable", OneOf(&["stop", "drop"])),
    key(
        "corpus.sources.kind",
        OneOf(&["python_standard_library", "folder", "json_lines", "parquet"]),
    ),
    key("corpus.sources.python", Path),
    key("corpus.sources.n_files_max", Whole(1, COUNT_MAX)).of("files"),
    key("corpus.sources.path", Path),
    key("corpus.sources.text_key", Text(1000)),
    key("corpus.sources.prefix_key", Text(1000)),
    key("corpus.sources.name_key", Text(1000)),
    key("corpus.sources.column", Text(1000)),
    key("corpus.testbed.n_documents", Whole(0, 10_000_000)).of("documents"),
    key("corpus.testbed.comment_share", SHARE),
    key("corpus.testbed.stale_comment_share", SHARE),
    key("corpus.testbed.vague_comment_share", SHARE),
    key("corpus.testbed.mbpp_share", SHARE),
    key("corpus.testbed.n_train_problems", Whole(0, 10_000)).of("problems"),
    key("corpus.testbed.n_held_out_problems", Whole(0, 10_000)).of("problems"),
    // The tokenizer.
    key("tokenizer.kind", OneOf(&["train", "file", "base"])),
    // 256 bytes and four tokens of its own.
    key("tokenizer.n_vocabulary", Whole(260, 1_000_000)).of("tokens"),
    key("tokenizer.path", Path),
    // The base model.
    key("base.kind", OneOf(&["pretrain", "checkpoint"])),
    key("base.path", Path),
    key("base.vocabulary_multiple", Whole(1, BATCH_MAX)).of("rows"),
    key("base.n_updates", Whole(0, COUNT_MAX)).of("updates"),
    key("base.batch_documents", Whole(1, BATCH_MAX)).of("documents"),
    key(
        "base.schedule.kind",
        OneOf(&["constant", "cosine", "warmup_stable_decay"]),
    ),
    key("base.schedule.peak", STEP_SIZE),
    key("base.schedule.warmup", Whole(0, COUNT_MAX)).of("updates"),
    key("base.schedule.decay", Whole(0, COUNT_MAX)).of("updates"),
    key("base.schedule.floor_share", SHARE),
    key("base.model.architecture", OneOf(&["qwen2", "llama"])),
    key("base.model.hidden_size", Whole(2, 32_768)),
    key("base.model.intermediate_size", Whole(1, 131_072)),
    key("base.model.n_layers", Whole(1, 1000)).of("layers"),
    key("base.model.n_heads", Whole(1, 1024)).of("heads"),
    key("base.model.n_key_value_heads", Whole(1, 1024)).of("heads"),
    key("base.model.context", Whole(16, CONTEXT_MAX)).of("tokens"),
    key("base.model.rope_theta", Real(Closed(1.0), Closed(1e12))),
    key(
        "base.model.initializer_range",
        Real(Closed(1e-6), Closed(10.0)),
    ),
    key("base.model.tie_embeddings", Flag),
    key("base.model.precision_on_disk", PRECISIONS),
    // The optimizer.
    key("training.weight_decay", Real(Closed(0.0), Closed(1.0))),
    key(
        "training.clip_norm",
        Real(Closed(1e-6), Closed(f64::INFINITY)),
    ),
    key("training.prefix_weight", WEIGHT),
    key("training.micro_batch_tokens", Whole(1, 1 << 24)).of("tokens"),
    key("training.recompute", Flag),
    key("training.cache_mib", Whole(1, 1 << 24)).of("MiB"),
    key("training.recorded_mib", Whole(0, 1 << 24)).of("MiB"),
    key("training.compute_precision", PRECISIONS),
    key("training.moment_precision", PRECISIONS),
    key("training.frozen_precision", PRECISIONS),
    // The supervised updates.
    key("supervised.batch_documents", Whole(1, BATCH_MAX)).of("documents"),
    key("supervised.ntp_documents", DOCUMENTS),
    key("supervised.peak", STEP_SIZE),
    key("supervised.warmup", Whole(0, COUNT_MAX)).of("updates"),
    key("supervised.floor_share", SHARE),
    // RA3.
    key("ra3.cold_start_updates", Whole(0, COUNT_MAX)).of("updates"),
    key("ra3.cold_start_documents", DOCUMENTS),
    key("ra3.cold_start_lines_share", Real(Closed(0.0), Open(1.0))),
    key("ra3.rounds", Whole(0, 1_000_000))
        .of("rounds")
        .symbol("K"),
    key("ra3.selection_rounds", Whole(0, 1_000_000)).of("rounds"),
    key("ra3.e_updates", Whole(0, COUNT_MAX)).of("updates"),
    key("ra3.annotate_documents", Whole(0, 10_000_000)).of("documents"),
    key("ra3.m_updates", Whole(0, COUNT_MAX)).of("updates"),
    key("ra3.moments", OneOf(&["shared", "by_phase"])),
    key("ra3.e_step.batch_documents", Whole(1, BATCH_MAX)).of("documents"),
    key("ra3.e_step.group_size", Whole(1, GROUP_MAX))
        .of("rollouts")
        .symbol("G"),
    key("ra3.e_step.rationale_tokens_max", Whole(1, CONTEXT_MAX))
        .of("tokens")
        .symbol("M"),
    key("ra3.e_step.horizon", Whole(0, COUNT_MAX))
        .of("lines")
        .symbol("H"),
    key("ra3.e_step.discount", SHARE).symbol("γ"),
    key(
        "ra3.e_step.penalty.kind",
        OneOf(&[
            "switch_cost",
            "exact_kl",
            "switch_cost_on_mean",
            "switch_cost_on_probability",
        ]),
    ),
    key(
        "ra3.e_step.penalty.cost",
        Real(Closed(0.0), Closed(f64::INFINITY)),
    )
    .symbol("c"),
    key("ra3.e_step.penalty.alpha", PROBABILITY).symbol("α"),
    key("ra3.e_step.scorer", OneOf(&["live", "frozen"])),
    key(
        "ra3.e_step.baseline",
        OneOf(&["leave_one_out", "group_mean", "standardised", "none"]),
    ),
    key("ra3.e_step.learning_rate", STEP_SIZE),
    key("ra3.e_step.warmup", Whole(0, COUNT_MAX)).of("updates"),
    key("ra3.e_step.temperature", TEMPERATURE),
    key("ra3.e_step.updates_per_batch", Whole(1, 1000)).of("updates"),
    key("ra3.e_step.clip", Real(Open(0.0), Closed(1.0))),
    key("ra3.e_step.think_floor", SHARE),
    key("ra3.e_step.think_every_line", Flag),
    key(
        "ra3.m_step.choose.kind",
        OneOf(&["sample", "best_of", "importance_weights"]),
    ),
    key("ra3.m_step.choose.group_size", Whole(1, GROUP_MAX))
        .of("draws")
        .symbol("G"),
    key("ra3.m_step.random_rationales", Flag),
    key("ra3.m_step.corpus_latents_share", SHARE),
    key("ra3.m_step.line_weight", Real(Open(0.0), Closed(1000.0))),
    key("ra3.m_step.decision_weight", WEIGHT),
    key("ra3.m_step.rationale_weight", WEIGHT),
    // The arms.
    key("arms.name", Text(40)),
    key("arms.from", Text(1000)),
    key("arms.method", OneOf(&["none", "ntp", "ra3"])),
    key("arms.budget.updates", Whole(0, COUNT_MAX)).of("updates"),
    key("arms.budget.corpus_tokens", Whole(0, ANY)).of("tokens"),
    key("arms.budget.flops", Real(Closed(0.0), Open(f64::INFINITY))).of("FLOPs"),
    key("arms.budget.corpus_tokens_of", Text(40)),
    key("arms.budget.flops_of", Text(40)),
    key("arms.evaluate", Flag),
    key("arms.rlvr", Flag),
    // What is measured.
    key("held_out.n_documents", Whole(1, COUNT_MAX)).of("documents"),
    key("held_out.iwae", Whole(1, 4096)).of("draws").symbol("K"),
    key("held_out.alpha", PROBABILITY).symbol("α"),
    key("evaluate.name", Text(40)),
    key("evaluate.problems.set", PROBLEM_SETS),
    key("evaluate.problems.data", Path),
    key("evaluate.n_samples", Whole(1, 10_000)).of("programs"),
    key("evaluate.temperature", Real(Closed(0.0), Closed(100.0))),
    key("evaluate.pass_at", Whole(1, 10_000))
        .of("programs")
        .symbol("k"),
    key("evaluate.program_tokens_max", Whole(1, CONTEXT_MAX)).of("tokens"),
    key("evaluate.decision_table", Flag),
    // RLVR.
    key("rlvr.problems.set", PROBLEM_SETS),
    key("rlvr.problems.data", Path),
    key("rlvr.held_out_share", PROBABILITY),
    key("rlvr.n_updates", Whole(1, COUNT_MAX)).of("updates"),
    key("rlvr.batch_problems", Whole(1, BATCH_MAX)).of("problems"),
    key("rlvr.group_size", Whole(2, GROUP_MAX))
        .of("programs")
        .symbol("G"),
    key("rlvr.program_tokens_max", Whole(1, CONTEXT_MAX)).of("tokens"),
    key("rlvr.learning_rate", STEP_SIZE),
    key("rlvr.warmup", Whole(0, COUNT_MAX)).of("updates"),
    key("rlvr.temperature", TEMPERATURE),
    key(
        "rlvr.advantage",
        OneOf(&["grpo", "dr_grpo", "rloo", "dapo"]),
    ),
    key("rlvr.drop_groups_without_signal", Flag),
    key("rlvr.n_tries_max", Whole(1, 1000)).of("batches"),
    key("rlvr.overlong_tokens", Whole(0, CONTEXT_MAX)).of("tokens"),
    key("rlvr.updates_per_batch", Whole(1, 1000)).of("updates"),
    key("rlvr.clip_low", Real(Open(0.0), Closed(1.0))),
    key("rlvr.clip_high", Real(Open(0.0), Closed(10.0))),
    key("rlvr.evaluate_every", Whole(1, ANY)).of("updates"),
    key("rlvr.evaluate_samples", Whole(1, 10_000)).of("programs"),
    key("rlvr.reward", OneOf(&["pass", "share", "weighted"])),
    key("rlvr.reward_command", Text(4096)),
    key("rlvr.reward_seconds", Real(Open(0.0), Closed(86_400.0))).of("seconds"),
    key("rlvr.kl", Real(Closed(0.0), Closed(1000.0))).of("reward a nat"),
    key("rlvr.solved_min", SHARE),
    key("rlvr.solved_max", SHARE),
    key("rlvr.solved_after", Whole(1, COUNT_MAX)).of("programs"),
    // How programs are graded.
    key("grading.n_workers", Whole(1, 256)).of("processes"),
    key(
        "grading.confinement",
        OneOf(&["require", "best_effort", "off"]),
    ),
    // A study.
    key("study.seeds", Whole(0, ANY)),
    key("study.against", Text(40)),
    key("study.results", Path),
];
