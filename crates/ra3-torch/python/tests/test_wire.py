"""Frames go both ways, and what is no frame is refused."""

import random
import socket
import struct

import pytest

from ra3_worker import wire
from ra3_worker.main import fault
from ra3_worker.wire import Columns, WireError


def test_frames_go_both_ways():
    rng = random.Random(1)
    here, there = socket.socketpair()
    for sequence in range(20):
        numbers = [rng.getrandbits(32) for _ in range(rng.randrange(50))]
        floats = [rng.random() for _ in range(rng.randrange(50))]
        columns = Columns().numbers(1, numbers).text("ä\n").numbers(4, floats)
        wire.send(here, wire.Kind.MOVES, sequence, columns)
        frame = wire.receive(there)
        assert (frame.kind, frame.sequence) == (wire.Kind.MOVES, sequence)
        assert frame.columns == [numbers, "ä\n", floats]


def test_what_is_no_frame_is_refused():
    columns = Columns().numbers(1, [1, 2, 3])
    body = columns.body()
    good = wire.HEADER.pack(wire.MAGIC, 1, 0, 1, len(body), 0) + body
    for bad in [good, b"x" * 40, good[:20], b""]:
        here, there = socket.socketpair()
        here.sendall(bad)
        here.close()
        with pytest.raises(WireError):
            wire.receive(there)
    assert struct.calcsize(wire.HEADER.format) == 28


def test_a_version_that_will_not_do_is_named_with_the_line_to_type():
    found = {"torch": "2.11.0+cpu", "transformers": "5.17", "safetensors": "0.8", "numpy": "2.4"}
    assert fault(found) == ""
    assert "torch is 2.10.1, and has to be 2.11" in fault({**found, "torch": "2.10.1"})
    missing = fault({**found, "torch": "", "numpy": ""})
    assert missing.startswith("torch is not installed, numpy is not installed: type `")
    assert "-m pip install --upgrade torch transformers safetensors numpy" in missing
