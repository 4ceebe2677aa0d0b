"""Countdown: counts, expressions worked out by hand, and what is said of right, nearly right and hostile answers."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from razorbench import Episodes, Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.countdown import LONGEST, puzzles, solution, worked_out
from tests.toys import Says

COUNTS = {3: (1984, 519), 4: (2076, 517)}


def judged(count: int, replies: list[str]) -> Episodes:
    """The first training instances, answered with these replies."""
    task = make("task", f"countdown-{count}-v1")
    return rollout(Says(replies), task, task.instances("train").first(len(replies)))


@pytest.mark.parametrize("count", COUNTS)
def test_splits_share_no_puzzle_in_whatever_order(count, data):
    train, test = (make("task", f"countdown-{count}-v1").instances(split).data for split in ("train", "test"))
    assert (len(train["target"]), len(test["target"])) == COUNTS[count]
    assert train["numbers"].shape[1] == test["numbers"].shape[1] == count
    asked = [
        {(*sorted(numbers), target) for numbers, target in zip(split["numbers"].tolist(), split["target"], strict=True)}
        for split in (train, test)
    ]
    assert tuple(map(len, asked)) == COUNTS[count]
    assert not asked[0] & asked[1]


def test_four_of_the_5100_puzzles_stand_there_twice(data):
    assert len(puzzles()) == 5096
    assert puzzles()[0] == ("first-0", ((44, 19, 35), 98))
    assert puzzles()[-1][0] == "last-99"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("8 / 4 / 2", 1),
        ("8 / (4 / 2)", 4),
        ("7 - 2 - 1", 4),
        ("7 - (2 - 1)", 6),
        ("1 / 3 + 1 / 6", Fraction(1, 2)),
        ("(1 / 3) * 3", 1),
        ("-3 + 5", 2),
        ("2 * -3", -6),
        ("-(3 - 5)", 2),
        ("((((7))))", 7),
        ("0 * 5", 0),
        (" 44+19\n+35 ", 98),
        ("100000000000000000000 + 1", 10**20 + 1),
    ],
)
def test_expressions_have_their_exact_value(text, value):
    worked = worked_out(text)
    assert worked
    assert worked[0] == value


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1 +", "* 2", "1 2", "(1 + 2", "1 + 2)", "()", "+5", "1 + + 2", "1 ++ 2", "1 / 0", "1 / (2 - 2)"),
        *("044", "1.0", "1e2", "1_0", "0x10", "1,000", "2**3", "9**9**9**9", "7 // 2", "7 % 2", "2^3", "1 + x"),
        *("44 + 19 = 63", "3 × 2", "3 ÷ 2", "5 − 3", "٣ + 1", "９", "__import__('os')", "\\frac{1}{2}"),
        *("(" * LONGEST, "-" * LONGEST, "1" * (LONGEST + 1), "1 + " * 30 + "1"),
    ],
)
def test_what_is_no_arithmetic_has_no_value(text):
    assert worked_out(text) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*"0123456789+-*/() ", "12", "**"]), max_size=40).map("".join))
def test_what_has_a_value_has_the_one_that_python_gives_it(text):
    worked = worked_out(text)
    if worked is None:
        return
    exact = "".join(f"Fraction({part})" if part.isdigit() else part for part in tokens(text))
    assert worked[0] == eval(exact, {"Fraction": Fraction})


def tokens(text: str) -> list[str]:
    """An expression in pieces: numbers, and single signs."""
    parts = [""]
    for sign in text:
        if sign.isdigit() and parts[-1].isdigit():
            parts[-1] += sign
        else:
            parts.append(sign)
    return parts


@pytest.mark.parametrize("count", COUNTS)
def test_published_puzzles_have_solutions_and_each_is_spoilt_by_a_number(count, data):
    task = make("task", f"countdown-{count}-v1")
    train = task.instances("train").first(100).data
    texts = [solution(tuple(n), int(t))[0] for n, t in zip(train["numbers"].tolist(), train["target"], strict=True)]
    assert judged(count, [f"<answer>{text}</answer>" for text in texts]).reward.mean() == 1
    for spoilt in ("{} + 1", "{} * 1", "-({})", "{0} + {0}", "1 + {} - 1"):
        assert judged(count, [f"<answer>{spoilt.format(text)}</answer>" for text in texts]).reward.sum() == 0, spoilt
    assert judged(count, [f"<answer>{target}</answer>" for target in train["target"]]).reward.sum() == 0


def test_operations_of_a_solution_lead_to_the_target():
    assert solution((44, 19, 35), 98)[1] == ["44 + 19 = 63", "35 + 63 = 98"]
    for numbers in product((2, 3, 7), repeat=3):
        text, steps = solution(numbers, numbers[0] * numbers[1] - numbers[2])
        worked = worked_out(text)
        assert worked
        assert sorted(worked[1]) == sorted(numbers)
        assert steps[-1].endswith(f"= {worked[0]}")


@pytest.mark.parametrize(
    ("reply", "right", "formed"),
    [
        ("<answer>44 + 19 + 35</answer>", True, True),
        ("44 + 19 = 63\n<answer>\n(35 + 44) + 19\n</answer>\nDone.", True, True),
        ("<answer>44 - 19</answer> no: <answer>44+19+35</answer>", True, True),
        ("<answer>44+19+35</answer> no: <answer>44 - 19</answer>", False, True),
        ("<answer>44 + 19 + 35 = 98</answer>", False, False),
        ("<answer>98</answer>", False, True),
        ("<answer>44 + 54</answer>", False, True),
        ("<answer>44 + 19 + 35 + 0</answer>", False, True),
        ("<answer>44 + 19 + 35 + 44 - 44</answer>", False, True),
        ("<answer>(44 + 19 + 35) / 1</answer>", False, True),
        ("<answer>44 + 19 - 35</answer>", False, True),
        ("<answer>4 4 + 19 + 35</answer>", False, False),
        ("<answer>$44 + 19 + 35$</answer>", False, False),
        ("<answer>44 + 19 + 35.0</answer>", False, False),
        ("44 + 19 + 35", False, False),
        (r"\boxed{44 + 19 + 35}", False, False),
        ("", False, False),
        (Reply("<answer>44 + 19 + 35</answer>", finished=False), False, False),
    ],
)
def test_replies_are_judged_as_by_hand(data, reply, right, formed):
    task = make("task", "countdown-3-v1")
    train = task.instances("train")
    episodes = rollout(Says([reply]), task, train.take(np.flatnonzero(train.id == "first-0")))
    assert episodes.outcome
    assert (episodes.reward[0], episodes.outcome.metrics["well_formed"][0]) == (right, formed)
