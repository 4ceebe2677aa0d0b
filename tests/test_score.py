"""Scoring: what a record says of a policy, by hand where it can be, and on the real track where it must."""

import os
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from razorbench import Episodes, Instances, Refused, Sample
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.locks import alone
from razorbench.harness.core.rollout import Demonstrator, rollout
from razorbench.harness.learn.checkpoint import Manifest
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings, variant
from razorbench.harness.measure.comparison import of_record, unsteady
from razorbench.harness.measure.drift import Divergence
from razorbench.harness.measure.evaluation import Answers, evaluate
from razorbench.harness.measure.record import samples_of
from razorbench.harness.measure.score import Bench, drift_rows, samples, score_row
from razorbench.harness.measure.statistics import judged
from razorbench.harness.runs.curve import cost, window_mean
from razorbench.harness.runs.executors import EXECUTORS
from razorbench.harness.runs.run import Spec, adapt_into, begin, keep, run, score_folder, waypoints
from razorbench.harness.runs.sweep import plan, run_key, sweep
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import TRACKS, find_track
from razorbench.tasks.fetch.tasks import Reach
from tests.toys import SPELLING, Speller

NAN = float("nan")
QUICK = Settings(steps=3, batch=16, warmup=0, group=4)


def answered(score, error=None, **metrics) -> Answers:
    """Answers to items 0, 1, …"""
    columns = {name: np.array(column) for name, column in metrics.items()}
    names = [str(i) for i in range(len(score))]
    return Answers(names, np.array(score, float), error or [None] * len(score), columns)


def test_score_is_in_points_and_counts_the_unscored():
    base, adapted = answered([1.0, 0, 0, 1, NAN]), answered([1.0, 1, 1, NAN, 1])
    row = score_row("sums-v1", "skills", base, adapted, *judged(base.score, adapted.score))
    assert (row.role, row.suite, row.n, row.unscored) == ("prior", "skills", 3, 2)
    assert (row.items, row.unscored_base, row.unscored_adapted) == (5, 1, 1)
    assert (row.base, row.adapted, row.difference) == pytest.approx((100 / 3, 100, 200 / 3))
    assert row.p == 0.5  # two won, none lost: 2 · ½²


def test_drift_per_element_is_a_ratio_of_means_with_its_own_error():
    drift = Divergence(torch.tensor([1.0, 3.0]), torch.tensor([1, 2]), torch.zeros(2))
    episode, element = drift_rows("sums-v1", "forward", drift)
    assert (episode.nats, episode.se) == pytest.approx((2.0, 1.0))  # sd √2 of 1 and 3, over √2
    assert element.nats == pytest.approx(4 / 3)
    assert element.se == pytest.approx((1 / 3) / 1.5)  # residuals ∓1/3: sd √2/3, over √2, over the mean length 1.5


def test_samples_put_base_beside_adapted_and_drift_on_the_new_task_alone():
    played = Episodes(Instances(np.array([0, 1])))
    base = {
        "new-v1": replace(answered([0.0, 1]), played=played),
        "old-v1": answered([1.0]),
    }
    adapted = {
        "new-v1": answered([1.0, NAN], [None, "it crashed"]),
        "old-v1": answered([0.0]),
    }
    columns = samples(base, adapted, "new-v1", {0: 0.5})
    assert columns["item"] == ["0", "1", "0"]
    assert columns["role"] == ["new", "new", "prior"]
    assert columns["error"] == [None, "it crashed", None]
    np.testing.assert_equal(columns["drift"], [0.5, NAN, NAN])
    np.testing.assert_equal(columns["adapted"], [1, NAN, 0])
    assert columns["cluster"] == [None] * 3


@pytest.mark.parametrize("shared", [True, False])
def test_retention_counts_what_prior_tasks_share_once(shared):
    names = np.array([f"box {i}" for i in range(40)]) if shared else None
    before = answered([1.0] * 40)
    after = replace(before, score=np.repeat([0.0, 1.0], [10, 30]), cluster=names)
    bench: Any = SimpleNamespace(priors={"push": None, "lift": None}, answers={"push": before, "lift": before})
    one, _ = judged(before.score, after.score, names)
    both = Bench.retention(bench, {"push": after, "lift": after}, {"push": one, "lift": one})
    assert both.se == pytest.approx(one.se if shared else one.se / 2**0.5)


