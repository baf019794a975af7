"""Adapters beside PEFT: the same gradient and the same model; merged weights, states, and rows."""

import pytest
import torch
from conftest import FAMILIES, write_model
from test_model import PLAIN, draws, logprobs, sequences
from transformers import AutoModelForCausalLM

from ra3_worker import model, run, state, update
from ra3_worker.adapters import Lora
from ra3_worker.draw import Rule
from ra3_worker.model import Settings

LORA = {"rank": 4, "alpha": 8.0, "target_modules": ["all-linear"], "seed": 3}
SETTINGS = Settings(weight_decay=0.1, n_tokens_micro=100, lora=LORA)
FRESH = [7, 5, 40]


def trained(folder, settings=SETTINGS, n=3, fresh=FRESH):
    """A model that has been trained a little, some of whose rows were started anew."""
    ours = model.load(folder, settings)
    width = ours.embedding.shape[1]
    if fresh:
        noise = torch.randn(len(fresh) * width, generator=torch.Generator().manual_seed(4)).tolist()
        ours.restart(fresh, [noise] * (1 if ours.is_tied else 2))
    for seed in range(n):
        update.update(ours, settings, sequences(seed), PLAIN)
    return ours


def folder_of(ours, folder, saved=state.FINISHED):
    state.save(ours, folder, saved)
    return folder


def scores_of(ours, seed=9):
    return run.score(ours, SETTINGS, sequences(seed))[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_and_saved_models_are_those_of_peft(tmp_path, family, tied):
    peft = pytest.importorskip("peft")
    ours = trained(write_model(tmp_path / "base", family, tied))
    saved = folder_of(ours, tmp_path / "saved")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, saved / state.ADAPTER, is_trainable=True)
    examples = sequences(5)
    expected = logprobs(theirs, examples)
    for example, row, found in zip(
        examples, expected, run.score(ours, SETTINGS, examples)[0], strict=True
    ):
        for weight, value, target in zip(example.weights, found, row.tolist(), strict=True):
            assert value == 0.0 if weight == 0.0 else abs(value - target) < 2e-5
    loss = -sum(
        (torch.tensor(example.weights) * row).sum()
        for example, row in zip(examples, expected, strict=True)
    )
    loss.backward()
    wide = {
        name.removeprefix(state.PEFT).replace(".default", ""): value.grad
        for name, value in theirs.named_parameters()
        if value.requires_grad
    }
    for recompute in (False, True):
        model.recompute(ours.network, recompute)
        stats = update.gradient(ours, SETTINGS, examples, PLAIN)
        assert stats.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert set(ours.trained()) == set(wide)
        for name, parameter in ours.trained().items():
            assert (parameter.grad - wide[name]).norm() <= 1e-5 * stats.norm, name
    # What is saved as a model is the same, merged.
    merged = theirs.merge_and_unload().state_dict()
    for name, value in model.load(saved, Settings()).parameters().items():
        assert torch.allclose(value, merged[name], atol=1e-6), name


def test_a_copy_a_saved_model_and_a_frozen_one_have_the_bits_of_the_policy(folder, tmp_path):
    ours = trained(folder)
    found = scores_of(ours)
    copied = ours.copy()
    plain = model.load(folder_of(ours, tmp_path / "exact", state.EXACT), Settings())
    assert {path.name for path in (tmp_path / "exact").iterdir()} == {state.CONFIG, state.WEIGHTS}
    assert scores_of(copied) == found and scores_of(plain) == found
    rule = Rule(1.3, 0, 0.0, 9, None, frozenset({7}))
    prompts = [example.tokens for example in sequences(4, 5)]
    drawn = draws(ours, SETTINGS, prompts, range(5), rule)
    assert draws(copied, SETTINGS, prompts, range(5), rule) == drawn
    known = sequences(6)
    loss = update.gradient(ours, SETTINGS, known, PLAIN).loss
    assert loss == pytest.approx(update.gradient(plain, Settings(), known, PLAIN).loss, rel=1e-5)
    update.update(ours, SETTINGS, sequences(3), PLAIN)
    assert scores_of(copied) == found != scores_of(ours)
    found = scores_of(ours)
    ours.freeze()
    assert ours.adapters is None and scores_of(ours) == found


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
@pytest.mark.parametrize("fresh", [FRESH, []])
def test_a_state_continues_with_the_same_bits(folder, tmp_path, moments, fresh):
    settings = Settings(weight_decay=0.1, moments=moments, lora=LORA)
    straight = trained(folder, settings, 2, fresh)
    saved = folder_of(straight, tmp_path / "state", state.STATE)
    assert {path.name for path in saved.iterdir()} == {
        state.ADAPTER_CONFIG,
        state.ADAPTER_WEIGHTS,
        state.TRAINING,
    }
    continued = trained(folder, settings, 0, fresh)
    state.load_state(continued, saved, "cpu")
    for ours in (straight, continued):
        update.update(ours, settings, sequences(2), PLAIN)
    for (name, value), (_, other) in zip(straight.whole(), continued.whole(), strict=True):
        assert torch.equal(value, other), name
    assert scores_of(straight) == scores_of(continued)
    with pytest.raises(model.ModelError, match=r"of (other tokens|another model)"):
        state.load_state(trained(folder, settings, 0, [1, 2, 3]), saved, "cpu")
    rank = Settings(lora={**LORA, "rank": 5})
    with pytest.raises(model.ModelError, match="of another model"):
        state.load_state(trained(folder, rank, 0, fresh), saved, "cpu")


