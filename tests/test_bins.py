"""The robot's policy: what it samples is what it is trained on, and its weights go out and come back."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.distributions import kl_divergence

from razorbench import Actions, Episodes, Observations, Refused, Turn
from razorbench.agents.bins import (
    BINS,
    BODIES,
    CENTRES,
    ROWS,
    GoogleRobot,
    MiniLibero,
    MiniPanda,
    MiniRobot,
    axes,
    bumps,
    inputs,
    words,
)
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import Policy, encoded, log_probabilities
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.drift import divergence
from razorbench.tasks.fetch.tasks import KINDS

BODY = BODIES["mini-robot-v1"]


@pytest.fixture(scope="module")
def task():
    return make("task", "fetch-reach-v1")


@pytest.fixture(scope="module")
def policy(task):
    """A policy of random weights that some steps of SFT have made less even."""
    policy = MiniRobot(3)
    list(Adaptation(policy, task, METHODS["sft"], Settings(lr=3e-3, warmup=0, batch=2, steps=4)))
    return policy


@pytest.fixture(scope="module")
def episodes(policy, task) -> Episodes:
    return rollout(policy, task, task.instances("test").first(3), seed=1)


def test_is_a_policy_of_less_than_three_megabytes(policy, tmp_path):
    assert isinstance(policy, Policy)
    policy.save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 3e6


def test_bins_cut_the_range_evenly_and_come_back_to_their_own_centre():
    assert CENTRES[0] == pytest.approx(-1 + 1 / 256)
    every = torch.arange(BINS)[:, None].repeat(1, 4)
    assert torch.equal(MiniRobot().encode(CENTRES[every].numpy()), every)
    said = np.array([[-1.0, 1.0, 0.0, -7.0], [1.5, -0.001, 0.5, 0.999]], np.float32)
    assert MiniRobot().encode(said).tolist() == [[0, 255, 128, 0], [255, 127, 192, 255]]


def test_what_lies_about_zero_is_nothing_for_a_robot_that_rests():
    """LIBERO's arm holds how its hand is turned only where it is told exactly nothing."""
    code = torch.tensor([[126, 127, 128, 129, 0, 255, 128]])
    outer = 1 - 1 / 256
    assert MiniLibero().decode(code)[0].tolist() == [-1.5 / 128, 0, 0, 1.5 / 128, -outer, outer, 0]
    assert (MiniPanda().decode(code)[0, 1:3] * 256).tolist() == [-1, 1]
    assert MiniLibero().encode(np.zeros((1, 7))).tolist() == [[128] * 7]


def test_every_word_of_the_instructions_is_heard_and_they_differ():
    texts = [kind.text for kind in KINDS.values()]
    assert {word for text in texts for word in text.split()} == set(BODY.words)
    assert len(np.unique(words(BODY, texts, 5), axis=0)) == 5
    assert np.array_equal(words(BODY, "lift the block", 2), words(BODY, ["Lift the block!", "lift the block"], 2))


def test_bumps_of_each_scale_sum_to_one_everywhere():
    assert torch.allclose(bumps()[:8].sum(0), torch.ones(BINS))
    assert torch.allclose(bumps()[-64:].sum(0), torch.ones(BINS))


def test_what_is_learned_of_a_bin_holds_for_its_neighbours(task):
    policy = MiniRobot()
    shown = demonstrations(task, task.instances("test").first(1))
    turn = shown.turns[0]
    one = Episodes(shown.instances, [Turn(turn.rows, turn.seen, Actions(CENTRES[None, [100] * 4].numpy()))])
    optimizer = torch.optim.SGD(policy.parameters(), 1.0)
    before = logits_of(policy, one)
    log_likelihood = sum(part.logp.sum() for part in policy.predict(encoded(policy, one)))
    assert isinstance(log_likelihood, torch.Tensor)
    (-log_likelihood).backward()
    optimizer.step()
    after = logits_of(policy, one)
    gained = after - before
    assert gained[100] > 0.5 * gained.max() > 0
    assert gained[[98, 102]].min() > 0.8 * gained[100]
    assert gained[[20, 200]].max() < 0.2 * gained[100]


def logits_of(policy, episodes) -> torch.Tensor:
    """Log-probabilities [256] of the first element of the first row."""
    (part,) = policy.predict(encoded(policy, episodes))
    return part.dist.logits.detach()[0, 0]


def test_sampler_and_trainer_give_the_same_log_probabilities(policy, episodes):
    """Each element alone, as `act` computes it, against all at once, as `predict` does."""
    together = log_probabilities(policy, episodes)
    alone = torch.zeros(len(episodes))
    with torch.no_grad():
        for turn in episodes.turns:
            for at, i in enumerate(turn.rows):
                code = turn.done.code[at : at + 1]
                hidden = policy.net.trunk(inputs(BODY, turn.seen.take(np.array([at]))))
                for k in range(len(BODY.reach)):
                    logits = policy.net.element(k, hidden, code[:, :k])
                    alone[i] += logits.log_softmax(-1)[0, code[0, k]]
    assert (together - alone).abs().max() / len(episodes.turns) < 1e-5


