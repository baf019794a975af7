"""Ranks of which each has a part of every tensor do what one process does, to rounding."""

import copy
import os
import signal
import time

import pytest
import torch
from conftest import write_model
from test_model import sequences
from test_ranks import (
    BATCHES,
    Worker,
    check_against_one_process,
    course,
    scored,
    trained,
    weights_far,
)

from ra3_worker import hub, wire
from ra3_worker.ranks import Ranks
from ra3_worker.sharding import Sharding
from ra3_worker.wire import Columns, Kind

FULL = {"sharding": "full"}
LORA = {"rank": 4, "alpha": 8.0, "target_modules": ["all-linear"], "seed": 3}


def asked(worker, model, folder):
    """`course`, and what becomes of a copy, of added rows, and of a frozen model."""
    found = course(worker, model, folder)
    worker.ask(Kind.COPY, Columns().numbers(1, [1]).numbers(1, [5]))
    copied = worker.weights(folder / "copy", 5)
    for name, value in found[4].items():
        assert torch.equal(value, copied[name]), name
    worker.ask(Kind.DROP, Columns().numbers(1, [5]))
    return found


@pytest.mark.parametrize(("tied", "more"), [(True, {}), (False, {"recompute": True})])
def test_parts_do_what_the_whole_does(tmp_path, tied, more):
    # 49 tokens: no number of ranks but one divides the rows.
    model = write_model(tmp_path / "model", tied=tied, vocab_size=49)
    check_against_one_process(tmp_path, model, asked, lambda n: {**more, **(FULL if n > 1 else {})})


def row_noise(n_rows, n_matrices, columns):
    for _ in range(n_matrices):
        columns.numbers(4, [0.5, -1.0] * (n_rows * 16))
    return columns


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_added_to_parts_and_adapters_train_beside_them(tmp_path, tied):
    model = write_model(tmp_path / "model", tied=tied)
    n_matrices = 1 if tied else 2
    found = {}
    for more in ({}, {"lora": LORA}):
        for n_processes in (1, 2):
            sharding = FULL if n_processes > 1 else {}
            with Worker(tmp_path, n_processes, **sharding, **more) as worker:
                worker.load(model)
                grow = Columns().numbers(1, [1]).numbers(1, [51])
                worker.ask(Kind.GROW, row_noise(3, n_matrices, grow))
                restart = Columns().numbers(1, [1]).numbers(1, [7, 5])
                worker.ask(Kind.RESTART, row_noise(2, n_matrices, restart))
                for batch in BATCHES:
                    worker.ask(Kind.UPDATE, trained(batch))
                scores = worker.ask(Kind.SCORE, scored(BATCHES[0]))[0]
                worker.ask(Kind.COPY, Columns().numbers(1, [1]).numbers(1, [2]))
                worker.ask(Kind.FREEZE, Columns().numbers(1, [1]))
                assert worker.ask(Kind.SCORE, scored(BATCHES[0]))[0] == scores
                name = f"{n_processes}-{len(more)}"
                found[n_processes] = worker.weights(tmp_path / name, saved=1)
                copied = worker.weights(tmp_path / f"copy-{name}", 2, saved=1)
                assert all(
                    torch.equal(value, copied[key]) for key, value in found[n_processes].items()
                )
        assert found[1]["model.embed_tokens.weight"].shape[0] == 51
        assert weights_far(found[2], found[1]) <= 1e-5


def test_what_is_not_finite_moves_no_part(tmp_path):
    with Worker(tmp_path, 2, **FULL) as worker:
        worker.load(write_model(tmp_path / "model"))
        worker.ask(Kind.UPDATE, trained(BATCHES[0]))
        before = worker.weights(tmp_path / "before")
        bad = copy.deepcopy(BATCHES[3])
        bad[-1].weights[-1] = float("nan")
        frame = worker.frame(Kind.UPDATE, trained(bad))
        assert frame.kind == Kind.ERROR
        [code], [value], text = frame.columns
        assert code == hub.LOSS and value != value and text == "rank 1, at update"
        bad[-1].weights[-1] = 3e38
        frame = worker.frame(Kind.UPDATE, trained(bad))
        assert frame.kind == Kind.ERROR
        after = worker.weights(tmp_path / "after")
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        worker.ask(Kind.UPDATE, trained(BATCHES[0]))


@pytest.mark.parametrize("lora", [None, LORA])
def test_short_weights_of_parts_have_the_bits_of_the_whole(tmp_path, lora):
    model = write_model(tmp_path / "model")
    found = []
    for n_processes in (1, 2):
        more = {"dtype": "bfloat16", "lora": lora, "n_tokens_micro": 40}
        with Worker(tmp_path, n_processes, **more, **(FULL if n_processes > 1 else {})) as worker:
            worker.load(model)
            before = worker.ask(Kind.SCORE, scored(BATCHES[0]))[0]
            losses = [worker.ask(Kind.UPDATE, trained(batch))[0][0] for batch in BATCHES]
            found.append((before, losses, worker.ask(Kind.SCORE, scored(BATCHES[0]))[0]))
    (before, losses, after), (same, near, now) = found
    assert same == before and near == pytest.approx(losses, rel=1e-2)
    assert max(abs(a - b) for a, b in zip(now, after, strict=True)) < 0.2


def test_a_rank_that_hangs_in_a_shared_pass_is_named(tmp_path):
    with Worker(tmp_path, 2, is_real=True, **FULL) as worker:
        worker.load(write_model(tmp_path / "model"))
        os.kill(worker.processes()[1], signal.SIGSTOP)
        worker.send(Kind.UPDATE, trained(BATCHES[0]))
        worker.stream.settimeout(15)
        while "silent" not in (worker.phases or [[""]])[-1][0]:
            worker.phases.append(wire.receive(worker.stream).columns)
        text, behind = worker.phases[-1]
        assert behind == [1] and "rank 1, which is at update, and silent for " in text


def test_a_rank_that_is_killed_in_a_shared_pass_is_named(tmp_path):
    with Worker(tmp_path, 2, is_real=True, **FULL) as worker:
        worker.load(write_model(tmp_path / "model"))
        worker.send(Kind.UPDATE, trained(sequences(8, 60, 130)))
        time.sleep(0.1)
        os.kill(worker.processes()[1], signal.SIGKILL)
        frame = worker.answer()
        assert frame.kind == Kind.ERROR
        [code], [rank], text = frame.columns
        assert (code, rank, text) == (hub.RANK, 1.0, "has ended (it was at: update)")


def test_every_row_has_one_rank():
    for n_rows in (0, 1, 5, 48, 49):
        for size in (1, 2, 3, 7):
            spans = [Sharding(None, Ranks(rank, size)).span(n_rows) for rank in range(size)]
            assert [row for start, end in spans for row in range(start, end)] == list(range(n_rows))
            parts = torch.arange(n_rows).chunk(size) if n_rows else []
            assert [len(part) for part in parts] == [end - start for start, end in spans][
                : len(parts)
            ]
