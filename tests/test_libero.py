"""LIBERO without its simulator: the table of its tasks, their cards, how an episode goes, what experts do."""

from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import torch

from razorbench import Actions, Asked, Episodes, Expert, Observations, Refused
from razorbench.agents.bins import BODIES, inputs, words
from razorbench.harness.core.registry import find, known, make
from razorbench.harness.core.rollout import Guesser, rollout
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.tasks.libero import simulator, tasks
from razorbench.tasks.libero.experts import CLOSE, EXPERTS, OPEN, Grip, at, axes, carrying, turn
from razorbench.tasks.libero.suites import CHANGED, SUITES, row
from razorbench.tasks.libero.tasks import Pretraining

TRACK = TRACKS["libero-spatial-cabinet-v1"]

EVERY = [
    f"libero-{suite}{change and '-'}{change}-{number}{camera}-v1"
    for change, suites in CHANGED.items()
    for suite in suites
    for number in range(10)
    for camera in ("", "-camera", "-cameras")
]


def test_every_id_is_one_task_of_the_table():
    rows = {id: find("task", id).row for id in EVERY}
    assert len(EVERY) == len(set(rows.values())) == 3 * 10 * (4 + 4 + 3)
    assert all(known("task", id) for id in EVERY)
    assert find("task", EVERY[0]) is find("task", EVERY[0])


@pytest.mark.parametrize(
    "id", ["libero-spatial-v1", "libero-spatial-10-v1", "libero-90-0-v1", "libero-goal-swap-0-v1", "libero-goal-0"]
)
def test_what_is_no_task_is_refused_with_what_there_is(id):
    with pytest.raises(Refused, match=f"unknown task '{id}'.*spatial, object, goal, 10"):
        make("task", id)


def test_an_older_mujoco_is_another_task_and_is_not_played_with_this_one(monkeypatch):
    made = find("task", "libero-object-lan-3-camera-mujoco2-v1").row
    assert (made.stack, made.cameras, made.change) == ("mujoco2", ("agentview",), "lan")
    monkeypatch.setattr(simulator, "module", lambda name: None)
    monkeypatch.setattr(simulator, "place", lambda *_: "")
    with pytest.raises(Refused, match=r"MuJoCo 2\.3\.x, and 3\..* is here"):
        simulator.Simulator(made)


def test_words_are_those_of_the_files_without_their_scene():
    assert row("object-0-v1").words == "pick up the alphabet soup and place it in the basket"
    assert row("10-8-v1").words == "put both moka pots on the stove"
    assert row("10-8-v1").folder == "libero_10"
    assert row("spatial-swap-3-camera-v1").folder == "libero_spatial_swap"


def test_horizons_are_those_of_openvla():
    horizons = {suite: find("task", f"libero-{suite}-0-v1").card.protocol.horizon for suite in SUITES}
    assert horizons == {"spatial": 220, "object": 280, "goal": 300, "10": 520}


def test_cards_tell_which_cameras_are_seen():
    seen = {id: find("task", f"libero-goal-7{id}-v1").card.protocol for id in ("", "-camera", "-cameras")}
    assert {id: dict(protocol.cameras) for id, protocol in seen.items()} == {
        "": {},
        "-camera": {"agentview": "256x256"},
        "-cameras": {"agentview": "256x256", "robot0_eye_in_hand": "256x256"},
    }
    assert len({protocol.digest for protocol in seen.values()}) == 3


def test_test_instances_are_the_published_states_and_share_none_with_training():
    task = make("task", "libero-spatial-0-v1")
    train, test = task.instances("train"), task.instances("test")
    assert test.data["state"].tolist() == list(range(50))
    assert test.id.tolist() == test.data["seed"].tolist() == list(range(1_000_000, 1_000_050))
    assert set(train.data["state"]) == {-1}
    assert not set(train.data["seed"]) & set(test.data["seed"])


def test_one_initial_state_is_one_cluster_with_and_without_a_picture():
    names = [
        set((task := make("task", f"libero-{id}-v1")).clusters(task.instances("test")))
        for id in ("goal-3", "goal-3-camera", "goal-4", "goal-lan-3")
    ]
    assert names[0] == names[1]
    assert not names[0] & (names[2] | names[3])


# --- how an episode goes ----------------------------------------------------------------------------------------------


