"""Layers as `torch.compile` makes them, in passes that train.

Drawing and scoring stay as they are: that the bits of a row depend on no other row is a promise of
the products there, and code that is made for a shape makes none. Attention is not compiled, as its
plan is another one in each pass, nor is how the last layer chooses rows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from . import attention, last_layer

# Code is made for any number of rows when layers run first, which is on so many: so it is the same
# whichever batch comes first, and a run that goes on has the bits of one that was not killed.
FIRST_ROWS = 48


def fault(device: str) -> str:
    """What is missing for it; "" if nothing is."""
    if device.startswith("cpu"):
        compiler = os.environ.get("CXX", "g++")
        if not shutil.which(compiler):
            return f"compile = true needs a C++ compiler on a processor, and there is no {compiler}"
    return ""


class CompiledLayers:
    """The layers of a network, compiled; the network itself is as it was."""

    def __init__(self, network: nn.Module) -> None:
        """Nothing is compiled before it runs."""
        self._layers = list(network.model.layers)
        self._calls = [torch.compile(layer._call_impl, dynamic=True) for layer in self._layers]
        self.has_run = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside of it layers are those that were compiled."""
        attention.keep_apart()
        last_layer.keep_apart()
        for layer, call in zip(self._layers, self._calls, strict=True):
            layer._compiled_call_impl = call
        try:
            yield
        finally:
            for layer in self._layers:
                layer._compiled_call_impl = None
