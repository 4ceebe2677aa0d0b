"""Drift on distributions whose divergence is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Categorical

from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.policy import draw
from razorbench.harness.learn.vocabulary import Vocabulary, kl, relative_entropy
from razorbench.harness.measure.drift import divergence, floor, forward_kl, reverse_kl
from tests.toys import Spell, table


def certain(p: float):
    """A policy of one letter, a with probability p."""
    policy = table(words=("a",), letters=2)
    with torch.no_grad():
        policy.logits.copy_(torch.tensor([[[math.log(p), math.log(1 - p)]]]))
    return policy


def test_forward_kl_is_from_the_base_to_the_adapted_policy():
    base, adapted, task = certain(0.5), certain(0.25), Spell(("a",))
    # ½ ln(½ / ¼) + ½ ln(½ / ¾) and, the other way, ¼ ln(¼ / ½) + ¾ ln(¾ / ½)
    forward, reverse = 0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    test = task.instances("test")
    assert forward_kl(base, adapted, task, test).nats.item() == pytest.approx(forward, rel=1e-6)
    assert reverse_kl(base, adapted, task, test).nats.item() == pytest.approx(reverse, rel=1e-6)


def test_divergence_of_an_episode_sums_over_its_real_elements_alone():
    p, q, task = table(1), table(2), Spell()
    episodes = rollout(p, task, task.instances("test"))
    drift = divergence(p, q, episodes)
    ps, qs = p.logits.detach().log_softmax(-1), q.logits.detach().log_softmax(-1)
    each = (ps.exp() * (ps - qs)).sum(-1)  # [S, T]
    expected = [each[s, :length].sum().item() for s, length in enumerate(p.lengths)]
    assert drift.nats.tolist() == pytest.approx(expected, rel=1e-5)
    assert drift.elements.tolist() == p.lengths


def test_divergence_to_itself_is_zero():
    p, task = table(1), Spell()
    drift = divergence(p, p, rollout(p, task, task.instances("test")))
    assert drift.nats.tolist() == [0.0] * 4
    assert drift.log_ratio.tolist() == [0.0] * 4


# --- what rounding makes of nothing -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states of two near models [6, 1, 32] and a head of 151,936 tokens, all of them representable in bf16."""
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(6, 1, 32, generator=source).bfloat16()
    other = (hidden.float() + 0.004 * torch.randn(6, 1, 32, generator=source)).bfloat16()
    return hidden, other, (0.5 * torch.randn(151_936, 32, generator=source)).bfloat16()


def test_kl_over_a_large_vocabulary_in_bf16_is_that_of_its_weights(large):
    hidden, other, head = large
    ours, theirs = ((x.double() @ head.double().T).log_softmax(-1) for x in (hidden, other))
    exact = (ours.exp() * (ours - theirs)).sum(-1)
    ours_kl = kl(Vocabulary(hidden, head), Vocabulary(other, head)).double()
    assert exact.max() < 1e-3
    torch.testing.assert_close(ours_kl, exact, rtol=1e-3, atol=1e-9)
    rounded = ((hidden @ head.T).float().log_softmax(-1), (other @ head.T).float().log_softmax(-1))  # as it was
    wrong = (rounded[0].exp() * (rounded[0] - rounded[1])).sum(-1).double()
    assert (wrong - exact).abs().mean() > 20 * (ours_kl - exact).abs().mean()


def test_log_probabilities_are_in_single_precision_whatever_the_weights_are(large):
    hidden, _, head = large
    dist = Vocabulary(hidden, head)
    code = torch.arange(6)[:, None]
    exact = (hidden.double() @ head.double().T).log_softmax(-1)[torch.arange(6), 0, code[:, 0]]
    assert dist.log_prob(code).dtype == torch.float32
    torch.testing.assert_close(dist.log_prob(code)[:, 0].double(), exact, rtol=0, atol=3e-5)


def test_kl_of_near_distributions_is_not_lost_to_rounding():
    source = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 5000, generator=source, dtype=torch.float64)
    other = logits + 1e-5 * torch.randn(40, 5000, generator=source, dtype=torch.float64)
    ours, theirs = logits.log_softmax(-1), other.log_softmax(-1)
    exact = (ours.exp() * (ours - theirs)).sum(-1)  # about 5e-11 nats
    nats = relative_entropy(ours.float(), theirs.float()).double()
    assert (nats >= 0).all()
    assert (nats - exact).abs().max() < 1e-9
    plain = (ours.float().exp() * (ours.float() - theirs.float())).sum(-1).double()
    assert (plain - exact).abs().max() > 1e-8  # the sum as it was


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_relative_entropy_and_its_gradient_are_those_of_the_plain_sum(scale):
    source = torch.Generator().manual_seed(1)
    a, b = (scale * torch.randn(7, 50, generator=source, dtype=torch.float64) for _ in range(2))
    a.requires_grad_()
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    plain, nats = (p.exp() * (p - q)).sum(-1), relative_entropy(p, q)
    torch.testing.assert_close(nats, plain)
    (expected,), (gradient,) = (torch.autograd.grad(x.sum(), a, retain_graph=True) for x in (plain, nats))
    torch.testing.assert_close(gradient, expected)


