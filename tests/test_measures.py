"""What is measured of an adaptation on the way: by hand, on toys, in the record and on the board."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from razorbench import Actions, Episodes, Instances, Observations, Outcomes, Reply, Turn
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.measures import MEASURES, Sampled, sampled_nats
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.score import Bench
from razorbench.harness.report.flags import SILENCE, flags
from razorbench.harness.runs.curve import measured
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.store.database import Store
from tests.toys import SPELLING, Dialogue, Speller

NAN = float("nan")


def said(replies: list[Reply], logp: list[list[float]] | None, reward: list[float]) -> Episodes:
    """One turn of replies, a token for each log-probability."""
    n = len(replies)
    codes = [[0] * len(row) for row in logp] if logp else [[0]] * n
    turn = Turn(np.arange(n), Observations(["?"] * n), Actions(replies, codes, logp))
    return Episodes(Instances(np.arange(n)), [turn], Outcomes(np.array(reward)))


def test_measures_of_samples_by_hand():
    replies = [Reply("a"), Reply("b", False), Reply("c"), Reply("d"), Reply("e"), Reply("f")]
    logp = [[-1.0], [-1.0, -3.0], [-0.5], [-0.5], [-1.0], [-1.0]]
    reward = np.array([1.0, 0.0, 1.0, 1.0, 0.0, NAN])
    whole = Sampled.of(said(replies, logp, reward.tolist()), np.array([0, 0, 1, 1, 2, 2]))
    halves = [
        Sampled.of(said(replies[:2], logp[:2], reward[:2].tolist()), np.array([0, 0])),
        Sampled.of(said(replies[2:], logp[2:], reward[2:].tolist()), np.array([0, 0, 1, 1])),
    ]
    assert Sampled.join(halves).measures() == whole.measures()
    assert whole.measures() == pytest.approx({"length": 7 / 6, "entropy": 8 / 7, "cut": 1 / 6, "equal_groups": 1 / 2})


def test_what_is_not_known_is_left_out():
    drawn = Sampled.of(said([Reply("a"), Reply("b")], None, [1.0, 0.0]), np.array([0, 1]))
    assert drawn.measures() == {"length": 1.0, "cut": 0.0}  # no log-probabilities, and no group of two


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "task"),
    [("mlp-785-v1", "parity-mnist-v1"), ("mini-lm-v1", "mini-math-v1"), ("mini-robot-v1", "fetch-reach-v1")],
)
@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_sampler_tells_with_what_probability_it_drew(data, agent, task, temperature):
    policy, asked = make("agent", agent), make("task", task)
    played = rollout(policy, asked, asked.instances("test").first(3), temperature=temperature)
    expected = np.zeros(3)
    if temperature:
        for part in policy.predict(played):
            logits = (part.dist.logits.detach() / temperature).log_softmax(-1)
            chosen = part.masked(logits.gather(-1, part.code[..., None])[..., 0])
            expected += part.per_episode(chosen, 3).double().numpy()
    np.testing.assert_allclose(sampled_nats(played), expected, rtol=1e-4, atol=1e-4)


def test_entropy_of_samples_is_that_of_the_policy():
    policy, task = Speller(), Dialogue()
    with torch.no_grad():
        next(policy.parameters()).mul_(3)
    some = task.instances("train").take(np.repeat(np.arange(20), 40))
    played = rollout(policy, task, some)
    total, exact = 0, 0.0
    with torch.no_grad():
        for part in policy.predict(played):
            entropy = part.masked(part.dist.entropy())
            exact += float(entropy.sum())
            total += int(entropy.numel() if part.mask is None else part.mask.sum())
    measures = Sampled.of(played, np.repeat(np.arange(20), 40)).measures()
    assert measures["entropy"] == pytest.approx(exact / total, rel=0.05)


def reports(method: str, **changes: Any) -> list[Report]:
    """The reports of a short adaptation of a toy."""
    settings = replace(Settings(lr=0.1, warmup=0, batch=10, group=4, steps=4), **changes)
    return list(Adaptation(Speller(), Dialogue(), METHODS[method], settings))


def test_each_method_measures_what_it_has():
    assert set(reports("sft")[0].measures) == set()
    assert set(reports("sft", kl=0.1)[0].measures) == {"kl"}
    plain = {"length", "entropy", "equal_groups", "silent", "mismatch"}
    assert plain <= set(reports("grpo")[0].measures) <= plain | {"cut"}
    again = reports("grpo", iterations=3, lr=1.0)
    assert 0 < max(report.measures.get("clipped", 0) for report in again) <= 1
    assert set().union(*(report.measures for report in again)) <= set(MEASURES)
    assert max(report.measures.get("mismatch", 0) for report in reports("grpo")) < 1e-5


def test_measuring_changes_no_weight(monkeypatch):
    def weights() -> list[torch.Tensor]:
        adaptation = Adaptation(
            Speller(), Dialogue(), METHODS["grpo"], Settings(lr=0.1, warmup=0, batch=10, group=4, steps=4)
        )
        list(adaptation)
        return [p.detach().clone() for p in adaptation.parameters]

    with_them = weights()
    monkeypatch.setattr(Sampled, "measures", lambda self: {})
    monkeypatch.setattr("razorbench.harness.learn.measures.sampled_nats", lambda episodes: np.full(len(episodes), NAN))
    assert all(torch.equal(a, b) for a, b in zip(with_them, weights(), strict=True))


def unfair(self: Dialogue, instances: Instances, play: Any = Dialogue.play) -> Any:
    """Plays, and gives everybody the same."""
    outcome = yield from play(self, instances)
    return replace(outcome, reward=np.ones(len(instances)))


class Unfair(Dialogue):
    """Gives everybody the same."""

    play = unfair


def test_steps_without_a_signal_are_counted_and_go_on_counting_after_a_stop(tmp_path):
    settings = Settings(lr=0.1, warmup=0, batch=10, group=4, steps=6)
    whole = list(Adaptation(Speller(), Unfair(), METHODS["dr-grpo"], settings))
    assert [report.measures["silent"] for report in whole] == [1, 2, 3, 4, 5, 6]
    assert [report.measures["equal_groups"] for report in whole] == [1.0] * 6
    half = Adaptation(Speller(), Unfair(), METHODS["dr-grpo"], settings)
    for report in half:
        if report.step == 3:
            break
    half.save(tmp_path)
    rest = Adaptation(Speller(), Unfair(), METHODS["dr-grpo"], settings)
    assert rest.load(tmp_path)
    assert [report.measures["silent"] for report in rest] == [4, 5, 6]


def test_windows_keep_the_mean_its_error_and_the_longest_silence():
    rows = measured([Report(i + 1, 0.1, 0.0, 0.0, 0.0, 1, 1, 0.0, {"length": i, "silent": i % 3}) for i in range(128)])
    assert len(rows) == 2 * 64
    length, silent = rows[:2]
    assert (length.step, length.name, length.value, length.se) == (2, "length", 0.5, pytest.approx(0.5))
    assert (silent.name, silent.value, silent.se) == ("silent", 1.0, None)


@pytest.mark.usefixtures("toys")
def test_record_store_and_flags_have_them(tmp_path, monkeypatch):
    bench = Bench(SPELLING, tmp_path)
    record = run(bench, Spec("dr-grpo", SPELLING.settings), tmp_path)
    store = Store(tmp_path)
    store.add(record)
    rows = store.measures(record.id)
    assert {row["name"] for row in rows} >= {"entropy", "length", "equal_groups", "silent", "mismatch"}
    assert [row["value"] for row in rows if row["name"] == "length"] == [
        m.value for m in record.measures if m.name == "length"
    ]
    before = store.rows("FROM measures ORDER BY ALL")
    assert store.rebuild() == 1
    assert Store(tmp_path).rows("FROM measures ORDER BY ALL") == before
    assert flags([store.submission(record.id)]) == []
    quiet = store.submission(record.id) | {"silent": SILENCE}
    assert flags([quiet]) == ["For 10 steps in a row no answer carried a signal, so nothing was learned there."]


@pytest.mark.usefixtures("toys")
def test_a_run_without_a_signal_says_so_while_it_goes(tmp_path, razorbench, monkeypatch):
    monkeypatch.setattr(Dialogue, "play", unfair)
    how = ("--method", "dr-grpo", "--steps", 12, "--batch", 5, "--group", 2)
    said = razorbench("adapt", SPELLING.id, *how, "--out", tmp_path / "out", "--home", tmp_path)
    assert said.code == 0
    assert "No answer carried a signal in the last 10 steps (step 10)" in said.err.replace("\n", " ")
