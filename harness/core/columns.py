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


def portable(column: Column) -> Column:
    """The column without torch: tensors become arrays, also inside mappings, lists and tuples."""
    if isinstance(column, Mapping):
        return {name: portable(inner) for name, inner in column.items()}
    if isinstance(column, list):
        return [portable(value) for value in column]
    if isinstance(column, tuple):
        return tuple(portable(value) for value in column)
    return column.detach().cpu().numpy() if hasattr(column, "detach") else column


def concatenated(parts: list[Any], lengths: Sequence[int]) -> Column:
    """One column from parts of some lengths; a list of single values where the parts are not of one kind."""
    if len(parts) == 1 or all(part is None for part in parts):
        return parts[0]
    if all(isinstance(part, str) and part == parts[0] for part in parts):
        return parts[0]
    if all(isinstance(part, Mapping) and part.keys() == parts[0].keys() for part in parts):
        return {name: concatenated([part[name] for part in parts], lengths) for name in parts[0]}
    if all(isinstance(part, np.ndarray) and part.shape[1:] == parts[0].shape[1:] for part in parts):
        return np.concatenate(parts)
    return [row(part, i) for part, length in zip(parts, lengths, strict=True) for i in range(length)]


def joined(values: list[Any], like: Column) -> Column:
    """One column of the values, of the same kind as the column `like`."""
    if isinstance(like, Mapping):
        return {name: joined([value[name] for value in values], inner) for name, inner in like.items()}
    if isinstance(like, list | tuple):
        return values
    if isinstance(like, np.ndarray):
        return np.stack(values)
    if like is None or isinstance(like, str):
        return like
    import torch  # the column is a tensor, so torch is loaded

    return torch.stack(values)
