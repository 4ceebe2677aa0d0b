"""What the base does is computed once for a home, read again only as it was written, and runs nobody's code."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from razorbench import Actions, Episodes, Instances, Observations, Outcomes, Reply, Turn
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.measure.cache import code_digest, kept, read, write
from razorbench.harness.measure.evaluation import Answers, bare, evaluate
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.tracks.spec import Conditions
from tests.toys import SPELLING, Dialogue, Speller

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who answered what, each time that somebody was asked."""
    calls: list[str] = []
    play = Dialogue.play

    def counted(self: Dialogue, instances: Instances) -> Any:
        calls.append(f"{type(self).__name__} {len(instances)}")
        return play(self, instances)

    monkeypatch.setattr(Dialogue, "play", counted)
    return calls


def episodes() -> Episodes:
    """Texts, arrays and tensors of several kinds."""
    seen = Observations(["a", "b"], None, {"x": np.arange(6.0).reshape(2, 3)}, ["user", "tool"], np.array([0, 1]))
    done = Actions([Reply("yes", True), Reply("n", False)], torch.tensor([[3], [5]]))
    outcome = Outcomes(
        np.array([1.0, 0.0]), {"steps": np.array([2, 7])}, [None, "it was no number"], [[0.5, 0.5], np.zeros(7)]
    )
    return Episodes(Instances(np.array(["one", "two"])), [Turn(np.array([0, 1]), seen, done)], outcome)


def questions(answers: Answers) -> list[Any]:
    """What was asked, by the data of the task."""
    assert answers.played is not None
    return answers.played.instances.data["questions"].tolist()


def said(played: Episodes) -> list[list[str]]:
    """What was answered, turn by turn."""
    return [[str(value) for value in turn.done.value] for turn in played.turns if turn.done]


def test_episodes_come_back_as_they_were(tmp_path):
    write(tmp_path / "it", episodes())
    back = read(tmp_path / "it")
    turn = back.turns[0]
    assert turn.seen.text == ["a", "b"]
    assert turn.seen.state["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [(str(said), said.finished) for said in turn.done.value] == [("yes", True), ("n", False)]
    assert torch.equal(turn.done.code, torch.tensor([[3], [5]]))
    assert back.outcome.error == [None, "it was no number"]
    assert back.outcome[0].turn_rewards == [0.5, 0.5]
    assert back.instances.id.tolist() == ["one", "two"]


def test_the_base_is_asked_once_for_all_benches_of_a_home(tmp_path, asked):
    first = Bench(SPELLING, tmp_path)
    asked.clear()
    one, drawn = first.answers, first.drawn
    assert asked == ["Dialogue 300", "Known 100", "Dialogue 60"]
    second = Bench(SPELLING, tmp_path)
    for id, answers in second.answers.items():
        assert answers.id == one[id].id
        assert np.array_equal(answers.score, one[id].score)
        assert questions(answers) == questions(one[id])
    assert drawn is not None
    assert second.drawn is not None
    assert said(second.drawn) == said(drawn)
    assert len(asked) == 3


def test_the_floor_of_a_drift_is_computed_once_for_all_benches_of_a_home(tmp_path, monkeypatch):
    least = Bench(SPELLING, tmp_path).floor
    assert least is not None
    monkeypatch.setattr("razorbench.harness.measure.score.floor", None)
    again = Bench(SPELLING, tmp_path).floor
    assert again is not None
    assert torch.equal(again.nats, least.nats)
    assert torch.equal(again.elements, least.elements)


def test_a_record_made_of_what_was_kept_is_the_same(tmp_path):
    spec = Spec("sft", SPELLING.settings)
    first = run(Bench(SPELLING, tmp_path), spec, tmp_path)
    for kept_record in (tmp_path / "records").iterdir():
        for file in kept_record.iterdir():
            file.unlink()
        kept_record.rmdir()
    again = run(Bench(SPELLING, tmp_path), spec, tmp_path)
    assert again.scores == first.scores
    assert again.drifts == first.drifts
    assert again.curve == first.curve


def test_whatever_decides_the_answers_asks_anew(tmp_path, asked, monkeypatch):
    _ = Bench(SPELLING, tmp_path).answers
    for track in (
        replace(SPELLING, items=200),
        replace(SPELLING, conditions=Conditions(temperature=0.7)),
        replace(SPELLING, conditions=Conditions(temperature=0.7, samples=2)),
        replace(SPELLING, base=replace(SPELLING.base, seed=1)),
    ):
        bench = Bench(track, tmp_path)
        asked.clear()
        _ = bench.answers
        assert len(asked) == 2, track
    _ = Bench(SPELLING, tmp_path).answers
    asked.clear()
    monkeypatch.setattr("razorbench.harness.measure.score.code_digest", lambda *classes: "another")
    _ = Bench(SPELLING, tmp_path).answers
    assert len(asked) == 2
    monkeypatch.setattr(Bench, "runtime", {"dtype": "bfloat16"})
    _ = Bench(SPELLING, tmp_path).answers
    assert len(asked) == 4


def test_code_that_others_bring_counts_too():
    assert code_digest() != code_digest(Speller)


def test_what_the_world_failed_in_is_asked_again(tmp_path):
    tries: list[float] = []

    def make() -> float:
        tries.append(float("nan") if not tries else 1.0)
        return tries[-1]

    for _ in range(3):
        last = kept(tmp_path, {"what": "it"}, make, lambda made: made == made)
    assert tries[1:] == [1.0]
    assert last == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "changed", "emptied", "other"])
def test_a_torn_file_is_made_again(tmp_path, asked, harm):
    one = Bench(SPELLING, tmp_path).answers["dialogue-v1"].score
    for file in (tmp_path / "answers").iterdir():
        content = file.read_bytes()
        file.write_bytes({"cut": content[:-9], "changed": content[:-9] + b"x" * 9, "emptied": b"", "other": b"x"}[harm])
    asked.clear()
    assert np.array_equal(Bench(SPELLING, tmp_path).answers["dialogue-v1"].score, one)
    assert len(asked) == 2


class Evil:
    """Leaves a file behind when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_file_of_somebody_else_runs_nothing(tmp_path):
    from hashlib import sha256

    content = pickle.dumps(Evil(tmp_path / "harm"))
    (tmp_path / "it").write_bytes(sha256(content).hexdigest().encode() + b"\n" + content)
    with pytest.raises(pickle.UnpicklingError, match="is no record and no array"):
        read(tmp_path / "it")
    assert kept(tmp_path, {}, lambda: 3, lambda made: True) == 3
    assert not (tmp_path / "harm").exists()


def test_what_cannot_be_read_again_is_not_kept(tmp_path):
    write(tmp_path / "it", {"who": Evil(tmp_path / "harm")})
    assert not (tmp_path / "it").exists()
    assert not (tmp_path / "harm").exists()


def test_answers_of_a_language_model_are_kept(tmp_path):
    lm, task = make("agent", "mini-lm-v1"), make("task", "mini-math-v1")
    fresh = evaluate(lm, task, items=3)
    write(tmp_path / "it", fresh)
    back = read(tmp_path / "it")
    assert back.played is not None
    assert fresh.played is not None
    assert said(back.played) == said(fresh.played)
    reach = make("task", "fetch-reach-v1")
    write(tmp_path / "robot", bare(rollout(make("agent", "mini-robot-v1"), reach, reach.instances("test").first(1))))
    assert len(read(tmp_path / "robot")) == 1
