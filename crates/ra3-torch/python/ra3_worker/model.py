"""A model: an unmodified one of `transformers`, its optimizer's moments, its shape."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from . import adapters, attention, last_layer
from .adapters import Adapters, Lora
from .compiled import CompiledLayers
from .product import Product
from .ranks import ALONE, Ranks
from .sharding import FULL, Sharding, local

# Rows of a product while drawing and scoring. A processor has few: a row alone pays for all of
# them. A pass on a GPU has one tile, since its sums over a row depend on the number of rows.
TILE_CPU, TILE_GPU = 16, 64
TILES_CPU = 16
# A processor's thread draws with so many parameters: with fewer, it waits more than it computes.
PARAMS_PER_THREAD = 1 << 22

FAMILIES = ("qwen2", "qwen3", "llama", "mistral")


class ModelError(Exception):
    """A model cannot be read, written or used; says the file."""


@dataclass
class Settings:
    """How models are run and trained; the names are those of `ra3`'s settings."""

    device: str = "cpu"
    dtype: str = "float32"
    n_threads: int = 1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    n_tokens_micro: int = 4096
    recompute: bool = False
    cache_bytes_max: int = 1 << 30
    moments: str = "float32"
    # None trains all weights.
    lora: Lora | None = None
    # Whether several ranks have a part of each model, or all of it: `full` or `none`.
    sharding: str = "none"
    # Whether layers are compiled for passes that train.
    compile: bool = False
    # Whether passes that draw and score have the form that graphs can record.
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        """As JSON has them."""
        if isinstance(self.lora, dict):
            targets = tuple(self.lora["target_modules"])
            self.lora = Lora(**{**self.lora, "target_modules": targets})

    @property
    def tile(self) -> int:
        """Drawing and scoring run a multiple of so many rows."""
        return TILE_CPU if torch.device(self.device).type == "cpu" else TILE_GPU

    @property
    def n_pass_max(self) -> int:
        """Rows of a pass while drawing and scoring."""
        return self.tile * (TILES_CPU if torch.device(self.device).type == "cpu" else 1)

    @property
    def computed(self) -> torch.dtype:
        """`dtype`, as PyTorch has it."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    def compute(self) -> torch.autocast:
        """Passes inside of it compute in `dtype`; weights stay `float32`."""
        kind = torch.device(self.device).type
        is_short = self.computed == torch.bfloat16
        # What is kept short of a layer would outlive the layer's being whole.
        is_kept = self.sharding != FULL
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=is_short, cache_enabled=is_kept)


@dataclass
class Moments:
    """The state of the optimizer: by parameter, its first and second moments."""

    n_steps: int = 0
    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Model:
    """A network, the file that it was made from, and the moments once it was trained."""

    network: nn.Module
    config: dict
    moments: Moments = field(default_factory=Moments)
    # What is trained where not all of it is; and the tokens whose rows have been added or started
    # anew, which are trained too.
    lora: Lora | None = None
    adapters: Adapters | None = None
    fresh: set[int] = field(default_factory=set)
    # Of a model of which this rank has a part.
    sharding: Sharding | None = None
    compiled: CompiledLayers | None = None

    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by the names that checkpoints use; a tied projection is the embedding."""
        return dict(self.network.named_parameters())

    def trained(self) -> dict[str, nn.Parameter]:
        """What the optimizer steps: all parameters, or what adapts them."""
        return self.adapters.parameters() if self.adapters else self.parameters()

    def stepped(self, ranks: Ranks) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """What this rank steps: its own of what is trained, be it whole or a part, and its
        gradient.
        """
        trained = self.trained()
        if self.is_spread:
            for name, value in trained.items():
                yield name, local(value), None if value.grad is None else local(value.grad)
            return
        for name, owner in ranks.owners(trained).items():
            if owner == ranks.rank:
                yield name, trained[name], trained[name].grad

    @property
    def is_spread(self) -> bool:
        """True if every rank has a part of each tensor that is trained."""
        return self.sharding is not None and self.adapters is None

    def span(self, trained: Tensor) -> tuple[int, int]:
        """The rows of what is trained that this rank has."""
        n_rows = len(trained)
        return self.sharding.span(n_rows) if self.is_spread else (0, n_rows)

    def whole(self, to: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """The tensors of a checkpoint that says what this model says, one after the other; of a
        sharded model all ranks have to ask for them, and with `to` one of them gets them.
        """
        if self.sharding:
            tensors = self.sharding.tensors(self.network, to)
        else:
            tensors = ((name, value.detach()) for name, value in self.parameters().items())
        is_here = not self.sharding or to in (None, self.sharding.ranks.rank)
        for name, value in tensors:
            yield name, self.adapters.merged(name, value) if self.adapters and is_here else value

    def still(self, settings: Settings) -> Model:
        """The model as it draws and scores: itself, or one that is put together of its parts."""
        if not self.sharding:
            return self
        network = self.sharding.together(self.whole(), settings.device, draws=True)
        return Model(network, self.config)

    def adapt(self) -> None:
        """Has adapters from now on, if that is what is trained."""
        if self.lora and not self.adapters:
            self.adapters = adapters.attach(self.network, self.lora, self.fresh, self._whole_of)

    def _whole_of(self, value: Tensor) -> Tensor:
        value = value.detach()
        return self.sharding.whole(local(value), len(value)) if self.sharding else value

    def freeze(self) -> None:
        """Is run and scored with from now on."""
        self.moments = Moments()
        if self.adapters and self.sharding:
            self._shard(self.sharding.together(self.whole(), self.device))
        elif self.adapters:
            adapters.fold(self.network.train())
        self.adapters = None

    def _shard(self, network: nn.Module) -> None:
        """Has the parts of a whole network from now on."""
        ranks = self.sharding.ranks
        self.network, self.sharding, self.compiled = network, None, None
        self.sharding = Sharding.of(network.train(), self.device, ranks)

    @property
    def device(self) -> str:
        """Where its weights are."""
        return str(self.embedding.device)

    def settle(self) -> None:
        """What the optimizer has stepped is in its place."""
        if not self.adapters:
            return
        for name, rows in self.adapters.rows.items():
            matrix = self.network.get_submodule(name).weight.data
            start = self.sharding.span(len(matrix))[0] if self.sharding else 0
            rows.settle(local(matrix), start)

    def zero_grad(self) -> None:
        """Forgets the gradient."""
        for parameter in self.trained().values():
            parameter.grad = None

    @property
    def embedding(self) -> nn.Parameter:
        """Rows of the vocabulary."""
        return self.network.get_input_embeddings().weight

    @property
    def head(self) -> nn.Module:
        """The projection to the vocabulary."""
        return self.network.get_output_embeddings()

    @property
    def is_tied(self) -> bool:
        """True if the projection is the embedding."""
        return self.head.weight is self.embedding

    @property
    def n_context(self) -> int:
        """Tokens of the context."""
        return self.network.config.max_position_embeddings

    def hidden(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """`[rows, width]` after the layers; attention is as `attention.attending` says."""
        # A sharded one makes itself whole where it is called, and has the layers in its place.
        body = self.network if self.sharding else self.network.model
        found = body(input_ids=tokens[None], position_ids=positions[None], use_cache=False)
        return found.last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """`[rows, vocabulary]` in `float32`."""
        return self.head(hidden).float()

    def read(self) -> list[Tensor]:
        """What a pass reads that does not train, by its place in the model."""
        found = list(self.network.buffers())
        for module in self.network.modules():
            own = module.read() if isinstance(module, Product) else module.parameters(recurse=False)
            found += own
        return found

    def n_matmul_params(self) -> int:
        """Parameters that every token is multiplied with, the projection included."""
        matrices = sum(p.numel() for p in self.parameters().values() if p.ndim == 2)
        return matrices if self.is_tied else matrices - self.embedding.numel()

    @contextmanager
    def drawing(self, settings: Settings) -> Iterator[None]:
        """Passes inside of it have as many threads as the model's size is worth."""
        before = torch.get_num_threads()
        n_worth = 1 + self.n_matmul_params() // PARAMS_PER_THREAD
        torch.set_num_threads(min(settings.n_threads, n_worth))
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def layer_flops(self, positions: list[int]) -> float:
        """FLOPs of a forward pass of the layers over rows at these positions."""
        config = self.network.config
        n_heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // n_heads
        n_seen = sum(positions) + len(positions)
        looking = 2.0 * n_heads * width * config.num_hidden_layers * n_seen
        body = self.n_matmul_params() - self.embedding.numel()
        return 2.0 * (float(body) * len(positions) + looking)

    def head_flops(self, n_rows: int) -> float:
        """FLOPs of the projection of so many rows."""
        return 2.0 * self.embedding.numel() * n_rows

    def training_flops(
        self, positions: list[int], n_rows: tuple[int, int], recomputes: bool
    ) -> tuple[float, float]:
        """FLOPs of a forward and a backward pass: of the layers, and of the projection; of the rows
        so many have targets, and so many are not run behind the last attention.
        """
        n_targets, n_unread = n_rows
        behind = last_layer.products(self.network)
        left_out = n_unread * sum(product.weight.numel() for product in behind)
        layers = self.layer_flops(positions) - 2.0 * left_out
        head = self.head_flops(n_targets)
        n_passes = 4.0 if recomputes else 3.0
        if not self.adapters:
            return n_passes * layers, 3.0 * head
        # Weights that are not trained have no gradient; what adapts them has all three passes.
        still = (self.n_matmul_params() - self.embedding.numel()) * len(positions) - left_out
        own = sum(adapter.numel() for adapter in self.adapters.parameters().values())
        unread = sum(product.adapter.n_params() for product in behind if product.adapter)
        added = n_passes * (own * len(positions) - unread * n_unread)
        return n_passes * layers - 2.0 * still + 2.0 * added, 2.0 * head

    def shape(self) -> dict:
        """What `ra3` has to know of it."""
        parameters = self.parameters()
        stops = self.config.get("eos_token_id")
        return {
            "n_vocabulary": self.embedding.shape[0],
            "n_context": self.n_context,
            "n_params": sum(p.numel() for p in parameters.values()),
            "n_matmul_params": self.n_matmul_params(),
            "n_tensors": len(parameters),
            "width": self.embedding.shape[1],
            "is_tied": self.is_tied,
            "stop_ids": [] if stops is None else stops if isinstance(stops, list) else [stops],
        }

    def copy(self) -> Model:
        """The model as it is, without its moments, and with nothing that adapts it."""
        self.zero_grad()
        found = Model(self.network, copy.deepcopy(self.config), lora=self.lora)
        if self.sharding:
            found.sharding = self.sharding
            found._shard(self.sharding.together(self.whole(), self.device))
            return found
        if self.adapters:
            # Merged weights are made again: they are no part of it.
            self.network.train()
        found.network = copy.deepcopy(self.network).train()
        if self.adapters:
            adapters.fold(found.network)
        return found

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Inside of it the network is whole, for its rows to be changed."""
        if not self.sharding:
            yield
            return
        if self.adapters:
            raise ModelError("rows of a sharded model are added before its adapters are trained")
        self.network = self.sharding.together(self.whole(), self.device)
        yield
        self._shard(self.network)

    def grow(self, n_vocabulary: int, noise: list[list[float]]) -> None:
        """Adds rows to the vocabulary: the mean row and noise of a hundredth of their size."""
        with self._together():
            self._grow(n_vocabulary, noise)

    def _grow(self, n_vocabulary: int, noise: list[list[float]]) -> None:
        tied = self.is_tied
        modules = [self.network.get_input_embeddings(), self.head]
        for module, normals in zip(modules[: 1 if tied else 2], noise, strict=True):
            old = module.weight.detach()
            fresh = _fresh_rows(old, normals)
            is_trained = module.weight.requires_grad
            module.weight = nn.Parameter(torch.cat([old, fresh]), requires_grad=is_trained)
        if tied:
            self.head.weight = self.embedding
        n_before = modules[0].num_embeddings
        modules[0].num_embeddings = modules[1].out_features = n_vocabulary
        self.network.config.vocab_size = self.config["vocab_size"] = n_vocabulary
        self.moments = Moments()
        self._add_fresh(range(n_before, n_vocabulary))

    def restart(self, tokens: list[int], noise: list[list[float]]) -> None:
        """Starts the rows of some tokens anew, as `grow` starts added ones."""
        with self._together():
            self._restart(tokens, noise)

    def _restart(self, tokens: list[int], noise: list[list[float]]) -> None:
        weights = [self.embedding] if self.is_tied else [self.embedding, self.head.weight]
        for weight, normals in zip(weights, noise, strict=True):
            weight.data[tokens] = _fresh_rows(weight.detach(), normals)
        self._add_fresh(tokens)

    def _add_fresh(self, tokens: Iterable[int]) -> None:
        self.fresh.update(tokens)
        if self.adapters:
            for name in map(adapters.row_name, self.adapters.rows):
                self.moments.first.pop(name, None)
                self.moments.second.pop(name, None)
            adapters.set_rows(self.network, self.adapters, self.fresh)


def _fresh_rows(rows: Tensor, normals: list[float]) -> Tensor:
    wide = rows.double()
    mean, size = wide.mean(0), wide.square().mean().sqrt()
    noise = torch.tensor(normals, dtype=torch.float64, device=rows.device)
    noise = noise.reshape(-1, rows.shape[1])
    return ((0.01 * size).float().double() * noise).float() + mean.float()


def load(folder: Path, settings: Settings, ranks: Ranks = ALONE) -> Model:
    """The model of a folder in Hugging Face layout, in `float32`."""
    attention.register()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
        if config.get("model_type") not in FAMILIES:
            kinds = ", ".join(FAMILIES)
            reason = f"model_type {config.get('model_type')} is not one of {kinds}"
            raise ModelError(f"{folder / 'config.json'}: {reason}")
        network = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=attention.NAME,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder}: {error}") from error
    return of(network, config, settings, ranks)


def of(network: nn.Module, config: dict, settings: Settings, ranks: Ranks = ALONE) -> Model:
    """The model of a network that attends by `attention.NAME`, on its device, ready to train."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Product
            module.n_tile = settings.tile if settings.n_pass_max > settings.tile else 0
            module.is_short = settings.computed == torch.bfloat16
    last_layer.attach(network)
    recompute(network, settings.recompute)
    model = Model(network.train(), config, lora=settings.lora)
    if settings.sharding == FULL and ranks.size > 1:
        # A device never has all of it: layer by layer it comes there, and leaves a part.
        model.sharding = Sharding.of(network, settings.device, ranks)
    network.to(settings.device)
    return model


def recompute(network: nn.Module, is_on: bool) -> None:
    """Says whether layers run again for a gradient, instead of keeping what they computed."""
    verb = "enable" if is_on else "disable"
    # The second is the older name of the same.
    names = (f"activation_checkpointing_{verb}", f"gradient_checkpointing_{verb}")
    next(getattr(network, name) for name in names if hasattr(network, name))()
