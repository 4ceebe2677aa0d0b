"""docs/submit.md does what it says: its files are written, its commands run, in a folder of their own."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from razorbench.harness.core.questions import of_text

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "submit.md").read_text(encoding="utf-8")
BLOCKS = {
    name or language: text for language, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.M | re.S)
}
"""The fenced blocks: file name (or language, where there is none) → text."""


@pytest.mark.long
@pytest.mark.slow(seconds=60)
def test_the_page_works_as_written(tmp_path):
    commands = [shlex.split(line) for line in BLOCKS["sh"].splitlines()]
    assert [command[1] for command in commands if command[0] == "razorbench"] == [
        *("base", "questions", "submit", "queue", "worker", "show", "results")
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    (tmp_path / "adapt.py").write_text(BLOCKS["adapt.py"])
    said = {}
    for command in commands:
        if command[:2] == ["razorbench", "submit"]:
            (tmp_path / "my-lora/submission.toml").write_text(BLOCKS["my-lora/submission.toml"])
        programs = {"razorbench": [sys.executable, "-m", "razorbench.harness.cli.main"], "python": [sys.executable]}
        run = [*programs.get(command[0], command[:1]), *command[1:]]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        said[command[1]] = done.stdout
    assert "passed the gate (low-rank adapters)" in said["submit"]
    assert "queued" in said["queue"]
    assert "scored in" in said["worker"]
    assert "my first LoRA" in said["show"]
    (entry,) = json.loads(
        subprocess.run(
            [sys.executable, "-m", "razorbench.harness.cli.main", "results", "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert (entry["name"], entry["method"], entry["track"]) == ("my first LoRA", "sft", "mini-tools-v1")
    assert entry["gain_low"] > 0  # it learned from what it was shown
    assert entry["drift"] > 0.1


def test_the_page_makes_fingerprints_as_the_bench_does():
    scope: dict = {}
    exec(BLOCKS["python"], scope)
    for text in ("What is 2 + 2?", "  Gru\u0308ße\n\n an  alle ", "你好"):
        assert scope["fingerprint"](text) == of_text(text)


@pytest.mark.parametrize("file", ["submission.toml", "adapter_config.json", "tokenizer.json", "curve.jsonl", "LICENSE"])
def test_the_page_names_what_the_gate_lets_in(file):
    assert f"`{file}`" in PAGE
