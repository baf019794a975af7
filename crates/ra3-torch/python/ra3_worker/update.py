"""An update: micro-batches of whole trees, one gradient, one step of AdamW.

`loss = - sum of w log p(token)` or the clipped surrogate; weights arrive normalised, and nothing
divides by a count. The projection to the vocabulary runs in chunks: logits never exist for a whole
batch. What is no finite number is found before anything moves.

Ranks have the gradients of examples of their own, which add up; what they have to say of them they
tell each other before, so that all of them move or none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from .attention import ForestPlan, attending
from .compiled import FIRST_ROWS, CompiledLayers
from .model import Model, Moments, Settings
from .ranks import ALONE, OtherRank, Ranks
from .sharding import local
from .trie import Example, Forest, Target, groups, grow, micro_batches

BETA_1, BETA_2, EPSILON = 0.9, 0.95, 1e-8
ROWS_PER_CHUNK = 512


@dataclass(frozen=True)
class Objective:
    """What is maximised: the clipped surrogate where `clips`, else the log-likelihood."""

    clips: bool
    low: float
    high: float
    learning_rate: float


@dataclass
class Stats:
    """Sums over the targets of a batch, and the work."""

    loss: float = 0.0
    positive_logprob: float = 0.0
    positive_weight: float = 0.0
    n_targets: int = 0
    n_clipped: int = 0
    # Over the targets that were sampled: how far they are from it now, in nats, and their number.
    gap: float = 0.0
    n_sampled: int = 0
    norm: float = 0.0
    n_run: int = 0
    flops: float = 0.0


class NonFinite(Exception):
    """The loss or the norm is no finite number: whether it is the loss, its value, and the rank
    that it is of, if it is one's.
    """


def update(
    model: Model,
    settings: Settings,
    batch: list[Example],
    objective: Objective,
    ranks: Ranks = ALONE,
) -> Stats:
    """One step of the optimizer; the model is unchanged after an error."""
    stats = gradient(model, settings, batch, objective, ranks)
    clip = settings.clip_norm
    scale = clip / stats.norm if stats.norm > clip else 1.0
    step(model, settings, scale, objective.learning_rate, ranks)
    model.zero_grad()
    return stats


def gradient(
    model: Model,
    settings: Settings,
    batch: list[Example],
    objective: Objective,
    ranks: Ranks = ALONE,
) -> Stats:
    """Leaves the gradient of a batch at the parameters, of several ranks at their owners; none
    after an error.
    """
    model.adapt()
    model.zero_grad()
    model.network.train()
    try:
        stats = _total(*_own_gradient(model, settings, batch, objective, ranks), ranks)
        if ranks.size > 1:
            if not model.is_spread:
                ranks.add_up(model.trained())
            stats.norm = math.sqrt(sum(square for [square] in ranks.gather([_square(model)])))
        if not math.isfinite(stats.norm):
            raise NonFinite(False, stats.norm, None)
    except BaseException:
        model.zero_grad()
        raise
    return stats


def _own_gradient(
    model: Model, settings: Settings, batch: list[Example], objective: Objective, ranks: Ranks
) -> tuple[Stats, Exception | None]:
    """Of this rank's examples; an error is kept until the others know of it."""
    stats = Stats()
    in_trees = [example for group in groups(batch) for example in group]
    own = ranks.own(in_trees, [len(example.tokens) for example in in_trees])
    try:
        batches = micro_batches(grow(own), settings.n_tokens_micro)
        n_idle = _n_idle(model, len(batches), ranks)
        with _strict(), _compiled(model, settings):
            for forest in batches:
                _add_gradient(model, settings, forest, objective, stats)
            for _ in range(n_idle):
                _add_gradient(model, settings, Forest([0], [0], [1]), objective, Stats())
        if not model.is_spread:
            stats.norm = math.sqrt(_square(model))
    except Exception as error:
        if model.sharding:
            # The others wait for this rank in the middle of a pass: nothing can be said to them.
            raise
        return stats, error
    return stats, None


