"""A Qwen2 of random weights as files for llama.cpp, and whether it computes the same model.

    python gguf_model.py --size S --dtypes f32,bf16,f16 --folder models

writes models/S-f32.gguf and so on, with the shape of peer.py and a vocabulary of ids alone, and
asks llama.cpp for the logits of a short prompt: they have to be those of transformers on the same
weights in f32, but for TOLERANCE. Matrices are in the precision of the file, vectors in f32, as
llama.cpp's own conversion has them. Unlike the models of the other jobs this one has norms that are
not ones, biases that are not zeros, and logits with a deviation near one: a wrong model does not
pass. The exit status is 1 if one does not.
"""

import argparse
import json
import pathlib

import gguf
import numpy
import peer
import peer_llama
import torch

# Largest and mean distance of two logits.
TOLERANCE = {"f32": (1e-4, 1e-5), "f16": (2e-2, 2e-3), "bf16": (2e-1, 2e-2)}
TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
}
PROMPT = 48


@torch.no_grad()
def random_model(size: str) -> torch.nn.Module:
    """Matrices of unit gain, biases, and norms that are not one."""
    model = peer.Peer(size, "f32").model.eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            weight.normal_(0.0, weight.shape[1] ** -0.5)
        elif name.endswith("bias"):
            weight.normal_(0.0, 0.1)
        else:
            weight.normal_(1.0, 0.1)
    return model


def write(model: torch.nn.Module, path: pathlib.Path, dtype: str) -> None:
    """A file that llama.cpp reads."""
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        kind = TYPES[dtype if weight.dim() == 2 else "f32"]
        data = gguf.quants.quantize(weight.detach().numpy(), kind)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def distance(model: torch.nn.Module, path: pathlib.Path) -> tuple[float, float, float]:
    """Largest and mean distance of llama.cpp's logits from those of the model; their deviation."""
    draws = numpy.random.default_rng(1)
    tokens = draws.integers(0, model.config.vocab_size - 8, PROMPT, dtype=numpy.int32)
    expected = model(input_ids=torch.from_numpy(tokens)[None].long()).logits[0].numpy()
    llama = peer_llama.Llama(str(path), 1, PROMPT, torch.get_num_threads(), all_logits=True)
    distances = numpy.abs(llama.logits(tokens) - expected)
    return float(distances.max()), float(distances.mean()), float(expected.std())


def main() -> None:
    """One size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=peer.SIZES, default="S")
    parser.add_argument("--dtypes", default="f32,bf16,f16")
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model, is_same = random_model(options.size), True
    for dtype in options.dtypes.split(","):
        path = options.folder / f"{options.size}-{dtype}.gguf"
        write(model, path, dtype)
        largest, mean, deviation = distance(model, path)
        passes = largest <= TOLERANCE[dtype][0] and mean <= TOLERANCE[dtype][1]
        is_same &= passes
        line = {"size": options.size, "dtype": dtype, "largest": largest, "mean": mean}
        print(json.dumps({**line, "deviation": deviation, "passes": passes}))
    raise SystemExit(not is_same)


if __name__ == "__main__":
    main()
