"""A robot's policy behind a WebSocket: what is sent, what is done with a chunk, and what is no answer."""

import json
import threading
from contextlib import contextmanager

import msgpack
import numpy as np
import pytest
from websockets.sync.server import serve

from razorbench import Observation, Refused
from razorbench.agents.policy_server import PolicyServer, libero, packed, unpacked
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.policy import Policy
from razorbench.harness.tracks.named import named_policy
from razorbench.tasks.tabletop import CAMERA
from tests.robot_tasks import Arm


def array(value):
    """As openpi's client packs one, written out here."""
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}


@contextmanager
def serving(answer):
    """A server that answers each observation with what `answer` makes of it; its address and what it was sent."""
    heard = []

    def handle(socket):
        socket.send(msgpack.packb({"name": "a stand-in"}))
        for message in socket:
            heard.append(msgpack.unpackb(message, strict_map_key=False))
            said = answer(heard[-1])
            socket.send(said if isinstance(said, str | bytes) else msgpack.packb(said))

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", heard
        server.shutdown()


class Moves(Arm):
    """The arm, moved by vectors of one number, and told in words."""

    def play(self, instances):
        game, motion = super().play(instances), None
        while True:
            try:
                seen = game.send(motion)
            except StopIteration as over:
                return over.value
            seen = type(seen)(["be at one"] * len(instances), seen.images, {"place": seen.state})
            motion = np.asarray((yield seen))[:, 0]


def state(told):
    """A number, which msgpack packs as it is where numpy's is one of Python's."""
    return told["state/place"]


def test_observations_are_sent_as_openpi_has_them_and_motions_come_back():
    some = Moves().instances("test").first(3)
    with serving(lambda told: {"actions": array(np.array([1.0 - state(told)]))}) as (url, heard):
        played = rollout(PolicyServer(url), Moves(), some)
    expert = rollout(Straight(), Moves(), some)
    assert np.array_equal(played.reward, expert.reward)
    assert [turn.done.value.tolist() for turn in played.turns if turn.done] == [
        turn.done.value.tolist() for turn in expert.turns if turn.done
    ]
    assert len(heard) == 9
    assert {*heard[0]} == {"images/front", "state/place", "prompt"}
    assert heard[0]["prompt"] == "be at one"
    picture = heard[0]["images/front"]
    assert (picture[b"dtype"], picture[b"shape"], len(picture[b"data"])) == ("|u1", [2, 4, 3], 24)


class Straight:
    """Does what the stand-in does."""

    def act(self, asked, *, temperature=1.0):
        from razorbench import Actions

        return Actions((1.0 - np.asarray(asked.now.state["place"]))[:, None].astype(np.float32))


@pytest.mark.parametrize(("steps", "asked"), [(0, 1), (1, 3), (2, 2)])
def test_a_chunk_is_done_before_the_server_is_asked_again(steps, asked):
    chunk = np.array([[0.1], [0.2], [0.3], [0.4]])
    some = Moves().instances("test").first(2)
    with serving(lambda told: {"actions": array(chunk)}) as (url, heard):
        agent = PolicyServer(url, steps=steps)
        for _ in range(2):  # what was left of a chunk is not done in the next episode
            heard.clear()
            played = rollout(agent, Moves(), some)
            assert len(heard) == asked * len(some)
            done = [turn.done.value[0, 0] for turn in played.turns if turn.done]
            assert done == pytest.approx([chunk[i % (steps or 4), 0] for i in range(3)])
        assert len(agent.ahead) <= len(some)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            "Traceback …\n  File …\nKeyError: 'observation/image'\n",
            r"cannot answer \(KeyError: 'observation/image'\); see",
        ),
        ({"action": 1}, "answers no `actions`"),
        ({"actions": "up"}, "answers no `actions`"),
        ({"actions": []}, r"answers actions of shape \(1, 0\)"),
        ({"actions": [[[1.0]]]}, r"answers actions of shape \(1, 1, 1\)"),
        ({"actions": {b"__ndarray__": True, b"data": b"", b"dtype": "O", b"shape": [0]}}, "an array of object"),
        (b"\xc1", "answers no `actions`"),
    ],
)
def test_what_is_no_motion_is_refused_in_a_sentence(answer, sentence):
    with serving(lambda told: answer) as (url, _):
        with pytest.raises(Refused, match=sentence) as refused:
            rollout(PolicyServer(url), Moves(), Moves().instances("test").first(2))
        assert str(refused.value).startswith(url)


