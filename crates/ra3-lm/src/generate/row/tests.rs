//! When a row enters, the room that it is promised, what rows share, and when a draw ends.

use super::*;
use crate::generate::cache::bytes_per_token;
use crate::model::config::{Architecture, ModelConfig};
use crate::model::linear::Kernel;

/// Feeds so many tokens, each another than the one before.
struct Prompt(u32);

impl Episode for Prompt {
    fn next(&mut self, _: Observation<'_>) -> Move {
        Move::Feed((0..self.0).map(|i| i % 7).collect())
    }
}

fn transformer() -> Transformer {
    Transformer::new(ModelConfig {
        vocab_size: 8,
        hidden_size: 8,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 300,
        ..ModelConfig::new(Architecture::Qwen2)
    })
}

fn room_for(n_tokens: usize) -> Cache {
    let config = transformer().config;
    let n_bytes = n_tokens * bytes_per_token(&config);
    Cache::new(&config, n_bytes, Kernel::Rows)
}

/// Whether a row of so many tokens enters, and the room that it leaves open. Beside it the
/// first `n_held` tokens are held.
fn enter(
    n_tokens: u32,
    n_room: usize,
    n_context: usize,
    alone: bool,
    n_held: u32,
    was_parked: bool,
) -> (bool, usize) {
    let (mut episode, mut cache) = (Prompt(n_tokens), room_for(n_room));
    let mut parent = None;
    for i in 0..n_held {
        parent = Some(cache.insert(parent, i % 7));
    }
    let mut row = Row::episode(0, &mut episode, Seed::root(0));
    row.was_parked = was_parked;
    row.begin(&transformer()).expect("a good move");
    assert_eq!(row.n_tokens(), n_tokens as usize);
    let has_entered = row.enter(&mut cache, n_context, alone);
    assert_eq!(
        row.path.len(),
        if has_entered { n_held as usize } else { 0 }
    );
    (has_entered, cache.n_open())
}

#[test]
fn a_row_is_promised_room_for_its_tokens_and_for_some_more() {
    // 64 more than it has; a row that was parked twice what it has, if that is more.
    assert_eq!(enter(5, 100, 300, false, 0, false), (true, 100 - 69));
    assert_eq!(enter(5, 100, 300, false, 0, true), (true, 100 - 69));
    assert_eq!(enter(90, 200, 300, false, 0, false), (true, 200 - 154));
    assert_eq!(enter(90, 200, 300, false, 0, true), (true, 200 - 180));
    // No more than the context holds.
    assert_eq!(enter(5, 100, 16, false, 0, false), (true, 100 - 16));
    assert_eq!(enter(90, 200, 100, false, 0, true), (true, 200 - 100));
    // What others hold is there already.
    assert_eq!(enter(5, 100, 300, false, 3, false), (true, 100 - 69));
    assert_eq!(enter(5, 69, 300, false, 3, false), (true, 0));
}

#[test]
fn a_row_enters_where_there_is_room_or_nobody_else() {
    assert_eq!(enter(5, 69, 300, false, 0, false), (true, 0));
    assert_eq!(enter(5, 68, 300, false, 0, false), (false, 68));
    assert_eq!(enter(5, 68, 300, true, 0, false), (true, 0));
    assert_eq!(enter(5, 3, 300, true, 0, false), (true, 0));
}

/// Ends at its start.
struct Over;

impl Episode for Over {
    fn next(&mut self, _: Observation<'_>) -> Move {
        Move::Done
    }
}

/// A sequence is as long as it gets, and so is what is over.
#[test]
fn a_row_that_grows_no_more_is_promised_room_for_its_tokens_alone() {
    let sequence = Example {
        tokens: (0..90).map(|i| i % 7).collect(),
        weights: vec![0.0; 90],
        restrictions: Vec::new(),
        old_logprobs: Vec::new(),
    };
    for (n_room, has_room) in [(200, true), (90, true), (89, false)] {
        let (mut cache, mut logprobs) = (room_for(n_room), vec![0.0; 90]);
        let mut row = Row::sequence(0, &sequence, &mut logprobs);
        row.begin(&transformer()).expect("nothing is asked of it");
        assert_eq!(row.enter(&mut cache, 300, false), has_room);
        assert_eq!(cache.n_open(), if has_room { n_room - 90 } else { n_room });
    }
    let (mut over, mut cache) = (Over, room_for(3));
    let mut row = Row::episode(0, &mut over, Seed::root(0));
    row.begin(&transformer()).expect("a good move");
    assert!(row.enter(&mut cache, 300, false));
    assert_eq!(cache.n_open(), 3);
}

