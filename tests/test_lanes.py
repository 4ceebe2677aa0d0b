"""Lanes: the same episodes wherever they are played, and one lost simulator loses one episode."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from lane_tasks import Counting, Sightless, Trouble, VectorWalk, Walk

from razorbench import Actions, Clustered, Expert, Guessable, Instances, Refused, Task, WorldFailed
from razorbench.harness.core.keeping import everything
from razorbench.harness.core.lanes import Lanes, Workers, close_all
from razorbench.harness.core.processes import answers
from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.core.rollout import Demonstrator, Guesser, demonstrations, rollout
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.submissions import scoring
from razorbench.submissions.confine import Crashed, Limits, call
from razorbench.submissions.scoring import handed
from razorbench.tasks.fetch.tasks import Reach
from tests.toys import REACHING


class Keyed:
    """An agent whose answers are its random numbers, so that equal answers mean equal randomness."""

    def act(self, asked, *, temperature=1.0):
        return Actions(asked.uniform(1)[:, 0])


class InTensors:
    """The same, as a policy in torch answers."""

    def act(self, asked, *, temperature=1.0):
        return Actions(torch.as_tensor(asked.uniform(1)))


class Fails:
    """An agent that raises when it is asked for the third time."""

    def __init__(self):
        self.asked = 0

    def act(self, asked, *, temperature=1.0):
        self.asked += 1
        if self.asked == 3:
            raise ZeroDivisionError("the policy diverged")
        return Keyed().act(asked)


def alike(one, other):
    """Whether two records hold the same conversations, with the same rewards and metrics."""
    same = [
        [str(o.text) + str(o.state) + o.role for o in a.observations]
        == [str(o.text) + str(o.state) + o.role for o in b.observations]
        and [float(x.value) for x in a.actions] == [float(x.value) for x in b.actions]
        and a.outcome == b.outcome
        for a, b in zip(one, other, strict=True)
    ]
    return all(same)


def in_thread(task: Any, seed):
    """The episodes that lanes should play too."""
    return rollout(Keyed(), task, task.instances("train"), seed=seed)


def errors(episodes) -> Any:
    return episodes.outcome.error


def trouble(*kinds):
    return Instances(np.arange(len(kinds)), {"trouble": list(kinds)})


def pids(pool):
    return [worker.process.pid for worker in pool.workers]


def gone(pid):
    """Whether a process has ended (a zombie that nobody has reaped yet has), given 20 seconds to do so."""
    for _ in range(400):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def troubled():
    """Two lanes that live through all the tests of trouble, so that each also shows that the pool goes on."""
    with Workers("lane_tasks:Trouble", lanes=2, timeout=3.0) as pool:
        yield pool


# --- the same episodes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "scenes"), [(1, 1), (3, 1), (2, 4)])
@pytest.mark.parametrize("task", [Counting, Walk, VectorWalk])
def test_lanes_play_the_episodes_of_the_thread_and_score_every_one(task, lanes, scenes):
    with Workers(f"lane_tasks:{task.__name__}", lanes=lanes, scenes=scenes) as pool:
        episodes = rollout(Keyed(), pool, pool.instances("train"), seed=3)
    assert np.isfinite(episodes.reward).all()
    assert episodes.outcome
    assert (episodes.outcome.turn_rewards is None) == (task is Counting)
    assert alike(episodes, in_thread(task(), seed=3))


def test_lingering_changes_the_batches_and_not_the_episodes():
    with Workers("lane_tasks:Walk", lanes=3, linger=0.05) as pool:
        episodes = rollout(Keyed(), pool, pool.instances("train"), seed=3)
    assert alike(episodes, in_thread(Walk(), seed=3))


def test_rows_ascend_in_every_turn():
    with Workers("lane_tasks:Walk", lanes=3, linger=0.05) as pool:
        episodes = rollout(Keyed(), pool, pool.instances("train"))
    assert all((np.diff(turn.rows) > 0).all() for turn in episodes.turns)


def test_a_subset_of_instances_gives_a_subset_of_episodes():
    some = np.array([7, 2, 2])
    whole = in_thread(Walk(), seed=3)
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        part = rollout(Keyed(), pool, pool.instances("train").take(some), seed=3)
    assert alike(part.take(np.array([0, 1])), whole.take(some[:2]))
    assert part[2].actions[0].value != part[1].actions[0].value  # the repeat draws anew


def test_batches_of_items_are_answered_as_one_and_by_the_same_workers(monkeypatch):
    whole = evaluate(Keyed(), Walk(), keep=everything).played
    monkeypatch.setattr("razorbench.harness.core.rollout.AT_ONCE", 4)
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        started, start = [], pool.start
        monkeypatch.setattr(pool, "start", lambda: started.append(start()) or started[-1])
        batches = evaluate(Keyed(), pool, keep=everything).played
    assert batches is not None
    assert whole is not None
    assert len(batches) == len(whole) == 10
    assert alike(batches, whole)
    assert len(started) == 2


def test_no_instances_give_no_episodes_and_start_no_worker():
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        assert len(rollout(Keyed(), pool, pool.instances("train").take(np.arange(0)))) == 0
        assert pool.workers == []


def test_workers_live_on_between_rollouts():
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        rollout(Keyed(), pool, pool.instances("train"))
        before = pids(pool)
        rollout(Keyed(), pool, pool.instances("train"))
        assert pids(pool) == before


def test_instances_and_observations_bigger_than_a_socket_arrive_whole():
    with Workers("lane_tasks:Large", lanes=2) as pool:
        questions = pool.instances("train")

        class Sees:
            def act(self, asked, *, temperature=1.0):
                return Actions(asked.now.state)

        episodes = rollout(Sees(), pool, questions)
    image = questions.data["image"]
    expected = image.sum(axis=1, dtype=np.float64) + (image + np.uint8(1)).sum(axis=1, dtype=np.float64)
    assert episodes.reward.tolist() == expected.tolist()


def test_pictures_arrive_by_camera():
    class Sees:
        def act(self, asked, *, temperature=1.0):
            front, wrist = asked.now.images["front"], asked.now.images["wrist"]
            assert (front.dtype, front.shape[1:], wrist.shape[1:]) == (np.uint8, (4, 6, 3), (2, 2, 3))
            return Actions(front[:, 0, 0, 0].astype(int) + wrist[:, 0, 0, 0])  # s, then 2s + 1, then 4s + 3, …

    with Workers("lane_tasks:Pictured", lanes=2, scenes=2) as pool:
        episodes = rollout(Sees(), pool, pool.instances("train"))
    assert episodes.reward.tolist() == [14.0 * i + 11 for i in range(6)]  # (2i + 1) + (4i + 3) + (8i + 7)


@pytest.mark.slow
def test_tensors_arrive_as_arrays():
    with Workers("lane_tasks:Tensors", lanes=1) as pool:  # it imports torch
        episodes = rollout(InTensors(), pool, pool.instances("train"))
    assert episodes.reward.tolist() == [1.0] * 4
    assert isinstance(episodes.turns[0].seen.state, np.ndarray)


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("die", "exit code 3"),
        ("kill", "SIGKILL"),
        pytest.param("hang", "for 3 s", marks=pytest.mark.slow),
        ("raise", "RuntimeError: the arm fell off"),
    ],
)
def test_trouble_costs_exactly_the_episode_that_has_it(troubled, kind, sentence, place):
    kinds = [kind if i == place else "" for i in range(5)]
    episodes = rollout(Keyed(), troubled, trouble(*kinds))
    assert np.flatnonzero(np.isnan(episodes.reward)).tolist() == [place]
    assert sentence in errors(episodes)[place]
    assert np.nansum(episodes.reward) == 4.0
    assert [error for i, error in enumerate(errors(episodes)) if i != place] == [None] * 4


def test_trouble_in_every_episode_leaves_them_unscored_and_the_pool_usable(troubled):
    assert np.isnan(rollout(Keyed(), troubled, trouble("die", "raise", "kill")).reward).all()
    assert rollout(Keyed(), troubled, trouble("", "", "")).reward.tolist() == [1.0, 1.0, 1.0]


def test_trouble_costs_the_scenes_that_are_played_together():
    with Workers("lane_tasks:Trouble", lanes=2, scenes=2) as pool:
        reward = rollout(Keyed(), pool, trouble("", "", "die", "", "", "")).reward
    assert np.isnan(reward).tolist() == [False, False, True, True, False, False]


def test_an_answer_that_is_no_outcome_is_unscored():
    with Workers("lane_tasks:Wrong", lanes=1) as pool:
        episodes = rollout(Keyed(), pool, pool.instances("train").take(np.arange(1)))
    assert np.isnan(episodes.reward).all()
    assert "play returned 'done'" in errors(episodes)[0]


def test_a_lane_that_died_while_idle_costs_no_episode():
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        rollout(Keyed(), pool, pool.instances("train"))
        for pid in pids(pool):
            os.kill(pid, signal.SIGKILL)  # may still be dying when it is fed
        assert np.isfinite(rollout(Keyed(), pool, pool.instances("train")).reward).all()


@pytest.mark.slow
def test_a_lane_that_hangs_before_reading_blocks_nobody_and_costs_no_episode():
    with Workers("lane_tasks:Large", lanes=2, timeout=2.0) as pool:
        questions = pool.instances("train").take(np.arange(2))
        before = rollout(Keyed(), pool, questions)
        frozen = pids(pool)[0]
        os.kill(frozen, signal.SIGSTOP)
        assert alike(rollout(Keyed(), pool, questions), before)
        assert frozen not in pids(pool)
        assert gone(frozen)


@pytest.fixture
def parent(monkeypatch, tmp_path):
    monkeypatch.setenv("LANE_TASKS_PARENT", str(os.getpid()))
    monkeypatch.setenv("LANE_TASKS_MARK", str(tmp_path / "mark"))
    return tmp_path / "mark"


@pytest.mark.slow
def test_a_start_that_hangs_costs_no_episode(parent):
    with Workers("lane_tasks:FalseStart", lanes=1, patience=5.0) as pool:
        assert np.isfinite(rollout(Keyed(), pool, pool.instances("train")).reward).all()
    assert parent.exists()


def test_a_worker_has_patience_until_its_first_observation_and_a_time_limit_from_then_on(parent):
    with Workers("lane_tasks:Gated", lanes=1, timeout=60.0, patience=600.0) as pool:
        questions = pool.instances("train")
        pool.open()
        (worker,) = pool.workers
        worker.play(np.arange(1), questions)
        while not parent.exists():
            time.sleep(0.01)  # it has the batch, and is about to build
        assert worker.move() is None
        assert (worker.warm, worker.begun, worker.limit) == (False, False, 600.0)
        parent.with_name("gate").touch()
        assert answers([worker], 0.0)[worker][0] == "asks"
        assert (worker.warm, worker.begun) == (True, True)
        worker.post("values", ["!"])
        assert worker.limit == 60.0
        assert answers([worker], 0.0)[worker][0] == "ends"
        worker.play(np.arange(1), questions)
        assert worker.limit == 60.0


def test_a_worker_that_dies_while_it_builds_costs_no_episode(parent):
    with Workers("lane_tasks:FalseBuild", lanes=1) as pool:
        assert np.isfinite(rollout(Keyed(), pool, pool.instances("train")).reward).all()
    assert parent.exists()


def test_what_cannot_be_built_costs_its_own_episode_though_it_comes_first():
    with Workers("lane_tasks:Poison", lanes=1) as pool:
        episodes = rollout(Keyed(), pool, pool.instances("train").take(np.array([0, 1, 3])))
        assert np.isnan(episodes.reward).tolist() == [True, False, False]
        assert "the mesh is torn" in errors(episodes)[0]
        pool.close()
        with pytest.raises(Refused, match=r"no worker could begin to play .*the mesh is torn"):
            rollout(Keyed(), pool, pool.instances("train").take(np.array([0, 2, 1])))


@pytest.mark.parametrize("lanes", [0, 2])
def test_a_world_that_shows_what_is_no_number_is_unscored_and_the_agent_never_sees_it(lanes):
    class Adds:
        def act(self, asked, *, temperature=1.0):
            assert np.isfinite(asked.now.state["joints"]).all()
            return Actions(asked.now.state["joints"].sum(axis=1))

    task = Workers("lane_tasks:Sightless", lanes=lanes, scenes=3) if lanes else Sightless()
    episodes = rollout(Adds(), task, task.instances("train"))
    assert np.isnan(episodes.reward).tolist() == [True, False, False] * 4
    assert errors(episodes)[:2] == ["the world showed what is no number: its state is not finite", None]
    assert (episodes.reward[1], episodes.turns[-1].seen.state["joints"].min()) == (2.0, 0.0)


def test_who_floods_costs_its_own_episode(monkeypatch):
    monkeypatch.setattr("razorbench.harness.core.processes.LARGEST", 1 << 16)
    with Workers("lane_tasks:Flooding", lanes=2) as pool:
        episodes = rollout(Keyed(), pool, pool.instances("train").take(np.arange(4)))
    assert np.isnan(episodes.reward).tolist() == [False, False, True, False]
    assert "the worker floods: its answer is of 1,0" in errors(episodes)[2]


def test_workers_that_others_keep_waiting_make_room(monkeypatch):
    monkeypatch.setattr("razorbench.harness.core.lanes.IDLE", 1)
    monkeypatch.setattr("razorbench.harness.core.lanes.POOLS", WeakSet())
    with Workers("lane_tasks:Walk", lanes=2) as first, Workers("lane_tasks:Counting", lanes=1) as second:
        first.open()
        rollout(Keyed(), second, second.instances("train").take(np.arange(2)))
        assert (len(first.workers), len(second.workers)) == (1, 1)
        assert np.isfinite(rollout(Keyed(), first, first.instances("train")).reward).all()


def test_a_task_that_no_worker_can_start_is_refused_with_its_error(parent):
    pool = Workers("lane_tasks:Stillborn", lanes=2)
    with pool, pytest.raises(Refused, match="RuntimeError: no display"):
        rollout(Keyed(), pool, pool.instances("train"))
    assert pool.workers == []


@pytest.mark.slow
@pytest.mark.parametrize("task", ["Large", "LargeValues"])
def test_a_policy_slower_than_the_timeout_fails_nobody(task):
    class Slow:
        seconds = 0.0

        def act(self, asked, *, temperature=1.0):
            time.sleep(
                self.seconds
            )  # meanwhile a megabyte is on its way to or from the other lane, and nobody moves it
            return Actions(np.ones((len(asked), 1 << 20), np.uint8))

    with Workers(f"lane_tasks:{task}", lanes=2, timeout=1.0) as pool:
        two, agent = pool.instances("train").take(np.arange(2)), Slow()
        rollout(agent, pool, two)  # now that the workers have started, `timeout` counts and not `patience`
        agent.seconds = 1.5
        assert np.isfinite(rollout(agent, pool, two).reward).all()


# --- the agent, and the end -------------------------------------------------------------------------------------------


def test_an_agent_that_raises_ends_the_busy_lanes_and_leaves_the_pool_usable():
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        rollout(Keyed(), pool, pool.instances("train"))
        before = pids(pool)
        with pytest.raises(ZeroDivisionError):
            rollout(Fails(), pool, pool.instances("train"))
        assert pool.workers == []
        assert all(gone(pid) for pid in before)
        assert np.isfinite(rollout(Keyed(), pool, pool.instances("train")).reward).all()


def test_closing_ends_the_processes_and_playing_starts_new_ones():
    pool = Workers("lane_tasks:Walk", lanes=2)
    for _ in range(2):
        assert np.isfinite(rollout(Keyed(), pool, pool.instances("train")).reward).all()
        before = pids(pool)
        pool.close()
        assert all(gone(pid) for pid in before)


def test_a_second_rollout_at_once_is_refused():
    with Workers("lane_tasks:Walk", lanes=1) as pool:
        first = pool.play(pool.instances("train"))
        next(first)
        with pytest.raises(RuntimeError, match="two Workers"):
            next(pool.play(pool.instances("train")))
        first.close()


@pytest.mark.slow
def test_no_process_outlives_a_parent_that_is_killed():
    script = """
