"""Each broken task is found by exactly the check that is about it, and good tasks pass."""

import re
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import robot_tasks as robots

from razorbench import Card, Instances, Observation, Observations, Outcome, Outcomes, Refused, Sample, each
from razorbench.harness.cli.check.robots import tail
from razorbench.harness.cli.check.tasks import at_chance
from razorbench.harness.cli.check.trial import Poison
from razorbench.harness.cli.check.verdicts import MEASURED, PLAYED, check
from razorbench.harness.core import registry

CARD = Card("Double a number.", "The reply is its double.", "made here", "CC0-1.0", 0.1)


class Good:
    """Text, one turn: double a number from 0 to 9, shown with the id."""

    card = CARD
    styles = ("digits", "padded")

    def instances(self, split):
        ids = np.arange(0, 400) if split == "train" else np.arange(400, 700)
        return Instances(ids, {"number": ids % 10, "label": [f"question {i}" for i in ids]})

    @each
    def play(self, instance):
        reply = yield Observation(f"{instance.data['label']}: double {instance.data['number']}")
        right = float(reply.strip() == str(2 * instance.data["number"]))
        return Outcome(right, turn_rewards=[right])

    def solve(self, asked, style):
        doubled = 2 * asked.instances.data["number"]
        return [f" {n} " if style == "padded" else str(n) for n in doubled]

    def guess(self, asked):
        return [str(2 * int(10 * u)) for u in asked.uniform(1)[:, 0]]


class GoodArrays(Good):
    """The same with arrays of floats, the whole batch at once."""

    styles = ("digits",)

    def play(self, instances):
        number = instances.data["number"]
        reply = yield Observations(state=number[:, None])
        right = (reply == 2 * number).astype(float)
        return Outcomes(right, turn_rewards=right[:, None])

    def solve(self, asked, style):
        return 2.0 * asked.instances.data["number"]

    def guess(self, asked):
        return 2.0 * (10 * asked.uniform(1)[:, 0]).astype(int)


class Slippery(GoodArrays):
    """An expert of motions that one episode in a hundred (or in ten) defeats, for all it knows."""

    every = 100

    def play(self, instances):
        outcome = yield from super().play(instances)
        return replace(outcome, reward=np.where(instances.id % self.every == 0, 0.0, outcome.reward))


class TooSlippery(Slippery):
    every = 10


class GoodDialogue(Good):
    """Two turns, each told in a column of columns; the second is about the first; chance is a tenth of a half."""

    styles = ("steps",)
    card = replace(CARD, chance=0.05)

    @each
    def play(self, instance):
        first = yield Observation(state={"number": np.array(instance.data["number"])})
        second = yield Observation(state={"number": np.array(first["move"])}, role="tool")
        right = float(first["move"] == instance.data["number"])
        return Outcome(right * float(second["move"] == 1), turn_rewards=[right, -0.5])

    def solve(self, asked, style):
        return {"move": np.where(asked.turn == 0, asked.instances.data["number"], 1)}

    def guess(self, asked):
        return {"move": (asked.uniform(1)[:, 0] * np.where(asked.turn == 0, 10, 2)).astype(int)}


def run(made, **options):
    """Checks by name of a task class that is registered for the moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTERED["task"], "trial-v1", made)
        return {finding.name: finding for finding in check("trial-v1", **{"episodes": 64, **options})}


def failures(checks):
    return [name for name, finding in checks.items() if finding.ok is False]


@pytest.mark.parametrize("made", [Good, GoodArrays, GoodDialogue])
def test_a_good_task_passes_every_check(made):
    checks = run(made)
    assert list(checks) == list(PLAYED)
    assert [(name, finding.detail) for name, finding in checks.items() if not finding.ok] == []


class UnfinishedCard(Good):
    """The card does not tell the licence."""

    card = replace(CARD, licence="")


class ChanceInPercent(Good):
    """The card's chance is in points."""

    card = replace(CARD, chance=10)


