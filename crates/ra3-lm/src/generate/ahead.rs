//! What a row runs before it is asked for: tokens of its episode's draft, in nodes that it holds
//! for one step.
//!
//! A draft that comes true is found in the cache when the row gets there; one that does not is let
//! go with the step, and its nodes are replaced as any other's. So drafts decide how much is run in
//! how many passes, and nothing else. How far a row looks follows from how far it was right: twice
//! as far after a draft that came true, after another as far as that one did.

use ra3::policy::TokenId;

use super::cache::Cache;

/// Tokens that a row takes at a time, so that rows share what a pass has room for.
const PIECE: usize = 16;
/// Tokens of a draft that is tried after one that was wrong, and the most that are run ahead.
const WINDOW_MIN: usize = 16;
const WINDOW_MAX: usize = 512;

/// Nodes behind a row's path that its tokens have not reached.
#[derive(Debug)]
pub(super) struct Ahead {
    /// One after the other, held.
    nodes: Vec<usize>,
    /// Nodes of the row's path when the first was taken.
    start: usize,
    /// Tokens that are run ahead at most.
    window: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            start: 0,
            window: WINDOW_MIN,
        }
    }
}

impl Ahead {
    /// Takes or makes nodes of the next few tokens of a draft that follows `path`, while there is
    /// open room and `fresh` has fewer than `n_max`; false if none was taken.
    pub(super) fn extend(
        &mut self,
        path: &[usize],
        draft: &[TokenId],
        cache: &mut Cache,
        fresh: &mut Vec<usize>,
        n_max: usize,
    ) -> bool {
        let (n_before, n_draft) = (self.nodes.len(), draft.len().min(self.window));
        self.start = path.len();
        for token in &draft[n_before.min(n_draft)..n_draft.min(n_before + PIECE)] {
            let parent = self.nodes.last().or(path.last()).copied();
            let known = cache.find(parent, *token);
            if !known.is_some_and(|node| cache.is_held(node)) && cache.n_open() == 0 {
                break;
            }
            let node = match known {
                Some(node) => {
                    cache.hold(node);
                    node
                }
                None if fresh.len() >= n_max => break,
                None => {
                    let node = cache.insert(parent, *token);
                    fresh.push(node);
                    node
                }
            };
            self.nodes.push(node);
        }
        self.nodes.len() > n_before
    }

    /// Lets all nodes go, and learns from how many of them the row's path runs through by now.
    pub(super) fn release(&mut self, path: &[usize], cache: &mut Cache) {
        if self.nodes.is_empty() {
            return;
        }
        let reached = path.get(self.start..).unwrap_or_default();
        let n_right = self
            .nodes
            .iter()
            .zip(reached)
            .filter(|(a, b)| a == b)
            .count();
        self.window = if n_right == self.nodes.len() {
            (2 * self.window).min(WINDOW_MAX)
        } else {
            n_right.max(WINDOW_MIN)
        };
        cache.release(&self.nodes);
        self.nodes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::cache::tests::room_for;

    /// New nodes, and those that are taken, of each piece until there is none left.
    fn pieces(
        ahead: &mut Ahead,
        path: &[usize],
        draft: &[TokenId],
        cache: &mut Cache,
        n_max: usize,
    ) -> Vec<(usize, usize)> {
        let mut fresh = Vec::new();
        let mut found = Vec::new();
        while ahead.extend(path, draft, cache, &mut fresh, n_max) {
            found.push((fresh.len(), ahead.nodes.len()));
        }
        found
    }

    #[test]
    fn a_draft_is_taken_in_pieces_and_within_its_bounds() {
        let draft: Vec<TokenId> = (0..100).collect();
        let taken = |window, draft: &[TokenId], n_room, n_max| {
            let mut cache = room_for(n_room);
            let path = vec![cache.insert(None, 200)];
            let mut ahead = Ahead {
                window,
                ..Ahead::default()
            };
            pieces(&mut ahead, &path, draft, &mut cache, n_max)
        };
        // The window, the draft, the step and the cache's room bound it.
        assert_eq!(taken(40, &draft, 300, 99), [(16, 16), (32, 32), (40, 40)]);
        assert_eq!(taken(40, &draft[..20], 300, 99), [(16, 16), (20, 20)]);
        assert_eq!(taken(40, &draft, 300, 18), [(16, 16), (18, 18)]);
        assert_eq!(taken(40, &draft, 20, 99), [(16, 16), (19, 19)]);
        assert_eq!(taken(40, &[], 300, 99), []);
    }

    #[test]
    fn rows_of_one_history_run_a_draft_once_and_room_comes_back() {
        let mut cache = room_for(50);
        let path = vec![cache.insert(None, 200)];
        let draft: Vec<TokenId> = (0..20).collect();
        let [mut first, mut second] = [(); 2].map(|()| Ahead::default());
        assert_eq!(
            pieces(&mut first, &path, &draft, &mut cache, 99),
            [(16, 16)]
        );
        assert_eq!(
            pieces(&mut second, &path, &draft, &mut cache, 99),
            [(0, 16)]
        );
        assert_eq!(
            (first.nodes.clone(), cache.n_open()),
            (second.nodes.clone(), 33)
        );
        first.release(&path, &mut cache);
        assert_eq!(cache.n_open(), 33, "the other one holds them");
        second.release(&path, &mut cache);
        assert_eq!(cache.n_open(), 49);
    }

    /// 16 at first, twice as many after a draft that came true, as far as another came true.
    #[test]
    fn the_window_follows_from_how_far_drafts_come_true() {
        let mut cache = room_for(2000);
        let root = cache.insert(None, 200);
        let draft: Vec<TokenId> = (0..1000).collect();
        let mut ahead = Ahead::default();
        let mut windows = Vec::new();
        // How many of a draft's tokens the row reaches, and whether it goes on otherwise.
        let all = usize::MAX;
        for n_right in [all, all, 40, 3, all, all, all, all, all, all, all] {
            let path = vec![root];
            pieces(&mut ahead, &path, &draft, &mut cache, all);
            let n_right = n_right.min(ahead.nodes.len());
            let reached = [&path, &ahead.nodes[..n_right]].concat();
            ahead.release(&reached, &mut cache);
            windows.push(ahead.window);
        }
        let expected = [32, 64, 40, 16, 32, 64, 128, 256, 512, 512, 512];
        assert_eq!(windows, expected);
        // A row that took none learns nothing.
        ahead.release(&[root], &mut cache);
        assert_eq!(ahead.window, 512);
    }
}
