"""Folders of models, in Hugging Face layout: what is there is whole, old or new."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .adapters import Adapters
from .model import Model, ModelError, Moments
from .ranks import ALONE, Ranks
from .sharding import local

WEIGHTS, TRAINING, CONFIG = "model.safetensors", "training_state.safetensors", "config.json"
# What PEFT has: names of its files, and how those of tensors begin; and the folder of a finished
# model that they lie in.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT, ADAPTER = "base_model.model.", "adapter"
# What is written of a model: finished, its exact weights, and these with the optimizer's moments.
FINISHED, EXACT, STATE = 0, 1, 2
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save(model: Model, folder: Path, saved: int, ranks: Ranks = ALONE) -> None:
    """Writes `config.json`, the weights, and the moments of a model in training. Of several ranks
    the first one writes what all have. The state of a model with adapters is they and their
    moments: its weights are those that it was loaded with.
    """
    packed = None
    if saved == STATE:
        model.adapt()
        if model.moments.n_steps:
            packed = _packed(model, ranks)
    has_weights = saved != STATE or not model.adapters
    weights = _weights(model, _precision(model, saved), ranks) if has_weights else {}
    if ranks.rank:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if has_weights:
            _checkpoint(model, folder, _precision(model, saved), weights)
        else:
            _adapters(model.adapters, folder)
        if saved == FINISHED and model.adapters:
            _adapters(model.adapters, folder / ADAPTER)
        if packed:
            _tensors(folder / TRAINING, packed)
    except OSError as error:
        raise ModelError(f"{folder}: {error}") from error


def _precision(model: Model, saved: int) -> str:
    config = model.config
    own = str(config.get("dtype", config.get("torch_dtype", "float32"))).removeprefix("torch.")
    return own if saved == FINISHED else "float32"


def _weights(model: Model, precision: str, ranks: Ranks) -> dict[str, Tensor]:
    """What rank 0 writes. Of a sharded model all ranks bring their parts, a tensor at a time."""
    if not model.sharding and ranks.rank:
        return {}
    dtype, found = PRECISIONS[precision], {}
    for name, value in model.whole(to=0):
        if not ranks.rank:
            value = value.to(dtype)
            found[name] = value.cpu() if model.sharding else value
    return found


def _checkpoint(model: Model, folder: Path, precision: str, weights: dict[str, Tensor]) -> None:
    config = dict(model.config)
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    config.update(dict.fromkeys(names, precision))
    config["tie_word_embeddings"] = model.is_tied
    if precision == "float16":
        for name, value in weights.items():
            if not value.isfinite().all():
                reason = "has numbers beyond float16: write bfloat16 or float32"
                raise ModelError(f"{folder}: tensor {name} {reason}")
    text = json.dumps(config, indent=2)
    _whole(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    _tensors(folder / WEIGHTS, weights)


def _adapters(adapters: Adapters, folder: Path) -> None:
    """As `PeftModel.from_pretrained` reads them, behind the model that they were trained from."""
    folder.mkdir(parents=True, exist_ok=True)
    lora = adapters.lora
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        # A run's folders may be moved.
        "base_model_name_or_path": None,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(adapters.products),
        "trainable_token_indices": tokens_of(adapters) or None,
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2)
    tensors = {PEFT + name: value.detach() for name, value in adapters.parameters().items()}
    _whole(folder / ADAPTER_CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    _tensors(folder / ADAPTER_WEIGHTS, tensors)


def tokens_of(adapters: Adapters) -> dict[str, list[int]]:
    """The tokens whose rows are trained, by the last name of their matrix."""
    rows = adapters.rows.items()
    return {name.rpartition(".")[2]: of.tokens.tolist() for name, of in rows}


def load_state(model: Model, folder: Path, device: str, ranks: Ranks = ALONE) -> None:
    """Continues from what `save` has written of a model of this shape, by however many ranks."""
    model.adapt()
    path = folder / (ADAPTER_WEIGHTS if model.adapters else WEIGHTS)
    start = PEFT if model.adapters else ""
    weights, steps = _Kept(path, start), None
    trained = model.trained()
    shapes = {name: tuple(value.shape) for name, value in trained.items()}
    if shapes != weights.shapes():
        raise ModelError(f"{path}: its tensors are of another model")
    if model.adapters:
        _check_tokens(model.adapters, folder / ADAPTER_CONFIG)
    moments = Moments()
    if (folder / TRAINING).exists():
        steps = _Kept(folder / TRAINING)
        parts = [(part, name) for part in ("first", "second") for name in shapes]
        found = steps.shapes()
        if any(found.get(f"{part}.{name}") != shapes[name] for part, name in parts):
            raise ModelError(f"{folder / TRAINING}: the moments are of another model")
        moments.n_steps = int(steps.part("n_steps")[0]) if "n_steps" in found else 0
    if steps:
        for name, *_ in model.stepped(ranks):
            span = model.sharding.span(shapes[name][0]) if model.is_spread else None
            moments.first[name] = steps.part(f"first.{name}", span).to(device)
            moments.second[name] = steps.part(f"second.{name}", span).to(device)
    with torch.no_grad():
        for name, value in trained.items():
            span = model.sharding.span(len(value)) if model.is_spread else None
            local(value).copy_(weights.part(name, span))
    model.settle()
    model.moments = moments


def _check_tokens(adapters: Adapters, path: Path) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["trainable_token_indices"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: {error}") from error
    if (found or {}) != tokens_of(adapters):
        raise ModelError(f"{path}: its rows are of other tokens")


def _packed(model: Model, ranks: Ranks) -> dict[str, Tensor]:
    moments = model.moments
    parts = {"first": moments.first, "second": moments.second}
    packed = {
        f"{part}.{name}": value
        for part, own in parts.items()
        for name, value in _brought(model, own, ranks)
    }
    return {**packed, "n_steps": torch.tensor([moments.n_steps])}


def _brought(model: Model, own: dict[str, Tensor], ranks: Ranks) -> Iterable[tuple[str, Tensor]]:
    trained = model.trained()
    if not model.is_spread:
        yield from ranks.bring(trained, own).items()
        return
    for name, value in trained.items():
        whole = model.sharding.whole(own[name], len(value), to=0)
        if not ranks.rank:
            yield name, whole.cpu()


class _Kept:
    """The tensors of a file, each read when it is asked for, and of some its own rows only."""

    def __init__(self, path: Path, start: str = "") -> None:
        """`start` is how all names begin there, and not here."""
        self._start = start
        try:
            self._file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: {error}") from error

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Their names and shapes."""
        names = self._file.keys()
        shapes = [self._file.get_slice(name).get_shape() for name in names]
        names = [name.removeprefix(self._start) for name in names]
        return dict(zip(names, map(tuple, shapes), strict=True))

    def part(self, name: str, span: tuple[int, int] | None = None) -> Tensor:
        """One of them, or some rows of it."""
        if span is None:
            return self._file.get_tensor(self._start + name)
        return self._file.get_slice(self._start + name)[span[0] : span[1]]


def _tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    _whole(path, lambda place: save_file(tensors, place, metadata={"format": "pt"}))


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside a file and takes its name when it is on disk."""
    beside = path.with_name(f".writing-{path.name}")
    write(beside)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
