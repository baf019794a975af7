"""Jobs of `gpu.py` that are timed, at one shape of random weights.

A part is a list of cases: a title, and a function that gives figures. Products are computed in
bf16, weights are f32.
"""

import gc
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from ra3_worker import attention, draw, model, run, update
from ra3_worker.draw import Rule
from ra3_worker.model import Settings
from ra3_worker.trie import Example
from transformers import AutoModelForCausalLM, Qwen2Config

SHAPES = {
    "1.5B": {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    },
    "tiny": {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    },
}
# Documents, tokens of each, rows of a micro-batch, and whether layers are computed again.
TRAIN = {
    "1.5B": [
        (16, 512, 2048, False),
        (16, 512, 4096, False),
        (4, 2048, 4096, False),
        (16, 512, 4096, True),
        (16, 512, 8192, False),
    ],
    "tiny": [(4, 32, 64, False), (2, 64, 128, True)],
}
# Rows, tokens of the prompt that they share, tokens that each draws, rows of a pass on a GPU.
DECODE = {
    "1.5B": [
        (32, 128, 32, model.TILE_GPU),
        (128, 128, 32, model.TILE_GPU),
        (512, 128, 32, model.TILE_GPU),
        (512, 128, 32, 256),
        (512, 128, 32, 512),
    ],
    "tiny": [(32, 8, 4, model.TILE_GPU), (512, 8, 4, 256)],
}
PLAIN = update.Objective(False, 0.0, 0.0, 1e-6)
CLIPPED = update.Objective(True, 0.2, 0.28, 1e-6)
CACHE_BYTES = {"1.5B": 24 << 30, "tiny": 1 << 28}


class Machine:
    """Where the jobs run, and the model that they share."""

    def __init__(self, device, n_threads, size, peak):
        self.device, self.n_threads, self.size, self.peak = device, n_threads, size, peak
        self.is_gpu = torch.device(device).type == "cuda"
        self.cuda = torch.version.cuda if self.is_gpu else None
        self._model = None

    def settings(self, dtype="bfloat16", **more):
        cache = CACHE_BYTES[self.size]
        return Settings(self.device, dtype, self.n_threads, 0.1, cache_bytes_max=cache, **more)

    @property
    def model(self):
        """Random weights; made once."""
        if self._model is None:
            attention.register()
            torch.manual_seed(1)
            config = Qwen2Config(**SHAPES[self.size], tie_word_embeddings=True)
            with torch.device(self.device):
                network = AutoModelForCausalLM.from_config(
                    config, dtype=torch.float32, attn_implementation=attention.NAME
                )
            self._model = model.of(network, config.to_dict(), self.settings())
        return self._model

    def tidy(self):
        """Frees what a case has left."""
        if self._model:
            self._model.network.zero_grad(set_to_none=True)
            self._model.moments = model.Moments()
            model.recompute(self._model.network, False)
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def now(self):
        """Seconds, once the device has done what it was told."""
        if self.is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def memory(self):
        """The most that a case has held."""
        if not self.is_gpu:
            return {}
        return {"peak_gib": torch.cuda.max_memory_allocated() / 2**30}

    def of_peak(self, flops, seconds):
        """The share of the card's peak, if that is known."""
        return {"mfu": flops / seconds / self.peak} if self.peak else {}


def tokens(rng, shape, n):
    return [rng.randrange(shape["vocab_size"] - 8) for _ in range(n)]