import sys, numpy as np
from razorbench.harness.core.lanes import Workers
pool = Workers("lane_tasks:Parent", lanes=2)
game = pool.play(pool.instances("train").take(np.arange(2)))
seen, found = next(game), {}
while True:
    found |= dict(zip(seen.rows.tolist(), seen.state.tolist()))
    if len(found) == 2:
        print(*sum(found.values(), []), flush=True)  # one worker waits for a value, the other will hang
    seen = game.send(np.zeros(len(seen)))
"""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        assert process.stdout
        started = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(started) == 4
    assert all(gone(pid) for pid in started)


# --- another interpreter ----------------------------------------------------------------------------------------------


def test_a_worker_imports_no_torch_of_its_own_accord():
    with Workers("lane_tasks:Imports", lanes=1) as pool:
        assert rollout(InTensors(), pool, pool.instances("train")).reward.tolist() == [1.0] * 12


@pytest.fixture
def torchless(tmp_path):
    """Another interpreter, in which nobody can import torch."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")  # import torch now fails
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(python)


def test_another_interpreter_without_torch_plays(torchless):
    with Workers("lane_tasks:WithoutTorch", lanes=1, python=torchless) as pool:
        assert rollout(Keyed(), pool, pool.instances("train")).reward.tolist() == [1.0] * 12


