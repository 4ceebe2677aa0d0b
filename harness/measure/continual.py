"""Measures of continual learning, over a sequence of tasks.

`P[t, j]` is the score on task j after adapting to tasks 0…t, in the unit of the scores.
"""

import numpy as np
from numpy.typing import ArrayLike

from razorbench.harness.measure.clusters import Array


def avg_acc(P: ArrayLike) -> float:
    """Mean over tasks j of P[T, j], T the last row."""
    return float(_square(P)[-1].mean())


def forgetting_measure(P: ArrayLike) -> float:
    """Mean over j < T of P[T, j] − max over t of P[t, j]: at most 0 (Lai 2025). NaN cells are left out of the max."""
    P = _square(P)
    return float((P[-1] - np.fmax.reduce(P, axis=0))[:-1].mean()) if len(P) > 1 else np.nan


def backward_transfer(P: ArrayLike) -> float:
    """Mean over j < T of P[T, j] − P[j, j] (Lopez-Paz & Ranzato 2017); NaN for one task."""
    P = _square(P)
    return float((P[-1] - np.diag(P))[:-1].mean()) if len(P) > 1 else np.nan


def _square(P: ArrayLike) -> Array:
    P = np.asarray(P, dtype=float)
    if P.ndim != 2 or P.shape[0] != P.shape[1] or not P.size:
        raise ValueError(f"found a matrix of shape {P.shape}; expected [T, T]: a row after each task, a column a task")
    return P
