"""Models of which each rank has a part: rows of every tensor, by FSDP2.

While a model trains, a layer is whole on every rank for as long as it runs, and its gradient is
added up where its parts are (`fully_shard`). To draw, to score, to be copied or saved a model is
put together: then no rank waits for another. Adapters are not sharded: they are small.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .product import Product
from .ranks import Ranks

FULL = "full"


@dataclass
class Sharding:
    """What puts a network together again: all of it but its weights."""

    skeleton: nn.Module
    ranks: Ranks

    @classmethod
    def of(cls, network: nn.Module, device: str, ranks: Ranks) -> Sharding:
        """Leaves this rank its part of a whole network, which all of them have."""
        # What takes seconds to import is imported where it is used.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        sharding = cls(_without_weights(network), ranks)
        mesh = init_device_mesh(torch.device(device).type, (ranks.size,))
        for layer in network.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(network, mesh=mesh)
        for module in network.modules():
            if isinstance(module, FSDPModule):
                # Gradients add up, and are never averaged; gloo cannot scale them as it sums.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        # The projection runs apart from the layers, in chunks, on what they leave whole until the
        # backward pass.
        network.forward = network.model.forward
        return sharding

    def span(self, n_rows: int) -> tuple[int, int]:
        """The rows of a tensor that are this rank's."""
        n_each = -(-n_rows // self.ranks.size)
        start = min(self.ranks.rank * n_each, n_rows)
        return start, min(start + n_each, n_rows)

    def whole(self, part: Tensor, n_rows: int, to: int | None = None) -> Tensor:
        """A tensor of which every rank has its rows; with `to`, one rank gets it and the others
        something of no meaning.
        """
        n_each = -(-n_rows // self.ranks.size)
        own = part.new_zeros(n_each, *part.shape[1:])
        own[: len(part)] = part
        places = None
        if to is None or to == self.ranks.rank:
            places = [torch.empty_like(own) for _ in range(self.ranks.size)]
        with self.ranks.waiting():
            if to is None:
                dist.all_gather(places, own)
            else:
                dist.gather(own, places, to)
        return torch.cat(places)[:n_rows] if places else own

    def tensors(self, network: nn.Module, to: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """The whole tensors of a network, one after the other."""
        for name, value in network.named_parameters():
            yield name, self.whole(local(value.detach()), len(value), to)

    def together(
        self, tensors: Iterable[tuple[str, Tensor]], device: str, draws: bool = False
    ) -> nn.Module:
        """A whole network of tensors. If it draws, and nothing else, products have the short
        weights that they would make.
        """
        network = copy.deepcopy(self.skeleton)
        is_tied = network.get_output_embeddings().weight is network.get_input_embeddings().weight
        for name, value in tensors:
            path, _, leaf = name.rpartition(".")
            module = network.get_submodule(path)
            if draws and isinstance(module, Product) and module.is_short:
                value = value.bfloat16()
            setattr(module, leaf, nn.Parameter(value, requires_grad=not draws))
        if is_tied:
            network.get_output_embeddings().weight = network.get_input_embeddings().weight
        return network.to(device)


def local(value: Tensor) -> Tensor:
    """The part of a tensor that this rank has, which is all of one that is not sharded."""
    return value.to_local() if hasattr(value, "to_local") else value


def _without_weights(network: nn.Module) -> nn.Module:
    weights = {
        id(value): nn.Parameter(torch.empty_like(value, device="meta"))
        for value in network.parameters()
    }
    return copy.deepcopy(network, weights)
