//! Batches and moves as columns; `python/ra3_worker/serve.py` reads them.

use ra3::policy::{Example, Objective, SampleRule, Surrogate, TokenId};

use crate::wire::Column;

/// Of each example: its numbers of tokens, of old log-probabilities, of restrictions; then all
/// tokens, weights, old log-probabilities, places of restrictions, numbers of their choices, and
/// the choices. What is only scored has no use for old log-probabilities: they stay here.
pub(crate) fn examples(batch: &[Example], is_trained: bool) -> Vec<Column> {
    let olds = |example: &Example| {
        if is_trained {
            example.old_logprobs.len()
        } else {
            0
        }
    };
    let restrictions = || batch.iter().flat_map(|example| &example.restrictions);
    let count = |of: &dyn Fn(&Example) -> usize| {
        Column::U32(batch.iter().map(|example| of(example) as u32).collect())
    };
    let each =
        |of: &dyn Fn(&Example) -> &[f32]| Column::F32(batch.iter().flat_map(of).copied().collect());
    vec![
        count(&|example| example.tokens.len()),
        count(&olds),
        count(&|example| example.restrictions.len()),
        Column::U32(
            batch
                .iter()
                .flat_map(|example| &example.tokens)
                .copied()
                .collect(),
        ),
        each(&|example| &example.weights),
        each(&|example| &example.old_logprobs[..olds(example)]),
        Column::U32(restrictions().map(|r| r.position as u32).collect()),
        Column::U32(restrictions().map(|r| r.choices.len() as u32).collect()),
        Column::U32(
            restrictions()
                .flat_map(|r| r.choices.iter().copied())
                .collect(),
        ),
    ]
}

/// Whether it clips, the ends of the range, the step size.
pub(crate) fn objective(objective: Objective) -> Column {
    let (clips, low, high) = match objective.surrogate {
        Surrogate::LogLikelihood => (0.0, 0.0, 0.0),
        Surrogate::Clipped { low, high } => (1.0, low, high),
    };
    Column::F64(
        [clips, low, high, objective.learning_rate]
            .map(f64::from)
            .to_vec(),
    )
}

/// Tokens of a draft that are sent at most: no row looks further.
const DRAFT_TOKENS_MAX: usize = 256;

/// Moves of rows that draw, or are over.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    rows: Vec<u32>,
    kinds: Vec<u32>,
    n_fed: Vec<u32>,
    seeds: Vec<u64>,
    fed: Vec<TokenId>,
    /// Temperature and top-p of each rule.
    floats: Vec<f32>,
    /// Top-k, limit, choices, stops and drafted tokens of each rule.
    counts: Vec<u32>,
    choices: Vec<TokenId>,
    stops: Vec<TokenId>,
    drafts: Vec<TokenId>,
}

impl Moves {
    /// The row appends these tokens and draws by this rule; the draft is likely to follow.
    pub(crate) fn sample(
        &mut self,
        row: usize,
        seed: u64,
        fed: &[TokenId],
        rule: &SampleRule,
        draft: &[TokenId],
    ) {
        let draft = &draft[..draft.len().min(DRAFT_TOKENS_MAX)];
        self.push(row, 1, seed, fed);
        let choices = rule.choices.as_deref().unwrap_or_default();
        let top_k = rule.top_k.map_or(0, |k| narrow(k.get()));
        self.floats
            .extend([rule.temperature, rule.top_p.unwrap_or(0.0)]);
        self.counts.extend([top_k, narrow(rule.n_tokens_max)]);
        self.counts
            .extend([choices.len(), rule.stop.len(), draft.len()].map(narrow));
        self.choices.extend(choices);
        self.stops.extend(rule.stop.iter());
        self.drafts.extend(draft);
    }

    /// The row is over.
    pub(crate) fn done(&mut self, row: usize) {
        self.push(row, 0, 0, &[]);
    }

    fn push(&mut self, row: usize, kind: u32, seed: u64, fed: &[TokenId]) {
        self.rows.push(row as u32);
        self.kinds.push(kind);
        self.seeds.push(seed);
        self.n_fed.push(fed.len() as u32);
        self.fed.extend(fed);
    }

    /// Rows that move.
    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// All of them as columns.
    pub(crate) fn into_columns(self) -> Vec<Column> {
        vec![
            Column::U32(self.rows),
            Column::U32(self.kinds),
            Column::U32(self.n_fed),
            Column::U64(self.seeds),
            Column::U32(self.fed),
            Column::F32(self.floats),
            Column::U32(self.counts),
            Column::U32(self.choices),
            Column::U32(self.stops),
            Column::U32(self.drafts),
        ]
    }
}

/// A limit that nobody reaches is the largest number.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
