"""What a layer keeps for the backward pass is what `ra3 plan` counts (`estimate/device.rs`)."""

import pytest
import torch
from conftest import FAMILIES
from test_adapters import LORA
from transformers import AutoModelForCausalLM

from ra3_worker import attention, model
from ra3_worker.attention import ForestPlan, attending
from ra3_worker.model import Settings

# The sizes of the test there, and the bytes that it expects of a row and layer.
SIZES = {"hidden_size": 256, "intermediate_size": 704, "head_dim": 32}
SIZES |= {"num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 300}
COUNTED = {"float32": 22_568, "bfloat16": 14_888}
COUNTED_NORMED = {"float32": 25_168, "bfloat16": 16_848}
N_ROWS = 333


def kept(family, n_layers, settings):
    """Bytes that a pass keeps of rows, and bytes that it keeps of weights."""
    attention.register()
    config = FAMILIES[family](**SIZES, num_hidden_layers=n_layers, tie_word_embeddings=True)
    network = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    ours = model.of(network, config.to_dict(), settings)
    ours.adapt()
    own = [*ours.parameters().values(), *ours.trained().values()]
    own = {value.untyped_storage().data_ptr() for value in own}
    found = {}

    def keep(value):
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            # What is kept stays, so no two have one place.
            found[storage.data_ptr()] = (storage.nbytes(), N_ROWS in value.shape, value)
        return value

    ends = [N_ROWS] * N_ROWS
    plan = ForestPlan.of(ends, torch.device("cpu"), settings.computed)
    rows = torch.arange(N_ROWS) % 300
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
    with attending(plan), hooks, settings.compute():
        ours.hidden(rows, rows)
    return [sum(n for n, of_rows, _ in found.values() if of_rows == which) for which in (1, 0)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_keeps_what_is_planned(family, dtype):
    def of_a_layer(**more):
        settings = Settings(dtype=dtype, **more)
        four, two = (kept(family, n, settings) for n in (4, 2))
        return (four[0] - two[0]) / 2 / N_ROWS, (four[1] - two[1]) / 2

    planned = (COUNTED_NORMED if family == "qwen3" else COUNTED)[dtype]
    n_weights = 256 * 256 * 2 + 2 * 64 * 256 + 3 * 704 * 256
    assert of_a_layer() == (planned, 2 * n_weights if dtype == "bfloat16" else 0)
    assert of_a_layer(recompute=True) == (4 * 256, 0)
    rows, _ = of_a_layer(lora=LORA)
    assert 0.8 * planned < rows <= planned
