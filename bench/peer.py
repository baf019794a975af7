"""The jobs of `ra3 bench` as PyTorch and transformers do them: one job a process, one JSON line.

    python peer.py --size S --job train --dtype f32 --runs 3

The model is a Qwen2 of random weights with the shapes of crates/ra3-bench/src/model.rs. What each
job is stands in bench/README.md. With `--dtype bf16` training and the E-step run under autocast with
weights in f32, scoring and generation with weights in bf16.
"""

import argparse
import json
import random
import resource
import statistics
import time

import torch
import transformers

# Width, layers, heads, key heads, width of the SwiGLU, vocabulary.
SIZES = {
    "XS": (192, 4, 4, 2, 512, 2048),
    "S": (256, 6, 4, 2, 704, 4096),
    "M": (512, 8, 8, 2, 1408, 8192),
    "L": (1024, 12, 16, 4, 2816, 16384),
    "XL": (1536, 28, 12, 2, 8960, 151936),
}
DOCUMENTS, TOKENS = 8, 256
PROMPT = 64
TRAJECTORIES, PREFIX, LINES, LINE, RATIONALE = 4, 32, 16, 12, 16


class Peer:
    """A model, its optimizer, and the precision that it computes in."""

    def __init__(self, size, dtype):
        width, layers, heads, key_heads, ff, self.vocabulary = SIZES[size]
        torch.manual_seed(0)
        config = transformers.Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=width,
            intermediate_size=ff,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
        )
        self.is_half = dtype == "bf16"
        self.model = transformers.Qwen2ForCausalLM(config)
        self.optimizer = None

    def frozen(self):
        self.model.eval()
        if self.is_half:
            self.model.to(torch.bfloat16)

    def autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_half)

    def tokens(self, *shape):
        return torch.randint(0, self.vocabulary - 8, shape)

    def step(self, loss):
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def logprobs(logits, tokens):
    """The log-probability of each token under the logits at its place."""
    return logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def train(peer):
    tokens = peer.tokens(DOCUMENTS, TOKENS)

    def run():
        with peer.autocast():
            loss = peer.model(input_ids=tokens, labels=tokens, use_cache=False).loss
        peer.step(loss)

    return run


def score(peer):
    peer.frozen()
    tokens = peer.tokens(DOCUMENTS, TOKENS)

    @torch.no_grad()
    def run():
        logits = peer.model(input_ids=tokens, use_cache=False).logits
        logprobs(logits[:, :-1], tokens[:, 1:])

    return run


def generate(peer, batch):
    peer.frozen()
    prompts = peer.tokens(batch, PROMPT)

    @torch.no_grad()
    def run():
        peer.model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            min_new_tokens=PROMPT,
            max_new_tokens=PROMPT,
            do_sample=True,
            pad_token_id=0,
        )

    return run


def script(document, thinks, markers):
    """A rollout's tokens, `None` where one is sampled, and which of them are latents."""
    act, think, close = markers
    tokens, latents = list(document[:PREFIX]), [False] * PREFIX
    for index, thinks_here in enumerate(thinks):
        latent = [think, *[None] * RATIONALE, close] if thinks_here else [act]
        line = document[PREFIX + index * LINE :][:LINE]
        tokens += latent + line
        # A `</think>` that is forced carries no gradient.
        drawn = len(latent) - int(thinks_here)
        latents += [True] * drawn + [False] * (len(latent) - drawn + len(line))
    return tokens, latents


@torch.no_grad()
def rollouts(peer, scripts):
    """Every row one token a step; what it draws, and the log-probabilities of all its tokens."""
    length = max(map(len, scripts))
    tokens = torch.zeros(len(scripts), length, dtype=torch.long)
    found = torch.zeros(len(scripts), length)
    cache = transformers.DynamicCache()
    tokens[:, :PREFIX] = torch.tensor([script[:PREFIX] for script in scripts])
    fresh = tokens[:, :PREFIX]
    for place in range(PREFIX, length):
        with peer.autocast():
            logits = peer.model(input_ids=fresh, past_key_values=cache, use_cache=True).logits[:, -1]
        now = logits.float().log_softmax(-1)
        drawn = torch.multinomial(now.exp(), 1)[:, 0].tolist()
        for row, known in enumerate(scripts):
            if place < len(known):
                tokens[row, place] = drawn[row] if known[place] is None else known[place]
        fresh = tokens[:, place : place + 1]
        found[:, place] = now.gather(1, fresh)[:, 0]
    return tokens, found


def e_step(peer, think, group):
    documents = peer.tokens(TRAJECTORIES, PREFIX + LINES * LINE).tolist()
    markers = [peer.vocabulary - 1, peer.vocabulary - 2, peer.vocabulary - 3]

    def run():
        draws = random.Random(1)
        rows = [
            script(document, [draws.random() < think for _ in range(LINES)], markers)
            for document in documents
            for _ in range(group)
        ]
        tokens, found = rollouts(peer, [script for script, _ in rows])
        length = tokens.shape[1]
        pad = lambda flags: flags + [False] * (length - len(flags))
        latents = torch.tensor([pad(latents) for _, latents in rows])
        lines = torch.tensor([pad([not flag for flag in latents]) for _, latents in rows])
        lines[:, :PREFIX] = False
        reward = (found * lines).sum(1).view(TRAJECTORIES, group)
        others = (reward.sum(1, keepdim=True) - reward) / max(group - 1, 1)
        advantage = (reward - others).view(-1, 1)
        with peer.autocast():
            logits = peer.model(input_ids=tokens, use_cache=False).logits
        drawn = logprobs(logits[:, :-1], tokens[:, 1:])
        peer.step(-(advantage * drawn * latents[:, 1:]).sum() / len(rows))

    return run


def job(peer, name):
    kind, _, rest = name.partition("-")
    if kind == "generate":
        return generate(peer, int(rest))
    if kind == "e":
        _, think, group = rest.split("-")
        return e_step(peer, float(think), int(group))
    return {"train": train, "score": score}[name](peer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--job", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    run = job(Peer(options.size, options.dtype), options.job)
    run()
    seconds = []
    for _ in range(options.runs):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    line = {
        "job": options.job,
        "model": options.size,
        "dtype": options.dtype,
        "seconds": statistics.median(seconds),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": f"PyTorch {torch.__version__}, transformers {transformers.__version__}",
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
