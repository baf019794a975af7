"""A batch as a forest: examples that begin alike share their rows, and nothing is padded.

Rows of a tree are depth first, so the rows below row `k` are `k .. end[k]`, and row `q` sees row
`k` where `k <= q < end[k]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Examples join a tree only if they share this many tokens.
SHARED_TOKENS_MIN = 8


@dataclass
class Example:
    """A training sequence: one weight a token, restricted targets by position."""

    tokens: list[int]
    weights: list[float]
    choices: dict[int, tuple[int, ...]]
    old_logprobs: list[float]


@dataclass
class Target:
    """A token whose log-probability counts, and the row that predicts it."""

    row: int
    token: int
    weight: float
    choices: tuple[int, ...] | None
    # As it was sampled, if it was.
    old_logprob: float | None


@dataclass
class Forest:
    """Trees one after the other."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def rows_with_targets(self) -> list[int]:
        """By rising number."""
        return sorted({target.row for target in self.targets})

    def rows_read(self) -> list[int] | None:
        """The rows that the last layer runs behind its attention, if these are not all: the loss
        reads no others. Where it reads nearly all, choosing would not pay.
        """
        rows = self.rows_with_targets()
        return rows if rows and 8 * len(rows) <= 7 * len(self.tokens) else None


def grow(examples: Iterable[Example]) -> list[Forest]:
    """A tree for each group of examples that begin alike, in the order of their first ones."""
    return [_tree(group) for group in groups(examples)]


def groups(examples: Iterable[Example]) -> list[list[Example]]:
    """The examples of each tree."""
    found: dict[tuple[int, ...], list[Example]] = {}
    for example in examples:
        found.setdefault(tuple(example.tokens[:SHARED_TOKENS_MIN]), []).append(example)
    return list(found.values())


def micro_batches(trees: list[Forest], n_rows_max: int) -> list[Forest]:
    """Consecutive trees whose rows fit together; a larger tree is alone."""
    batches: list[Forest] = []
    for tree in trees:
        last = batches[-1] if batches else None
        if last is None or len(last.tokens) + len(tree.tokens) > n_rows_max:
            batches.append(Forest())
        _append(batches[-1], tree)
    return batches


def _append(forest: Forest, tree: Forest) -> None:
    start = len(forest.tokens)
    forest.tokens += tree.tokens
    forest.positions += tree.positions
    forest.ends += [end + start for end in tree.ends]
    for target in tree.targets:
        target.row += start
    forest.targets += tree.targets


def _tree(examples: list[Example]) -> Forest:
    # A last token is a target at most: nothing follows it, and it has no row.
    tokens, children, paths = [examples[0].tokens[0]], [{}], []
    for example in examples:
        path = [0]
        for token in example.tokens[1:-1]:
            node = children[path[-1]].get(token)
            if node is None:
                node = len(tokens)
                children[path[-1]][token] = node
                tokens.append(token)
                children.append({})
            path.append(node)
        paths.append(path)
    tree, row_of = Forest(), [0] * len(tokens)
    # A node is left after all nodes below it: then its end is known.
    stack = [(0, 0, False)]
    while stack:
        node, depth, is_left = stack.pop()
        if is_left:
            tree.ends[row_of[node]] = len(tree.tokens)
            continue
        row_of[node] = len(tree.tokens)
        tree.tokens.append(tokens[node])
        tree.positions.append(depth)
        tree.ends.append(0)
        stack.append((node, depth, True))
        stack += [(child, depth + 1, False) for child in reversed(children[node].values())]
    for example, path in zip(examples, paths, strict=True):
        _add_targets(tree, example, [row_of[node] for node in path])
    tree.targets.sort(key=lambda target: target.row)
    return tree


def _add_targets(tree: Forest, example: Example, rows: list[int]) -> None:
    for position, weight in enumerate(example.weights):
        if weight != 0.0:
            old = example.old_logprobs[position] if example.old_logprobs else None
            token, choices = example.tokens[position], example.choices.get(position)
            tree.targets.append(Target(rows[position - 1], token, weight, choices, old))
