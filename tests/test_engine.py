"""Two processes that share every step end where one ends, and go on where they were killed."""

import json
import os
import shutil
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
from transformers import AutoModelForCausalLM

from razorbench import Refused
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn import checkpoint
from razorbench.harness.learn.engine import LOCAL, Local, Parallel, first_does, share, summed
from razorbench.harness.learn.loop import Adaptation, learning_rate
from razorbench.harness.learn.memory import held
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into
from razorbench.harness.tracks.bases import base_files, copy_into
from razorbench.harness.tracks.catalogue import BASES, find_track
from tests import sharded
from tests.toys import Dialogue, Speller

ROOT = Path(__file__).parents[1]
TRACK = "mini-math-v1"
STEPS, SAVE = 6, 2
HOW = ("--steps", STEPS, "--warmup", 2, "--batch", 7, "--lr", "1e-3", "--save-every", SAVE)
"""Seven prompts a step: one process has four of them and the other three."""


def torchrun(out: Path, home: Path, method: str, *more: object) -> subprocess.Popen[str]:
    """`razorbench adapt` in two processes."""
    argv = ["adapt", TRACK, "--method", method, *HOW, "--micro-batch", 200, *more, "--out", out, "--home", home]
    return two("razorbench.harness.cli.main", *argv)


def two(module: str, *told: object) -> subprocess.Popen[str]:
    """A module in two processes."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m"]
    argv = [*run, module, *told]
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


def alike(two: Path, one: checkpoint.Checkpoint, way: float) -> None:
    """What two processes made is what one made, but for rounding: weights, to 1 % of their way; curve and measures."""
    assert far(one.weights, checkpoint.read(two).weights) < 0.01 * way
    both = checkpoint.read(two)
    assert both.manifest
    assert both.manifest.provenance["processes"] == 2
    for ours, theirs in zip(both.curve(), one.curve(), strict=True):
        assert (ours.step, ours.episodes, ours.elements) == (theirs.step, theirs.episodes, theirs.elements)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3, abs=1e-4)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3)
        assert ours.reward == pytest.approx(theirs.reward, nan_ok=True)
        assert ours.measures.keys() == theirs.measures.keys()
        for name, value in theirs.measures.items():
            assert ours.measures[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.long
@pytest.mark.slow(seconds=30)
def test_two_processes_give_by_sft_the_weights_of_one(sft, home, tmp_path):
    one = alone(tmp_path / "one", home, "sft")
    alike(sft, one, far(one.weights, BASES["mini-lm-v1"].shipped))


@pytest.mark.long
@pytest.mark.slow(seconds=30)
def test_two_processes_give_by_dr_grpo_the_weights_of_one(home, tmp_path):
    more = {"group": 3, "kl": 0.1, "iterations": 2, "importance_cap": 2.0}
    flags = [part for name, value in more.items() for part in (f"--{name.replace('_', '-')}", value)]
    ended(torchrun(tmp_path / "two", home, "dr-grpo", *flags))
    one = alone(tmp_path / "one", home, "dr-grpo", **more)
    alike(tmp_path / "two", one, far(one.weights, BASES["mini-lm-v1"].shipped))


@pytest.mark.long
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


# --- weights that are shared out --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(home: Path) -> Path:
    """What two processes make that hold a part of the weights each; they were stopped in the middle."""
    out = home / "parts"
    out.mkdir()
    ended(two("tests.sharded", out, home))
    return out


def in_one(method: str, out: Path, home: Path) -> checkpoint.Checkpoint:
    """A run of `sharded.RUNS` in this process, from its beginning or from where it was left in `out`."""
    return adapt_into(out, Bench(find_track(TRACK), home), sharded.spec(method), observe=("update",))


def way(method: str) -> float:
    """How far a weight goes by AdamW in one direction."""
    settings = sharded.spec(method).settings
    return sum(learning_rate(settings, step, settings.steps) for step in range(settings.steps))


@pytest.mark.long
@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("method", sharded.RUNS)
def test_two_processes_that_share_the_weights_give_those_of_one(method, parts, home, tmp_path):
    one = in_one(method, tmp_path / "one", home)
    alike(parts / method, one, way(method))


@pytest.mark.long
@pytest.mark.slow(seconds=60)
def test_each_of_two_processes_holds_half_of_everything(parts):
    first, second = (json.loads((parts / f"held-{rank}.json").read_text()) for rank in (0, 1))
    weights = sum(weight.numel() for weight in Bench(find_track(TRACK), parts).base.parameters())
    expected = held(weights, processes=2)
    for each in (first, second):
        for numbers, planned in zip(
            each, (expected.base, expected.trained, expected.gradients, expected.moments), strict=True
        ):
            assert 4 * numbers == pytest.approx(planned, rel=0.01)
    assert [first[i] + second[i] for i in range(3)] == [weights] * 3


@pytest.mark.long
@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("method", ["sft", "iterative-sft"])
def test_one_process_goes_on_with_what_two_have_shared(method, parts, home, tmp_path):
    shutil.copytree(parts / f"{method} stopped", tmp_path / "one")
    assert len(list(tmp_path.glob("one/state-*/policy-*-of-00002.safetensors"))) == 2
    alike(parts / method, in_one(method, tmp_path / "one", home), way(method))


@pytest.mark.long
@pytest.mark.slow(seconds=60)
def test_plain_transformers_reads_what_two_have_shared(parts, home, tmp_path):
    made = checkpoint.read(parts / "dr-grpo")
    policy = Bench(find_track(TRACK), home).base.copy()
    assert isinstance(policy, CausalLM)
    policy.load(made.weights)
    copy_into(tmp_path / "model", base_files(find_track(TRACK).base, home))
    shutil.copy(made.weights, tmp_path / "model" / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = policy.chat.first("user", "Anna has 3 apples.")
    torch.testing.assert_close(model(torch.tensor([ids])).logits[0], policy.logits(ids), rtol=1e-5, atol=1e-4)


@pytest.mark.long
@pytest.mark.slow(seconds=60)
def test_state_of_which_a_part_is_missing_is_refused(parts, home, tmp_path):
    shutil.copytree(parts / "sft stopped", tmp_path / "one")
    next(tmp_path.glob("one/state-*/policy-00002-of-00002.safetensors")).unlink()
    with pytest.raises(Refused, match=r"state-00000002 is torn; remove it and give the same command again"):
        in_one("sft", tmp_path / "one", home)


class Sharing(Local):
    """One of two processes that share weights; the other does the same."""

    def gathered(self, value):
        return [value, value]

    def share_out(self, policy):
        Parallel(self.rank, 2, sharded=True).share_out(policy)


def test_what_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(Refused, match="one process has nobody to share its weights with; start several by torchrun"):
        Runtime(shard=True).resolved()
    settings = Settings(lr=0.1, warmup=0, batch=4, steps=1)
    with pytest.raises(Refused, match="the weights of Speller cannot be shared out; leave out --shard"):
        Adaptation(Speller(), Dialogue(), METHODS["sft"], settings, engine=Sharing(0, 2, sharded=True))
    monkeypatch.setattr(Sharing, "share_out", lambda self, policy: None)
    with pytest.raises(Refused, match="Muon needs whole matrices; leave out --shard"):
        Adaptation(
            Speller(),
            Dialogue(),
            METHODS["sft"],
            replace(settings, optimizer="muon"),
            engine=Sharing(0, 2, sharded=True),
        )
    with pytest.raises(Refused, match="what this method weighs by needs all weights in each process"):
        Adaptation(Speller(), Dialogue(), METHODS["simpo"], settings, engine=Sharing(0, 2, sharded=True)).advance()


# --- the engine -------------------------------------------------------------------------------------------------------


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
