"""What a result must not depend on: precision of computation, micro-batches, recomputed activations."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from razorbench import Episodes, Refused
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn import checkpoint
from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.drift import divergence, floor
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into, score_folder
from razorbench.harness.tracks.bases import base_policy, policy_digest
from razorbench.harness.tracks.catalogue import BASES, find_track

TASK = "mini-math-v1"
BF16 = Runtime(dtype="bfloat16")


@pytest.fixture(scope="module")
def task():
    return make("task", TASK)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> CausalLM:
    return mini(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def episodes(base: CausalLM, task) -> Episodes:
    """What the base says to 24 questions, two answers each."""
    return rollout(base, task, task.instances("test").take(np.repeat(np.arange(24), 2)))


def mini(home: Path, runtime: Runtime = AUTO) -> CausalLM:
    """The small language model."""
    policy = base_policy(BASES["mini-lm-v1"], home, runtime=runtime)
    assert isinstance(policy, CausalLM)
    return policy


def flat(policy: CausalLM) -> Tensor:
    """All weights in a row."""
    return torch.cat([weight.detach().flatten() for weight in policy.parameters()])


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_what_is_left_open_is_decided_by_the_agent_and_then_by_the_machine(tmp_path):
    assert Runtime("cpu", micro_batch=7).otherwise(Runtime("cuda", "bfloat16", 9)) == Runtime("cpu", "bfloat16", 7)
    assert mini(tmp_path).runtime == Runtime("cpu", "float32", 1024)
    assert mini(tmp_path, BF16).runtime == Runtime("cpu", "bfloat16", 1024)
    gpu = torch.cuda.is_available()
    assert AUTO.resolved() == Runtime("cuda" if gpu else "cpu", "bfloat16" if gpu else "float32")


def test_what_cannot_be_is_refused():
    for device in ("cuda:99", "tpu", "cpu:", "cuda:x", ""):
        with pytest.raises(Refused, match="no device"):
            Runtime(device).resolved()
    with pytest.raises(Refused, match="choose auto, float32, bfloat16"):
        Runtime(dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="at least 0"):
        Runtime(micro_batch=-1)


@pytest.mark.usefixtures("toys")
def test_agent_that_has_no_say_is_computed_as_ever_and_refuses_the_rest(tmp_path):
    assert Bench(find_track("spelling-v1"), tmp_path).runtime == {}
    with pytest.raises(Refused, match=r"speller-v1 is computed in one way only; leave out device"):
        Bench(find_track("spelling-v1"), tmp_path, BF16)


def test_command_line_says_it_and_the_record_keeps_it(tmp_path, razorbench):
    short = ("--method", "sft", "--steps", 1, "--warmup", 0, "--batch", 4)
    refused = razorbench("adapt", TASK, *short, "--out", tmp_path / "out", "--home", tmp_path, "--device", "tpu")
    assert refused.code == 2
    assert "this machine has no device 'tpu'" in refused.err
    how = ("--dtype", "bfloat16", "--micro-batch", 512, "--checkpointing")
    assert razorbench("adapt", TASK, *short, "--out", tmp_path / "out", "--home", tmp_path, *how).code == 0
    told = asdict(Runtime("cpu", "bfloat16", 512, checkpointing=True))
    small = replace(find_track(TASK), items=2, drift_items=2, checkpoint_items=2)
    made = checkpoint.read(tmp_path / "out")
    assert made.manifest
    assert made.manifest.provenance["runtime"] == told
    record, _ = score_folder(Bench(small, tmp_path), made, tmp_path)
    assert record.provenance["adapted"]["runtime"] == told
    usual = asdict(Runtime("cpu", "float32", 1024))
    assert record.provenance["scored"]["runtime"] == usual


# --- what it must not change ------------------------------------------------------------------------------------------


def test_computing_in_bf16_samples_and_scores_alike_down_to_its_floor(base, episodes, tmp_path):
    """Within 2 %, over four draws of noise: one has a standard error of 1 % over these episodes."""
    half = mini(tmp_path, BF16)
    assert policy_digest(half) == policy_digest(base)  # weights are not rounded
    least = floor(half, episodes)
    assert least is not None
    exact, rounded = [], []
    for seed in range(4):
        other, apart = base.copy(), half.copy()
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in other.parameters():
                weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=noise)
        for ours, theirs in zip(apart.parameters(), other.parameters(), strict=True):
            ours.data.copy_(theirs)
        exact.append(float(divergence(base, other, episodes).nats.mean()))
        rounded.append(float(divergence(half, apart, episodes).nats.mean()))
    assert min(exact) > 100 * float(least.nats.mean())
    assert abs(sum(rounded) - sum(exact)) < 0.02 * sum(exact)


@pytest.mark.slow
def test_fifty_steps_in_bf16_end_near_those_in_float32(base, task, episodes, tmp_path):
    """Weights: a tenth of the way that they went. Loss: 0.02 at every step. KL from the base: 5 %."""
    settings = Settings(lr=3e-4, warmup=0, batch=8, steps=50, examples=400)
    ends: list[tuple[CausalLM, list[Report]]] = []
    for runtime in (AUTO, BF16):
        policy = mini(tmp_path, runtime).copy()
        ends.append((policy, list(Adaptation(policy, task, METHODS["sft"], settings))))
    (exact, those), (rounded, these) = ends
    assert float((flat(exact) - flat(rounded)).norm()) < 0.1 * float((flat(exact) - flat(base)).norm())
    assert max(abs(a.loss - b.loss) for a, b in zip(those, these, strict=True)) < 0.02
    far, near = (float(divergence(base, policy, episodes).nats.mean()) for policy in (exact, rounded))
    assert abs(near - far) < 0.05 * far
    assert float(divergence(exact, rounded, episodes).nats.mean()) < 0.01 * far


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [AUTO, BF16], ids=["float32", "bfloat16"])
def test_a_small_learning_rate_moves_weights_as_far_as_it_says(base, task, tmp_path, runtime):
    policy = mini(tmp_path, runtime).copy()
    settings = Settings(lr=1e-6, warmup=0, batch=8, steps=20, examples=8)  # the same eight questions each time
    list(Adaptation(policy, task, METHODS["sft"], settings))
    moved = (flat(policy) - flat(base)).abs()
    assert float(moved.max()) == pytest.approx(20e-6, rel=0.1)  # a step of weights near 8 is a tenth off
    assert float(moved.median()) > 5e-6


def test_weights_in_bf16_are_not_trained(base, task):
    coarse = base.copy()
    coarse.model.bfloat16()
    with pytest.raises(Refused, match="weights in bfloat16 are too coarse for small steps"):
        Adaptation(coarse, task, METHODS["sft"], Settings(warmup=0, batch=4, steps=1))


def gradients(policy: CausalLM, episodes: Episodes) -> tuple[list[Tensor], int]:
    """The gradient of log π, and how many bytes of activations were kept for it."""
    kept: dict[int, int] = {}
    weights = {weight.data_ptr() for weight in policy.parameters()}

    def keep(x: Tensor) -> Tensor:
        if x.data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        total = sum(part.logp.sum() for part in policy.predict(episodes))
    assert isinstance(total, Tensor)
    return list(torch.autograd.grad(total, list(policy.parameters()))), sum(kept.values())


def test_recomputed_activations_give_the_same_gradient_in_less_memory(base, episodes, tmp_path):
    lean = mini(tmp_path, Runtime(checkpointing=True))
    exact, all_kept = gradients(base, episodes)
    again, few_kept = gradients(lean, episodes)
    for ours, theirs in zip(again, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()) + 1e-7)
    assert few_kept < 0.6 * all_kept
    assert not any(module.training for module in lean.model.modules())


def test_recomputed_activations_do_not_change_what_is_sampled(base, task, episodes, tmp_path):
    lean = mini(tmp_path, Runtime(checkpointing=True))
    played = rollout(lean, task, episodes.instances)
    assert [list(a.done.code) for a in played.turns if a.done] == [list(b.done.code) for b in episodes.turns if b.done]


def test_adaptation_killed_and_gone_on_with_under_another_runtime_is_one_run(task, tmp_path):
    track = replace(find_track(TASK), items=2, drift_items=2, checkpoint_items=2, checkpoints=0)
    spec = Spec("sft", replace(track.settings, lr=1e-4, warmup=0, batch=4, steps=4, examples=16))

    def stopped(report: Report, steps: int) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt_into(tmp_path / "out", Bench(track, tmp_path), spec, save_every=1, tell=stopped)
    made = adapt_into(tmp_path / "out", Bench(track, tmp_path, Runtime(micro_batch=64)), spec)
    assert [report.step for report in made.curve()] == [1, 2, 3, 4]
    whole = adapt_into(tmp_path / "whole", Bench(track, tmp_path), spec)
    ours, theirs = mini(tmp_path).copy(), mini(tmp_path).copy()
    ours.load(made.weights)
    theirs.load(whole.weights)
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=0, atol=1e-5)