def test_what_this_interpreter_cannot_import_is_asked_of_a_worker(torchless, monkeypatch):
    monkeypatch.setenv("ANOTHER_PYTHON", torchless)
    with pytest.raises(ImportError, match="not installed here"):
        Workers("lane_tasks:Abroad", lanes=1)
    with Workers("lane_tasks:Abroad", lanes=2, python="$ANOTHER_PYTHON") as pool:
        assert pool.card == Trouble.card
        assert isinstance(pool, Task)
        assert isinstance(pool, Expert)
        assert isinstance(pool, Guessable)
        assert not isinstance(pool, Clustered)
        with pytest.raises(Refused, match="nothing to train on"):
            pool.instances("train")
        questions = pool.instances("test")
        shown = demonstrations(pool, questions)
        assert (shown.reward >= 1.0).all()
        here = rollout(Keyed(), Walk(), questions, seed=3)
        assert alike(rollout(Keyed(), pool, questions, seed=3), here)
        assert np.isfinite(rollout(Guesser(pool), pool, questions).reward).all()
        assert len(list(pool.frames(questions[0], [0.0]))) == 2  # type: ignore[attr-defined]
        with pytest.raises(WorldFailed, match="solve of lane_tasks:Abroad raised ZeroDivisionError: too loud"):
            rollout(Demonstrator(pool, "loud"), pool, questions)
        assert np.isfinite(rollout(Keyed(), pool, questions).reward).all()


