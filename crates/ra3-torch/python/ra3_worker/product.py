"""The layers that a model's weights are read by: products, and the table of the vocabulary.

They are those of `transformers` in all but two ways: how a product runs where it is not trained,
and what is put in place of a weight that is not trained itself (`adapters`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Adapter:
    """`W + scale B A` in the place of a product's `W`."""

    # A is `[rank, width of what comes in]`, B is `[width of what goes out, rank]`.
    down: nn.Parameter
    up: nn.Parameter
    scale: float

    def added(self, rows: Tensor) -> Tensor:
        """What comes to the product of some rows."""
        return F.linear(F.linear(rows, self.down), self.up) * self.scale

    def n_params(self) -> int:
        """Of both matrices."""
        return self.down.numel() + self.up.numel()

    @torch.no_grad()
    def merged(self, weight: Tensor) -> Tensor:
        """The weight that it makes of a weight."""
        return weight + self.scale * (self.up @ self.down)


@dataclass
class Rows:
    """Rows of the vocabulary that are trained where the others are not.

    They stand in the matrix as well, so that only the pass that trains has to know of them.
    """

    # By rising id, and of every token of the vocabulary its place among them, or -1.
    tokens: Tensor
    places: Tensor
    values: nn.Parameter

    @classmethod
    def of(cls, matrix: Tensor, tokens: list[int]) -> Rows:
        """Those of some tokens, as they are."""
        ids = torch.tensor(sorted(tokens), device=matrix.device)
        places = torch.full((len(matrix),), -1, device=matrix.device)
        places[ids] = torch.arange(len(ids), device=matrix.device)
        return cls(ids, places, nn.Parameter(matrix.detach()[ids].clone()))

    @torch.no_grad()
    def settle(self, matrix: Tensor, start: int = 0) -> None:
        """Writes them into the rows of their matrix from `start` on, where they are among these."""
        places = self.tokens - start
        is_here = (places >= 0) & (places < len(matrix))
        matrix[places[is_here]] = self.values[is_here]


class Product(nn.Linear):
    """A product that has ways of its own where it is not trained.

    The order of a product's sums depends on its number of rows: so it is always the same. And
    weights are made short, or merged with what adapts them, once and not in each pass: passes of
    few rows would do nothing else.
    """

    # Rows of a tile; 0 where a pass is one. Both are an instance's own.
    n_tile = 0
    is_short = False
    adapter: Adapter | None = None
    # Of the projection to the vocabulary.
    rows: Rows | None = None
    _still: tuple[Tensor, Tensor | None] | None = None

    def whole(self) -> Tensor:
        """The weight, with what adapts it."""
        weight = self.weight.detach()
        return self.adapter.merged(weight) if self.adapter else weight

    def read(self) -> list[Tensor]:
        """What a pass reads that does not train."""
        return [tensor for tensor in self._still or (self.weight, self.bias) if tensor is not None]

    def train(self, mode: bool = True) -> Product:
        """Weights that do not change are those of the moment at which training was left."""
        super().train(mode)
        self._still = None
        if not mode and self.is_short:
            bias = None if self.bias is None else self.bias.detach().bfloat16()
            self._still = self.whole().bfloat16(), bias
        elif not mode and self.adapter:
            self._still = self.whole(), self.bias
        return self

    def forward(self, rows: Tensor) -> Tensor:
        """`[..., rows, width]`, and outside of training a multiple of a tile."""
        if self.training:
            return self._trained(rows)
        weight, bias = self._still or (self.weight, self.bias)
        if not self.n_tile:
            return F.linear(rows, weight, bias)
        flat = rows.reshape(-1, rows.shape[-1])
        tiles = [F.linear(tile, weight, bias) for tile in flat.split(self.n_tile)]
        return torch.cat(tiles).view(*rows.shape[:-1], -1)

    def _trained(self, rows: Tensor) -> Tensor:
        found = super().forward(rows)
        if self.adapter:
            found = found + self.adapter.added(rows)
        if self.rows:
            own = F.linear(rows, self.rows.values)
            found = found.index_copy(-1, self.rows.tokens, own.to(found.dtype))
        return found


class Table(nn.Embedding):
    """The rows of the vocabulary by token."""

    rows: Rows | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """`[..., width]`"""
        found = super().forward(tokens)
        if not (self.training and self.rows):
            return found
        places = self.rows.places[tokens]
        own = F.embedding(places.clamp(min=0), self.rows.values)
        return torch.where((places >= 0)[..., None], own, found)
