"""The one attention function that `transformers` models are given, over tries.

What a pass attends to is said by a plan that is set around it: `ForestPlan` for training, masks
over the rows of trees; `PathPlan` for drawing and scoring, in which each row gathers the keys and
values of its own path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "ra3_trie"


# Paths of one length attend together; the shortest, and each further one is twice as long.
PATH_MIN = 16
# Trees attend together up to so many rows: products of few rows are slow, and of many trees most is
# masked.
SPAN_ROWS = 512


@dataclass
class ForestPlan:
    """Whole trees of a forest in a row: how many rows they have, and what is added to the scores of
    those; and the rows whose output of the last layer is read, if these are not all.
    """

    spans: list[tuple[int, Tensor]]
    read: Tensor | None = None

    @classmethod
    def of(
        cls,
        ends: list[int],
        device: torch.device,
        dtype: torch.dtype,
        read: list[int] | None = None,
    ) -> ForestPlan:
        """The plan of a forest whose row `k` has the rows up to `ends[k]` below it, for products in
        `dtype`.
        """
        all_ends, spans = torch.tensor(ends, device=device), []
        for start, end in _spans(ends):
            n = end - start
            rows = torch.arange(n, device=device)
            query, key = rows[:, None], rows[None, :]
            sees = (key <= query) & (query < all_ends[None, start:end] - start)
            # The kernel of a GPU would copy a mask whose rows are not aligned, in each layer.
            mask = torch.zeros(n, n + -n % 16, dtype=dtype, device=device)[:, :n]
            spans.append((n, mask.masked_fill_(~sees, -torch.inf)))
        return cls(spans, None if read is None else torch.tensor(read, device=device))

    def attend(self, _layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """`[1, heads, rows, width]` to `[1, rows, heads, width]`."""
        sizes = [n for n, _ in self.spans]
        # No kernel that keeps its memory small takes both a mask and heads that share keys.
        parts = (q, _each_head(k, q.shape[1]), _each_head(v, q.shape[1]))
        found = [
            F.scaled_dot_product_attention(*span, attn_mask=mask, scale=scale)
            for (_, mask), *span in zip(
                self.spans, *(part.split(sizes, 2) for part in parts), strict=True
            )
        ]
        return torch.cat(found, 2).transpose(1, 2)


def _spans(ends: list[int]) -> list[tuple[int, int]]:
    """Where trees begin and end that attend together; a larger tree is alone."""
    spans, start = [], 0
    while start < len(ends):
        end = ends[start]
        if spans and end - spans[-1][0] <= SPAN_ROWS:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
        start = end
    return spans


def _each_head(shared: Tensor, n_heads: int) -> Tensor:
    """Keys or values of every head; the sum of its gradient has one order."""
    n_each = n_heads // shared.shape[1]
    return shared[:, :, None].expand(-1, -1, n_each, -1, -1).flatten(1, 2)


def path_length(depth: int) -> int:
    """The length that a row's path is taken for."""
    length = PATH_MIN
    while length <= depth:
        length *= 2
    return length


@dataclass
class Bucket:
    """Rows of a pass whose paths are of about one length.

    The length of a bucket follows from a row's own path alone: so what is computed for a row does
    not depend on the rows beside it.
    """

    # Rows of the pass, and their paths: `[rows]`, `[rows * length]`, `[rows, 1, 1, length]`.
    rows: Tensor
    slots: Tensor
    mask: Tensor


@dataclass
class PathPlan:
    """The first rows go to slots of the pool, and each sees the slots of its path.

    The others only fill up: they see nothing, and what they are is not kept.
    """

    keys: list[Tensor]
    values: list[Tensor]
    slots: Tensor
    buckets: list[Bucket]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """As `ForestPlan.attend`; heads that share keys are taken as queries of one head."""
        n, n_keys, width = len(self.slots), k.shape[1], q.shape[-1]
        all_keys, all_values = self.keys[layer], self.values[layer]
        for pool, fresh in ((all_keys, k), (all_values, v)):
            rows = fresh[0, :, :n].transpose(0, 1).reshape(n, -1)
            pool.index_copy_(0, self.slots, rows.to(pool.dtype))
        queries = q[0].transpose(0, 1).reshape(q.shape[2], -1)
        found = torch.zeros_like(queries)
        for bucket in self.buckets:
            shape = (len(bucket.rows), -1, n_keys, width)
            keys = all_keys.index_select(0, bucket.slots).view(shape).transpose(1, 2)
            values = all_values.index_select(0, bucket.slots).view(shape).transpose(1, 2)
            asked = queries.index_select(0, bucket.rows).view(len(bucket.rows), n_keys, -1, width)
            among = F.scaled_dot_product_attention(
                asked, keys, values, attn_mask=bucket.mask, scale=scale
            )
            among = among.reshape(len(bucket.rows), -1).to(found.dtype)
            found.index_copy_(0, bucket.rows, among)
        return found.view(1, q.shape[2], -1, width)


Plan = ForestPlan | PathPlan

_now: list[Plan] = []


@contextmanager
def attending(plan: Plan) -> Iterator[None]:
    """Passes inside of it attend by this plan, and so do layers that run again for a gradient."""
    _now.append(plan)
    try:
        yield
    finally:
        _now.pop()


def rows_read() -> tuple[Tensor | None, int]:
    """The rows whose output of the last layer this pass reads, if these are not all, and how many
    it has.
    """
    plan = _now[-1]
    if isinstance(plan, PathPlan) or plan.read is None:
        return None, 0
    return plan.read, sum(n for n, _ in plan.spans)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_unused: object,
) -> tuple[Tensor, None]:
    return _now[-1].attend(module.layer_idx, query, key, value, scaling), None


def _no_mask(*_args: object, **_kwargs: object) -> None:
    return None


def register() -> None:
    """Makes the function known to `transformers` by `NAME`."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


@cache
def _apart() -> Callable:
    """The function as compiled code calls it; one, as code is made anew for another."""
    return torch.compiler.disable(_attention)


def keep_apart() -> None:
    """The function is not compiled with what calls it from now on, until it is registered again."""
    AttentionInterface.register(NAME, _apart())
