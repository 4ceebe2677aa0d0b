"""docs/add-a-track.md does what it says: its commands run, and its package brings the track by its id."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from razorbench.harness.tracks.catalogue import BASES
from razorbench.harness.tracks.files import made_base
from razorbench.harness.tracks.origins import Folder, Hub, Served
from razorbench.harness.tracks.spec import Base, Conditions, Track

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-track.md").read_text(encoding="utf-8")
BLOCKS = {
    name or language: text for language, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.M | re.S)
}
"""The fenced blocks: file name (or language, where there is none) → text."""


@pytest.mark.long
@pytest.mark.slow(seconds=40)
def test_the_page_works_as_written(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}

    def razorbench(*arguments: str, **more: str) -> str:
        run = [sys.executable, "-m", "razorbench", *arguments]
        done = subprocess.run(run, cwd=tmp_path, env={**environment, **more}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = [razorbench(*shlex.split(line)[1:]) for line in BLOCKS["sh"].splitlines()]
    assert "✗" not in said[1]
    assert "2 of 2 runs are on the board" in said[2]
    assert "stories-v1: mini-math, retaining two skills" in said[3]
    assert (tmp_path / ".razorbench" / "tracks" / "stories-v1.toml").exists()

    package, site = tmp_path / "package", tmp_path / "site"
    (package / "razorbench_stories").mkdir(parents=True)
    for name in ("pyproject.toml", "razorbench_stories/__init__.py"):
        (package / name).write_text(BLOCKS[name], encoding="utf-8")
    (tmp_path / "stories-v1.toml").rename(package / "razorbench_stories" / "stories-v1.toml")
    how = ["--no-deps", "--no-build-isolation", "--target", str(site), "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", str(package), *how]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = razorbench("tracks", "--home", "another", PYTHONPATH=f"{ROOT}:{site}")
    assert "stories-v1" in listed


def test_the_page_names_the_fields_that_there_are():
    table = PAGE.partition("\n## Language models")[0]
    named = re.findall(r"`\[?(\w+)(?:\.NAME)?\]?`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))
    assert sorted(named) == sorted(Track.__dataclass_fields__)
    told = re.search(r"^\| `\[conditions\]` \| (.*?):", PAGE, re.M)
    assert told
    assert {*re.findall(r"`(\w+)`", told[1]), "engine"} == set(Conditions.__dataclass_fields__)


def test_the_base_of_the_page_is_one():
    base = made_base(tomllib.loads(BLOCKS["toml"])["base"], "the page")
    assert (base.id, base.settings.steps) == ("my-base-v1", 500)


def test_the_origins_of_the_page_are_ones(tmp_path):
    def said(block: str) -> Base:
        table = tomllib.loads(block.replace('revision = "…"', f'revision = "{"a" * 40}"'))["base"]
        return made_base({"id": "my-base-v1", "agent": "causal-lm-v1", **table}, "the page", tmp_path)

    folder, hub, wheel, served = (said(block) for block in BLOCKS["origins"].split("\n\n"))
    assert (folder.origin, hub.origin) == (Folder(str(tmp_path / "my-model"), "…"), Hub(hub.origin.hub, "a" * 40))  # type: ignore[union-attr]
    assert wheel.origin == BASES["smollm2-135m-q4-v1"].origin
    assert served.origin == Served("http://localhost:8000/v1", "Qwen/Qwen2.5-3B-Instruct")
