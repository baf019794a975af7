//! What sampling promises.

use ra3::policy::{Move, PolicyError, SampleRule, Stop, TokenId};

use crate::Subject;
use crate::script::{Script, distribution, feed, play, rule, run, score, tokens, top_k};

/// Rows of a check of shares.
const N_ROWS: usize = 3000;

/// The shares of a rule's draws, from the definition: temperature, then the k likeliest, then the
/// smallest set of likeliest ones that reaches p of what is left.
fn expected(shares: &[f64], rule: &SampleRule) -> Vec<f64> {
    let allowed = |token: usize| {
        let choices = rule.choices.as_deref();
        choices.is_none_or(|choices| choices.contains(&(token as TokenId)))
    };
    let mut kept: Vec<(usize, f64)> = shares
        .iter()
        .enumerate()
        .filter(|(token, _)| allowed(*token))
        .map(|(token, share)| (token, share.powf(1.0 / f64::from(rule.temperature))))
        .collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    kept.truncate(rule.top_k.map_or(usize::MAX, std::num::NonZeroUsize::get));
    if let Some(p) = rule.top_p {
        let total: f64 = kept.iter().map(|(_, share)| share).sum();
        let mut sum = 0.0;
        let mut n = 0;
        while n < kept.len() && sum < f64::from(p) * total {
            sum += kept[n].1;
            n += 1;
        }
        kept.truncate(n);
    }
    let total: f64 = kept.iter().map(|(_, share)| share).sum();
    let mut expected = vec![0.0; shares.len()];
    kept.iter()
        .for_each(|(token, share)| expected[*token] = share / total);
    expected
}

/// Pearson's statistic against a bound that right draws stay under but once in ten million.
fn assert_shares(what: &str, draws: &[TokenId], expected: &[f64]) {
    let n = draws.len() as f64;
    let mut counts = vec![0.0; expected.len()];
    draws
        .iter()
        .for_each(|token| counts[*token as usize] += 1.0);
    let (mut statistic, mut n_cells) = (0.0, 0.0);
    let (mut rare_count, mut rare_expected) = (0.0, 0.0);
    for (token, (count, share)) in counts.iter().zip(expected).enumerate() {
        assert!(
            *share > 0.0 || *count == 0.0,
            "{what}: token {token} cannot be drawn"
        );
        if n * share < 8.0 {
            rare_count += count;
            rare_expected += n * share;
        } else {
            statistic += (count - n * share).powi(2) / (n * share);
            n_cells += 1.0;
        }
    }
    if rare_expected > 0.0 {
        statistic += (rare_count - rare_expected).powi(2) / rare_expected.max(1.0);
        n_cells += 1.0;
    }
    let freedom: f64 = n_cells - 1.0;
    let bound = freedom + 6.0 * (2.0 * freedom).sqrt() + 20.0;
    assert!(
        statistic <= bound,
        "{what}: {statistic:.1} exceeds {bound:.1}; {counts:?} of {n} where {expected:?} is due"
    );
}

/// Rules of every kind, for a distribution.
fn rules(shares: &[f64]) -> Vec<(&'static str, SampleRule)> {
    let mut by_share: Vec<usize> = (0..shares.len()).collect();
    by_share.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]));
    // Between two sums, so that rounding decides nothing.
    let sum = |n: usize| {
        by_share[..n]
            .iter()
            .map(|token| shares[*token])
            .sum::<f64>()
    };
    let top_p = Some(f64::midpoint(sum(3), sum(4)) as f32);
    let choices = Some(
        [by_share[5], by_share[0], by_share[3]]
            .map(|t| t as TokenId)
            .into(),
    );
    let warmth = |temperature| SampleRule {
        temperature,
        ..rule()
    };
    let among = |rule: SampleRule| SampleRule {
        choices: choices.clone(),
        ..rule
    };
    let likeliest = |k, rule: SampleRule| SampleRule {
        top_k: Some(top_k(k)),
        ..rule
    };
    let nucleus = |top_p| SampleRule { top_p, ..rule() };
    vec![
        ("plain", rule()),
        ("cold", warmth(0.5)),
        ("warm", warmth(2.5)),
        ("even", warmth(f32::INFINITY)),
        ("top-k", likeliest(3, rule())),
        ("top-p", nucleus(top_p)),
        ("all of top-p", nucleus(Some(1.0))),
        ("warm top-k", likeliest(4, warmth(2.5))),
        ("restricted", among(rule())),
        ("warm and restricted", among(warmth(2.5))),
        ("even and restricted", among(warmth(f32::INFINITY))),
        ("restricted top-k", likeliest(2, among(rule()))),
    ]
}

