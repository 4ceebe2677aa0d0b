"""What everything registered must hold: every task, every agent on every track it is the base of."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical

from harness.adapt import Adaptation
from harness.check import check
from harness.drift import divergence
from harness.methods import METHODS
from harness.oracle import Projection
from harness.policy import Enumerable, Policy, encoded
from harness.registry import ids, make
from harness.rollout import demonstrations, rollout
from harness.score import Bench, evaluate, first
from harness.settings import Settings
from harness.tracks import TRACKS, find_track
from harness.types import Episodes, Instances, Task

BATCH = 300


@pytest.fixture(scope="module", params=sorted(TRACKS))
def ready(request: pytest.FixtureRequest, data, shared_home) -> Bench:
    """A track made ready."""
    return Bench(find_track(request.param), shared_home)


@pytest.fixture(scope="module")
def adapted(ready: Bench) -> Policy:
    """The base after some steps of GRPO."""
    policy = ready.base.copy()
    settings = Settings(lr=1e-4, steps=10, warmup=0, batch=64, group=8)
    list(Adaptation(policy, ready.new, METHODS["grpo"], settings))
    return policy


def values(episodes: Episodes) -> np.ndarray:
    """What was done in the only turn, [N]."""
    (turn,) = episodes.turns
    assert turn.done is not None
    return np.asarray(turn.done.value)


def some(task: Task, n: int = BATCH) -> Instances:
    return first(task.instances("test"), n)


@pytest.mark.parametrize("id", ids("task"))
def test_task_passes_its_checks(id, data):
    failed = [f"{found.name}: {found.detail}" for found in check(id) if found.ok is False]
    assert failed == []


def test_every_task_of_a_track_is_registered():
    for track in TRACKS.values():
        assert {track.new, track.pretraining.task, *track.prior_tasks} <= set(ids("task"))
        assert track.agent in ids("agent")
        assert set(track.demo) <= set(METHODS)


def test_same_seed_gives_the_same_episodes_and_another_seed_others(ready):
    instances = some(ready.new)
    one, two, other = (rollout(ready.base, ready.new, instances, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.reward, two.reward)
    assert np.array_equal(values(one), values(two))
    assert not np.array_equal(values(one), values(other))


def test_episode_does_not_depend_on_its_companions(ready):
    instances = some(ready.new)
    together = values(rollout(ready.base, ready.new, instances))
    order = np.random.default_rng(0).permutation(BATCH)
    assert np.array_equal(values(rollout(ready.base, ready.new, instances.take(order))), together[order])
    half = values(rollout(ready.base, ready.new, instances.take(np.arange(0, BATCH, 2))))
    assert np.array_equal(half, together[::2])


def test_instance_asked_twice_is_drawn_anew(ready):
    one = some(ready.new, 100)
    twice = rollout(ready.base, ready.new, one.take(np.repeat(np.arange(100), 8)))
    codes = values(twice).reshape(100, 8)
    assert (codes != codes[:, :1]).any()
    assert np.array_equal(codes[:, 0], values(rollout(ready.base, ready.new, one)))


def test_each_element_is_predicted_once_by_its_owner(ready):
    episodes = rollout(ready.base, ready.new, some(ready.new))
    count = torch.zeros(len(episodes))
    for part in ready.base.predict(episodes):
        count += part.per_episode(torch.ones_like(part.logp.detach()), len(episodes))
    assert count.tolist() == episodes.lengths().tolist()


def test_shared_forward_pass_of_a_group_predicts_as_apart(ready):
    instances = some(ready.new, 20)
    grouped = rollout(ready.base, ready.new, instances.take(np.repeat(np.arange(20), 4)))
    apart = grouped.take(np.arange(80).reshape(20, 4).T.ravel())  # no two neighbours of one instance
    ours = torch.cat([part.logp for part in ready.base.predict(grouped)])
    theirs = torch.cat([part.logp for part in ready.base.predict(apart)])
    torch.testing.assert_close(ours.view(20, 4).T.reshape(-1), theirs[:, 0], rtol=1e-4, atol=1e-5)


def test_sampler_and_trainer_agree_on_probabilities(ready):
    """Frequencies of what is sampled lie within 4 standard errors of what is predicted."""
    instances = some(ready.new, 50).take(np.repeat(np.arange(50), 400))
    episodes = rollout(ready.base, ready.new, instances)
    (part,) = ready.base.predict(episodes)
    assert isinstance(part.dist, Categorical)
    p = part.dist.probs[:, 0].double()  # [20000, 10]
    observed = torch.nn.functional.one_hot(part.code[:, 0], p.shape[-1]).double()
    error = (p * (1 - p)).sum(0).sqrt()
    assert ((observed - p).sum(0).abs() <= 4 * error + 1e-9).all()


def test_kl_to_itself_is_zero(ready, adapted):
    for policy in (ready.base, adapted):
        found = divergence(policy, policy, rollout(policy, ready.new, some(ready.new)))
        assert found.nats.abs().max() == 0


def test_exact_kl_agrees_with_the_sampled_log_ratio_and_has_less_variance(ready, adapted):
    for p, q in ((ready.base, adapted), (adapted, ready.base)):
        found = divergence(p, q, rollout(p, ready.new, some(ready.new, 4000)))
        exact, sampled = found.nats.double(), found.log_ratio.double()
        error = (sampled - exact).std() / len(exact) ** 0.5
        assert exact.mean() > 0
        assert abs(float((sampled - exact).mean())) < 4 * error
        assert exact.var() < sampled.var()


def test_score_function_has_mean_zero(ready):
    """E[∂ log π] = 0 along a random direction, by central differences of each episode's log-probability."""
    policy = ready.base.copy()
    episodes = rollout(ready.base, ready.new, some(ready.new, 4000))
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator) * p.detach().std() for p in policy.parameters()]

    def moved(step: float) -> torch.Tensor:
        with torch.no_grad():
            for p, start, way in zip(policy.parameters(), ready.base.parameters(), direction, strict=True):
                p.copy_(start + step * way)
            return torch.cat([part.per_episode(part.logp, len(episodes)) for part in policy.predict(episodes)]).double()

    score = (moved(1e-3) - moved(-1e-3)) / 2e-3
    assert score.std() > 0.01
    assert abs(float(score.mean())) < 4 * float(score.std()) / len(score) ** 0.5


