"""Several answers to one prompt as one sequence, in which none sees another; and batches of like lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from razorbench.agents.language.chat import Talk

TAILS = 512
"""Tokens in a pack beyond twice its prompt: attention costs the square of a pack's length."""


@dataclass
class Pack:
    """One sequence: a prompt, then the tails [k] of the conversations that it opens; nobody sees another's tail."""

    opening: list[int]
    owners: list[int]
    talks: list[Talk]

    def __len__(self) -> int:
        return len(self.opening) + sum(len(talk.tail[:-1]) for talk in self.talks)


def packed(talks: list[Talk], budget: int) -> list[Pack]:
    """Packs of neighbours that answer one prompt, of at most `budget` tokens, the shortest first."""
    packs: list[Pack] = []
    for owner, talk in enumerate(talks):
        if not talk.tail:
            continue
        last = packs[-1] if packs else None
        if (
            last
            and last.opening == talk.opening
            and len(last) + len(talk.tail) <= min(budget, TAILS + 2 * len(talk.opening))
        ):
            last.owners.append(owner)
            last.talks.append(talk)
        else:
            packs.append(Pack(talk.opening, [owner], [talk]))
    return sorted(packs, key=len)


@dataclass
class Laid:
    """Packs laid out as a batch [B, L]: token ids and positions; and what is predicted where, [M] each."""

    ids: np.ndarray
    position: np.ndarray
    until: np.ndarray
    """The column before which everything that goes on from a token stands: from there on nothing sees it."""
    forks: bool
    """Whether anything stands behind a token that it does not go on from."""
    source: np.ndarray
    """Index into the flattened batch of the token after which the code follows."""
    code: np.ndarray
    owner: np.ndarray


def lay(packs: list[Pack]) -> Laid:
    """Lay out packs, padded at the end. All see the prompt, and none another's tail."""
    shape = len(packs), max(map(len, packs))
    ids, position, until = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, shape[1])
    source, code, owner = [], [], []
    for b, pack in enumerate(packs):
        n = start = len(pack.opening)
        ids[b, :n], position[b, :n] = pack.opening, np.arange(n)
        for who, talk in zip(pack.owners, pack.talks, strict=True):
            tail, chosen = np.array(talk.tail), np.flatnonzero(talk.chosen)
            end = start + len(tail) - 1
            ids[b, start:end], position[b, start:end], until[b, start:end] = tail[:-1], n + np.arange(end - start), end
            source.append(b * shape[1] + np.where(chosen == 0, n, start + chosen) - 1)
            code.append(tail[chosen])
            owner.append(np.full(len(chosen), who))
            start = end
    forks = any(len(talk.tail) > 1 for pack in packs for talk in pack.talks[1:])
    return Laid(ids, position, until, forks, *(np.concatenate(parts) for parts in (source, code, owner)))


def batches(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Slices of lengths, each of at most `budget` elements when padded (or of a single longer row)."""
    start = longest = 0
    for end, length in enumerate(lengths):
        longest = max(longest, length)
        if end > start and (end + 1 - start) * longest > budget:
            yield slice(start, end)
            start, longest = end, length
    if len(lengths):
        yield slice(start, len(lengths))
