"""Writes what PyTorch and transformers compute for tiny models, for `tests/golden.rs`.

    pip install torch==2.15.0 transformers==5.23.0
    python crates/ra3-lm/tests/golden/make.py

Each model becomes a folder: `config.json` and `model.safetensors` as transformers writes them, and
`golden.json` with a batch, its loss and every gradient, log-probabilities, the clipped surrogate,
five steps of AdamW, and how far PyTorch's own gradient in bf16 is from that. Computed in f64 from
the f32 weights (transformers keeps norms in f32), so the tolerances of the test are about the
engine alone.
"""

import copy
import json
import math
from pathlib import Path

import torch
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

SHAPE = dict(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
MODELS = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(
        **SHAPE, tie_word_embeddings=True,
        rope_parameters={"rope_theta": 1e6, "rope_type": "default"})),
    "llama": (LlamaForCausalLM, LlamaConfig(
        **SHAPE, tie_word_embeddings=False, rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 5e5, "rope_type": "default"})),
    # Norms of heads that are wider than hidden_size / heads; 4 query heads to a key head.
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(
        **(SHAPE | dict(num_key_value_heads=1)), head_dim=6, tie_word_embeddings=True,
        rope_parameters={"rope_theta": 1e6, "rope_type": "default"})),
    # Llama 3.1's frequencies, all three kinds of wave length among them; biases everywhere.
    "llama3": (LlamaForCausalLM, LlamaConfig(
        **(SHAPE | dict(num_key_value_heads=4)), tie_word_embeddings=True, attention_bias=True,
        rope_parameters={"rope_theta": 100.0, "rope_type": "llama3", "factor": 8.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 32})),
    # Frequencies divided by a factor; 8 query heads to a key head.
    "linear": (LlamaForCausalLM, LlamaConfig(
        **(SHAPE | dict(num_attention_heads=8, num_key_value_heads=1)),
        tie_word_embeddings=False,
        rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0})),
    "mistral": (MistralForCausalLM, MistralConfig(
        **SHAPE, head_dim=8, sliding_window=None, tie_word_embeddings=False,
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"})),
}
LOW, HIGH = 0.2, 0.28
LEARNING_RATE, BETAS, EPSILON, DECAY, CLIP = 1e-2, (0.9, 0.95), 1e-8, 0.1, 1.0


def draw_weights(model):
    """Larger than at the start of training, and no gain or bias at its neutral value."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            is_gain = name.endswith("norm.weight")
            parameter.copy_(1 + 0.2 * noise if is_gain else 0.3 * noise)


def draw_batch():
    """Three documents; the first two share twelve tokens, one target of the first is restricted."""
    shared = torch.randint(0, 32, (12,)).tolist()
    documents = [shared + torch.randint(0, 32, (n,)).tolist() for n in (7, 5)]
    documents.append(torch.randint(0, 32, (17,)).tolist())
    batch = []
    for tokens in documents:
        weights = (torch.randn(len(tokens)) * 0.05 + 0.05).tolist()
        weights[0] = 0.0
        weights[4] = 0.0
        old = (torch.randn(len(tokens)) * 0.3 - 3.5).tolist()
        batch.append(dict(tokens=tokens, weights=weights, old_logprobs=old, restrictions=[]))
    choices = [batch[0]["tokens"][14], 3, 9]
    batch[0]["restrictions"] = [dict(position=14, choices=choices)]
    return batch


def target_logprobs(model, example):
    """Log-probability of each token but the first, restricted where the example says so."""
    tokens = torch.tensor(example["tokens"])
    logits = model(input_ids=tokens[None]).logits[0, :-1]
    logprobs = logits.log_softmax(-1).gather(-1, tokens[1:, None])[:, 0]
    for restriction in example["restrictions"]:
        row = restriction["position"] - 1
        among = logits[row, restriction["choices"]].log_softmax(-1)[0]
        logprobs = torch.cat([logprobs[:row], among[None], logprobs[row + 1:]])
    return logprobs


def surrogate(model, batch, clipped):
    total = torch.zeros((), dtype=torch.float64)
    for example in batch:
        logprobs = target_logprobs(model, example)
        weights = torch.tensor(example["weights"], dtype=torch.float64)[1:]
        terms = weights * logprobs
        if clipped:
            old = torch.tensor(example["old_logprobs"], dtype=torch.float64)[1:]
            ratio = (logprobs - old).exp()
            terms = torch.minimum(ratio * weights, ratio.clamp(1 - LOW, 1 + HIGH) * weights)
        total = total - terms.sum()
    return total


def gradients(model, batch, clipped):
    model.zero_grad()
    loss = surrogate(model, batch, clipped)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    norm = math.sqrt(sum(float(g.square().sum()) for g in found.values()))
    rounded = {name: [float(f"{x:.7g}") for x in g.flatten().tolist()] for name, g in found.items()}
    return dict(loss=loss.item(), norm=norm, gradients=rounded)


def distance_in_bf16(model, batch, exact):
    """Of PyTorch's own gradient with products in bf16, by norms: the distance from the exact one."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        surrogate(model, batch, clipped=False).backward()
    square = 0.0
    for name, parameter in model.named_parameters():
        expected = torch.tensor(exact["gradients"][name], dtype=torch.float64)
        square += float((parameter.grad.double().flatten() - expected).square().sum())
    return math.sqrt(square) / exact["norm"]


def steps(model, batch):
    """Loss and gradient norm before each of five steps."""
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=DECAY), dict(params=others, weight_decay=0.0)],
        lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
    curve = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = surrogate(model, batch, clipped=False)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        curve.append(dict(loss=loss.item(), norm=norm.item()))
    return curve


def main():
    for index, (name, (architecture, config)) in enumerate(MODELS.items()):
        torch.manual_seed(index)
        model = architecture(config)
        draw_weights(model)
        folder = Path(__file__).parent / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        single = copy.deepcopy(model)
        model = model.double()
        batch = draw_batch()
        last = torch.tensor(batch[2]["tokens"])
        with torch.no_grad():
            after = model(input_ids=last[None]).logits[0, -1].log_softmax(-1).tolist()
        clipped = gradients(model, batch, clipped=True)
        kept = "model.layers.0.self_attn.k_proj.weight"
        clipped["gradients"] = {kept: clipped["gradients"][kept]}
        likelihood = gradients(model, batch, clipped=False)
        golden = dict(
            torch=torch.__version__, batch=batch, next_logprobs=after,
            likelihood=likelihood, clipped=clipped,
            distance_in_bf16=distance_in_bf16(single, batch, likelihood),
            clip_range=[LOW, HIGH], learning_rate=LEARNING_RATE, weight_decay=DECAY,
            clip_norm=CLIP, steps=steps(model, batch))
        (folder / "golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
