"""States of which each rank writes its part: any number of ranks goes on from them."""

import pytest
import torch
from conftest import tensors_of, write_model
from safetensors.torch import load_file
from test_ranks import BATCHES, Worker, trained

from ra3_worker import hub, parts, state
from ra3_worker import model as models
from ra3_worker.model import ModelError, Settings
from ra3_worker.parts import Kept, Piece
from ra3_worker.ranks import Ranks
from ra3_worker.sharding import Sharding
from ra3_worker.wire import Columns, Kind

# Each goes on from what the one before it has written.
CHAIN = [(1, "none"), (2, "none"), (3, "full"), (2, "full"), (3, "none"), (1, "none")]


def saved_by(worker, folder):
    worker.weights(folder)
    return tensors_of(folder)


def test_a_state_is_the_same_by_any_number_of_ranks(tmp_path):
    # No number of ranks but one divides its rows, and heads of keys have fewer than three have.
    model = write_model(tmp_path / "model", vocab_size=49)
    before, wanted = None, None
    for index, (n_processes, sharding) in enumerate(CHAIN):
        own = tmp_path / f"state-{index}"
        with Worker(tmp_path, n_processes, sharding=sharding) as worker:
            worker.load(model)
            if before:
                worker.go_on(before)
            else:
                for batch in BATCHES[:2]:
                    worker.ask(Kind.UPDATE, trained(batch))
            found = saved_by(worker, own)
            if sharding == "full":
                # What is finished is a plain checkpoint.
                worker.weights(own / "finished", saved=state.FINISHED)
        wanted, before = wanted or found, own
        assert found["n_steps"].tolist() == [2]
        assert found.keys() == wanted.keys()
        assert all(torch.equal(value, wanted[name]) for name, value in found.items())
        check_files(own, n_processes, sharding)


def check_files(folder, n, sharding):
    def names(path):
        if n == 1:
            return {path}
        return {f"{path[:-12]}.part-0000{at + 1}-of-0000{n}.safetensors" for at in range(n)}

    whole = load_file(folder.parent / "state-0" / state.WEIGHTS)
    if sharding == "full":
        weights = names(state.WEIGHTS)
        for at, name in enumerate(sorted(weights)):
            own = Sharding(None, Ranks(at, n))
            for key, rows in load_file(folder / name).items():
                start, end = own.span(len(whole[key]))
                assert torch.equal(rows, whole[key][start:end])
        finished = {path.name for path in (folder / "finished").iterdir()}
        assert finished == {state.CONFIG, state.WEIGHTS}
        assert load_file(folder / "finished" / state.WEIGHTS).keys() == whole.keys()
    else:
        weights = {state.WEIGHTS}
    found = {path.name for path in folder.iterdir() if path.is_file()}
    assert found == {state.CONFIG, *weights, *names(state.TRAINING)}


def test_a_part_that_cannot_be_written_is_of_a_rank_and_ends_nothing(tmp_path):
    with Worker(tmp_path, 2, sharding="full") as worker:
        model = write_model(tmp_path / "model")
        worker.load(model)
        worker.ask(Kind.UPDATE, trained(BATCHES[0]))
        own = tmp_path / "state"
        # Where rank 1 writes beside its file there is a folder.
        beside = parts.part_of(own / state.WEIGHTS, 2, 2)
        beside.with_name(f".writing-{beside.name}").mkdir(parents=True)
        frame = worker.frame(Kind.SAVE, Columns().numbers(1, [1]).numbers(1, [2]).text(str(own)))
        assert frame.kind == Kind.ERROR and frame.columns[0] == [hub.FILE]
        assert frame.columns[2].startswith("rank 1: ") and beside.name in frame.columns[2]
        worker.weights(tmp_path / "other")
        # A finished model is rank 0's alone, and the others bring their parts of it.
        own = model / state.CONFIG / "none"
        frame = worker.frame(Kind.SAVE, Columns().numbers(1, [1]).numbers(1, [0]).text(str(own)))
        assert frame.kind == Kind.ERROR and frame.columns[0] == [hub.FILE]
        worker.weights(tmp_path / "finished", saved=state.FINISHED)


@pytest.mark.parametrize("precision", state.PRECISIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_is_written_a_tensor_at_a_time(tmp_path, precision, tied):
    ours = models.load(write_model(tmp_path / "model", tied=tied), Settings())
    ours.config["dtype"] = precision
    state.save(ours, tmp_path, state.FINISHED)
    found, dtype = load_file(tmp_path / state.WEIGHTS), state.PRECISIONS[precision]
    for name, value in ours.parameters().items():
        assert torch.equal(found.pop(name), value.detach().to(dtype))
    assert not found
    ours.parameters()["model.norm.weight"].data[0] = 1e6
    if precision == "float16":
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        with pytest.raises(ModelError, match=r"model\.norm\.weight has numbers beyond float16"):
            state.save(ours, tmp_path, state.FINISHED)
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def write_parts(folder, tensor, n):
    for rank in range(n):
        start, end = Sharding(None, Ranks(rank, n)).span(len(tensor))
        pieces = {"a": Piece(tensor[start:end], start)}
        parts.write_part(folder / "x.safetensors", pieces, Ranks(rank, n))


@pytest.mark.parametrize("shape", [(7,), (2, 3), (5, 4)])
def test_rows_come_from_the_parts_that_have_them(tmp_path, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    parts.write(tmp_path / "x.safetensors", {"a": tensor})
    for n in (0, 1, 2, 3, 5):
        folder = tmp_path / f"{n}"
        folder.mkdir()
        if n:
            write_parts(folder, tensor, n)
        kept = Kept((folder if n else tmp_path) / "x.safetensors")
        assert kept.shapes() == {"a": shape}
        for start in range(shape[0] + 1):
            for end in range(start, shape[0] + 1):
                assert torch.equal(kept.rows("a", (start, end)), tensor[start:end])


def test_parts_that_are_missing_or_of_two_states_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    assert parts.files(path) == []
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        Kept(path)
    write_parts(tmp_path, torch.ones(6), 3)
    assert len(parts.files(path)) == 3
    parts.part_of(path, 2, 3).unlink()
    with pytest.raises(ModelError, match=r"x\.part-00002-of-00003\.safetensors is missing"):
        Kept(path)
    write_parts(tmp_path, torch.ones(6), 3)
    parts.write_part(path, {"a": Piece(torch.ones(1), 3)}, Ranks(1, 3))
    with pytest.raises(ModelError, match="rows of a are missing"):
        Kept(path)
    write_parts(tmp_path, torch.ones(6), 2)
    with pytest.raises(ModelError, match="of more than one state"):
        Kept(path)