@contextmanager
def _compiled(model: Model, settings: Settings) -> Iterator[None]:
    """Inside of it layers are compiled, where that is wished."""
    if not settings.compile:
        yield
        return
    model.compiled = model.compiled or CompiledLayers(model.network)
    with model.compiled.running():
        if not model.compiled.has_run:
            rows = list(range(FIRST_ROWS))
            forest = Forest([0] * FIRST_ROWS, rows, [FIRST_ROWS] * FIRST_ROWS)
            # The code for one row would be another.
            forest.targets = [Target(row, 0, 0.0, None, None) for row in rows[::2]]
            likelihood = Objective(False, 0.0, 0.0, 0.0)
            _add_gradient(model, settings, forest, likelihood, Stats())
            model.zero_grad()
            model.compiled.has_run = True
        yield


def _n_idle(model: Model, n_batches: int, ranks: Ranks) -> int:
    """Micro-batches that others have and this rank has not: in each of them all ranks of a sharded
    model make its layers whole, so this one runs a row that nothing is learnt from.
    """
    if not model.sharding:
        return 0
    return int(max(n for [n] in ranks.gather([float(n_batches)]))) - n_batches


@contextmanager
def _strict() -> Iterator[None]:
    """Where results have to be the same each time, inside of it a warning is not enough.

    The backward pass of attention on a GPU splits its sums by chance, unless it is told that it
    must not: where it may warn, it warns and does.
    """
    is_on = torch.are_deterministic_algorithms_enabled()
    may_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(is_on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(is_on, warn_only=may_warn)


def _total(own: Stats, error: Exception | None, ranks: Ranks) -> Stats:
    """What all ranks have found; raises at all of them what one has to raise."""
    found = ranks.gather([float(error is not None), *map(float, astuple(own))])
    if error is not None:
        raise error
    for rank, (has_failed, *_) in enumerate(found):
        if has_failed:
            raise OtherRank(rank)
    all_stats = [Stats(*row) for _, *row in found]
    total = Stats(*map(sum, zip(*map(astuple, all_stats), strict=True)))
    for is_loss, name in ((True, "loss"), (False, "norm")):
        for rank, stats in enumerate(all_stats):
            if not math.isfinite(getattr(stats, name)):
                raise NonFinite(is_loss, getattr(stats, name), rank)
        if is_loss and not math.isfinite(total.loss):
            raise NonFinite(True, total.loss, None)
    for name in ("n_targets", "n_clipped", "n_sampled", "n_run"):
        setattr(total, name, int(getattr(total, name)))
    return total


def _square(model: Model) -> float:
    squares = [
        local(parameter.grad).double().square().sum()
        for parameter in model.trained().values()
        if parameter.grad is not None
    ]
    return float(sum(squares))


def _add_gradient(
    model: Model, settings: Settings, forest: Forest, objective: Objective, stats: Stats
) -> None:
    device = torch.device(settings.device)
    rows, read = forest.rows_with_targets(), forest.rows_read()
    with attending(ForestPlan.of(forest.ends, device, settings.computed, read)):
        with settings.compute():
            hidden = model.hidden(
                torch.tensor(forest.tokens, device=device),
                torch.tensor(forest.positions, device=device),
            )
        pulled = hidden.detach().requires_grad_()
        first = 0
        for start in range(0, len(rows), ROWS_PER_CHUNK):
            chunk = rows[start : start + ROWS_PER_CHUNK]
            last = first
            while last < len(forest.targets) and forest.targets[last].row <= chunk[-1]:
                last += 1
            targets, first = forest.targets[first:last], last
            with settings.compute():
                logits = model.logits(pulled[torch.tensor(chunk, device=device)])
            _surrogate(logits, chunk, targets, objective, stats).backward()
        if model.sharding and not rows:
            # All ranks add up the gradients of the same tensors: of the projection's, too.
            with settings.compute():
                logits = model.logits(pulled[:1])
            (0.0 * logits).sum().backward()
        if pulled.grad is not None:
            hidden.backward(pulled.grad)
    stats.n_run += len(forest.tokens)
    n_unread = 0 if read is None else len(forest.tokens) - len(read)
    n_rows = (len(rows), n_unread)
    for flops in model.training_flops(forest.positions, n_rows, settings.recompute):
        stats.flops += flops


def _surrogate(
    logits: Tensor, rows: list[int], targets: list[Target], objective: Objective, stats: Stats
) -> Tensor:
    """Counts the targets of some rows; what comes back has the gradient of their loss."""
    device = logits.device
    column = {row: index for index, row in enumerate(rows)}
    at = torch.tensor([column[target.row] for target in targets], device=device)
    tokens = torch.tensor([target.token for target in targets], device=device)
    weights = torch.tensor([target.weight for target in targets], device=device)
    logprobs = logits[at, tokens] - _log_sums(logits, at, targets)
    wide, wide_weights = logprobs.detach().double(), weights.double()
    positive = wide_weights.clamp(min=0.0)
    stats.n_targets += len(targets)
    stats.positive_logprob += float((positive * wide).sum())
    stats.positive_weight += float(positive.sum())
    sampled = [at for at, target in enumerate(targets) if target.old_logprob is not None]
    olds = [targets[at].old_logprob for at in sampled]
    stats.gap += sum(abs(new - old) for new, old in zip(wide[sampled].tolist(), olds, strict=True))
    stats.n_sampled += len(sampled)
    if not objective.clips:
        stats.loss -= float((wide_weights * wide).sum())
        return -(weights * logprobs).sum()
    olds = torch.tensor([target.old_logprob for target in targets], device=device)
    ratios = (logprobs.detach() - olds).exp()
    clipped = ratios.clamp(1.0 - objective.low, 1.0 + objective.high) * weights
    is_clipped = clipped < ratios * weights
    stats.loss -= float(torch.minimum(ratios * weights, clipped).double().sum())
    stats.n_clipped += int(is_clipped.sum())
    # The gradient of what is not clipped is that of its log-probability, times its ratio.
    pulls = torch.where(is_clipped, 0.0, weights * ratios)
    return -(pulls * logprobs).sum()


def _log_sums(logits: Tensor, at: Tensor, targets: list[Target]) -> Tensor:
    """For each target the `log sum exp` over what it was chosen among."""
    sums = torch.logsumexp(logits, -1)[at]
    restricted = [index for index, target in enumerate(targets) if target.choices is not None]
    if not restricted:
        return sums
    n_most = max(len(targets[index].choices) for index in restricted)
    choices = [
        list(targets[index].choices) + [-1] * (n_most - len(targets[index].choices))
        for index in restricted
    ]
    places = torch.tensor(restricted, device=logits.device)
    ids = torch.tensor(choices, device=logits.device)
    chosen = logits[at[places][:, None], ids.clamp(min=0)]
    own = torch.logsumexp(chosen.masked_fill(ids < 0, -math.inf), -1)
    return sums.index_put((places,), own)


@torch.no_grad()
def step(
    model: Model,
    settings: Settings,
    scale: float,
    learning_rate: float,
    ranks: Ranks = ALONE,
) -> None:
    """AdamW as `ra3`'s own engine has it; matrices alone decay."""
    moments = model.moments
    moments.n_steps += 1
    kept = torch.bfloat16 if settings.moments == "bfloat16" else torch.float32
    correction_1 = 1.0 - BETA_1**moments.n_steps
    correction_2 = 1.0 - BETA_2**moments.n_steps
    for name, weight, gradient in model.stepped(ranks):
        g = torch.zeros_like(weight) if gradient is None else gradient * scale
        m, v = _moments(moments, name, weight)
        m = BETA_1 * m + (1.0 - BETA_1) * g
        v = BETA_2 * v + (1.0 - BETA_2) * g * g
        size = (v / correction_2).sqrt() + EPSILON
        decay = settings.weight_decay if weight.ndim == 2 else 0.0
        weight -= learning_rate * (m / correction_1 / size + decay * weight)
        moments.first[name], moments.second[name] = m.to(kept), v.to(kept)
    if ranks.size > 1 and not model.is_spread:
        ranks.spread(model.trained())
    model.settle()


def _moments(moments: Moments, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    if name not in moments.first:
        return torch.zeros_like(weight), torch.zeros_like(weight)
    return moments.first[name].float(), moments.second[name].float()
