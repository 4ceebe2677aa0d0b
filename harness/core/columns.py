"""Columns: rows along the leading axis, of whatever kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Column = Any
"""Rows along the leading axis: an ndarray, a torch tensor, a list, or a mapping of names to columns."""


def take(column: Column, index: np.ndarray) -> Column:
    """Rows `index` [k] of a column, with repeats if asked; None and a single string (the same for all rows) stay."""
    if column is None or isinstance(column, str):
        return column
    if isinstance(column, Mapping):
        return {name: take(inner, index) for name, inner in column.items()}
    if isinstance(column, list):
        return [column[i] for i in index]
    if isinstance(column, np.ndarray):
        return column.take(index, axis=0)
    return column[index]  # a torch tensor


def row(column: Column, i: int) -> Any:
    """Row `i` of a column."""
    if column is None or isinstance(column, str):
        return column
    if isinstance(column, Mapping):
        return {name: row(inner, i) for name, inner in column.items()}
    return column[i]


def length(column: Column) -> int:
    """How many rows a column has; of a mapping, its first column."""
    return length(next(iter(column.values()))) if isinstance(column, Mapping) else len(column)


def nbytes(column: Column) -> int:
    """Bytes of the arrays, tensors and texts in a column."""
    if isinstance(column, str):
        return len(column)
    if isinstance(column, Mapping):
        return sum(map(nbytes, column.values()))
    if isinstance(column, list | tuple):
        return sum(map(nbytes, column))
    return getattr(column, "nbytes", 0)


def stack(rows: Sequence[Any]) -> Column:
    """One column from single values: an array of arrays (of one shape) or numbers, a mapping of columns from mappings
    (of the same names), else a list; None of Nones.
    """
    if all(value is None for value in rows):
        return None
    if all(isinstance(value, Mapping) and value.keys() == rows[0].keys() for value in rows):
        return {name: stack([value[name] for value in rows]) for name in rows[0]}
    if all(isinstance(value, np.ndarray | np.generic | int | float | bool) for value in rows):
        arrays = [np.asarray(value) for value in rows]
        if len({array.shape for array in arrays}) == 1:
            return np.stack(arrays)
    return list(rows)