def test_a_worker_that_cannot_be_asked_is_told(torchless, parent):
    with pytest.raises(Refused, match="could not tell offers of lane_tasks:Stillborn: RuntimeError: no display"):
        Workers("lane_tasks:Stillborn", lanes=1, python=torchless)


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("/nowhere/python", "no Python interpreter at '/nowhere/python'"),
        ("$NOBODY_PYTHON", "\\$NOBODY_PYTHON is not set"),
    ],
)
def test_an_interpreter_that_does_not_exist_is_refused(python, sentence):
    with pytest.raises(Refused, match=sentence):
        Workers("lane_tasks:Walk", lanes=1, python=python)


# --- a confined process -----------------------------------------------------------------------------------------------


def test_a_confined_process_plays_in_workers_that_were_started_before(tmp_path):
    def play():
        again = rollout(Keyed(), pool, trouble("", "die", ""))
        return [None if np.isnan(reward) else reward for reward in again.reward], len(pool.workers)

    with Workers("lane_tasks:Trouble", lanes=2) as pool:
        pool.open()
        before = pids(pool)
        limits = {"limits": Limits(memory=1.0, seconds=60), "writable": [], "log": tmp_path / "log.txt"}
        assert call(play, **limits) == [[1.0, None, 1.0], 1]  # it may start none in the place of one that died
        close_all()
        assert all(gone(pid) for pid in before)
        with pytest.raises(Crashed, match="starts no other"):
            call(play, **limits)
        assert np.isfinite(rollout(Keyed(), pool, trouble("", "")).reward).all()