def train(machine):
    """Updates on documents that share nothing: tokens a second and model FLOPs utilisation."""

    def case(n_documents, n_tokens, n_rows, recomputes):
        def job():
            shape, rng = SHAPES[machine.size], random.Random(1)
            weights = [0.0] + [1.0 / n_documents / n_tokens] * (n_tokens - 1)
            batch = [
                Example(tokens(rng, shape, n_tokens), weights, {}, []) for _ in range(n_documents)
            ]
            settings = machine.settings(n_tokens_micro=n_rows, recompute=recomputes)
            ours = machine.model
            seconds = []
            model.recompute(ours.network, recomputes)
            update.update(ours, settings, batch, PLAIN)
            for _ in range(3):
                began = machine.now()
                stats = update.update(ours, settings, batch, PLAIN)
                seconds.append(machine.now() - began)
            # What layers are computed again is time, and no use.
            n_all = n_documents * n_tokens
            layers = n_documents * ours.layer_flops(list(range(n_tokens)))
            flops = 3.0 * (layers + ours.head_flops(n_all - n_documents))
            median = sorted(seconds)[1]
            rate = {"tokens_per_s": n_all / median, **machine.of_peak(flops, median)}
            return {**rate, "seconds": median, "loss": stats.loss, **machine.memory()}

        again = ", recomputed" if recomputes else ""
        return f"{n_documents} x {n_tokens} tokens by {n_rows} rows{again}", job

    first, *others = [case(*some) for some in TRAIN[machine.size]]
    cases = [first, ("one update, by kernel", lambda: kernels(machine, _one_update(machine)))]
    n_rows = 4096 if machine.size == "1.5B" else 64
    for n_trees in (1, 8):
        title = f"attention of {n_rows} rows in {n_trees} trees"
        cases.append((title, lambda n_trees=n_trees: attending(machine, n_rows, n_trees)))
    # What takes most memory last.
    return [*cases, *others]


def attending(machine, n_rows, n_trees):
    """One layer's attention, forward and backward: as it is, and where sums may differ each time."""
    shape, device = SHAPES[machine.size], torch.device(machine.device)
    n_heads, n_keys = shape["num_attention_heads"], shape["num_key_value_heads"]
    width, n_each = shape["hidden_size"] // n_heads, n_rows // n_trees
    ends = [at - at % n_each + n_each for at in range(n_rows)]
    parts = [
        torch.randn(1, n, n_rows, width, dtype=torch.bfloat16, device=device, requires_grad=True)
        for n in (n_heads, n_keys, n_keys)
    ]
    plan = attention.ForestPlan.of(ends, device, torch.bfloat16)
    found = {}
    for name, may_warn in (("strict_ms", False), ("loose_ms", True)):
        seconds = []
        for _ in range(6):
            torch.use_deterministic_algorithms(True, warn_only=may_warn)
            began = machine.now()
            plan.attend(0, *parts, width**-0.5).sum().backward()
            seconds.append(machine.now() - began)
        found[name] = 1e3 * sorted(seconds[1:])[2]
    torch.use_deterministic_algorithms(True, warn_only=True)
    return {**found, **machine.memory()}


def _one_update(machine):
    shape, rng = SHAPES[machine.size], random.Random(1)
    n_tokens = 512 if machine.size == "1.5B" else 32
    weights = [0.0] + [1e-3] * (n_tokens - 1)
    batch = [Example(tokens(rng, shape, n_tokens), weights, {}, []) for _ in range(4)]
    return lambda: update.update(machine.model, machine.settings(), batch, PLAIN)


def kernels(machine, job):
    """How long a device was busy during a job, and what it was at most of that."""
    from torch.profiler import ProfilerActivity, profile

    job()
    kind = ProfilerActivity.CUDA if machine.is_gpu else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiled:
        began = machine.now()
        job()
        seconds = machine.now() - began
    name = "self_device_time_total" if machine.is_gpu else "self_cpu_time_total"
    events = profiled.key_averages()
    spent = {event.key: getattr(event, name) * 1e-6 for event in events}
    most = sorted(spent, key=spent.get, reverse=True)[:8]
    n_calls = sum(event.count for event in events if spent[event.key])
    share = {key[:60]: round(spent[key] / seconds, 3) for key in most}
    return {"busy": sum(spent.values()) / seconds, "n_calls": n_calls, "shares": share}


def plain_rule(n_tokens):
    """So many tokens from the distribution as it is."""
    return Rule(1.0, 0, 0.0, n_tokens, None, frozenset())


@contextmanager
def tile(n_rows):
    """Passes on a GPU have so many rows inside of it."""
    before, model.TILE_GPU = model.TILE_GPU, n_rows
    try:
        yield
    finally:
        model.TILE_GPU = before


