//! What feeding promises.

use ra3::policy::{Move, SampleRule};

use crate::Subject;
use crate::script::{Script, feed, play, rule, run, tokens};

/// A feed in pieces is the feed at once: what is drawn after it is the same, to the bit.
pub(crate) fn pieces(subject: &Subject) {
    let sequence = tokens(subject, 11, 40);
    let sample = Move::Sample(SampleRule {
        n_tokens_max: 5,
        ..rule()
    });
    let drawn = |feeds: Vec<Move>| {
        let row = [feeds, vec![sample.clone()]].concat();
        let [row] = &play(subject, vec![row], 2)[..] else {
            panic!("one row");
        };
        row.seen.last().cloned()
    };
    let whole = drawn(vec![feed(&sequence)]);
    for size in [1, 2, 7] {
        let pieces = sequence.chunks(size).map(feed).collect();
        assert_eq!(drawn(pieces), whole, "pieces of {size}");
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
    let work = run(&*(subject.make)(), &mut scripts, 3).expect("moves that are in order");
    let n_sampled: usize = scripts.iter().map(|script| script.tokens().len()).sum();
    assert_eq!(n_sampled, 20);
    assert_eq!(work.n_tokens, 5 * (8 + 4 + 2));
    assert_eq!(work.n_tokens_sampled, 20);
    assert!(work.n_tokens_run > 0);
    assert!(!subject.computes_once || work.n_tokens_run <= work.n_tokens);
    let none = run(&*(subject.make)(), &mut [], 3).expect("no moves");
    assert_eq!(none.n_tokens, 0);
    let done = run(&*(subject.make)(), &mut [Script::new(vec![])], 3).expect("no moves");
    assert_eq!((done.n_tokens, done.n_tokens_run), (0, 0));
}
