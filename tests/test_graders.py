"""Graders: what is right, what is merely well-formed, and what only looks like an answer."""

import pytest

from harness.types import Reply
from tasks.graders import answer_tag, boxed, calls, equal, same_calls


def test_a_reply_that_was_cut_off_has_no_answer():
    assert boxed(Reply(r"\boxed{8}", finished=False)) is None
    assert boxed(Reply(r"\boxed 8", finished=False)) is None
    assert answer_tag(Reply("<answer>A</answer>", finished=False)) is None
    assert calls(Reply("Action: a\nAction Input: {}", finished=False)) is None
    assert boxed(Reply(r"\boxed{8}")) == "8"


# --- boxes ------------------------------------------------------------------------------------------------------------


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
        (r"\boxed{\boxed{8}}", "8"),
        (r"\\boxed{8}", "8"),
    ],
)
def test_the_last_box_counts_with_its_braces_balanced(reply, found):
    assert boxed(reply) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (r"\boxed{\left\{x\right.}", r"\left\{x\right."),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{a\\}", r"a\\"),  # a line break, and then the brace closes
        (r"\boxed{\{}", r"\{"),
    ],
)
def test_braces_that_are_signs_neither_open_nor_close(reply, found):
    assert boxed(reply) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (r"\fbox{8}", "8"),
        (r"\boxed {8}", "8"),
        ("\\boxed\n{8}", "8"),
        (r"\boxed 8", "8"),
        (r"\boxed8", "8"),
        (r"\boxed -3.5 it is", "-3.5"),
        (r"so $x = \boxed 8$, and that is it", "8"),
        (r"It is \boxed 8.", "8"),
        (r"{\boxed 8}", "8"),
        (r"\boxed \frac{1}{2}", r"\frac{1}{2}"),
        (r"$\boxed x$", "x"),
        (r"\boxed A", "A"),
        (r"\boxed{7} no, \boxed 8", "8"),
    ],
)
def test_a_box_is_also_written_as_fbox_with_a_space_and_without_braces(reply, found):
    assert boxed(reply) == found


@pytest.mark.parametrize(
    "mention",
    [
        r"(not \boxed{",
        r"(not \boxed{9",
        r"as asked in \boxed{}",
        r"as asked in \boxed{ }.",
        r"in \boxed.",
        r"in a \boxed form",
        r"in \boxed - as asked",
        r"in \boxedsomething{9}",
    ],
)
def test_a_mention_of_the_box_hides_no_answer_before_or_after_it(mention):
    assert boxed(rf"answer \boxed{{8}} {mention}") == "8"
    assert boxed(rf"{mention} and so \boxed{{8}}") == "8"


# --- tags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("<answer>A</answer> no <answer> B </answer>", "B"),
        ("<answer>A", None),
        ("A", None),
        ("<answer>A\nB</answer>", "A\nB"),
        ("<answer></answer>", ""),
        ("<Answer>B</ANSWER>", "B"),
        ("<answer >B</answer >", "B"),
        ("<answers>B</answers>", None),
    ],
)
def test_the_last_answer_tag_counts(reply, found):
    assert answer_tag(reply) == found


@pytest.mark.parametrize(
    "reply",
    [
        "I will put it in <answer> tags. <answer>B</answer>",
        "Answer in <answer> tags.\n<reasoning>x</reasoning> <answer>B</answer>",
        "<answer><answer>B</answer></answer>",
        "<answer>A <answer>B</answer>",
        "<answer>B</answer> in <answer> as asked",
        "<answer>B</answer> </answer>",
        "<answer>B</answer>, in <answer></answer> as asked",
    ],
)
def test_a_mention_of_the_tag_is_no_answer(reply):
    assert answer_tag(reply) == "B"


# --- mathematics ----------------------------------------------------------------------------------------------------


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


# --- calls ----------------------------------------------------------------------------------------------------


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
