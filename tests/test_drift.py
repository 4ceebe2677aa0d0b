"""Drift on distributions whose divergence is known."""

import math

import pytest
import torch

from harness.drift import divergence, forward_kl, reverse_kl
from harness.rollout import rollout
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
    found = divergence(p, q, episodes)
    ps, qs = p.logits.detach().log_softmax(-1), q.logits.detach().log_softmax(-1)
    each = (ps.exp() * (ps - qs)).sum(-1)  # [S, T]
    expected = [each[s, :length].sum().item() for s, length in enumerate(p.lengths)]
    assert found.nats.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.elements.tolist() == p.lengths


def test_divergence_to_itself_is_zero():
    p, task = table(1), Spell()
    found = divergence(p, p, rollout(p, task, task.instances("test")))
    assert found.nats.tolist() == [0.0] * 4
    assert found.log_ratio.tolist() == [0.0] * 4
