"""Who failed: the agent, which is a zero, or the world, which is unscored; and that pairs are pairs of items."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import file_digest, sha256
from typing import Any

import numpy as np
import pytest
import torch

from razorbench import (
    Actions,
    Card,
    Instances,
    Observation,
    Observations,
    Outcome,
    Outcomes,
    Refused,
    Reply,
    Sample,
    WorldFailed,
    each,
)
from razorbench.harness.cli.terminal import leaderboard
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.settings import lasting
from razorbench.harness.measure import evaluation, score
from razorbench.harness.measure.evaluation import Answers, answered, evaluate, matched
from razorbench.harness.measure.record import read
from razorbench.harness.measure.score import Bench
from razorbench.harness.report.flags import flags
from razorbench.harness.runs.run import Spec, adapt_into, run
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import MOST_UNSCORED
from razorbench.harness.store.results import table
from razorbench.harness.tracks import bases, origins
from razorbench.harness.tracks.spec import Conditions
from razorbench.harness.tracks.variants import again
from razorbench.leaderboard import frames
from tests.toys import SPELLING, Speller

CARD = Card("", "", "", "", 0.0)


class Says:
    """An agent that answers instance i with `answers(i)`."""

    def __init__(self, answers: Callable[[int], Any]):
        self.answers = answers

    def act(self, asked, *, temperature=1.0):
        return Actions([self.answers(int(i)) for i in asked.instances.id])


class Reads:
    """The reply is a number that the grader reads, whatever that does."""

    card, what = CARD, staticmethod(int)

    def instances(self, split):
        return Instances(np.arange(12))

    @each
    def play(self, instance):
        reply = yield Observation("a number?")
        return Outcome(float(self.what(reply) == instance.id))


def played(task: Any, answers: Callable[[int], Any]):
    return rollout(Says(answers), task, task.instances("test"))


def test_reply_that_breaks_the_grader_is_a_zero_and_counted():
    episodes = played(Reads(), lambda i: f"{i}" if i < 6 else "what?")
    assert episodes.reward.tolist() == [1.0] * 6 + [0.0] * 6
    assert episodes.outcome is not None
    assert episodes.outcome.failed.tolist() == [False] * 6 + [True] * 6
    assert "invalid literal for int" in episodes.outcome[6].error  # type: ignore[operator]


@pytest.mark.parametrize(
    "error",
    [WorldFailed("the simulator died"), OSError(errno.ENOSPC, "No space left"), TimeoutError(), MemoryError()],
)
def test_what_the_world_does_is_unscored(error):
    class World(Reads):
        @staticmethod
        def what(reply):  # type: ignore[override]
            raise error

    episodes = played(World(), str)
    assert np.isnan(episodes.reward).all()
    assert episodes.outcome is not None
    assert not episodes.outcome.failed.any()


def test_game_that_breaks_before_anybody_answers_is_the_worlds():
    class Stillborn(Reads):
        @each
        def play(self, instance):
            raise ValueError("no scene")
            yield

    assert np.isnan(played(Stillborn(), str).reward).all()


def test_reward_that_is_no_finite_number_is_unscored():
    class Unbounded(Reads):
        @each
        def play(self, instance):
            yield Observation("")
            return Outcome(float("inf"))

    episodes = played(Unbounded(), str)
    assert episodes.outcome is not None
    assert (episodes.outcome[0].error, episodes.outcome.failed.any()) == ("play returned a reward of inf", False)


class Moves:
    """A batch of robots that must move by their id; keeps what reached the simulator."""

    card = CARD

    def __init__(self):
        self.met: list[Any] = []

    def instances(self, split):
        return Instances(np.arange(12))

    def play(self, instances):
        motions = yield Observations(state=instances.id)
        self.met.append(motions)
        return Outcomes((np.asarray(motions)[:, 0] == instances.id).astype(float))


def motion(i: int) -> np.ndarray:
    return np.array([i, 0.0])


@pytest.mark.parametrize("kind", ["list", "array", "tensor"])
def test_motion_that_is_no_number_is_a_zero_and_reaches_no_simulator(kind):
    class Robot(Says):
        def act(self, asked, *, temperature=1.0):
            values: Any = super().act(asked).value
            if kind == "array":
                values = np.stack(values)
            if kind == "tensor":
                values = torch.from_numpy(np.stack(values))
            return Actions(values)

    task: Any = Moves()
    wrong = {3: np.nan, 5: np.inf, 7: -np.inf}
    robot = Robot(lambda i: np.array([i, wrong.get(i, 0.0)]))
    episodes = rollout(robot, task, task.instances("test"))
    assert episodes.reward.tolist() == [float(i not in wrong) for i in range(12)]
    assert np.isfinite(np.stack([np.asarray(each) for each in task.met[0]])).all()
    assert episodes.turns[0].done is not None
    assert np.isnan(np.asarray(episodes.turns[0].done.value[3])).any()  # what was said stays said


def test_action_outside_of_the_space_is_a_zero_whatever_comes_of_it():
    class Bounded(Moves):
        def valid(self, values):
            return np.abs(np.stack(values)).max(1) <= 8

    episodes = played(Bounded(), motion)
    assert episodes.reward.tolist() == [1.0] * 9 + [0.0] * 3
    assert episodes.outcome is not None
    assert episodes.outcome.failed.sum() == 3


def test_words_where_motions_are_wanted_are_refused_and_no_zero():
    task, talker = make("task", "fetch-push-v1"), Says(lambda i: Reply("up"))
    with pytest.raises(Refused, match=r"Push cannot take a Reply for an action .*; choose a task of what"):
        rollout(talker, task, task.instances("test").first(2))


@pytest.mark.parametrize(("id", "wrong"), [("parity-mnist-v1", 12), ("parity-mnist-v1", 1.5)])
def test_class_that_there_is_not_is_a_zero(data, id, wrong):
    task = make("task", id)
    some = task.instances("test").first(8)
    parity = some.data["label"] % 2
    agent: Any = Says(lambda i: wrong)
    assert rollout(agent, task, some).reward.tolist() == [0.0] * 8
    right: Any = Says(lambda i: int(parity[some.id.tolist().index(i)]))
    assert rollout(right, task, some).reward.tolist() == [1.0] * 8


def test_motion_outside_the_robots_reach_is_a_zero():
    task = make("task", "fetch-reach-v1")
    some = task.instances("test").first(2)
    first = int(some.id[0])
    episodes = rollout(Says(lambda i: np.array([1.5 if i == first else 1.0, 0, 0, 0])), task, some)
    assert episodes.outcome is not None
    assert episodes.outcome.failed.tolist() == [True, False]


def test_stop_iteration_of_an_agent_does_not_end_the_game():
    def answer(i):
        raise StopIteration

    task = Moves()
    with pytest.raises((StopIteration, RuntimeError)):
        rollout(Says(answer), task, task.instances("test"))  # type: ignore[arg-type]


# --- in a record ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(toys, tmp_path) -> Bench:
    return Bench(SPELLING, tmp_path / "home")


class Mumbles(Speller):
    """Answers some questions as the base does, and the others in a way that the task cannot take."""

    def __init__(self, base, some: Callable[[int], bool]):
        super().__init__()
        self.base_agent, self.some = base, some

    def act(self, asked, *, temperature=1.0):
        done = self.base_agent.act(asked, temperature=temperature)
        values = [None if self.some(int(i)) else v for i, v in zip(asked.instances.id, done.value, strict=True)]
        return Actions(values, done.code)


def test_adapted_agent_that_cannot_be_read_on_half_of_the_items_loses_them(bench: Bench, monkeypatch):
    monkeypatch.setattr(type(bench.new), "play", each(reads_strictly))
    base = bench.answers["dialogue-v1"]
    scored = bench.score(Mumbles(bench.base, lambda i: i % 2 == 1))
    new = scored.scores[0]
    right = base.score == 1
    odd = np.array([int(i) % 2 == 1 for i in base.id])
    assert (new.unscored, new.unscored_adapted, new.failed_base, new.failed_adapted) == (0, 0, 0, int(odd.sum()))
    assert new.base == pytest.approx(100 * right.mean())
    assert new.adapted == pytest.approx(100 * (right & ~odd).mean())
    assert new.difference is not None
    assert right[odd].any()
    assert new.difference < 0


def reads_strictly(self, instance):
    question = instance.data["questions"].tolist()[0]
    word = yield Observation(state=question)
    return Outcome(float(len(word) > 0))


def lossy(bench: Bench, monkeypatch, share: float) -> None:
    """The world fails a share of the adapted agents' items, none of the base's."""
    _ = bench.answers

    def lost(agent, task, **how):
        for found in answered(agent, task, **how):
            score = found.score.copy()
            score[: int(share * len(score))] = np.nan
            errors = ["the simulator died" if np.isnan(each) else None for each in score]
            yield replace(found, score=score, error=errors)

    for module in (evaluation, score):
        monkeypatch.setattr(module, "answered", lost)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "ranked"), [(MOST_UNSCORED, True), (MOST_UNSCORED + 0.01, False)])
def test_row_with_more_than_two_percent_unscored_has_no_rank_and_a_flag(bench, tmp_path, monkeypatch, share, ranked):
    home = tmp_path / "home"
    lossy(bench, monkeypatch, share)
    record = run(bench, Spec("sft", SPELLING.settings), home)
    store = Store(home)
    store.add(record)
    (entry,) = table(store, SPELLING.id)
    assert (entry.rank == 1) is ranked
    assert bool(entry.unranked) is not ranked
    assert entry.uneven
    shown = [column.header for column in leaderboard(SPELLING, SPELLING.id, [entry]).columns]
    assert shown[-1] == "unscored"
    assert frames.shown(store.choices(SPELLING.id)["lost"]).count("unscored") == 1
    assert "unscored" not in frames.shown(False)
    assert any("were not measured alike" in flag for flag in flags(store.seeds(entry.id)))


# --- pairs ------------------------------------------------------------------------------------------------------------


def answers(names: str, scores: list[float]) -> Answers:
    return Answers(list(names), np.array(scores), [None] * len(scores))


def test_pairs_are_joined_by_item_and_not_by_place():
    base, adapted = answers("abc", [1, 0, 0]), answers("cba", [0, 0, 1])
    assert matched("t", base, adapted).score.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [("ab", "1 of the base's are missing, such as c"), ("abcd", "1 are new, such as d"), ("abcc", "answered twice")],
)
def test_other_items_are_refused(names, sentence):
    with pytest.raises(Refused, match=sentence):
        matched("t", answers("abc", [1, 0, 0]), answers(names, [1.0] * len(names)))


class Shuffled:
    """A benchmark that owns its loop, and whose items come in another order each time."""

    card = CARD
    times = 0

    def evaluate(self, agent, limit=None):
        type(self).times += 1
        order = np.random.default_rng(self.times).permutation(200)
        return [Sample(int(i), float(i % 2)) for i in order]


def test_same_agent_scored_in_another_order_flips_nothing():
    first, second = (evaluate(object(), Shuffled()) for _ in range(2))  # type: ignore[arg-type]
    assert first.id != second.id
    assert (matched("t", first, second).score == first.score).all()


# --- conditions -------------------------------------------------------------------------------------------------------


def test_answers_at_a_temperature_are_several_to_an_item_and_stand_in_the_record(bench: Bench, tmp_path):
    warm = replace(SPELLING, conditions=Conditions(temperature=1.0, samples=3), items=20, checkpoint_items=5)
    bench.track = warm
    record = run(bench, Spec("sft", SPELLING.settings), tmp_path)
    (new,) = (row for row in record.scores if row.role == "new")
    assert new.items == 60
    assert record.conditions == {"temperature": 1.0, "samples": 3, "prompt": "", "limit": 0, "engine": "razorbench"}
    assert record == read(tmp_path / "records" / record.id)
    assert bench.answers["dialogue-v1"].id[:4] == ["1000#0", "1000#1", "1000#2", "1001#0"]
    assert len({bool(score) for score in bench.answers["dialogue-v1"].score}) == 2  # drawn, not all alike


@pytest.mark.parametrize("wrong", [{"samples": 4}, {"temperature": -1.0}, {"engine": "abacus"}])
def test_conditions_that_cannot_be_are_refused(wrong):
    with pytest.raises(Refused):
        Conditions(**wrong)


def test_agent_that_knows_no_prompt_is_refused(toys, tmp_path):
    with pytest.raises(Refused, match="speller-v1 cannot be told prompt"):
        Bench(replace(SPELLING, conditions=Conditions(prompt="Spell well.")), tmp_path)


# --- identity is content ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_teacher_stands_in_ids_by_its_weights_and_not_by_its_folder(bench: Bench, tmp_path):
    for place in ("here", "there"):
        adapt_into(tmp_path / place, bench, Spec("sft", SPELLING.settings))
    here, there = (Spec("distil", replace(SPELLING.settings, teacher=str(tmp_path / at))) for at in ("here", "there"))
    assert lasting(here.told) == lasting(there.told)
    first, second = (run(bench, spec, tmp_path / "home") for spec in (here, there))
    assert (first.id, first.entry) == (second.id, second.entry)
    assert first.settings["teacher"] == str(tmp_path / "here")  # the command that makes it again needs the folder
    (adapt, _) = again(SPELLING.id, "distil", first.settings, {"submitted": None, "seed": 0, "id": "r"})
    assert "sha256" not in adapt

    remade = tmp_path / "remade"
    adapt_into(remade, bench, Spec("sft", SPELLING.settings, seed=1))
    shutil.copy(remade / "model.safetensors", tmp_path / "here" / "model.safetensors")
    third = run(bench, here, tmp_path / "home")
    assert third.id != first.id
    assert third.entry != first.entry


def test_data_that_are_not_ours_stand_in_ids_by_their_digest(bench: Bench, tmp_path):
    first = run(bench, Spec("sft", SPELLING.settings), tmp_path)
    assert set(first.data) == {"dialogue-v1", "known-v1"}
    other = Bench(SPELLING, tmp_path)
    other.data = dict(first.data) | {"known-v1": "0" * 32}
    second = run(other, Spec("sft", SPELLING.settings), tmp_path)
    assert first.checkpoint == second.checkpoint
    assert first.id != second.id
    assert first.entry != second.entry
    ours = replace(first, data={"parity-mnist-v1": "a"})
    assert ours.entry == replace(first, data={}).entry  # what our own ids ask is fixed by them: old entries stay


def test_weights_are_hashed_once_a_scoring_and_files_once_as_long_as_they_stay(bench: Bench, tmp_path, monkeypatch):
    times: list[Any] = []
    whole = bases.policy_digest
    monkeypatch.setattr(
        "razorbench.harness.runs.run.policy_digest", lambda policy: times.append(policy) or whole(policy)
    )
    run(bench, Spec("sft", SPELLING.settings), tmp_path)
    assert len(times) == 1
    file, reads = tmp_path / "some", []
    file.write_bytes(b"one")
    monkeypatch.setattr(origins, "file_digest", lambda *a: reads.append(a) or file_digest(*a))
    assert origins.file_sha256(file) == origins.file_sha256(file) == sha256(b"one").hexdigest()
    assert len(reads) == 1
    file.write_bytes(b"other")
    assert origins.file_sha256(file) == sha256(b"other").hexdigest()


def test_digest_is_of_bytes_so_that_bf16_has_one(bench: Bench):
    half = bench.base.copy()
    half.logits.data = half.logits.data.bfloat16()  # type: ignore[attr-defined]
    assert len(bases.policy_digest(half)) == 64


# --- curves -----------------------------------------------------------------------------------------------------------


def test_points_of_a_curve_are_paired_like_the_score(bench: Bench, monkeypatch):
    start = bench.point(bench.base, 0)
    same = bench.base.copy()
    assert bench.point(same, 1).new == pytest.approx(start.new)
    right = bench.answers["dialogue-v1"].score == 1

    def evaluated(agent, task, **how):
        answered = evaluate(agent, task, **how)
        lost = right[: len(answered)] if len(answered) == len(right) else np.zeros(len(answered), bool)
        return replace(answered, score=np.where(lost, np.nan, answered.score))  # the items that are right have no score

    monkeypatch.setattr(score, "evaluate", evaluated)
    assert bench.point(same, 1).new == pytest.approx(start.new)  # a plain mean of what is left would say 0
