"""Text classification: counts, and what is said of the right word, of others, and of more than a word."""

from collections import Counter

import pytest

from razorbench import Episodes, Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.graders import option
from tests.toys import Says

COUNTS = {"agnews": (2000, 500), "sst2": (2000, 500), "amazon": (2000, 500), "rte": (2000, 277), "wic": (2000, 500)}


@pytest.fixture(params=COUNTS)
def task(request: pytest.FixtureRequest, data):
    return make("task", f"labels-{request.param}-v1")


def judged(task, replies: list[str]) -> Episodes:
    """The first test instances, answered with these replies."""
    return rollout(Says(replies), task, task.instances("test").first(len(replies)))


def test_splits_have_their_sizes_and_share_no_text(task):
    train, test = (task.instances(split) for split in ("train", "test"))
    assert (len(train), len(test)) == COUNTS[task.folder]
    assert not {" ".join(text.split()) for text in train.data["text"]} & {
        " ".join(text.split()) for text in test.data["text"]
    }


def test_every_label_is_one_of_the_words_and_every_word_is_used(task):
    for split in ("train", "test"):
        used = Counter(task.instances(split).data["label"])
        assert set(used) == set(task.words)
        assert min(used.values()) > 0.9 * sum(used.values()) / len(used)


def test_the_right_word_is_right_and_every_other_word_is_wrong(task):
    labels = task.instances("test").data["label"]
    assert judged(task, labels).reward.mean() == 1
    assert judged(task, [f" {label.lower()}.\n" for label in labels]).reward.mean() == 1
    for further in range(1, len(task.words)):
        others = [task.words[(task.words.index(label) + further) % len(task.words)] for label in labels]
        assert judged(task, others).reward.sum() == 0


def test_what_is_more_or_less_than_the_word_is_wrong(task):
    labels = task.instances("test").data["label"][:20]
    for spoilt in (
        "It is {}.",
        "{}!",
        "{}..",
        "not {}",
        "{0}, {0}",
        "{}\nBecause of the tone.",
        '"{}"',
        "<answer>{}</answer>",
    ):
        episodes = judged(task, [spoilt.format(label) for label in labels])
        assert episodes.reward.sum() == 0, spoilt
        assert episodes.outcome
        assert episodes.outcome.metrics["well_formed"].sum() == 0
    assert judged(task, [", ".join(task.words)] * 20).reward.sum() == 0
    assert judged(task, [Reply(label, finished=False) for label in labels]).reward.sum() == 0


def test_the_question_shows_instruction_words_and_text(data):
    task = make("task", "labels-wic-v1")
    first = next(task.play(task.instances("train").first(1)))[0]
    assert first.text == (
        "Has the word the same sense in both sentences? Answer with one of these, and nothing else: True, False.\n\n"
        "word: call\nAfter two raises there was a call.\nThe salesman's call on a customer."
    )


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("negative", "negative"),
        ("very negative", "very negative"),
        ("Very Negative.", "very negative"),
        ("very", None),
        ("very  negative", None),
        ("neg", None),
        ("negatively", None),
        ("", None),
        (".", None),
        ("ＮＥＧＡＴＩＶＥ", None),
    ],
)
def test_an_option_is_all_of_a_reply(reply, said):
    assert option(reply, ("negative", "very negative")) == said