class Scripted:
    """A simulator that reaches its goal at a step, or raises there."""

    words = "push it"

    def __init__(self, row, at=None, broken=False):
        self.row, self.at, self.broken, self.begun, self.taken = row, at, broken, [], []

    def start(self, seed, state):
        self.begun.append((seed, state))
        self.taken = []

    def step(self, motion):
        self.taken.append(motion)
        if self.broken:
            raise ValueError("no contact")
        return len(self.taken) == self.at

    def look(self):
        return {"gripper": np.full(3, len(self.taken), np.float32)}

    def pictures(self):
        return {name: np.full((4, 4, 3), len(self.taken), np.uint8) for name in self.row.cameras}


@pytest.fixture
def scripted(monkeypatch):
    """Gives a task whose simulators are scripted, and what it lends: one after the other."""

    def make_scripted(id, *scripts):
        lent = []

        @contextmanager
        def lend(row):
            lent.append(Scripted(row, **scripts[len(lent) % len(scripts)]))
            yield lent[-1]

        monkeypatch.setattr(tasks.POOL, "lent", lend)
        return make("task", id), lent

    return make_scripted


class Still:
    """An agent that does nothing, and counts whom it was asked about."""

    def __init__(self):
        self.asked = []

    def act(self, asked, *, temperature=1.0):
        self.asked += asked.rows.tolist()
        return Actions(np.zeros((len(asked), 7), np.float32))


def test_episode_ends_with_the_first_success_or_the_horizon(scripted):
    task, _ = scripted("libero-spatial-0-v1", {"at": 3}, {})
    agent = Still()
    played = rollout(agent, task, task.instances("test").first(2))
    assert played.reward.tolist() == [1.0, 0.0]
    assert played.outcome
    assert {name: column.tolist() for name, column in played.outcome.metrics.items()} == {
        "steps": [3, 220],
        "success_once": [1, 0],
        "success_at_end": [1, 0],
    }
    assert agent.asked == [0] * 3 + [1] * 220
    assert [played[0].observations[i].state["gripper"][0] for i in range(3)] == [0, 1, 2]


def test_each_episode_begins_with_the_seed_of_its_id_and_the_state_of_its_number(scripted):
    task, lent = scripted("libero-object-4-v1", {"at": 1})
    rollout(Still(), task, task.instances("test").take(np.array([7, 3])))
    rollout(Still(), task, task.instances("train").first(1))
    assert [simulator.begun for simulator in lent] == [[(1_000_007, 7)], [(1_000_003, 3)], [(0, None)]]


def test_what_a_simulator_raises_leaves_its_episode_unscored(scripted):
    task, _ = scripted("libero-goal-1-v1", {"broken": True}, {"at": 2})
    played = rollout(Still(), task, task.instances("test").first(2))
    assert np.isnan(played.reward[0])
    assert played.reward[1] == 1.0
    assert played.outcome
    assert played.outcome[0].error == "ValueError: no contact"
    assert np.isnan(played.outcome[0].metrics["success_once"])


def test_pictures_are_seen_by_the_cameras_of_the_id(scripted):
    for id, cameras in (("", None), ("-camera", ["agentview"]), ("-cameras", ["agentview", "robot0_eye_in_hand"])):
        task, _ = scripted(f"libero-goal-1{id}-v1", {"at": 2})
        (played,) = rollout(Still(), task, task.instances("test").first(1))
        pictures = [seen.images and {name: picture.max() for name, picture in seen.images.items()}
                    for seen in played.observations]  # fmt: skip
        assert pictures == [cameras and dict.fromkeys(cameras, step) for step in (0, 1)]


def test_motions_beyond_one_are_the_agents_failure(scripted):
    task, _ = scripted("libero-goal-1-v1", {"at": 1})
    assert task.valid(np.array([[1.0] * 7, [0.0] * 6 + [-1.01]])).tolist() == [True, False]
    assert np.abs(rollout(Guesser(task), task, task.instances("test").first(1))[0].actions[0].value).max() < 1


