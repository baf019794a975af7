"""Checks of `gpu.py`: the engine's numbers on a device beside figures that were stored, a formula
in `f64`, and themselves.

A part is a list of cases: a title, and a function that gives figures, among them `passes`.
"""

import dataclasses
import json
import math
import random

import torch
from gpu_jobs import PLAIN, plain_rule, tokens
from ra3_worker import draw, model, run, update
from ra3_worker.attention import Bucket, ForestPlan, PathPlan
from ra3_worker.model import Settings
from ra3_worker.trie import Example, grow

# Nats between log-probabilities at most, their mean, and the share that the loss and the norm of
# the gradient may be off. Stored figures are those of a processor in f32.
STORED = {"float32": (1e-3, 1e-4, 1e-3), "bfloat16": (0.2, 0.02, 0.01)}
# Distance by norm between attention and the formula in f64.
FORMULA = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


def expected(base):
    """Sequences, most of them drawn by the base, and what it makes of them."""
    settings, rng = Settings(), random.Random(1)
    ours = model.load(base, settings)
    rows = [run.Row(index, [0], seed=draw.nth(5, index), rule=plain_rule(95)) for index in range(6)]
    engine = run.Engine(ours, settings)
    engine.waiting.extend(rows)
    n_open = len(rows)
    while n_open:
        n_open -= len(engine.until_finished())
    sequences = [row.tokens for row in rows]
    # Some that begin alike, and some that it would not write.
    sequences += [sequences[0][:40] + sequences[1][40:], tokens(rng, ours.config, 64)]
    return {"sequences": sequences, **_figures(ours, settings, _examples(sequences))}


def _examples(sequences):
    n = sum(map(len, sequences))
    return [Example(row, [0.0] + [1.0 / n] * (len(row) - 1), {}, []) for row in sequences]


def _figures(ours, settings, examples):
    scores, _ = run.score(ours, settings, examples)
    stats = update.gradient(ours, settings, examples, PLAIN)
    return {"logprobs": scores, "loss": stats.loss, "norm": stats.norm}


def correctness(machine, base, stored):
    """Scores and a gradient of the base beside those that a processor found."""

    def case(dtype):
        def job():
            known = json.loads(stored.read_text())
            settings = Settings(machine.device, dtype, machine.n_threads)
            ours = model.load(base, settings)
            found = _figures(ours, settings, _examples(known["sequences"]))
            distances = [
                abs(a - b)
                for row, other in zip(found["logprobs"], known["logprobs"], strict=True)
                for a, b in zip(row, other, strict=True)
            ]
            mean = sum(distances) / len(distances)
            off = [abs(found[name] / known[name] - 1.0) for name in ("loss", "norm")]
            figures = {"max_nats": max(distances), "mean_nats": mean}
            figures |= {"loss_off": off[0], "norm_off": off[1]}
            reached = (max(distances), mean, max(off))
            limits = STORED[dtype]
            passes = all(a <= b for a, b in zip(reached, limits, strict=True))
            return {"passes": passes, **figures, "at_most": str(limits)}

        return f"base, {dtype}", job

    return [case(dtype) for dtype in STORED]


