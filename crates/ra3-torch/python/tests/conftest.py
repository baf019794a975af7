"""A small model with random weights, on disk."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)

FAMILIES = {
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
}


def write_model(folder, family="qwen2", tied=True, **more):
    """A folder of a model of 48 tokens, with distributions that are far from even."""
    torch.manual_seed(1)
    sizes = {
        "vocab_size": 48,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 160,
        "initializer_range": 0.2,
        "tie_word_embeddings": tied,
        "eos_token_id": 0,
    }
    config = FAMILIES[family](**{**sizes, **more})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def tensors_of(folder):
    """All tensors of a folder, whole, as PyTorch's own reader of files in parts reads them."""
    reader = dcp.HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata.items()
    found = {name: torch.empty(of.size, dtype=of.properties.dtype) for name, of in known}
    dcp.load(found, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a small Qwen2."""
    return write_model(tmp_path_factory.mktemp("model"))