def _drawing(machine, n_rows, n_prompt, graphs):
    """An engine and rows that have drawn one token after a prompt."""
    prompt = tokens(random.Random(2), SHAPES[machine.size], n_prompt)
    engine = run.Engine(machine.model, machine.settings(cuda_graphs=graphs))
    rows = [
        run.Row(index, list(prompt), seed=draw.nth(7, index), rule=plain_rule(1))
        for index in range(n_rows)
    ]
    engine.waiting.extend(rows)
    _draw_all(engine, rows)
    return engine, rows


def _draw_all(engine, rows):
    n_finished = 0
    while n_finished < len(rows):
        n_finished += len(engine.until_finished())


def _decode(machine, n_rows, n_prompt, n_tokens, graphs=False):
    engine, rows = _drawing(machine, n_rows, n_prompt, graphs)
    for row in rows:
        row.rule = plain_rule(n_tokens)
    began = machine.now()
    _draw_all(engine, rows)
    return machine.now() - began


def decode(machine):
    """Rows that each draw a token a step: tokens a second, the prompt not counted; what graphs take
    to be recorded is.
    """

    def case(graphs, n_rows, n_prompt, n_tokens, n_tile):
        def job():
            with tile(n_tile):
                _decode(machine, n_rows, n_prompt, 2, graphs)
                seconds = _decode(machine, n_rows, n_prompt, n_tokens, graphs)
            rate = {"tokens_per_s": n_rows * n_tokens / seconds}
            return {**rate, "step_ms": 1e3 * seconds / n_tokens, **machine.memory()}

        return f"{n_rows} rows, {n_tile} a pass{', graphs' if graphs else ''}", job

    cases = [case(is_on, *some) for is_on in (False, True) for some in DECODE[machine.size]]
    n_prompt = DECODE[machine.size][0][1]
    rows = ("64 rows, 4 steps, by kernel", 64, n_prompt, 4)
    return [*cases, (rows[0], lambda: kernels(machine, lambda: _decode(machine, *rows[1:])))]


@dataclass
class Script:
    """A rollout: what is fed and how is drawn after it, move by move, and what follows at last;
    by move, what is likely to follow.
    """

    moves: list = field(default_factory=list)
    last: list = field(default_factory=list)
    drafts: list = field(default_factory=list)

    def begin(self, row, place):
        """Gives a row its move."""
        fed, row.rule = self.moves[place]
        row.tokens += fed
        row.draft = self.drafts[place] if self.drafts else []


@dataclass
class Rollout:
    """Its tokens; by place, the log-probabilities of those that were drawn, and among what some
    of them were.
    """

    tokens: list = field(default_factory=list)
    drawn: dict = field(default_factory=dict)
    choices: dict = field(default_factory=dict)


def rollouts(machine, scripts):
    """Plays scripts as `ra3` does: rows that have made their move get the next one at once."""
    engine = run.Engine(machine.model, machine.settings())
    rows, places = [], [1] * len(scripts)
    found = [Rollout() for _ in scripts]
    for index, script in enumerate(scripts):
        rows.append(run.Row(index, seed=draw.nth(11, index)))
        script.begin(rows[-1], 0)
    engine.waiting.extend(rows)
    n_open = len(rows)
    while n_open:
        for done in engine.until_finished():
            row, script = rows[done.index], scripts[done.index]
            start = len(row.tokens) - len(done.tokens)
            found[done.index].drawn |= dict(enumerate(done.logprobs, start))
            among = script.moves[places[done.index] - 1][1].choices
            if among:
                found[done.index].choices |= dict.fromkeys(range(start, len(row.tokens)), among)
            if places[done.index] == len(script.moves):
                engine.leave(row)
                found[done.index].tokens = row.tokens + script.last
                n_open -= 1
                continue
            script.begin(row, places[done.index])
            places[done.index] += 1
    return found, engine.n_run