def test_what_one_never_does_counts_for_nothing_and_what_the_other_never_does_is_infinite():
    certain, fair = torch.tensor([0.0, -math.inf]), torch.tensor([0.5, 0.5]).log()
    assert relative_entropy(certain, fair).item() == pytest.approx(math.log(2))
    assert relative_entropy(fair, certain).item() == math.inf


def test_floor_is_what_another_order_of_computation_makes_of_a_policy_against_itself():
    lm = mini_lm(seed=1, limit=12)
    task = make("task", "mini-math-v1")
    episodes = rollout(lm, task, task.instances("test").first(12))
    least = floor(lm, episodes)
    assert least is not None
    assert least.nats.shape == (12,)
    assert (least.nats >= 0).all()
    assert 0 < float(least.nats.mean()) < 1e-6
    half = lm.copy()
    half.model.bfloat16()
    coarse = floor(half, episodes)
    assert coarse is not None
    assert float(coarse.nats.mean()) > 100 * float(least.nats.mean())


def test_floor_of_rows_of_several_elements_and_turns_pairs_each_with_itself():
    task = make("task", "fetch-reach-v1")
    robot = make("agent", "mini-robot-v1")
    episodes = rollout(robot, task, task.instances("test").first(3))
    least = floor(robot, episodes)
    assert least is not None
    assert float(least.nats.max()) < 1e-6  # else rows were held against other rows
    spelt = rollout(table(1), Spell(), Spell().instances("test"))
    least = floor(table(1), spelt)
    assert least is not None
    assert float(least.nats.max()) < 1e-9


def test_policy_whose_rows_cannot_be_taken_apart_has_no_floor():
    policy, task = table(1), Spell()
    episodes = rollout(policy, task, task.instances("test"))
    whole: Any = policy.predict

    def ragged(some):  # each part as wide as its own longest answer
        for part in whole(some):
            width = int(part.mask.sum(1).max())
            dist = Categorical(logits=part.dist.logits[:, :width], validate_args=False)
            yield replace(part, dist=dist, code=part.code[:, :width], mask=part.mask[:, :width])

    policy.predict = ragged  # type: ignore[method-assign]
    assert floor(policy, episodes) is None


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_draw_inverts_the_distribution_function_of_a_large_vocabulary():
    source = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 1, 151_936, generator=source)
    cdf = logits[0, 0].double().softmax(-1).cumsum(0)
    likely = (logits[0, 0].double().softmax(-1) > 1e-6).nonzero()[:, 0]
    tokens = likely[:: len(likely) // 150]
    middle = (cdf[tokens] + torch.cat([torch.zeros(1).double(), cdf[:-1]])[tokens]) / 2  # of each token's own stretch
    dist = Categorical(logits=logits.expand(len(tokens), 1, -1), validate_args=False)
    assert draw(dist, middle[:, None].numpy())[:, 0].tolist() == tokens.tolist()
    single = torch.searchsorted(dist.logits[0, 0].exp().cumsum(0), middle.float()[:, None], right=True)[:, 0]
    assert (single != tokens).sum() > 3  # as it was


def test_draw_never_takes_what_has_no_probability():
    dist = Categorical(logits=torch.tensor([[[0.0, 0.0, -math.inf, -math.inf]]]), validate_args=False)
    assert draw(dist, np.array([[1.0]])).item() == 1
    assert draw(dist, np.array([[1 - 2.0**-53]])).item() == 1


def test_temperature_sharpens_and_zero_takes_the_likeliest():
    dist = Categorical(logits=torch.tensor([0.0, 1.0]).expand(1000, 1, 2), validate_args=False)
    u = (np.arange(1000)[:, None] + 0.5) / 1000
    for temperature in (0.5, 1.0, 2.0):
        share = 1 / (1 + math.exp(-1 / temperature))
        assert draw(dist, u, temperature).float().mean().item() == pytest.approx(share, abs=1e-3)
    assert draw(dist, u, 0.0).sum() == 1000
