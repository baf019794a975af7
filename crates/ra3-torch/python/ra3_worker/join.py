"""How the processes of one worker find each other, and `ra3`.

`torchrun` (or what sets the same environment) says each its rank. Rank 0 is connected to `ra3`, and
listens for the others on a port of its own; where, and a secret that nobody else knows, it tells
them by the store that `torchrun` gives them. What they say then is frames, as with `ra3`.
"""

from __future__ import annotations

import ctypes
import datetime
import hmac
import json
import os
import secrets
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from .wire import Columns, Kind, WireError, receive, send

# Nobody waits for so long: `ra3` has a deadline, and a rank that ends is noticed.
FOREVER = datetime.timedelta(days=30)
LOOPBACK = "127.0.0.1"
SECRET_WAIT_S = 10.0
HELLO_BYTES_MAX = 1 << 12


@dataclass(frozen=True)
class Place:
    """A process among those of a worker."""

    rank: int
    size: int
    # Among those of this machine.
    local: int
    is_one_machine: bool

    @classmethod
    def of(cls, environment: dict[str, str]) -> Place:
        """As `torchrun` says it; alone where it says nothing."""
        size = int(environment.get("WORLD_SIZE", "1"))
        rank = int(environment.get("RANK", "0"))
        n_here = int(environment.get("LOCAL_WORLD_SIZE", "1"))
        return cls(rank, size, int(environment.get("LOCAL_RANK", "0")), n_here == size)


def settle(place: Place) -> None:
    """Before anything else: output of its own, and an end with the process that has started it."""
    log = os.environ.get("RA3_WORKER_LOG")
    if log and place.rank:
        own = Path(log).with_suffix(f".{place.rank}.log").open("wb")
        os.dup2(own.fileno(), 1)
        os.dup2(own.fileno(), 2)
        sys.stdout.reconfigure(line_buffering=True)
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: also a rank that hangs ends with `torchrun`, which `ra3` can end.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if place.is_one_machine:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def connect(address: str) -> socket.socket:
    """A connection to `ra3`: a socket's path, or `tcp://HOST:PORT` and the token that it wants."""
    if not address.startswith("tcp://"):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(address)
        return stream
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    stream = _tcp(host.strip("[]"), int(port))
    send(stream, Kind.HELLO, 0, Columns().text(token()))
    return stream


def token() -> str:
    """The token of `RA3_TOKEN`, or of the file that `RA3_TOKEN_FILE` names."""
    if found := os.environ.get("RA3_TOKEN"):
        return found
    if path := os.environ.get("RA3_TOKEN_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    sys.exit("ra3 wants a token: set RA3_TOKEN_FILE to the file that it has named, or RA3_TOKEN")


def _tcp(host: str, port: int) -> socket.socket:
    stream = socket.create_connection((host, port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return stream


class Meeting:
    """The store of the ranks, by which they find rank 0 and then form a group."""

    def __init__(self, place: Place) -> None:
        """Waits for the store."""
        from torch.distributed import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        self.place = place
        store, _, _ = next(rendezvous("env://", timeout=FOREVER))
        store.set_timeout(FOREVER)
        self._store = PrefixStore("ra3", store)

    def others(self) -> dict[int, socket.socket]:
        """Rank 0 waits for the others."""
        host = LOOPBACK if self.place.is_one_machine else os.environ["MASTER_ADDR"]
        listener = socket.create_server((LOOPBACK if self.place.is_one_machine else "", 0))
        secret = secrets.token_hex(16)
        where = {"host": host, "port": listener.getsockname()[1], "secret": secret}
        self._store.set("hub", json.dumps(where))
        found: dict[int, socket.socket] = {}
        while len(found) < self.place.size - 1:
            stream, _ = listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.settimeout(SECRET_WAIT_S)
            try:
                said, [rank] = receive(stream, HELLO_BYTES_MAX).columns
            except (WireError, OSError, ValueError):
                continue
            stream.settimeout(None)
            if isinstance(said, str) and hmac.compare_digest(said, secret):
                found[rank] = stream
        # `torchrun` ends all ranks when one has ended; this one first says which, then ends.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return found

    def rank_0(self) -> socket.socket:
        """The others connect to it."""
        where = json.loads(self._store.get("hub"))
        stream = _tcp(where["host"], where["port"])
        own = Columns().text(where["secret"]).numbers(1, [self.place.rank])
        send(stream, Kind.HELLO, 0, own)
        return stream

    def form_group(self, device: str) -> None:
        """All ranks: numbers are exchanged by gloo, tensors on GPUs by NCCL."""
        import torch
        from torch import distributed as dist

        is_gpu = device.startswith("cuda")
        if is_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if is_gpu else "gloo",
            store=self._store,
            rank=self.place.rank,
            world_size=self.place.size,
            timeout=FOREVER,
        )
