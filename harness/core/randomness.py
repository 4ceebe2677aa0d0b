"""Randomness is a number: keys are hashed, and the same key gives the same numbers, always."""

from hashlib import blake2b
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column


def mix(*columns: Any) -> np.ndarray:
    """Hash integers or integer columns (broadcast) into uint64: chained splitmix64 finalisers (Steele et al. 2014)."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for column in columns:
            word = np.asarray(column).astype(np.uint64)
            state = (state ^ word) * np.uint64(0xD1342543DE82EF95) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state)


def uniform(key: np.ndarray, elements: int) -> np.ndarray:
    """Uniform numbers in (0, 1), [n, elements] float64, from keys [n]: the same key gives the same numbers, always."""
    bits = mix(np.asarray(key)[:, None], np.arange(elements)[None, :])
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def keys_of(ids: Column) -> np.ndarray:
    """A uint64 key for each id, [n]; ids are integers or strings."""
    ids = np.asarray(ids)
    if ids.dtype.kind in "iu":
        return mix(ids)
    return np.array([int.from_bytes(blake2b(str(i).encode(), digest_size=8).digest(), "big") for i in ids], np.uint64)


def occurrence(key: np.ndarray) -> np.ndarray:
    """How often each key [n] has stood before in the column: 0 for the first, 1 for the second, … [n]."""
    order = np.argsort(key, kind="stable")
    ranked = key[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    count = np.empty(len(key), np.int64)
    count[order] = np.arange(len(key)) - np.repeat(starts, np.diff(np.r_[starts, len(key)]))
    return count
