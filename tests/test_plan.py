"""What runs will take is told before they are begun, by lines through what is measured, or by counted operations."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from razorbench import Refused
from razorbench.agents.language.decoding import SLOTS
from razorbench.agents.language.hollow import Hollow, hollow
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.memory import held, written
from razorbench.harness.learn.policy import Piece, encoded
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.clocks import DEVICES, find_device, processors
from razorbench.harness.runs.planning import Planner, grown
from razorbench.harness.runs.run import Spec, adapt_into, score_folder
from razorbench.harness.tracks.bases import shaped
from razorbench.harness.tracks.catalogue import TRACKS


class Watch:
    """A clock that work moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("most", "sizes"), [(1000, [2, 8, 32, 128]), (100, [2, 8, 32, 100]), (1, [1, 1])])
def test_a_line_goes_through_the_last_two_sizes_that_there_is_time_for(most, sizes):
    """Work of 3 seconds and 0.5 for each unit, and 20 for the first call; 300 seconds are enough for 128 of 1,000."""
    watch, seen = Watch(), list[int]()

    def work(size: int) -> float:
        watch.now += 3 + 0.5 * size + (0 if seen else 20)
        seen.append(size)
        return 7.0 * size

    line = grown(work, most, 300.0, watch, watch)
    assert seen == sizes
    assert line.elements == 7.0
    if most > 1:
        assert line(1000) == pytest.approx(503)
        assert line.first == pytest.approx(20)


def test_work_that_lasts_longer_than_there_is_time_for_is_measured_twice_at_least():
    watch, seen = Watch(), list[int]()

    def work(size: int) -> float:
        watch.now += 10.0 * size
        seen.append(size)
        return np.nan

    line = grown(work, 64, 5.0, watch, watch)
    assert seen == [2, 8]
    assert line(64) == pytest.approx(640)


def test_seconds_of_processors_are_those_of_all_that_was_started():
    begun = processors()
    busy = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True)\nimport sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-S", "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = processors() - begun
        child.communicate()
    assert 0.4 < alive < 5
    assert 0.4 < processors() - begun < 5


def test_a_device_takes_the_longer_of_its_operations_and_its_bytes():
    h100 = DEVICES["h100"]
    assert h100.seconds(Piece(989e12, 0.0), "bfloat16", 0.5) == pytest.approx(2)
    assert h100.seconds(Piece(67e12, 0.0), "float32", 1.0) == pytest.approx(1)
    assert h100.seconds(Piece(1.0, 3.35e12), "bfloat16", 0.25) == pytest.approx(4)
    with pytest.raises(Refused, match="nothing is known of the GPU 'h1000'"):
        find_device("h1000")


# --- planned, and then done -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("method", "again"), [("sft", False), ("grpo", True)])
def test_what_was_planned_is_what_is_done(bench: Bench, tmp_path, method, again):
    """Episodes and items to the last; seconds within a factor, for these runs last a second or two."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bases").symlink_to((bench.home / "bases").resolve())
    bench = Bench(bench.track, tmp_path / "home", made=bench.tasks, base=bench.base)
    settings = replace(bench.track.settings, steps=60, batch=32, group=4, warmup=0)
    spec = Spec(method, settings)
    plan = Planner(bench, processors, calibration=4).plan(spec, asks_base=not again)
    if again:
        _ = bench.answers, bench.drawn, bench.floor
    begun = processors()
    made = adapt_into(tmp_path / "out", bench, spec)
    adapted = processors()
    record, _ = score_folder(bench, made, tmp_path / "home")
    scored = processors()
    assert made.manifest is not None
    assert plan.steps == made.manifest.steps == 60
    (steps,) = (part for part in plan.parts if part.what == "steps")
    assert steps.elements == made.manifest.cost["elements"]
    points = len(made.waypoints())
    for score in record.scores:
        (part,) = (part for part in plan.parts if part.what == score.task)
        assert score.items is not None
        few = min(bench.track.checkpoint_items or score.items, score.items)
        assert part.count == score.items * (1 if again else 2) + points * few
    assert 1 / 3 < plan.seconds("adapt") / (adapted - begun) < 3
    assert 1 / 3 < plan.seconds("score") / (scored - adapted) < 3
    weights = sum(weight.numel() for weight in bench.base.parameters())
    assert plan.disk == written(weights, points)
    of = held(weights)  # the base gives its memory back
    assert sum(plan.memory[name] for name in ("weights", "gradients", "moments")) == of.total - of.base


def test_a_plan_refuses_what_adapt_refuses(razorbench, tmp_path):
    ran = razorbench("plan", "mini-math-v1", "--method", "sft", "--group", "3", "--home", tmp_path / "home")
    assert (ran.code, "sft does not read group" in ran.sentence) == (2, True)
    ran = razorbench("plan", "mini-math-v1", "--home", tmp_path / "home")
    assert (ran.code, "one run with --method, or a sweep with --methods or --preset" in ran.sentence) == (2, True)
    ran = razorbench("plan", "mini-math-v1", "--method", "sft", "--gpu", "h100", "--home", tmp_path / "home")
    assert (ran.code, "operations are counted of causal-lm-v1 alone" in ran.sentence) == (2, True)


# --- counted for a device that is not here ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model as transformers saves one, without its weights."""
    policy = mini_lm(seed=1)
    policy.model.config.save_pretrained(tmp_path / "model")
    policy.chat.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_of_shapes_counts_the_operations_of_the_real_one(folder):
    """torch's own counter tells them of the real model; both leave out what is not a product of matrices."""
    real, counted = mini_lm(seed=1), hollow(folder=folder, runtime=Runtime(device="meta"))
    task = make("task", "mini-math-v1")
    shown = demonstrations(task, task.instances("train").first(16))
    for policy, learn in ((real, False), (real.copy(), True)):
        episodes, before = encoded(real, shown), len(counted.counted)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(learn):
            for part in policy.predict(episodes):
                if learn:
                    part.logp.sum().backward()
        with torch.set_grad_enabled(learn):
            _ = [*(counted.copy() if learn else counted).predict(episodes)]
        ours = sum(piece.operations for piece in counted.counted[before:])
        # The real one makes logits of what is said alone; ours counts the head at every token.
        assert 1.0 <= ours / counter.get_total_flops() < 1.5
    assert isinstance(counted, Hollow)
    assert all(weight.is_meta for weight in counted.parameters())


