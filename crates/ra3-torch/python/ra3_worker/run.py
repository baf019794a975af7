"""Drawing and scoring: all rows at once, tokens that rows share once.

Products run in tiles of `Settings.tile` rows, the last one filled up, and so does the projection
to the vocabulary. So a row's sums have one order, and what it draws depends on no other row; a
score has the bits of the draw that it is the score of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from . import draw
from .ahead import Ahead
from .attention import Bucket, PathPlan, attending, path_length
from .draw import Ask, Rule
from .graphs import FixedPasses
from .model import Model, Settings
from .pool import Pool
from .trie import Example

LIVE_ROWS_MAX = 512
STEP_TOKENS_MAX = 4096
GROWTH_MIN = 64
# Drafts fill a pass up to so many rows, and its last tile: fewer cost about as much.
AHEAD_ROWS = 64
# Slots whose keys are gathered at a time: on a processor few enough for them to stay near.
GATHERED_CPU, GATHERED_GPU = 1 << 12, 1 << 17


class NotANumber(Exception):
    """A log-probability was NaN."""


class PoolTooSmall(Exception):
    """One row alone does not fit: its tokens, the slots, and the bytes that it needs."""


@dataclass(eq=False)
class Row:
    """A rollout or a sequence: its tokens, and the slots of the first of them."""

    index: int
    tokens: list[int] = field(default_factory=list)
    path: list[int] = field(default_factory=list)
    lane: int = -1
    was_parked: bool = False
    # Of a rollout: its seed, its draws so far, and the move that it makes.
    seed: int = 0
    n_draws: int = 0
    rule: Rule | None = None
    # What is likely to follow its tokens.
    draft: list[int] = field(default_factory=list)
    ahead: Ahead = field(default_factory=Ahead)
    drawn: list[float] = field(default_factory=list)
    # Of a sequence: what is scored.
    sequence: Example | None = None
    logprobs: list[float] = field(default_factory=list)
    n_asked: int = 1

    def token(self, depth: int) -> int:
        """A token of its own, or behind them of its draft."""
        n = len(self.tokens)
        return self.tokens[depth] if depth < n else self.draft[depth - n]

    @property
    def is_drafting(self) -> bool:
        """True if it is about to draw what a draft begins with, and its own tokens have slots."""
        has_drawn = self.rule is None or self.drawn
        return bool(self.draft) and not has_drawn and len(self.path) == len(self.tokens)

    @property
    def is_over(self) -> bool:
        """True for a sequence that has no question left."""
        return self.sequence is not None and self.n_asked >= len(self.tokens)


@dataclass
class Finished:
    """A move that is made: the row, its tokens, their log-probabilities, why it stopped."""

    index: int
    tokens: list[int]
    logprobs: list[float]
    stop: int


STOP_TOKEN, STOP_LENGTH, STOP_CONTEXT = 0, 1, 2


class Engine:
    """Rows that draw or are scored, and their pool."""

    def __init__(self, model: Model, settings: Settings) -> None:
        """No rows yet."""
        self.model, self.device = model.still(settings), torch.device(settings.device)
        self.settings = settings
        self.pool = Pool(self.model, settings)
        self.live: list[Row] = []
        self.waiting: deque[Row] = deque()
        self.n_run, self.flops = 0, 0.0
        # False if a step has failed, and what it has taken in the pool may be empty.
        self.is_whole = True
        shape = (LIVE_ROWS_MAX, path_length(model.n_context - 1))
        self._paths = torch.zeros(shape, dtype=torch.long, device=self.device)
        self._lanes = list(range(LIVE_ROWS_MAX))[::-1]
        self.model.network.eval()
        self._n_gathered = GATHERED_CPU if self.device.type == "cpu" else GATHERED_GPU
        self._fixed: FixedPasses | None = None
        if settings.cuda_graphs:
            shared = self.pool, self._paths, self._n_gathered
            self._fixed = FixedPasses(self.model, settings, *shared)

    @torch.no_grad()
    def until_finished(self) -> list[Finished]:
        """Steps until at least one row has made its move, or none is left that has one."""
        finished: list[Finished] = []
        self._refresh()
        with self.model.drawing(self.settings):
            while not finished and (self.waiting or any(map(self._is_busy, self.live))):
                self._admit()
                finished = self._step()
        return finished

    @torch.no_grad()
    def until_scored(self) -> None:
        """Steps until every sequence has its log-probabilities."""
        self._refresh()
        with self.model.drawing(self.settings):
            while self.waiting or self.live:
                self._admit()
                self._step()
                for row in [row for row in self.live if row.is_over]:
                    self.leave(row)

    def leave_all(self) -> None:
        """Every row is over."""
        for row in [*self.live, *self.waiting]:
            self.leave(row)

    def _refresh(self) -> None:
        if self._fixed:
            self._fixed.refresh()

    def leave(self, row: Row) -> None:
        """A row is over."""
        if row in self.live:
            self.live.remove(row)
            self._give_back(row)
        elif row in self.waiting:
            self.waiting.remove(row)

    @staticmethod
    def _is_busy(row: Row) -> bool:
        return row.rule is not None or row.sequence is not None

    def _give_back(self, row: Row) -> None:
        row.ahead.clear(self.pool)
        self.pool.release(row.path)
        row.path = []
        self._lanes.append(row.lane)
        row.lane = -1

    def _admit(self) -> None:
        while self.waiting and len(self.live) < LIVE_ROWS_MAX:
            row = self.waiting[0]
            n = len(row.tokens)
            growth = 0 if row.sequence else max(n if row.was_parked else 0, GROWTH_MIN)
            n_wanted = min(n + growth, self.model.n_context)
            if self.live and n_wanted > self.pool.n_open:
                return
            row.lane = self._lanes.pop()
            self.live.append(self.waiting.popleft())

    def _step(self) -> list[Finished]:
        self.is_whole = False
        fresh: list[tuple[int, Row, int]] = []
        placed: list[tuple[int, int, int]] = []
        for row in self.live:
            self._attach(row, fresh, placed)
        if fresh:
            self._run_ahead(fresh, placed)
        if placed:
            lanes, depths, slots = torch.tensor(placed, device=self.device).T
            self._paths[lanes, depths] = slots
        for some in self._portions(fresh):
            self._pass(some)
        self.is_whole = True
        asked = [pair for row in self.live for pair in self._questions(row)]
        finished = self._answer(asked)
        if not (placed or asked):
            self._park()
        return finished

    def _attach(self, row: Row, fresh: list, placed: list) -> None:
        pool, path = self.pool, row.path
        while len(path) < len(row.tokens):
            parent, token = path[-1] if path else -1, row.tokens[len(path)]
            slot = pool.find(parent, token)
            if slot is not None:
                pool.hold(slot)
            else:
                slot = pool.take(parent, token) if len(fresh) < STEP_TOKENS_MAX else None
                if slot is None:
                    return
                fresh.append((slot, row, len(path)))
            placed.append((row.lane, len(path), slot))
            path.append(slot)
            row.ahead.reach(slot, pool)

    def _run_ahead(self, fresh: list, placed: list) -> None:
        """Fills a pass up with what rows are likely to need in the next ones."""
        n_most = max(len(fresh) + -len(fresh) % self.settings.tile, AHEAD_ROWS)
        rows = [row for row in self.live if row.is_drafting]
        while rows and len(fresh) < n_most:
            looking = []
            for row in rows:
                taken = row.ahead.extend(row.path, row.draft, self.pool, n_most - len(fresh))
                placed += [(row.lane, depth, slot) for depth, slot, _ in taken]
                fresh += [(slot, row, depth) for depth, slot, is_new in taken if is_new]
                if taken:
                    looking.append(row)
            rows = looking

    def _portions(self, fresh: list[tuple[int, Row, int]]) -> Iterator[list[tuple[int, Row, int]]]:
        """What passes run, in their order; each token after those below it."""
        together = {0: fresh}
        if self._fixed:
            # One length each, the shortest first.
            together = {}
            for one in sorted(fresh, key=lambda one: path_length(one[2])):
                together.setdefault(path_length(one[2]), []).append(one)
        n_most = self.settings.n_pass_max
        for some in together.values():
            for start in range(0, len(some), n_most):
                yield some[start : start + n_most]

    def _pass(self, fresh: list[tuple[int, Row, int]]) -> None:
        depths = [depth for _, _, depth in fresh]
        if self._fixed:
            rows = [(row.token(depth), depth, slot, row.lane) for slot, row, depth in fresh]
            self._fixed.run(rows, path_length(max(depths)))
        else:
            self._run_as_is(fresh)
        self.n_run += len(fresh)
        self.flops += self.model.layer_flops(depths)

    def _run_as_is(self, fresh: list[tuple[int, Row, int]]) -> None:
        n = len(fresh)
        slots = torch.tensor([slot for slot, _, _ in fresh], device=self.device)
        depths = [depth for _, _, depth in fresh]
        tokens = [row.token(depth) for _, row, depth in fresh]
        plan = PathPlan(self.pool.keys, self.pool.values, slots, self._buckets(fresh))
        with self.settings.compute(), attending(plan):
            hidden = self.model.hidden(
                torch.tensor(self._fill(tokens), device=self.device),
                torch.tensor(self._fill(depths), device=self.device),
            )
        self.pool.hidden.index_copy_(0, slots, hidden[:n].float())

    def _fill(self, values: list[int]) -> list[int]:
        """Copies of the last one fill up the last tile."""
        return values + values[-1:] * (-len(values) % self.settings.tile)

    def _buckets(self, fresh: list[tuple[int, Row, int]]) -> list[Bucket]:
        rows_of: dict[int, list[int]] = {}
        for place, (_, _, depth) in enumerate(fresh):
            rows_of.setdefault(path_length(depth), []).append(place)
        buckets = []
        for length, places in _pieces(rows_of, self._n_gathered):
            lanes = torch.tensor([fresh[place][1].lane for place in places], device=self.device)
            depths = torch.tensor([fresh[place][2] for place in places], device=self.device)
            mask = torch.arange(length, device=self.device)[None, :] <= depths[:, None]
            # What a path does not reach may be any slot: it is masked, but has to be a number.
            slots = self._paths[lanes, :length].where(mask, 0)
            rows = torch.tensor(places, device=self.device)
            buckets.append(Bucket(rows, slots.flatten(), mask[:, None, None, :]))
        return buckets

    def _questions(self, row: Row) -> list[tuple[int, Row, int, Ask]]:
        """Slot, row, position and question."""
        if row.rule is not None:
            if len(row.path) < len(row.tokens):
                return []
            share = draw.uniform(draw.nth(row.seed, row.n_draws))
            ask = Ask(0, 0, row.rule.choices, row.rule, share)
            return [(row.path[-1], row, len(row.tokens), ask)]
        found = []
        if row.sequence is not None:
            example = row.sequence
            for position in range(row.n_asked, len(row.path)):
                if example.weights[position] != 0.0:
                    ask = Ask(0, row.tokens[position], example.choices.get(position))
                    found.append((row.path[position - 1], row, position, ask))
            row.n_asked = max(row.n_asked, len(row.path))
        return found

    def _answer(self, asked: list[tuple[int, Row, int, Ask]]) -> list[Finished]:
        by_slot: dict[int, list[tuple[int, Row, int, Ask]]] = {}
        for question in asked:
            by_slot.setdefault(question[0], []).append(question)
        self.flops += self.model.head_flops(len(by_slot))
        slots, finished = list(by_slot), []
        n_most = self.settings.n_pass_max
        for start in range(0, len(slots), n_most):
            some = slots[start : start + n_most]
            filled = torch.tensor(self._fill(some), device=self.device)
            with self.settings.compute():
                logits = self.model.logits(self.pool.hidden[filled])
            questions = []
            for place, slot in enumerate(some):
                for question in by_slot[slot]:
                    question[3].place = place
                    questions.append(question)
            answers = draw.answer(logits, [ask for _, _, _, ask in questions])
            for (_, row, position, _), (token, logprob) in zip(questions, answers, strict=True):
                if logprob != logprob:
                    raise NotANumber
                if row.sequence is not None:
                    row.logprobs[position] = logprob
                else:
                    finished += self._drawn(row, token, logprob)
        return finished

    def _drawn(self, row: Row, token: int, logprob: float) -> list[Finished]:
        rule = row.rule
        row.tokens.append(token)
        row.drawn.append(logprob)
        row.n_draws += 1
        n = len(row.drawn)
        if token in rule.stop:
            stop = STOP_TOKEN
        elif n >= rule.n_tokens_max:
            stop = STOP_LENGTH
        elif len(row.tokens) >= self.model.n_context:
            stop = STOP_CONTEXT
        else:
            return []
        done = Finished(row.index, row.tokens[-n:], row.drawn, stop)
        row.rule, row.drawn, row.draft = None, [], []
        return [done]

    def _park(self) -> None:
        """The youngest row waits for room; what has to make room is computed again later. What was
        run ahead goes first.
        """
        ahead = [row.ahead for row in self.live if row.ahead.slots]
        if ahead:
            for slots in ahead:
                slots.clear(self.pool)
            return
        row = self.live.pop()
        if not self.live:
            n = len(row.tokens)
            raise PoolTooSmall(n, self.pool.n_slots_max, n * self.pool.n_bytes)
        self._give_back(row)
        row.was_parked = True
        self.waiting.appendleft(row)


def _pieces(rows_of: dict[int, list[int]], n_slots: int) -> Iterator[tuple[int, list[int]]]:
    """Lengths of paths and the rows that have them, of so many slots together if that can be."""
    for length, rows in rows_of.items():
        n_most = max(n_slots // length, 1)
        for start in range(0, len(rows), n_most):
            yield length, rows[start : start + n_most]


def score(
    model: Model, settings: Settings, sequences: list[Example], kept: Engine | None = None
) -> tuple[list, Engine]:
    """Log-probabilities of the tokens that have weight, 0 for the others; and the work.

    An engine that has drawn with the same weights has what it ran, and only the rest is run.
    """
    engine = kept or Engine(model, settings)
    engine.n_run, engine.flops = 0, 0.0
    rows = [
        Row(index, example.tokens, sequence=example, logprobs=[0.0] * len(example.tokens))
        for index, example in enumerate(sequences)
    ]
    engine.waiting.extend(rows)
    engine.until_scored()
    return [row.logprobs for row in rows], engine
