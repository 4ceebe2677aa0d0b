"""The adaptation loop: schedules, epochs, accumulation, and going on exactly where it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from razorbench import Refused
from razorbench.harness.learn.loop import Adaptation, learning_rate, total_steps
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.runs.run import Spec
from tests.toys import Spell, Table, table

SETTINGS = Settings(lr=0.05, warmup=2, batch=2, group=4, steps=7, iterations=2)


def adaptation(method: str, seed: int = 0, **changes) -> Adaptation:
    priors = [Spell(("b", "ab", "a", "a"))]
    settings = replace(SETTINGS, **changes)
    return Adaptation(table().copy(), Spell(), METHODS[method], settings, seed=seed, teacher=table(5), priors=priors)


def weights(made: Adaptation) -> torch.Tensor:
    assert isinstance(made.learner.policy, Table)
    return made.learner.policy.logits.detach().clone()


METHODS_OF_TEXT = sorted(set(METHODS) - {"oracle-sft"})  # the oracle needs an alphabet; test_contract has one


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS_OF_TEXT)
def test_resumed_adaptation_equals_the_uninterrupted_one_bit_for_bit(method, tmp_path: Path):
    whole = adaptation(method, kl=0.1, ewc=0.1, l2=0.1)
    list(whole)
    for stop in (1, 3, 5):  # two steps make an epoch: in the middle of one and at its end
        first = adaptation(method, kl=0.1, ewc=0.1, l2=0.1)
        for report in first:
            if report.step == stop:
                break
        first.save(tmp_path / str(stop))
        second = adaptation(method, kl=0.1, ewc=0.1, l2=0.1)
        assert second.load(tmp_path / str(stop))
        assert [report.step for report in second] == list(range(stop + 1, 8))
        assert torch.equal(weights(second), weights(whole))


@pytest.mark.parametrize("method", ["grpo", "dr-grpo", "reinforce", "reinforce-per-turn"])
def test_group_of_one_has_nobody_to_compare_with_and_is_refused(method):
    with pytest.raises(Refused, match="no other answer to compare with"):
        adaptation(method, group=1)
    adaptation("1-0-reinforce", group=1)


def test_warm_up_that_never_reaches_its_rate_is_refused():
    with pytest.raises(Refused, match="warm-up of 8 steps never reaches its learning rate in 7"):
        adaptation("sft", warmup=8)
    assert [report.lr for report in adaptation("sft", warmup=7)][-1] == SETTINGS.lr


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0, "steps": 0}, "are no adaptation"),
        ({"max_grad_norm": 0}, "makes every gradient 0"),
        ({"gamma": 1.1}, "give one of 0 to 1"),
    ],
)
def test_settings_by_which_nothing_is_learned_are_refused(changes, sentence):
    with pytest.raises(Refused, match=sentence):
        replace(SETTINGS, **changes)


@pytest.mark.parametrize(
    ("method", "changes", "sentence"),
    [
        ("sft", {"group": 4}, "sft does not read group, so it does nothing here; leave it out"),
        ("sft", {"group": 4, "margin": 2.0}, "sft does not read group, margin, so they do nothing"),
        ("reinforce", {"style": "zero-four"}, "does not read style"),
        ("reinforce", {"horizon": 9}, "does not read horizon"),
        ("grpo", {"teacher": "x"}, "does not read teacher"),
        ("reinforce", {"gamma": 0.9}, "does not read gamma"),
        ("iterative-sft", {"importance_cap": 2.0}, "does not read importance_cap"),
        ("grpo", {"clip": 0.1}, "clip does nothing to the first update"),
        ("sft", {"steps": 5, "epochs": 2.0}, "epochs count only where steps is 0, not 5"),
        ("sft", {"lr": 0.0}, "a learning rate of 0 gives the base back"),
    ],
)
def test_settings_that_do_nothing_for_a_method_are_refused(method, changes, sentence):
    with pytest.raises(Refused, match=sentence):
        Spec(method, Settings(**changes)).check(Settings())


def test_settings_that_do_something_pass():
    for method, changes in (
        ("sft", {"style": "zero-four", "batch": 4, "steps": 5}),
        ("grpo", {"group": 4, "clip": 0.1, "iterations": 2}),
        ("dr-grpo", {"horizon": 9, "kl": 0.1}),
        ("reinforce", {"group": 4, "importance_cap": 2.0}),
        ("reinforce-per-turn", {"group": 4, "gamma": 0.9, "importance_cap": 2.0}),
        ("simpo", {"margin": 2.0, "style": "zero-four", "group": 2}),
        ("eaft", {"top_k": 5, "style": "zero-four"}),
        ("distil", {"teacher": "x", "group": 2}),
    ):
        Spec(method, Settings(**changes)).check(Settings())


def test_saving_keeps_the_newest_state_alone(tmp_path: Path):
    made = adaptation("sft")
    for report in made:
        if report.step in (2, 4):
            made.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000004"]


def test_half_written_state_is_not_gone_on_from(tmp_path: Path):
    (tmp_path / ".state-00000009.123").mkdir()
    assert adaptation("sft").load(tmp_path) is False


@pytest.mark.parametrize("method", METHODS_OF_TEXT)
def test_same_seed_gives_the_same_weights_and_another_seed_others(method):
    first, again, other = adaptation(method), adaptation(method), adaptation(method, seed=1)
    for made in (first, again, other):
        list(made)
    assert torch.equal(weights(first), weights(again))
    if METHODS[method].source is not METHODS["sft"].source:  # one style, full batches: SFT has nothing random here
        assert not torch.equal(weights(first), weights(other))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "self-sft", "reinforce", "1-0-reinforce", "grpo", "dr-grpo"])
def test_method_learns_to_spell(method):
    made = adaptation(method, lr=0.1, steps=60, batch=4, group=16)
    task, policy = Spell(), made.learner.policy
    before = sum(float(part.logp.detach().exp().prod(-1).sum()) for part in policy.predict(spelt(policy, task)))
    list(made)
    after = sum(float(part.logp.detach().exp().prod(-1).sum()) for part in policy.predict(spelt(policy, task)))
    assert before < 1.5
    assert after > 3


def spelt(policy, task):
    """The right words as coded episodes."""
    from razorbench.harness.core.rollout import demonstrations
    from razorbench.harness.learn.policy import encoded

    return encoded(policy, demonstrations(task, task.instances("train")))


def test_each_epoch_shows_every_instance_once_in_an_order_of_its_own():
    words = tuple("abc"[i % 3] for i in range(30))
    made = Adaptation(table(words=words).copy(), Spell(words), METHODS["sft"], replace(SETTINGS, batch=10, steps=6))
    seen = []
    while made.step < made.steps:
        seen.append(made.prompts())
        made.advance()
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert sorted(first) == sorted(second) == list(range(30))
    assert not np.array_equal(first, second)


def test_epochs_count_full_batches_and_steps_override_them():
    assert total_steps(Settings(batch=128, epochs=1), 59_500) == 464
    assert total_steps(Settings(batch=128, epochs=2), 59_500) == 928
    assert total_steps(Settings(batch=128, steps=5), 59_500) == 5
    assert total_steps(Settings(batch=128, epochs=1), 100) == 1


def test_constant_schedule_warms_up_linearly_and_stays():
    settings = Settings(lr=1.0, warmup=4)
    assert [learning_rate(settings, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_schedule_falls_to_half_in_the_middle_and_to_nothing_after_the_end():
    settings = Settings(lr=1.0, warmup=2, schedule="cosine")
    assert learning_rate(settings, 2, 12) == 1.0
    assert learning_rate(settings, 7, 12) == pytest.approx(0.5)
    assert learning_rate(settings, 12, 12) == pytest.approx(0.0)


def test_gradient_is_clipped_to_its_norm():
    made = adaptation("sft", max_grad_norm=1e-3)
    report = made.advance()
    policy = made.learner.policy
    assert isinstance(policy, Table)
    assert policy.logits.grad is not None
    assert report.grad_norm > 1e-2
    assert float(policy.logits.grad.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_unscored_episodes_do_not_stop_the_adaptation():
    class Broken(Spell):
        def play(self, instances):
            outcomes = yield from super().play(instances)
            outcomes.reward[::2] = np.nan
            return outcomes

    made = Adaptation(table().copy(), Broken(), METHODS["grpo"], SETTINGS)
    reports = list(made)
    assert weights(made).isfinite().all()
    assert all(np.isfinite(report.reward) for report in reports)


def test_base_stays_as_it_was():
    base = table()
    before = base.logits.detach().clone()
    list(Adaptation(base.copy(), Spell(), METHODS["reinforce"], replace(SETTINGS, kl=0.1)))
    assert torch.equal(base.logits, before)
