"""The vocabulary: columns, keyed randomness, the log of episodes, and the lifting of one-episode generators."""

from collections import Counter
from typing import Any, cast

import numpy as np
import pytest

from razorbench import (
    Actions,
    Asked,
    Card,
    Episodes,
    Instances,
    Observation,
    Observations,
    Outcome,
    Outcomes,
    Turn,
    each,
    keys_of,
    mix,
    occurrence,
    row,
    stack,
    take,
    uniform,
)
from razorbench.harness.core.rollout import Demonstrator, rollout

CARD = Card("Count.", "Right.", "made here", "CC0-1.0", 0.5)


class Dialogue:
    """Asks instance n for n % 3 + 1 turns; 'crash' raises, 'wrong' returns no Outcome, the reward is the last value."""

    card = CARD

    def __init__(self):
        self.closed = []

    def instances(self, split):
        return Instances(np.arange(6))

    @each
    def play(self, instance):
        value = None
        try:
            for turn in range(instance.id % 3 + 1):
                value = yield Observation(f"{instance.id}.{turn}")
                if value == "crash":
                    raise ValueError("the simulator fell over")
                if value == "wrong":
                    return cast(Any, "done")
            return Outcome(float(value or 0), {"turns": instance.id % 3 + 1})
        finally:
            self.closed.append(int(instance.id))


class Says:
    """Answers with what a table has for an instance's id, else '1'; remembers who was asked together."""

    def __init__(self, table):
        self.table, self.batches = table, []

    def act(self, asked, *, temperature=1.0):
        self.batches.append(asked.rows.tolist())
        return Actions([self.table.get(int(i), "1") for i in asked.instances.id])


def play(ids, table=None):
    task: Any = Dialogue()
    agent = Says(table or {})
    episodes = rollout(agent, task, task.instances("test").take(np.array(ids)))
    return episodes, agent, task


def errors(episodes):
    return [episode.outcome.error for episode in episodes]


def test_crash_ends_one_episode_only():
    episodes, _, _ = play([0, 1, 2], {1: "crash"})
    np.testing.assert_array_equal(episodes.reward, [1, 0, 1])
    assert errors(episodes) == [None, "ValueError: the simulator fell over", None]
    assert episodes.outcome is not None
    assert episodes.outcome.failed.tolist() == [False, True, False]


def test_who_is_done_is_asked_no_more():
    _, agent, _ = play([0, 1, 2])
    assert agent.batches == [[0, 1, 2], [1, 2], [2]]


def test_an_episode_that_returns_no_outcome_is_unscored_and_says_what_it_returned():
    episodes, _, _ = play([0, 1], {0: "wrong"})
    assert np.isnan(episodes.reward[0])
    assert errors(episodes) == ["play returned 'done', not an Outcome with a number for its reward", None]


def test_rows_may_be_asked_in_any_order():
    class Backwards:
        def instances(self, split):
            return Instances(np.arange(3), {"wanted": np.array([10, 11, 12])})

        def play(self, instances, /):
            given = yield Observations(state=np.arange(3), rows=np.array([2, 1, 0]))
            return Outcomes((given == instances.data["wanted"][[2, 1, 0]]).astype(float))

        def solve(self, asked, style):
            return asked.instances.data["wanted"]

    task: Any = Backwards()
    assert rollout(Demonstrator(task, "any"), task, task.instances("test")).reward.tolist() == [1, 1, 1]


def test_what_goes_wrong_in_one_game_ends_that_game_alone():
    class Games:
        @each  # type: ignore[arg-type]
        def play(self, x):
            yield "no observation" if x.id == 0 else Observation("?")
            if x.id == 1:
                return Outcome("much")  # type: ignore[arg-type]
            return Outcome(1.0)

    task: Any = Games()
    agent: Any = Recorder()
    episodes = rollout(agent, task, Instances(np.arange(3)))
    assert np.isnan(episodes.reward).tolist() == [True, True, False]


class Recorder:
    def act(self, asked, *, temperature=1.0):
        return Actions(["said"] * len(asked))


def test_every_generator_is_closed_when_the_agent_fails():
    class Fails:
        def act(self, asked, *, temperature=1.0):
            raise KeyError("no such agent")

    task: Any = Dialogue()
    with pytest.raises(KeyError):
        rollout(Fails(), task, task.instances("test"))
    assert sorted(task.closed) == [0, 1, 2, 3, 4, 5]


