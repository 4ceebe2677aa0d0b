"""`razorbench simpler setup`: each step is said, nothing is made twice, and what cannot be is refused in a sentence."""

import subprocess
from pathlib import Path

import pytest

from razorbench import Refused
from razorbench.harness.cli import doctor
from razorbench.tasks.simpler.environment import COMMITS, PINNED, REQUIREMENTS, setup

PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
case "$1" in
    -c) case "$2" in *version_info*) echo "{version}";; esac;;
    -m) if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi;;
esac
"""
"""An interpreter that does nothing, makes itself again where it is told to make an environment, and writes a log."""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


@pytest.fixture
def python(tmp_path, log):
    """The path of an interpreter of a version."""

    def written(version: str = "3 11") -> str:
        path = tmp_path / "python3"
        path.write_text(PYTHON.format(log=log, version=version))
        path.chmod(0o755)
        return str(path)

    return written


@pytest.fixture
def checkout(tmp_path):
    """What a checkout has at least, without git."""
    folder = tmp_path / "SimplerEnv"
    for part in ("simpler_env", "ManiSkill2_real2sim/mani_skill2_real2sim"):
        (folder / part).mkdir(parents=True)
        (folder / part / "__init__.py").touch()
        (folder / part).with_name("setup.py").touch()
    return folder


def test_the_environment_is_made_step_by_step_and_once(checkout, python, log):
    steps = list(setup(checkout, python()))
    inside = checkout / ".venv" / "bin" / "python"
    assert steps[-1] == f"export RAZORBENCH_SIMPLER_PYTHON={inside}"
    assert any("stages are missing" in step for step in steps)
    told = log.read_text().splitlines()
    assert f"-m venv {checkout / '.venv'}" in told
    packages, editable = (line for line in told if line.startswith("-m pip install"))
    assert packages.split()[4:] == list(REQUIREMENTS)
    assert f"--no-deps --editable {checkout / 'ManiSkill2_real2sim'} --editable {checkout}" in editable
    log.unlink()
    again = list(setup(checkout, python()))
    assert again[-1] == steps[-1]
    assert f"{inside} is there" in again
    assert not any("venv" in line or "pip" in line for line in log.read_text().splitlines())


def test_what_is_pinned_is_what_is_installed_and_what_the_doctor_looks_for():
    for name in ("sapien", "numpy"):
        assert f"{name}=={PINNED[name]}" in REQUIREMENTS
    assert setup.__module__ == doctor.SIMPLER  # which it asks


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, python):
    with pytest.raises(
        Refused, match="is no checkout of SimplerEnv: it has no simpler_env; run `git clone --recurse-s"
    ):
        list(setup(tmp_path, python()))
    assert not (tmp_path / ".venv").exists()


def test_a_checkout_without_its_submodule_is_refused(checkout, python):
    (checkout / "ManiSkill2_real2sim" / "setup.py").unlink()
    with pytest.raises(Refused, match=r"run `git -C .* submodule update --init`"):
        list(setup(checkout, python()))


def test_a_checkout_at_another_commit_is_refused(checkout, python):
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", "-C", str(checkout), *command.split()], check=True)
    with pytest.raises(Refused, match=f"the scores here are {COMMITS['.']}'s; run `git -C"):
        list(setup(checkout, python()))


@pytest.mark.parametrize("version", ["3 10", "3 13"])
def test_another_python_is_refused(checkout, python, version):
    with pytest.raises(Refused, match=f"is Python {version.replace(' ', '.')}, and 3.11 is needed"):
        list(setup(checkout, python(version)))
    with pytest.raises(Refused, match="there is no /nowhere/python"):
        list(setup(checkout, "/nowhere/python"))
    assert not (checkout / ".venv").exists()


def test_what_a_step_says_when_it_fails_is_passed_on(checkout, python, tmp_path):
    text = Path(python()).read_text()
    (tmp_path / "python3").write_text(text + 'if [ "$2" = pip ]; then echo "no room" >&2; exit 1; fi\n')
    with pytest.raises(Refused, match="-m pip install …` said: no room"):
        list(setup(checkout, str(tmp_path / "python3")))
    assert not list(checkout.rglob("razorbench-requirements.txt"))


def test_the_command_says_where_it_is_and_refuses_with_a_sentence(checkout, python, razorbench):
    done = razorbench("simpler", "setup", str(checkout), "--python", python())
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("export RAZORBENCH_SIMPLER_PYTHON=")
    done = razorbench("simpler", "setup", str(checkout / "simpler_env"), "--python", python())
    assert done.code == 2
    assert "is no checkout of SimplerEnv" in done.sentence
