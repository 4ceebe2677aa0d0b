"""MMLU with letters: the split by a hash of the text; what is said of the right letter, of others, of more than one."""

from collections import Counter
from zlib import crc32

import pytest

from razorbench import Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.mmlu import DEV, LETTERS, TEST, asked
from razorbench.tasks.published import rows
from tests.toys import Says


@pytest.fixture
def task(data):
    return make("task", "mmlu-v1")


def judged(task, replies):
    """The first test instances, answered with these replies."""
    return rollout(Says(replies), task, task.instances("test").first(len(replies)))


def body(question: str) -> str:
    """What is asked, without subject and choices."""
    return " ".join(question.partition("\n\n")[2].rpartition("\n\nA. ")[0].split())


def test_a_fifth_of_the_published_test_questions_is_tested_and_no_text_stands_in_both(task):
    train, test = (task.instances(split) for split in ("train", "test"))
    assert (len(rows(DEV)), len(rows(TEST))) == (285, 14042)
    assert (len(train), len(test)) == (11434, 2810)
    texts = [{body(question) for question in split.data["question"]} for split in (train, test)]
    assert not texts[0] & texts[1]
    assert {crc32(text.encode()) % 5 == 0 for text in texts[1]} == {True}


def test_subjects_and_letters_are_all_there(task):
    test = task.instances("test").data
    assert len({question.partition(".")[0] for question in test["question"]}) == 57
    assert set(Counter(test["letter"])) == {*LETTERS}
    assert min(Counter(test["letter"]).values()) > 600


def test_question_shows_subject_text_and_choices(data):
    assert asked("college_physics_dev", "How fast is light? ", ["slow", "fast", "c", "it depends"]) == (
        "A question about college physics. Answer with the letter alone: A, B, C or D.\n\nHow fast is light?\n\n"
        "A. slow\nB. fast\nC. c\nD. it depends"
    )


def test_the_right_letter_is_right_and_every_other_is_wrong(task):
    letters = task.instances("test").data["letter"]
    for further in range(4):
        said = [LETTERS[(LETTERS.index(letter) + further) % 4] for letter in letters]
        assert judged(task, said).reward.mean() == (further == 0)


@pytest.mark.parametrize(
    ("form", "right", "formed"),
    [
        ("{}", True, True),
        ("{}.", True, True),
        (" {}\n", True, True),
        ("{}..", False, False),
        ("({})", False, False),
        ("{})", False, False),
        ("**{}**", False, False),
        ("`{}`", False, False),
        ('"{}"', False, False),
        ("{}:", False, False),
        ("{}!", False, False),
        ("Answer: {}", False, False),
        ("The answer is {}.", False, False),
        ("{}. 4", False, False),
        ("{} {}", False, False),
        ("{}, or another", False, False),
        ("not {}", False, False),
        ("\\boxed{{{}}}", False, False),
        ("<answer>{}</answer>", False, False),
        ("{}\n\nSince it is so.", False, False),
        ("ABCD", False, False),
        ("E", False, False),
        ("", False, False),
    ],
)
def test_replies_are_judged_as_by_hand(task, form, right, formed):
    letters = task.instances("test").data["letter"][:4]
    episodes = judged(task, [form.format(letter, letter) for letter in letters])
    assert episodes.outcome
    assert (episodes.reward == right).all()
    assert (episodes.outcome.metrics["well_formed"] == formed).all()


def test_small_letters_count_and_replies_that_were_cut_off_do_not(task):
    letters = task.instances("test").data["letter"][:4]
    assert judged(task, [letter.lower() for letter in letters]).reward.all()
    assert not judged(task, [Reply(letter, finished=False) for letter in letters]).reward.any()
