"""The process: finds out whether its libraries will do, greets `ra3`, and answers it.

While a request is worked on, a thread says every second what is being done, so that `ra3` can name
it when it has waited for too long.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import socket
import sys
import threading
import traceback
from pathlib import Path

from .wire import PROTOCOL, Columns, Kind, WireError, receive, send

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

    def __init__(self, stream: socket.socket) -> None:
        """Starts the thread."""
        self.stream, self.lock = stream, threading.Lock()
        self.sequence: int | None = None
        self.phase = ""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            with self.lock:
                if self.sequence is not None:
                    try:
                        send(self.stream, Kind.PHASE, self.sequence, Columns().text(self.phase))
                    except OSError:
                        os._exit(0)

    def begin(self, sequence: int, phase: str) -> None:
        """A request is worked on from now on."""
        with self.lock:
            self.sequence, self.phase = sequence, phase

    def end(self, kind: int, sequence: int, columns: Columns) -> None:
        """It is done, and this is the answer."""
        with self.lock:
            self.sequence = None
            send(self.stream, kind, sequence, columns)


def main() -> None:
    """Connects to the socket that is named, and serves it."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(sys.argv[1])
    hello = receive(stream)
    settings = json.loads(hello.columns[0])
    found = versions()
    greeting = {"protocol": PROTOCOL, "hash": package_hash(), **found, "fault": fault(found)}
    if not greeting["fault"]:
        greeting.update(_prepare(settings))
    send(stream, Kind.HELLO, hello.sequence, Columns().text(json.dumps(greeting)))
    if not greeting["fault"]:
        _serve(stream, settings)


def _prepare(settings: dict) -> dict:
    """Decides where models are; says it, and what else there is."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Products on a GPU that are the same each time need it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Threads that wait sleep: one that spins takes the core that another works on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(settings["n_threads"])
    torch.use_deterministic_algorithms(True, warn_only=True)
    has_gpu = torch.cuda.is_available()
    if settings["device"] == "auto":
        settings["device"] = "cuda" if has_gpu else "cpu"
    wrong = ""
    if settings["device"].startswith("cuda") and not has_gpu:
        wrong = f"device = {settings['device']}: torch {torch.__version__} sees no GPU"
    gpus = [_gpu(index) for index in range(torch.cuda.device_count() if has_gpu else 0)]
    return {"device": settings["device"], "gpus": gpus, "fault": wrong}


def _gpu(index: int) -> dict:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    return {"name": name, "memory_mib": total >> 20, "free_mib": free >> 20}


def _serve(stream: socket.socket, settings: dict) -> None:
    from .model import Settings
    from .serve import FAILURE, Server

    server, beat = Server(Settings(**settings)), Beat(stream)
    while True:
        try:
            frame = receive(stream)
        except (WireError, OSError):
            # Nobody asks any more.
            return
        beat.begin(frame.sequence, Kind(frame.kind).name.lower())
        try:
            kind, columns = server.answer(frame)
        except Exception:
            traceback.print_exc()
            last = traceback.format_exc().strip().splitlines()[-1]
            kind = Kind.ERROR
            columns = Columns().numbers(1, [FAILURE]).numbers(4, []).text(last)
        beat.end(kind, frame.sequence, columns)


if __name__ == "__main__":
    main()
