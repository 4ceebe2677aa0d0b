"""Rewards of turns: their weights by hand, gradients against sums over all answers and loops, and how they travel."""

from dataclasses import replace
from threading import Barrier, Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from razorbench import (
    Actions,
    Card,
    Episodes,
    Instance,
    Instances,
    Observation,
    Observations,
    Outcome,
    Outcomes,
    Refused,
    Turn,
    each,
)
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.engine import Local
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS, Batch, Method, centred_to_go, clipped_ratio
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.settings import Settings
from tests.toys import WORDS, Dialogue, Speller, table

NAN = float("nan")
SETTINGS = Settings(lr=0.01, warmup=0, batch=10, group=8, steps=1, max_grad_norm=1e9)


class Paid(Dialogue):
    """Two words, one after the other: a right one earns 1, a wrong one −½ and the end."""

    @each
    def play(self, instance: Instance):
        earned = []
        for question in instance.data["questions"].tolist():
            earned.append(1.0 if (yield Observation(state=question)) == WORDS[question] else -0.5)
            if earned[-1] < 0:
                break
        return Outcome(float(sum(earned) == 2), turn_rewards=earned)


def apt() -> Speller:
    """A speller that is right often enough to come to the second word."""
    policy = Speller()
    with torch.no_grad():
        for row, word in enumerate(WORDS[:4]):
            for place, letter in enumerate(word):
                policy.logits[row, place, "abcd".index(letter)] += 1.5
    return policy


def keeping(method: str, kept: list[tuple[Episodes, np.ndarray]], **pieces) -> Method:
    """The method, with a list of what each step was about."""
    source = METHODS[method].source

    def recorded(learner, prompts, seed):
        kept.append(source(learner, prompts, seed))
        return kept[-1]

    return replace(METHODS[method], source=recorded, **pieces)


def by_hand(episodes: Episodes, group: np.ndarray, gamma: float) -> list[list[float]]:
    """Each turn's weight, in loops."""
    earned = [list(episode.outcome.turn_rewards or ()) if episode.outcome else [] for episode in episodes]
    to_go = [[sum(gamma ** (k - t) * row[k] for k in range(t, len(row))) for t in range(len(row))] for row in earned]
    mates = [[row for row, g in zip(to_go, group, strict=True) if g == mine] for mine in group]
    return [
        [value - float(np.mean([other[t] for other in others if len(other) > t])) for t, value in enumerate(row)]
        for row, others in zip(to_go, mates, strict=True)
    ]


# --- weights ----------------------------------------------------------------------------------------------------------


def test_a_turn_weighs_what_is_earned_from_it_on_less_the_mean_of_those_who_came_to_it():
    earned = torch.tensor([[1.0, 0.0, 4.0], [0.0, 2.0, NAN], [NAN] * 3, [3.0, NAN, NAN], [5.0, NAN, NAN]]).double()
    reward, group = torch.tensor([5.0, 2.0, NAN, 3.0, 5.0]).double(), torch.tensor([0, 0, 0, 1, 1])
    batch = Batch(reward, group, Settings(gamma=0.5), lambda: reward, lambda: earned)
    # to go: 1 + ½·0 + ¼·4 = 2, 0 + ½·4 = 2, 4; and 0 + ½·2 = 1, 2; means of the group: 1.5, 2, 4
    assert centred_to_go(batch).tolist() == [[0.5, 0, 0], [-0.5, 0, 0], [0, 0, 0], [-1, 0, 0], [1, 0, 0]]


# --- gradients --------------------------------------------------------------------------------------------------------

WORTH = torch.tensor([0.0, 1.0, 0.4])
"""What each answer to the first question earns; those to the second earn nothing."""


class FirstCounts:
    """Two questions of one letter each; only the first is worth anything."""

    card = Card("Say two letters.", "The first earns something.", "made here", "none", 0.47)

    def instances(self, split):
        return Instances(np.array([int(split == "test")]))

    def play(self, instances):
        n = len(instances)
        first = yield Observations(state=np.zeros(n, np.int64))
        yield Observations(state=np.ones(n, np.int64))
        worth = np.array([float(WORTH["abc".index(letter)]) for letter in first])
        return Outcomes(worth, turn_rewards=np.stack([worth, 0 * worth], 1))


class Told:
    """Says the letters [n, 2] that it was told to."""

    def __init__(self, letters):
        self.letters = letters

    def act(self, asked, *, temperature=1.0):
        code = [[int(self.letters[i, t])] for i, t in zip(asked.rows, asked.turn, strict=True)]
        return Actions(["abc"[letter] for (letter,) in code], code)