/// Two rows of the same five tokens that enter before either has nodes, and take them in turn
/// in steps of at most `n_max` new ones: nodes of the rows, new ones, and open room, a step.
fn attach(n_room: usize, n_max: usize) -> Vec<([usize; 2], usize, usize)> {
    let (mut first, mut second, mut cache) = (Prompt(5), Prompt(5), room_for(n_room));
    let mut rows = [&mut first, &mut second].map(|prompt| Row::episode(0, prompt, Seed::root(0)));
    for row in &mut rows {
        row.begin(&transformer()).expect("a good move");
        assert!(row.enter(&mut cache, 300, true));
    }
    let mut steps = Vec::new();
    for _ in 0..2 {
        let mut fresh = Vec::new();
        for row in &mut rows {
            row.attach(&mut cache, &mut fresh, n_max);
        }
        let lengths = [0, 1].map(|at| rows[at].path.len());
        assert_eq!(rows[0].path[..lengths[1]], rows[1].path[..lengths[1]]);
        steps.push((lengths, fresh.len(), cache.n_open()));
    }
    steps
}

#[test]
fn rows_share_nodes_and_keep_to_their_room_and_to_the_step() {
    // Room for everything: 69 are promised to each, and what is shared is promised to neither.
    assert_eq!(attach(200, 9), [([5, 5], 5, 67), ([5, 5], 0, 67)]);
    // The second row was promised the 31 that were left.
    assert_eq!(attach(100, 9), [([5, 5], 5, 5), ([5, 5], 0, 5)]);
    // It was promised nothing, and needs no room for what the first one holds.
    assert_eq!(attach(5, 9), [([5, 5], 5, 0), ([5, 5], 0, 0)]);
    assert_eq!(attach(4, 9), [([4, 4], 4, 0), ([4, 4], 0, 0)]);
    // New nodes of a step are counted, those of other rows are not.
    assert_eq!(attach(200, 3), [([3, 3], 3, 65), ([5, 5], 2, 67)]);
}

/// Feeds a token, and samples two.
struct Two;

impl Episode for Two {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(vec![1]),
            Observation::Fed { .. } => Move::Sample(SampleRule::plain(1.0, 2)),
            Observation::Sampled { .. } => Move::Done,
        }
    }
}

#[test]
fn a_row_asks_for_a_token_once_all_before_it_are_computed() {
    let (mut episode, mut cache, transformer) = (Two, room_for(9), transformer());
    let mut row = Row::episode(0, &mut episode, Seed::root(0));
    let mut work = Work::default();
    row.begin(&transformer).expect("a good move");
    assert!(row.enter(&mut cache, 300, true));
    let mut n_asked = Vec::new();
    for _ in 0..4 {
        row.attach(&mut cache, &mut Vec::new(), 9);
        let mut questions = Vec::new();
        row.ask(0, &cache, &mut questions);
        n_asked.push(questions.len());
        for question in &questions {
            assert_eq!(Some(&question.node), row.path.last());
            row.take(question, Answer::default(), &mut cache);
        }
        row.advance(&transformer, &mut work).expect("a good move");
    }
    // Nothing while it feeds, then one a token, and nothing when it is over.
    assert_eq!(n_asked, [0, 1, 1, 0]);
}

/// Feeds a token, and samples up to the same token.
struct UpTo(u32);

impl Episode for UpTo {
    fn next(&mut self, seen: Observation<'_>) -> Move {
        match seen {
            Observation::Started { .. } => Move::Feed(vec![self.0]),
            Observation::Fed { .. } => Move::Sample(SampleRule {
                stop: Arc::new([self.0]),
                ..SampleRule::plain(1.0, 2)
            }),
            Observation::Sampled { tokens, .. } => {
                assert_eq!(tokens, [self.0]);
                Move::Done
            }
        }
    }
}

#[test]
fn a_stop_token_of_the_prompt_ends_no_draw() {
    let (mut episode, mut cache, transformer) = (UpTo(1), room_for(9), transformer());
    let mut row = Row::episode(0, &mut episode, Seed::root(0));
    let mut work = Work::default();
    let mut advance = |row: &mut Row<'_>| row.advance(&transformer, &mut work).expect("a move");
    row.begin(&transformer).expect("a good move");
    assert!(row.enter(&mut cache, 300, true));
    row.attach(&mut cache, &mut Vec::new(), 9);
    assert!(advance(&mut row), "it feeds");
    assert!(!advance(&mut row), "nothing is drawn yet");
    // Nor is anything while its prompt has to be computed anew.
    row.park(&mut cache);
    assert!(row.enter(&mut cache, 300, true));
    assert!(!advance(&mut row), "nothing is drawn, and nothing computed");
    row.attach(&mut cache, &mut Vec::new(), 9);
    let mut questions = Vec::new();
    row.ask(0, &cache, &mut questions);
    let (token, logprob) = (1, 0.0);
    row.take(&questions[0], Answer { token, logprob }, &mut cache);
    assert!(advance(&mut row), "the token that was drawn ends it");
    assert_eq!((work.n_tokens, work.n_tokens_sampled), (2, 1));
}
