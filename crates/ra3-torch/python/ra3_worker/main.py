"""The process: finds out whether its libraries will do, greets `ra3`, and answers it.

While a request is worked on, a thread says every second what is being done, so that `ra3` can name
it when it has waited for too long. Of several processes rank 0 is the one that `ra3` knows, and for
the others it is what `ra3` is for it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import hub as hubs
from .hub import Hub
from .join import Meeting, Place, connect, settle
from .wire import PROTOCOL, Columns, Frame, Kind, WireError, receive, send

if TYPE_CHECKING:
    from .serve import Server

# What a version is at least.
FLOORS = {"torch": (2, 11), "transformers": (5, 17), "safetensors": (0, 4), "numpy": (1, 26)}
INSTALL = "-m pip install --upgrade torch transformers safetensors numpy"
BEAT_S = 1.0


def package_hash() -> str:
    """SHA-256 over the names and texts of this package's files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what is needed, "" for what is missing."""
    found = {"python": sys.version.split()[0]}
    for name in FLOORS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def fault(found: dict[str, str]) -> str:
    """What has to be installed, and the line to type; "" if nothing has to."""
    wrong = []
    for name, floor in FLOORS.items():
        parts = [part for part in found[name].split(".")[:2] if part.isdigit()]
        least = ".".join(map(str, floor))
        if not found[name]:
            wrong.append(f"{name} is not installed")
        elif tuple(map(int, parts)) < floor:
            wrong.append(f"{name} is {found[name]}, and has to be {least} or later")
    return f"{', '.join(wrong)}: type `{sys.executable} {INSTALL}`" if wrong else ""


class Beat:
    """Says once a second that a request is being worked on."""

    def __init__(self, stream: socket.socket, place: Place, hub: Hub | None) -> None:
        """Starts the thread."""
        self.stream, self.place, self.hub = stream, place, hub
        self.lock = threading.Lock()
        self.sequence: int | None = None
        self._last = 0
        self.phase, self.is_waiting = "", False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            with self.lock:
                if self.sequence is not None:
                    try:
                        send(self.stream, Kind.PHASE, self.sequence, self._state())
                    except OSError:
                        # Nobody waits for it. `torchrun` ends the others where one has failed.
                        os._exit(0 if self.place.size == 1 else 1)

    def _state(self) -> Columns:
        """What is being done; of rank 0 then the ranks that it waits for, of another whether it
        waits.
        """
        if self.place.rank:
            return Columns().text(self.phase).numbers(1, [int(self.is_waiting)])
        behind = []
        if self.hub:
            behind = self.hub.behind() if self.is_waiting else self.hub.silent()
        waited = ", ".join(map(self.hub.said, behind)) if behind else ""
        text = f"{self.phase}, waiting for {waited}" if waited else self.phase
        return Columns().text(text).numbers(1, behind)

    def begin(self, sequence: int, phase: str) -> None:
        """A request is worked on from now on."""
        with self.lock:
            self.sequence = self._last = sequence
            self.phase, self.is_waiting = phase, False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside of it nothing is done but waiting for other ranks."""
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False

    def end(self, kind: int, sequence: int, columns: Columns) -> None:
        """It is done, and this is the answer."""
        with self.lock:
            self.sequence = None
            send(self.stream, kind, sequence, columns)

    def fail(self, rank: int, reason: str) -> None:
        """A rank is no use any more: the answer to this request, or to the next one."""
        with self.lock:
            sequence = self._last + 1 if self.sequence is None else self.sequence
            columns = Columns().numbers(1, [hubs.RANK]).numbers(4, [float(rank)]).text(reason)
            send(self.stream, Kind.ERROR, sequence, columns)


def main() -> None:
    """Finds `ra3`, or rank 0, and serves it."""
    place = Place.of(dict(os.environ))
    if place.size > 1:
        settle(place)
    meeting = None
    if place.rank:
        meeting = Meeting(place)
        stream = meeting.rank_0()
    else:
        stream = connect(sys.argv[1])
    hello = receive(stream)
    settings = json.loads(hello.columns[0])
    found = versions()
    greeting = {"protocol": PROTOCOL, "hash": package_hash(), **found, "fault": fault(found)}
    greeting["n_processes"] = place.size
    if not greeting["fault"]:
        greeting.update(_prepare(settings, place.local))
    hub = None
    if place.size > 1 and place.rank == 0 and not greeting["fault"]:
        meeting = Meeting(place)
        hub = Hub(meeting.others())
        hub.pass_on(hello)
        greeting = hubs.greet(greeting, hub.receive())
    if meeting and not greeting["fault"] and place.rank == 0:
        meeting.form_group(settings["device"])
    send(stream, Kind.HELLO, hello.sequence, Columns().text(json.dumps(greeting)))
    if meeting and not greeting["fault"] and place.rank:
        meeting.form_group(settings["device"])
    if not greeting["fault"]:
        _serve(stream, settings, place, hub)
    if place.size > 1:
        # Libraries of several processes do not always end in peace.
        os._exit(0)


def _prepare(settings: dict, local: int = 0) -> dict:
    """Decides where models are; says it, and what else there is."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Products on a GPU that are the same each time need it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Threads that wait sleep: one that spins takes the core that another works on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # One process compiles, in itself: all layers have the same code.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch
    import transformers

    from . import compiled, graphs

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(settings["n_threads"])
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else all memory that is about to be written is filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False
    has_gpu = torch.cuda.is_available()
    if settings["device"] == "auto":
        settings["device"] = "cuda" if has_gpu else "cpu"
    wrong = ""
    if settings["device"].startswith("cuda") and not has_gpu:
        wrong = f"device = {settings['device']}: torch {torch.__version__} sees no GPU"
    elif settings["device"] == "cuda" and local >= torch.cuda.device_count():
        n_gpus = torch.cuda.device_count()
        wrong = f"there are more processes than the {n_gpus} GPUs of its machine"
    elif settings["device"] == "cuda":
        settings["device"] = f"cuda:{local}"
    if settings.get("compile") and not wrong:
        wrong = compiled.fault(settings["device"])
    if settings.get("cuda_graphs") and not wrong:
        wrong = graphs.fault(settings["device"])
    gpus = [_gpu(index) for index in range(torch.cuda.device_count() if has_gpu else 0)]
    return {"device": settings["device"], "gpus": gpus, "fault": wrong}


