"""What a call costs is told of that call alone."""

import ctypes
import os
import sys

import numpy as np
import pytest

from benchmarks.costs import apart, measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of memory of a call")


def touched(mib: int) -> int:
    """Holds so much memory for a moment."""
    return int(np.ones(mib * 2**20, np.uint8)[-1])


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of malloc.h: how much of the top of the heap is kept when freed, and how many blocks are mapped by themselves."""


def peaks_after_much_was_freed(kept: bool) -> tuple[int, float]:
    """What a call returned and its peak, MiB, after 256 MiB were freed: given back to the system, or kept."""
    if kept:  # as any library may ask of a process
        glibc = ctypes.CDLL(None)
        assert glibc.mallopt(M_TRIM_THRESHOLD, 2**30) == glibc.mallopt(M_MMAP_MAX, 0) == 1
    touched(256)
    found, cost = measured(lambda: touched(64))
    return found, cost.mib


@pytest.mark.parametrize("kept", [False, True])
def test_a_peak_is_of_the_call_and_not_of_what_came_before(kept: bool):
    found, mib = apart(lambda: peaks_after_much_was_freed(kept))
    assert found == 1
    assert 63 <= mib < 128


def test_a_call_in_a_process_of_its_own_returns_what_it_found_and_leaves_nothing():
    here = os.getpid()
    there, cost = apart(lambda: measured(os.getpid))
    assert there != here
    assert cost.seconds >= 0


def test_a_call_that_fails_in_its_process_fails_here(capfd):
    with pytest.raises(RuntimeError, match="has failed"):
        apart(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err
