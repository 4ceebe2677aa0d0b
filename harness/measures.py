"""What is measured of an adaptation beside its loss: the curves that say whether it learns, and from what."""

from collections.abc import Mapping

import numpy as np

from harness.types import Episodes, Reply

MEASURES: Mapping[str, str] = {
    "entropy": "Entropy of the policy at an element that it sampled, nats: the mean of −log π, which is unbiased.",
    "length": "Elements (tokens, bins) of an answer, mean.",
    "cut": "Share of the answers that were cut off at the limit.",
    "equal_groups": "Share of the groups whose rewards are all equal: they carry no signal for a group baseline.",
    "silent": "Steps in a row, up to this one, in which no answer carried a weight: nothing was learned.",
    "mismatch": "Distance |Δ log π| of an answer between sampler and trainer, nats, mean: 0 but for rounding.",
    "clipped": "Share of the elements whose probability ratio lies outside of 1 ± clip, where a batch is used again.",
    "kl": "KL(π‖π₀) to the base at an element of the batch, nats, where there is a KL penalty.",
}
"""Name of a measure → what it is."""


def of_samples(episodes: Episodes, reward: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """Measures of what a policy has sampled: of N episodes with their rewards [N] (NaN: unscored) and groups [N]."""
    elements = int(episodes.lengths().sum())
    found = {"length": elements / len(episodes)}
    nats = sampled_nats(episodes)
    if elements and not np.isnan(nats).any():
        found["entropy"] = -float(nats.sum()) / elements
    cut, worded = np.zeros(len(episodes), bool), False
    for turn in episodes.turns:
        values = turn.done.value if turn.done is not None else None
        if isinstance(values, list) and values and isinstance(values[0], Reply):
            worded = True
            cut[turn.rows] |= [not getattr(value, "finished", True) for value in values]
    if worded:
        found["cut"] = float(cut.mean())
    scored = ~np.isnan(reward)
    low, high = np.full(group.max() + 1, np.inf), np.full(group.max() + 1, -np.inf)
    np.minimum.at(low, group[scored], reward[scored])
    np.maximum.at(high, group[scored], reward[scored])
    several = np.bincount(group[scored], minlength=len(low)) > 1
    if several.any():
        found["equal_groups"] = float((low == high)[several].mean())
    return found


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
