//! The table's contexts: each has logits of its own.

use std::collections::BTreeMap;

use ra3::policy::TokenId;
use ra3::seed::Seed;
use ra3::table::TablePolicy;

const N_VOCABULARY: usize = 3;
const THINK: TokenId = 2;

/// All histories of at most so many tokens.
fn histories(n_tokens_max: usize) -> Vec<Vec<TokenId>> {
    let mut all = vec![vec![]];
    let mut first = 0;
    for _ in 0..n_tokens_max {
        let last = all.len();
        for at in first..last {
            for token in 0..N_VOCABULARY as TokenId {
                all.push([&all[at][..], &[token]].concat());
            }
        }
        first = last;
    }
    all
}

/// The last tokens of a history, and the first token after its latest `<think>`.
fn context(history: &[TokenId], n_context: usize) -> (&[TokenId], Option<TokenId>) {
    let recent = &history[history.len().saturating_sub(n_context)..];
    let mut latent = None;
    for (at, token) in history.iter().enumerate() {
        if *token == THINK {
            latent = history.get(at + 1).copied();
        }
    }
    (recent, latent)
}

/// Logits that are set after every history show after the histories of the same context, and after
/// no other.
fn check_rows<'a, K: Ord>(
    table: &mut TablePolicy,
    histories: &'a [Vec<TokenId>],
    key: impl Fn(&'a [TokenId]) -> K,
) {
    let mut last_of: BTreeMap<K, f64> = BTreeMap::new();
    for (number, history) in histories.iter().enumerate() {
        table.logits_after(history).fill(number as f64);
        last_of.insert(key(history), number as f64);
    }
    for history in histories {
        let expected = last_of[&key(history)];
        assert_eq!(*table.logits_after(history), [expected; N_VOCABULARY]);
    }
}

#[test]
fn every_context_has_logits_of_its_own() {
    for n_context in 0..3 {
        let table = TablePolicy::random(N_VOCABULARY, n_context, 1.0, Seed::root(2));
        let n_contexts = (N_VOCABULARY + 1).pow(n_context as u32);
        assert_eq!(table.logits.len(), n_contexts * N_VOCABULARY);
        let all = histories(n_context + 1);
        check_rows(&mut table.clone(), &all, |history| {
            context(history, n_context).0
        });
        // With the latent in force there is a copy for each, and for none.
        let wide = table.clone().with_latent_in_force(THINK);
        assert_eq!(wide.logits.len(), (N_VOCABULARY + 1) * table.logits.len());
        let all = histories(n_context + 3);
        for history in &all {
            assert_eq!(wide.logprobs(history, None), table.logprobs(history, None));
        }
        check_rows(&mut wide.clone(), &all, |history| {
            context(history, n_context)
        });
    }
}

/// Logits are spread evenly over `[−size, size]`.
#[test]
fn random_logits_have_their_size() {
    for size in [0.5, 3.0] {
        let logits = TablePolicy::random(9, 2, size, Seed::root(5)).logits;
        let n = logits.len() as f64;
        assert!(logits.iter().all(|logit| logit.abs() <= size));
        let mean = logits.iter().sum::<f64>() / n;
        let square = logits.iter().map(|logit| logit * logit).sum::<f64>() / n;
        // Five standard errors: of the mean of an even distribution, and of its square's.
        assert!(mean.abs() < 5.0 * size / (3.0 * n).sqrt(), "{mean}");
        let error = size * size * (4.0 / 45.0 / n).sqrt();
        assert!((square - size * size / 3.0).abs() < 5.0 * error, "{square}");
    }
}