def test_the_expected_gradient_is_the_exact_one_and_varies_less_than_by_episodes():
    """Over all 81 groups of two episodes, each as likely as the policy makes it."""
    policy = table(words=("a", "b"))
    probability = policy.logits.detach()[:, 0].softmax(-1).double()
    exact = policy.copy()
    (0.5 * (exact.logits[0, 0].softmax(-1) * WORTH).sum()).backward()  # a group of two keeps half of the gradient
    assert exact.logits.grad is not None
    pairs = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)  # [81, episode, turn]
    likely = probability[torch.arange(2), pairs].prod(-1).prod(-1)
    assert likely.sum() == pytest.approx(1)
    variance = {}
    for method in ("reinforce", "reinforce-per-turn"):
        gradients = []
        for letters in pairs:

            def source(learner, prompts, seed, letters=letters):
                return rollout(Told(letters), learner.task, learner.instances.take(np.array([0, 0]))), np.array([0, 0])

            twin = policy.copy()
            settings = replace(SETTINGS, batch=1, group=2)
            Adaptation(twin, FirstCounts(), replace(METHODS[method], source=source), settings).advance()
            assert twin.logits.grad is not None
            gradients.append(-twin.logits.grad.flatten().double())
        found = torch.stack(gradients)
        mean = likely @ found
        torch.testing.assert_close(mean, exact.logits.grad.flatten().double(), rtol=1e-5, atol=1e-7)
        variance[method] = float(likely @ (found - mean).square().sum(1))
    assert variance["reinforce-per-turn"] < 0.8 * variance["reinforce"]


@pytest.mark.parametrize("surrogate", [METHODS["reinforce-per-turn"].surrogate, clipped_ratio])
def test_each_letter_has_the_weight_of_its_turn(surrogate):
    kept, policy = [], apt()
    method = keeping("reinforce-per-turn", kept, surrogate=surrogate)
    Adaptation(policy, Paid(), method, replace(SETTINGS, batch=40, gamma=0.5)).advance()
    ((episodes, group),) = kept
    before, total, lengths = apt(), torch.zeros(()), set()
    for episode, weights in zip(episodes, by_hand(episodes, group, 0.5), strict=True):
        for seen, done, weight in zip(episode.observations, episode.actions, weights, strict=True):
            rows = before.logits[int(seen.state), : len(done.code)].log_softmax(-1)
            total = total - weight * rows[torch.arange(len(done.code)), torch.tensor(done.code)].sum() / len(episodes)
        lengths.add(tuple(len(done.code) for done in episode.actions))
    assert {(1,), (2,), (1, 1), (1, 2), (2, 1)} <= lengths
    total.backward()
    assert before.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, before.logits.grad, rtol=1e-5, atol=1e-7)


class Talk:
    """Two questions to a language model; each turn earns by how its reply ends."""

    card = Card("Talk.", "Replies of odd length earn.", "made here", "none", 0.5)

    def instances(self, split):
        ids = np.arange(6) + 6 * (split == "test")
        return Instances(ids, {"text": [f"Ada has {'many, ' * (i % 3)}{i} pens." for i in ids]})

    @each
    def play(self, instance: Instance):
        first = yield Observation(instance.data["text"])
        second = yield Observation("Is that all?")
        earned = [len(first) % 3 - 1.0, len(second) % 2 + 0.5]
        return Outcome(sum(earned), turn_rewards=earned)


def test_each_token_of_a_language_model_has_the_weight_of_its_turn_whatever_the_micro_batch():
    base, kept = mini_lm(seed=0), []
    base.limit = 6
    settings = replace(SETTINGS, batch=2, group=3, gamma=0.9)

    def step(micro_batch: int) -> torch.Tensor:
        policy = base.copy()
        policy.runtime = Runtime(micro_batch=micro_batch).otherwise(policy.runtime)
        Adaptation(policy, Talk(), keeping("reinforce-per-turn", kept), settings).advance()
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    whole, pieces = step(8192), step(50)
    episodes, group = kept[0]
    policy, total = base.copy(), torch.zeros(())
    for i, weights in enumerate(by_hand(episodes, group, 0.9)):
        logp = torch.cat([part.logp.flatten() for part in policy.predict(episodes.take(np.array([i])))])
        of_tokens = np.repeat(weights, [len(action.code) for action in episodes[i].actions])
        total = total - (torch.from_numpy(of_tokens).float() * logp).sum() / 6
    total.backward()
    expected = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    assert float(expected.norm()) > 0.1
    assert float((whole - expected).norm() / expected.norm()) < 1e-4
    assert float((pieces - expected).norm() / expected.norm()) < 1e-4


