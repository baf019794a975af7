"""Files of tensors: one that has them whole, or one of each rank, which has its own rows.

Parts are laid out as `torch.distributed.checkpoint` lays out safetensors, and its
`HuggingFaceStorageReader` reads them: the header of a file says where the rows of its tensors
begin. Its writer is not used: it keeps a second copy of a part in memory, and ranks tell each other
in pickles what they write, where here nobody has to know of another's part.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .model import ModelError
from .ranks import Ranks

# What safetensors call them.
CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
# What `torch.distributed.checkpoint` calls them.
INFO, OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"


@dataclass(frozen=True)
class Piece:
    """Rows of a tensor from `start` on; all that there are, if it is whole."""

    rows: Tensor
    start: int = 0


def write(path: Path, tensors: dict[str, Tensor], **header: str) -> None:
    """A file of tensors; what was there before is there until all of it is."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {"format": "pt", **header}
    try:
        whole(path, lambda place: save_file(tensors, place, metadata=header))
    except SafetensorError as error:
        # The disk is full, say.
        raise ModelError(f"{path}: {error}") from error


def write_each(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterable[tuple[str, Tensor]],
) -> None:
    """As `write`, of tensors of these shapes in this order, which are had one after the other: none
    is kept.
    """
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def fill(place: Path) -> None:
        with place.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, value in tensors:
                own = value.detach().to(dtype).cpu().contiguous()
                file.write(own.view(torch.uint8).numpy().data)

    whole(path, fill)


def write_part(path: Path, pieces: dict[str, Piece], ranks: Ranks) -> None:
    """A rank's part of what all of them write in the place of one file."""
    kept = {name: piece for name, piece in pieces.items() if len(piece.rows)}
    info = {
        name: {OFFSETS: [piece.start] + [0] * (piece.rows.ndim - 1)} for name, piece in kept.items()
    }
    own = part_of(path, ranks.rank + 1, ranks.size)
    write(own, {name: piece.rows for name, piece in kept.items()}, **{INFO: json.dumps(info)})


def part_of(path: Path, number: int | str, n: int | str) -> Path:
    """The name of a part of what has this name where it is one file; numbers begin at 1."""
    numbers = [f"{at:05}" if isinstance(at, int) else at for at in (number, n)]
    return path.with_name(f"{path.stem}.part-{numbers[0]}-of-{numbers[1]}{path.suffix}")


def files(path: Path) -> list[Path]:
    """The file of this name, or all of its parts; none if nothing was written."""
    found = sorted(path.parent.glob(part_of(path, "*", "*").name))
    one = [path] if path.exists() else []
    if one or not found:
        wanted = one
    else:
        n = int(found[0].stem.rpartition("-")[2])
        wanted = [part_of(path, number, n) for number in range(1, n + 1)]
    if missing := [part.name for part in wanted if part not in one + found]:
        raise ModelError(f"{path.parent}: {', '.join(missing)} is missing")
    if len(one + found) > len(wanted):
        raise ModelError(f"{path.parent}: has {path.stem} of more than one state")
    return wanted


class Kept:
    """The tensors of a file or of its parts, each read when it is asked for, and of some its own
    rows only.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        """`prefix` is how all names begin there, and not here."""
        self._pieces: dict[str, list] = {}
        for file in files(path) or [path]:
            try:
                self._open(file, prefix)
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                raise ModelError(f"{file}: {error}") from error
        for name, pieces in self._pieces.items():
            pieces.sort(key=lambda piece: piece[0])
            end = 0
            for start, rows in pieces:
                if start != end:
                    raise ModelError(f"{path}: rows of {name} are missing from its parts")
                end = start + rows.get_shape()[0]

    def _open(self, file: Path, prefix: str) -> None:
        opened = safe_open(file, framework="pt")
        info = json.loads((opened.metadata() or {}).get(INFO, "{}"))
        names = opened.keys()
        for name in names:
            start = info[name][OFFSETS][0] if info else 0
            pieces = self._pieces.setdefault(name.removeprefix(prefix), [])
            pieces.append((start, opened.get_slice(name)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Their names and shapes."""
        return {name: _shape(pieces) for name, pieces in self._pieces.items()}

    def rows(self, name: str, span: tuple[int, int]) -> Tensor:
        """Some rows of one of them."""
        pieces, (first, last), found = self._pieces[name], span, []
        for start, rows in pieces:
            end = start + rows.get_shape()[0]
            if start < last and first < end:
                found.append(rows[max(first, start) - start : min(last, end) - start])
        if len(found) == 1:
            return found[0]
        # A rank may have no row of a small tensor.
        return torch.cat(found) if found else pieces[0][1][:0]


def _shape(pieces: list) -> tuple[int, ...]:
    start, rows = pieces[-1]
    n_rows, *more = rows.get_shape()
    return (start + n_rows, *more)


def whole(path: Path, fill: Callable[[Path], object]) -> None:
    """Writes beside a file and takes its name when it is on disk."""
    beside = path.with_name(f".writing-{path.name}")
    try:
        fill(beside)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