def _tries(rng, n_rows):
    """Sequences that begin alike, three times."""
    ends = []
    for _ in range(3):
        trunk = [rng.randrange(50) for _ in range(n_rows // 4)]
        examples = []
        for _ in range(6):
            own = [rng.randrange(50) for _ in range(n_rows // 8)]
            examples.append(Example(trunk[: rng.randrange(len(trunk))] + own, [], {}, []))
        for tree in grow(examples):
            start = len(ends)
            ends += [end + start for end in tree.ends]
    return ends


def _ancestors(ends):
    """The rows that each row sees, itself the last."""
    return [[key for key in range(row + 1) if row < ends[key]] for row in range(len(ends))]


def _formula(q, k, v, paths, scale):
    """`softmax(q k^T scale) v` over each row's path: `[1, heads, rows, width]` to `[1, rows, heads,
    width]`.
    """
    n_each = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(n_each, 1) for part in (k, v))
    hidden = torch.ones(len(paths), len(paths), dtype=torch.bool)
    for row, path in enumerate(paths):
        hidden[row, path] = False
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(hidden, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def _distance(found, known):
    return float((found.detach().double().cpu() - known.detach()).norm() / known.detach().norm())


def attention(machine):
    """Both plans of `attention.py` over random tries beside the formula in `f64`."""
    large = machine.size == "1.5B"
    n_heads, n_keys, width = (12, 2, 128) if large else (4, 2, 16)
    scale = 1.0 / math.sqrt(width)

    def inputs(seed, dtype):
        ends = _tries(random.Random(seed), 400 if large else 60)
        torch.manual_seed(seed)
        shapes = [(1, n, len(ends), width) for n in (n_heads, n_keys, n_keys, n_heads)]
        # As the device has them: the formula gets the same numbers.
        parts = [torch.randn(shape).to(dtype) for shape in shapes]
        return ends, parts

    def forest(dtype, seed):
        def job():
            ends, (*parts, pull) = inputs(seed, dtype)
            pull = pull.transpose(1, 2)
            wide = [part.double().requires_grad_() for part in parts]
            known = _formula(*wide, _ancestors(ends), scale)
            (known * pull.double()).sum().backward()
            ours = [part.to(machine.device).requires_grad_() for part in parts]
            plan = ForestPlan.of(ends, torch.device(machine.device), dtype)
            found = plan.attend(0, *ours, scale)
            (found * pull.to(machine.device)).sum().backward()
            figures = {"forward": _distance(found, known)}
            for name, part, other in zip("qkv", ours, wide, strict=True):
                figures[f"d{name}"] = _distance(part.grad, other.grad)
            at_most = FORMULA[dtype]
            passes = all(value <= at_most for value in figures.values())
            return {"passes": passes, **figures, "at_most": at_most, "rows": len(ends)}

        return f"forest, {str(dtype)[6:]}, tries {seed}", job

    @torch.no_grad()
    def paths(dtype, seed):
        ends, (q, k, v, _) = inputs(seed, dtype)
        seen, device = _ancestors(ends), torch.device(machine.device)
        known = _formula(q.double(), k.double(), v.double(), seen, scale)
        longest = 1 << max(map(len, seen)).bit_length()
        slots = torch.tensor([path + [0] * (longest - len(path)) for path in seen], device=device)
        depths = torch.tensor([len(path) for path in seen], device=device)
        mask = torch.arange(longest, device=device)[None, :] < depths[:, None]
        rows = torch.arange(len(ends), device=device)
        pools = [torch.zeros(len(ends), n_keys * width, dtype=dtype, device=device) for _ in "kv"]
        bucket = Bucket(rows, slots.flatten(), mask[:, None, None, :])
        plan = PathPlan([pools[0]], [pools[1]], rows, [bucket])
        found = plan.attend(0, q.to(device), k.to(device), v.to(device), scale)
        distance, at_most = _distance(found, known), FORMULA[dtype]
        passes = distance <= at_most
        return {"passes": passes, "forward": distance, "at_most": at_most, "rows": len(ends)}

    cases = [forest(dtype, seed) for dtype in FORMULA for seed in (1, 2)]
    for dtype in FORMULA:
        title = f"paths, {str(dtype)[6:]}"
        cases.append((title, lambda dtype=dtype: paths(dtype, 1)))
    return cases


def _draws(ours, settings, prompts, n_tokens):
    """What rows draw, and its log-probabilities."""
    engine = run.Engine(ours, settings)
    rows = [
        run.Row(index, list(prompt), seed=draw.nth(9, index), rule=plain_rule(n_tokens))
        for index, prompt in prompts
    ]
    engine.waiting.extend(rows)
    found = {}
    while len(found) < len(rows):
        for done in engine.until_finished():
            found[done.index] = (done.tokens, done.logprobs)
    return found


def _prompts(n_vocabulary):
    """Rows of several lengths, some of which begin alike, by number."""
    rng = random.Random(8)
    start = [rng.randrange(n_vocabulary) for _ in range(20)]
    own = [[rng.randrange(n_vocabulary) for _ in range(rng.randrange(1, 40))] for _ in range(20)]
    return [(index, start[: rng.choice([0, 9, 20])] + row) for index, row in enumerate(own)]


def _drawn(prompts, found):
    """Sequences of what was drawn, for its score."""
    return [
        Example(prompt + found[at][0], [0.0] * len(prompt) + [1.0] * len(found[at][0]), {}, [])
        for at, prompt in prompts
    ]


def _same_draws(ours, settings, n_vocabulary):
    """Draws twice, a row alone, and the scores of what was drawn: all the same bits?"""
    rng, prompts = random.Random(9), _prompts(n_vocabulary)
    first = _draws(ours, settings, prompts, 12)
    found = {"twice": _draws(ours, settings, prompts, 12) == first}
    picked = rng.sample(prompts, 3)
    found["alone"] = all(
        _draws(ours, settings, [prompt], 12)[prompt[0]] == first[prompt[0]] for prompt in picked
    )
    sequences = _drawn(prompts, first)
    scores, _ = run.score(ours, settings, sequences)
    drawn = [value for at, _ in prompts for value in first[at][1]]
    scored = [value for row in scores for value in row[-12:]]
    found["score_is_draw"] = drawn == scored
    apart = max(abs(a - b) for a, b in zip(drawn, scored, strict=True))
    return {"passes": all(found.values()), **found, "max_nats": apart}


def _same_gradient(ours, settings, n_tokens):
    """One gradient twice: the same bits?"""
    rng = random.Random(6)
    start = [rng.randrange(200) for _ in range(n_tokens // 2)]
    batch = []
    for _ in range(6):
        row = start[: rng.choice([10, n_tokens // 2])]
        row = row + [rng.randrange(200) for _ in range(n_tokens // 2)]
        batch.append(Example(row, [0.0] + [rng.choice([1.0, -0.5])] * (len(row) - 1), {}, []))
    stats = [update.gradient(ours, settings, batch, PLAIN)]
    kept = {name: value.grad.clone() for name, value in ours.parameters().items()}
    stats.append(update.gradient(ours, settings, batch, PLAIN))
    others = [
        name for name, value in ours.parameters().items() if not torch.equal(value.grad, kept[name])
    ]
    is_same = stats[0] == stats[1] and not others
    return {"passes": is_same, "loss": stats[0].loss == stats[1].loss, "n_other": len(others)}


def bits(machine, base):
    """The same request twice has the same bits, and a row's depend on no other row."""

    def small(dtype):
        settings = Settings(machine.device, dtype, machine.n_threads)
        return model.load(base, settings), settings

    def draws(dtype):
        ours, settings = small(dtype)
        return _same_draws(ours, settings, ours.shape()["n_vocabulary"])

    def gradient(dtype):
        return _same_gradient(*small(dtype), 200)

    def own(check, *more):
        return check(machine.model, machine.settings(n_tokens_micro=2048), *more)

    cases = []
    for dtype in STORED:
        cases.append((f"draws, base, {dtype}", lambda dtype=dtype: draws(dtype)))
        cases.append((f"gradient, base, {dtype}", lambda dtype=dtype: gradient(dtype)))
    cases.append((f"draws, {machine.size}, bfloat16", lambda: own(_same_draws, 250)))
    cases.append((f"gradient, {machine.size}, bfloat16", lambda: own(_same_gradient, 400)))
    return cases


def graphs(machine, base):
    """Passes that graphs replay beside those that are launched one by one; on a processor the form
    that is recorded, as it is.
    """

    def compared(ours, settings, n_vocabulary):
        fast = dataclasses.replace(settings, cuda_graphs=True)
        prompts = _prompts(n_vocabulary)
        plain = _draws(ours, settings, prompts, 12)
        sequences = _drawn(prompts, plain)
        scores = [run.score(ours, each, sequences)[0] for each in (settings, fast)]
        pairs = zip(*(sum(rows, []) for rows in scores), strict=True)
        apart, at_most = max(abs(a - b) for a, b in pairs), STORED[settings.dtype][0]
        figures = {"max_nats": apart, "at_most": at_most, "same_scores": scores[0] == scores[1]}
        same_draws = _draws(ours, fast, prompts, 12) == plain
        return {"passes": apart <= at_most, **figures, "same_draws": same_draws}

    def small(dtype):
        settings = Settings(machine.device, dtype, machine.n_threads)
        ours = model.load(base, settings)
        return compared(ours, settings, ours.shape()["n_vocabulary"])

    own = f"{machine.size}, bfloat16"
    fast = machine.settings(cuda_graphs=True)
    cases = [(f"beside none, base, {dtype}", lambda dtype=dtype: small(dtype)) for dtype in STORED]
    cases.append((f"beside none, {own}", lambda: compared(machine.model, machine.settings(), 250)))
    return [*cases, (f"draws, {own}", lambda: _same_draws(machine.model, fast, 250))]