def test_replies_are_as_long_as_is_said_and_each_token_reads_all_weights(folder):
    task = make("task", "mini-math-v1")
    some = task.instances("test").first(4)
    policy = hollow(folder=folder, reply=10, limit=32, runtime=Runtime(device="meta"))
    played = rollout(policy, task, some)
    assert played.lengths().tolist() == [10] * 4
    numbers = sum(weight.numel() for weight in policy.parameters())
    read, drawn = policy.counted
    assert drawn.operations > 10 * 4 * 2 * numbers
    assert drawn.bytes > 10 * 4 * numbers
    assert read.bytes == 4 * numbers
    config = policy.model.config
    head = config.hidden_size // config.num_attention_heads
    assert policy.key == 2 * config.num_hidden_layers * config.num_key_value_heads * head * 2
    assert policy.held_while()["keys"] == SLOTS * policy.key


@pytest.mark.parametrize("lora", [0, 4])
def test_a_run_of_shapes_is_planned_without_any_weights(folder, tmp_path, lora):
    track = TRACKS["mini-math-v1"]
    base = hollow(folder=folder, reply=8, limit=16, runtime=Runtime(device="meta"))
    bench = Bench(replace(track, items=8, drift_items=8), tmp_path / "home", base=base)
    h100 = find_device("h100")

    def counted() -> float:
        return sum(h100.seconds(piece, "bfloat16", 0.4) for piece in base.pieces_of_work)

    planner = Planner(bench, counted, calibration=5)
    rl, sft = (
        planner.plan(Spec(method, replace(track.settings, lora=lora, steps=4, warmup=0)))
        for method in ("dr-grpo", "sft")
    )
    assert rl.elements("adapt") == 4 * track.settings.batch * track.settings.group * 8
    assert rl.seconds("adapt") > sft.seconds("adapt") > 0
    assert rl.seconds("score") > 0
    numbers = sum(weight.numel() for weight in base.parameters())
    adapters = sum(weight.numel() for weight in base.low_rank(4).parameters()) if lora else 0
    of = held(numbers, adapters)
    beside = max(base.held_while().values())
    assert rl.memory["most"] == pytest.approx(of.total - (0 if lora else of.base) + beside)
    assert (rl.memory["moments"] < 4 * numbers) == bool(lora)


def test_what_is_counted_needs_a_model_of_which_that_is_known():
    with pytest.raises(Refused, match="plan on the machine that is to do it"):
        shaped(TRACKS["mini-math-v1"].base, Path("home"), {}, Runtime())


def test_nothing_is_computed_on_the_device_of_shapes(razorbench, tmp_path):
    ran = razorbench(
        "adapt",
        "mini-math-v1",
        "--method",
        "sft",
        "--device",
        "meta",
        "--out",
        tmp_path / "x",
        "--home",
        tmp_path / "home",
    )
    assert (ran.code, "nothing can be computed on the device 'meta'" in ran.sentence) == (2, True)
