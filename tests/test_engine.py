"""Two processes that share every step end where one ends, and go on where they were killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from razorbench import Refused
from razorbench.harness.learn import checkpoint
from razorbench.harness.learn.engine import LOCAL, Local, first_does, share, summed
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into
from razorbench.harness.tracks.catalogue import BASES, find_track
from tests.toys import Dialogue, Speller

ROOT = Path(__file__).parents[1]
TRACK = "mini-math-v1"
STEPS, SAVE = 6, 2
HOW = ("--steps", STEPS, "--warmup", 2, "--batch", 7, "--lr", "1e-3", "--save-every", SAVE)
"""Seven prompts a step: one process has four of them and the other three."""


def torchrun(out: Path, home: Path, method: str, *more: object) -> subprocess.Popen[str]:
    """`razorbench adapt` in two processes."""
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        2,
        "-m",
        "razorbench.harness.cli.main",
    ]
    argv = [*run, "adapt", TRACK, "--method", method, *HOW, "--micro-batch", 200, *more, "--out", out, "--home", home]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [*map(str, argv)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> str:
    """What it said, when it has done its work."""
    said, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    return said


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def sft(home: Path) -> Path:
    """What two processes make by SFT."""
    assert ended(torchrun(home / "sft", home, "sft")).count("holds the adapted checkpoint") == 1  # one of them tells
    return home / "sft"


def alone(out: Path, home: Path, method: str, **changes: object) -> checkpoint.Checkpoint:
    """The same in this process."""
    settings = replace(find_track(TRACK).settings, steps=STEPS, warmup=2, batch=7, lr=1e-3)
    return adapt_into(out, Bench(find_track(TRACK), home), Spec(method, replace(settings, **changes)))


def far(one: Path, other: Path) -> float:
    """The largest distance between two weights of the same name."""
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def alike(two: Path, one: checkpoint.Checkpoint, base: Path) -> None:
    """What two processes made is what one made, but for rounding: weights, curve and measures."""
    assert far(one.weights, two / checkpoint.WEIGHTS) < 0.01 * far(one.weights, base)
    both = checkpoint.read(two)
    assert both.manifest
    assert both.manifest.provenance["processes"] == 2
    for ours, theirs in zip(both.curve(), one.curve(), strict=True):
        assert (ours.step, ours.episodes, ours.elements) == (theirs.step, theirs.episodes, theirs.elements)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3, abs=1e-4)
        assert ours.reward == pytest.approx(theirs.reward, nan_ok=True)
        assert ours.measures.keys() == theirs.measures.keys()
        for name, value in theirs.measures.items():
            assert ours.measures[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.slow(seconds=30)
def test_two_processes_give_by_sft_the_weights_of_one(sft, home, tmp_path):
    alike(sft, alone(tmp_path / "one", home, "sft"), BASES["mini-lm-v1"].shipped)


@pytest.mark.slow(seconds=30)
def test_two_processes_give_by_dr_grpo_the_weights_of_one(home, tmp_path):
    more = {"group": 3, "kl": 0.1, "iterations": 2, "importance_cap": 2.0}
    flags = [part for name, value in more.items() for part in (f"--{name.replace('_', '-')}", value)]
    ended(torchrun(tmp_path / "two", home, "dr-grpo", *flags))
    alike(tmp_path / "two", alone(tmp_path / "one", home, "dr-grpo", **more), BASES["mini-lm-v1"].shipped)


@pytest.mark.slow(seconds=30)
def test_two_processes_that_are_killed_go_on_to_the_same_weights(sft, home, tmp_path):
    out = tmp_path / "out"
    going = torchrun(out, home, "sft")
    while not list(out.glob("state-*")) and going.poll() is None:
        time.sleep(0.01)
    assert going.poll() is None, "it was done before it could be killed"
    os.killpg(going.pid, signal.SIGKILL)
    for child in Path("/proc").glob("[0-9]*"):  # torchrun's workers are in groups of their own
        try:
            mine = str(out).encode() in (child / "cmdline").read_bytes()
        except OSError:
            continue
        if mine:
            os.kill(int(child.name), signal.SIGKILL)
    going.communicate(timeout=60)
    assert not (out / checkpoint.WEIGHTS).exists()
    ended(torchrun(out, home, "sft"))
    assert (out / checkpoint.WEIGHTS).read_bytes() == (sft / checkpoint.WEIGHTS).read_bytes()
    assert [report.step for report in checkpoint.read(out).curve()] == list(range(1, STEPS + 1))


def test_every_prompt_is_shared_out_once():
    prompts = np.arange(7)
    shares = [share(Local(rank, 3), prompts) for rank in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(7))
    assert share(LOCAL, prompts).tolist() == list(range(7))
    with pytest.raises(Refused, match="2 prompts a step cannot be shared by 3 processes"):
        share(Local(0, 3), np.arange(2))


class Pair(Local):
    """Two processes of which the other has the same; counts what is added up."""

    added: ClassVar[list[int]] = []

    def gathered(self, value):
        return [value, value]

    def add_up(self, gradients):
        self.added.append(len(gradients))


def test_every_process_adds_up_every_weight_whether_its_share_used_it_or_not():
    policy = Speller()
    unused = torch.nn.Parameter(torch.zeros(1))
    policy.parameters = lambda: iter([policy.logits, unused])  # type: ignore[assignment]
    settings = Settings(lr=0.1, warmup=0, batch=4, steps=1)
    Adaptation(policy, Dialogue(), METHODS["sft"], settings, engine=Pair(0, 2)).advance()
    assert Pair.added == [2]


def test_one_process_sums_nothing_and_is_refused_as_such():
    gradient = torch.ones(2)
    LOCAL.add_up([gradient])
    assert gradient.tolist() == [1, 1]
    assert summed(LOCAL, {"loss": 2.0}) == {"loss": 2.0}

    def refuse() -> None:
        raise Refused("not this")

    with pytest.raises(Refused, match="not this"):
        first_does(LOCAL, refuse)
