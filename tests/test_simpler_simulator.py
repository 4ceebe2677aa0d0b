"""SimplerEnv's own simulator, where it can be had: what is seen, the expert, and the same episode again."""

import os

import numpy as np
import pytest

from razorbench.harness.core.keeping import everything
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.rollout import Demonstrator, rollout
from razorbench.tasks.google.tasks import COLUMNS

pytestmark = [
    pytest.mark.robots,
    pytest.mark.skipif("RAZORBENCH_SIMPLER_PYTHON" not in os.environ, reason="RAZORBENCH_SIMPLER_PYTHON is not set"),
]
LENGTHWISE = "simpler-coke-can-lengthwise-dummy-state-v1"


def shown(task, *rows):
    """What an expert is shown in some test states, all turns of each as one array."""
    played = rollout(Demonstrator(task, "usual"), task, task.instances("test").take(np.array(rows)), keep=everything)
    assert played.reward.tolist() == [1.0] * len(rows)
    return [np.array([np.concatenate([*seen.state.values()]) for seen in each.observations]) for each in played]


def test_the_expert_picks_the_can_and_an_episode_is_the_same_to_the_last_bit_after_others_and_in_another_process():
    with Workers(LENGTHWISE, python="$RAZORBENCH_SIMPLER_PYTHON", patience=900, timeout=300) as task:
        first, other = shown(task, 24, 12)
    with Workers(LENGTHWISE, python="$RAZORBENCH_SIMPLER_PYTHON", patience=900, timeout=300) as task:
        again, once_more = shown(task, 12, 24)
    assert np.array_equal(first, once_more)
    assert np.array_equal(other, again)
    assert first.shape[1] == sum(COLUMNS.values())


def test_a_hand_is_where_the_ports_is():
    """SAPIEN 2.2.2's own first state of upstream's thirteenth place, as `tests/test_google.py` has it, in the world."""
    with Workers("simpler-coke-can-upright-dummy-state-v1", python="$RAZORBENCH_SIMPLER_PYTHON", patience=900) as task:
        (seen,) = shown(task, 12)
    hand, can = seen[0, 18:21], seen[0, 25:28]
    assert np.allclose(hand, [0.35 + 0.08938442, 0.2 - 0.41841692, 1.0409188 - 0.07905], atol=1e-5)
    assert np.allclose(can, [0.35 + 0.23535152, 0.2 - 0.1997074, 0.95094126 - 0.07905], atol=1e-5)