def test_values_are_the_centres_of_the_codes(policy, episodes):
    for turn in episodes.turns:
        assert turn.done.value.dtype == np.float32
        assert np.array_equal(turn.done.value, CENTRES[turn.done.code].numpy())
        assert torch.equal(policy.encode(turn.done.value), turn.done.code)


def test_each_element_is_predicted_once_by_its_owner_and_parts_stay_small(policy, episodes):
    many = episodes.take(np.tile(np.arange(len(episodes)), 60))
    count, parts = torch.zeros(len(many)), list(policy.predict(many))
    for part in parts:
        assert len(part.owner) <= ROWS
        count += part.per_episode(torch.ones_like(part.logp.detach()), len(many))
    assert count.tolist() == many.lengths().tolist()
    assert len(parts) > 1
    again = MiniRobot(9).predict(many)
    assert all(torch.equal(a.owner, b.owner) for a, b in zip(parts, again, strict=True))


def test_greedy_takes_the_most_probable_bin_of_each_element(policy, task):
    some = task.instances("test").first(2)
    greedy = rollout(policy, task, some, temperature=0.0)
    for part in policy.predict(greedy):
        assert torch.equal(part.dist.logits.argmax(-1), part.code)


def test_later_elements_depend_on_earlier_ones(policy, episodes):
    (part,) = policy.predict(episodes)
    turns = [Turn(t.rows, t.seen, Actions(t.done.value, (t.done.code + 128) % BINS)) for t in episodes.turns]
    (other,) = policy.predict(Episodes(episodes.instances, turns))
    moved = kl_divergence(part.dist, other.dist).mean(0)
    assert moved[0] == 0
    assert (moved[1:] > 0).all()


def test_kl_to_itself_is_zero(policy, episodes):
    assert divergence(policy, policy, episodes).nats.abs().max() == 0


def test_copy_trains_apart_and_keeps_its_base(policy, task):
    twin = policy.copy()
    list(Adaptation(twin, task, METHODS["sft"], Settings(lr=1e-3, warmup=0, batch=2, steps=1)))
    assert twin.base() is policy
    assert twin.copy().base() is policy
    assert not any(torch.equal(a, b) for a, b in zip(twin.parameters(), policy.parameters(), strict=True))


def test_weights_come_back_bit_for_bit(policy, tmp_path):
    policy.save(tmp_path / "model.safetensors")
    back = MiniRobot(5)
    back.load(tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), policy.parameters(), strict=True))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda weights: {"trunk.0.weight": torch.zeros(2, 2)}, "bring weights of that network"),
        (lambda weights: {name: tensor * torch.nan for name, tensor in weights.items()}, "not finite"),
    ],
)
def test_refuses_what_are_not_its_weights(policy, tmp_path, spoil, says):
    save_file(spoil(policy.net.state_dict()), tmp_path / "other.safetensors")
    with pytest.raises(Refused, match=says):
        MiniRobot().load(tmp_path / "other.safetensors")


def test_refuses_a_torn_file(tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(b"half a file")
    with pytest.raises(Refused, match="not a readable safetensors file"):
        MiniRobot().load(tmp_path / "torn.safetensors")


def test_adaptation_resumes_bit_for_bit(policy, task, tmp_path):
    def made():
        return Adaptation(policy.copy(), task, METHODS["reinforce"], Settings(steps=2, batch=2, warmup=0, group=2))

    whole, half, rest = made(), made(), made()
    list(whole)
    half.advance()
    half.save(tmp_path)
    rest.load(tmp_path)
    list(rest)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, rest.parameters, strict=True))


def test_a_body_says_what_is_seen_and_how_far_a_motion_reaches():
    """The google robot's: seven numbers, of which each has a range of its own; a new body is no new policy."""
    body, policy = BODIES["google-robot-v1"], GoogleRobot(1)
    n, widths = 3, {"arm": 7, "speed": 9, "fingers": 2, "hand": 7, "thing": 7, "opened": 1}
    state = {name: np.full((n, width), 0.5, np.float32) for name, width in widths.items()}
    seen = Observations(["pick coke can", "open top drawer", "close bottom drawer"], state=state)
    assert inputs(body, seen).shape == (n, body.inputs + len(body.words))
    assert policy.net(inputs(body, seen), torch.zeros(n, 7, dtype=torch.int64)).shape == (n, 7, BINS)
    said = np.array([[0.12, -0.12, 0.0, 0.3, -0.3, 5.0, 1.0]], np.float32)
    assert policy.encode(said).tolist() == [[255, 0, 128, 255, 0, 255, 255]]
    assert len({tuple(row) for row in words(body, seen.text, n).tolist()}) == n


def test_rotations_are_those_of_the_quaternions():
    quarter = np.sqrt(0.5)
    pose = np.array([[0, 0, 0, 1, 0, 0, 0], [0, 0, 0, quarter, 0, 0, quarter]])
    assert np.allclose(axes(pose)[0], np.eye(3))
    assert np.allclose(axes(pose)[1], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
