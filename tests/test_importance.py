"""A sampler that is not the trainer: importance weights against sums over all answers, and losses written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from razorbench import Actions, Card, Instances, Observations, Outcomes, Refused
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.agents.mlp import Mlp
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.elements import Elements
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS, ON_POLICY, Method, centred, sampled
from razorbench.harness.learn.observers import Observer
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.settings import Settings
from tests.toys import Dialogue, Spell, Speller, Table, table

SETTINGS = Settings(lr=0.01, warmup=0, batch=4, group=8, steps=1, max_grad_norm=1e9, horizon=2)


def other_engine(method: str, sampler: Policy) -> Method:
    """The method with another sampler in the place of the policy itself."""
    return replace(METHODS[method], source=sampled(lambda learner: sampler, on_policy=True))


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far apart two tensors are, as a share of the second."""
    return float((one - other).norm() / other.norm())


# --- one element, few answers: expectations by enumeration ------------------------------------------------------------

REWARD = torch.tensor([0.0, 1.0, 0.3, 0.0, 0.7, 0.1, 0.0, 1.0, 0.2, 0.5], dtype=torch.float64)
"""What each of the ten answers earns."""


def shown(instances):
    return Observations(images={"image": instances.data["pixels"]}, state={"indicator": instances.data["indicator"]})


class Digit:
    """One picture, and ten answers that earn this or that."""

    card = Card("Name a digit.", "Some earn more.", "made here", "none", 0.38)

    def instances(self, split):
        pixels = np.random.default_rng(0).integers(0, 256, (1, 28, 28)).astype(np.uint8)
        return Instances(np.array([int(split == "test")]), {"pixels": pixels, "indicator": np.ones(1)})

    def play(self, instances):
        said = yield shown(instances)
        return Outcomes(REWARD[torch.from_numpy(np.asarray(said))].numpy())


class Told:
    """Says what it was told to, with the log-probabilities that it was told."""

    def __init__(self, code, logp):
        self.code, self.logp = code, logp

    def act(self, asked, *, temperature=1.0):
        return Actions(self.code.numpy(), self.code[:, None], self.logp[:, None])


PAIRS = torch.cartesian_prod(torch.arange(10), torch.arange(10))
"""All groups of two answers, [100, 2]."""


def log_odds(policy: Mlp) -> torch.Tensor:
    """Log-probabilities of the ten answers, [10], with gradient."""
    instance = Digit().instances("train")
    return policy.distribution(shown(instance), instance.key).logits[0, 0]