class SharedIds(Good):
    """An id stands in both splits."""

    def instances(self, split):
        ids = np.arange(0, 400) if split == "train" else np.arange(399, 700)
        return Instances(ids, {"number": ids % 10, "label": [f"{split} {i}" for i in ids]})


class RepeatedIds(Good):
    """An id stands twice in one split."""

    def instances(self, split):
        ids = np.r_[0, 0:400] if split == "train" else np.arange(400, 700)
        return Instances(ids, {"number": ids % 10, "label": [f"question {i}" for i in ids]})


class NothingToTest(Good):
    """There are no test instances."""

    def instances(self, split):
        return super().instances("train") if split == "train" else Instances(np.array([], int))


class SameQuestions(Good):
    """Test rows have ids of their own, but the questions of the training rows."""

    def instances(self, split):
        ids = np.arange(0, 400) if split == "train" else np.arange(400, 700)
        return Instances(ids, {"number": ids % 10, "label": [f"question {i % 400}" for i in ids]})


class CrashesOnSome(Good):
    """The game itself raises on some instances."""

    @each
    def play(self, instance):
        reply = yield Observation(instance.data["label"])
        return Outcome(float(reply.strip() == str(2 * instance.data["number"])) / (instance.id % 7 > 0))


class InfiniteReward(Good):
    """A wrong answer is punished without bound."""

    @each
    def play(self, instance):
        reply = yield Observation(instance.data["label"])
        return Outcome(1.0 if reply.strip() == str(2 * instance.data["number"]) else -np.inf)


class GuessTooShort(Good):
    """The guesser leaves the last row without an answer."""

    def guess(self, asked):
        return super().guess(asked)[:-1]


class GuessRaises(Good):
    """The guesser has a bug."""

    def guess(self, asked):
        raise ZeroDivisionError("no sides")


class Moody(Good):
    """The game draws from a generator of its own."""

    draws = np.random.default_rng(0)

    @each
    def play(self, instance):
        reply = yield Observation(f"{instance.data['label']}, said {self.draws.random()}")
        return Outcome(float(reply.strip() == str(2 * instance.data["number"])))


class Remembers(Good):
    """The reward depends on what was played before."""

    played = count()

    @each
    def play(self, instance):
        reply = yield Observation(instance.data["label"])
        right = reply.strip() == str(2 * instance.data["number"])
        return Outcome(float(right) * (1.0 if next(self.played) < 64 * 3 else 0.5))


class LongerTheSecondTime(Good):
    """An object of the task plays a turn more than the one made before it."""

    made = count()

    def __init__(self):
        self.turns = next(self.made) % 2 + 1

    @each
    def play(self, instance):
        reply = ""
        for _ in range(self.turns):
            reply = yield Observation(instance.data["label"])
        return Outcome(float(reply.strip() == str(2 * instance.data["number"])))


class UnseededData(Good):
    """The numbers are other ones in each process."""

    made = count()

    def instances(self, split):
        right = super().instances(split)
        shift = next(self.made)
        return Instances(right.id, {**right.columns, "number": (right.id + shift) % 10})


class UnseededGuess(Good):
    """The guesser draws from a generator of its own."""

    draws = np.random.default_rng(0)

    def guess(self, asked):
        return [str(2 * self.draws.integers(10)) for _ in range(len(asked))]


class CentredOnTheBatch(GoodArrays):
    """What is shown is centred on the mean of the batch."""

    def play(self, instances):
        number = instances.data["number"]
        reply = yield Observations(state=number[:, None] - number.mean())
        return Outcomes((reply == 2 * number).astype(float))


class OneRewardTooMany(Good):
    """A turn more is rewarded than was taken."""

    @each
    def play(self, instance):
        reply = yield Observation(instance.data["label"])
        right = float(reply.strip() == str(2 * instance.data["number"]))
        return Outcome(right, turn_rewards=[0.0, right])


class InfiniteTurn(GoodArrays):
    """Some turns earn without end."""

    def play(self, instances):
        outcome = yield from super().play(instances)
        return replace(outcome, turn_rewards=np.where(instances.id % 9 == 0, np.inf, outcome.reward)[:, None])