def test_demonstrations_earn_their_stated_reward_and_can_be_trained_on(ready):
    train = first(ready.new.instances("train"), BATCH)
    for style in ready.new.styles:
        shown = encoded(ready.base, demonstrations(ready.new, train, style))
        again = rollout(Replay(shown), ready.new, train)
        assert np.array_equal(again.reward, shown.reward)
        assert (shown.reward == 1).all()
        assert all(part.logp.isfinite().all() for part in ready.base.predict(shown))


class Replay:
    """Does again what was done."""

    def __init__(self, episodes):
        self.turns = iter(episodes.turns)

    def act(self, asked, *, greedy=False):
        return next(self.turns).done


def test_oracle_is_always_right_and_the_nearest_of_those(ready):
    if not isinstance(ready.base, Enumerable):
        pytest.skip(f"{ready.track.agent} has no alphabet to project on")
    oracle, instances = Projection(ready.base, ready.new), some(ready.new, 1000)
    assert rollout(oracle, ready.new, instances).reward.mean() == 1.0
    # Where the base is right it keeps its odds: the ratio q*/π₀ is one number an instance, 1/π₀(right).
    episodes = rollout(oracle, ready.new, instances)
    (part,) = ready.base.predict(episodes)
    asked = Recorded()
    rollout(asked, ready.new, instances)
    assert isinstance(part.dist, Categorical)
    q, p = oracle.distribution(asked.last).probs[:, 0].double(), part.dist.probs[:, 0].detach().double()
    right = q > 0
    mass = torch.where(right, p, 0.0).sum(-1)
    torch.testing.assert_close(
        torch.where(right, q * mass[:, None], 0.0), torch.where(right, p, 0.0), atol=1e-6, rtol=1e-4
    )


class Recorded:
    """Remembers what it was asked; answers with zeros."""

    def act(self, asked, *, greedy=False):
        from harness.types import Actions

        self.last = asked
        return Actions(np.zeros(len(asked), np.int64))


def test_copy_trains_apart_and_keeps_its_base(ready, adapted):
    assert adapted.base() is ready.base
    moved = [not torch.equal(a, b) for a, b in zip(adapted.parameters(), ready.base.parameters(), strict=True)]
    assert all(moved)


def test_saved_weights_come_back_bit_for_bit(ready, adapted, tmp_path):
    adapted.save(tmp_path / "model.safetensors")
    back = ready.base.copy()
    back.load(tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), adapted.parameters(), strict=True))


def test_oracle_adaptation_resumes_bit_for_bit(ready, tmp_path):
    def made():
        settings = Settings(steps=6, batch=32, warmup=0)
        return Adaptation(ready.base.copy(), ready.new, METHODS["oracle-sft"], settings)

    if not isinstance(ready.base, Enumerable):
        pytest.skip(f"{ready.track.agent} has no alphabet to project on")
    whole, half, rest = made(), made(), made()
    list(whole)
    for report in half:
        if report.step == 3:
            break
    half.save(tmp_path)
    rest.load(tmp_path)
    list(rest)
    pairs = zip(whole.parameters, rest.parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_random_weights_score_near_chance_where_the_base_does_not(ready):
    """The base knows its prior tasks; the same network with random weights does not."""
    fresh = make("agent", ready.track.agent, seed=1)
    for id, task in ready.priors.items():
        known, unknown = (np.nanmean(evaluate(agent, task, items=1000).score) for agent in (ready.base, fresh))
        assert known > unknown + 0.2, id
