"""Questions for those who adapt with tools of their own, and their fingerprints."""

from hashlib import sha256

import numpy as np
import pytest

from razorbench import Observation, Refused
from razorbench.harness.core.conversations import conversations
from razorbench.harness.core.questions import fingerprints, of, of_array, of_text
from razorbench.harness.core.registry import make


def test_fingerprint_of_a_text_forgets_white_space_and_form():
    expected = sha256("Grüß Gott, 2 + 2?".encode()).hexdigest()
    assert of_text("Grüß Gott, 2 + 2?") == expected
    assert of_text("  Gru\u0308ß\n\tGott,   2 + 2? ") == expected
    assert of_text("grüß Gott, 2 + 2?") != expected


def test_fingerprint_of_an_array_knows_shape_kind_and_values():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    same = {of_array(image), of_array(image.copy(order="F"))}
    assert len(same) == 1
    others = [image.reshape(4, 3), image.astype(np.uint16), image + np.uint8(1)]
    assert len({*same, *map(of_array, others)}) == 4
    assert (
        of_array(np.array([0.5], np.float64))
        == of_array(np.array([0.5], np.float32))
        == of_array(np.array([0.5], ">f8"))
    )


def test_all_that_is_seen_counts():
    image = np.zeros((2, 2), np.uint8)
    seen = [
        Observation("What?"),
        Observation("What?", images={"a": image}),
        Observation("What?", images={"a": image, "b": image + np.uint8(1)}),
        Observation("What?", images={"b": image, "a": image + np.uint8(1)}),
        Observation("What?", state=np.zeros(2)),
        Observation("What?", state={"a": np.zeros(2), "b": np.ones(2)}),
        Observation("What?", state={"b": np.zeros(2), "a": np.ones(2)}),
        Observation(images={"a": image}),
    ]
    assert len(set(map(of, seen))) == len(seen)
    assert of(seen[0]) == of_text("What?")


@pytest.mark.parametrize("id", ["mini-math-v1", "mini-science-v1", "mini-tools-v1", "fetch-air-v1"])
def test_no_training_question_is_evaluated(id):
    task = make("task", id)
    train, test = (list(fingerprints(task, task.instances(split).first(300))) for split in ("train", "test"))
    assert len(train) == len(test) == 300
    assert not {*train} & {*test}
    assert list(fingerprints(task, task.instances("test").first(300))) == test


def test_conversation_is_what_the_expert_says():
    task = make("task", "mini-math-v1")
    some = task.instances("train").first(5)
    talks = conversations(task, some)
    assert [[message["role"] for message in talk] for talk in talks] == [["user", "assistant"]] * 5
    assert [of_text(talk[0]["content"]) for talk in talks] == list(fingerprints(task, some))
    assert all("\\boxed{" in talk[1]["content"] for talk in talks)
    assert conversations(task, some, "near") != talks


def test_robot_has_no_conversation():
    task = make("task", "fetch-air-v1")
    with pytest.raises(Refused, match="does not ask in words"):
        conversations(task, task.instances("train").first(1))
