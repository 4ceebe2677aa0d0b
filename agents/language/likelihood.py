"""What a model makes of given continuations: what they share is read once, and only what is asked for is scored.

Continuations of one context, and contexts with a common beginning, are branches of one tree of tokens. A tree is laid
out as one sequence in which a token sees those that it goes on from. What many trees begin with (a few-shot header)
is their trunk's header: it is read by itself, and its keys are kept for all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from razorbench.agents.language.packing import TAILS, Laid
from razorbench.harness.learn.vocabulary import WHOLE, log_softmax

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of what comes after it, at least one each."""

SHARED = 4
"""Tokens from which on two branches are one tree, if they are a quarter of what the second adds, too: the branches of a
tree attend to each other in vain.
"""
LIKE = 1.2
"""How much longer than the shortest of its batch a tree may be, unless the batch is smaller than `SMALL`."""
SMALL = 512
"""Tokens of a batch, padding included, below which the padding costs less than another pass."""
BLOCK = 32
"""A header's length is a multiple of it."""
WORTH = 2048
"""Tokens that must come after a header before it is read by itself."""
KEYS = 4
"""How many keys are looked at in a pass, as a multiple of the tokens of a micro-batch, where there is a header."""


@dataclass(frozen=True)
class Branch:
    """A pair as one sequence of tokens, of which all but the last are read, and those from `first` on are scored."""

    owner: int
    ids: np.ndarray
    first: int

    @property
    def read(self) -> np.ndarray:
        """The tokens that are read."""
        return self.ids[:-1]


@dataclass(frozen=True)
class Tree:
    """Neighbouring branches, laid out behind a header of so many tokens: columns of its tokens and of what is asked."""

    ids: list[int]
    position: list[int]
    until: list[int]
    source: list[int]
    code: list[int]
    owner: list[int]
    forks: bool

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Wood:
    """A header, which may be empty, and batches of trees that come after it."""

    header: np.ndarray
    parts: list[Laid]


def woods(pairs: Sequence[Pair], most: int, budget: int) -> Iterator[Wood]:
    """How to read all pairs in batches of some `budget` tokens; a pair of more than `most` + 1 loses its beginning."""
    branches = sorted((branch(owner, *pair, most) for owner, pair in enumerate(pairs)), key=lambda b: b.ids.tolist())
    shared = np.array([0, *(common(one, other) for one, other in pairwise(branches))], np.int64)
    fresh = np.array([len(branch.read) for branch in branches], np.int64) - shared
    before = np.array([branch.first - 1 for branch in branches], np.int64)  # a tree needs a token that foretells
    header = np.minimum(shared, np.minimum(before, np.roll(before, 1))) // BLOCK * BLOCK
    plain: list[Tree] = []
    for start, end, length in headers(header, fresh):
        made = list(trees(branches[start:end], shared[start:end], length, budget))
        if length:
            yield Wood(branches[start].ids[:length], laid(made, length, KEYS * budget))
        else:
            plain += made
    if plain:
        yield Wood(np.zeros(0, np.int64), laid(plain, 0, budget))


def branch(owner: int, context: Sequence[int], continuation: Sequence[int], most: int) -> Branch:
    """A pair, cut to its last `most` + 1 tokens."""
    ids = np.array([*context, *continuation], np.int64)[-(most + 1) :]
    return Branch(owner, ids, len(ids) - len(continuation))


def common(one: Branch, other: Branch) -> int:
    """How many tokens two branches begin with that are the same, and are read."""
    n = min(len(one.read), len(other.read))
    differ = one.ids[:n] != other.ids[:n]
    return int(differ.argmax()) if differ.any() else n


def headers(shared: np.ndarray, fresh: np.ndarray) -> list[tuple[int, int, int]]:
    """Runs [start, end) of neighbours, all of them in order, each with the length of its header; 0: none.

    `shared` [n] tells how much each has in common with the one before, `fresh` [n] how much it adds. Of all ways to
    give each at most one header the one is taken that spares the most tokens.
    """

    def best(start: int, end: int) -> tuple[int, list[tuple[int, int, int]]]:
        if end - start < 2 or fresh[start + 1 : end].sum() < WORTH:
            return 0, [(start, end, 0)]
        inner = shared[start + 1 : end]
        least = int(inner.min())
        cuts = start + 1 + np.flatnonzero(inner == least)
        parts = [best(a, b) for a, b in pairwise([start, *cuts.tolist(), end])]
        apart, together = sum(spared for spared, _ in parts), least * (end - start - 1)
        if together and together >= apart:
            return together, [(start, end, least)]
        return apart, [run for _, runs in parts for run in runs]

    runs: list[tuple[int, int, int]] = []
    for start, end, length in best(0, len(shared))[1] if len(shared) else []:
        if runs and not length and not runs[-1][2]:
            runs[-1] = (runs[-1][0], end, 0)
        else:
            runs.append((start, end, length))
    return runs


