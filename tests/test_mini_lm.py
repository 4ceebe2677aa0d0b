"""The small language model that is shipped: its files, what it knows, and that its recipe goes on where it was."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import tokenizer
from razorbench import Refused
from razorbench.agents.language.mini_lm import FOLDER, mini_lm
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES, TRACKS

NEW = ("mini-math-v1", "mini-science-v1", "mini-tools-v1")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_policy(BASES["mini-lm-v1"], tmp_path_factory.mktemp("home"))


def shares(policy, id: str, items: int) -> tuple[float, float]:
    """The share of right and of well-formed replies."""
    task = make("task", id)
    played = rollout(policy, task, task.instances("test").first(items), temperature=0.0)
    assert played.outcome is not None
    return float(np.mean(played.reward)), float(np.mean(played.outcome.metrics["well_formed"]))


@pytest.mark.slow
def test_the_tokenizer_is_made_from_the_corpus_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tokenizer", "--out", str(tmp_path)])
    tokenizer.main()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((FOLDER / name).read_text())


def test_what_is_shipped_is_small_and_opens_with_transformers(base):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8_000_000
    model, words = AutoModelForCausalLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)
    assert type(words).__name__ == "Qwen2Tokenizer"
    ids = torch.tensor([words.encode("Ada has 7 pens.")])
    torch.testing.assert_close(model(ids).logits, base.model(ids).logits)


@pytest.mark.slow
def test_the_base_has_its_skills_and_misreads_the_new_tasks(base):
    """Seven skills at 85 % or more and 92 % on average; new tasks at 15–60 %, all of them well-formed."""
    skills = [shares(base, skill, 200)[0] for skill in TRACKS["mini-math-v1"].prior_tasks]
    assert min(skills) >= 0.85
    assert np.mean(skills) >= 0.92
    for id in NEW:
        right, well_formed = shares(base, id, 200)
        assert 0.15 <= right <= 0.60
        assert well_formed >= 0.95


@pytest.mark.slow
def test_the_base_says_the_right_reply_now_and_then_where_it_is_mistaken(base):
    task = make("task", "mini-science-v1")
    asked = task.instances("test").first(100)
    wrong = asked.take(np.flatnonzero(rollout(base, task, asked, temperature=0.0).reward == 0))
    drawn = rollout(base, task, wrong.take(np.repeat(np.arange(len(wrong)), 8)))
    assert 0.1 < drawn.reward.mean() < 0.5


@pytest.mark.slow
def test_pretraining_goes_on_bit_for_bit(tmp_path):
    def made() -> Adaptation:
        settings = Settings(lr=2e-3, optimizer="muon", steps=4, batch=8, warmup=0)
        return Adaptation(mini_lm(), make("task", BASES["mini-lm-v1"].task), METHODS["sft"], settings)

    whole, half, rest = made(), made(), made()
    list(whole)
    for report in half:
        if report.step == 2:
            break
    half.save(tmp_path)
    rest.load(tmp_path)
    list(rest)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, rest.parameters, strict=True))


def test_muon_trains_the_projections_and_adamw_the_rest(base):
    adaptation = Adaptation(
        base.copy(), make("task", NEW[0]), METHODS["sft"], Settings(optimizer="muon", steps=1, warmup=0)
    )
    muon, adamw = adaptation.optimizers
    assert (type(muon).__name__, type(adamw).__name__) == ("Muon", "AdamW")
    shapes = [tuple(p.shape) for group in adamw.param_groups for p in group["params"]]
    assert (1024, 128) in shapes  # the embedding
    trained = {id(p) for o in (muon, adamw) for group in o.param_groups for p in group["params"]}
    assert trained == {id(p) for p in adaptation.parameters}


def test_muon_is_refused_for_a_policy_that_names_no_matrices(toys):
    from tests.toys import Spell, table

    with pytest.raises(Refused, match="names none; use adamw"):
        Adaptation(table(), Spell(), METHODS["sft"], Settings(optimizer="muon", steps=1, warmup=0))


def test_only_the_first_examples_are_trained_on(base):
    task = make("task", NEW[0])
    adaptation = Adaptation(base.copy(), task, METHODS["sft"], Settings(examples=4, steps=3, batch=2, warmup=0))
    assert set(adaptation.learner.instances.id) == set(task.instances("train").first(4).id)
    assert adaptation.steps_per_epoch == 2


def test_what_is_never_asked_is_not_demonstrated(base):
    adaptation = Adaptation(base.copy(), make("task", NEW[0]), METHODS["sft"], Settings(steps=1, batch=3, warmup=0))
    assert len(adaptation.learner.instances) == 3


@pytest.mark.slow
def test_reinforcement_raises_the_reward_in_some_steps(base):
    """A smoke test of learning; the study has the figures. The first step's episodes are those of the base."""
    settings = Settings(lr=6e-4, warmup=1, steps=10, batch=12, group=8, horizon=96, examples=96)
    reports = list(Adaptation(base.copy(), make("task", "mini-science-v1"), METHODS["dr-grpo"], settings))
    rewards = [report.reward for report in reports]
    assert np.mean(rewards[-4:]) > rewards[0] + 0.1