def test_a_package_that_is_not_there_is_told_with_the_cure(monkeypatch):
    def lacking(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(simulator, "import_module", lacking)
    task = make("task", "libero-spatial-0-v1")
    with pytest.raises(Refused, match=r"pip install 'razorbench\[libero\]'"):
        rollout(Still(), task, task.instances("test").first(1))


def test_numpys_generator_is_as_it_was_after_a_scene_is_drawn():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(2)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first = np.random.random()  # noqa: NPY002
    with simulator.drawing(7):
        drawn = np.random.random()  # noqa: NPY002
    assert [first, np.random.random()] == expected.tolist()  # noqa: NPY002
    with simulator.drawing(7):
        assert np.random.random() == drawn  # noqa: NPY002


class Heavy:
    """What stands for a simulator in the pool."""

    gone: ClassVar[list["Heavy"]] = []

    def __init__(self, row):
        self.row = row

    def close(self):
        self.gone.append(self)


@pytest.fixture
def heavy(monkeypatch):
    monkeypatch.setattr(simulator, "Simulator", Heavy)
    monkeypatch.setattr(simulator.POOL, "kept", [])
    monkeypatch.setattr(Heavy, "gone", [])


def test_a_simulator_is_used_again_and_no_second_one_is_kept(heavy):
    one, other = row("spatial-0-v1"), row("spatial-1-v1")
    with simulator.POOL.lent(one) as first:
        pass
    with simulator.POOL.lent(one) as again, simulator.POOL.lent(one) as beside:  # two rollouts at once
        assert again is first
        assert beside is not first
    with simulator.POOL.lent(other):
        assert Heavy.gone == [beside, again]
    assert [kept.row for _, kept in simulator.POOL.kept] == [other]


def test_a_simulator_in_which_something_was_raised_is_closed(heavy):
    with pytest.raises(ValueError), simulator.POOL.lent(row("spatial-0-v1")) as used:
        raise ValueError
    assert Heavy.gone == [used]
    assert simulator.POOL.kept == []


# --- experts ----------------------------------------------------------------------------------------------------------


def test_every_task_of_spatial_and_object_has_an_expert():
    assert set(EXPERTS["spatial"]) == set(EXPERTS["object"]) == set(range(10))
    assert isinstance(make("task", "libero-object-3-camera-v1"), Expert)
    assert not isinstance(make("task", "libero-10-0-v1"), Expert)


TURNED = np.array([[1.0, 2.0, 3.0, np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]])
"""A pose: turned by 90° about x, so that its own y points up."""


def test_places_are_found_in_the_frame_of_a_thing():
    np.testing.assert_allclose(axes(TURNED)[0], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(at(TURNED, (0.1, 0.2, 0.0)), [[1.1, 2.0, 3.2]])
    np.testing.assert_allclose(Grip(up=0.1, side=0.05, across=0.01, axis=1).place(TURNED), [[1.01, 2.05, 3.1]])
    yawed = Grip(side=0.05, across=0.01, yaw=np.pi / 2)
    np.testing.assert_allclose(yawed.place(TURNED), [[0.95, 2.01, 3.0]])


def test_a_hand_is_turned_the_short_way_round_by_half_a_radian_a_motion():
    down, askew = [1.0, 0.0, 0.0, 0.0], [-np.cos(0.05), -np.sin(0.05), 0.0, 0.0]  # by 0.1 about z; −q is the same as q
    np.testing.assert_allclose(
        turn(np.array([down, askew]), (1.0, 0.0, 0.0, 0.0)), [[0, 0, 0], [0, 0, -0.2]], atol=1e-8
    )
    np.testing.assert_allclose(turn(np.array([down]), (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))), [[-1, 0, 0]], atol=1e-8)


def seen(hand, wide, thing, speed=0.0):
    """One row: the hand, its fingers, a thing [3], and a box at the origin."""
    poses = {name: np.array([[*place, 1.0, 0.0, 0.0, 0.0]]) for name, place in {"it": thing, "box": (0, 0, 0)}.items()}
    fingers = np.array([[wide / 2, -wide / 2, -speed, speed]])
    return {"gripper": np.array([hand], float), "fingers": fingers, **poses}


@pytest.mark.parametrize(
    ("state", "moves", "fingers"),
    [
        (seen((0.0, 0.0, 0.3), 0.08, (0.5, 0.0, 0.1)), (1, 0, -1), OPEN),  # across, and down to where it is passed
        (seen((0.0, 0.0, 0.05), 0.08, (0.5, 0.0, 0.1)), (0, 0, 1), OPEN),  # up first
        (seen((0.5, 0.0, 0.2), 0.08, (0.5, 0.0, 0.1)), (0, 0, -1), OPEN),  # down on it
        (seen((0.5, 0.0, 0.1), 0.08, (0.5, 0.0, 0.1)), (0, 0, 0), CLOSE),  # take it
        (seen((0.5, 0.0, 0.1), 0.05, (0.5, 0.0, 0.1), 0.1), (0, 0, 0), CLOSE),  # the fingers still close
        (seen((0.5, 0.0, 0.1), 0.05, (0.5, 0.0, 0.1)), (0, 0, 1), CLOSE),  # lift it
        (seen((0.5, 0.0, 0.3), 0.05, (0.5, 0.0, 0.3)), (-1, 0, 0), CLOSE),  # across
        (seen((0.0, 0.0, 0.3), 0.05, (0.0, 0.0, 0.3)), (0, 0, -1), CLOSE),  # down
        (seen((0.0, 0.0, 0.1), 0.05, (0.0, 0.0, 0.1)), (0, 0, 0), OPEN),  # let go
        (seen((0.0, 0.0, 0.1), 0.08, (0.0, 0.0, 0.1)), (0, 0, 1), OPEN),  # away
    ],
)
def test_expert_takes_a_thing_lifts_it_and_brings_it_to_its_place(state, moves, fingers):
    (motion,) = carrying(state, "it", Grip(), "box", (0.0, 0.0, 0.1), lift=0.3, travel=0.2)
    assert motion[:3].tolist() == pytest.approx(list(moves))
    assert motion[3:6].tolist() == [0, 0, 0]
    assert motion[6] == fingers


# --- the track and its base -------------------------------------------------------------------------------------------

BODY = BODIES["mini-libero-v1"]


def test_the_policy_hears_every_instruction_of_its_suite_apart():
    told = [row(f"spatial-{number}-v1").words for number in range(10)]
    assert {word for text in told for word in text.split()} >= set(BODY.words)
    assert len(np.unique(words(BODY, told, 10), axis=0)) == 10


def spatial(n=1, **columns):
    """What is seen in `spatial`, n rows: a hand that points down, a bowl and a plate."""
    pose = np.tile(np.array([0, 0, 0, 1, 0, 0, 0], np.float32), (n, 1))
    down = np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1))
    seen = {"gripper": np.zeros((n, 3), np.float32), "turned": down, "fingers": np.zeros((n, 4), np.float32)}
    return {**seen, "akita_black_bowl_1": pose, "plate_1": pose, **columns}