def test_no_instances_make_no_turns_and_no_rewards():
    episodes, _, _ = play(np.array([], int))
    assert (len(episodes.turns), len(episodes.reward)) == (0, 0)


def test_take_gathers_every_kind_of_column():
    index = np.array([2, 0, 2])
    assert take(["a", "b", "c"], index) == ["c", "a", "c"]
    assert take(np.array([[1], [2], [3]]), index).tolist() == [[3], [1], [3]]
    assert take({"x": np.array([1, 2, 3]), "y": ["a", "b", "c"]}, index)["y"] == ["c", "a", "c"]
    assert take("user", index) == "user"
    assert take(None, index) is None


def test_row_reads_one_row_of_every_kind_of_column():
    assert row({"x": np.array([1, 2]), "who": "user"}, 1) == {"x": 2, "who": "user"}
    assert row(["a", "b"], 0) == "a"
    assert row(None, 5) is None


def test_stack_makes_arrays_of_numbers_and_lists_of_the_rest():
    assert stack([None, None]) is None
    assert stack(["a", None]) == ["a", None]
    assert stack([1, 2.5]).tolist() == [1.0, 2.5]
    assert stack([np.zeros((2, 3)), np.ones((2, 3))]).shape == (2, 2, 3)


def test_stacked_outcomes_have_nan_where_a_metric_is_lacking():
    outcomes = Outcomes.stack([Outcome(1.0, {"turns": 3}), Outcome(0.0, {"tokens": 7}), Outcome(np.nan, error="died")])
    np.testing.assert_array_equal(outcomes.metrics["turns"], [3, np.nan, np.nan])
    np.testing.assert_array_equal(outcomes.metrics["tokens"], [np.nan, 7, np.nan])
    assert outcomes.error == [None, None, "died"]


def test_occurrence_counts_how_often_a_key_stood_before():
    assert occurrence(np.array([7, 3, 7, 7, 3, 9])).tolist() == [0, 0, 1, 2, 1, 0]
    assert occurrence(np.array([], np.uint64)).tolist() == []


def test_occurrence_agrees_with_counting():
    keys, seen = np.random.default_rng(0).integers(0, 40, 500), Counter()
    counted = []
    for key in keys.tolist():
        counted.append(seen[key])
        seen[key] += 1
    assert occurrence(keys).tolist() == counted


def test_uniform_is_uniform_and_its_elements_are_independent():
    from scipy.stats import kstest

    u = uniform(mix(np.arange(20_000)), 3)
    assert (u.shape, u.min() > 0, u.max() < 1) == ((20_000, 3), True, True)
    assert all(kstest(u[:, i], "uniform").pvalue > 1e-3 for i in range(3))
    correlation = np.corrcoef(np.c_[u, np.roll(u[:, :1], 1, axis=0)].T) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(20_000)


def test_uniform_begins_alike_however_many_elements_are_asked_for():
    key = mix(np.arange(5))
    np.testing.assert_array_equal(uniform(key, 7)[:, :2], uniform(key, 2))


def test_mix_depends_on_the_order_of_its_columns():
    assert mix(1, 2) != mix(2, 1)
    assert mix(0, np.array([5])).dtype == np.uint64


def test_different_seeds_and_ids_have_different_keys():
    keys = np.concatenate([mix(seed, np.arange(10_000)) for seed in range(5)])
    assert len(set(keys.tolist())) == 50_000


def test_string_ids_have_keys_that_do_not_depend_on_the_process():
    import hashlib

    expected = int.from_bytes(hashlib.blake2b(b"item-7", digest_size=8).digest())
    assert keys_of(np.array(["item-7"])).tolist() == [expected]


def test_instances_keep_their_keys_and_data_when_taken():
    source = Instances(np.array([10, 11, 12]), {"word": ["a", "b", "c"]})
    taken = source.take(np.array([2, 1])).take(np.array([1, 0, 1]))
    assert taken.id.tolist() == [11, 12, 11]
    assert taken.data["word"] == ["b", "c", "b"]
    assert taken.key.tolist() == [source.key[1], source.key[2], source.key[1]]
    assert (taken[1].data["word"], taken[1].key) == ("c", source.key[2])