def trees(branches: Sequence[Branch], shared: np.ndarray, header: int, budget: int) -> Iterator[Tree]:
    """Neighbours that begin alike beyond the header as one tree, while it is small enough for its attention."""
    start = size = 0
    for at, each in enumerate(branches):
        alike = int(shared[at]) - header
        fresh = len(each.read) - int(shared[at])
        if at > start and fresh and (alike < max(SHARED, fresh // 4) or size + fresh > min(budget, TAILS + 2 * alike)):
            yield grown(branches[start:at], shared[start:at], header)
            start, size = at, 0
        size += len(each.read) - header if at == start else fresh
    yield grown(branches[start:], shared[start:], header)


def grown(branches: Sequence[Branch], shared: np.ndarray, header: int) -> Tree:
    """One tree of neighbours, in order."""
    tree = Tree([], [], [], [], [], [], False)
    path: list[int] = []  # the columns of the tokens that the present branch reads beyond the header
    forks = False
    for at, each in enumerate(branches):
        kept = int(shared[at]) - header if at else 0
        for column in path[kept:]:
            tree.until[column] = len(tree)
        forks |= kept < len(path)
        more = range(header + kept, len(each.read))
        path = path[:kept] + list(range(len(tree), len(tree) + len(more)))
        tree.ids.extend(each.ids[header + kept : len(each.read)].tolist())
        tree.position.extend(more)
        tree.until.extend([-1] * len(more))
        asked = range(each.first, len(each.ids))
        tree.source.extend(path[token - 1 - header] for token in asked)
        tree.code.extend(each.ids[each.first :].tolist())
        tree.owner.extend([each.owner] * len(asked))
    until = [len(tree) if column < 0 else column for column in tree.until]
    return Tree(tree.ids, tree.position, until, tree.source, tree.code, tree.owner, forks)


def laid(trees: list[Tree], header: int, budget: int) -> list[Laid]:
    """Batches of trees of like size; a pass has at most `budget` tokens, the header's included."""
    parts: list[list[Tree]] = []
    for tree in sorted(trees, key=len):
        some = parts[-1] if parts else []
        size = (len(some) + 1) * len(tree)
        if some and size + (len(some) + 1) * header <= budget and (size <= SMALL or len(tree) <= LIKE * len(some[0])):
            some.append(tree)
        else:
            parts.append([tree])
    return [lay(part) for part in parts]


def lay(trees: list[Tree]) -> Laid:
    """Trees as a batch, padded at the end."""
    shape = len(trees), max(map(len, trees))
    ids, position, until = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, shape[1])
    for row, tree in enumerate(trees):
        n = len(tree)
        ids[row, :n], position[row, :n], until[row, :n] = tree.ids, tree.position, tree.until
    source = np.concatenate([row * shape[1] + np.array(tree.source) for row, tree in enumerate(trees)])
    code, owner = (np.concatenate([getattr(tree, name) for tree in trees]) for name in ("code", "owner"))
    return Laid(ids, position, until, any(tree.forks for tree in trees), source, code, owner)


def scored(hidden: Tensor, head: Tensor, row: Tensor, code: Tensor, cap: float | None = None) -> tuple[Tensor, Tensor]:
    """Log-probabilities [M] of the tokens `code` [M] at hidden states [R, D], of which each has a `row` [M]; and
    whether each is the likeliest there. A state that foretells many tokens is multiplied with the head once.
    """
    nats, likeliest = torch.empty(len(code), device=code.device), torch.empty_like(code, dtype=torch.bool)
    some = max(1, WHOLE // len(head))
    for start in range(0, len(hidden), some):
        logp = log_softmax(hidden[start : start + some], head, cap)  # [some, V]
        mine = ((row >= start) & (row < start + some)).nonzero()[:, 0]
        at, tokens = row[mine] - start, code[mine]
        nats[mine], likeliest[mine] = logp[at, tokens].float(), logp.argmax(-1)[at] == tokens
    return nats, likeliest


def gathered(owner: np.ndarray, nats: np.ndarray, likeliest: np.ndarray, n: int) -> list[tuple[float, bool]]:
    """Of each of n pairs the log-probability, and whether each of its tokens is the likeliest, from those of tokens."""
    total = np.zeros(n)
    np.add.at(total, owner, nats)
    greedy = np.ones(n, bool)
    np.logical_and.at(greedy, owner, likeliest)
    return list(zip(total.tolist(), greedy.tolist(), strict=True))
