"""Rank 0 and the others: requests go to all of them, and one answer is made of theirs.

A rank that has ended, or of which nobody knows what it has done, ends the worker: `ra3` is told
which it was and what it was at. One that does not answer is named once a second.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .wire import Columns, Frame, Kind, WireError, columns_of, receive, send_body

# Codes of errors that `ra3` knows; after the failures of one rank or another, models may differ.
LOSS, GRADIENT, NOT_A_NUMBER, POOL, FILE, FAILURE, RANK, OTHER = range(1, 9)
# When a rank fails because another has ended, that is heard within so many seconds.
GRACE_S = 2.0
# A rank that says nothing for so long hangs; it would say once a second what it is at.
SILENT_S = 5.0
# How answers of several ranks are one, column by column, where they are not the same: types, and
# whether what the ranks have stands one after the other or adds up.
JOINED = {
    Kind.MOVES: ((1, 1, 1, 1, 2), (True,) * 5),
    Kind.SCORE: ((2, 3, 4), (True, False, False)),
    Kind.RUN_END: ((3, 4), (False, False)),
}


@dataclass
class Peer:
    """Another rank, as it is known here."""

    stream: socket.socket
    phase: str = "starting"
    is_waiting: bool = False
    heard: float = 0.0


class Hub:
    """The other ranks."""

    def __init__(self, streams: dict[int, socket.socket]) -> None:
        """Listens to all of them."""
        self._answers: dict[int, queue.SimpleQueue[Frame]] = {}
        self._peers: dict[int, Peer] = {}
        self._last, self._failing = threading.Event(), threading.Lock()
        self._tell_ra3: Callable[[int, str], None] = self._only_end
        for rank in sorted(streams):
            self._peers[rank] = Peer(streams[rank], heard=time.monotonic())
            self._answers[rank] = queue.SimpleQueue()
            threading.Thread(target=self._listen, args=(rank,), daemon=True).start()

    @staticmethod
    def _only_end(rank: int, reason: str) -> None:
        print(f"rank {rank} {reason}", flush=True)

    def on_failure(self, tell: Callable[[int, str], None]) -> None:
        """`tell(rank, reason)` is called, once, before this process ends for another's sake."""
        self._tell_ra3 = tell

    def pass_on(self, frame: Frame) -> None:
        """A request, to all of them."""
        for rank, peer in self._peers.items():
            peer.phase, peer.is_waiting = Kind(frame.kind).name.lower(), False
            try:
                send_body(peer.stream, frame.kind, frame.sequence, frame.body)
            except OSError:
                self._lost(rank)

    def receive(self) -> dict[int, Frame]:
        """An answer of each."""
        return {rank: answers.get() for rank, answers in self._answers.items()}

    def behind(self) -> list[int]:
        """The ranks that are waited for by others, and not the other way round."""
        return [rank for rank, peer in self._peers.items() if not peer.is_waiting]

    def silent(self) -> list[int]:
        """Those of them that have said nothing for long: who shares a pass waits for them."""
        return [rank for rank in self.behind() if self._silent_s(rank) > SILENT_S]

    def _silent_s(self, rank: int) -> float:
        return time.monotonic() - self._peers[rank].heard

    def said(self, rank: int) -> str:
        """What a rank is at."""
        peer, silent_s = self._peers[rank], self._silent_s(rank)
        silent = f", and silent for {silent_s:.0f} seconds" if silent_s > SILENT_S else ""
        return f"rank {rank}, which is at {peer.phase}{silent}"

    def fail(self, rank: int, reason: str) -> None:
        """Ends this process, and so the worker: a rank has ended, or is no use any more."""
        with self._failing:
            self._tell_ra3(rank, reason)
            os._exit(1)

    def _lost(self, rank: int) -> None:
        self.fail(rank, f"has ended (it was at: {self._peers[rank].phase})")

    def _listen(self, rank: int) -> None:
        peer = self._peers[rank]
        while True:
            try:
                frame = receive(peer.stream)
            except (WireError, OSError):
                self._lost(rank)
                return
            peer.heard = time.monotonic()
            if frame.kind == Kind.PHASE:
                peer.phase, [is_waiting] = frame.columns
                peer.is_waiting = bool(is_waiting)
                continue
            if is_failure(frame.kind, frame.columns):
                time.sleep(GRACE_S)
                self.fail(rank, f"has failed (it was at: {peer.phase}): {frame.columns[2]}")
            peer.is_waiting = True
            self._answers[rank].put(frame)


def is_failure(kind: int, columns: list) -> bool:
    """True for an error after which nobody knows what a rank has done."""
    return kind == Kind.ERROR and columns[0][0] == FAILURE


def merge(asked: int, own: tuple[Kind, Columns], others: dict[int, Frame]) -> tuple[Kind, Columns]:
    """The answer of all ranks."""
    kind, columns = own
    errors = {rank: frame.columns for rank, frame in others.items() if frame.kind == Kind.ERROR}
    if kind == Kind.ERROR:
        errors[0] = columns_of(columns.body())
    for rank in sorted(errors):
        [code], values, text = errors[rank]
        if code != OTHER:
            text = f"rank {rank}: {text}" if rank and code == FILE else text
            return Kind.ERROR, Columns().numbers(1, [code]).numbers(4, values).text(text)
    if asked not in JOINED:
        return own
    types, are_runs = JOINED[asked]
    parts = [columns_of(columns.body()), *(frame.columns for frame in others.values())]
    joined = Columns()
    for at, (number, is_run) in enumerate(zip(types, are_runs, strict=True)):
        columns_at = [part[at] for part in parts]
        values = [value for column in columns_at for value in column]
        joined.numbers(number, values if is_run else [sum(values)])
    return Kind.ANSWER, joined


def greet(own: dict, others: dict[int, Frame]) -> dict:
    """What the worker says of itself: the first fault of a rank is its fault."""
    for rank, frame in others.items():
        theirs = json.loads(frame.columns[0])
        for name in ("hash", "torch", "transformers"):
            if theirs[name] != own[name] and not theirs["fault"]:
                theirs["fault"] = f"its {name} is {theirs[name]}, and that of rank 0 {own[name]}"
        if theirs["fault"]:
            return {**own, "fault": f"rank {rank}: {theirs['fault']}"}
    return own
