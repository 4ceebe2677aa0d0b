"""Chemistry with four choices: the authors' split; what is said of the right letter, of others, and of near misses."""

import json
from collections import Counter

import pytest

from razorbench import Episodes, Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.sciknoweval import LETTERS, listed
from tests.toys import Says

REASONED, DIRECT = "sciknoweval-chemistry-v1", "sciknoweval-chemistry-direct-v1"


def judged(id: str, replies: list[str], split: str = "test") -> Episodes:
    """The first instances of a split, answered with these replies."""
    task = make("task", id)
    return rollout(Says(replies), task, task.instances(split).first(len(replies)))


@pytest.mark.parametrize("id", [REASONED, DIRECT])
def test_the_authors_507_items_are_tested_and_the_other_3035_train(id, data):
    train, test = (make("task", id).instances(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (3035, 507)
    train, test = ({" ".join(text.split()) for text in split.data["question"]} for split in (train, test))
    assert (len(train), len(test)) == (3035, 507)
    assert not train & test


def test_letters_are_balanced(data):
    for split, least in (("train", 700), ("test", 120)):
        letters = Counter(make("task", REASONED).instances(split).data["letter"])
        assert set(letters) == set(LETTERS)
        assert min(letters.values()) > least


def test_the_authors_items_are_those_of_version_1_in_the_form_that_training_questions_have(data):
    published = {}
    for file in (data / "sciknoweval_v1" / "Chemistry_L3").glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["type"] == "mcq-4-choices":
                published[f"{row['question']}\n\n{listed(row['choices'])}"] = row["answerKey"]
    test = make("task", REASONED).instances("test").data
    assert [published[question] for question in test["question"]] == test["letter"]


def test_the_right_letter_is_right_and_every_other_is_wrong(data):
    letters = make("task", REASONED).instances("test").data["letter"]
    for further in range(4):
        said = [LETTERS[(LETTERS.index(letter) + further) % 4] for letter in letters]
        tagged = [f"<reasoning>Since.</reasoning>\n<answer>\n{letter}\n</answer>" for letter in said]
        assert judged(REASONED, tagged).reward.mean() == (further == 0)
        assert judged(DIRECT, said).reward.mean() == (further == 0)


GOLD = "A"
"""The letter of the first training question."""


@pytest.mark.parametrize(
    ("reply", "right", "formed"),
    [
        ("<answer>A</answer>", True, True),
        ("<answer>\nA\n</answer>\nDone.", True, True),
        ("<answer>B</answer> no: <answer>A</answer>", True, True),
        ("<answer>A</answer> no: <answer>B</answer>", False, True),
        ("<answer>A</answer> in <answer></answer> tags", True, True),
        ("<answer>a</answer>", False, False),
        ("<answer>A.</answer>", False, False),
        ("<answer>(A)</answer>", False, False),
        ("<answer>A: 0.115 M</answer>", False, False),
        ("<answer>A or B</answer>", False, False),
        ("<answer>ABCD</answer>", False, False),
        ("<answer>0.115 M</answer>", False, False),
        ("<answer>A", False, False),
        ("<answer></answer>", False, False),
        ("<reasoning>A</reasoning>", False, False),
        ("A", False, False),
        ("", False, False),
        (Reply("<answer>A</answer>", finished=False), False, False),
    ],
)
def test_tagged_replies_are_judged_as_by_hand(data, reply, right, formed):
    episodes = judged(REASONED, [reply], "train")
    assert episodes.instances.data["letter"] == [GOLD]
    assert episodes.outcome
    assert (episodes.reward[0], episodes.outcome.metrics["well_formed"][0]) == (right, formed)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("A", True),
        (" a.\n", True),
        ("B", False),
        ("A: 0.115 M", False),
        ("(A)", False),
        ("The answer is A", False),
        ("A B C D", False),
        ("<answer>A</answer>", False),
        ("", False),
        (Reply("A", finished=False), False),
    ],
)
def test_direct_replies_are_judged_as_by_hand(data, reply, right):
    assert bool(judged(DIRECT, [reply], "train").reward[0]) is right
