"""Arithmetic of one line: the last number counts, whatever stands before it."""

import numpy as np
import pytest

from razorbench import Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import Demonstrator, rollout
from razorbench.tasks.arithmetic import last_number
from razorbench.tasks.mini.generated import TRAIN


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("76", 76),
        ("47 + 38 = 85. 85 - 9 = 76.", 76),
        ("47+38-9=76", 76),
        ("47-9", 9),
        ("It is -12", -12),
        ("85 − 9 is 76, I think", 76),
        ("\\boxed{76}", 76),
        ("**76**", 76),
        ("76.0", 76),
        ("76.5", 76.5),
        ("1,076", 1076),
        ("38,9", 9),
        ("76 or 77", 77),
        ("the 76th", None),
        ("x2", None),
        ("1.2.3", None),
        ("seventy-six", None),
        ("", None),
        (Reply("76", finished=False), None),
    ],
)
def test_the_last_number_of_a_finished_reply_is_the_answer(reply, said):
    assert last_number(reply) == said


def test_right_replies_in_every_style_are_right_and_others_are_not():
    task = make("task", "arithmetic-line-v1")
    test = task.instances("test").take(np.arange(300))
    for style in task.styles:
        played = rollout(Demonstrator(task, style), task, test)
        assert (played.reward == 1).all()
    question = task.question(7)
    assert task.grade(f"{question.gold + 1}", question).reward == 0
    assert task.grade("nothing", question).metrics == {"well_formed": 0.0}


def test_values_are_what_python_says():
    task = make("task", "arithmetic-line-v1")
    for i in range(500):
        question = task.question(i)
        assert eval(question.text.removeprefix("What is ").removesuffix("?")) == question.gold >= 0


def test_questions_of_test_stand_in_no_training_set():
    task, form = make("task", "arithmetic-line-v1"), make("task", "arithmetic-form-v1")
    test = {task.question(TRAIN + i).text for i in range(2000)}
    assert not test & {each.question(i).text for each in (task, form) for i in range(4000)}
    assert [form.question(i).text for i in range(50)] != [task.question(i).text for i in range(50)]
