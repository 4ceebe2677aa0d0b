"""Episodes are streamed: what is kept of them is asked for, and scoring holds no more of more items or longer ones."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from razorbench import Actions, Asked, Card, Column, Episodes, Instances, Observations, Outcomes
from razorbench.agents.network import OneNetwork
from razorbench.harness.core.keeping import Keep, codes, everything, nothing, opening
from razorbench.harness.core.registry import REGISTERED, make
from razorbench.harness.core.rollout import if_small, in_parts, rollout
from razorbench.harness.learn.policy import Policy, Prediction, draw, drawn_with
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.drift import along, divergence, floor, forward_kl
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.measure.score import Bench
from razorbench.harness.tracks.spec import Base, Conditions, Track

SIDE = 256
"""Pixels a side of a picture: 197 kB each."""


def front(seen: Observations) -> np.ndarray:
    """What the only camera sees."""
    assert seen.images
    return seen.images["front"]


class Watch:
    """Pictures, one after another; the shade of each is to be told, bright or dark."""

    card = Card("Is the picture bright?", "All but the last were told right.", "made here", "none", 0.0)
    styles = ("right",)
    turns = 6

    def instances(self, split: str) -> Instances:
        ids = np.arange(1000) + (1000 if split == "test" else 0)
        return Instances(ids, {"shade": ids % 7 * 40})

    def play(self, instances: Instances) -> Any:
        shade, right = np.asarray(instances.data["shade"]), np.zeros(len(instances))
        for turn in range(self.turns):
            shade = (shade + 90 * turn) % 256
            pictures = np.empty((len(instances), SIDE, SIDE, 3), np.uint8)
            pictures[:] = shade[:, None, None, None]
            said = yield Observations(text="bright?", images={"front": pictures})
            right += np.asarray(said) == (shade > 127)
        return Outcomes((right >= self.turns - 1).astype(float))

    def solve(self, asked: Asked, style: str) -> Column:
        return (front(asked.now)[:, 0, 0, 0] > 127).astype(np.int64)


class WatchLong(Watch):
    """Four times as many."""

    turns = 4 * Watch.turns


class Looker(OneNetwork):
    """Tells from the first pixel of a picture."""

    id = "looker-v1"
    network = staticmethod(lambda: nn.Linear(1, 2))
    memoryless = True

    def distribution(self, seen: Observations) -> Categorical:
        pixel = torch.from_numpy(front(seen)[:, 0, 0, :1].astype(np.float32)) / 255
        return Categorical(logits=self.net(pixel)[:, None], validate_args=False)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        with torch.no_grad():
            dist = self.distribution(asked.now)
            code = draw(dist, asked.uniform(1), temperature)
        return Actions(code[:, 0].numpy(), code, drawn_with(dist, code, temperature))

    def encode(self, values: Column) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.int64)[:, None]

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        for turn in episodes.turns:
            assert turn.done is not None
            yield Prediction(self.distribution(turn.seen), turn.done.code, None, torch.from_numpy(turn.rows))


class Blind:
    """No policy: it says the same to everything."""

    memoryless = True

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        return Actions(np.ones(len(asked), np.int64))


WATCHING = Track(
    id="watching-v1",
    title="Bright or dark",
    question="Does scoring hold more pictures where there are more?",
    base=Base("looker-v1", "looker-v1", "watch-v1", Settings(lr=0.1, warmup=0, batch=4, steps=1)),
    new="watch-v1",
    priors={"sight": ("watch-too-v1",)},
    settings=Settings(lr=0.1, warmup=0, batch=4, steps=1),
    items=16,
    drift_items=16,
    checkpoint_items=16,
)


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks and the agent by their ids; eight episodes at once, and about three of their turns held."""
    for id, task in {"watch-v1": Watch, "watch-too-v1": Watch, "watch-long-v1": WatchLong}.items():
        monkeypatch.setitem(REGISTERED["task"], id, task)
    monkeypatch.setitem(REGISTERED["agent"], "looker-v1", Looker)
    monkeypatch.setattr("razorbench.harness.core.rollout.AT_ONCE", 8)
    monkeypatch.setattr("razorbench.harness.core.rollout.HELD", 2**22)


