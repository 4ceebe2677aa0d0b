"""What everything registered must hold: every task, every agent on every track it is the base of."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Categorical

from razorbench import Episodes, Instances
from razorbench.harness.cli.check.tasks import first_difference
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.core.registry import ids, known, make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.elements import Elements
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.oracle import Projection
from razorbench.harness.learn.policy import Enumerable, Policy, encoded, log_probabilities
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.drift import divergence
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.measure.score import Bench
from razorbench.harness.tracks.catalogue import FRESH, TRACKS, find_track
from razorbench.submissions.queue import locked
from tests.conftest import needs_assets
from tests.toys import REACHING, SPELLING


@dataclass(frozen=True)
class Budget:
    """How much a test asks of an agent, so that each takes seconds."""

    batch: int
    """Episodes, where every one is looked at."""
    many: int
    """Episodes, where a mean is tested."""
    prompts: int
    """Instances a step of adaptation."""
    steps: int
    lr: float
    items: int = 1000
    """Test instances of each task that are scored."""
    shown: int = 50
    """Demonstrations of each style."""
    right: float = 1.0
    """Share of demonstrations that earn the reward: physics may defeat an expert now and then."""


BUDGETS = {
    "speller-v1": Budget(batch=60, many=1000, prompts=20, steps=5, lr=3e-2),
    "mlp-785-v1": Budget(batch=300, many=4000, prompts=64, steps=10, lr=1e-4),
    "mini-lm-v1": Budget(batch=32, many=128, prompts=8, steps=3, lr=1e-3, items=32),
    "tiny-openvla-v1": Budget(batch=8, many=48, prompts=4, steps=2, lr=1e-3, items=40, shown=12),
    "mini-robot-v1": Budget(batch=5, many=32, prompts=4, steps=2, lr=1e-3, items=16, shown=12, right=0.9),
}

FETCH = [id for id in ids("task") if id.startswith("fetch-")]
GOOGLE = [id for id in ids("task") if id.startswith("google-")]
UPRIGHT = "google-coke-can-upright-sapien3-v1"
"""A robot whose motions take 40 ms each: one of its tasks is checked; tests/test_google.py has each of them play."""
CHECKED = {"mini-pretraining-v1": 64, UPRIGHT: 2, **{id: 2 if id.endswith("-last-v1") else 3 for id in FETCH}}
"""Episodes with which a slow task is checked; tests/test_fetch.py has each expert of the robot play twelve."""


MORE_THAN_A_SECOND = (
    *("countdown-3-v1", "countdown-4-v1", "mini-science-v1", "fashion-mnist-v1"),
    *(id for id in ids("task") if id.startswith("tabletop-")),
)
"""Tasks that are checked in more than a second."""


@pytest.fixture(
    scope="module",
    params=[
        id if id in (SPELLING.id, "parity-mnist-v1") else pytest.param(id, marks=pytest.mark.slow)
        for id in sorted({*(track.id for track in FRESH), SPELLING.id, REACHING.id})
    ],
)
def ready(request: pytest.FixtureRequest, shared_home) -> Bench:
    """A track made ready, and two of toys beside the real ones; none whose base is downloaded."""
    request.getfixturevalue("toys" if request.param in (SPELLING.id, REACHING.id) else "data")
    shared_home.mkdir(exist_ok=True)
    with locked(shared_home):  # or two processes of the run would make the base
        return Bench(find_track(request.param), shared_home)


@pytest.fixture(scope="module")
def budget(ready: Bench) -> Budget:
    return BUDGETS[ready.track.base.agent]


@pytest.fixture(scope="module")
def adapted(ready: Bench, budget: Budget) -> Policy:
    """The base after some steps of SFT, which move it whatever it knows."""
    policy = ready.base.copy()
    settings = Settings(lr=budget.lr, steps=budget.steps, warmup=0, batch=budget.prompts)
    list(Adaptation(policy, ready.new, METHODS["sft"], settings))
    return policy


@pytest.fixture(scope="module")
def drawn(ready: Bench, budget: Budget) -> Episodes:
    """Many episodes that the base sampled."""
    return rollout(ready.base, ready.new, ready.new.instances("test").first(budget.many))


@pytest.fixture
def some(ready: Bench, budget: Budget) -> Instances:
    """Test instances of the new task."""
    return ready.new.instances("test").first(budget.batch)


def differ(one: Episodes, other: Episodes) -> str | None:
    """How two batches of the same instances differ first in what was seen, done and earned, or None."""
    return first_difference(list(one), list(other))


@pytest.mark.parametrize(
    "id",
    [
        pytest.param(id, marks=pytest.mark.slow) if id in (*CHECKED, *MORE_THAN_A_SECOND) else id
        for id in ids("task")
        if id not in GOOGLE
    ]
    + [pytest.param(UPRIGHT, marks=[pytest.mark.long, needs_assets])],
)
def test_task_passes_its_checks(id, data):
    checks = check(id, episodes=CHECKED.get(id, 256))
    assert [f"{finding.name}: {finding.detail}" for finding in checks if finding.ok is False] == []


def test_every_task_of_a_track_is_registered():
    for track in TRACKS.values():
        assert all(known("task", id) for id in (track.new, *track.prior_tasks))
        assert not track.base.task or known("task", track.base.task)
        assert track.base.agent in ids("agent")
        assert {name.partition(":")[0] for name in track.demo} <= set(METHODS)


def test_same_seed_gives_the_same_episodes_and_another_seed_others(ready, some):
    one, two, other = (rollout(ready.base, ready.new, some, seed=seed) for seed in (3, 3, 4))
    assert differ(one, two) is None
    assert differ(one, other)


def test_episode_does_not_depend_on_its_companions(ready, some):
    together = rollout(ready.base, ready.new, some)
    for index in (np.random.default_rng(0).permutation(len(some)), np.arange(0, len(some), 2)):
        assert differ(rollout(ready.base, ready.new, some.take(index)), together.take(index)) is None


def test_instance_asked_twice_is_drawn_anew(ready, some):
    twice = rollout(ready.base, ready.new, some.take(np.repeat(np.arange(len(some)), 2)))
    assert differ(twice.take(np.arange(len(twice))[::2]), rollout(ready.base, ready.new, some)) is None
    assert differ(twice.take(np.arange(len(twice))[::2]), twice.take(np.arange(len(twice))[1::2]))


def test_each_element_is_predicted_once_by_its_owner(ready, some):
    episodes = rollout(ready.base, ready.new, some)
    count = torch.zeros(len(episodes))
    for part in ready.base.predict(episodes):
        count += part.per_episode(torch.ones_like(part.logp.detach()), len(episodes)).cpu()
    assert count.tolist() == episodes.lengths().tolist()


def test_elements_are_predicted_in_the_order_in_which_they_were_chosen(ready, some):
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(some)), 2))
    episodes = rollout(ready.base, ready.new, some.take(order))
    elements = Elements(episodes)
    with torch.no_grad():
        for part in ready.base.predict(episodes):
            told = elements.logp[elements.places(part)].float()
            torch.testing.assert_close(part.masked(told.to(part.logp)), part.logp, rtol=1e-3, atol=1e-3)


def test_shared_forward_pass_of_a_group_predicts_as_apart(ready, some):
    n = min(20, len(some))
    grouped = rollout(ready.base, ready.new, some.take(np.repeat(np.arange(n), 4)))
    order = np.arange(4 * n).reshape(n, 4).T.ravel()  # no two neighbours of one instance
    ours, theirs = (log_probabilities(ready.base, episodes).cpu() for episodes in (grouped, grouped.take(order)))
    torch.testing.assert_close(ours[order], theirs, rtol=1e-4, atol=1e-5)


def test_sampler_and_trainer_agree_on_probabilities(ready, drawn):
    """Within 4 standard errors: what is sampled is as probable as is predicted, and lies evenly in its distribution."""
    surprise, place = torch.zeros(len(drawn), dtype=torch.float64), []
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in ready.base.predict(drawn):
            logp = part.dist.logits.double().cpu()  # [N, T, A]
            code, mask, owner = (
                part.code.cpu()[..., None],
                part.masked(torch.ones_like(part.logp)).cpu() > 0,
                part.owner,
            )
            expected = (logp.exp() * logp).sum(-1)
            surprise.index_add_(0, owner.cpu(), ((logp.gather(-1, code)[..., 0] - expected) * mask).sum(-1))
            above, own = logp.exp().cumsum(-1).gather(-1, code), logp.exp().gather(-1, code)
            within = above - own * torch.rand(own.shape, generator=generator)  # uniform, if that is what was drawn from
            place.append(within[..., 0][mask])
    assert abs(float(surprise.mean())) <= 4 * float(surprise.std()) / len(surprise) ** 0.5
    assert kstest(torch.cat(place).numpy(), "uniform").pvalue > 6e-5  # 4 standard errors


def test_kl_to_itself_is_zero(ready, adapted, some):
    for policy in (ready.base, adapted):
        drift = divergence(policy, policy, rollout(policy, ready.new, some))
        assert drift.nats.abs().max() == 0


def test_exact_kl_agrees_with_the_sampled_log_ratio_and_has_less_variance(ready, adapted, drawn):
    for p, q, episodes in (
        (ready.base, adapted, drawn),
        (adapted, ready.base, rollout(adapted, ready.new, drawn.instances)),
    ):
        drift = divergence(p, q, episodes)
        exact, sampled = drift.nats.double(), drift.log_ratio.double()
        error = (sampled - exact).std() / len(exact) ** 0.5
        assert exact.mean() > 0
        assert abs(float((sampled - exact).mean())) < 4 * error
        if episodes.lengths().max() == 1:  # else the path is sampled, and may vary as much as what is summed along it
            assert exact.var() < sampled.var()


def test_score_function_has_mean_zero(ready, drawn):
    """E[∂ log π] = 0 along a random direction, by central differences of each episode's log-probability."""
    policy = ready.base.copy()
    generator = torch.Generator().manual_seed(0)
    direction = [
        torch.randn(p.shape, generator=generator) * p.detach().square().mean().sqrt() for p in policy.parameters()
    ]

    def moved(step: float) -> torch.Tensor:
        with torch.no_grad():
            for p, start, way in zip(policy.parameters(), ready.base.parameters(), direction, strict=True):
                p.copy_(start + step * way)
        return log_probabilities(policy, drawn).double().cpu()

    score = (moved(1e-3) - moved(-1e-3)) / 2e-3
    assert score.std() > 0.01
    assert abs(float(score.mean())) < 4 * float(score.std()) / len(score) ** 0.5


