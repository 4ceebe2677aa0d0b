"""docs/add-a-task.md does what it says: its blocks are written to files, installed and checked."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from razorbench.harness.cli import scaffold
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.core import registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
BLOCKS = {
    name or language: text for language, name, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.M | re.S)
}
"""The fenced blocks: file name (or language, where there is none) → text."""


def test_the_page_shows_what_the_scaffold_writes(tmp_path):
    for path in scaffold.new_task("word-sums", tmp_path):
        assert BLOCKS[path.name] == path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_works_as_written(tmp_path):
    """Every command of the page: `new` and `check` through their functions, pip really, into a folder of its own."""
    commands = [shlex.split(line) for line in BLOCKS["sh"].splitlines()]
    assert [command[:3] for command in commands] == [
        ["razorbench", "task", "new"],
        ["pip", "install", "-e"],
        ["razorbench", "task", "check"],
    ]
    name, package, id = (command[3] for command in commands)
    for path in scaffold.new_task(name, tmp_path):
        path.write_text(BLOCKS[path.name], encoding="utf-8")
    site, environment = tmp_path / "site", {**os.environ, "PYTHONPATH": str(ROOT)}
    install = ["install", "-e", package, "--no-deps", "--no-build-isolation", "--prefix", str(site), "--quiet"]
    quiet = ["--disable-pip-version-check", "--no-warn-script-location"]
    pip = [sys.executable, "-m", "pip", *install, *quiet]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = f"""
import json, site
site.addsitedir({str(next(site.glob("lib*/python*/site-packages")))!r})  # as the interpreter does for its own
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.core.registry import REGISTERED, find
print(json.dumps([find("task", {id!r}).__module__, [(c.name, c.ok) for c in check({id!r}, episodes=32)]]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module, checks = json.loads(done.stdout)
    assert module == "word_sums"
    assert len(checks) == 11
    assert [name for name, ok in checks if ok is not True] == []


@pytest.mark.parametrize(
    ("file", "attribute", "without"),
    [
        ("guess_higher.py", "GuessHigher", ["overlap"]),  # its questions are its ids
        ("sign.py", "Sign", ["crash"]),  # a column of integers holds no poison
        ("capitals.py", "Capitals", ["chance"]),  # nobody can guess a capital
        ("balance.py", "Balance", ["overlap", "crash"]),  # its questions are seeds, its actions whole numbers
    ],
)
def test_the_other_examples_pass_the_check(file, attribute, without, tmp_path, monkeypatch):
    folder = tmp_path / "capitals"
    folder.mkdir()
    for split, start in (("train", 0), ("test", 30)):
        lines = [{"id": i, "country": f"Land {i}", "capital": f"City {i}"} for i in range(start, start + 30)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    (tmp_path / file).write_text(BLOCKS[file], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.REGISTERED["task"], "example-v1", getattr(import_module(file[:-3]), attribute))
    checks = check("example-v1", episodes=64)
    assert [(finding.name, finding.detail) for finding in checks if finding.ok is False] == []
    assert [finding.name for finding in checks if finding.ok is None] == without


def test_the_page_lists_every_check():
    from razorbench.harness.cli.check.verdicts import PLAYED, ROBOTS

    assert re.findall(r"^\| (\w+) \|", PAGE, re.M) == ["check", *PLAYED, "check", *ROBOTS]