pub(crate) fn shares(subject: &Subject) {
    let prompt = tokens(subject, 5, 1);
    let shares = distribution(subject, &prompt);
    for (index, (name, rule)) in rules(&shares).into_iter().enumerate() {
        let row = vec![feed(&prompt), Move::Sample(rule.clone())];
        let rows = play(subject, vec![row; N_ROWS], 10 + index as u64);
        let draws: Vec<TokenId> = rows.iter().flat_map(Script::tokens).collect();
        assert_shares(name, &draws, &expected(&shares, &rule));
    }
}

/// A second draw has the shares that follow the first, whether it is of the same move or not.
pub(crate) fn second_draws(subject: &Subject) {
    let prompt = tokens(subject, 4, 2);
    let two = SampleRule {
        n_tokens_max: 2,
        ..rule()
    };
    let one_move = vec![feed(&prompt), Move::Sample(two)];
    let two_moves = vec![feed(&prompt), Move::Sample(rule()), Move::Sample(rule())];
    for (name, row) in [("one move", one_move), ("two moves", two_moves)] {
        let rows = play(subject, vec![row; N_ROWS], 3);
        let pairs: Vec<Vec<TokenId>> = rows.iter().map(Script::tokens).collect();
        let n_of = |token: TokenId| pairs.iter().filter(|pair| pair[0] == token).count();
        let first = (0..subject.n_vocabulary as TokenId)
            .max_by_key(|token| n_of(*token))
            .expect("a vocabulary");
        let second: Vec<TokenId> = pairs
            .iter()
            .filter(|pair| pair[0] == first)
            .map(|pair| pair[1])
            .collect();
        let shares = distribution(subject, &[&prompt[..], &[first]].concat());
        assert_shares(name, &second, &shares);
    }
}

pub(crate) fn rows_differ(subject: &Subject) {
    let long = SampleRule {
        temperature: 3.0,
        n_tokens_max: 12,
        ..rule()
    };
    let row = vec![feed(&tokens(subject, 3, 3)), Move::Sample(long)];
    let play = |seed| -> Vec<Vec<TokenId>> {
        play(subject, vec![row.clone(); 50], seed)
            .iter()
            .map(Script::tokens)
            .collect()
    };
    let (rows, again, others) = (play(1), play(1), play(2));
    assert_eq!(rows, again, "the same seed draws the same");
    let mut distinct = rows.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 45, "{} of 50 rows differ", distinct.len());
    let n_same = rows.iter().zip(&others).filter(|(a, b)| a == b).count();
    assert!(
        n_same < 5,
        "{n_same} of 50 rows are the same with another seed"
    );
    // Numbers that were shifted by a row or a draw would show here.
    let n_shifted = rows
        .iter()
        .zip(&rows[1..])
        .filter(|(a, b)| a[1..] == b[..11])
        .count();
    assert!(
        n_shifted < 5,
        "{n_shifted} of 49 rows repeat their neighbour"
    );
}

