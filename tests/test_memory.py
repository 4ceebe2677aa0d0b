"""What is held in memory and on disk is what is computed, at three sizes of a model, full and with adapters."""

import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from razorbench import Refused
from razorbench.agents.language.lora import PROJECTIONS
from razorbench.agents.language.mini_lm import FOLDER, SMALL
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.memory import check_room, held, written
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into
from razorbench.harness.tracks.bases import policy_digest


def sized(width: int, layers: int) -> CausalLM:
    """A model like the small one, of another width and depth."""
    config = Qwen2Config.from_pretrained(FOLDER)
    config.update(
        {
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "layer_types": ["full_attention"] * layers,
        }
    )
    return CausalLM(Qwen2ForCausalLM(config), Qwen2Tokenizer.from_pretrained(FOLDER), limit=8, runtime=SMALL)


def allocated() -> int:
    """Bytes of all tensors that live in this process, each storage counted once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # `isinstance` would ask, and wake what is deprecated
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.slow
@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize(("width", "layers"), [(64, 2), (128, 4), (256, 6)])
def test_what_is_held_is_what_is_computed(width, layers, lora):
    before = allocated()
    base, task = sized(width, layers), make("task", "mini-math-v1")
    weights = sum(weight.numel() for weight in base.parameters())
    policy = base.low_rank(lora) if lora else base.copy()
    adaptation = Adaptation(policy, task, METHODS["sft"], Settings(warmup=0, batch=2, steps=1, examples=2))
    adaptation.advance()
    maps = [linear for name, linear in base.model.named_modules() if name.rpartition(".")[2] in PROJECTIONS]
    adapters = sum(lora * (linear.in_features + linear.out_features) for linear in maps)
    expected = held(weights, adapters)
    assert sum(p.numel() for p in adaptation.parameters) * 4 == expected.trained
    held_now = allocated() - before
    assert expected.total <= held_now < 1.1 * expected.total + 2**20  # masks, counters and the task's questions besides


@pytest.mark.parametrize(
    ("method", "copies", "kept"), [("sft", 1, True), ("sft", 1, False), ("iterative-sft", 2, True)]
)
def test_what_is_written_is_what_is_computed(bench: Bench, tmp_path, monkeypatch, method, copies, kept):
    spec, sizes, replace = Spec(method, Settings(steps=5, batch=16, warmup=0, group=4)), [], os.replace

    def measured(old: Path, new: Path) -> None:
        sizes.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        replace(old, new)

    monkeypatch.setattr(os, "replace", measured)
    passed = None if kept else lambda policy, step: None
    made = adapt_into(tmp_path / "out", bench, spec, save_every=1, passed=passed)
    marks = len(made.waypoints())
    assert marks == (4 if kept else 0)
    weights = sum(weight.numel() for weight in bench.base.parameters())
    assert 0.95 * written(weights, marks, copies) < max(sizes) < 1.01 * written(weights, marks, copies)


def test_what_the_disk_has_no_room_for_is_refused_and_leaves_nothing(bench: Bench, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    spec = Spec("sft", Settings(steps=1, batch=16, warmup=0))
    with pytest.raises(Refused, match=r"will take up to 0 GB in .*out, and 0 GB are free; train adapters with --lora"):
        adapt_into(tmp_path / "out", bench, spec)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changes", "rests"), [("sft", {}, True), ("sft", {"kl": 0.1}, False), ("self-sft", {}, False)]
)
def test_base_that_nobody_asks_takes_no_memory_while_it_is_adapted(bench: Bench, tmp_path, method, changes, rests):
    weights = list(bench.base.parameters())
    whole, held = policy_digest(bench.base), []

    def tell(report: Report, steps: int) -> None:
        held.append(sum(weight.untyped_storage().nbytes() for weight in weights))

    settings = replace(Settings(steps=1, batch=16, warmup=0, group=4), **changes)
    adapt_into(tmp_path / "out", bench, Spec(method, settings), tell=tell)
    assert held == [0 if rests else 4 * sum(weight.numel() for weight in weights)]
    assert policy_digest(bench.base) == whole


def test_base_has_its_weights_again_when_an_adaptation_is_stopped(bench: Bench, tmp_path):
    whole = policy_digest(bench.base)

    def stop(report: Report, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt_into(tmp_path / "out", bench, Spec("sft", Settings(steps=2, batch=16, warmup=0)), tell=stop)
    assert policy_digest(bench.base) == whole


def test_what_does_not_fit_is_refused_before_the_first_step(monkeypatch):
    policy = sized(64, 2)
    weights = list(policy.parameters())
    check_room(weights)
    monkeypatch.setattr("razorbench.harness.learn.memory.available", lambda device: 1000)
    with pytest.raises(Refused, match=r"take 0 GB, and 0 GB are free on cpu; train adapters with --lora, share"):
        check_room(weights)
    monkeypatch.setattr("razorbench.harness.learn.memory.available", lambda device: None)
    check_room(weights)