def two_turns() -> Episodes:
    """Three episodes; in the second turn only rows 0 and 2 are asked."""
    return Episodes(
        Instances(np.array([5, 6, 7])),
        [
            Turn(np.array([0, 1, 2]), Observations(["a0", "b0", "c0"]), Actions(["p", "q", "r"], [[1], [1, 2], [1]])),
            Turn(np.array([0, 2]), Observations(["a1", "c1"]), Actions(["s", "t"], [[1, 2, 3], [1]])),
        ],
        Outcomes(np.array([0.0, 1.0, np.nan]), {"turns": np.array([2, 1, 2])}, [None, None, "died"]),
    )


def test_episodes_taken_in_another_order_with_repeats_are_the_same_episodes():
    episodes = two_turns()
    index = [2, 0, 2, 1]
    taken = episodes.take(np.array(index))
    assert len(taken) == 4
    for at, i in enumerate(index):
        before, after = episodes[i], taken[at]
        assert [o.text for o in before.observations] == [o.text for o in after.observations]
        assert [a.value for a in before.actions] == [a.value for a in after.actions]
        np.testing.assert_equal(vars(before.outcome), vars(after.outcome))


def test_taking_episodes_drops_turns_in_which_none_of_them_was_asked():
    assert len(two_turns().take(np.array([1])).turns) == 1


def test_lengths_count_the_elements_of_all_turns():
    assert two_turns().lengths().tolist() == [4, 2, 2]


def test_rewards_of_running_episodes_are_refused():
    with pytest.raises(ValueError, match="not ended"):
        _ = Episodes(Instances(np.arange(2))).reward


def asked(ids, turn=0, seed=0) -> Asked:
    instances = Instances(np.asarray(ids))
    key = mix(seed, instances.key, occurrence(instances.key))
    rows = np.arange(len(instances))
    return Asked(Episodes(instances), rows, Observations(["?"] * len(rows)), key, np.full(len(rows), turn))


def test_the_random_numbers_of_a_row_do_not_depend_on_its_companions():
    together, alone = asked([4, 8, 15]).uniform(3), asked([8]).uniform(3)
    np.testing.assert_array_equal(together[1], alone[0])


def test_the_random_numbers_of_a_row_differ_by_turn_seed_and_repeat():
    drawn = [asked([8]), asked([8], turn=1), asked([8], seed=1)]
    numbers = [a.uniform(1)[0, 0] for a in drawn] + asked([8, 8]).uniform(1)[1:, 0].tolist()
    assert len(set(numbers)) == 4


def test_asked_instances_are_those_of_the_rows():
    whole = Episodes(Instances(np.array([5, 6, 7])))
    some = Asked(whole, np.array([0, 2]), Observations(["a", "c"]), np.zeros(2, np.uint64), np.zeros(2, int))
    assert some.instances.id.tolist() == [5, 7]
    assert [episode.instance.id for episode in some] == [5, 7]


def test_pictures_are_columns_by_camera():
    singles = [
        Observation(f"{i}", {"front": np.full((4, 6, 3), i, np.uint8), "wrist": np.full((2, 2, 3), i, np.uint8)})
        for i in range(3)
    ]
    seen: Any = Observations.stack(singles)
    assert {name: column.shape for name, column in seen.images.items()} == {
        "front": (3, 4, 6, 3),
        "wrist": (3, 2, 2, 3),
    }
    assert seen.nbytes == 3 * (72 + 12 + 1)
    assert [int(image[0, 0, 0]) for image in seen.take(np.array([2, 0])).images["wrist"]] == [2, 0]
    assert seen[1].images["front"].shape == (4, 6, 3)
    assert len(Observations(images={"front": np.zeros((5, 4, 6, 3), np.uint8)})) == 5


def test_pictures_of_other_cameras_or_of_some_rows_only_stay_single():
    one, two = {"front": np.zeros((2, 2), np.uint8)}, {"wrist": np.ones((2, 2), np.uint8)}
    for images in ([one, two], [one, None]):
        seen: Any = Observations.stack([Observation("look", image) for image in images])
        assert [seen[i].images for i in range(2)] == images


def test_observations_of_a_mapping_count_its_rows_and_not_its_names():
    seen = Observations(state={"pixels": np.zeros((5, 3)), "indicator": np.zeros(5)})
    assert len(seen) == 5
    assert len(seen.take(np.array([0, 4]))) == 2
