"""What is known of each element that a policy has chosen: with what probability it was drawn, and in which turn."""

import numpy as np
import torch
from torch import Tensor

from razorbench.harness.core.columns import Column
from razorbench.harness.core.episodes import Episodes
from razorbench.harness.learn.policy import Prediction


class Elements:
    """Columns [E] over the elements of N episodes: those of an episode together, in the order they were chosen in.

    A policy predicts an episode's elements in that order, too, whatever micro-batches it makes of them; so a counter
    an episode tells which they are.
    """

    turn: Tensor
    """Which of its episode's turns an element belongs to, from 0."""
    logp: Tensor
    """Log-probability with which the sampler drew it, nats; NaN: not told."""

    def __init__(self, episodes: Episodes):
        """Of episodes with codes."""
        whose, turn, logp = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
        turns = np.zeros(len(episodes), np.int64)
        for asked in episodes.turns:
            if asked.done is None:
                continue
            lengths = asked.done.lengths()
            whose.append(np.repeat(asked.rows, lengths))
            turn.append(np.repeat(turns[asked.rows], lengths))
            logp.append(flat(asked.done.logp, int(lengths.sum())))
            turns[asked.rows] += 1
        owner = np.concatenate(whose)
        order = np.argsort(owner, kind="stable")
        self.turn, self.logp = (torch.from_numpy(np.concatenate(parts)[order]) for parts in (turn, logp))
        self.next = np.searchsorted(owner[order], np.arange(len(episodes)))
        """Where the first element of each episode stands that was not predicted yet, [N]."""

    def places(self, part: Prediction) -> Tensor:
        """Where the elements [n, T] of the next micro-batch stand in the columns; 0 where there is no element."""
        real = np.ones(part.code.shape[:2], bool) if part.mask is None else part.mask.cpu().numpy()
        owner = np.broadcast_to(part.owner.cpu().numpy()[:, None], real.shape)[real]  # [m]
        order = np.argsort(owner, kind="stable")
        owner = owner[order]
        place = np.empty(len(owner), np.int64)
        place[order] = self.next[owner] + np.arange(len(owner)) - np.searchsorted(owner, owner)
        self.next += np.bincount(owner, minlength=len(self.next))
        places = np.zeros(real.shape, np.int64)
        places[real] = place
        return torch.from_numpy(places)


def flat(logp: Column, elements: int) -> np.ndarray:
    """`Actions.logp` of one turn, row after row, [elements] nats; NaN: not told."""
    if logp is None:
        return np.full(elements, np.nan)
    if isinstance(logp, list):
        return np.concatenate([np.asarray(row, np.float64) for row in logp])
    return logp.double().flatten().cpu().numpy()
