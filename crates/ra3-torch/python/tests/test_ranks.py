"""Several processes do what one does: the same draws and scores, the same update to rounding."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
import torch
from conftest import tensors_of, write_model
from test_model import sequences

from ra3_worker import hub, wire
from ra3_worker.ranks import Ranks, places
from ra3_worker.wire import Columns, Kind

PACKAGE = Path(__file__).parents[1]
RUN = ["-m", "torch.distributed.run", "--max-restarts=0", "--local-addr=127.0.0.1"]
STANDALONE = [*RUN, "--standalone"]
SETTINGS = {"device": "cpu", "dtype": "float32", "n_threads": 1, "weight_decay": 0.1}
SETTINGS |= {"clip_norm": 1.0, "n_tokens_micro": 100, "cache_bytes_max": 1 << 26}

# Where others use the processors too, libraries take minutes to be there.
PATIENCE_S = 600


class Worker:
    """The other end of a worker: `ra3` as it is seen from here."""

    def __init__(self, folder, n_processes, lines=None, tcp=False, is_real=False, **settings):
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        if tcp:
            listener = socket.create_server(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        else:
            address = str(folder / f"{time.monotonic_ns()}")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
            listener.listen()
        torchrun = [*STANDALONE, f"--nproc-per-node={n_processes}"] if n_processes > 1 else []
        lines = lines or [[*torchrun, "-m", "ra3_worker.main"]]
        python = sys.executable if is_real else forked.program()
        environment = {"RA3_WORKER_LOG": str(self.log), "RA3_TOKEN": "secret"}
        environment |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        # What torchrun starts.
        environment["PYTHON_EXEC"] = python
        self.children = [
            subprocess.Popen(
                [python, *line, address],
                cwd=PACKAGE,
                env={**os.environ, **environment},
                stdout=self.log.open("ab"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for line in lines
        ]
        listener.settimeout(PATIENCE_S)
        self.stream, _ = listener.accept()
        self.stream.settimeout(PATIENCE_S)
        self.sequence, self.phases = 0, []
        if tcp:
            assert wire.receive(self.stream).columns == ["secret"]
        text = json.dumps({**SETTINGS, **settings})
        self.greeting = json.loads(self.ask(Kind.HELLO, Columns().text(text))[0])

    def ask(self, kind, columns):
        frame = self.frame(kind, columns)
        assert frame.kind in (Kind.ANSWER, Kind.HELLO), frame.columns
        return frame.columns

    def frame(self, kind, columns):
        self.send(kind, columns)
        return self.answer()

    def send(self, kind, columns):
        self.sequence += 1
        with contextlib.suppress(BrokenPipeError):
            wire.send(self.stream, kind, self.sequence, columns)

    def answer(self):
        while True:
            frame = wire.receive(self.stream)
            assert frame.sequence == self.sequence
            if frame.kind != Kind.PHASE:
                return frame
            self.phases.append(frame.columns)

    def load(self, folder, slot=1):
        self.ask(Kind.LOAD, Columns().numbers(1, [slot]).text(str(folder)))

    def weights(self, folder, slot=1, saved=2):
        saved = Columns().numbers(1, [slot]).numbers(1, [saved]).text(str(folder))
        self.ask(Kind.SAVE, saved)
        return {name: value for name, value in tensors_of(folder).items() if not is_moment(name)}

    def go_on(self, folder, slot=1):
        self.ask(Kind.LOAD_STATE, Columns().numbers(1, [slot]).text(str(folder)))

    def processes(self):
        """Process numbers by rank."""
        found = {}
        for place in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (place / "environ").read_bytes().split(b"\0")
                if f"RA3_WORKER_LOG={self.log}".encode() in words:
                    ranks = [word[5:] for word in words if word.startswith(b"RANK=")]
                    found.update({int(rank): int(place.name) for rank in ranks})
        return found

    def end(self):
        for child in self.children:
            child.kill()
            child.wait()
        self.stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def is_moment(name):
    return name.startswith(("first.", "second.")) or name == "n_steps"


def batch_columns(examples, columns):
    """As `ra3` writes examples."""
    restricted = [list(example.choices.items()) for example in examples]
    columns.numbers(1, [len(example.tokens) for example in examples])
    columns.numbers(1, [len(example.old_logprobs) for example in examples])
    columns.numbers(1, [len(choices) for choices in restricted])
    columns.numbers(1, [token for example in examples for token in example.tokens])
    columns.numbers(2, [weight for example in examples for weight in example.weights])
    columns.numbers(2, [old for example in examples for old in example.old_logprobs])
    flat = [pair for choices in restricted for pair in choices]
    columns.numbers(1, [position for position, _ in flat])
    columns.numbers(1, [len(choices) for _, choices in flat])
    return columns.numbers(1, [token for _, choices in flat for token in choices])


# The learning rate, of which AdamW's steps have the size.
STEP = 1e-2


def trained(examples, slot=1):
    return batch_columns(examples, Columns().numbers(1, [slot]).numbers(4, [0, 0, 0, STEP]))


def scored(examples):
    return batch_columns(examples, Columns().numbers(1, [1]))


def draws(worker, n_rows):
    """What rows draw that begin in threes alike, three tokens and then up to six more."""
    worker.ask(Kind.RUN_BEGIN, Columns().numbers(1, [1]))

    def move(rows, kind, fed):
        n, n_drawing = len(rows), len(rows) if kind else 0
        columns = Columns().numbers(1, rows).numbers(1, [kind] * n)
        columns.numbers(1, [len(tokens) for tokens in fed])
        columns.numbers(3, [1000 + row for row in rows])
        columns.numbers(1, [token for tokens in fed for token in tokens])
        columns.numbers(2, [1.3, 0.0] * n_drawing)
        columns.numbers(1, [0, 4, 0, 1, 0] * n_drawing)
        return columns.numbers(1, []).numbers(1, [7] * n_drawing).numbers(1, [])

    found, n_busy = {row: [] for row in range(n_rows)}, n_rows
    moves = move(list(range(n_rows)), 1, [[row // 3 + 1, 5, 9] for row in range(n_rows)])
    while n_busy:
        rows, sizes, _, tokens, logprobs = worker.ask(Kind.MOVES, moves)
        at, again, done = 0, [], []
        for row, size in zip(rows, sizes, strict=True):
            found[row] += [*tokens[at : at + size], *logprobs[at : at + size]]
            at += size
            (done if len(found[row]) > 12 else again).append(row)
        n_busy -= len(done)
        moves = move(again, 1, [[11]] * len(again))
        if not again and n_busy:
            moves = move(done, 0, [[]] * len(done))
    [n_run], [flops] = worker.ask(Kind.RUN_END, Columns())
    assert n_run > 0 and flops > 0
    return found


def far(found, expected):
    assert found.keys() == expected.keys()
    square = sum((found[name] - value).square().sum() for name, value in expected.items())
    return float((square / sum(value.square().sum() for value in expected.values())).sqrt())


def weights_far(found, expected):
    """As `far`, of weights that AdamW has moved. Where a gradient is zero but for rounding it moves
    a weight by up to a step all the same, hither or thither: at most one of five thousand is left
    out for that, and none is further away than the steps of four updates.
    """
    assert found.keys() == expected.keys()
    apart = torch.cat([(found[name] - expected[name]).abs().flatten() for name in expected])
    apart = apart.sort().values
    assert apart[-1] <= 4 * STEP
    norm = torch.cat([value.flatten() for value in expected.values()]).norm()
    return float(apart[: len(apart) - len(apart) // 5000].norm() / norm)


BATCHES = [sequences(1, 7), sequences(2, 1, 130), sequences(3, 2), sequences(4, 6)]


def course(worker, model, folder):
    """Draws, scores and updates; the batches are odd, of one, and of fewer than the ranks."""
    worker.load(model)
    first = draws(worker, 7)
    scores = [worker.ask(Kind.SCORE, scored(batch))[0] for batch in BATCHES]
    stats = [worker.ask(Kind.UPDATE, trained(batch)) for batch in BATCHES]
    return first, scores, stats, draws(worker, 1), worker.weights(folder)


def moments_of(folder):
    """The optimizer's of a state."""
    return {name: value for name, value in tensors_of(folder).items() if is_moment(name)}