class MoodyTurns(GoodArrays):
    """What a turn earns changes from game to game; the reward does not."""

    games = count()

    def play(self, instances):
        outcome = yield from super().play(instances)
        return replace(outcome, turn_rewards=np.full((len(instances), 1), next(self.games)))


class WrongStyle(Good):
    """One style is wrong for one number in ten."""

    def solve(self, asked, style):
        right = super().solve(asked, style)
        return ["8" if style == "padded" and said.strip() == "6" else said for said in right]


class WrongDemonstrations(Good):
    """Training instances have wrong answers."""

    def solve(self, asked, style):
        return [
            "none" if i < 400 else said for i, said in zip(asked.instances.id, super().solve(asked, style), strict=True)
        ]


class ChanceTooHigh(Good):
    """The card says a quarter where it is a tenth."""

    card = replace(CARD, chance=0.25)


class LooseRule(Good):
    """Whatever ends in the right digit is right, so guessing is better than the card says."""

    @each
    def play(self, instance):
        reply = yield Observation(instance.data["label"])
        return Outcome(float(reply.strip()[-1] == str(2 * instance.data["number"])[-1]))


class OneCrashTakesAll(Good):
    """A batch of texts, played by hand without care."""

    def play(self, instances):
        replies = yield Observations(instances.data["label"])
        doubled = 2 * instances.data["number"]
        return Outcomes(np.array([float(r.strip() == str(n)) for r, n in zip(replies, doubled, strict=True)]))


class Swallows(Good):
    """What the agent breaks is left out as if the world had failed."""

    @each
    def play(self, instance):
        reply = yield Observation(instance.data["label"])
        try:
            return Outcome(float(reply.strip() == str(2 * instance.data["number"])))
        except Exception as error:
            return Outcome.unscored(str(error))


BROKEN = {
    "card": (UnfinishedCard, ChanceInPercent),
    "splits": (SharedIds, RepeatedIds, NothingToTest),
    "overlap": (SameQuestions,),
    "scored": (CrashesOnSome, InfiniteReward, OneRewardTooMany, InfiniteTurn, GuessTooShort, GuessRaises),
    "replay": (Moody, MoodyTurns, Remembers, LongerTheSecondTime),
    "seed": (UnseededData, UnseededGuess),
    "companions": (CentredOnTheBatch,),
    "oracle": (WrongStyle,),
    "demonstrations": (WrongDemonstrations,),
    "chance": (ChanceTooHigh, LooseRule),
    "crash": (OneCrashTakesAll, Swallows),
}


@pytest.mark.parametrize(("name", "made"), [(name, made) for name, some in BROKEN.items() for made in some])
def test_a_broken_task_fails_exactly_the_check_that_is_about_it(name, made):
    assert failures(run(made)) == [name]


def test_every_check_has_a_task_that_fails_it():
    assert list(BROKEN) == list(PLAYED)


def test_whether_rewards_of_turns_add_up_is_told():
    said = {made: run(made)["scored"].detail for made in (Good, GoodDialogue, LooseRule)}
    assert said[Good].endswith("all have a finite reward, and turns add up to it.")
    assert said[GoodDialogue].endswith("a finite reward, and turns have others, whose sums are up to 0.5 away.")
    assert said[LooseRule].endswith("all have a finite reward.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "name", "sentence"),
    [
        (robots.TooLong, "protocol", "takes 4 steps, and the card's horizon is 3"),
        (robots.OtherCamera, "protocol", r"pictures of \['wrist'\], and the card has \['front'\]"),
        (robots.OneSuccess, "protocol", "have no metric success_at_end"),
        (robots.OtherScore, "protocol", "The reward .* is not the success that the card names, 'end'"),
        (
            robots.Wears,
            "determinism",
            "Played again at once, instance .* differs in the .*; the card declares 'bitwise'",
        ),
        (robots.OtherElsewhere, "determinism", "Played again in a fresh process, instance .* differs"),
        (robots.ShakierThanSaid, "verdicts", "verdicts differ where .* the card's floor is 0.0001: correct `floor`"),
    ],
)
def test_a_robot_that_is_not_as_its_card_says_fails_the_check_that_is_about_it(made, name, sentence):
    finding = run(made, episodes=24)[name]
    assert finding.ok is False
    assert re.search(sentence, finding.detail), finding.detail