def test_samples_name_what_items_share():
    base = {"new-v1": answered([0.0, 1])}
    adapted = {"new-v1": replace(base["new-v1"], cluster=np.array(["box 1", "box 2"]))}
    assert samples(base, adapted, "new-v1", {})["cluster"] == ["box 1", "box 2"]


def test_benchmark_that_owns_its_loop_is_evaluated_by_it():
    class Measured:
        card = None

        def evaluate(self, agent, limit=None):
            return [Sample("a", 1.0), Sample("b", NAN, error="too long")][:limit]

    answers = evaluate(object(), Measured())  # type: ignore[arg-type]
    assert answers.error == [None, "too long"]
    assert len(evaluate(object(), Measured(), items=1).score) == 1  # type: ignore[arg-type]


def test_waypoints_are_even_and_leave_out_the_ends():
    assert waypoints(90, 8) == {10, 20, 30, 40, 50, 60, 70, 80}
    assert waypoints(3, 8) == {1, 2}
    assert waypoints(1, 8) == set()


def test_curve_window_is_the_mean_of_its_steps():
    from razorbench.harness.learn.checkpoint import Report

    steps = [Report(i + 1, 0.1, float(i), NAN if i else 0.5, 1.0, 4, 4, 2.0) for i in range(3)]
    point = window_mean(steps)
    assert (point.step, point.loss, point.reward) == (3, 1.0, 0.5)
    assert cost(steps) == {"seconds": 6.0, "episodes": 12, "elements": 12}


def test_competitors_are_methods_with_what_changes_their_objective():
    assert variant("grpo", {"kl": 0.1, "lr": 1e-4, "style": ""}) == "grpo kl 0.1"
    assert variant("sft", {"style": "zero-four", "kl": 0.0}) == "sft style zero-four"


def test_plan_is_every_method_grid_point_and_seed():
    track = find_track("parity-mnist-v1")
    specs = plan(track, ["sft", "grpo:kl=0.1"], ["lr=1e-5,1e-4", "schedule=cosine"], [0, 1])
    assert len(specs) == 8
    assert {(s.method, s.settings.kl) for s in specs} == {("sft", 0.0), ("grpo", 0.1)}
    assert {s.settings.lr for s in specs} == {1e-5, 1e-4}
    assert {s.settings.schedule for s in specs} == {"cosine"}


def test_unknown_method_of_a_sweep_is_refused_with_the_nearest():
    with pytest.raises(Refused, match="did you mean 'grpo'"):
        plan(find_track("parity-mnist-v1"), ["grop"], [], [0])


def test_the_key_of_a_run_tells_seeds_and_settings_apart():
    assert len({run_key("sft", {"lr": lr}, seed) for lr in (0.1, 0.2) for seed in (0, 1)}) == 4


@pytest.mark.slow
def test_base_scores_nothing_against_itself(bench: Bench):
    scored = bench.score(bench.base)
    assert [score.difference for score in scored.scores] == [0.0, 0.0]
    assert all(score.p == 1.0 for score in scored.scores)
    assert [drift.nats for drift in scored.drifts] == [0.0] * 4


@pytest.mark.slow
def test_record_holds_what_was_measured_on_the_way(bench: Bench, tmp_path):
    record = run(bench, Spec("grpo", QUICK), tmp_path)
    assert [point.step for point in record.curve] == [0, 1, 2, 3]
    assert [point.drift is not None for point in record.curve] == [True, True, True, True]
    assert [point.end for point in record.curve] == [False, False, False, True]
    assert record.curve[-1].new == record.scores[0].adapted
    assert record.gain == pytest.approx(record.scores[0].adapted - record.scores[0].base)  # type: ignore[operator]
    assert record.provenance["scored"]["versions"]["torch"].startswith("2.13.0")
    assert record.provenance["parameters"] == sum(weights.numel() for weights in bench.base.parameters()) > 0


