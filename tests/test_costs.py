"""What a call costs is told of that call alone."""

import os
import sys

import numpy as np
import pytest

from benchmarks.costs import apart, measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of memory of a call")


def touched(mib: int) -> int:
    """Holds so much memory for a moment."""
    return int(np.ones(mib * 2**20, np.uint8)[-1])


def test_a_peak_is_of_the_call_and_not_of_what_came_before():
    touched(256)
    found, cost = measured(lambda: touched(64))
    assert found == 1
    assert 63 <= cost.mib < 128


def test_a_call_in_a_process_of_its_own_returns_what_it_found_and_leaves_nothing():
    here = os.getpid()
    there, cost = apart(lambda: measured(os.getpid))
    assert there != here
    assert cost.seconds >= 0


def test_a_call_that_fails_in_its_process_fails_here(capfd):
    with pytest.raises(RuntimeError, match="has failed"):
        apart(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err
