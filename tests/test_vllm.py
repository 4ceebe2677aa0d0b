"""vLLM as the sampler, for real: the draws of our own loop, with the weights as they are. `make vllm-tests`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from razorbench import MachineFailed, Refused, Runtime, adapt, find_track, score
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn import checkpoint
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).parents[1]
HOW = (Runtime(sampler="own"), Runtime(sampler="vllm"))
QUESTIONS = ("Sort 3 1 2.", "What is gold?", "Anna has 3 apples and buys 4. How many has she?", "12 + 5 = ?")
MAPS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> CausalLM:
    return policy(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> CausalLM:
    """A base whose answers vLLM draws; it takes seconds to start, and serves the whole module."""
    return policy(tmp_path_factory.mktemp("vllm"), Runtime(sampler="vllm"))


def policy(home: Path, runtime: Runtime | None = None) -> CausalLM:
    made = base_policy(BASES["mini-lm-v1"], home, {"limit": 24}, runtime or Runtime())
    assert isinstance(made, CausalLM)
    return made


def drawn(lm: CausalLM, temperature: float = 1.0, n: int = 32) -> tuple[list[list[int]], list[list[float]]]:
    prompts = [lm.chat.first("user", QUESTIONS[i % len(QUESTIONS)]) for i in range(n)]
    return lm.decoded(prompts, np.random.default_rng(0).random((n, 24)), temperature, lm.chat.stops)


def apart(one: CausalLM, other: CausalLM, temperature: float = 1.0) -> float:
    """How far apart the log-probabilities are with which both draw the same answers; infinite where they do not."""
    (codes, nats), (others, told) = drawn(one, temperature), drawn(other, temperature)
    if codes != others:
        return np.inf
    return max(float(np.abs(np.subtract(a, b)).max(initial=0.0)) for a, b in zip(nats, told, strict=True))


@torch.no_grad()
def disturbed(lm: CausalLM, part: str, scale: float = 0.05) -> CausalLM:
    """A copy whose weights of one kind are others."""
    twin = lm.copy()
    noise = torch.Generator().manual_seed(1)
    for name, weight in twin.named_parameters():
        if part in name and "lora_A" not in name:
            weight.add_(scale * torch.randn(weight.shape, generator=noise))
    return twin


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_it_draws_what_our_own_loop_draws(own, started, temperature):
    assert apart(own, started, temperature) < 1e-4
    assert len({tuple(code) for code in drawn(started, temperature)[0]}) > (8 if temperature else 3)


def test_a_prompt_that_leaves_no_room_has_no_answer_and_one_of_little_room_a_short_one(own, started):
    long = own.chat.first("user", "one two three " * 300)
    prompts = [long[: own.reach - 3], long[: own.reach], own.chat.first("user", "Sort 2 1.")]
    u = np.full((3, 24), 0.4)
    told = [each.decoded(prompts, u, 1.0, [])[0] for each in (own, started)]
    assert told[0] == told[1]
    assert [len(code) for code in told[0]] == [3, 0, 24]


def test_a_text_ends_where_it_is_over(own, started):
    prompts = [own.chat.first("user", question) for question in QUESTIONS]
    whole = own.continued(prompts, 12)
    assert started.continued(prompts, 12) == whole
    over = {tuple(code[:4]) for code in whole}
    cut = started.continued(prompts, 12, lambda said: tuple(said[:4]) in over)
    assert [code[:4] for code in cut] == [code[:4] for code in whole]
    assert all(len(code) < 12 for code in cut)


@pytest.mark.parametrize("part", [*MAPS, "embed_tokens", "norm"])
def test_whole_weights_that_change_are_the_ones_it_answers_with(own, started, part):
    ours, its = disturbed(own, part), disturbed(started, part)
    assert apart(own, ours) > 1e-3
    assert apart(ours, its) < 1e-4
    assert apart(own, started) < 1e-4  # and back


@pytest.fixture(scope="module")
def adapted(own, started) -> tuple[CausalLM, CausalLM]:
    return own.low_rank(4), started.low_rank(4)


@pytest.mark.parametrize("part", MAPS)
def test_adapters_that_change_are_the_ones_it_answers_with(own, adapted, part):
    ours, its = (disturbed(lm, part) for lm in adapted)
    assert apart(own, ours) > 1e-3
    assert apart(ours, its) < 1e-4
    assert apart(own, adapted[1].base()) < 1e-4


@torch.no_grad()
def without(lm: CausalLM, part: str) -> CausalLM:
    """A copy whose adapters of one kind of map add nothing."""
    twin = lm.copy()
    for name, weight in twin.named_parameters():
        if part in name and "lora_B" in name:
            weight.zero_()
    return twin


@pytest.mark.parametrize("part", MAPS)
def test_adapters_of_which_one_map_does_not_arrive_are_noticed_at_once(adapted, monkeypatch, part):
    its = disturbed(adapted[1], "lora_B", 0.02)
    renew = its.sampler.renew
    monkeypatch.setattr(its.sampler, "renew", lambda policy: renew(without(policy, part)))
    with pytest.raises(MachineFailed, match="vLLM does not have the weights that are trained"):
        drawn(its)


def test_adapters_that_are_not_renewed_are_noticed_at_once(adapted, monkeypatch):
    its = disturbed(adapted[1], "up_proj", 0.03)
    drawn(its)
    monkeypatch.setattr(its.sampler, "renew", lambda policy: None)
    with pytest.raises(MachineFailed, match="just as it did before they were exchanged"):
        drawn(disturbed(its, "up_proj", 0.01))


@pytest.mark.parametrize("call", ["apply_model", "reset_prefix_cache"])
def test_whole_weights_or_keys_that_are_those_of_before_are_noticed_at_once(started, monkeypatch, call):
    drawn(started)
    monkeypatch.setattr(started.sampler.engine, call, lambda *_: None)
    with pytest.raises(MachineFailed, match="vLLM does not have the weights that are trained"):
        drawn(disturbed(started, "down_proj", 0.01))


def test_a_sequence_that_vllm_has_no_room_for_is_refused(started, monkeypatch):
    monkeypatch.setattr(started.sampler, "reach", 40)
    with pytest.raises(Refused, match="vLLM has room for 40 tokens a sequence, not"):
        drawn(started)


def test_models_of_one_shape_share_a_vllm(own, started, tmp_path):
    other = policy(tmp_path, Runtime(sampler="vllm"))
    drawn(started)
    engine = started.sampler.engine
    assert apart(disturbed(own, "q_proj"), disturbed(other, "q_proj")) < 1e-4
    assert apart(own, started) < 1e-4
    assert started.sampler.engine is engine


def test_what_was_noticed_is_noticed_until_it_is_mended(started, monkeypatch):
    other = disturbed(started, "o_proj", 0.03)
    with monkeypatch.context() as patch:
        patch.setattr(started.sampler.engine, "apply_model", lambda *_: None)
        for _ in range(2):
            with pytest.raises(MachineFailed):
                drawn(other)
    drawn(other)
    drawn(started)


@pytest.mark.parametrize("lora", [0, 8])
def test_an_adaptation_is_the_same_whoever_samples(tmp_path, lora):
    told = {}
    for sampler in ("own", "vllm"):
        how = {"home": tmp_path, "runtime": Runtime(sampler=sampler)}
        settings = {"lr": 1e-3, "steps": 3, "warmup": 1, "batch": 8, "group": 8, "lora": lora, "importance_cap": 2.0}
        made = adapt("mini-math-v1", "dr-grpo", tmp_path / sampler, **how, **settings)
        assert made.manifest
        curve = [json.loads(line) for line in (tmp_path / sampler / "curve.jsonl").read_text().splitlines()]
        told[sampler] = curve, made.manifest.provenance["runtime"]["sampler"]
    (ours, own), (its, vllm) = told["own"], told["vllm"]
    assert (own, vllm) == ("own", "vllm")
    assert [row["reward"] for row in its] == [row["reward"] for row in ours]
    assert any(row["reward"] for row in ours)
    mismatch = [
        row["measures"]["mismatch"] for row in its if "mismatch" in row["measures"]
    ]  # where anything is learned
    assert mismatch
    assert all(0 < nats < 1e-3 for nats in mismatch)
    assert [row["grad_norm"] for row in its] == pytest.approx([row["grad_norm"] for row in ours], rel=1e-3)


def test_a_checkpoint_has_the_same_record_whoever_answers(tmp_path):
    made = adapt("mini-math-v1", "sft", tmp_path / "made", home=tmp_path, steps=4, warmup=1, lr=1e-3)
    track = replace(find_track("mini-math-v1"), items=24, drift_items=8, checkpoint_items=8)
    own, vllm = (score(made, track, home=tmp_path / how.sampler, runtime=how) for how in HOW)
    assert vllm.id == own.id
    assert [(each.base, each.adapted) for each in vllm.scores] == [(each.base, each.adapted) for each in own.scores]
    assert len({each.adapted for each in own.scores}) > 2
    assert [each.nats for each in vllm.drifts] == pytest.approx([each.nats for each in own.drifts], rel=1e-4)
    assert vllm.provenance["scored"]["runtime"]["sampler"] == "vllm"


@pytest.mark.parametrize("how", [(), ("--shard",)], ids=["whole", "shared"])
def test_two_processes_with_a_vllm_each_give_the_weights_of_one_without(tmp_path, how):
    settings = {"lr": 1e-3, "steps": 3, "warmup": 1, "batch": 6, "group": 4}
    one = adapt("mini-math-v1", "dr-grpo", tmp_path / "one", home=tmp_path, **settings)
    told = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    argv = ["adapt", "mini-math-v1", "--method", "dr-grpo", *told, "--sampler", "vllm", *how, "--home", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*map(str, [*run, "razorbench.harness.cli.main", *argv, "--out", tmp_path / "two"])],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    both = checkpoint.read(tmp_path / "two")
    assert both.manifest
    assert both.manifest.provenance["processes"] == 2
    assert [row.reward for row in both.curve()] == [row.reward for row in one.curve()]
    ours, theirs = load_file(one.weights), load_file(both.weights)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 0.01 * 3e-3
