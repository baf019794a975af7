"""Folders of models, in Hugging Face layout: what is there is whole, old or new."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .model import Model, ModelError, Moments
from .ranks import ALONE, Ranks

WEIGHTS, TRAINING, CONFIG = "model.safetensors", "training_state.safetensors", "config.json"
# What is written of a model: finished, its exact weights, and these with the optimizer's moments.
FINISHED, EXACT, STATE = 0, 1, 2
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save(model: Model, folder: Path, saved: int, ranks: Ranks = ALONE) -> None:
    """Writes `config.json`, the weights, and the moments of a model in training. Of several ranks
    the first one writes what all have.
    """
    packed = None
    if saved == STATE and model.moments.n_steps:
        packed = _packed(model, ranks)
    if ranks.rank:
        return
    config = dict(model.config)
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    precision = str(config.get(names[0], "float32")).removeprefix("torch.")
    precision = "float32" if saved != FINISHED else precision
    config.update(dict.fromkeys(names, precision))
    config["tie_word_embeddings"] = model.is_tied
    dtype = PRECISIONS[precision]
    weights = {name: value.detach().to(dtype) for name, value in model.parameters().items()}
    if dtype == torch.float16:
        for name, value in weights.items():
            if not value.isfinite().all():
                reason = "has numbers beyond float16: write bfloat16 or float32"
                raise ModelError(f"{folder}: tensor {name} {reason}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config, indent=2)
        _whole(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
        _tensors(folder / WEIGHTS, weights)
        if packed:
            _tensors(folder / TRAINING, packed)
    except OSError as error:
        raise ModelError(f"{folder}: {error}") from error


def load_state(model: Model, folder: Path, device: str, ranks: Ranks = ALONE) -> None:
    """Continues from what `save` has written of a model of this shape, by however many ranks."""
    weights = _read(folder / WEIGHTS)
    parameters = model.parameters()
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    if shapes != {name: tuple(value.shape) for name, value in weights.items()}:
        raise ModelError(f"{folder / WEIGHTS}: its tensors are of another model")
    moments = Moments()
    if (folder / TRAINING).exists():
        packed = _read(folder / TRAINING)
        moments.n_steps = int(packed.get("n_steps", torch.zeros(1))[0])
        owners = ranks.owners(parameters)
        for part, place in (("first", moments.first), ("second", moments.second)):
            for name, shape in shapes.items():
                value = packed.get(f"{part}.{name}")
                if value is None or tuple(value.shape) != shape:
                    raise ModelError(f"{folder / TRAINING}: the moments are of another model")
                if owners[name] == ranks.rank:
                    place[name] = value.to(device)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    model.moments = moments


def _packed(model: Model, ranks: Ranks) -> dict[str, Tensor]:
    moments, parameters = model.moments, model.parameters()
    parts = {
        "first": ranks.bring(parameters, moments.first),
        "second": ranks.bring(parameters, moments.second),
    }
    packed = {
        f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()
    }
    return {**packed, "n_steps": torch.tensor([moments.n_steps])}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}") from error


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