@pytest.mark.parametrize("tied", [False, True])
def test_adapters_and_new_rows_move_and_nothing_else(tmp_path, tied):
    folder = write_model(tmp_path / "base", tied=tied)
    before = dict(model.load(folder, Settings()).parameters())
    targets = Settings(lora={**LORA, "target_modules": ["q_proj", "v_proj"]})
    ours = model.load(folder, targets)
    noise = [0.5] * 3 * ours.embedding.shape[1]
    ours.grow(51, [noise] * (1 if tied else 2))
    update.update(ours, targets, sequences(1), PLAIN)
    assert ours.fresh == {48, 49, 50}
    moved = {
        name
        for name, value in ours.whole()
        if not torch.equal(value[: len(before[name])], before[name])
    }
    assert moved == {
        f"model.layers.{layer}.self_attn.{kind}_proj.weight" for layer in (0, 1) for kind in "qv"
    }
    # A tied row learns what it is not; one that is only read is not in these batches.
    head = ours.head.weight.detach()[48:].clone()
    update.update(ours, targets, sequences(2), PLAIN)
    assert not torch.equal(ours.head.weight[48:], head)
    assert torch.equal(ours.embedding[48:], ours.adapters.rows["model.embed_tokens"].values)
    assert len(ours.moments.first) == 2 * 4 + (1 if tied else 2)
    ours.restart([3], [noise[: ours.embedding.shape[1]]] * (1 if tied else 2))
    update.update(ours, targets, sequences(2), PLAIN)
    assert ours.adapters.rows["model.embed_tokens"].tokens.tolist() == [3, 48, 49, 50]


def test_without_updates_a_model_is_as_it_was(folder, tmp_path):
    ours = model.load(folder, SETTINGS)
    update.gradient(ours, SETTINGS, sequences(1), PLAIN)
    ours.zero_grad()
    for (name, value), (_, old) in zip(
        ours.whole(), model.load(folder, Settings()).whole(), strict=True
    ):
        assert torch.equal(value, old), name
    frozen = model.load(folder, SETTINGS)
    assert scores_of(frozen) == scores_of(ours) and frozen.adapters is None
    folder_of(frozen, tmp_path / "saved")
    assert not (tmp_path / "saved" / state.ADAPTER).exists()


def test_short_products_have_the_merged_weights(folder, tmp_path):
    short = Settings(dtype="bfloat16", lora=LORA)
    ours = trained(folder, short)
    plain = model.load(folder_of(ours, tmp_path / "exact", state.EXACT), Settings(dtype="bfloat16"))
    assert run.score(ours, short, sequences(5))[0] == run.score(plain, short, sequences(5))[0]


def test_weights_that_are_not_trained_cost_no_pass(folder):
    thin = Settings(lora={**LORA, "rank": 1})
    ours, plain = model.load(folder, thin), model.load(folder, Settings())
    found = update.gradient(ours, thin, sequences(1), PLAIN).flops
    whole = update.gradient(plain, Settings(), sequences(1), PLAIN).flops
    assert 2 / 3 < found / whole < 0.85


def test_names_of_products_choose_them():
    everything, some = Lora(1, 1.0), Lora(1, 1.0, ("q_proj", "down_proj"))
    name = "model.layers.0.self_attn.q_proj"
    assert everything.is_of(name) and some.is_of(name)
    assert not some.is_of("model.layers.0.mlp.up_proj")
