"""What a call costs: processor seconds, and peak memory above what its process held before. Linux alone tells that."""

import ctypes
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Cost(NamedTuple):
    """Of one call."""

    seconds: float
    """Of the processor, user and system, all threads."""
    mib: float
    """The most memory that was resident at once, beyond what was when it began."""


def measured(what: Callable[[], T]) -> tuple[T, Cost]:
    """What a call returns, and what it cost.

    What was freed before goes back to the system first. glibc may keep it, and a call that takes it over makes no peak.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = resident("VmRSS"), time.process_time()
    found = what()
    return found, Cost(time.process_time() - started, (resident("VmHWM") - before) / 1024)


def resident(name: str) -> int:
    """Resident memory of this process, KiB: `VmRSS` now, `VmHWM` at its peak."""
    rows = (row.split() for row in Path("/proc/self/status").read_text().splitlines())
    return next(int(row[1]) for row in rows if row[0] == f"{name}:")


def apart(what: Callable[[], T]) -> T:
    """What a call returns, made in a forked process, so that all calls begin with the same memory.

    Raises RuntimeError where the process ends without a word; its error stands above.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=lambda: theirs.send(what()))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise RuntimeError("the process that was to be measured has failed") from None
    finally:
        child.join()