def continued(worker, model, saved, folder):
    """The weights after one more update of what was saved."""
    worker.load(model, 2)
    worker.go_on(saved, 2)
    worker.ask(Kind.UPDATE, trained(BATCHES[0], 2))
    return worker.weights(folder, 2)


def check_against_one_process(folder, model, run, settings_of):
    """Runs of one, two, two and three processes do the same, by `run` and the settings of each."""
    found, went_on = [], []
    for index, n_processes in enumerate((1, 2, 2, 3)):
        with Worker(folder, n_processes, **settings_of(n_processes)) as worker:
            assert worker.greeting["fault"] == ""
            assert worker.greeting["n_processes"] == n_processes
            own = folder / f"saved-{index}"
            found.append(run(worker, model, own))
            # By this one what it has saved itself, and what was saved by one process, or by two.
            straight = continued(worker, model, own, folder / f"more-{index}")
            worker.ask(Kind.UPDATE, trained(BATCHES[0]))
            for name, value in worker.weights(folder / f"straight-{index}").items():
                assert torch.equal(value, straight[name]), name
            other = folder / f"saved-{1 if index == 3 else 0}"
            went_on.append(continued(worker, model, other, folder / f"went-on-{index}"))
    assert max(weights_far(other, went_on[0]) for other in went_on[1:]) <= 1e-5
    moments = [moments_of(folder / f"saved-{index}") for index in range(4)]
    assert all(far(other, moments[0]) <= 1e-5 for other in moments[1:])
    alone, two, again, three = found
    assert two[:4] == again[:4]
    for name, value in two[4].items():
        assert torch.equal(value, again[4][name]), name
    for other in (two, three):
        # Draws and scores have the bits of one process.
        assert other[0] == alone[0] and other[1] == alone[1]
        assert weights_far(other[4], alone[4]) <= 1e-5
        for (mine, [_, n_drawn]), (theirs, [_, n_too]) in zip(other[2], alone[2], strict=True):
            assert mine[:5] == pytest.approx(theirs[:5], rel=1e-5) and n_drawn == n_too