/// Rows of several shapes, some of which share their beginnings.
fn rows(subject: &Subject) -> Vec<Vec<Move>> {
    let shared = tokens(subject, 6, 4);
    let sample = |n_tokens_max| {
        Move::Sample(SampleRule {
            temperature: 1.5,
            n_tokens_max,
            stop: [1].into(),
            ..rule()
        })
    };
    let fork = |salt| feed(&tokens(subject, 3, salt));
    vec![
        vec![feed(&shared), sample(3), sample(2)],
        vec![feed(&shared), sample(3), fork(5), sample(2)],
        vec![feed(&tokens(subject, 2, 6)), sample(6)],
        vec![feed(&shared), fork(5), sample(4)],
        vec![feed(&shared), fork(7), fork(8)],
    ]
}

/// Row `i` is the same, to the bit, whoever runs beside it.
pub(crate) fn neighbours(subject: &Subject) {
    let rows = rows(subject);
    let together = play(subject, rows.clone(), 6);
    for row in 0..rows.len() {
        // Others before it, none behind it.
        let mut fewer = vec![vec![feed(&[2])]; row];
        fewer.push(rows[row].clone());
        let fewer = play(subject, fewer, 6);
        assert_eq!(together[row], fewer[row], "row {row} among few");
        // Others of another order behind it.
        let mut turned = rows.clone();
        turned[..row].reverse();
        turned[row + 1..].reverse();
        let turned = play(subject, turned, 6);
        assert_eq!(together[row], turned[row], "row {row} among others");
    }
}

/// Reported is the unmodified distribution, restricted where the draw was.
pub(crate) fn reported(subject: &Subject) {
    let prompt = tokens(subject, 5, 9);
    let shares = distribution(subject, &prompt);
    for (name, rule) in rules(&shares) {
        let row = vec![feed(&prompt), Move::Sample(rule.clone())];
        for row in play(subject, vec![row; 8], 7) {
            let token = row.tokens()[0] as usize;
            let among: f64 = match rule.choices.as_deref() {
                Some(choices) => choices.iter().map(|choice| shares[*choice as usize]).sum(),
                None => 1.0,
            };
            let found = f64::from(row.seen[2].logprobs[0]);
            let expected = (shares[token] / among).ln();
            assert!(
                (found - expected).abs() < 1e-5 + subject.tolerance,
                "{name}: {found} is reported for {expected}"
            );
        }
    }
    // Along a whole sequence they are the scores of its tokens, to the bit.
    let long = SampleRule {
        temperature: 1.7,
        n_tokens_max: 10,
        ..rule()
    };
    let row = &play(subject, vec![vec![feed(&prompt), Move::Sample(long)]], 8)[0];
    let whole = [&prompt[..], &row.tokens()].concat();
    let scored = score(&*(subject.make)(), &whole);
    assert_eq!(row.logprobs(), scored[prompt.len()..]);
}

/// Greedy is the likeliest token; among equals it is the lowest id, in any order of the choices.
pub(crate) fn greedy(subject: &Subject) {
    let [a, b] = subject.twins;
    let (low, high) = (a.min(b), a.max(b));
    for salt in 0..4 {
        let prompt = tokens(subject, 5, 20 + salt);
        let shares = distribution(subject, &prompt);
        let cold = SampleRule {
            temperature: 0.0,
            ..rule()
        };
        let draw = |rule: SampleRule| {
            play(subject, vec![vec![feed(&prompt), Move::Sample(rule)]], salt)[0].tokens()[0]
        };
        let token = draw(cold.clone()) as usize;
        let top = shares.iter().copied().fold(0.0, f64::max);
        assert!(
            shares[token] >= top * (1.0 - 1e-5),
            "token {token} is not the likeliest"
        );
        for choices in [[low, high], [high, low]] {
            let choices = Some(choices.into());
            let restricted = SampleRule {
                choices: choices.clone(),
                ..cold.clone()
            };
            assert_eq!(draw(restricted), low, "ties go to the lowest id");
            let one = SampleRule {
                choices,
                top_k: Some(top_k(1)),
                ..rule()
            };
            assert_eq!(draw(one), low, "ties go to the lowest id, by top-k");
        }
    }
}

