"""Sentiment of short reviews: the last word counts, and the form alone where the base learns how to answer."""

import numpy as np
import pytest

from razorbench import Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.tasks.graders import last_option
from tests.toys import Says

WORDS = ("Good", "Bad")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Good", "Good"),
        ("Bad.", "Bad"),
        ("**Good**", "Good"),
        ("After weighing every word of it with care, I would say that this one is: Bad", "Bad"),
        ("Good or Bad? I would say Good", "Good"),
        ("Good, not Bad", "Bad"),
        ("Good\nBad\n", "Bad"),
        ("(Good)", "Good"),
        ("'Bad'", "Bad"),
        ("good", None),
        ("BAD", None),
        ("Goodness", None),
        ("Badly", None),
        ("NotBad", None),
        ("not_Bad", None),
        ("Good2", None),
        ("positive", None),
        ("", None),
        (Reply("Good", finished=False), None),
        (Reply("It is Bad and", finished=False), None),
    ],
)
def test_the_last_word_of_a_finished_reply_is_the_answer(reply, said):
    assert last_option(reply, WORDS) == said


def test_options_are_read_as_they_stand():
    assert last_option("a.b", ("a+b", "a.b")) == "a.b"
    assert last_option("axb", ("a.b",)) is None


def test_reviews_are_short_and_splits_share_none(data):
    task = make("task", "sst2-sentiment-v1")
    train, test = (task.instances(split).data["text"] for split in ("train", "test"))
    assert (len(train), len(test)) == (1167, 187)
    assert all(25 <= len(text) <= 90 for text in [*train, *test])
    assert not set(train) & set(test)


def test_what_stands_before_the_word_does_not_matter_but_for_the_form(data):
    task, form = make("task", "sst2-sentiment-v1"), make("task", "sst2-form-v1")
    some = task.instances("test").first(20)
    labels = some.data["label"]
    played = rollout(Says([f"It is {label}" for label in labels]), task, some)
    assert played.reward.mean() == 1
    assert played.outcome is not None
    assert np.mean(played.outcome.metrics["well_formed"]) == 1
    assert rollout(Says([f"It is {label}" for label in labels]), form, some).reward.sum() == 0
    others = ["Good" if label == "Bad" else "Bad" for label in labels]
    assert rollout(Says(others), task, some).reward.sum() == 0
    assert rollout(Says(others), form, some).reward.mean() == 1


def test_labels_of_the_form_say_nothing_about_the_review(data):
    form = make("task", "sst2-form-v1")
    train = form.instances("train")
    said = [episode.actions[0].value for episode in demonstrations(form, train, "random")]
    right = np.mean([word == label for word, label in zip(said, train.data["label"], strict=True)])
    assert abs(right - 0.5) < 3 * 0.5 / len(train) ** 0.5