def test_ranks_do_what_one_process_does(tmp_path):
    model = write_model(tmp_path / "model")
    check_against_one_process(tmp_path, model, course, lambda _: {})


def test_what_is_not_finite_is_of_a_rank_and_moves_nothing(tmp_path):
    with Worker(tmp_path, 2) as worker:
        worker.load(write_model(tmp_path / "model"))
        worker.ask(Kind.UPDATE, trained(BATCHES[0]))
        before = worker.weights(tmp_path / "before")
        bad = sequences(5)
        bad[-1].weights[-1] = float("nan")
        frame = worker.frame(Kind.UPDATE, trained(bad))
        assert frame.kind == Kind.ERROR
        [code], [value], text = frame.columns
        assert code == hub.LOSS and value != value and text == "rank 1, at update"
        after = worker.weights(tmp_path / "after")
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        worker.ask(Kind.UPDATE, trained(BATCHES[0]))


def test_a_file_that_is_missing_ends_nothing(tmp_path):
    with Worker(tmp_path, 2) as worker:
        missing = Columns().numbers(1, [1]).text(str(tmp_path / "none"))
        frame = worker.frame(Kind.LOAD, missing)
        assert frame.columns[0] == [hub.FILE]
        worker.load(write_model(tmp_path / "model"))


def is_gone(number):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_rank_that_is_killed_is_named(tmp_path, is_busy):
    with Worker(tmp_path, 3, is_real=True) as worker:
        worker.load(write_model(tmp_path / "model"))
        numbers = worker.processes()
        assert sorted(numbers) == [0, 1, 2]
        large = sequences(8, 60, 130)
        if is_busy:
            worker.send(Kind.UPDATE, trained(large))
            time.sleep(0.05)
            os.kill(numbers[1], signal.SIGKILL)
        else:
            os.kill(numbers[1], signal.SIGKILL)
            # It is said before anything is asked.
            assert select.select([worker.stream], [], [], 60)[0]
            worker.send(Kind.UPDATE, trained(large))
        frame = worker.answer()
        assert frame.kind == Kind.ERROR
        [code], [rank], text = frame.columns
        at = "update" if is_busy else "load"
        assert (code, rank, text) == (hub.RANK, 1.0, f"has ended (it was at: {at})")
        assert all(map(is_gone, numbers.values()))


def test_a_rank_that_hangs_is_named_and_ends_with_the_others(tmp_path):
    with Worker(tmp_path, 2, is_real=True) as worker:
        worker.load(write_model(tmp_path / "model"))
        numbers = worker.processes()
        os.kill(numbers[1], signal.SIGSTOP)
        worker.send(Kind.UPDATE, trained(BATCHES[0]))
        worker.stream.settimeout(9)
        with pytest.raises(TimeoutError):
            while True:
                worker.phases.append(wire.receive(worker.stream).columns)
                if "silent" in worker.phases[-1][0]:
                    raise TimeoutError
        text, behind = worker.phases[-1]
        assert behind == [1]
        assert text.startswith("update, waiting for rank 1, which is at update, and silent for ")
        worker.end()
        assert all(map(is_gone, numbers.values()))


def test_two_nodes_over_tcp(tmp_path):
    port = 20_000 + os.getpid() % 20_000
    lines = [
        [
            *RUN,
            "--nnodes=2",
            f"--node-rank={node}",
            "--master-addr=127.0.0.1",
            f"--master-port={port}",
            "--nproc-per-node=1",
            "-m",
            "ra3_worker.main",
        ]
        for node in range(2)
    ]
    model = write_model(tmp_path / "model")
    with Worker(tmp_path, 2) as worker:
        near = course(worker, model, tmp_path / "near")
    with Worker(tmp_path, 2, lines, tcp=True, is_real=True) as worker:
        numbers = worker.processes()
        assert course(worker, model, tmp_path / "far")[:4] == near[:4]
        os.kill(numbers[1], signal.SIGKILL)
        frame = worker.frame(Kind.UPDATE, trained(BATCHES[0]))
        assert frame.columns[0] == [hub.RANK] and frame.columns[1] == [1.0]
        assert all(map(is_gone, numbers.values()))


def test_every_rank_has_a_run_of_about_the_same_size():
    assert places([], 3) == []
    assert places([5], 3) == [1]
    assert places([1] * 7, 2) == [0, 0, 0, 1, 1, 1, 1]
    assert places([1, 1, 10, 1, 1], 2) == [0, 0, 1, 1, 1]
    assert places([0, 3, 0, 3, 0], 2) == [0, 0, 0, 1, 1]
    assert places([0, 0], 2) == [0, 0]
    for n_ranks in (1, 2, 3, 5):
        found = [Ranks(rank, n_ranks).own(range(9), [3] * 9) for rank in range(n_ranks)]
        assert [item for own in found for item in own] == list(range(9))
