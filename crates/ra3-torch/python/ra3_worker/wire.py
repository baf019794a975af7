"""Frames: a header, a checksum, and columns of numbers. The standard library is enough for them.

Header: magic u32, kind u16, flags u16 (0), sequence u64, bytes of the body u64, CRC-32 of the body
u32; all little-endian. Body: number of columns u32, then for each its type u32 and count u64, then
their numbers, one column after the other.
"""

from __future__ import annotations

import enum
import socket
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

PROTOCOL = 3
MAGIC = 0x3341_5452
HEADER = struct.Struct("<IHHQQI")
COLUMN = struct.Struct("<IQ")
BYTES_MAX = 1 << 36
# Types of columns: text, u32, f32, u64, f64.
FORMATS = {0: "B", 1: "I", 2: "f", 3: "Q", 4: "d"}


class Kind(enum.IntEnum):
    """What a frame asks for, or what it answers."""

    HELLO = 1
    LOAD = 2
    SAVE = 3
    LOAD_STATE = 4
    COPY = 5
    DROP = 6
    FREEZE = 7
    RESET = 8
    GROW = 9
    RESTART = 10
    RUN_BEGIN = 11
    MOVES = 12
    RUN_END = 13
    SCORE = 14
    UPDATE = 15
    REHEARSE = 16
    ANSWER = 32
    ERROR = 33
    PHASE = 34


class WireError(Exception):
    """The stream ended, or carried something that is no frame."""


@dataclass
class Frame:
    """A frame as it was read: each column is a list of numbers, or a text."""

    kind: int
    sequence: int
    columns: list[list] = field(default_factory=list)
    body: bytes | memoryview = b""


@dataclass
class Columns:
    """A body as it is put together."""

    parts: list[tuple[int, int, bytes]] = field(default_factory=list)

    def text(self, value: str) -> Columns:
        """Appends a text."""
        data = value.encode()
        self.parts.append((0, len(data), data))
        return self

    def numbers(self, kind: int, values: Sequence[float]) -> Columns:
        """Appends numbers of the type of column `kind`."""
        data = struct.pack(f"<{len(values)}{FORMATS[kind]}", *values)
        self.parts.append((kind, len(values), data))
        return self

    def body(self) -> bytes:
        """All of it as bytes."""
        head = struct.pack("<I", len(self.parts))
        sizes = b"".join(COLUMN.pack(kind, count) for kind, count, _ in self.parts)
        return head + sizes + b"".join(data for _, _, data in self.parts)


def send(stream: socket.socket, kind: int, sequence: int, columns: Columns) -> None:
    """Writes a frame."""
    send_body(stream, kind, sequence, columns.body())


def send_body(stream: socket.socket, kind: int, sequence: int, body: bytes | memoryview) -> None:
    """Writes a frame whose columns are bytes already."""
    header = HEADER.pack(MAGIC, kind, 0, sequence, len(body), zlib.crc32(body))
    stream.sendall(header + bytes(body))


def receive(stream: socket.socket, n_bytes_max: int = BYTES_MAX) -> Frame:
    """Reads a frame."""
    magic, kind, _, sequence, n_bytes, crc = HEADER.unpack(_exactly(stream, HEADER.size))
    if magic != MAGIC or n_bytes > n_bytes_max:
        raise WireError("what came is no frame")
    body = _exactly(stream, n_bytes)
    if zlib.crc32(body) != crc:
        raise WireError("a frame is damaged: its checksum is another")
    return Frame(kind, sequence, columns_of(body), body)


def columns_of(body: bytes | memoryview) -> list[list]:
    """The columns of a body."""
    body = memoryview(body)
    (n_columns,) = struct.unpack_from("<I", body)
    at = 4 + n_columns * COLUMN.size
    columns = []
    for index in range(n_columns):
        kind, count = COLUMN.unpack_from(body, 4 + index * COLUMN.size)
        end = at + count * struct.calcsize("<" + FORMATS[kind])
        data = body[at:end]
        columns.append(bytes(data).decode() if kind == 0 else data.cast(FORMATS[kind]).tolist())
        at = end
    return columns


def _exactly(stream: socket.socket, n_bytes: int) -> memoryview:
    buffer = memoryview(bytearray(n_bytes))
    at = 0
    while at < n_bytes:
        n_read = stream.recv_into(buffer[at:])
        if n_read == 0:
            raise WireError("the stream has ended")
        at += n_read
    return buffer