def _gpu(index: int) -> dict:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    return {"name": name, "memory_mib": total >> 20, "free_mib": free >> 20}


def _serve(stream: socket.socket, settings: dict, place: Place, hub: Hub | None) -> None:
    from .model import Settings
    from .ranks import Ranks
    from .serve import Server

    beat = Beat(stream, place, hub)
    server = Server(Settings(**settings), Ranks(place.rank, place.size, beat.waiting))
    if hub:
        hub.on_failure(beat.fail)
    while True:
        try:
            frame = receive(stream)
        except (WireError, OSError):
            # Nobody asks any more.
            return
        beat.begin(frame.sequence, Kind(frame.kind).name.lower())
        if hub:
            hub.pass_on(frame)
        kind, columns = _answer(server, frame)
        if hub:
            if kind == Kind.ERROR and hubs.is_failure(kind, hubs.columns_of(columns.body())):
                time.sleep(hubs.GRACE_S)
                text = hubs.columns_of(columns.body())[2]
                hub.fail(0, f"has failed (it was at: {beat.phase}): {text}")
            with beat.waiting():
                others = hub.receive()
            kind, columns = hubs.merge(frame.kind, (kind, columns), others)
        beat.end(kind, frame.sequence, columns)


def _answer(server: Server, frame: Frame) -> tuple[Kind, Columns]:
    try:
        return server.answer(frame)
    except Exception:
        traceback.print_exc()
        last = traceback.format_exc().strip().splitlines()[-1]
        return Kind.ERROR, Columns().numbers(1, [hubs.FAILURE]).numbers(4, []).text(last)


if __name__ == "__main__":
    main()