def in_workers_of_its_parent() -> tuple[list[float | None], int]:
    """Rewards of three episodes, and how many workers are left."""
    pool = Workers("lane_tasks:Trouble", lanes=2)
    again = rollout(Keyed(), pool, trouble("", "die", ""))
    return [None if np.isnan(reward) else reward for reward in again.reward], len(pool.workers)


@pytest.mark.slow(seconds=8)
def test_a_confined_process_that_is_no_fork_is_handed_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # who uses a GPU cannot be forked
    limits = {"limits": Limits(memory=8.0, seconds=120), "writable": [], "log": tmp_path / "log.txt"}
    with Workers("lane_tasks:Trouble", lanes=2) as pool:
        pool.open()
        done = call(handed, {pool.name: pool.workers}, in_workers_of_its_parent, **limits)
        assert done == [[1.0, None, 1.0], 1]
        with pytest.raises(Crashed, match="starts no other"):
            call(in_workers_of_its_parent, **limits)


def test_a_task_that_shows_pictures_is_scored_in_a_worker_of_its_own():
    """A fork has no threads of what draws, and would wait for them for ever."""
    two = replace(REACHING, workers={"tabletop-red-*": Lanes(2)})
    tasks = [scoring.played(two, id) for id in two.tasks]
    assert [task.lanes for task in tasks] == [1, 2, 1]
    assert isinstance(scoring.played(TRACKS["mini-robot-air-v2"], "fetch-reach-v1"), Reach)


