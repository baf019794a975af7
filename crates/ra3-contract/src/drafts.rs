//! Drafts are hints: right or wrong, they change nothing that a row sees.

use std::sync::Arc;

use ra3::policy::{Move, SampleRule, TokenId};

use crate::Subject;
use crate::script::{Script, feed, play, run, tokens};

/// Lines of a row.
const N_LINES: usize = 3;
/// Tokens of its prompt, and of its lines.
const N_PROMPT: usize = 3;
const N_LINE: usize = 3;

/// A prompt, and before each known line a decision between two tokens: 15 tokens.
fn moves(subject: &Subject, row: u64) -> Vec<Move> {
    let choices: Arc<[TokenId]> = [1, 2].into();
    let decision = Move::Sample(SampleRule {
        choices: Some(choices),
        ..SampleRule::plain(1.0, 1)
    });
    let mut moves = vec![feed(&tokens(subject, N_PROMPT, row % 2))];
    for line in 0..N_LINES as u64 {
        moves.push(decision.clone());
        moves.push(feed(&tokens(subject, N_LINE, 10 + line)));
    }
    moves
}

/// By move, what was appended from there on: of a draw from itself on, of a feed behind it.
fn rests(script: &Script, moves: &[Move]) -> Vec<Vec<TokenId>> {
    let appended = |at: usize| match &moves[at] {
        Move::Feed(tokens) => tokens.clone(),
        Move::Sample(_) | Move::Done => script.seen[at + 1].tokens.clone(),
    };
    let rest = |at: usize| {
        let first = at + usize::from(matches!(moves[at], Move::Feed(_)));
        (first..moves.len()).flat_map(appended).collect()
    };
    (0..moves.len()).map(rest).collect()
}

/// A draft from the rest that comes true: as it is, wrong from its first decision or from a later
/// one on, cut off, or longer than any context.
fn changed(mut rest: Vec<TokenId>, change: u64, n_tokens_max: usize) -> Vec<TokenId> {
    match change {
        0 => {}
        1 | 2 => {
            for token in rest.iter_mut().skip((change as usize - 1) * (N_LINE + 1)) {
                *token = if *token == 1 { 2 } else { 1 };
            }
        }
        3 => rest.truncate(N_LINE - 1),
        _ => rest.extend((0..2 * n_tokens_max).map(|at| (at % 7) as TokenId)),
    }
    rest
}

pub(crate) fn change_nothing(subject: &Subject) {
    let rows: Vec<Vec<Move>> = (0..10).map(|row| moves(subject, row)).collect();
    let plain = play(subject, rows.clone(), 5);
    let policy = (subject.make)();
    for change in 0..5 {
        let drafting = rows.iter().zip(&plain).zip(0u64..);
        let mut scripts: Vec<Script> = drafting
            .map(|((moves, plain), row)| {
                let mut script = Script::new(moves.clone());
                // Rows of other drafts beside each other, and one of none.
                if row != 7 {
                    let rests = rests(plain, moves).into_iter();
                    let kind = (change + row) % 5;
                    let draft = |rest| changed(rest, kind, subject.n_tokens_max);
                    script.drafts = rests.map(draft).collect();
                }
                script
            })
            .collect();
        let work = run(&*policy, &mut scripts, 5).expect("moves that are in order");
        for (row, (script, plain)) in scripts.iter().zip(&plain).enumerate() {
            assert_eq!(script.seen, plain.seen, "row {row} with drafts {change}");
        }
        let n_tokens = (N_PROMPT + N_LINES * (N_LINE + 1)) as u64 * rows.len() as u64;
        assert_eq!(work.n_tokens, n_tokens, "what was only drafted is no token");
        assert_eq!(work.n_tokens_sampled, (N_LINES * rows.len()) as u64);
    }
}
