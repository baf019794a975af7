"""Passes in fixed memory draw and score with the bits of the others; a recording of operations that
runs again does what a graph would do, as far as a processor can show it.
"""

import random
from contextlib import contextmanager

import pytest
import torch
from conftest import FAMILIES, write_model
from test_adapters import LORA
from test_memory import SIZES
from test_model import PLAIN, draws, played, sequences
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from ra3_worker import attention, graphs, model, pool, run, update
from ra3_worker.draw import Rule
from ra3_worker.model import ModelError, Settings
from ra3_worker.trie import Example


class Recording(TorchDispatchMode):
    """What a graph is: operations, in their order, on tensors that stay where they are."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        self.steps.append((operation, args, kwargs or {}, found))
        return found

    def replay(self):
        for operation, args, kwargs, kept in self.steps:
            found = operation(*args, **kwargs)
            for old, new in zip(tree_leaves(kept), tree_leaves(found), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture(autouse=True)
def growing(monkeypatch):
    """Pools grow while rows draw."""
    monkeypatch.setattr(pool, "SLOTS_FIRST", 24)


@pytest.fixture
def recorded(monkeypatch):
    """Passes run from recordings; these."""
    found = []

    def record(compute, _device, _memory):
        found.append(Recording())
        with found[-1]:
            compute()
        return found[-1].replay

    monkeypatch.setattr(graphs, "recorded", record)
    return found


def both(**more):
    """Settings without and with fixed memory."""
    return [Settings(n_tokens_micro=100, cuda_graphs=is_on, **more) for is_on in (False, True)]


def ragged(seed, n=17):
    """Prompts some of which begin alike, seeds, and a rule by which rows end at different times."""
    rng = random.Random(seed)
    prompts = [example.tokens for example in sequences(seed, n)]
    rule = Rule(1.3, 0, 0.0, 20, None, frozenset({7, 11}))
    return prompts, [rng.getrandbits(64) for _ in prompts], rule


def assert_same(ours, plain, fast, seed):
    """The same draws and log-probabilities, to the bit, and the same scores of them."""
    prompts, seeds, rule = ragged(seed)
    expected = draws(ours, plain, prompts, seeds, rule)
    assert draws(ours, fast, prompts, seeds, rule) == expected
    lengths = {len(tokens) for tokens, _ in expected}
    assert min(lengths) < 5 < 20 == max(lengths)
    known = sequences(seed + 1)
    for (tokens, _), prompt in zip(expected, prompts, strict=True):
        weights = [0.0] * len(prompt) + [1.0] * len(tokens)
        known.append(Example(prompt + tokens, weights, {}, []))
    scores, _ = run.score(ours, fast, known)
    assert scores == run.score(ours, plain, known)[0]
    for row, prompt, (_, logprobs) in zip(scores[-len(prompts) :], prompts, expected, strict=True):
        assert row[len(prompt) :] == logprobs


def test_passes_in_fixed_memory_have_the_same_bits(folder):
    plain, fast = both()
    assert_same(model.load(folder, plain), plain, fast, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_recordings_have_the_same_bits(tmp_path, recorded, family):
    plain, fast = both()
    assert_same(model.load(write_model(tmp_path, family), plain), plain, fast, 3)
    assert recorded


@pytest.mark.parametrize("more", [{"dtype": "bfloat16"}, {"lora": LORA}])
def test_short_and_merged_weights_have_the_same_bits(folder, recorded, more):
    plain, fast = both(**more)
    ours = model.load(folder, plain)
    for seed in range(2):
        assert_same(ours, plain, fast, seed)
        # The next ones are other weights.
        update.update(ours, plain, sequences(seed), PLAIN)


def test_added_tokens_have_the_same_bits(folder, recorded):
    plain, fast = both()
    ours = model.load(folder, plain)
    ours.grow(53, [[1.0] * 5 * 32])
    assert_same(ours, plain, fast, 4)


@pytest.mark.parametrize("n_gathered", [64, 1 << 17])
def test_room_and_pieces_change_no_bit(folder, recorded, monkeypatch, n_gathered):
    monkeypatch.setattr(run, "GATHERED_CPU", n_gathered)
    plain, _ = both()
    ours = model.load(folder, plain)
    small = both(cache_bytes_max=160 * run.Pool(ours, plain).n_bytes)[1]
    assert_same(ours, plain, small, 5)


def test_drafts_change_no_bit(folder, recorded):
    plain, fast = both()
    ours = model.load(folder, plain)
    rng = random.Random(6)
    lines = [[rng.randrange(3, 48) for _ in range(rng.randrange(1, 9))] for _ in range(9)]
    scripts = [[[40 + row % 3, 5], *lines] for row in range(7)]
    expected, _ = played(ours, plain, scripts, None)
    assert played(ours, fast, scripts, None)[0] == expected
    drafts = []
    for row, script in enumerate(scripts):
        futures = []
        for place in range(len(script)):
            future = []
            for at in range(place, len(script)):
                future += [expected[row][2 * at], *(script[at + 1] if at + 1 < len(script) else [])]
            futures.append(future if (row + place) % 3 else [1] * 100)
        drafts.append(futures)
    assert played(ours, fast, scripts, drafts)[0] == expected


def test_what_is_recorded_is_used_until_tensors_move(folder, monkeypatch):
    monkeypatch.setattr(pool, "SLOTS_FIRST", 512)
    fast = both(dtype="bfloat16")[1]
    ours = model.load(folder, fast)
    n_rows = []

    def recorded(compute, _device, _memory):
        n_rows.append(1)
        return compute

    monkeypatch.setattr(graphs, "recorded", recorded)
    engine, token = run.Engine(ours, fast), iter(range(48))
    engine.pool._enlarge()

    def draw_some(n_tokens):
        rule = Rule(1.0, 0, 0.0, n_tokens, None, frozenset())
        # Rows that nobody has drawn yet.
        rows = [run.Row(index, [next(token)], seed=index, rule=rule) for index in range(5)]
        engine.waiting.extend(rows)
        left, before = 5, len(n_rows)
        while left:
            left -= len(engine.until_finished())
        for row in rows:
            engine.leave(row)
        return len(n_rows) - before

    # Sixteen rows of up to 16 tokens, and of up to 32.
    assert [draw_some(14), draw_some(14), draw_some(20)] == [1, 0, 1]
    # Short weights are made anew.
    ours.network.train().eval()
    assert draw_some(20) == 2
    engine.pool._enlarge()
    assert draw_some(20) == 2
    weight = ours.network.model.norm.weight
    weight.data = weight.data.clone()
    assert draw_some(20) == 2


def test_a_recording_waits_for_no_number_and_stays_on_the_gpu():
    """On tensors of a GPU that have no memory: what waits for a number is an error, and what reads
    or makes something on the processor is seen.
    """
    settings = Settings(device="cuda", cuda_graphs=True)
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            found = operation(*args, **(kwargs or {}))
            leaves = tree_leaves((args, kwargs, found))
            kinds = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
            seen.append((str(operation), kinds))
            return found

    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        attention.register()
        config = FAMILIES["qwen3"](**SIZES)
        network = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
        # They are there already.
        network.to = lambda _device: network
        ours = model.of(network, config.to_dict(), settings)
        ours.network.eval()
        room = run.Pool(ours, settings)
        room._enlarge()
        paths = torch.zeros(run.LIVE_ROWS_MAX, 64, dtype=torch.long)
        fixed = graphs.FixedPasses(ours, settings, room, paths, 256)
        inputs = torch.zeros(4, 64, dtype=torch.long)
        with Watch():
            fixed._compute(inputs, 64)
    assert len(seen) > 100
    assert {kind for _, kinds in seen for kind in kinds} == {"cuda"}, seen


@pytest.fixture
def gpu(monkeypatch):
    """What `recorded` calls of PyTorch, noted."""
    said = []

    class Stream:
        def __init__(self, *_device):
            pass

        def wait_stream(self, _other):
            said.append("wait")

    class Graph:
        def replay(self):
            said.append("replay")

    @contextmanager
    def inside(*about, **more):
        said.append(("begin", *sorted(more)))
        yield
        said.append("end")

    for name, value in (("Stream", Stream), ("current_stream", Stream), ("CUDAGraph", Graph)):
        monkeypatch.setattr(torch.cuda, name, value)
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, inside)
    graphs._aside.cache_clear()
    yield said
    graphs._aside.cache_clear()


def test_a_pass_is_recorded_after_a_run_aside(gpu):
    again = graphs.recorded(lambda: gpu.append("pass"), torch.device("cuda:1"), (0, 1))
    again()
    run_aside = ["wait", ("begin",), "pass", "end", "wait"]
    recording = [("begin", "capture_error_mode", "pool", "stream"), "pass", "end"]
    assert gpu == [("begin",), *run_aside, *recording, "end", "replay"]


def test_a_pass_that_cannot_be_recorded_says_what_to_do(gpu):
    def compute():
        if ("begin", "capture_error_mode", "pool", "stream") in gpu:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with pytest.raises(ModelError, match=r"is capturing\): set engine\.cuda_graphs = false"):
        graphs.recorded(compute, torch.device("cuda:1"), (0, 1))


def test_a_processor_has_no_graphs():
    assert graphs.fault("cuda:0") == ""
    assert "device = cpu: set engine.cuda_graphs = false" in graphs.fault("cpu")