# --- still the same task ----------------------------------------------------------------------------------------------


def test_the_wrapper_can_do_what_the_task_can_and_no_more():
    walk, troubled = Workers("lane_tasks:Walk", lanes=1), Workers("lane_tasks:Trouble", lanes=1)
    assert isinstance(walk, Task)
    assert isinstance(walk, Expert)
    assert isinstance(walk, Guessable)
    assert isinstance(troubled, Task)
    assert not isinstance(troubled, Expert)
    assert not isinstance(troubled, Guessable)
    assert troubled.card is Trouble.card


def test_demonstrations_are_played_in_the_lanes():
    with Workers("lane_tasks:Walk", lanes=2) as pool:
        shown = demonstrations(pool, pool.instances("train"))
    assert (shown.reward >= 1.0).all()


def test_a_registered_task_is_found_by_its_id(monkeypatch):
    monkeypatch.setitem(REGISTERED["task"], "walk-v1", Walk)
    with Workers("walk-v1", lanes=1) as pool:
        assert np.isfinite(rollout(Keyed(), pool, pool.instances("train")).reward).all()


def test_a_registered_task_that_no_module_has_a_name_for_is_refused(monkeypatch):
    class Inner(Walk):
        pass

    monkeypatch.setitem(REGISTERED["task"], "walk-v1", Inner)
    with pytest.raises(Refused, match="give it a name at the top of test_lanes"):
        Workers("walk-v1", lanes=1)


def test_an_unknown_task_is_refused():
    with pytest.raises(Refused, match="unknown task 'wolk-v1'"):
        Workers("wolk-v1", lanes=1)


def test_a_task_of_a_script_is_refused_with_the_cure():
    with pytest.raises(Refused, match="module of its own"):
        Workers("__main__:Mine", lanes=1)


def test_no_lanes_are_refused():
    with pytest.raises(Refused, match="1 or more"):
        Workers("lane_tasks:Walk", lanes=0)