class Side(Local):
    """One of two processes, as threads."""

    barrier: ClassVar[Barrier] = Barrier(2, timeout=60)
    values: ClassVar[list[Any]] = [None, None]

    def gathered(self, value):
        self.values[self.rank] = value
        self.barrier.wait()
        all_values = list(self.values)
        self.barrier.wait()
        return all_values

    def add_up(self, gradients):
        everyone = self.gathered([gradient.clone() for gradient in gradients])
        for gradient, *parts in zip(gradients, *everyone, strict=True):
            gradient.copy_(torch.stack(parts).sum(0))


def test_two_processes_whose_episodes_have_other_numbers_of_turns_end_where_one_does():
    settings, widths = replace(SETTINGS, lr=0.05, batch=2, group=2, steps=8), [[], []]

    def end(rank: int | None, ends: list) -> None:
        def weight(batch: Batch) -> torch.Tensor:
            if rank is not None:
                widths[rank].append(batch.turn_reward().shape[1])
            return centred_to_go(batch)

        policy, engine = Speller(), Local() if rank is None else Side(rank, 2)
        method = replace(METHODS["reinforce-per-turn"], weight=weight)
        list(Adaptation(policy, Paid(), method, settings, engine=engine))
        ends.append(policy.logits.detach())

    ends: list[torch.Tensor] = []
    threads = [Thread(target=end, args=(rank, ends)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end(None, ends)
    assert widths[0] != widths[1]
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends[1], ends[2], rtol=1e-4, atol=1e-5)


# --- how they travel --------------------------------------------------------------------------------------------------


def test_they_are_taken_joined_and_read_with_their_episodes():
    episodes = rollout(apt(), Paid(), Paid().instances("train").first(20))
    assert episodes.outcome
    index = np.array([7, 3, 3, 19])
    assert np.array_equal(episodes.take(index).turn_rewards(), episodes.turn_rewards()[index], equal_nan=True)
    parts = episodes.take(np.arange(5)), episodes.take(np.arange(5, 20))
    joined = Episodes.join(*parts).turn_rewards()
    assert np.array_equal(joined, episodes.turn_rewards(), equal_nan=True)
    assert np.isnan(joined).any()
    for episode, row in zip(episodes, joined, strict=True):
        assert episode.outcome
        assert episode.outcome.turn_rewards == row[: len(episode.actions)].tolist()


def two_turns(outcome: Outcomes) -> Episodes:
    """Episodes of two turns with these outcomes."""
    rows = np.arange(len(outcome))
    turn = Turn(rows, Observations(["?"] * len(rows)), Actions(["!"] * len(rows)))
    return Episodes(Instances(rows), [turn, turn], outcome)


def test_what_failed_earned_nothing_and_what_is_unscored_is_not_known():
    ends = [Outcome(1.0, turn_rewards=[2, 3]), Outcome.failed("no number"), Outcome.unscored("it died")]
    outcome = Outcomes.stack([*ends, Outcome(1.0, turn_rewards=[2, 3])]).ending({3: Outcome.failed("no action")})
    found = two_turns(outcome).turn_rewards()
    assert np.array_equal(found, [[2, 3], [0, 0], [NAN, NAN], [0, 0]], equal_nan=True)
    lost = two_turns(Outcomes.stack([Outcome.failed("no number"), Outcome.unscored("it died")]))
    assert np.array_equal(lost.turn_rewards(), [[0, 0], [NAN, NAN]], equal_nan=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "gives no rewards per turn; choose a method"),
        ([1.0], "2 turns of instance 0 are .1.0.; the task should give one finite number for each"),
        ([1.0, NAN], "one finite number for each"),
    ],
)
def test_a_task_without_one_for_each_turn_is_refused(given, sentence):
    with pytest.raises(Refused, match=sentence):
        two_turns(Outcomes.stack([Outcome(1.0, turn_rewards=given)])).turn_rewards()


def test_a_method_of_turns_refuses_a_task_that_has_none_and_other_methods_do_not_ask():
    with pytest.raises(Refused, match="gives no rewards per turn"):
        Adaptation(Speller(), Dialogue(), METHODS["reinforce-per-turn"], SETTINGS).advance()
    Adaptation(Speller(), Dialogue(), METHODS["reinforce"], SETTINGS).advance()


def test_the_score_and_other_methods_are_those_without():
    played = [rollout(apt(), task, task.instances("test").first(50)) for task in (Paid(), Dialogue())]
    assert np.array_equal(played[0].reward, played[1].reward)
    ends = []
    for task in (Paid(), Dialogue()):
        policy = apt()
        list(Adaptation(policy, task, METHODS["grpo"], replace(SETTINGS, steps=3)))
        ends.append(policy.logits.detach())
    assert torch.equal(*ends)
