"""Compiled layers compute what layers do, and the same code whichever batch comes first."""

import os
import shutil

import pytest
import torch
from conftest import write_model
from test_adapters import LORA
from test_model import PLAIN, sequences
from test_ranks import BATCHES, Worker, far, trained, weights_far

from ra3_worker import compiled, model, run, update
from ra3_worker.model import Settings
from ra3_worker.wire import Kind

if not shutil.which(os.environ.get("CXX", "g++")):
    pytest.skip("no C++ compiler: nothing can be compiled here", allow_module_level=True)


@pytest.fixture(autouse=True)
def fresh():
    """Code of another test is forgotten."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def gradient_of(ours, settings, batch):
    stats = update.gradient(ours, settings, batch, PLAIN)
    found = {name: value.grad.clone() for name, value in ours.trained().items()}
    ours.zero_grad()
    return stats, found


# Products with biases as they are, products with norms behind them that have adapters.
@pytest.mark.parametrize(("family", "lora"), [("qwen2", None), ("qwen3", LORA)])
def test_gradients_are_those_of_layers_that_are_not_compiled(tmp_path, family, lora):
    # More layers than PyTorch would make code for one by one.
    folder = write_model(tmp_path, family, num_hidden_layers=10)
    plain, fast = (Settings(n_tokens_micro=100, lora=lora, compile=is_on) for is_on in (0, 1))
    ours, theirs = model.load(folder, fast), model.load(folder, plain)
    counted = torch._dynamo.utils.counters["stats"]
    for seed in range(3):
        batch = sequences(seed)
        if seed == 1:
            # Nearly all rows have targets: then the last layer leaves out none.
            for example in batch:
                example.weights = [0.0] + [0.5] * (len(example.tokens) - 1)
        stats, found = gradient_of(ours, fast, batch)
        expected, wanted = gradient_of(theirs, plain, batch)
        assert stats.loss == pytest.approx(expected.loss, rel=1e-5)
        assert far(found, wanted) <= 1e-5
        if seed == 0:
            n_graphs = counted["unique_graphs"]
    assert 0 < n_graphs == counted["unique_graphs"] <= 16
    # Drawing and scoring know nothing of it.
    scores, _ = run.score(ours, fast, sequences(5))
    assert scores == run.score(theirs, plain, sequences(5))[0]
    copied = ours.copy()
    assert run.score(copied, fast, sequences(5))[0] == scores


def test_short_floats_are_as_near_as_those_that_are_not_compiled(folder):
    wide = gradient_of(model.load(folder, Settings()), Settings(), sequences(1))[1]
    plain, fast = (Settings(dtype="bfloat16", compile=is_on) for is_on in (False, True))
    slow = far(gradient_of(model.load(folder, plain), plain, sequences(1))[1], wide)
    found = far(gradient_of(model.load(folder, fast), fast, sequences(1))[1], wide)
    assert 0.0 < found <= 1.25 * slow


def test_the_first_batch_makes_no_difference(folder):
    fast = Settings(n_tokens_micro=100, compile=True)
    found = []
    for first in (1, 2):
        torch._dynamo.reset()
        ours = model.load(folder, fast)
        gradient_of(ours, fast, sequences(first, first, 20 * first))
        found.append(gradient_of(ours, fast, sequences(3))[1])
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_parts_of_layers_are_compiled(tmp_path):
    folder = write_model(tmp_path / "model")
    found = []
    for index, more in enumerate(({}, {"compile": True, "sharding": "full"})):
        with Worker(tmp_path, 1 + index, **more) as worker:
            assert worker.greeting["fault"] == ""
            worker.load(folder)
            for batch in BATCHES[:2]:
                worker.ask(Kind.UPDATE, trained(batch))
            found.append(worker.weights(tmp_path / f"saved-{index}"))
    assert weights_far(found[1], found[0]) <= 1e-5


def test_a_compiler_that_is_missing_is_named(monkeypatch):
    assert compiled.fault("cpu") == "" == compiled.fault("cuda:0")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in compiled.fault("cpu")
