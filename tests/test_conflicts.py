"""Confident conflicts: entropies and shares by enumeration, thresholds that demonstrations set, the command."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Categorical

from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core.registry import make
from razorbench.harness.measure.conflicts import (
    ENTROPY,
    PROBABILITY,
    Landscape,
    Thresholds,
    cells,
    counted,
    landscape,
    landscapes,
    sampled,
    shown,
)
from razorbench.harness.report.plots import conflicts_figure
from tests.test_causal_lm import Chatter
from tests.toys import Spell, table

WORDS = ("a", "bb", "ab", "b")


@pytest.fixture(scope="module")
def spelt() -> Landscape:
    policy, task = table(seed=3), Spell()
    return landscape(policy, shown(policy, task, task.instances("train"), "right"), "demonstrations")


def hand(probability: list[float], entropy: list[float], episode: list[int]) -> Landscape:
    return Landscape("by hand", *map(np.array, (probability, entropy, episode)))


def test_probability_and_entropy_are_those_of_each_letter(spelt):
    rows = table(seed=3).logits.detach().double().softmax(-1).tolist()
    letters = [(word, at, "abcd".index(letter)) for word, text in enumerate(WORDS) for at, letter in enumerate(text)]
    assert spelt.episode.tolist() == [word for word, _, _ in letters]
    assert spelt.probability == pytest.approx([rows[word][at][letter] for word, at, letter in letters], abs=1e-6)
    by_hand = [-sum(p * math.log(p) for p in rows[word][at]) for word, at, _ in letters]
    assert spelt.entropy == pytest.approx(by_hand, abs=1e-6)


def test_entropy_of_tokens_is_exact_over_the_vocabulary():
    policy, task = mini_lm(seed=1, limit=8), Chatter()
    instances = task.instances("train").first(5)
    data = list(sampled(policy, task, instances))
    seen = landscape(policy, iter(data), "rollouts")
    with torch.no_grad():
        logits = [part.dist.logits[:, 0] for some in data for part in policy.predict(some)]  # type: ignore[attr-defined]
    assert seen.entropy == pytest.approx(Categorical(logits=torch.cat(logits)).entropy().numpy(), rel=1e-5)
    assert len(seen.entropy) == sum(some.lengths().sum() for some in data)
    assert np.unique(seen.episode).tolist() == list(range(len(instances)))


def test_batches_change_nothing(spelt, monkeypatch):
    monkeypatch.setattr("razorbench.harness.measure.conflicts.SOME", 1)
    policy, task = table(seed=3), Spell()
    for data in (shown(policy, task, task.instances("train"), "right"), sampled(policy, task, task.instances("train"))):
        alone = landscape(policy, data, "alone")
        assert alone.episode.tolist() == spelt.episode.tolist()
    alone = landscape(policy, shown(policy, task, task.instances("train"), "right"), "alone")
    assert alone.probability.tolist() == spelt.probability.tolist()


def test_a_conflict_is_unlikely_where_the_policy_is_sure():
    seen = hand([0.001, 0.001, 0.9, 0.9, 0.4], [0.01, 2.0, 0.01, 0.5, 1.0], [0, 0, 1, 1, 2])
    told = counted(seen, Thresholds(0.01, 0.1))
    assert (told.unlikely, told.sure, told.share) == (2 / 5, 2 / 5, 1 / 5)
    assert (told.episodes, told.elements) == (3, 5)
    assert told.nats == pytest.approx(-(2 * math.log(0.001) + 2 * math.log(0.9) + math.log(0.4)) / 5)
    # Σ(r²)·m/(m − 1) of the residuals 1 − 2/5, −2/5, −1/5 around the ratio 1/5
    half = 4.302653 * math.sqrt((0.6**2 + 0.4**2 + 0.2**2) * 3 / 2) / 5
    assert (told.low, told.high) == (0.0, pytest.approx(1 / 5 + half, abs=1e-5))


def test_thresholds_are_quantiles_of_all_demonstrations():
    one = hand(np.linspace(0, 1, 101).tolist(), np.linspace(2, 3, 101).tolist(), [0] * 101)
    told = Thresholds.of([one])
    assert (told.probability, told.entropy) == (pytest.approx(0.15), pytest.approx(2.15))
    two = hand([5.0] * 101, [0.0] * 101, [0] * 101)
    assert Thresholds.of([one, two], 0.25).entropy == 0.0
    assert Thresholds.of([one, two], 0.25).probability == pytest.approx(0.5, abs=0.01)


def test_the_map_counts_every_element_once():
    seen = hand([0.0, 1e-7, 0.3, 1.0, 1.0], [0.0, 0.0, 7.0, 40.0, 0.3], [0] * 5)
    rows = cells(seen)
    assert sum(row["elements"] for row in rows) == 5
    (corner,) = (row for row in rows if row["probability_to"] == 1e-6 and row["entropy_from"] == 0.0)
    assert corner["elements"] == 2
    (vague,) = (row for row in rows if row["probability_to"] == 1.0 and row["entropy_from"] == 4.0)
    assert (vague["entropy_to"], vague["elements"]) == (None, 1)
    assert seen.map.shape == (len(PROBABILITY) - 1, len(ENTROPY) - 1)


def test_a_controllers_bins_and_a_classifiers_classes_have_a_map_too():
    policy, task = table(seed=0), Spell()
    named = landscapes(policy, task, task.instances("train"))
    assert [each.name for each in named] == ["demonstrations, right", "its own rollouts"]


def test_the_picture_has_a_panel_a_data_set_and_tells_its_share():
    seen = [hand([0.001, 0.9, 1.0], [0.01, 0.5, 0.0], [0, 1, 2])] * 2
    figure = conflicts_figure(seen, Thresholds(0.01, 0.1), "a base on a task")
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["by hand\nconflicts: 33.33 %"] * 2
    assert "probability up to 0.01, entropy up to 0.1 nats" in " ".join(figure.get_supxlabel().split())


@pytest.mark.slow
def test_foreign_demonstrations_are_in_conflict_with_the_shipped_model_and_its_rollouts_are_not(razorbench, tmp_path):
    at = ("--home", tmp_path / "home", "--items", 40)
    ran = razorbench("conflicts", "mini-math-v1", *at, "--json", "--out", tmp_path / "map.png")
    foreign, near, own = ran.json["data"]
    assert [row["data"] for row in ran.json["data"]] == [
        "demonstrations, foreign",
        "demonstrations, near",
        "its own rollouts",
    ]
    assert foreign["low"] > 0.01 > near["share"] == own["share"] == 0
    assert foreign["nats"] > 10 * own["nats"]
    assert sum(row["elements"] for row in ran.json["map"]) == foreign["elements"] + near["elements"] + own["elements"]
    with Image.open(tmp_path / "map.png") as image:
        assert image.width == 1575
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    assert make("task", "mini-math-v1").styles == ("foreign", "near")


def test_what_cannot_be_looked_at_is_refused(razorbench, toys, tmp_path):
    at = ("--home", tmp_path / "home", "--items", 4)
    assert "choose one of right" in razorbench("conflicts", "spelling-v1", *at, "--style", "wrong").sentence
    assert "choose one of dialogue-v1, known-v1" in razorbench("conflicts", "spelling-v1", *at, "--task", "x").sentence
    assert "at least one item" in razorbench("conflicts", "spelling-v1", *at[:2], "--items", 0).sentence
    assert "ends in .png" in razorbench("conflicts", "spelling-v1", *at, "--out", tmp_path / "x.jpg").sentence
    assert "its own rollouts" in razorbench("conflicts", "spelling-v1", *at).out