@pytest.mark.slow
def test_run_measures_on_the_way_what_is_measured_of_the_weights_that_adapt_keeps(bench: Bench, tmp_path, monkeypatch):
    kept = adapt_into(tmp_path / "out", bench, Spec("grpo", QUICK))
    assert [*kept.waypoints()] == [1, 2]
    later, _ = score_folder(bench, kept, tmp_path / "one")
    written: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (written.append(Path(new).name), replace(old, new)))
    assert run(bench, Spec("grpo", QUICK), tmp_path / "other").curve == later.curve
    assert [name for name in written if name.endswith("safetensors")] == ["model.safetensors"]


@pytest.mark.slow
def test_methods_that_give_the_same_weights_are_two_rows(bench: Bench, tmp_path):
    one, other = (run(bench, Spec(method, QUICK), tmp_path) for method in ("reinforce", "dr-grpo"))
    assert one.checkpoint == other.checkpoint
    assert one.id != other.id


@pytest.mark.slow
def test_run_that_is_made_again_is_the_same_record(bench: Bench, tmp_path):
    assert run(bench, Spec("sft", QUICK), tmp_path) == run(bench, Spec("sft", QUICK), tmp_path)


@pytest.mark.slow
def test_run_that_was_stopped_goes_on_and_leaves_nothing_but_its_record(bench: Bench, tmp_path, monkeypatch):
    spec, steps, stop = Spec("grpo", QUICK), [], [2]
    whole = run(bench, spec, tmp_path / "whole")
    advance = Adaptation.advance

    def stopped(self: Adaptation) -> Any:
        if self.step in stop:
            stop.clear()
            raise KeyboardInterrupt
        steps.append(self.step)
        return advance(self)

    monkeypatch.setattr(Adaptation, "advance", stopped)
    monkeypatch.setattr("razorbench.harness.runs.run.SAVE_SECONDS", 0.0)
    home = tmp_path / "home"
    with pytest.raises(KeyboardInterrupt):
        run(bench, spec, home)
    assert len(list((home / "runs").iterdir())) == 1
    again = run(bench, spec, home)
    assert steps == [0, 1, 2]
    assert not list((home / "runs").iterdir())
    assert again.id == whole.id
    assert again.curve == whole.curve


def test_run_that_diverges_leaves_nothing(bench: Bench, tmp_path, monkeypatch):
    def diverge(self: Adaptation) -> Any:
        raise ArithmeticError("the loss is not finite at step 1")

    monkeypatch.setattr(Adaptation, "advance", diverge)
    with pytest.raises(ArithmeticError):
        run(bench, Spec("sft", QUICK), tmp_path)
    assert not list((tmp_path / "runs").iterdir())


def test_who_comes_while_a_run_is_going_waits_for_it(tmp_path):
    folder, order = tmp_path / "runs" / "one", []
    with alone(folder):
        waiting = Thread(target=lambda: wait_for(folder, order))
        waiting.start()
        waiting.join(0.2)
        order.append("first")
        folder.rmdir()  # done: what the other waits for is gone
    waiting.join(10)
    assert order == ["first", "second"]
    assert folder.exists()


def wait_for(folder: Path, order: list[str]) -> None:
    with alone(folder):
        order.append("second")


def test_checkpoint_of_another_base_is_refused(bench: Bench, tmp_path):
    made = adapt_into(tmp_path / "out", bench, Spec("sft", QUICK))
    assert made.manifest is not None
    foreign = replace(made, manifest=replace(made.manifest, base="0" * 64))
    with pytest.raises(Refused, match="adapted from another base"):
        score_folder(bench, foreign, tmp_path / "home")


def test_weights_that_are_not_finite_are_refused(bench: Bench, tmp_path):
    broken = bench.base.copy()
    with torch.no_grad():
        next(iter(broken.parameters()))[0] = NAN
    broken.save(tmp_path / "model.safetensors")
    with pytest.raises(Refused, match="not finite"):
        bench.base.copy().load(tmp_path / "model.safetensors")


def test_adaptation_that_diverges_stops_with_its_step(bench: Bench):
    adaptation = Adaptation(bench.base.copy(), bench.new, METHODS["sft"], QUICK)
    with torch.no_grad():
        next(iter(adaptation.parameters))[0] = NAN
    with pytest.raises(ArithmeticError, match="step 1"):
        adaptation.advance()