pub(crate) fn stops(subject: &Subject) {
    let prompt = tokens(subject, 4, 30);
    let all: Vec<TokenId> = (0..subject.n_vocabulary as TokenId).collect();
    let half: Vec<TokenId> = all.iter().copied().filter(|token| token % 2 == 0).collect();
    let sample = |stop: &[TokenId], n_tokens_max| {
        let rule = SampleRule {
            temperature: 3.0,
            stop: stop.into(),
            n_tokens_max,
            ..rule()
        };
        vec![feed(&prompt), Move::Sample(rule)]
    };
    for row in play(subject, vec![sample(&half, 6); 60], 1) {
        let (tokens, stop) = (row.tokens(), row.seen[2].stop);
        let (last, before) = tokens.split_last().expect("at least one");
        assert!(
            before.iter().all(|token| token % 2 == 1),
            "stops at the first stop token"
        );
        let expected = if last % 2 == 0 {
            Stop::Token
        } else {
            Stop::Length
        };
        assert_eq!(stop, Some(expected), "{tokens:?}");
        assert!(stop == Some(Stop::Token) || tokens.len() == 6);
        assert_eq!(row.seen[2].logprobs.len(), tokens.len());
    }
    let row = &play(subject, vec![sample(&all, 1)], 1)[0];
    assert_eq!(
        row.seen[2].stop,
        Some(Stop::Token),
        "a stop token counts before the limit"
    );
    let row = &play(subject, vec![sample(&[], 3)], 1)[0];
    assert_eq!(
        (row.tokens().len(), row.seen[2].stop),
        (3, Some(Stop::Length))
    );
}

/// Room is what can still be appended, to the last token; then comes an error.
pub(crate) fn context_end(subject: &Subject) {
    let n = subject.n_tokens_max;
    let prompt = tokens(subject, n - 3, 31);
    let all: Vec<TokenId> = (0..subject.n_vocabulary as TokenId).collect();
    let sample = |n_tokens_max, stop: &[TokenId]| {
        Move::Sample(SampleRule {
            n_tokens_max,
            stop: stop.into(),
            ..rule()
        })
    };
    let row = |next: Move| vec![feed(&prompt), next];
    let rows = play(
        subject,
        vec![
            row(sample(9, &[])),
            row(sample(3, &[])),
            vec![feed(&prompt), sample(2, &[]), sample(5, &all)],
            row(feed(&prompt[..3])),
        ],
        1,
    );
    let rooms = |row: &Script| row.seen.iter().map(|seen| seen.room).collect::<Vec<_>>();
    assert_eq!(rooms(&rows[0]), [n, 3, 0]);
    assert_eq!(
        (rows[0].tokens().len(), rows[0].seen[2].stop),
        (3, Some(Stop::Context))
    );
    assert_eq!(
        (rooms(&rows[1]), rows[1].seen[2].stop),
        (vec![n, 3, 0], Some(Stop::Length))
    );
    assert_eq!(rooms(&rows[2]), [n, 3, 1, 0]);
    assert_eq!(
        rows[2].seen[3].stop,
        Some(Stop::Token),
        "a stop counts before the context"
    );
    assert_eq!(rooms(&rows[3]), [n, 3, 0]);
    for beyond in [feed(&[0]), sample(1, &[])] {
        let row = vec![feed(&prompt), feed(&prompt[..3]), beyond];
        let found = run(&*(subject.make)(), &mut [Script::new(row)], 1);
        let error = PolicyError::SequenceTooLong {
            n_tokens: n + 1,
            n_tokens_max: n,
        };
        assert_eq!(found, Err(error));
    }
    let long = run(
        &*(subject.make)(),
        &mut [Script::new(vec![feed(&tokens(subject, n + 2, 32))])],
        1,
    );
    let error = PolicyError::SequenceTooLong {
        n_tokens: n + 2,
        n_tokens_max: n,
    };
    assert_eq!(long, Err(error));
}
