"""Folders of models, in Hugging Face layout: what is there is whole, old or new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from . import parts
from .adapters import Adapters
from .model import Model, ModelError, Moments
from .parts import Kept, Piece
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
    the first one writes what all have, and each of them what it alone has of a state. The state of
    a model with adapters is they and their moments: its weights are those that it was loaded with.
    """
    if saved == STATE:
        model.adapt()
    tensors = iter(()) if saved == STATE else _finished(model, ranks)
    try:
        if saved == STATE:
            folder.mkdir(parents=True, exist_ok=True)
            _state(model, folder, ranks)
        elif not ranks.rank:
            folder.mkdir(parents=True, exist_ok=True)
            _checkpoint(model, folder, _precision(model, saved), tensors)
            if saved == FINISHED and model.adapters:
                _adapters(model.adapters, folder / ADAPTER)
    except OSError as error:
        raise ModelError(f"{folder}: {error}") from error
    finally:
        # All ranks bring all of them, whatever becomes of one.
        for _ in tensors:
            pass


def _state(model: Model, folder: Path, ranks: Ranks) -> None:
    trained, own = model.trained(), list(model.stepped(ranks))
    starts = {name: model.span(trained[name])[0] for name, *_ in own}
    if model.is_spread:
        pieces = {name: Piece(weight, starts[name]) for name, weight, _ in own}
        parts.write_part(folder / WEIGHTS, pieces, ranks)
    if not ranks.rank:
        if model.adapters:
            _adapters(model.adapters, folder)
        elif model.is_spread:
            _config(model, folder, "float32")
        else:
            _checkpoint(model, folder, "float32", model.whole())
    moments = model.moments
    if not moments.n_steps:
        return
    pieces = {} if ranks.rank else {"n_steps": Piece(torch.tensor([moments.n_steps]))}
    for part, tensors in (("first", moments.first), ("second", moments.second)):
        pieces |= {f"{part}.{name}": Piece(tensors[name], starts[name]) for name in starts}
    if ranks.size > 1:
        parts.write_part(folder / TRAINING, pieces, ranks)
    else:
        parts.write(folder / TRAINING, {name: piece.rows for name, piece in pieces.items()})


def _precision(model: Model, saved: int) -> str:
    config = model.config
    own = str(config.get("dtype", config.get("torch_dtype", "float32"))).removeprefix("torch.")
    return own if saved == FINISHED else "float32"


def _finished(model: Model, ranks: Ranks) -> Iterator[tuple[str, Tensor]]:
    """What rank 0 writes. Of a sharded model all ranks bring their parts, a tensor at a time."""
    if model.sharding or not ranks.rank:
        yield from model.whole(to=0)


def _checkpoint(
    model: Model, folder: Path, precision: str, tensors: Iterable[tuple[str, Tensor]]
) -> None:
    shapes = {name: tuple(value.shape) for name, value in model.parameters().items()}
    checked = _checked(tensors, folder, precision)
    parts.write_each(folder / WEIGHTS, shapes, PRECISIONS[precision], checked)
    _config(model, folder, precision)


def _checked(
    tensors: Iterable[tuple[str, Tensor]], folder: Path, precision: str
) -> Iterator[tuple[str, Tensor]]:
    for name, value in tensors:
        if precision == "float16" and not value.half().isfinite().all():
            reason = "has numbers beyond float16: write bfloat16 or float32"
            raise ModelError(f"{folder}: tensor {name} {reason}")
        yield name, value


def _config(model: Model, folder: Path, precision: str) -> None:
    config = dict(model.config)
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    config.update(dict.fromkeys(names, precision))
    config["tie_word_embeddings"] = model.is_tied
    _json(folder / CONFIG, config)


def _json(path: Path, value: dict) -> None:
    text = json.dumps(value, indent=2)
    parts.whole(path, lambda place: place.write_text(text, encoding="utf-8"))


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
    tensors = {PEFT + name: value for name, value in adapters.parameters().items()}
    _json(folder / ADAPTER_CONFIG, config)
    parts.write(folder / ADAPTER_WEIGHTS, tensors)


def tokens_of(adapters: Adapters) -> dict[str, list[int]]:
    """The tokens whose rows are trained, by the last name of their matrix."""
    rows = adapters.rows.items()
    return {name.rpartition(".")[2]: of.tokens.tolist() for name, of in rows}


def load_state(model: Model, folder: Path, device: str, ranks: Ranks = ALONE) -> None:
    """Continues from what `save` has written of a model of this shape, by however many ranks."""
    model.adapt()
    path = folder / (ADAPTER_WEIGHTS if model.adapters else WEIGHTS)
    weights = Kept(path, PEFT if model.adapters else "")
    trained = model.trained()
    shapes = {name: tuple(value.shape) for name, value in trained.items()}
    if shapes != weights.shapes():
        raise ModelError(f"{path}: its tensors are of another model")
    if model.adapters:
        _check_tokens(model.adapters, folder / ADAPTER_CONFIG)
    moments = Moments()
    if parts.files(folder / TRAINING):
        moments = _moments(model, folder / TRAINING, device, ranks)
    with torch.no_grad():
        for name, value in trained.items():
            local(value).copy_(weights.rows(name, model.span(value)))
    model.settle()
    model.moments = moments


def _moments(model: Model, path: Path, device: str, ranks: Ranks) -> Moments:
    kept, trained = Kept(path), model.trained()
    found = kept.shapes()
    for part in ("first", "second"):
        if any(found.get(f"{part}.{name}") != value.shape for name, value in trained.items()):
            raise ModelError(f"{path}: the moments are of another model")
    moments = Moments(int(kept.rows("n_steps", (0, 1))) if "n_steps" in found else 0)
    for name, *_ in model.stepped(ranks):
        span = model.span(trained[name])
        moments.first[name] = kept.rows(f"first.{name}", span).to(device)
        moments.second[name] = kept.rows(f"second.{name}", span).to(device)
    return moments


def _check_tokens(adapters: Adapters, path: Path) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["trainable_token_indices"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: {error}") from error
    if (found or {}) != tokens_of(adapters):
        raise ModelError(f"{path}: its rows are of other tokens")