def moved(base: Policy, by: float = 0.02) -> Any:
    """A copy that answers otherwise."""
    adapted, source = base.copy(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in adapted.parameters():
            weights += by * torch.randn(weights.shape, generator=source)
    return adapted


def peak(track: Track, home: Any, who: str) -> float:
    """Bytes that are held at most while all that a record says of an agent is measured, base included."""
    bench = Bench(track, home)
    agent: Any = Blind() if who == "agent" else moved(bench.base, 2.0)
    tracemalloc.start()
    try:
        bench.score(agent)
        if who == "policy":
            bench.point(agent, 1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["agent", "policy"])
def test_scoring_holds_no_more_of_more_items_or_of_longer_episodes(watching, tmp_path, who):
    usual = peak(WATCHING, tmp_path, who)
    many = peak(replace(WATCHING, items=64, drift_items=64, checkpoint_items=64), tmp_path, who)
    long = peak(replace(WATCHING, new="watch-long-v1"), tmp_path, who)
    assert max(many, long) < 1.15 * usual, f"{usual / 2**20:.1f} MB, {many / 2**20:.1f} and {long / 2**20:.1f} MB"


def test_the_home_keeps_no_pictures_of_the_base(watching, tmp_path):
    bench = Bench(WATCHING, tmp_path)
    _ = bench.answers, bench.drawn
    files = [*(tmp_path / "answers").iterdir()]
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) < SIDE * SIDE * 3


# --- what is kept, and what an agent may read -------------------------------------------------------------------------


class Staggered:
    """Two episodes of two turns, of which the second begins when the first goes on; what is seen takes 2 kB."""

    card = Card("", "", "", "", 0.0)

    def instances(self, split: str) -> Instances:
        return Instances(np.arange(2))

    def play(self, instances: Instances) -> Any:
        for rows in ([0], [0, 1], [1]):
            pictures = np.stack([np.full((32, 64), row, np.uint8) for row in rows])
            text = [f"look, {row}" for row in rows]
            yield Observations(text, {"near": pictures}, {"far": pictures}, "user", np.array(rows))
        return Outcomes(np.array([1.0, 0.0]))


class Counts:
    """Says how many turns it can read."""

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        return Actions([str(len(asked.episodes.turns))] * len(asked))


class Forgets(Counts):
    memoryless = True


class Remembers(Counts):
    memoryless = False


@pytest.mark.parametrize(
    ("keep", "words", "pictured"),
    [
        (everything, [2, 2], [[True, True], [True, True]]),
        (opening, [2, 2], [[True, False], [True, False]]),
        (codes, [2, 2], [[False, False], [False, False]]),
        (nothing, [0, 0], [[], []]),
    ],
)
def test_a_rollout_keeps_what_it_is_asked_to(keep: Keep, words, pictured):
    task = Staggered()
    played = rollout(Counts(), task, task.instances("test"), keep=keep)
    assert played.reward.tolist() == [1.0, 0.0]
    for i, episode in enumerate(played):
        assert [seen.text for seen in episode.observations] == [f"look, {i}"] * words[i]
        assert [seen.images is not None for seen in episode.observations] == pictured[i]
        assert [seen.state is not None for seen in episode.observations] == pictured[i]
        assert all(np.all(seen.images["near"] == i) for seen in episode.observations if seen.images is not None)
        assert [action.value for action in episode.actions] == [["1", "2"], ["2", "3"]][i][: words[i]]
    assert all(turn.whole == (turn.seen.images is not None) for turn in played.turns)


def test_what_is_no_larger_than_words_is_kept_whole():
    turn = rollout(Counts(), Staggered(), Staggered().instances("test")).turns[0]
    spoken = replace(turn, seen=replace(turn.seen, images=None, state={"joints": np.zeros((1, 7))}))
    assert codes(spoken, np.array([False])) == [spoken]


@pytest.mark.parametrize(("agent", "read"), [(Counts(), "123"), (Remembers(), "123"), (Forgets(), "111")])
def test_who_is_memoryless_finds_the_present_turn_alone(agent, read):
    played = rollout(agent, Staggered(), Staggered().instances("test"))
    assert "".join(turn.done.value[0] for turn in played.turns if turn.done) == read
    assert len(played.turns) == 3  # kept they are, for who learns from them


# --- in parts as whole ------------------------------------------------------------------------------------------------

AGENTS = {
    "mini-robot-v1": ("fetch-reach-v1", 5),
    "mlp-785-v1": ("parity-mnist-v1", 11),
    "mini-lm-v1": ("mini-math-v1", 5),
}
"""Agent → a task, and how many of its items are played."""


@pytest.fixture(params=AGENTS)
def played(request: pytest.FixtureRequest, data) -> tuple[Any, Any, Instances]:
    """A policy, a task and some instances of it."""
    task, items = AGENTS[request.param]
    options = {"limit": 8} if request.param == "mini-lm-v1" else {}
    agent, made = make("agent", request.param, **options), make("task", task)
    return agent, made, made.instances("test").first(items)


@pytest.mark.slow
def test_answers_in_batches_are_those_of_one_batch(played, monkeypatch):
    agent, task, some = played
    sampled = Conditions(temperature=1.0, samples=2)
    how: dict[str, Any] = {"items": len(some), "conditions": sampled, "keep": everything}
    whole = evaluate(agent, task, **how)
    monkeypatch.setattr("razorbench.harness.core.rollout.AT_ONCE", 3)  # the answers to an item fall apart
    batches = evaluate(agent, task, **how)
    assert batches.id == whole.id
    assert batches.score.tolist() == whole.score.tolist()
    assert {name: column.tolist() for name, column in batches.metrics.items()} == {
        name: column.tolist() for name, column in whole.metrics.items()
    }
    assert (batches.cluster == whole.cluster).all()
    assert batches.played is not None
    assert whole.played is not None
    assert done(batches.played) == done(whole.played)


