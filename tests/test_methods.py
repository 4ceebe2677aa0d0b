"""Weights, surrogates and normalisers on numbers worked out by hand, and whole losses on independent ones."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical

from razorbench import Refused
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.loop import Adaptation, fisher
from razorbench.harness.learn.methods import (
    METHODS,
    Batch,
    centred,
    clipped_ratio,
    entropy_gated,
    margin_gap,
    per_element,
    per_episode,
    per_episode_mean,
    per_horizon,
    per_pair,
    right_only,
    standardised,
)
from razorbench.harness.learn.policy import Prediction, log_probabilities
from razorbench.harness.learn.settings import Settings
from tests.toys import Spell, Table, table

NAN = float("nan")


def batch(reward: Sequence[float], group: Sequence[int], logp: Sequence[float] = (), **settings) -> Batch:
    rewards = torch.tensor(reward, dtype=torch.float64)
    return Batch(
        rewards, torch.tensor(group), Settings(**settings), lambda: torch.tensor(logp), lambda: rewards[:, None]
    )


def prediction(logits: list[list[float]], code: list[int]) -> Prediction:
    """One element a row."""
    dist = Categorical(logits=torch.tensor(logits)[:, None])
    return Prediction(dist, torch.tensor(code)[:, None], None, torch.arange(len(code)))


# --- weights ---


@pytest.mark.parametrize("value", [0.1, 1 / 3, 99.9, 100.1, 250.7, 1000.1, 1e6 + 0.1])
@pytest.mark.parametrize("n", [6, 7, 8, 16])
def test_equal_rewards_have_weight_zero_however_large_they_are(value, n):
    assert standardised(batch([value] * n, [0] * n)).tolist() == [0.0] * n


def test_small_differences_of_large_rewards_count_in_full():
    weights = standardised(batch([100.1, 100.1, 100.1, 100.1 + 1e-6], [0] * 4))
    assert weights.tolist() == pytest.approx([-(3**-0.5)] * 3 + [3**0.5], rel=1e-3)
    assert standardised(batch([0, 0, 0, 1e-8], [0] * 4)).tolist() == pytest.approx([-(3**-0.5)] * 3 + [3**0.5])


def test_rewards_stay_in_double_on_their_way_to_the_weights(monkeypatch):
    seen = []

    def kept(batch: Batch) -> torch.Tensor:
        seen.append(batch.reward.dtype)
        return torch.ones_like(batch.reward)

    made = Adaptation(table().copy(), Spell(), replace(METHODS["reinforce"], weight=kept), SETTINGS)
    made.advance()
    assert seen == [torch.float64]


def test_centred_subtracts_the_mean_of_the_group():
    weights = centred(batch([1, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]))
    assert weights.tolist() == [0.5, -0.5, -0.5, 0.5, 0, 0]


def test_unscored_episode_has_weight_zero_and_does_not_move_its_group():
    weights = centred(batch([1, NAN, 0, NAN], [0, 0, 0, 1]))
    assert weights.tolist() == [0.5, 0, -0.5, 0]


def test_standardised_divides_by_the_population_deviation():
    weights = standardised(batch([1, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]))
    deviation = math.sqrt(3 / 16)  # of 1, 0, 0, 0 around 1/4
    expected = [0.75 / deviation, -0.25 / deviation, -0.25 / deviation, -0.25 / deviation, 0, 0]
    assert weights.tolist() == pytest.approx(expected)


def test_right_only_counts_full_reward_alone():
    assert right_only(batch([1, 0.9, 0, NAN], [0, 0, 1, 1])).tolist() == [1, 0, 0, 0]


def test_margin_gap_is_the_sigmoid_of_what_is_missing_to_the_margin():
    # pairs (−1, −3): margin 2, gap σ(1 − 2); and (−2, −2): margin 0, gap σ(1)
    weights = margin_gap(batch([1, 1, 0, 0], [0, 1, 0, 1], [-1.0, -2.0, -3.0, -2.0]))
    small, large = 1 / (1 + math.e), 1 / (1 + math.exp(-1))
    assert weights.tolist() == pytest.approx([small, large, -small, -large])


# --- surrogates ---


def test_clipped_ratio_stops_rewarding_beyond_the_clip():
    old = torch.tensor([[math.log(0.25)], [math.log(0.25)], [math.log(0.75)]])
    part = prediction([[0.0, 0.0]] * 3, [0, 0, 0])  # every ratio is of 1/2 to old: 2, 2, 2/3
    weight = torch.tensor([[1.0], [-1.0], [-1.0]])
    # A > 0: min(2, 1.2); A < 0: min(−2, −1.2); A < 0 and r = 2/3: min(−2/3, −0.8)
    assert clipped_ratio(part, weight, old, Settings())[:, 0].tolist() == pytest.approx([1.2, -2.0, -0.8])


def test_clipped_ratio_without_old_has_value_weight_and_gradient_of_the_score_function():
    logits = torch.tensor([[[0.3, -0.2, 1.0]]], requires_grad=True)
    part = Prediction(Categorical(logits=logits), torch.tensor([[1]]), None, torch.tensor([0]))
    value = clipped_ratio(part, torch.tensor([[0.7]]), None, Settings())
    assert value.item() == pytest.approx(0.7)
    value.sum().backward()
    p = torch.softmax(torch.tensor([0.3, -0.2, 1.0]), 0)
    expected = 0.7 * (torch.tensor([0.0, 1.0, 0.0]) - p)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0], expected)


def test_entropy_gate_is_one_for_a_uniform_prediction_and_nothing_for_a_certain_one():
    part = prediction([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]], [2, 1])
    gained = entropy_gated(part, torch.ones(2, 1), None, Settings(top_k=20))[:, 0]
    assert gained.tolist() == pytest.approx([-math.log(4), 0.0], abs=1e-6)


def test_entropy_gate_looks_at_the_top_alternatives_alone():
    # The two likeliest are equal, so among K = 2 the entropy is ln 2 and the gate 1, whatever the third is.
    part = prediction([[1.0, 1.0, -4.0]], [0])
    gained = entropy_gated(part, torch.ones(1, 1), None, Settings(top_k=2))
    assert gained.item() == pytest.approx(part.logp.item())


# --- normalisers: lengths 1 and 3 ---


@pytest.mark.parametrize(
    ("normaliser", "weight", "expected"),
    [
        (per_element, [1.0, 1.0], [1 / 4, 1 / 4]),
        (per_element, [1.0, 0.0], [1.0, 1.0]),
        (per_episode, [1.0, 0.0], [1 / 2, 1 / 2]),
        (per_pair, [1.0, 1.0], [1.0, 1.0]),
        (per_episode_mean, [1.0, 1.0], [1 / 2, 1 / 6]),
        (per_horizon, [1.0, 1.0], [1 / 20, 1 / 20]),
    ],
)
def test_normaliser_is_as_its_name_says(normaliser, weight, expected):
    scales = normaliser(torch.tensor([1.0, 3.0]), torch.tensor(weight), Settings(horizon=10))
    assert scales.tolist() == pytest.approx(expected)


# --- whole losses against an independent computation ---


def letters(policy: Table, question: int, code: list[int]) -> torch.Tensor:
    """Log-probabilities of the letters, [T], from the logits by hand."""
    rows = policy.logits[question, : len(code)]
    return (rows - rows.exp().sum(-1, keepdim=True).log())[torch.arange(len(code)), torch.tensor(code)]


def gradient_of(method: str, settings: Settings) -> tuple[Adaptation, torch.Tensor]:
    """The gradient that one step of a method leaves on the table, and the adaptation before it."""
    policy, task = table().copy(), Spell()
    before = Adaptation(table().copy(), task, METHODS[method], settings, teacher=table(5))
    adaptation = Adaptation(policy, task, METHODS[method], settings, teacher=table(5))
    adaptation.advance()
    assert policy.logits.grad is not None
    return before, policy.logits.grad


SETTINGS = Settings(lr=0.01, warmup=0, batch=4, group=8, steps=3, max_grad_norm=1e9, horizon=2)


def sampled_step(adaptation: Adaptation):
    """Questions, codes, rewards and groups of the first step."""
    from razorbench import mix

    seed = int(mix(0, 0) >> np.uint64(1))
    episodes, group = adaptation.method.source(adaptation.learner, adaptation.prompts(), seed)
    codes = [code for turn in episodes.turns for code in turn.done.code]  # type: ignore[union-attr]
    return episodes.instances.data["question"].tolist(), codes, episodes.reward, group


def advantages(reward, group, standardise: bool) -> np.ndarray:
    away = np.array([r - reward[group == g].mean() for r, g in zip(reward, group, strict=True)])
    if standardise:
        spread = np.array([reward[group == g].std() for g in group])
        away = np.where(spread > 0, away / np.where(spread > 0, spread, 1), 0)
    return away


def independent_loss(method: str, adaptation: Adaptation) -> torch.Tensor:
    """The loss of the first step as the papers write it, with loops and without our pieces."""
    policy = adaptation.learner.policy
    assert isinstance(policy, Table)
    questions, codes, reward, group = sampled_step(adaptation)
    logps = [letters(policy, q, c) for q, c in zip(questions, codes, strict=True)]
    n, right = len(codes), reward >= 1
    if method in ("sft", "distil", "eaft"):
        gates = [torch.ones(len(c)) for c in codes]
        if method == "eaft":
            rows = [policy.logits.detach()[q, : len(c)].softmax(-1) for q, c in zip(questions, codes, strict=True)]
            gates = [-(p * p.log()).sum(-1) / math.log(p.shape[-1]) for p in rows]
        total = sum(len(c) for c in codes)
        return -sum((g * lp).sum() for g, lp in zip(gates, logps, strict=True)) / total  # type: ignore[return-value]
    if method in ("self-sft", "iterative-sft", "on-policy-sft"):
        total = sum(len(c) for c, r in zip(codes, right, strict=True) if r)
        return -sum(lp.sum() for lp, r in zip(logps, right, strict=True) if r) / total  # type: ignore[return-value]
    if method == "simpo":
        half = n // 2
        margins = [logps[i].sum() - logps[half + i].sum() - 1 for i in range(half)]
        return -sum(torch.nn.functional.logsigmoid(m) for m in margins) / half  # type: ignore[return-value]
    if method == "1-0-reinforce":
        return -sum(lp.sum() for lp, r in zip(logps, right, strict=True) if r) / n  # type: ignore[return-value]
    weight = advantages(reward, group, standardise=method == "grpo")
    pieces = [float(a) * lp for a, lp in zip(weight, logps, strict=True)]
    if method in ("reinforce", "reinforce-per-turn"):  # each of these episodes is one turn
        return -sum(piece.sum() for piece in pieces) / n  # type: ignore[return-value]
    if method == "grpo":
        return -sum(piece.mean() for piece in pieces) / n  # type: ignore[return-value]
    assert method == "dr-grpo"
    return -sum(piece.sum() for piece in pieces) / (n * 2)  # type: ignore[return-value]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"oracle-sft"}))
def test_gradient_of_a_step_is_that_of_the_loss_written_out(method):
    before, gradient = gradient_of(method, SETTINGS)
    if METHODS[method].renews_each_epoch:
        before.learner.epoch_start = before.learner.policy.copy()
    policy = before.learner.policy
    assert isinstance(policy, Table)
    (expected,) = torch.autograd.grad(independent_loss(method, before), [policy.logits])
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_kl_penalty_adds_the_gradient_of_the_exact_kl_to_the_base():
    def moved(kl: float) -> torch.Tensor:
        policy = table().copy()
        with torch.no_grad():
            policy.logits.add_(torch.linspace(-1, 1, policy.logits.numel()).view_as(policy.logits))
        adaptation = Adaptation(policy, Spell(), METHODS["reinforce"], replace(SETTINGS, kl=kl))
        adaptation.advance()
        assert policy.logits.grad is not None
        return policy.logits.grad

    difference = moved(0.1) - moved(0.0)
    base, policy = table(), table().copy()
    with torch.no_grad():
        policy.logits.add_(torch.linspace(-1, 1, policy.logits.numel()).view_as(policy.logits))
    p, q = policy.logits.log_softmax(-1), base.logits.detach().log_softmax(-1)
    nats = (p.exp() * (p - q)).sum(-1)  # [S, T]
    real = torch.tensor([[t < length for t in range(nats.shape[1])] for length in policy.lengths])
    # 32 episodes, 8 of each question; REINFORCE takes the mean over episodes of their sums
    (expected,) = torch.autograd.grad(0.1 * (nats * real).sum() * 8 / 32, [policy.logits])
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-6)


def test_l2_penalty_pulls_towards_the_base_in_proportion_to_the_distance():
    policy = table().copy()
    adaptation = Adaptation(policy, Spell(), METHODS["sft"], replace(SETTINGS, l2=0.5))
    with torch.no_grad():
        policy.logits.add_(1.0)
    policy.logits.grad = None
    assert adaptation.penalise() == pytest.approx(0.25 * policy.logits.numel())
    assert policy.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, torch.full_like(policy.logits, 0.5))


def test_ewc_weighs_the_distance_by_the_fisher_information():
    policy = table(words=("a",)).copy()
    information = fisher(policy, [Spell(("a",))], seed=0, episodes=1)
    adaptation = Adaptation(policy, Spell(("a",)), METHODS["sft"], replace(SETTINGS, ewc=2.0), priors=[Spell(("a",))])
    with torch.no_grad():
        policy.logits.add_(1.0)
    policy.logits.grad = None
    assert adaptation.penalise() == pytest.approx(float(information[0].sum()))
    assert policy.logits.grad is not None
    torch.testing.assert_close(policy.logits.grad, 2.0 * information[0].float())


def test_fisher_information_is_the_mean_squared_score_of_own_answers():
    policy = table(words=("a",) * 400, letters=2)
    with torch.no_grad():
        policy.logits.copy_(torch.tensor([0.0, math.log(3.0)]).expand_as(policy.logits))  # probabilities 1/4, 3/4
    (information,) = fisher(policy, [Spell(("a",) * 400)], seed=0, episodes=400)
    # Each question has its own logits; the score of a letter is 1 − p or −p, its mean square p(1 − p) = 3/16.
    mean, error = information.sum().item() / 2, math.sqrt(0.25 * 0.75) * 0.5 / math.sqrt(400)
    assert mean == pytest.approx(3 / 16, abs=4 * error)


def test_fisher_information_of_small_gradients_is_not_lost():
    policy = table(words=("a",), letters=2)
    (information,) = fisher(Tiny(policy), [Spell(("a",))], seed=0, episodes=1)  # type: ignore[arg-type]
    assert information.dtype == torch.float64
    assert information[0].item() == pytest.approx(1e-52)  # has no square in single precision


class Tiny:
    """A policy of one weight, the gradient of whose log-probability is 1e-26."""

    def __init__(self, policy):
        self.policy, self.weight = policy, torch.nn.Parameter(torch.ones(1))

    def act(self, asked, *, temperature=1.0):
        return self.policy.act(asked)

    def predict(self, episodes):
        for part in self.policy.predict(episodes):
            yield Prediction(_Linear(self.weight), part.code, part.mask, part.owner)  # type: ignore[arg-type]

    def parameters(self):
        yield self.weight


class _Linear:
    def __init__(self, weight):
        self.weight = weight

    def log_prob(self, code):
        return 1e-26 * self.weight.expand_as(code)


def test_fisher_information_draws_its_answers_as_one_batch():
    policy = table(words=("a",) * 50, letters=2)
    calls = []

    class Counted(Table):
        def act(self, asked, *, temperature=1.0):
            calls.append(len(asked))
            return super().act(asked)

    counted = Counted(policy.logits.detach(), policy.lengths)
    one = fisher(counted, [Spell(("a",) * 50)], seed=0, episodes=50)
    assert calls == [50]
    torch.testing.assert_close(one, fisher(policy, [Spell(("a",) * 50)], seed=0, episodes=50))


def test_episodes_of_weight_zero_cost_no_pass_and_change_no_gradient(monkeypatch):
    passed: list[int] = []

    class Counted(Table):
        def predict(self, episodes):
            passed.append(len(episodes))
            return super().predict(episodes)

    def step(method: str, weights):
        policy = Counted(table().logits.detach(), table().lengths)
        policy.reference = table()  # type: ignore[assignment]
        chosen = replace(METHODS[method], weight=lambda batch: torch.tensor(weights)[: len(batch.reward)].double())
        made = Adaptation(policy, Spell(), chosen, SETTINGS)
        passed.clear()
        made.advance()
        return policy.logits.grad, list(passed)

    some = [0.0, 1.0, 0.0, -2.0] * 8
    gradient, passes = step("reinforce", some)
    assert passes == [16]
    whole, _ = step("reinforce", [w or 1e-30 for w in some])
    torch.testing.assert_close(gradient, whole)
    nothing, passes = step("reinforce", [0.0] * 32)
    assert sum(passes) == 0
    assert nothing is not None
    assert not nothing.any()  # a gradient of zeros: the optimiser goes on by its momentum


def test_grpo_with_several_iterations_differs_from_one_because_the_ratio_moves():
    def after(iterations: int) -> torch.Tensor:
        policy = table().copy()
        Adaptation(policy, Spell(), METHODS["grpo"], replace(SETTINGS, iterations=iterations)).advance()
        return policy.logits.detach()

    assert not torch.equal(after(1), after(3))


def test_episode_log_probability_is_the_sum_over_its_letters():
    policy, task = table(), Spell()
    episodes = rollout(policy, task, task.instances("train"))
    logp = log_probabilities(policy, episodes)
    (turn,) = episodes.turns
    assert turn.done is not None
    expected = [letters(policy, q, c).sum().item() for q, c in enumerate(turn.done.code)]
    assert logp.tolist() == pytest.approx(expected)


def test_distillation_without_a_teacher_is_refused_with_the_cure():
    with pytest.raises(Refused, match="--teacher"):
        Adaptation(table().copy(), Spell(), METHODS["distil"], SETTINGS).advance()


def test_simpo_skips_a_batch_in_which_the_base_is_never_wrong():
    policy = table(words=("a",)).copy()
    with torch.no_grad():
        policy.base().logits.copy_(torch.tensor([[[99.0, 0.0, 0.0]]]))
    before = policy.logits.detach().clone()
    report = Adaptation(policy, Spell(("a",)), METHODS["simpo"], SETTINGS).advance()
    assert report.episodes == 0
    assert torch.equal(policy.logits, before)
