"""Columns of scores, one an item, and the clusters over which they are summed."""

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


def columns(*columns: ArrayLike) -> list[Array]:
    """The columns as floats; raises ValueError unless they are one-dimensional and of one length."""
    arrays = [np.asarray(column, dtype=float) for column in columns]
    if any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"found columns of shape {shapes}; expected one dimension and one length: one score an item")
    return arrays


def binary(*columns: Array) -> bool:
    """Whether all scores are 0 or 1."""
    return all(bool(np.isin(column, (0.0, 1.0)).all()) for column in columns)


def sums(values: Array, scored: Array, cluster: ArrayLike | None) -> tuple[Array, Array]:
    """Sum and number of the scored values in each cluster, `[m]` and `[m]`."""
    if cluster is None:
        return values, np.ones(len(values))
    names = np.asarray(cluster)
    if names.shape != scored.shape:
        raise ValueError(f"found clusters of shape {names.shape}; expected {scored.shape}: one name an item")
    index = places(names[scored])
    return np.bincount(index, weights=values), np.bincount(index).astype(float)


def places(names: Array) -> Array:
    """The number, from 0, of the cluster of each item `[n]`, given their names; each None is one by itself."""
    if names.dtype != object:
        return np.unique(names, return_inverse=True)[1]
    named = np.array([name is not None for name in names], bool)
    distinct, at = np.unique(names[named], return_inverse=True)
    index = np.empty(len(names), int)
    index[named], index[~named] = at, len(distinct) + np.arange((~named).sum())
    return index


def one_size(change: Array) -> bool:
    """Whether all changes that are not 0 are as large as each other."""
    size = np.abs(change[change != 0])
    return bool(len(size) == 0 or size.max() - size.min() <= 1e-6 * size.max())