def done(episodes: Episodes) -> list[list[tuple[Any, Any]]]:
    """What was done in each episode, values and codes."""
    return [[(np.asarray(a.value).tolist(), np.asarray(a.code).tolist()) for a in one.actions] for one in episodes]


@pytest.mark.slow
def test_drift_summed_while_playing_is_that_of_whole_episodes(played, monkeypatch):
    agent, task, some = played
    other, whole = moved(agent), rollout(agent, task, some)
    exact, least = divergence(agent, other, whole), floor(agent, whole)
    monkeypatch.setattr("razorbench.harness.core.rollout.AT_ONCE", 2)
    monkeypatch.setattr("razorbench.harness.core.rollout.HELD", 0)
    found = forward_kl(agent, other, task, some)
    assert found.elements.tolist() == exact.elements.tolist()
    torch.testing.assert_close(found.nats, exact.nats, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.log_ratio, exact.log_ratio, rtol=1e-4, atol=1e-4)
    assert least is not None
    again = along(agent, task, some, lambda part: floor(agent, part))
    assert again is not None
    assert again.elements.tolist() == least.elements.tolist()
    assert float(again.nats.abs().max()) < 1e-5


def test_episodes_come_in_parts_where_they_are_large_and_nobody_looks_back(monkeypatch):
    monkeypatch.setattr("razorbench.harness.core.rollout.HELD", 0)
    task, some = Staggered(), Staggered().instances("test")
    pieces = list(in_parts(Forgets(), task, some))
    assert [len(piece.turns) for piece in pieces] == [1, 1, 1]
    assert [piece.outcome is not None for piece in pieces] == [False, False, True]
    (whole,) = in_parts(Counts(), task, some)
    assert len(whole.turns) == 3
    assert if_small(Forgets(), task, some) is None
    monkeypatch.setattr("razorbench.harness.core.rollout.HELD", 2**20)
    small = if_small(Forgets(), task, some)
    assert small is not None
    assert len(small.turns) == 3
    assert small.reward.tolist() == [1.0, 0.0]


def test_episodes_too_large_to_be_kept_are_played_again(watching, tmp_path, monkeypatch):
    large = Bench(WATCHING, tmp_path / "large")
    assert large.drawn is None
    adapted = moved(large.base, 2.0)
    streamed, floor_of_streamed = large.score(adapted), large.floor
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "play", lambda *_: pytest.fail("it was found out again"))
        assert Bench(WATCHING, tmp_path / "large").drawn is None  # that is known, and not found out again
    monkeypatch.setattr("razorbench.harness.core.rollout.HELD", 2**30)
    small = Bench(WATCHING, tmp_path / "small")
    kept = small.score(adapted)
    assert small.drawn is not None
    assert streamed.scores == kept.scores
    assert len(streamed.drifts) == 4
    for one, other in zip(streamed.drifts, kept.drifts, strict=True):
        assert one.nats == pytest.approx(other.nats, rel=1e-5)
        assert other.nats is not None
        assert other.nats > 0.01
    assert streamed.samples["drift"] == pytest.approx(kept.samples["drift"], rel=1e-5, nan_ok=True)
    assert floor_of_streamed is not None
    assert len(floor_of_streamed.nats) == 16


def test_flips_have_the_picture_and_no_more_than_the_first_ones_are_made(watching, tmp_path, monkeypatch):
    bench = Bench(replace(WATCHING, items=20), tmp_path)
    wrong = moved(bench.base)
    with torch.no_grad():
        for weights in wrong.parameters():
            weights.neg_()
    monkeypatch.setattr("razorbench.harness.measure.score.FLIPS", 12)
    rows = [row for row in bench.score(wrong).answers if row["task"] == "watch-v1"]
    differ = np.flatnonzero(bench.answers["watch-v1"].score != evaluate(wrong, bench.new, items=20).score)
    assert [row["item"] for row in rows] == [bench.answers["watch-v1"].id[i] for i in differ[:12]]
    assert {row["asked"] for row in rows} == {"bright?"}
    assert all(row["picture"].startswith(b"\x89PNG") for row in rows)


def test_what_cannot_be_predicted_again_is_not_painted(watching, tmp_path, monkeypatch):
    monkeypatch.setattr(Looker, "pieces", lambda self, code: [str(c) for c in code.tolist()], raising=False)
    bench = Bench(WATCHING, tmp_path)
    rows = bench.score(moved(bench.base, 2.0)).answers
    assert rows
    assert {row["tokens"] for row in rows} == {None}