def test_group_of_a_worker_task_with_mapped_observations_plays_as_in_this_thread(bench: Bench):
    some = bench.new.instances("test").first(12)
    with Workers("parity-mnist-v1", lanes=2, scenes=3) as lanes:
        apart = rollout(bench.base, lanes, some)
    assert apart.reward.tolist() == rollout(bench.base, bench.new, some).reward.tolist()


# --- a toy track: dialogues, metrics, and who is no policy ------------------------------------------------------------


@pytest.fixture
def spelling(toys, tmp_path) -> Bench:
    return Bench(SPELLING, tmp_path / "home")


@pytest.mark.slow
def test_record_and_store_keep_the_metrics_of_a_task(spelling: Bench, tmp_path):
    record = run(spelling, Spec("sft", replace(SPELLING.settings, steps=60)), tmp_path / "home")
    Store(tmp_path / "home").add(record)
    base, adapted = record.scores[0].metrics["right"]
    assert base == pytest.approx(np.mean(spelling.answers["dialogue-v1"].metrics["right"]))
    assert adapted == 2.0  # both words of every dialogue
    (new,) = (row for row in Store(tmp_path / "home").scores(record.id) if row["role"] == "new")
    assert new["metrics"] == {"right": [base, 2.0]}
    difference, low, high = new["metric_changes"]["right"]
    assert base is not None
    assert difference == pytest.approx(2 - base)
    assert low < difference < high
    kept = samples_of(tmp_path / "home", record.id).to_pylist()
    each = [dict(row["metrics"])["right"] for row in kept if row["role"] == "new"]
    assert np.mean(each, 0).tolist() == pytest.approx([base, 2.0])


def test_agent_that_tells_no_probabilities_has_a_gain_and_no_drift(spelling: Bench):
    scored = spelling.score(Demonstrator(spelling.new, "right"))  # type: ignore[arg-type]
    assert [score.adapted for score in scored.scores] == [100.0, 100.0]
    assert scored.gain.value > 0.5
    assert scored.drifts == []
    assert np.isnan(scored.samples["drift"]).all()


def test_adapters_are_asked_of_a_policy_that_has_them_and_refused_of_another(spelling: Bench, monkeypatch):
    with pytest.raises(Refused, match="Speller has no low-rank adapters; leave lora at 0"):
        begin(spelling, Spec("sft", Settings(lora=4, warmup=0)))
    monkeypatch.setattr(Speller, "low_rank", lambda self, rank: (self.copy(), rank)[0], raising=False)
    monkeypatch.setattr(Speller, "merged", lambda self, dtype: self, raising=False)
    assert begin(spelling, Spec("sft", Settings(lora=4, warmup=0))).learner.policy.base() is spelling.base


def test_runs_that_no_worker_is_left_for_have_failed(spelling: Bench, tmp_path, monkeypatch):
    class Broken(Executor):
        """Its worker was killed before it was given anything."""

        def submit(self, *_):
            raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setitem(EXECUTORS, "process", lambda workers: Broken())
    specs = plan(SPELLING, ["sft", "grpo"], [], [0])
    ends = list(sweep(SPELLING, specs, tmp_path / "home"))
    assert {end.spec for end in ends} == {*specs}
    assert {(end.record, end.error) for end in ends} == {
        (None, "BrokenProcessPool: a child process terminated abruptly")
    }


def test_a_record_says_where_verdicts_are_not_repeatable(tmp_path, monkeypatch):
    card = Reach.card
    assert card.protocol is not None
    monkeypatch.setattr(Reach, "card", replace(card, protocol=replace(card.protocol, floor=0.057)))
    track = replace(TRACKS["mini-robot-air-v2"], items=2, drift_items=2)
    made = Bench(track, tmp_path)
    assert made.floors == {"fetch-reach-v1": 0.057}
    record = keep(made, made.base, "weights", Manifest(track.id, "brought"), [], [], tmp_path, "the base")
    said = "5.7 % of the verdicts of fetch-reach-v1 differ where one policy plays the same states twice"
    assert of_record(tmp_path, record, "a", "b").notes == (
        f"{said}: no smaller change says anything, whatever its interval.",
    )
    assert not list(unsteady({}))
