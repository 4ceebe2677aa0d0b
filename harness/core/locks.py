"""One process at a time at a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The only process at a folder, which is made if need be and may be gone afterwards; waits for the others."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # who was here before has just removed it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if standing(folder) == os.fstat(handle).st_ino:
                yield
                return
        finally:
            os.close(handle)


def standing(path: Path) -> int | None:
    """The inode of what stands at a path; None where nothing does."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino
