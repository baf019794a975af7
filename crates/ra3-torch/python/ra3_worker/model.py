"""A model: an unmodified one of `transformers`, its optimizer's moments, its shape."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from . import attention

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
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=is_short)


class Product(nn.Linear):
    """A product that has ways of its own where it is not trained.

    The order of a product's sums depends on its number of rows: so it is always the same. And
    weights are made short once, not in each pass: passes of few rows would do nothing else.
    """

    # Rows of a tile; 0 where a pass is one. Both are an instance's own.
    n_tile = 0
    is_short = False
    _short: tuple[Tensor, Tensor | None] | None = None

    def train(self, mode: bool = True) -> Product:
        """Short weights are those of the moment at which training was left."""
        super().train(mode)
        self._short = None
        if self.is_short and not mode:
            bias = None if self.bias is None else self.bias.detach().bfloat16()
            self._short = self.weight.detach().bfloat16(), bias
        return self

    def forward(self, rows: Tensor) -> Tensor:
        """`[..., rows, width]`, and outside of training a multiple of a tile."""
        if self.training:
            return super().forward(rows)
        weight, bias = self._short or (self.weight, self.bias)
        if not self.n_tile:
            return F.linear(rows, weight, bias)
        flat = rows.reshape(-1, rows.shape[-1])
        tiles = [F.linear(tile, weight, bias) for tile in flat.split(self.n_tile)]
        return torch.cat(tiles).view(*rows.shape[:-1], -1)


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

    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by the names that checkpoints use; a tied projection is the embedding."""
        return dict(self.network.named_parameters())

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
        found = self.network.model(
            input_ids=tokens[None], position_ids=positions[None], use_cache=False
        )
        return found.last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """`[rows, vocabulary]` in `float32`."""
        return self.head(hidden).float()

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
        """The model as it is, without its moments."""
        self.network.zero_grad(set_to_none=True)
        return Model(copy.deepcopy(self.network).train(), copy.deepcopy(self.config))

    def grow(self, n_vocabulary: int, noise: list[list[float]]) -> None:
        """Adds rows to the vocabulary: the mean row and noise of a hundredth of their size."""
        tied = self.is_tied
        modules = [self.network.get_input_embeddings(), self.head]
        for module, normals in zip(modules[: 1 if tied else 2], noise, strict=True):
            old = module.weight.detach()
            fresh = _fresh_rows(old, normals)
            module.weight = nn.Parameter(torch.cat([old, fresh]))
        if tied:
            self.head.weight = self.embedding
        modules[0].num_embeddings = modules[1].out_features = n_vocabulary
        self.network.config.vocab_size = self.config["vocab_size"] = n_vocabulary
        self.moments = Moments()

    def restart(self, tokens: list[int], noise: list[list[float]]) -> None:
        """Starts the rows of some tokens anew, as `grow` starts added ones."""
        weights = [self.embedding] if self.is_tied else [self.embedding, self.head.weight]
        for weight, normals in zip(weights, noise, strict=True):
            weight.data[tokens] = _fresh_rows(weight.detach(), normals)


def _fresh_rows(rows: Tensor, normals: list[float]) -> Tensor:
    wide = rows.double()
    mean, size = wide.mean(0), wide.square().mean().sqrt()
    noise = torch.tensor(normals, dtype=torch.float64, device=rows.device)
    noise = noise.reshape(-1, rows.shape[1])
    return ((0.01 * size).float().double() * noise).float() + mean.float()


def load(folder: Path, settings: Settings) -> Model:
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
    return of(network, config, settings)


def of(network: nn.Module, config: dict, settings: Settings) -> Model:
    """The model of a network that attends by `attention.NAME`, on its device, ready to train."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Product
            module.n_tile = settings.tile if settings.n_pass_max > settings.tile else 0
            module.is_short = settings.computed == torch.bfloat16
    network.to(settings.device).train()
    recompute(network, settings.recompute)
    return Model(network, config)


def recompute(network: nn.Module, is_on: bool) -> None:
    """Says whether layers run again for a gradient, instead of keeping what they computed."""
    verb = "enable" if is_on else "disable"
    # The second is the older name of the same.
    names = (f"activation_checkpointing_{verb}", f"gradient_checkpointing_{verb}")
    next(getattr(network, name) for name in names if hasattr(network, name))()
