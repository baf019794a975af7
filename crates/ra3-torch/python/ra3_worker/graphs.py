"""Passes that draw and score in a form that CUDA graphs can replay (`cuda_graphs = true`).

Such a pass has one of a few numbers of rows, filled up with copies, and paths of one length. What
it is about is written into one tensor before it; it reads the table of all paths and masks what a
path does not reach; and every tensor that it reads or writes stays where it is until the next one.
So a GPU launches it as a whole, from a recording. On a processor it runs as it is, with the bits
of the passes of `run`.

The projection to the vocabulary and the draws are not in it: they begin where a number is waited
for, and have few kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from .attention import Bucket, PathPlan, attending
from .model import Model, ModelError, Settings
from .pool import Pool

# A pass has the fewest rows of these that will do: a tile, and by this factor more.
ROWS_FACTOR = 4


def fault(device: str) -> str:
    """Why a device has no graphs; "" if it has."""
    if device.startswith("cuda"):
        return ""
    return (
        f"cuda_graphs = true needs a GPU, and models are on device = {device}: "
        "set engine.cuda_graphs = false, or engine.device = cuda where there is one"
    )


class FixedPasses:
    """The passes of one run by their shape, each made when it is first needed."""

    def __init__(
        self, model: Model, settings: Settings, pool: Pool, paths: Tensor, n_gathered: int
    ) -> None:
        """No pass yet. `paths` are the slots of each lane by depth, and so many of them have their
        keys gathered at a time.
        """
        self._model, self._settings, self._pool = model, settings, pool
        self._paths, self._n_gathered = paths, n_gathered
        self._passes: dict[tuple[int, int], tuple[Tensor, Callable[[], None]]] = {}
        # What they read and write. It is held, so that nothing else gets its addresses.
        self._weights: list[Tensor] = []
        self._hidden: Tensor | None = None
        self._memory: tuple[int, int] | None = None

    def refresh(self) -> None:
        """Forgets passes whose weights are elsewhere now."""
        weights = self._model.read()
        if [one.data_ptr() for one in weights] != [one.data_ptr() for one in self._weights]:
            self._forget()
            self._weights = [one.detach() for one in weights]

    def _forget(self) -> None:
        if self._paths.device.type == "cuda":
            # None of them may still run; and a memory that has no graph any more gets none again.
            torch.cuda.synchronize(self._paths.device)
            self._memory = torch.cuda.graph_pool_handle()
        self._passes.clear()

    def run(self, rows: list[tuple[int, int, int, int]], length: int) -> None:
        """One pass of rows with paths up to a length: of each its token, depth, slot and lane."""
        if self._hidden is not self._pool.hidden:
            # The pool has grown: its tensors are others.
            self._forget()
            self._hidden = self._pool.hidden
        token, depth, _, lane = rows[-1]
        n_rows = self._settings.tile
        while n_rows < len(rows):
            n_rows = min(ROWS_FACTOR * n_rows, self._settings.n_pass_max)
        filled = rows + [(token, depth, self._pool.scrap, lane)] * (n_rows - len(rows))
        about = torch.tensor([*zip(*filled, strict=True)])
        known = self._passes.get((n_rows, length))
        if not known:
            inputs = about.to(self._paths.device)
            again = recorded(partial(self._compute, inputs, length), inputs.device, self._memory)
            known = self._passes[n_rows, length] = inputs, again
        inputs, again = known
        inputs.copy_(about)
        again()

    def _compute(self, inputs: Tensor, length: int) -> None:
        """What is recorded: nothing of it follows from anything but the shape and what stands in
        tensors that stay.
        """
        tokens, depths, slots, lanes = inputs
        device, computed = inputs.device, self._settings.computed
        sees = torch.arange(length, device=device)[None, :] <= depths[:, None]
        # What a path does not reach may be any slot: it is masked, but has to be a number.
        paths = self._paths[:, :length].index_select(0, lanes) * sees
        mask = torch.zeros(sees.shape, dtype=computed, device=device)
        mask = mask.masked_fill_(~sees, -torch.inf)[:, None, None, :]
        places = torch.arange(len(tokens), device=device)
        n_each = max(self._n_gathered // length, 1)
        pieces = zip(*(each.split(n_each) for each in (places, paths, mask)), strict=True)
        buckets = [Bucket(own, path.flatten(), seen) for own, path, seen in pieces]
        plan = PathPlan(self._pool.keys, self._pool.values, slots, buckets)
        with self._settings.compute(), attending(plan):
            hidden = self._model.hidden(tokens, depths)
        self._pool.hidden.index_copy_(0, slots, hidden.float())


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """The stream that records; libraries have room of their own for each."""
    return torch.cuda.Stream(device)


def recorded(
    compute: Callable[[], None], device: torch.device, memory: tuple[int, int] | None
) -> Callable[[], None]:
    """What runs a pass again: on a GPU the replay of its recording, else itself."""
    if device.type != "cuda":
        return compute
    with torch.cuda.device(device):
        # What libraries set up at a first call of a stream is no part of it.
        now, aside = torch.cuda.current_stream(), _aside(device)
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            compute()
        now.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Graphs have one memory: each is over before the next one begins, and leaves nothing
            # there. Other threads, such as NCCL's, may go on.
            mode = "thread_local"
            with torch.cuda.graph(graph, pool=memory, stream=aside, capture_error_mode=mode):
                compute()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            said = str(error).strip().splitlines() or [""]
            raise ModelError(
                f"cuda_graphs = true: a pass cannot be recorded ({said[0]}): "
                "set engine.cuda_graphs = false"
            ) from error
    return graph.replay
