"""Drawing tokens and scoring them, from logits; the draws are those of `ra3`'s own engine.

What is reported is the log-probability of the unmodified distribution, restricted to the choices
where there are any: temperature, top-k and top-p change the draw only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """The finalizer of SplitMix64."""
    z = (value + 0x9E37_79B9_7F4A_7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
    return z ^ (z >> 31)


def nth(seed: int, index: int) -> int:
    """The child of a seed with a number."""
    return mix((mix(seed ^ 0x69_6E64_6578) + index) & MASK)


def uniform(seed: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    return (mix(seed) >> 11) / (1 << 53)


@dataclass(frozen=True)
class Rule:
    """How tokens are drawn, and when drawing stops; 0 for `top_k` and `top_p` is none."""

    temperature: float
    top_k: int
    top_p: float
    n_tokens_max: int
    choices: tuple[int, ...] | None
    stop: frozenset[int]


@dataclass
class Ask:
    """A question about a row of logits: the log-probability of a token, or a draw."""

    place: int
    token: int
    choices: tuple[int, ...] | None
    rule: Rule | None = None
    uniform: float = 0.0


def answer(logits: Tensor, asks: list[Ask]) -> list[tuple[int, float]]:
    """A token and its log-probability for each question.

    Logits have the same number of rows at every call, so that a row's sums have one order.
    """
    groups: dict[tuple[int, ...] | None, list[int]] = {}
    for index, ask in enumerate(asks):
        groups.setdefault(ask.choices, []).append(index)
    answers: list[tuple[int, float]] = [(0, 0.0)] * len(asks)
    for choices, indices in groups.items():
        chosen = logits if choices is None else logits[:, list(choices)]
        group = [asks[index] for index in indices]
        at = _places(chosen, group, choices)
        places = torch.tensor([ask.place for ask in group], device=logits.device)
        own = torch.logsumexp(chosen, -1)
        logprobs = chosen[places, torch.tensor(at, device=logits.device)] - own[places]
        for index, place, logprob in zip(indices, at, logprobs.tolist(), strict=True):
            answers[index] = (place if choices is None else choices[place], logprob)
    return answers


def _places(chosen: Tensor, asks: list[Ask], choices: tuple[int, ...] | None) -> list[int]:
    """Where in `chosen` the asked or drawn tokens are."""
    places = [0] * len(asks)
    plain = []
    for index, ask in enumerate(asks):
        rule = ask.rule
        if rule is None:
            places[index] = ask.token if choices is None else choices.index(ask.token)
        elif rule.temperature > 0 and rule.top_k == 0 and rule.top_p == 0:
            plain.append(index)
        else:
            ids = range(chosen.shape[1]) if choices is None else choices
            places[index] = _among(chosen[ask.place], rule, ask.uniform, ids)
    if plain:
        rows = chosen[torch.tensor([asks[index].place for index in plain], device=chosen.device)]
        warmth = [asks[index].rule.temperature for index in plain]
        uniforms = [asks[index].uniform for index in plain]
        drawn = pick(weights(rows, warmth), uniforms)
        for index, place in zip(plain, drawn, strict=True):
            places[index] = place
    return places


def weights(rows: Tensor, warmth: list[float]) -> Tensor:
    """`exp((logit - top) / temperature)`; an infinite temperature is the even distribution."""
    tops = rows.amax(-1, keepdim=True)
    temperatures = torch.tensor(warmth, dtype=rows.dtype, device=rows.device)
    return torch.exp((rows - tops) / temperatures[:, None])


def pick(rows: Tensor, uniforms: list[float]) -> list[int]:
    """For each row of weights the first place at which their sum exceeds its share."""
    sums = rows.double().cumsum(-1)
    shares = torch.tensor(uniforms, dtype=torch.float64, device=rows.device) * sums[:, -1]
    found = torch.searchsorted(sums, shares[:, None], right=True)[:, 0].tolist()
    for index, place in enumerate(found):
        if place >= rows.shape[1]:
            # Rounding only: the last place that can be drawn at all.
            positive = (rows[index] > 0).nonzero()
            found[index] = int(positive[-1]) if len(positive) else 0
    return found


def _among(row: Tensor, rule: Rule, share: float, ids: range | tuple[int, ...]) -> int:
    """A place by greedy choice, top-k or top-p; ties go to the lowest id."""
    # By id: all tokens are already, and are too many to sort for each row.
    n = len(ids)
    order = ids if isinstance(ids, range) else sorted(range(n), key=lambda place: ids[place])
    by_id = row if isinstance(ids, range) else row[order]
    if rule.temperature <= 0:
        return order[int((by_id == by_id.max()).nonzero()[0])] if by_id.isfinite().any() else 0
    kept, likeliest = weights(by_id[None], [rule.temperature])[0].sort(descending=True, stable=True)
    if rule.top_k:
        kept = kept[: rule.top_k]
    if rule.top_p:
        sums = kept.double().cumsum(-1)
        # The rule is `f32`: so is its share here.
        goal = float(torch.tensor(rule.top_p)) * sums[-1]
        reached = (sums >= goal).nonzero()
        kept = kept[: int(reached[0]) + 1] if len(reached) else kept
    return order[int(likeliest[pick(kept[None], [share])[0]])]
