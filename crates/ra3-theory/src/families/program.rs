//! Writing programs: primitive actions are tokens, options are whole lines (idioms).
//!
//! A program has slots, and a task wants one idiom in each. A token that continues some idiom is
//! written; one that continues none is a syntax error and the line starts anew. A finished line
//! that is the wanted one pays 1 and moves to the next slot; any other is thrown away. So what
//! costs is time, through the discount.

use ra3::seed::Seed;

use crate::draws::Draws;
use crate::families::Family;
use crate::mdp::{Mdp, Outcome};
use crate::option::Course;

/// A small language and the programs wanted in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Language {
    /// Size of the vocabulary.
    pub n_tokens: usize,
    /// Lines that are worth writing, as tokens; none is a prefix of another.
    pub idioms: Vec<Vec<usize>>,
    /// Lines of a program.
    pub n_slots: usize,
    /// `γ` of a token.
    pub discount: f64,
}

impl Language {
    /// Distinct idioms of one length, drawn uniformly.
    pub fn random(
        n_tokens: usize,
        n_idioms: usize,
        idiom_tokens: usize,
        n_slots: usize,
        seed: Seed,
    ) -> Self {
        let mut draws = Draws::new(seed);
        let mut idioms: Vec<Vec<usize>> = Vec::new();
        while idioms.len() < n_idioms {
            let idiom: Vec<usize> = (0..idiom_tokens).map(|_| draws.below(n_tokens)).collect();
            if !idioms.contains(&idiom) {
                idioms.push(idiom);
            }
        }
        Self {
            n_tokens,
            idioms,
            n_slots,
            discount: 0.95,
        }
    }

    /// What can stand in an unfinished line; the empty line first.
    fn prefixes(&self) -> Vec<&[usize]> {
        let mut found: Vec<&[usize]> = vec![&[]];
        for idiom in &self.idioms {
            for end in 1..idiom.len() {
                if !found.contains(&&idiom[..end]) {
                    found.push(&idiom[..end]);
                }
            }
        }
        found
    }

    /// The task that wants these idioms, one for each slot. The start state is 0; the last state is
    /// the end.
    pub fn task(&self, wanted: &[usize]) -> Mdp {
        assert_eq!(wanted.len(), self.n_slots, "one idiom for each slot");
        let prefixes = self.prefixes();
        let end = self.n_slots * prefixes.len();
        Mdp::new(end + 1, self.n_tokens, self.discount, |state, token| {
            let to = |reward, state| Outcome {
                reward,
                next: vec![(state, 1.0)],
            };
            if state == end {
                return to(0.0, end);
            }
            let slot = state / prefixes.len();
            let mut line = prefixes[state % prefixes.len()].to_vec();
            line.push(token);
            if line == self.idioms[wanted[slot]] {
                return to(1.0, (slot + 1) * prefixes.len());
            }
            let prefix = prefixes.iter().position(|prefix| **prefix == line[..]);
            to(0.0, slot * prefixes.len() + prefix.unwrap_or(0))
        })
    }

    /// The family whose tasks want these idioms; its options are the idioms.
    pub fn family(&self, wanted: &[Vec<usize>]) -> Family {
        Family {
            name: "program",
            tasks: wanted.iter().map(|wanted| self.task(wanted)).collect(),
            start: 0,
            options: self.idioms.iter().cloned().map(Course::Sequence).collect(),
        }
    }

    /// Programs whose idioms are drawn independently, the `i`-th in proportion to `1 / (i + 1)`:
    /// as in code, a few are common and many are rare.
    pub fn common_and_rare(&self, n_tasks: usize, seed: Seed) -> Vec<Vec<usize>> {
        let mut draws = Draws::new(seed);
        let weights: Vec<f64> = (1..=self.idioms.len()).map(|i| 1.0 / i as f64).collect();
        let mut program = || {
            (0..self.n_slots)
                .map(|_| draws.weighted(&weights))
                .collect()
        };
        (0..n_tasks).map(|_| program()).collect()
    }

    /// Random lines that are no idiom: options that are worth nothing.
    pub fn junk(&self, n: usize, seed: Seed) -> Vec<Course> {
        let mut draws = Draws::new(seed);
        let length = self.idioms[0].len();
        let mut found: Vec<Vec<usize>> = Vec::new();
        while found.len() < n {
            let line: Vec<usize> = (0..length).map(|_| draws.below(self.n_tokens)).collect();
            if !self.idioms.contains(&line) && !found.contains(&line) {
                found.push(line);
            }
        }
        found.into_iter().map(Course::Sequence).collect()
    }
}
