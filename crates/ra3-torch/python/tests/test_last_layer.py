"""What the last layer leaves out changes nothing, and is not counted."""

import random

import pytest
from conftest import FAMILIES, write_model
from test_adapters import LORA
from test_model import PLAIN, sequences
from test_ranks import far

from ra3_worker import model, trie, update
from ra3_worker.model import Settings


def few_targets(seed):
    """Sequences with a target at one token of six."""
    rng, found = random.Random(seed), sequences(seed)
    for example in found:
        example.weights = [weight * (rng.random() < 0.25) for weight in example.weights]
    return found


def gradient_of(ours, settings, batch):
    stats = update.gradient(ours, settings, batch, PLAIN)
    found = {name: value.grad.clone() for name, value in ours.trained().items()}
    ours.zero_grad()
    return stats, found


CASES = [
    *((family, {}) for family in FAMILIES),
    ("qwen3", {"recompute": True}),
    ("qwen2", {"lora": LORA}),
    ("llama", {"lora": LORA, "recompute": True}),
    ("qwen3", {"dtype": "bfloat16"}),
]


@pytest.mark.parametrize(("family", "more"), CASES)
def test_rows_that_nobody_reads_change_nothing(tmp_path, monkeypatch, family, more):
    # Heads are wider than the model together.
    folder = write_model(tmp_path, family, head_dim=12)
    settings, batch = Settings(**more), few_targets(4)
    ours = model.load(folder, settings)
    first, last = (ours.network.model.layers[at].mlp.down_proj for at in (0, 1))
    n_run = {first: set(), last: set()}
    for product in n_run:
        product.register_forward_hook(lambda own, rows, _: n_run[own].add(rows[0].shape[1]))
    stats, found = gradient_of(ours, settings, batch)
    [forest] = trie.micro_batches(trie.grow(batch), settings.n_tokens_micro)
    n_rows, n_read = len(forest.tokens), len(forest.rows_with_targets())
    assert 6 * n_read < 2 * n_rows and stats.n_run == n_rows
    assert (n_run[first], n_run[last]) == ({n_rows}, {n_read})
    monkeypatch.setattr(trie.Forest, "rows_read", lambda _: None)
    whole, expected = gradient_of(ours, settings, batch)
    assert n_run[last] == {n_read, n_rows}
    assert far(found, expected) <= (1e-2 if settings.dtype == "bfloat16" else 1e-5)
    assert stats.loss == pytest.approx(whole.loss, rel=1e-5)
    # Behind the attention a layer has 48 · 32 + 3 · 32 · 48 parameters; adapters of rank 4 have
    # 4 · (48 + 32) + 3 · 4 · (32 + 48).
    n_passes = 4 if settings.recompute else 3
    unread = 6144 * n_passes
    if settings.lora:
        unread = 6144 * (n_passes - 1) + 1280 * n_passes
    assert whole.flops - stats.flops == 2.0 * unread * (n_rows - n_read)


def test_rows_are_chosen_where_an_eighth_or_more_is_not_read():
    def rows_read(n_rows, rows):
        targets = [trie.Target(row, 0, 1.0, None, None) for row in rows]
        return trie.Forest([0] * n_rows, targets=targets).rows_read()

    assert rows_read(8, [5, 2, 2]) == [2, 5]
    assert rows_read(8, range(7)) == [*range(7)]
    assert rows_read(9, range(8)) is None
    assert rows_read(3, []) is None
