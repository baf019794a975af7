"""The last layer runs the rows that somebody reads, in passes that train.

A loss reads the rows that have targets, and the others matter by the keys and values of the last
layer alone. So its products behind the attention get the rows that are read, and what comes out is
put back among zeros: the residual and the norms, which cost little, are of all rows. The layer
itself is that of `transformers`, as it is.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from . import attention
from .product import Product


def attach(network: nn.Module) -> None:
    """From now on passes of a network choose rows as `attention.ForestPlan.read` says."""
    for module in _behind_attention(network):
        module.register_forward_pre_hook(_before)
        module.register_forward_hook(_after)


def products(network: nn.Module) -> list[Product]:
    """Those that are behind the last layer's attention."""
    modules = [part for module in _behind_attention(network) for part in module.modules()]
    return [module for module in modules if isinstance(module, Product)]


def _behind_attention(network: nn.Module) -> list[nn.Module]:
    last = network.model.layers[-1]
    return [last.self_attn.o_proj, last.mlp]


def _before(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return _ways[0](inputs[0])


def _after(_module: nn.Module, _inputs: tuple[Tensor], found: Tensor) -> Tensor:
    return _ways[1](found)


def _gather(values: Tensor) -> Tensor:
    """`[1, rows, width]` of all rows to those that are read."""
    read, _ = attention.rows_read()
    return values if read is None else values.index_select(1, read)


def _scatter(found: Tensor) -> Tensor:
    """Back to all rows."""
    read, n_rows = attention.rows_read()
    if read is None:
        return found
    return found.new_zeros(1, n_rows, found.shape[-1]).index_copy(1, read, found)


_ways = [_gather, _scatter]


@cache
def keep_apart() -> None:
    """How rows are chosen is not compiled with what calls it from now on: the code that is made is
    the same whether some are chosen or all.
    """
    _ways[:] = map(torch.compiler.disable, _ways)
