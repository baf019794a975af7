"""What several processes share: the work of a request, and the gradient that they add up.

Every rank holds every model whole. Which rows, sequences or examples are a rank's own follows from
the request alone, so that all of them agree without a word; what they found goes to rank 0 by way
of `hub`. A rank alone is one that shares with nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

Item = TypeVar("Item")


class OtherRank(Exception):
    """Another rank could not do its part: it says why, and this one has undone its own."""


def places(sizes: Sequence[int], n_ranks: int) -> list[int]:
    """The rank of each of some things in a row: each has a run of them, of about the same size."""
    total, before, found = sum(sizes), 0, []
    for size in sizes:
        # Where its middle lies.
        found.append((2 * before + size) * n_ranks // (2 * total) if size else 0)
        before += size
    for at in range(1, len(found)):
        found[at] = max(found[at], found[at - 1])
    return found


class Ranks:
    """This process among those that share a request."""

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        waiting: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        """`waiting` is entered while the others are waited for."""
        self.rank, self.size, self._waiting = rank, size, waiting

    def own(self, items: Sequence[Item], sizes: Sequence[int]) -> list[Item]:
        """Those of some things in a row that are this rank's."""
        if self.size == 1:
            return list(items)
        found = places(sizes, self.size)
        return [item for item, rank in zip(items, found, strict=True) if rank == self.rank]

    def gather(self, values: list[float]) -> list[list[float]]:
        """The values of every rank, on every rank."""
        if self.size == 1:
            return [values]
        own = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.size)]
        with self._waiting():
            dist.all_gather(found, own)
        return [row.tolist() for row in found]

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leaves at every rank the sum of all ranks' gradients, the same bits at each."""
        with self._waiting():
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)


ALONE = Ranks()
