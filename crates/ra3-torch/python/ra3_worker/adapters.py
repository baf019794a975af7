"""LoRA: a model of which adapters are trained, and the rows of tokens that it did not know.

`W + alpha / rank B A` stands in the place of the weight of a product, `B` is 0 at first, and `A` is
drawn as PEFT draws it. Passes that train run `A` and `B` beside `W`; those that draw and score have
them merged, as has a copy of the model and what is saved of it: so all of these have the same bits.
There is no dropout, no quantized weight, and one set of adapters at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from . import draw
from .product import Adapter, Product, Rows, Table

# All products but the projection to the vocabulary, as PEFT has it.
ALL = "all-linear"


@dataclass(frozen=True)
class Lora:
    """What adapters are like; the names are those of the run file."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...] = (ALL,)
    seed: int = 0

    def is_of(self, name: str) -> bool:
        """True for the name of a product that gets one."""
        last = name.rpartition(".")[2]
        return self.target_modules == (ALL,) or last in self.target_modules


@dataclass
class Adapters:
    """What is trained of a model, by the names of the modules that it belongs to."""

    lora: Lora
    products: dict[str, Adapter] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)

    def parameters(self) -> dict[str, nn.Parameter]:
        """By the names that PEFT has for them, but for their beginning."""
        found = {}
        for name, adapter in self.products.items():
            found[f"{name}.lora_A.weight"] = adapter.down
            found[f"{name}.lora_B.weight"] = adapter.up
        return {**found, **{row_name(name): rows.values for name, rows in self.rows.items()}}

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """The weight of a checkpoint that a parameter of the network becomes."""
        adapter = self.products.get(name.removesuffix(".weight"))
        return adapter.merged(weight) if adapter else weight


def row_name(module: str) -> str:
    """What rows of a module's matrix are called."""
    return f"{module}.token_adapter.trainable_tokens_delta"


def _itself(matrix: Tensor) -> Tensor:
    return matrix


def attach(
    network: nn.Module,
    lora: Lora,
    tokens: Iterable[int],
    whole: Callable[[Tensor], Tensor] = _itself,
) -> Adapters:
    """Gives a network adapters, and rows that are trained; nothing else of it is from now on.
    `whole` gives a matrix of which this rank may have a part.
    """
    network.requires_grad_(False)
    adapters, head = Adapters(lora), network.get_output_embeddings()
    targets = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, Product) and module is not head and lora.is_of(name)
    ]
    for index, (name, product) in enumerate(targets):
        weight = product.weight
        bound = 1.0 / math.sqrt(product.in_features)
        # Drawn on a processor: a GPU draws other numbers.
        source = torch.Generator().manual_seed(draw.nth(lora.seed, index) >> 1)
        down = torch.empty(lora.rank, product.in_features)
        down.uniform_(-bound, bound, generator=source)
        up = torch.zeros(product.out_features, lora.rank, device=weight.device)
        scale = lora.alpha / lora.rank
        product.adapter = Adapter(nn.Parameter(down.to(weight.device)), nn.Parameter(up), scale)
        adapters.products[name] = product.adapter
    set_rows(network, adapters, tokens, whole)
    return adapters


def set_rows(
    network: nn.Module,
    adapters: Adapters,
    tokens: Iterable[int],
    whole: Callable[[Tensor], Tensor] = _itself,
) -> None:
    """The rows of some tokens are trained, as they are in their matrices now."""
    tokens, adapters.rows = list(tokens), {}
    if not tokens:
        return
    table, head = network.get_input_embeddings(), network.get_output_embeddings()
    table.__class__ = Table
    table.rows = head.rows = None
    # As in the checkpoint: a tied projection is the embedding.
    names = {module: name for name, module in network.named_modules()}
    table.rows = adapters.rows[names[table]] = Rows.of(whole(table.weight), tokens)
    if head.weight is table.weight:
        head.rows = table.rows
    else:
        head.rows = adapters.rows[names[head]] = Rows.of(whole(head.weight), tokens)


def fold(network: nn.Module) -> None:
    """Makes a network with adapters a plain one, which says the same."""
    for module in network.modules():
        if isinstance(module, Product) and module.adapter:
            module.weight.data = module.whole()
            module.adapter = None
        if isinstance(module, (Product, Table)):
            module.rows = None
    network.requires_grad_(True)
