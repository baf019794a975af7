"""What several processes share: the work of a request, the gradient that they add up, the moments.

Every rank holds every model whole (or a part of each tensor, by `sharding`), but the optimizer's
moments of some parameters only, which it steps for all. Which rows, sequences or examples are a
rank's own follows from the request alone, so that all of them agree without a word; what they found
goes to rank 0 by way of `hub`. A rank alone is one that shares with nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """A process among those that share a request."""

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        waiting: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        """`waiting` is entered while the others are waited for."""
        self.rank, self.size, self.waiting = rank, size, waiting

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
        with self.waiting():
            dist.all_gather(found, own)
        return [row.tolist() for row in found]

    def owners(self, parameters: dict[str, nn.Parameter]) -> dict[str, int]:
        """The rank that steps each parameter, and alone has its moments."""
        sizes = [parameter.numel() for parameter in parameters.values()]
        return dict(zip(parameters, places(sizes, self.size), strict=True))

    def add_up(self, parameters: dict[str, nn.Parameter]) -> None:
        """Leaves at the owner of each parameter the sum of all ranks' gradients, and none at the
        others.
        """
        with self.waiting():
            for name, owner in self.owners(parameters).items():
                parameter = parameters[name]
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.reduce(parameter.grad, owner)
                if owner != self.rank:
                    parameter.grad = None

    def spread(self, parameters: dict[str, nn.Parameter]) -> None:
        """Gives every rank what the owners of parameters have made of them."""
        with self.waiting():
            for name, owner in self.owners(parameters).items():
                dist.broadcast(parameters[name].data, owner)


ALONE = Ranks()
