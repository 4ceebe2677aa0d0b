"""docs/add-a-method.md does what it says: its files are written and installed, its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from razorbench.harness.learn import checkpoint, methods

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
BLOCKS = {
    name or language: text for language, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.M | re.S)
}
"""The fenced blocks: file name (or language, where there is none) → text."""


@pytest.mark.slow
def test_the_page_works_as_written(tmp_path):
    install, listing, adapt = (shlex.split(line) for line in BLOCKS["sh"].splitlines())
    package, site = tmp_path / install[3], tmp_path / "site"
    package.mkdir()
    for name in ("question_once.py", "pyproject.toml"):
        (package / name).write_text(BLOCKS[name], encoding="utf-8")
    how = ["--no-deps", "--no-build-isolation", "--target", str(site), "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", str(package), *how]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{site}", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    said = []
    for command in (listing, adapt):
        run = [sys.executable, "-m", "razorbench.harness.cli.main", *command[1:]]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "Policy gradient on right answers, in which each question counts once." in said[0]
    made = checkpoint.read(tmp_path / "once")
    assert made.manifest
    assert made.manifest.method == "question-once"
    assert [report.step for report in made.curve()] == [1, 2, 3, 4]


def test_the_page_names_pieces_that_there_are():
    pieces = re.findall(
        r"`(\w+)(?:\(actor\))?`", "".join(re.findall(r"^\| (?:source|weight|surrogate|norm).*$", PAGE, re.M))
    )
    assert len(pieces) > 15
    assert [name for name in pieces if not hasattr(methods, name)] == []
    settings = re.search(r"one of the settings (.*?) says so", PAGE, re.S)
    assert settings
    assert tuple(re.findall(r"`(\w+)`", settings[1])) == methods.OWN
