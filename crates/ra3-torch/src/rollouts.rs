//! Rollouts: episodes move here, and their draws are made there.
//!
//! What an episode feeds goes with its next draw; what it feeds last nobody asks about, and it
//! stays here.

use ra3::policy::{Episode, Move, Observation, PolicyError, Stop, TokenId, Work};
use ra3::refusals::Limits;
use ra3::seed::Seed;

use crate::batch::Moves;
use crate::wire::{Answer, Column, Kind, WireError};
use crate::worker::Link;

/// An episode, and what of it is not here.
struct Row<'a, 'e> {
    index: usize,
    episode: &'a mut (dyn Episode + 'e),
    seed: u64,
    /// Tokens of all moves.
    n_tokens: usize,
    /// Those that the worker does not have yet.
    fed: Vec<TokenId>,
    /// True once the worker knows of the row.
    is_there: bool,
}

/// A draw that is made: a row, and its tokens among those of an answer.
struct Draw {
    row: usize,
    tokens: std::ops::Range<usize>,
    stop: Stop,
}

/// Draws of one answer.
struct Drawn {
    draws: Vec<Draw>,
    tokens: Vec<TokenId>,
    logprobs: Vec<f32>,
}

/// Drives all episodes to their end with the model of a slot.
pub(crate) fn run(
    link: &mut Link,
    slot: u32,
    limits: Limits,
    episodes: &mut [&mut dyn Episode],
    seed: Seed,
) -> Result<Work, PolicyError> {
    let mut rows: Vec<Row<'_, '_>> = episodes
        .iter_mut()
        .enumerate()
        .map(|(index, episode)| Row {
            index,
            episode: &mut **episode,
            seed: seed.nth(index as u64).value(),
            n_tokens: 0,
            fed: Vec::new(),
            is_there: false,
        })
        .collect();
    let (mut work, mut moves) = (Work::default(), Moves::default());
    for row in &mut rows {
        let room = limits.n_tokens_max;
        let first = row.episode.next(Observation::Started { room });
        follow(row, first, limits, &mut moves, &mut work)?;
    }
    if moves.n_rows() == 0 {
        return Ok(work);
    }
    link.ask(Kind::RunBegin, &[Column::U32(vec![slot])], |_| Ok(()))?;
    let driven = drive(link, limits, &mut rows, moves, &mut work);
    let ended = link.ask(Kind::RunEnd, &[], |mut answer| {
        let ([n_run], [flops]) = (answer.exactly()?, answer.exactly()?);
        Ok((n_run, flops))
    });
    driven?;
    let (n_run, flops): (u64, f64) = ended?;
    work += Work {
        n_tokens_run: n_run,
        flops,
        ..Work::default()
    };
    Ok(work)
}

fn drive(
    link: &mut Link,
    limits: Limits,
    rows: &mut [Row<'_, '_>],
    mut moves: Moves,
    work: &mut Work,
) -> Result<(), PolicyError> {
    let mut n_busy = moves.n_rows();
    while n_busy > 0 {
        let columns = std::mem::take(&mut moves).into_columns();
        let n_rows = rows.len();
        let drawn = link.ask(Kind::Moves, &columns, |answer| read_draws(answer, n_rows))?;
        for draw in drawn.draws {
            let row = &mut rows[draw.row];
            let n_drawn = draw.tokens.len();
            row.n_tokens += n_drawn;
            work.n_tokens += n_drawn as u64;
            work.n_tokens_sampled += n_drawn as u64;
            let seen = Observation::Sampled {
                tokens: &drawn.tokens[draw.tokens.clone()],
                logprobs: &drawn.logprobs[draw.tokens],
                stop: draw.stop,
                room: limits.n_tokens_max.saturating_sub(row.n_tokens),
            };
            let next = row.episode.next(seen);
            n_busy -= usize::from(!follow(row, next, limits, &mut moves, work)?);
        }
    }
    Ok(())
}

/// Makes moves up to the next draw; false if there is none.
fn follow(
    row: &mut Row<'_, '_>,
    mut next: Move,
    limits: Limits,
    moves: &mut Moves,
    work: &mut Work,
) -> Result<bool, PolicyError> {
    loop {
        limits.check_move(row.index, &next, row.n_tokens)?;
        match next {
            Move::Feed(tokens) => {
                row.n_tokens += tokens.len();
                work.n_tokens += tokens.len() as u64;
                row.fed.extend(tokens);
                let room = limits.n_tokens_max - row.n_tokens;
                next = row.episode.next(Observation::Fed { room });
            }
            Move::Sample(rule) => {
                let room = limits.n_tokens_max - row.n_tokens;
                let draft = row.episode.draft();
                let draft = &draft[..draft.len().min(room)];
                moves.sample(row.index, row.seed, &row.fed, &rule, draft);
                row.fed.clear();
                row.is_there = true;
                return Ok(true);
            }
            Move::Done => {
                if row.is_there {
                    moves.done(row.index);
                }
                return Ok(false);
            }
        }
    }
}

/// Rows, their numbers of tokens and their stops; then all tokens and log-probabilities.
fn read_draws(mut answer: Answer, n_rows: usize) -> Result<Drawn, WireError> {
    let (rows, sizes, stops) = (
        answer.numbers::<u32>()?,
        answer.numbers()?,
        answer.numbers()?,
    );
    let (tokens, logprobs): (Vec<TokenId>, Vec<f32>) = (answer.numbers()?, answer.numbers()?);
    let mut draws = Vec::with_capacity(rows.len());
    let mut start = 0;
    for ((row, size), stop) in rows.iter().zip::<Vec<u32>>(sizes).zip::<Vec<u32>>(stops) {
        let stop = match stop {
            0 => Stop::Token,
            1 => Stop::Length,
            2 => Stop::Context,
            _ => return Err(WireError::Nonsense("a draw stops for no known reason")),
        };
        let end = start + size as usize;
        draws.push(Draw {
            row: *row as usize,
            tokens: start..end,
            stop,
        });
        start = end;
    }
    let is_whole = start == tokens.len() && start == logprobs.len() && !draws.is_empty();
    if !is_whole || draws.iter().any(|draw| draw.row >= n_rows) {
        return Err(WireError::Nonsense("its draws do not fit together"));
    }
    Ok(Drawn {
        draws,
        tokens,
        logprobs,
    })
}