def test_a_server_that_is_not_there_is_refused_and_one_that_comes_back_is_gone_on_with():
    some = Moves().instances("test").first(1)
    with serving(lambda told: {"actions": [0.5]}) as (url, _):
        agent = PolicyServer(url)
        assert len(rollout(agent, Moves(), some).turns) == 3
    for _ in range(2):
        with pytest.raises(Refused, match=r"does not answer .*; start it, and the same command goes on"):
            rollout(agent, Moves(), some)


def test_libero_is_shown_as_openpi_was_trained_on_it():
    half = np.sqrt(0.5)
    hand = {
        "gripper": np.arange(3.0),
        "turned": np.array([half, 0, 0, half]),
        "fingers": np.arange(4.0),
        "plate": np.ones(7),
    }
    pictures = {name: np.zeros((4, 4, 3), np.uint8) for name in ("agentview", "robot0_eye_in_hand")}
    shown = libero(Observation("put it there", images=pictures, state=hand))
    assert {*shown} == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    assert shown["observation/state"] == pytest.approx([0, 1, 2, np.pi / 2, 0, 0, 0, 1])
    still = libero(Observation("", images=pictures, state=hand | {"turned": np.array([0.0, 0, 0, 1])}))
    assert still["observation/state"][3:6].tolist() == [0, 0, 0]
    with pytest.raises(Refused, match="is of LIBERO's tasks with both cameras"):
        libero(Observation("", images={"agentview": pictures["agentview"]}, state=hand))


def test_numbers_come_through_msgpack_as_they_are_and_nothing_else_does():
    sent = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float64(0.1), "c": np.bool_(True), "d": "word"}
    there = msgpack.unpackb(msgpack.packb(sent, default=packed), object_hook=unpacked)
    assert there["a"].dtype == np.float32
    assert np.array_equal(there["a"], sent["a"])
    assert (there["b"], there["c"], there["d"]) == (0.1, True, "word")
    with pytest.raises(TypeError, match="cannot be sent"):
        msgpack.packb({"a": np.array([object()])}, default=packed)


def test_two_servers_are_compared_and_none_is_adapted(tmp_path, razorbench):
    task = make("task", "tabletop-red-v1")
    shown = demonstrations(task, task.instances("test").first(40))
    motions = {
        next(iter((observation.images or {}).values())).tobytes(): action.value  # what is seen tells what is right
        for episode in shown
        for observation, action in zip(episode.observations, episode.actions, strict=False)
    }
    still = np.zeros(len(next(iter(motions.values()))))

    def right(told):
        return {"actions": array(np.asarray(motions.get(told[f"images/{CAMERA}"][b"data"], still), np.float64))}

    with serving(right) as (good, _), serving(lambda told: {"actions": array(still)}) as (idle, _):
        policy, _ = named_policy(good, tmp_path)
        assert not isinstance(policy, Policy)
        with pytest.raises(Refused, match="can be asked and not adapted"):
            policy.copy()
        asks = ("compare", good, idle, "--new", "tabletop-red-v1", "--priors", "tabletop-blue-v1", "--items", 8)
        ran = razorbench(*asks, "--home", tmp_path, "--json")
        assert ran.code == 0
        told = json.loads(ran.out)
        red = next(each for each in told["changes"] if each["task"] == "tabletop-red-v1")
        assert red["difference"]["value"] < -50
    with pytest.raises(Refused, match="layout 'aloha' is unknown; choose plain, libero"):
        named_policy("ws://localhost:1#aloha", tmp_path)