@pytest.mark.slow
def test_a_robot_is_tried_as_its_card_declares():
    told = {made: run(made, episodes=24) for made in (robots.Arm, robots.InOneProcess, robots.Shaky)}
    for made in (robots.Arm, robots.InOneProcess):
        assert failures(told[made]) == []
        assert "0 of 24 verdicts differ where `solve in style 'straight'` plays" in told[made]["verdicts"].detail
    assert told[robots.Arm]["determinism"].detail.endswith("at once, after other episodes, in a fresh process.")
    assert told[robots.InOneProcess]["determinism"].detail.endswith("at once and after other episodes.")
    shaky = told[robots.Shaky]
    assert [shaky[name].ok for name in ("replay", "seed", "companions", "determinism", "verdicts")] == [None] * 4 + [
        True
    ]


def test_a_count_of_verdicts_is_held_against_the_floor():
    assert tail(0, 24, 0.0) == 1.0
    assert tail(1, 24, 0.0) == 0.0
    assert tail(2, 3, 0.5) == pytest.approx(0.5)  # of 8 outcomes of three coins, 4 have two heads or more


def test_what_a_failure_also_breaks_waits_for_it():
    checks = run(Moody)
    assert (checks["seed"].ok, checks["seed"].detail) == (None, "Waits until 'replay' passes.")


def test_a_failure_names_the_instance_and_what_was_said():
    checks = run(WrongDemonstrations)
    assert "'none', earns 0" in checks["demonstrations"].detail


def test_a_bug_in_the_task_is_reported_with_its_file_and_line():
    detail = run(GuessRaises)["scored"].detail
    assert "ZeroDivisionError: no sides (test_check.py, line " in detail


class Bare:
    """A task that can only be scored: no training data, no expert, no guesser."""

    card = CARD
    play = Good.play

    def instances(self, split):
        if split == "train":
            raise Refused("there is no training data")
        return Good().instances(split)


def test_what_a_task_does_not_offer_does_not_apply():
    checks = run(Bare)
    assert failures(checks) == []
    assert [name for name, finding in checks.items() if finding.ok] == ["card", "splits"]
    assert "neither `guess` nor `solve`" in checks["replay"].detail


def test_answers_in_arrays_of_integers_hold_no_poison():
    class Integers(GoodArrays):
        def solve(self, asked, style):
            return 2 * asked.instances.data["number"]

        def guess(self, asked):
            return 2 * (10 * asked.uniform(1)[:, 0]).astype(int)

    finding = run(Integers)["crash"]
    assert finding.ok is None
    assert "a column of int64" in finding.detail


def test_tensors_can_be_answers():
    import torch

    class Tensors(GoodArrays):
        def play(self, instances):
            number = torch.as_tensor(instances.data["number"])
            reply = yield Observations(state=number[:, None])
            right = (reply == 2 * number).double()
            return Outcomes(right.numpy(), turn_rewards=right[:, None])

        def solve(self, asked, style):
            return 2.0 * torch.as_tensor(asked.instances.data["number"])

        def guess(self, asked):
            return 2.0 * torch.as_tensor(10 * asked.uniform(1)[:, 0]).floor()

    assert [(name, finding.detail) for name, finding in run(Tensors).items() if not finding.ok] == []


def test_missing_data_are_refused_not_reported_as_a_failure():
    class NoData(Good):
        def instances(self, split):
            raise Refused("the file is missing; put it there")

    with pytest.raises(Refused, match="put it there"):
        run(NoData)


def test_an_unknown_task_is_refused():
    with pytest.raises(Refused, match="unknown task"):
        check("no-such-task-at-all-v1")


