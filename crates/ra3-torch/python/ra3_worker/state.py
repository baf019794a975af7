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

from .adapters import Adapters
from .model import Model, ModelError, Moments
from .ranks import ALONE, Ranks

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
    if ranks.rank:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if saved == STATE and model.adapters:
            _adapters(model.adapters, folder)
        else:
            _checkpoint(model, folder, saved)
        if saved == FINISHED and model.adapters:
            _adapters(model.adapters, folder / ADAPTER)
        if packed:
            _tensors(folder / TRAINING, packed)
    except OSError as error:
        raise ModelError(f"{folder}: {error}") from error


def _checkpoint(model: Model, folder: Path, saved: int) -> None:
    config = dict(model.config)
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    precision = str(config.get(names[0], "float32")).removeprefix("torch.")
    precision = "float32" if saved != FINISHED else precision
    config.update(dict.fromkeys(names, precision))
    config["tie_word_embeddings"] = model.is_tied
    dtype = PRECISIONS[precision]
    weights = {name: value.to(dtype) for name, value in model.whole()}
    if dtype == torch.float16:
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
    weights = {name.removeprefix(PEFT): value for name, value in _read(path).items()}
    parameters = model.trained()
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    if shapes != {name: tuple(value.shape) for name, value in weights.items()}:
        raise ModelError(f"{path}: its tensors are of another model")
    if model.adapters:
        _check_tokens(model.adapters, folder / ADAPTER_CONFIG)
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
    moments, parameters = model.moments, model.trained()
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
