"""Requests and their answers, one at a time, over the models of this process by slot.

Of several ranks each answers with what it has found of its own part; `hub` makes one answer of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from . import model as models
from . import run, state, update
from .draw import Rule
from .hub import FAILURE, FILE, GRADIENT, LOSS, NOT_A_NUMBER, OTHER, POOL
from .model import Model, ModelError, Settings
from .ranks import ALONE, OtherRank, Ranks, places
from .trie import Example
from .update import NonFinite, Objective
from .wire import Columns, Frame, Kind

MOVE_DONE, MOVE_SAMPLE = 0, 1


class Server:
    """The models by slot, and the run that is going on."""

    def __init__(self, settings: Settings, ranks: Ranks = ALONE) -> None:
        """No models yet."""
        self.settings, self.ranks = settings, ranks
        self.models: dict[int, Model] = {}
        self.engine: run.Engine | None = None
        self.rows: dict[int, run.Row] = {}
        # What has drawn last, and with which model, for what is asked next if that is its scores.
        self._kept: tuple[int, run.Engine] | None = None
        self._slot = 0
        # The rank of each row that has drawn.
        self._rank_of: dict[int, int] = {}
        self._handlers: dict[int, Callable[[list], Columns]] = {
            Kind.LOAD: self._load,
            Kind.SAVE: self._save,
            Kind.LOAD_STATE: self._load_state,
            Kind.COPY: self._copy,
            Kind.DROP: self._drop,
            Kind.FREEZE: self._freeze,
            Kind.RESET: self._reset,
            Kind.GROW: self._grow,
            Kind.RESTART: self._restart,
            Kind.RUN_BEGIN: self._run_begin,
            Kind.MOVES: self._moves,
            Kind.RUN_END: self._run_end,
            Kind.SCORE: self._score,
            Kind.UPDATE: self._update,
            Kind.REHEARSE: self._rehearse,
        }

    def answer(self, frame: Frame) -> tuple[Kind, Columns]:
        """What a request is answered with; an error where it cannot be done."""
        if frame.kind != Kind.SCORE:
            self._kept = None
        try:
            return Kind.ANSWER, self._handlers[frame.kind](frame.columns)
        except NonFinite as error:
            is_loss, value, rank = error.args
            whose = "all ranks together" if rank is None else f"rank {rank}"
            text = f"{whose}, at {Kind(frame.kind).name.lower()}" if self.ranks.size > 1 else ""
            return _error(LOSS if is_loss else GRADIENT, [value], text)
        except OtherRank as error:
            return _error(OTHER, [], f"rank {error.args[0]} has failed")
        except run.NotANumber:
            return _error(NOT_A_NUMBER, [])
        except run.PoolTooSmall as error:
            return _error(POOL, [float(number) for number in error.args])
        except ModelError as error:
            return _error(FILE, [], str(error))
        except torch.OutOfMemoryError as error:
            return _error(FAILURE, [], f"{error}; lower training.micro_batch_tokens")

    def _load(self, columns: list) -> Columns:
        [slot], folder = columns
        self.models[slot] = models.load(Path(folder), self.settings, self.ranks)
        return Columns().text(json.dumps(self.models[slot].shape()))

    def _save(self, columns: list) -> Columns:
        [slot], [saved], folder = columns
        state.save(self.models[slot], Path(folder), saved, self.ranks)
        return Columns()

    def _load_state(self, columns: list) -> Columns:
        [slot], folder = columns
        state.load_state(self.models[slot], Path(folder), self.settings.device, self.ranks)
        return Columns()

    def _copy(self, columns: list) -> Columns:
        [slot], [to] = columns
        self.models[to] = self.models[slot].copy()
        return Columns()

    def _drop(self, columns: list) -> Columns:
        [[slot]] = columns
        self.models.pop(slot, None)
        return Columns()

    def _reset(self, columns: list) -> Columns:
        [[slot]] = columns
        self.models[slot].moments = models.Moments()
        return Columns()

    def _freeze(self, columns: list) -> Columns:
        [[slot]] = columns
        self.models[slot].freeze()
        return Columns()

    def _grow(self, columns: list) -> Columns:
        [slot], [n_vocabulary], *noise = columns
        self.models[slot].grow(n_vocabulary, noise)
        return Columns().text(json.dumps(self.models[slot].shape()))

    def _restart(self, columns: list) -> Columns:
        [slot], tokens, *noise = columns
        self.models[slot].restart(tokens, noise)
        return Columns()

    def _run_begin(self, columns: list) -> Columns:
        [[slot]] = columns
        # What it has put together goes first.
        self.engine = None
        self.engine, self._slot = run.Engine(self.models[slot], self.settings), slot
        self.rows, self._rank_of = {}, {}
        return Columns()

    def _moves(self, columns: list) -> Columns:
        moves = list(_read_moves(columns))
        fresh = [(index, len(fed)) for index, _, _, fed, *_ in moves if index not in self._rank_of]
        ranks = places([n_fed for _, n_fed in fresh], self.ranks.size)
        self._rank_of.update({index: rank for (index, _), rank in zip(fresh, ranks, strict=True)})
        for index, kind, seed, fed, rule, draft in moves:
            if self._rank_of[index] != self.ranks.rank:
                continue
            row = self.rows.get(index)
            if row is None:
                row = self.rows[index] = run.Row(index, seed=seed)
                if kind == MOVE_SAMPLE:
                    self.engine.waiting.append(row)
            row.tokens += fed
            if kind == MOVE_DONE:
                self.engine.leave(row)
            else:
                row.rule, row.draft = rule, draft
        finished = self.engine.until_finished()
        tokens = [token for row in finished for token in row.tokens]
        logprobs = [logprob for row in finished for logprob in row.logprobs]
        answer = Columns().numbers(1, [row.index for row in finished])
        answer.numbers(1, [len(row.tokens) for row in finished])
        answer.numbers(1, [row.stop for row in finished])
        return answer.numbers(1, tokens).numbers(2, logprobs)

    def _run_end(self, _columns: list) -> Columns:
        engine, self.engine, self.rows = self.engine, None, {}
        if engine.is_whole:
            engine.leave_all()
            self._kept = self._slot, engine
        return Columns().numbers(3, [engine.n_run]).numbers(4, [engine.flops])

    def _score(self, columns: list) -> Columns:
        [slot], *batch = columns
        sequences = list(_read_batch(batch))
        own = self.ranks.own(sequences, [len(sequence.tokens) for sequence in sequences])
        # Most of what is scored is not scored again, and there is room for one cache: it goes.
        (drawn_by, kept), self._kept = self._kept or (None, None), None
        kept = kept if drawn_by == slot else None
        logprobs, engine = run.score(self.models[slot], self.settings, own, kept)
        answer = Columns().numbers(2, [value for row in logprobs for value in row])
        return answer.numbers(3, [engine.n_run]).numbers(4, [engine.flops])

    def _update(self, columns: list) -> Columns:
        [slot], objective, *batch = columns
        examples = list(_read_batch(batch))
        model, objective = self.models[slot], _objective(objective)
        return _stats(update.update(model, self.settings, examples, objective, self.ranks))

    def _rehearse(self, columns: list) -> Columns:
        [slot], objective, *batch = columns
        model, objective = self.models[slot], _objective(objective)
        examples = list(_read_batch(batch))
        stats = update.gradient(model, self.settings, examples, objective, self.ranks)
        model.zero_grad()
        return _stats(stats)


def _error(code: int, values: list[float], text: str = "") -> tuple[Kind, Columns]:
    return Kind.ERROR, Columns().numbers(1, [code]).numbers(4, values).text(text)


def _objective(values: list[float]) -> Objective:
    clips, low, high, learning_rate = values
    return Objective(clips != 0.0, low, high, learning_rate)


def _stats(stats: update.Stats) -> Columns:
    mean = stats.positive_logprob / (stats.positive_weight or 1.0)
    share = stats.n_clipped / max(stats.n_targets, 1)
    gap = stats.gap / max(stats.n_sampled, 1)
    values = [stats.loss, mean, stats.norm, share, gap, stats.flops]
    return Columns().numbers(4, values).numbers(3, [stats.n_run, stats.n_sampled])


def _read_batch(columns: list) -> Iterator[Example]:
    """Columns: tokens and old log-probabilities of each example, restrictions of each, then all
    tokens, weights, old log-probabilities, places of restrictions, numbers of their choices, and
    the choices.
    """
    n_tokens, n_olds, n_restricted, tokens, weights, olds, places, n_choices, choices = columns
    at, old_at, place_at, choice_at = 0, 0, 0, 0
    for n, n_old, n_places in zip(n_tokens, n_olds, n_restricted, strict=True):
        restricted = {}
        for place in range(place_at, place_at + n_places):
            end = choice_at + n_choices[place]
            restricted[places[place]] = tuple(choices[choice_at:end])
            choice_at = end
        yield Example(
            tokens[at : at + n],
            weights[at : at + n],
            restricted,
            olds[old_at : old_at + n_old],
        )
        at, old_at, place_at = at + n, old_at + n_old, place_at + n_places


def _read_moves(
    columns: list,
) -> Iterator[tuple[int, int, int, list[int], Rule | None, list[int]]]:
    """Columns: row, kind and number of fed tokens of each move, their seeds, the fed tokens; then
    of each rule its temperature and top-p, its top-k, its limit, the numbers of its choices, stops
    and drafted tokens, and these.
    """
    rows, kinds, n_fed, seeds, fed, floats, counts, choices, stops, drafts = columns
    fed_at, rule_at, choice_at, stop_at, draft_at = 0, 0, 0, 0, 0
    for row, kind, n, seed in zip(rows, kinds, n_fed, seeds, strict=True):
        rule, draft = None, []
        if kind == MOVE_SAMPLE:
            temperature, top_p = floats[2 * rule_at : 2 * rule_at + 2]
            top_k, n_max, n_choices, n_stops, n_draft = counts[5 * rule_at : 5 * rule_at + 5]
            among = tuple(choices[choice_at : choice_at + n_choices])
            stop = frozenset(stops[stop_at : stop_at + n_stops])
            rule = Rule(temperature, top_k, top_p, n_max, among or None, stop)
            draft = drafts[draft_at : draft_at + n_draft]
            rule_at, choice_at, stop_at = rule_at + 1, choice_at + n_choices, stop_at + n_stops
            draft_at += n_draft
        yield row, kind, seed, fed[fed_at : fed_at + n], rule, draft
        fed_at += n