@pytest.fixture(scope="module")
def engines() -> tuple[Mlp, Mlp]:
    """A trainer, and a sampler whose weights are a little off."""
    trainer = Mlp(seed=1)
    sampler = trainer.copy()
    with torch.no_grad():
        for weight in sampler.parameters():
            weight.add_(0.06 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return trainer, sampler


def expected_gradient(trainer: Mlp, sampler: Mlp, cap: float) -> tuple[torch.Tensor, float]:
    """What one step of REINFORCE in groups of two has for a gradient on average over what the sampler may draw.

    All groups are one batch, each weighed by its probability. Beside it the share of elements that were capped.
    """
    logp = log_odds(sampler).detach()
    likely = logp[PAIRS].sum(1).exp().repeat_interleave(2).double()

    def source(learner, prompts, seed):
        told, group = PAIRS.flatten(), np.repeat(np.arange(len(PAIRS)), 2)
        return rollout(Told(told, logp[told]), learner.task, learner.instances.take(0 * group)), group

    ON_POLICY.add(source)
    method = replace(METHODS["reinforce"], source=source, weight=lambda batch: centred(batch) * likely * len(PAIRS))
    policy = trainer.copy()
    settings = replace(SETTINGS, batch=1, group=2, importance_cap=cap)
    report = Adaptation(policy, Digit(), method, settings).advance()
    return -gradient(policy.parameters()), report.measures.get("capped", 0.0)


def gradient(parameters) -> torch.Tensor:
    """What the last backward pass left, as one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


def test_with_the_whole_weight_the_expected_gradient_is_the_exact_one_on_policy(engines):
    trainer, sampler = engines
    exact = trainer.copy()
    # d/dθ Σ π(y) r(y); a group of two that subtracts its own mean keeps a half of it
    (0.5 * (log_odds(exact).exp() * REWARD.float()).sum()).backward()
    assert (log_odds(trainer) - log_odds(sampler)).abs().max() > 0.3
    corrected, capped = expected_gradient(trainer, sampler, cap=1e6)
    assert distance(corrected, gradient(exact.parameters())) < 1e-4
    assert capped == 0
    biased, _ = expected_gradient(trainer, sampler, cap=0.0)
    assert distance(biased, gradient(exact.parameters())) > 0.1


def test_with_a_cap_it_is_that_of_the_truncated_estimator(engines):
    trainer, sampler = engines
    policy, cap = trainer.copy(), 1.1
    logp, mu = log_odds(policy), log_odds(sampler).detach().exp()
    ratio = logp.detach().exp() / mu
    objective = torch.zeros(())
    for one in range(10):
        for other in range(10):
            away = float(REWARD[one] - REWARD[other]) / 2
            weight = min(float(ratio[one]), cap), min(float(ratio[other]), cap)
            objective = objective + mu[one] * mu[other] * away * (weight[0] * logp[one] - weight[1] * logp[other]) / 2
    objective.backward()
    found, capped = expected_gradient(trainer, sampler, cap)
    assert distance(found, gradient(policy.parameters())) < 1e-4
    counted = REWARD[PAIRS[:, 0]] != REWARD[PAIRS[:, 1]]
    assert 0 < capped == pytest.approx(float((ratio > cap)[PAIRS[counted]].float().mean()))
    assert distance(found, expected_gradient(trainer, sampler, cap=1e6)[0]) > 0.01


# --- several elements, several updates --------------------------------------------------------------------------------


class Kept(Observer):
    """Keeps each update's gradient, and the weights after it."""

    def __init__(self):
        self.gradients, self.after = [], []

    def after_backward(self, step, weights):
        self.gradients.append(gradient(weights.values()))
        return {}

    def after_step(self, step, weights):
        self.after.append([weight.detach().clone() for weight in weights.values()])
        return {}


@pytest.mark.parametrize("cap", [0.0, 1.5, 1e6])
def test_second_update_clips_against_the_trainer_and_weighs_against_the_sampler(cap):
    policy, sampler, kept = table().copy(), table(3), Kept()
    settings = replace(SETTINGS, lr=0.5, iterations=2, importance_cap=cap)
    seen = []
    method = other_engine("dr-grpo", sampler)

    def source(learner, prompts, seed):
        seen.append(method.source(learner, prompts, seed))
        return seen[-1]

    ON_POLICY.add(source)
    made = Adaptation(policy, Spell(), replace(method, source=source), settings, observers=[kept])
    report = made.advance()
    ((episodes, group),) = seen
    (turn,) = episodes.turns
    assert turn.done is not None

    def letters(logits: torch.Tensor, question: int, code: list[int]) -> torch.Tensor:
        return logits.log_softmax(-1)[question, torch.arange(len(code)), torch.tensor(code)]

    def loss(logits: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The decoupled objective in loops, and the share of letters whose weight was cut."""
        total, cut, elements = torch.zeros(()), 0, 0
        for i, (question, code) in enumerate(zip(turn.seen.state, turn.done.code, strict=True)):
            advantage = float(episodes.reward[i] - episodes.reward[group == group[i]].mean())
            if not advantage:
                continue
            now = letters(logits, question, code)
            old, drawn = (letters(engine.logits.detach(), question, code) for engine in (table(), sampler))
            for t in range(len(code)):
                ratio, weight = (now[t] - old[t]).exp(), float((old[t] - drawn[t]).exp())
                used = min(weight, cap) if cap else 1.0
                cut, elements = cut + (cap > 0 and weight > cap), elements + 1
                clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
                total = total - used * torch.minimum(ratio * advantage, clipped * advantage)
        return total / (len(episodes) * settings.horizon), cut / elements

    for at, found in zip((table().logits, kept.after[0][0]), kept.gradients, strict=True):
        logits = at.detach().clone().requires_grad_()
        value, share = loss(logits)
        value.backward()
        assert distance(found, gradient([logits])) < 1e-5
    assert report.measures.get("capped") == (pytest.approx(share) if cap else None)
    assert report.measures["clipped"] > 0
    assert report.measures["mismatch"] > 0.1


def test_weights_find_their_elements_in_dialogues_and_any_micro_batch():
    policy, task = Speller(), Dialogue()
    with torch.no_grad():
        policy.logits.mul_(0.1)
        for row, word in enumerate(("a", "b", "ca", "c")):  # right often enough to come to the second word
            for place, letter in enumerate(word):
                policy.logits[row, place, "abcd".index(letter)] += 2
    played = rollout(policy, task, task.instances("train").first(30))
    assert len(played.turns) == 2
    elements = Elements(played.take(np.arange(30)[::-1]))
    turns = torch.zeros(30, 2)
    with torch.no_grad():
        for part in policy.predict(played.take(np.arange(30)[::-1])):
            place = elements.places(part)
            torch.testing.assert_close(part.masked(elements.logp[place].float()), part.logp)
            assert part.mask is not None
            at = part.owner.repeat_interleave(part.mask.sum(1)), elements.turn[place][part.mask]
            turns.index_put_(at, torch.ones(()), accumulate=True)
    by_hand = [[len(action.code) for action in episode.actions] for episode in played][::-1]
    assert turns.tolist() == [[*row, 0][:2] for row in by_hand]


def test_language_model_weighs_each_token_whatever_the_micro_batch():
    trainer, cap = mini_lm(seed=0), 1.05
    trainer.limit = 8
    sampler = trainer.copy()
    with torch.no_grad():
        for weight in sampler.parameters():
            weight.add_(0.002 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    task, settings = make("task", "mini-math-v1"), replace(SETTINGS, batch=3, group=4, importance_cap=cap)
    rewards = torch.arange(12, dtype=torch.float64) % 5
    seen = []

    def step(micro_batch: int) -> torch.Tensor:
        policy = trainer.copy()
        policy.runtime = Runtime(micro_batch=micro_batch).otherwise(policy.runtime)
        method = other_engine("reinforce", sampler)

        def source(learner, prompts, seed):
            episodes, group = method.source(learner, prompts, seed)
            seen.append(replace(episodes, outcome=Outcomes(rewards.numpy())))
            return seen[-1], group

        ON_POLICY.add(source)
        report = Adaptation(policy, task, replace(method, source=source), settings).advance()
        assert 0.01 < report.measures["capped"] < 0.5
        return gradient(policy.parameters())

    whole, pieces = step(8192), step(60)
    policy, total = trainer.copy(), torch.zeros(())
    for i in range(12):
        one = seen[0].take(np.array([i]))
        (turn,) = one.turns
        now = torch.cat([part.logp.flatten() for part in policy.predict(one)])
        weight = (now.detach() - torch.tensor(turn.done.logp[0])).exp().clamp(max=cap)
        advantage = float(rewards[i] - rewards[i // 4 * 4 : i // 4 * 4 + 4].mean())
        total = total - advantage * (weight * now).sum() / 12
    total.backward()
    assert distance(whole, gradient(policy.parameters())) < 1e-4
    assert distance(pieces, whole) < 1e-4


# --- what a user meets ------------------------------------------------------------------------------------------------


def test_where_sampler_and_trainer_are_one_nothing_is_capped_and_weights_are_those_without():
    ends = []
    for cap in (0.0, 2.0):
        policy = table().copy()
        reports = list(Adaptation(policy, Spell(), METHODS["grpo"], replace(SETTINGS, steps=4, importance_cap=cap)))
        assert [report.measures.get("capped") for report in reports] == [None if cap == 0 else 0.0] * 4
        ends.append(policy.logits.detach())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


class Silent(Table):
    """Does not tell with what probability it drew."""

    def act(self, asked, *, temperature=1.0):
        return replace(super().act(asked), logp=None)


def test_a_sampler_that_does_not_tell_is_refused():
    sampler = Silent(table().logits.detach(), table().lengths)
    method = other_engine("reinforce", sampler)
    with pytest.raises(Refused, match="leave out importance_cap"):
        Adaptation(table().copy(), Spell(), method, replace(SETTINGS, importance_cap=2.0)).advance()
    Adaptation(table().copy(), Spell(), method, SETTINGS).advance()


def test_methods_that_sample_from_themselves_read_the_cap_and_others_refuse_it():
    reading = {id for id, method in METHODS.items() if "importance_cap" in method.reads}
    assert reading == {"on-policy-sft", "reinforce", "reinforce-per-turn", "1-0-reinforce", "grpo", "dr-grpo"}
