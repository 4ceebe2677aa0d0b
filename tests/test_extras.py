"""What an extra brings is missed in one sentence, with the command that installs it; who needs none misses nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from razorbench.harness.core.extras import EXTRAS, missing

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"rerun": "rerun_sdk"}
"""Modules whose package has another name."""


def ran(*command: str, without: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that does not have the packages of an extra."""
    gone = "".join(f"sys.modules[{module!r}] = None; " for module, extra in EXTRAS.items() if extra == without)
    call = f"sys.argv = ['razorbench', *{command!r}]; from razorbench.harness.cli.main import main; main()"
    code = f"import sys; {gone}{call}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_every_extra_brings_what_it_is_said_to():
    for module, extra in EXTRAS.items():
        brought = [line.partition(">")[0].replace("-", "_") for line in PROJECT["optional-dependencies"][extra]]
        assert DISTRIBUTIONS.get(module, module) in brought
    assert set(EXTRAS.values()) == {*PROJECT["optional-dependencies"]} - {"all", "dev", "docs"}


def test_other_modules_are_a_fault_of_ours():
    assert missing(ModuleNotFoundError("No module named 'numpy'", name="numpy")) == ""
    assert missing(ModuleNotFoundError("nameless")) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "without"),
    [
        (("task", "check", "fetch-reach-v1"), "robots"),
        (("board",), "board"),
        (("demonstrations", "mini-math-v1", "--from", "http://localhost:1/v1#m", "--base", "mini-lm-v1"), "endpoint"),
        (("plot", "mini-math-v1", "--out", "x"), "export"),
    ],
)
def test_what_is_missing_is_one_sentence(command, without, tmp_path):
    done = ran(*command, "--home", str(tmp_path), without=without)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("refused: ")
    assert f"run `pip install 'razorbench[{without}]'`" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("without", ["robots", "board", "export", "quack"])
def test_what_needs_no_extra_works_without(without, tmp_path):
    for command in (("tracks",), ("tasks", "--json") if without != "robots" else ("methods",), ("results",)):
        done = ran(*command, "--home", str(tmp_path), without=without)
        assert done.returncode == 0, done.stderr