def test_the_policy_sees_where_the_bowls_rim_is_from_the_hand():
    hand = np.array([[0.0, 0.045, 0.038], [0.1, 0.045, 0.038]], np.float32)
    seen = inputs(BODY, Observations("", state=spatial(2, gripper=hand)))
    assert seen.shape == (2, BODY.inputs + len(BODY.words))
    np.testing.assert_allclose(seen[:, 3:6], [[0, 0, 0], [-0.6, 0, 0]], atol=1e-6)
    same = spatial(2, gripper=hand, turned=-spatial(2)["turned"])  # −q is the same turn as q
    assert torch.equal(seen, inputs(BODY, Observations("", state=same)))


def test_the_base_is_shown_what_the_track_says_and_begins_where_nothing_is_tested():
    task = Pretraining()
    train, test = task.instances("train"), task.instances("test")
    assert {f"libero-spatial-{number}-v1" for number in task.shares} == set(TRACK.tasks)
    assert task.shares[9] < min(share for number, share in task.shares.items() if number != 9)
    assert not set(train.data["seed"]) & (set(test.data["seed"]) | set(range(10_000)))
    assert set(train.data["state"]) == {-1}
    rows = [task.row_of(instance).number for instance in train]
    assert [rows.count(number) for number in task.shares] == list(task.shares.values())


def test_the_arm_is_disturbed_and_its_fingers_are_not():
    task = Pretraining()
    one, other = (task.instances("train")[i] for i in (0, 1))
    motion = np.array([0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    done = task.executed(motion, one, 3)
    assert np.array_equal(done, task.executed(motion, one, 3))
    assert not np.array_equal(done[:3], task.executed(motion, other, 3)[:3])
    assert not np.array_equal(done[:3], task.executed(motion, one, 4)[:3])
    assert done[3:].tolist() == motion[3:].tolist()
    assert 0 < np.abs(done[1:3]).max() <= task.noise
    assert np.abs(done).max() <= 1
    assert make("task", "libero-spatial-9-v1").executed(motion, one, 3) is motion


def test_each_row_is_asked_of_the_expert_of_its_own_task(monkeypatch):
    asked = {}

    def expert(number):
        def said(state):
            asked[number] = state["gripper"][:, 0].tolist()
            return np.full((len(state["gripper"]), 7), number / 10)

        return said

    monkeypatch.setitem(EXPERTS, "spatial", {number: expert(number) for number in range(10)})
    task = Pretraining()
    numbers = task.instances("train").data["number"]
    some = task.instances("train").take(np.array([0, np.flatnonzero(numbers == 9)[0], 1]))
    seen = Observations("", state={"gripper": np.arange(3.0)[:, None].repeat(3, 1)})
    now = Asked(Episodes(some), np.arange(3), seen, some.key, np.zeros(3, np.int64))
    first = int(numbers[0])
    assert task.solve(now, "usual")[:, 0].tolist() == pytest.approx([first / 10, 0.9, first / 10])
    assert asked == {first: [0.0, 2.0], 9: [1.0]}