def _phases(machine, scripts, group, is_scored, objective):
    """Draws, scores and learns, each timed; `is_scored` says which tokens of a rollout are."""
    began = machine.now()
    found, n_run = rollouts(machine, scripts)
    drawn_at = machine.now()
    sequences = [
        Example(row.tokens, [float(is_scored(row, at)) for at in range(len(row.tokens))], {}, [])
        for row in found
    ]
    scores, engine = run.score(machine.model, machine.settings(), sequences)
    scored_at = machine.now()
    rewards = [sum(row) for row in scores]
    batch = []
    for index, row in enumerate(found):
        start = index - index % group
        others = sum(rewards[start : start + group]) - rewards[index]
        advantage = rewards[index] - others / (group - 1)
        size = (advantage or 1.0) / len(found) / max(len(row.drawn), 1)
        weights = [size * (at in row.drawn) for at in range(len(row.tokens))]
        olds = [row.drawn.get(at, 0.0) for at in range(len(row.tokens))]
        batch.append(Example(row.tokens, weights, row.choices, olds))
    stats = update.update(machine.model, machine.settings(), batch, objective)
    updated_at = machine.now()
    seconds = {
        "draw_s": drawn_at - began,
        "score_s": scored_at - drawn_at,
        "update_s": updated_at - scored_at,
    }
    n_drawn = sum(len(row.drawn) for row in found)
    counts = {"drawn": n_drawn, "tokens": sum(len(row.tokens) for row in found)}
    work = {"rows_drawn": n_run, "rows_scored": engine.n_run, "rows_updated": stats.n_run}
    total = updated_at - began
    gap = {"gap_nats": stats.gap / max(stats.n_sampled, 1)}
    return {"seconds": total, **seconds, **counts, **work, **gap, **machine.memory()}


def e_step(machine):
    """Rollouts through given lines with few rationales, the lines' scores, an update."""
    large = machine.size == "1.5B"
    n_documents, group = (8, 8) if large else (2, 4)
    n_lines, n_prefix, n_line, n_rationale = (24, 64, 12, 30) if large else (4, 8, 6, 5)
    act, think, close = (SHAPES[machine.size]["vocab_size"] - at for at in (1, 2, 3))

    def script(rng, prefix, lines):
        moves, fed, drafts = [], prefix, []
        for at, line in enumerate(lines):
            thinks = rng.random() < 0.05
            drafts.append([token for rest in lines[at:] for token in (act, *rest)])
            # One choice: so how many think does not depend on the weights.
            moves.append((fed, Rule(1.0, 0, 0.0, 1, (think if thinks else act,), frozenset())))
            fed = line
            if thinks:
                moves.append(([], plain_rule(n_rationale)))
                drafts.append([])
                fed = [close, *line]
        return Script(moves, fed, drafts)

    def job():
        rng, shape, scripts = random.Random(3), SHAPES[machine.size], []
        for _ in range(n_documents):
            prefix = tokens(rng, shape, n_prefix)
            lines = [tokens(rng, shape, n_line) for _ in range(n_lines)]
            scripts += [script(rng, prefix, lines) for _ in range(group)]
        forced = lambda row, at: at >= n_prefix and at not in row.drawn
        return _phases(machine, scripts, group, forced, PLAIN)

    return [(f"{n_documents} documents x {group}, {n_lines} lines of {n_line}", job)]


def grpo(machine):
    """Answers to some prompts, their scores by a reference, a clipped update."""
    large = machine.size == "1.5B"
    n_prompts, group, n_prompt, n_tokens = (8, 8, 128, 256) if large else (2, 4, 8, 6)

    def job():
        rng, shape, scripts = random.Random(4), SHAPES[machine.size], []
        for _ in range(n_prompts):
            prompt = tokens(rng, shape, n_prompt)
            scripts += [Script([(prompt, plain_rule(n_tokens))]) for _ in range(group)]
        return _phases(machine, scripts, group, lambda row, at: at in row.drawn, CLIPPED)

    return [(f"{n_prompts} prompts x {group}, {n_tokens} tokens each", job)]