def test_what_is_no_task_is_told_what_it_lacks():
    class Nothing:
        card = CARD

    finding = run(Nothing)["card"]
    assert finding.ok is False
    assert "lacks instances, play" in finding.detail


def test_a_task_that_keeps_processes_is_closed_after_the_check():
    closed = []

    class Holds(Good):
        def close(self):
            closed.append(self)

    run(Holds)
    assert len(closed) == 2


def test_every_operation_on_poison_raises():
    poison: Any = Poison()
    for operation in (
        str,
        len,
        float,
        iter,
        hash,
        lambda p: p == 1,
        lambda p: p + 1,
        lambda p: p[0],
        lambda p: p.strip,
    ):
        with pytest.raises(RuntimeError, match="poisonous"):
            operation(poison)


def test_the_interval_of_binary_rewards_is_clopper_and_pearsons():
    # 0 of 100: the upper end solves (1 − p)^100 = 0.0005, so p = 1 − 0.0005^(1/100) = 0.07319
    rewards = np.zeros(100)
    assert at_chance(rewards, 0.0731)[0] is True
    assert at_chance(rewards, 0.0733)[0] is False


def test_the_interval_of_other_rewards_is_that_of_the_mean():
    # 50 rewards of 0.2 and 50 of 0.4: mean 0.3, standard deviation 0.1005, half width 3.2905 × 0.01005 = 0.0331
    rewards = np.repeat([0.2, 0.4], 50)
    assert [at_chance(rewards, claimed)[0] for claimed in (0.268, 0.332, 0.266, 0.334)] == [True, True, False, False]


class Choices:
    """A benchmark with a loop of its own, which asks through `act`."""

    card = CARD
    styles = ("digits",)
    score = staticmethod(lambda i, right: float(right))

    def evaluate(self, agent, limit=None):
        from razorbench.harness.core.rollout import rollout

        good: Any = Good()
        test = good.instances("test")
        episodes = rollout(agent, good, test.take(np.arange(len(test))[:limit]))
        return [
            Sample(int(i), self.score(int(i), r)) for i, r in zip(episodes.instances.id, episodes.reward, strict=True)
        ]

    def solve(self, asked, style):
        return Good().solve(asked, style)

    def guess(self, asked):
        return Good().guess(asked)


def test_a_good_benchmark_passes_the_checks_of_benchmarks():
    checks = run(Choices)
    assert list(checks) == list(MEASURED)
    assert [(name, finding.detail) for name, finding in checks.items() if not finding.ok] == []


def test_a_benchmark_without_agents_of_its_own_is_checked_for_its_card_only():
    class Quiet:
        card, evaluate = CARD, Choices.evaluate

    assert [name for name, finding in run(Quiet).items() if finding.ok] == ["card"]


def test_a_benchmark_with_unscored_items_fails():
    class Unscored(Choices):
        score = staticmethod(lambda i, right: np.nan if i == 402 else float(right))

    assert failures(run(Unscored)) == ["scored"]


def test_a_benchmark_that_scores_other_items_the_second_time_fails():
    class Wanders(Choices):
        calls = count()

        def evaluate(self, agent, limit=None):
            return [replace(sample, id=(sample.id, next(self.calls))) for sample in super().evaluate(agent, limit)]

    assert failures(run(Wanders)) == ["seed"]


def test_a_benchmark_whose_oracle_errs_fails():
    class Errs(Choices):
        score = staticmethod(lambda i, right: float(right and i != 405))

    assert "oracle" in failures(run(Errs))


def test_a_benchmark_whose_guesser_beats_the_card_fails():
    class Lucky(Choices):
        card = replace(CARD, chance=0.01)

    assert failures(run(Lucky)) == ["chance"]


def test_an_expert_of_motions_may_miss_one_episode_in_fifty():
    checks = run(Slippery, episodes=256)
    assert checks["oracle"].ok
    assert "score 98" in checks["oracle"].detail or "score 99" in checks["oracle"].detail
    assert "all but" in checks["demonstrations"].detail
    assert "oracle" in failures(run(TooSlippery))
