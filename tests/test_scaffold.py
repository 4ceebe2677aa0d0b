"""`razorbench task new`: what it writes works as written, and what cannot work is refused."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest

from razorbench import Refused
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.cli.scaffold import MODULE, new_task
from razorbench.harness.core import registry


def ruff(*arguments):
    return subprocess.run([sys.executable, "-m", "ruff", *map(str, arguments)], capture_output=True, text=True)


def test_the_example_has_at_most_25_lines_of_code():
    assert len([line for line in MODULE.splitlines() if line.strip()]) <= 25


def test_a_new_task_passes_its_check_as_written(tmp_path, monkeypatch):
    project, module = new_task("parking-fees-v3", tmp_path)
    points = tomllib.loads(project.read_text())["project"]["entry-points"]["razorbench.tasks"]
    assert points == {"parking-fees-v3": "parking_fees:ParkingFees"}
    monkeypatch.syspath_prepend(str(module.parent))
    try:
        made = __import__("parking_fees").ParkingFees
    finally:
        sys.modules.pop("parking_fees", None)
    monkeypatch.setitem(registry.REGISTERED["task"], "parking-fees-v3", made)
    checks = check("parking-fees-v3", episodes=32)
    assert [(finding.name, finding.detail) for finding in checks if not finding.ok] == []


@pytest.mark.skipif(not find_spec("ruff"), reason="ruff is not installed")
def test_a_new_task_passes_ruff_with_its_defaults_and_with_our_rules(tmp_path):
    _, module = new_task("word-sums", tmp_path)
    ours = ["--line-length", "120", "--select", "E,F,I,UP,B,RUF,SIM,PT,NPY,D100,D101"]
    for arguments in (
        ["check"],
        ["check", *ours],
        ["format", "--check"],
        ["format", "--check", "--line-length", "120"],
    ):
        done = ruff(*arguments, "--isolated", "--no-cache", module)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_project_names_its_files_after_the_task(tmp_path):
    project, module = new_task("word-sums", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in (project, module)] == [
        "razorbench-word-sums/pyproject.toml",
        "razorbench-word-sums/word_sums.py",
    ]
    content = tomllib.loads(project.read_text())
    assert content["project"]["name"] == "razorbench-word-sums"
    assert content["project"]["dependencies"] == ["razorbench"]
    assert content["tool"]["setuptools"]["py-modules"] == ["word_sums"]


def test_nothing_of_the_example_is_left_under_another_name(tmp_path):
    for path in new_task("parking-fees", tmp_path):
        assert not {"word-sums", "word_sums", "WordSums"} & set(path.read_text().replace(":", " ").split())
        assert "ord-sums" not in path.read_text()
        assert "ord_sums" not in path.read_text()
        assert "WordSums" not in path.read_text()


def test_a_name_without_version_becomes_version_1():
    assert registry.versioned("word-sums") == "word-sums-v1"
    assert registry.versioned("word-sums-v2") == "word-sums-v2"


@pytest.mark.parametrize("name", ["Word-Sums", "word_sums", "word sums", "../word", "", "word-sums-v0", "wörter"])
def test_names_that_are_no_ids_are_refused(name, tmp_path):
    with pytest.raises(Refused, match="lower-case words and a version"):
        new_task(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["3d-sums", "class", "2048"])
def test_names_that_python_cannot_import_are_refused(name, tmp_path):
    with pytest.raises(Refused, match="which Python cannot import"):
        new_task(name, tmp_path)


@pytest.mark.parametrize("name", ["numpy", "json", "harness", "statistics", "math"])
def test_a_name_that_would_hide_another_module_is_refused(name, tmp_path):
    with pytest.raises(Refused, match="is taken"):
        new_task(name, tmp_path)


def test_a_taken_id_is_refused_and_the_next_version_offered(tmp_path):
    with pytest.raises(Refused, match=r"'parity-mnist-v1' is taken; .*'parity-mnist-v2'"):
        new_task("parity-mnist", tmp_path)


def test_an_existing_folder_is_left_alone(tmp_path):
    project, _ = new_task("word-sums", tmp_path)
    project.write_text("mine")
    with pytest.raises(Refused, match="exists; choose another name"):
        new_task("word-sums-v2", tmp_path)
    assert project.read_text() == "mine"