def test_demonstrations_earn_their_stated_reward_and_can_be_trained_on(ready, budget):
    train = ready.new.instances("train").first(max(budget.shown, budget.batch))
    for style in ready.new.styles:
        shown = encoded(ready.base, demonstrations(ready.new, train, style))
        again = rollout(Replay(shown), ready.new, train)
        assert np.array_equal(again.reward, shown.reward)
        assert (shown.reward == 1).mean() >= budget.right, style
        assert log_probabilities(ready.base, shown.take(np.arange(budget.batch))).isfinite().all()


class Replay:
    """Does again what was done."""

    def __init__(self, episodes):
        self.turns = iter(episodes.turns)

    def act(self, asked, *, temperature=1.0):
        return next(self.turns).done


def test_oracle_is_always_right_and_the_nearest_of_those(ready, budget):
    if not isinstance(ready.base, Enumerable):
        pytest.skip(f"{ready.track.base.agent} has no alphabet to project on")
    oracle, instances = Projection(ready.base, ready.new), ready.new.instances("test").first(budget.items)
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

    def act(self, asked, *, temperature=1.0):
        from razorbench import Actions

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


def test_adaptation_resumes_bit_for_bit(ready, budget, tmp_path):
    method = "oracle-sft" if isinstance(ready.base, Enumerable) else "reinforce"

    def made():
        settings = Settings(steps=4, batch=budget.prompts // 2, warmup=0, group=2)
        return Adaptation(ready.base.copy(), ready.new, METHODS[method], settings)

    whole, half, rest = made(), made(), made()
    list(whole)
    for report in half:
        if report.step == 2:
            break
    half.save(tmp_path)
    rest.load(tmp_path)
    list(rest)
    pairs = zip(whole.parameters, rest.parameters, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_random_weights_score_near_chance_where_the_base_does_not(ready, budget):
    """The base knows its prior tasks; the same network with random weights does not."""
    fresh = make("agent", ready.track.base.agent, seed=1)
    for id, task in ready.priors.items():
        known, unknown = (np.nanmean(evaluate(agent, task, items=budget.items).score) for agent in (ready.base, fresh))
        assert known > unknown + 0.2, id
