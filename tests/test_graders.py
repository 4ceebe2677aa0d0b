"""Graders: what is right, what is merely well-formed, and what only looks like an answer."""

import pytest

from harness.types import Reply
from tasks.graders import answer_tag, boxed, calls, equal, same_calls


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (r"so \boxed{8}", "8"),
        (r"\boxed{7} no, \boxed{8}", "8"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{ 8 } and more text", "8"),
        (r"\boxed{8", None),
        ("8", None),
        (r"\boxed{}", ""),
    ],
)
def test_the_last_box_counts_with_its_braces_balanced(reply, found):
    assert boxed(reply) == found


def test_a_reply_that_was_cut_off_has_no_answer():
    assert boxed(Reply(r"\boxed{8}", finished=False)) is None
    assert answer_tag(Reply("<answer>A</answer>", finished=False)) is None
    assert calls(Reply("Action: a\nAction Input: {}", finished=False)) is None
    assert boxed(Reply(r"\boxed{8}")) == "8"


@pytest.mark.parametrize(
    ("said", "gold", "same"),
    [
        ("8", "8", True),
        ("8.0", "8", True),
        (r"\frac{16}{2}", "8", True),
        ("3 + 5", "8", True),
        ("9", "8", False),
        ("eight", "8", False),
        ("", "8", False),
        ("0.5", r"\frac{1}{2}", True),
        ("(1, 2)", "(1,2)", True),
        ("1" * 1000, "8", False),
        ("\\frac{" * 30, "8", False),
    ],
)
def test_answers_are_compared_as_mathematics(said, gold, same):
    assert equal(said, gold) is same


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("<answer>A</answer> no <answer> B </answer>", "B"),
        ("<answer>A", None),
        ("A", None),
        ("<answer>A\nB</answer>", "A\nB"),
    ],
)
def test_the_last_answer_tag_counts(reply, found):
    assert answer_tag(reply) == found


def test_calls_are_read_in_order_and_their_inputs_merged():
    reply = 'Thought: x\nAction: a_b\nAction Input: {"x": 1}\nAction: c\nAction Input:{"y":[{"z": "}"}]} done'
    assert calls(reply) == (["a_b", "c"], {"x": 1, "y": [{"z": "}"}]})


@pytest.mark.parametrize(
    "reply",
    [
        "no call",
        "Action: a",
        "Action Input: {}",
        "Action: a\nAction Input: {x}",
        "Action: a\nAction Input: [1]",
        "Action: a\nAction: b\nAction Input: {}",
        "Action: a\nAction Input: " + "[" * 100_000,
    ],
)
def test_calls_that_cannot_be_read_are_not_well_formed(reply):
    assert calls(reply) is None


def test_calls_are_the_same_whatever_their_order_and_the_order_of_their_keys():
    gold = (["a", "b"], {"x": 1, "y": "2"})
    assert same_calls((["b", "a"], {"y": "2", "x": 1}), gold)
    assert not same_calls((["a", "a", "b"], {"y": "2", "x": 1}), gold)
    assert not same_calls((["a", "b"], {"y": "2"}), gold)
    assert not same_calls((["a", "b"], {"y": "3", "x": 1}), gold)
