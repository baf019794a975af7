//! What feeding promises.

use ra3::policy::{Feed, Move, SampleRule, TokenId};

use crate::Subject;
use crate::script::{Script, distribution, feed, play, rule, run, tokens};

/// A feed in pieces is the feed at once, to the bit; the first token has no context.
pub(crate) fn pieces(subject: &Subject) {
    let sequence = tokens(subject, 15, 40);
    let whole = play(subject, vec![vec![feed(&sequence)]], 0)[0].logprobs();
    assert_eq!((whole.len(), whole[0]), (15, 0.0));
    assert!(whole[1..].iter().all(|logprob| *logprob < 0.0));
    for size in [1, 2, 7] {
        let row = sequence.chunks(size).map(feed).collect();
        assert_eq!(
            play(subject, vec![row], 0)[0].logprobs(),
            whole,
            "pieces of {size}"
        );
    }
}

/// An unscored feed reports nothing, and changes nothing that comes after it.
pub(crate) fn unscored(subject: &Subject) {
    let (first, second) = (tokens(subject, 7, 41), tokens(subject, 5, 42));
    let sample = Move::Sample(SampleRule {
        n_tokens_max: 5,
        ..rule()
    });
    let silent = Move::Feed(Feed::unscored(first.clone()));
    let row = |start: Move| vec![start, sample.clone(), feed(&second), sample.clone()];
    let loud = &play(subject, vec![row(feed(&first))], 2)[0];
    let quiet = &play(subject, vec![row(silent)], 2)[0];
    assert_eq!(quiet.seen[1].logprobs, []);
    assert_eq!(loud.seen[2..], quiet.seen[2..]);
    assert_eq!(loud.seen[1].room, quiet.seen[1].room);
}

/// Choices concern the first token of a feed; it is scored as if it had been drawn among them.
pub(crate) fn choices(subject: &Subject) {
    let prompt = tokens(subject, 6, 43);
    let shares = distribution(subject, &prompt);
    for choices in [vec![3, 8], vec![8, 3, 5], vec![8]] {
        let among = |tokens: Vec<TokenId>| {
            let choices = Some(choices.clone().into());
            Move::Feed(Feed {
                tokens,
                scored: true,
                choices,
            })
        };
        let rest = [2, 4, 8];
        let rows = vec![
            vec![feed(&prompt), among([&[8][..], &rest].concat())],
            vec![feed(&prompt), feed(&[8]), feed(&rest)],
            vec![feed(&prompt), among(vec![8]), feed(&rest)],
        ];
        // Rows that share their tokens do not share how these are scored.
        let rows = play(subject, rows, 0);
        let restricted = rows[0].logprobs();
        let plain = rows[1].logprobs();
        let total: f64 = choices.iter().map(|choice| shares[*choice as usize]).sum();
        let expected = (shares[8] / total).ln();
        let found = f64::from(restricted[6]);
        assert!(
            (found - expected).abs() < 1e-5 + subject.tolerance,
            "{found} among {choices:?} for {expected}"
        );
        assert_eq!(restricted[7..], plain[7..]);
        assert_eq!(restricted, rows[2].logprobs());
        assert!((f64::from(plain[6]) - shares[8].ln()).abs() < 1e-5 + subject.tolerance);
    }
}

/// Work counts tokens as the episodes do, and what the network ran.
pub(crate) fn work(subject: &Subject) {
    let prompt = tokens(subject, 8, 44);
    let sample = Move::Sample(SampleRule {
        n_tokens_max: 4,
        ..rule()
    });
    let row = vec![feed(&prompt), sample, feed(&[1, 2])];
    let mut scripts = vec![Script::new(row); 5];
    let work = run(&mut *(subject.make)(), &mut scripts, 3).expect("moves that are in order");
    let n_sampled: usize = scripts.iter().map(|script| script.tokens().len()).sum();
    assert_eq!(n_sampled, 20);
    assert_eq!(work.n_tokens, 5 * (8 + 4 + 2));
    assert_eq!(work.n_tokens_sampled, 20);
    assert!(work.n_tokens_run > 0);
    assert!(!subject.computes_once || work.n_tokens_run <= work.n_tokens);
    let none = run(&mut *(subject.make)(), &mut [], 3).expect("no moves");
    assert_eq!(none.n_tokens, 0);
    let done = run(&mut *(subject.make)(), &mut [Script::new(vec![])], 3).expect("no moves");
    assert_eq!((done.n_tokens, done.n_tokens_run), (0, 0));
}
