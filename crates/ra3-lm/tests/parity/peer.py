"""The side of PyTorch and transformers for `tests/parity/main.rs`.

    peer.py make FOLDER    writes checkpoints and what transformers computes with them
    peer.py check FOLDER   reads what the engine wrote, and prints the largest difference by case

The configurations are the published ones at reduced width and depth. Each case is a folder with a
checkpoint and `reference.safetensors`; weights are random, larger than at the start of training.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS = (1, 63, 64, 65, 200, 700)
N_GREEDY = 40

QWEN_2_5 = dict(model_type="qwen2", vocab_size=8192, hidden_size=384, intermediate_size=1024,
                num_hidden_layers=3, num_attention_heads=12, num_key_value_heads=2,
                max_position_embeddings=32768, rms_norm_eps=1e-6, tie_word_embeddings=True,
                rope_parameters={"rope_type": "default", "rope_theta": 1e6})
QWEN_3 = dict(model_type="qwen3", vocab_size=8192, hidden_size=256, intermediate_size=768,
              num_hidden_layers=3, num_attention_heads=16, num_key_value_heads=8, head_dim=32,
              max_position_embeddings=40960, rms_norm_eps=1e-6, tie_word_embeddings=True,
              rope_parameters={"rope_type": "default", "rope_theta": 1e6})
LLAMA_3_2 = dict(model_type="llama", vocab_size=8192, hidden_size=512, intermediate_size=1024,
                 num_hidden_layers=3, num_attention_heads=32, num_key_value_heads=8, head_dim=16,
                 max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=True,
                 rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0,
                                  "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 8192})
LLAMA_3_1 = LLAMA_3_2 | dict(
    tie_word_embeddings=False,
    rope_parameters=LLAMA_3_2["rope_parameters"] | {"factor": 8.0})
MISTRAL = dict(model_type="mistral", vocab_size=8192, hidden_size=256, intermediate_size=768,
               num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
               max_position_embeddings=32768, rms_norm_eps=1e-5, tie_word_embeddings=False,
               sliding_window=None, rope_parameters={"rope_type": "default", "rope_theta": 1e6})

# Name: what it shows, configuration, type on disk, largest shard.
CASES = {
    "qwen2.5-1.5b": ("q/k/v biases, tied, 6 heads a key head", QWEN_2_5, "float32", "5GB"),
    "qwen2.5-sharded": ("shards, untied", QWEN_2_5 | dict(tie_word_embeddings=False), "float32",
                        "8MB"),
    "qwen3-0.6b": ("head norms, head_dim, 2 heads a key head", QWEN_3, "float32", "5GB"),
    "qwen3-8 heads": ("8 heads a key head, untied",
                      QWEN_3 | dict(num_key_value_heads=2, tie_word_embeddings=False), "float32",
                      "5GB"),
    "llama-3.2-1b": ("llama3 rope × 32, tied, 4 heads a key head", LLAMA_3_2, "float32", "5GB"),
    "llama-3.1-8b": ("llama3 rope × 8, untied", LLAMA_3_1, "float32", "5GB"),
    "llama-mha": ("1 head a key head, biases everywhere",
                  LLAMA_3_2 | dict(num_key_value_heads=32, attention_bias=True), "float32",
                  "5GB"),
    "llama-linear": ("linear rope × 4",
                     LLAMA_3_1 | dict(rope_parameters={"rope_type": "linear", "factor": 4.0,
                                                       "rope_theta": 1e4}), "float32", "5GB"),
    "llama-dynamic": ("dynamic rope within its length",
                      LLAMA_3_1 | dict(max_position_embeddings=2048,
                                       rope_parameters={"rope_type": "dynamic", "factor": 4.0,
                                                        "rope_theta": 1e4}), "float32", "5GB"),
    "mistral-7b": ("no window, 4 heads a key head", MISTRAL, "float32", "5GB"),
    "qwen2.5-bf16": ("bf16 on disk and in memory", QWEN_2_5, "bfloat16", "5GB"),
    "llama-3.2-bf16": ("bf16 on disk and in memory", LLAMA_3_2, "bfloat16", "5GB"),
}


def draw_weights(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            is_gain = name.endswith("norm.weight")
            parameter.copy_(1 + 0.1 * noise if is_gain else 0.05 * noise)


def logits_of(model, tokens, length):
    with torch.no_grad():
        return model(input_ids=tokens[None, :length]).logits[0].float()


def loss_and_gradients(model, tokens):
    logprobs = model(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1)
    loss = -logprobs.gather(-1, tokens[1:, None]).mean()
    loss.backward()
    return loss.detach(), {f"grad.{n}": p.grad for n, p in model.named_parameters()}


def greedy(model, tokens):
    with torch.no_grad():
        return model.generate(tokens[None], attention_mask=torch.ones_like(tokens[None]),
                              do_sample=False, max_new_tokens=N_GREEDY, min_new_tokens=N_GREEDY,
                              pad_token_id=0)[0, len(tokens):]


def make_case(folder, config, dtype, shard):
    config = AutoConfig.for_model(**config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                             dtype=torch.float32)
    draw_weights(model)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
    # Read again: casting a model in place also rounds its rotary frequencies.
    load = dict(attn_implementation="eager")
    tokens = torch.randint(0, config.vocab_size, (max(LENGTHS),))
    reference = {"tokens": tokens.int()}
    if dtype != "float32":
        own = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **load)
        reference["logits.own"] = logits_of(own, tokens, max(LENGTHS))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **load)
    for length in LENGTHS:
        # The last rows: every row of a shorter prefix is among those of the longest.
        reference[f"logits.{length}"] = logits_of(model, tokens, length)[-8:].clone()
    reference["logits"] = logits_of(model, tokens, max(LENGTHS))
    reference["greedy"] = greedy(model, tokens[:65]).int()
    if dtype == "float32":
        reference["loss"], gradients = loss_and_gradients(model, tokens)
        reference |= gradients
    save_file({n: t.contiguous() for n, t in reference.items()}, folder / "reference.safetensors")


def make(root):
    names = {}
    for index, (name, (shows, config, dtype, shard)) in enumerate(CASES.items()):
        torch.manual_seed(index)
        make_case(root / name, config, dtype, shard)
        names[name] = dict(shows=shows, dtype=dtype)
    (root / "cases.json").write_text(json.dumps(names))


def check(root):
    """The engine's own folders, loaded by transformers, against the engine's logits."""
    differences = {}
    for name in json.loads((root / "cases.json").read_text()):
        folder = root / name / "exported"
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager",
                                                     dtype=torch.float32)
        written = load_file(folder / "logits.st")
        found = logits_of(model, written["tokens"].long(), len(written["tokens"]))
        differences[name] = (found - written["logits"]).abs().max().item()
    print(json.dumps(differences))


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
