"""What is measured of an adaptation beside its loss: the curves that say whether it learns, and from what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from razorbench.harness.core.episodes import Episodes, Reply

MEASURES: Mapping[str, str] = {
    "entropy": "Entropy of the policy at an element that it sampled, nats: the mean of −log π, which is unbiased.",
    "length": "Elements (tokens, bins) of an answer, mean.",
    "cut": "Share of the answers that were cut off at the limit.",
    "equal_groups": "Share of the groups whose rewards are all equal: they carry no signal for a group baseline.",
    "silent": "Steps in a row, up to this one, in which no answer carried a weight: nothing was learned.",
    "mismatch": "Distance |Δ log π| of an answer between sampler and trainer, nats, mean: 0 but for rounding.",
    "capped": "Share of the elements whose importance weight π/π_sampler was cut to importance_cap, if there is one.",
    "clipped": "Share of the elements whose probability ratio lies outside of 1 ± clip, where a batch is used again.",
    "kl": "KL(π‖π₀) to the base at an element of the batch, nats, where there is a KL penalty.",
    "update_norm": "Distance ‖θ − θ₀‖₂ of the trained weights from where they started.",
    "update_sparsity": "Share of the trained weights within 1e-5 of where they started.",
}
"""Name of a measure → what it is; observers (`learn.observers`) may bring others."""


@dataclass(frozen=True)
class Sampled:
    """What is measured of N answers that a policy has drawn, one number an answer."""

    length: np.ndarray
    """Elements."""
    nats: np.ndarray
    """Log-probability with which it was drawn; NaN: not told."""
    cut: np.ndarray
    """Whether it was cut off: 1, 0, or NaN of what is no text."""
    reward: np.ndarray
    """NaN: unscored."""
    group: np.ndarray
    """Those who answer the same prompt share a number."""

    @staticmethod
    def of(episodes: Episodes, group: np.ndarray) -> "Sampled":
        """Of sampled episodes and their groups [N]."""
        cut = np.full(len(episodes), np.nan)
        for turn in episodes.turns:
            values = turn.done.value if turn.done is not None else None
            if isinstance(values, list) and values and isinstance(values[0], Reply):
                ended = np.array([getattr(value, "finished", True) for value in values])
                cut[turn.rows] = np.fmax(cut[turn.rows], ~ended)
        return Sampled(episodes.lengths(), sampled_nats(episodes), cut, episodes.reward, group)

    @staticmethod
    def join(parts: Sequence["Sampled"]) -> "Sampled":
        """Several as one; their groups are different ones."""
        start = np.cumsum([0, *(part.group.max(initial=-1) + 1 for part in parts)])
        group = np.concatenate([part.group + first for part, first in zip(parts, start, strict=False)])
        length, nats, cut, reward = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("length", "nats", "cut", "reward")
        )
        return Sampled(length, nats, cut, reward, group)

    def measures(self) -> dict[str, float]:
        """Those of `MEASURES` that are known."""
        if not len(self.length):
            return {}
        elements = int(self.length.sum())
        measures = {"length": elements / len(self.length)}
        if elements and not np.isnan(self.nats).any():
            measures["entropy"] = -float(self.nats.sum()) / elements
        if not np.isnan(self.cut).any():
            measures["cut"] = float(self.cut.mean())
        scored = ~np.isnan(self.reward)
        low, high = (np.full(self.group.max() + 1, end) for end in (np.inf, -np.inf))
        np.minimum.at(low, self.group[scored], self.reward[scored])
        np.maximum.at(high, self.group[scored], self.reward[scored])
        several = np.bincount(self.group[scored], minlength=len(low)) > 1
        if several.any():
            measures["equal_groups"] = float((low == high)[several].mean())
        return measures


def sampled_nats(episodes: Episodes) -> np.ndarray:
    """Log-probability [N] with which the sampler drew each episode, nats; NaN where it did not tell."""
    total = np.zeros(len(episodes))
    for turn in episodes.turns:
        logp = None if turn.done is None else turn.done.logp
        if logp is None:
            total[turn.rows] = np.nan
        elif isinstance(logp, list):
            total[turn.rows] += [sum(row) for row in logp]
        else:
            total[turn.rows] += logp.double().sum(-1).cpu().numpy()
    return total
