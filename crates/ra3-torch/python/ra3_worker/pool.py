"""Keys, values and last hidden states of tokens, in slots that rows of one history share."""

from __future__ import annotations

import torch
from torch import Tensor

from .model import Model, Settings

SLOTS_FIRST = 1024


class Pool:
    """A trie of tokens: a slot belongs to the rows that hold it.

    One that nobody holds any more is kept for those to come, and goes before a row has to wait: the
    one that was left first, and so each after those above it.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        """An empty pool, which grows up to the settings' bytes."""
        config = model.network.config
        n_heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // n_heads
        self._n_each = config.num_key_value_heads * width
        self._device = torch.device(settings.device)
        self._dtype = settings.computed
        n_layers = config.num_hidden_layers
        size = torch.finfo(self._dtype).bits // 8
        self.n_bytes = 2 * n_layers * self._n_each * size + 4 * config.hidden_size
        self.n_slots_max = settings.cache_bytes_max // self.n_bytes
        # The last row of each is nobody's slot.
        self.keys = [self._empty(1) for _ in range(n_layers)]
        self.values = [self._empty(1) for _ in range(n_layers)]
        self.hidden = torch.zeros(1, config.hidden_size, device=self._device)
        self._children: dict[tuple[int, int], int] = {}
        self._key_of: list[tuple[int, int]] = []
        self._n_holders: list[int] = []
        # Slots that nobody holds, in the order in which they were left. There are at most twice as
        # many slots as were ever held at once.
        self._idle: dict[int, None] = {}
        self._n_held_max = 0

    def _empty(self, n_slots: int) -> Tensor:
        return torch.zeros(n_slots, self._n_each, dtype=self._dtype, device=self._device)

    @property
    def scrap(self) -> int:
        """Where rows that only fill up a pass write."""
        return len(self.hidden) - 1

    @property
    def n_open(self) -> int:
        """Slots that can be taken."""
        return self.n_slots_max - len(self._key_of) + len(self._idle)

    def find(self, parent: int, token: int) -> int | None:
        """The slot of a token after that of its parent; -1 is the beginning."""
        return self._children.get((parent, token))

    def hold(self, slot: int) -> None:
        """One more row holds a slot."""
        self._idle.pop(slot, None)
        self._n_holders[slot] += 1

    def take(self, parent: int, token: int) -> int | None:
        """A new slot, held by one row; none where there is no room."""
        n_held = len(self._key_of) - len(self._idle)
        self._n_held_max = max(self._n_held_max, n_held + 1)
        is_full = len(self._key_of) == self.n_slots_max
        if self._idle and (is_full or len(self._idle) >= self._n_held_max):
            slot = next(iter(self._idle))
            del self._idle[slot], self._children[self._key_of[slot]]
        elif not is_full:
            slot = len(self._key_of)
            self._key_of.append((parent, token))
            self._n_holders.append(0)
            if slot >= self.scrap:
                self._enlarge()
        else:
            return None
        self._key_of[slot] = (parent, token)
        self._n_holders[slot] = 1
        self._children[parent, token] = slot
        return slot

    def release(self, path: list[int]) -> None:
        """A row leaves its slots."""
        for slot in reversed(path):
            self._n_holders[slot] -= 1
            if self._n_holders[slot] == 0:
                self._idle[slot] = None

    def _enlarge(self) -> None:
        n_slots = min(max(2 * self.scrap, SLOTS_FIRST), self.n_slots_max)
        n_more = n_slots - self.scrap
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = torch.cat([tensor, self._empty(n_more)])
        more = torch.zeros(n_more, self.hidden.shape[1], device=self._device)
        self.hidden = torch.cat([self.hidden, more])
