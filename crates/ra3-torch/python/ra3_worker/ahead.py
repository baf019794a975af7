"""What rows run before they are asked for: tokens of a draft, in slots that a row holds behind its
path until it has reached them or gone on otherwise.

A draft is what `ra3` says is likely to follow a row's tokens, its next draw first. It changes no
bit: a row that gets there finds the slots as it would have made them. How far a row looks follows
from how far it was right: twice as far after a draft that came true, as far as another one did.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .pool import Pool

# Tokens that a row takes at a time, so that rows share what a pass has room for.
PIECE = 16
WINDOW_MIN, WINDOW_MAX = 16, 256


@dataclass
class Ahead:
    """Slots behind a row's path."""

    slots: list[int] = field(default_factory=list)
    # Those of the same draft that the row has reached.
    n_right: int = 0
    # Tokens that are run ahead at most.
    window: int = WINDOW_MIN

    def reach(self, slot: int, pool: Pool) -> None:
        """The row's path has one slot more."""
        if not self.slots:
            return
        if self.slots[0] != slot:
            self.window = max(self.n_right, WINDOW_MIN)
            self.clear(pool)
            return
        pool.release([self.slots.pop(0)])
        self.n_right += 1
        if not self.slots:
            self.window = min(2 * self.window, WINDOW_MAX)
            self.n_right = 0

    def extend(
        self, path: list[int], draft: list[int], pool: Pool, n_fresh: int
    ) -> list[tuple[int, int, bool]]:
        """Takes a few slots more, at most so many new ones: depth, slot, and whether it is new."""
        taken = []
        n_most = min(len(draft), self.window, len(self.slots) + PIECE)
        while len(self.slots) < n_most:
            parent = (self.slots or path)[-1]
            token = draft[len(self.slots)]
            slot = pool.find(parent, token)
            is_new = slot is None
            if is_new:
                slot = pool.take(parent, token) if n_fresh > 0 else None
                if slot is None:
                    break
                n_fresh -= 1
            else:
                pool.hold(slot)
            taken.append((len(path) + len(self.slots), slot, is_new))
            self.slots.append(slot)
        return taken

    def clear(self, pool: Pool) -> None:
        """Gives all slots back."""
        pool.release(self.slots)
        self.slots, self.n_right = [], 0
