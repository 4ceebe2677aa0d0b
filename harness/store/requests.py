"""What a store can be asked to do, by us or from another machine, and how it says that it could not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class StoreError(Exception):
    """The store could not do its work. The message is one sentence that ends with the cure."""


@dataclass(frozen=True)
class Order:
    """What is to be done to the index. It is JSON's own types, names ids and carries no rows: those are in the files.
    To do it twice is to do it once.
    """

    work: str
    """One of `WORK` in harness/store/database.py."""
    arguments: Sequence[Any]
    migration: int
    """The last one that the program which gives this order knows."""
