"""The examples run as they stand, in a folder of their own, and say what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAYS = {
    "compare_two_models": [r"mini-tools-v1: [+-]\d", r"mini-logic-v1: [+-]\d", r"Drift: \S+ \[", r"(gained|lost): "],
    "compare_two_methods": [r"sft: gain [+-]", r"dr-grpo: gain [+-]", r"mini-tools-v1: [+-]\d", r"p = "],
    "own_task": [r"backwards-v1: 0 → \d+ % right", r"mini-sorting-v1: \d+ → \d+ % right"],
    "drift_of_a_policy": [r"mini-science-v1: forward KL \d", r"mini-logic-v1: forward KL \d"],
}


def test_every_example_is_tried():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.long
@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("name", SAYS)
def test_the_example_runs(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAZORBENCH_HOME", None)
    run = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in SAYS[name]:
        assert re.search(line, done.stdout), done.stdout
