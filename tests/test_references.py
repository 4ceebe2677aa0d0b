"""The scorers of others that ours are held against, by hand; and ours on what is made to be right or wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import references
from benchmarks.graders import Judged, differences, everything, items, judged, line
from benchmarks.replies import FORMS, Said

GOLD = {"answer": "18"}
CHOICES = {"letter": "B", "question": "Which?\n\nA: salt\nB: water\nC: sand\nD: air"}
PUZZLE = {"numbers": [3, 5, 2], "target": 4}
CALLS = {
    "gold": [
        {"Action": "find", "Action_Input": '{"page": 1}'},
        {"Action": "book", "Action_Input": '{"when": "noon"}'},
    ]
}
FIND, BOOK = 'Action: find\nAction Input: {"page": 1}', 'Action: book\nAction Input: {"when": "noon"}'
NO_COMMA = {"prompt": "Write.", "constraints": [("punctuation:no_comma", {}), ("startend:quotation", {})]}


@pytest.mark.parametrize(
    ("scorer", "data", "reply", "right"),
    [
        (references.math_verify, GOLD, r"So \boxed{18}.", True),
        (references.math_verify, GOLD, "The answer is 18.", True),
        (references.math_verify, GOLD, r"\boxed{17}", False),
        (references.hendrycks_math, GOLD, r"So \boxed{18}.", True),
        (references.hendrycks_math, {"answer": r"\frac{1}{2}"}, r"\boxed{0.5}", True),
        (references.hendrycks_math, GOLD, r"\boxed{18.0}", False),
        (references.hendrycks_math, GOLD, "The answer is 18.", False),
        (references.gsm8k_flexible, GOLD, "She has $18.", True),
        (references.gsm8k_flexible, GOLD, r"\boxed{18} of 20", False),
        (references.gsm8k_flexible, GOLD, "eighteen", False),
        (references.tinyzero, PUZZLE, "<answer>(3 + 5) / 2</answer>", True),
        (references.tinyzero, PUZZLE, "<answer>3 + 5 / 2</answer>", False),
        (references.tinyzero, PUZZLE, "<answer>(3 + 5) / 2\n</answer>", False),
        (references.tinyzero, PUZZLE, "<answer>(3 + 5) / 2 = 4</answer>", False),
        (references.tinyzero, PUZZLE, "<answer>(3 + 5) / 2 * 1</answer>", False),
        (references.tag_split, CHOICES, "<answer>\nB\n</answer>", True),
        (references.tag_split, CHOICES, "<answer>B", True),
        (references.tag_split, CHOICES, "<Answer>B</Answer>", False),
        (references.sciknoweval, CHOICES, "B", True),
        (references.sciknoweval, CHOICES, "It is water.", True),
        (references.sciknoweval, CHOICES, "D) or B)", False),
        (references.sciknoweval, CHOICES, "salt and water", False),
        (references.sciknoweval, CHOICES, "", False),
        (references.tool_calls, CALLS, f"{FIND}\n{BOOK}", True),
        (references.tool_calls, CALLS, 'Action: find\nAction Input: {"when": "noon", "page": 1}\nAction: book', True),
        (references.tool_calls, CALLS, f"{FIND}\n{BOOK}\n{BOOK}", False),
        (references.tool_calls, CALLS, FIND, False),
        (references.ifeval, NO_COMMA, '"Well; good"', True),
        (references.ifeval, NO_COMMA, '"Well, good"', False),
        (references.ifeval, NO_COMMA, "", False),
    ],
)
def test_references_judge_as_their_rules_say(scorer: Callable, data: Any, reply: str, right: bool):
    assert scorer(reply, data) is right


TEXT = "First I add 3 and 5, which is 8. Then (B) follows, for 3 + 5 * 2 is 13."
"""What a model may have said before; IFEval has no right replies by hand."""
OWN_RULE = {"toolalpaca-published-v1"}
"""Whose replies are judged by the rule that it was published with, not by hand."""


@pytest.mark.parametrize("id", [id for id in FORMS if id != "ifeval-v1"])
def test_what_is_made_of_a_reply_is_right_or_wrong_as_by_hand(id, data):
    known = items(id, 6)
    made = everything(id, [Said(id, at, "asked", TEXT) for at in range(6)], known)
    verdicts = judged(id, lambda reply, data: False, made, known)
    told = {each.kind: each.ours for each in verdicts if each.said.right not in (None, each.ours)}
    assert told == {}
    assert {each.said.right for each in verdicts} == {None, True, False}


def test_the_tables_count_what_differs():
    said = Said("x", 0, "asked", "?"), Said("x", 1, "shown", "?"), Said("x", 1, "made", "?", how="a box", right=True)
    verdicts = [
        Judged(said[0], True, False, True),
        Judged(said[1], False, False, False),
        Judged(said[2], False, True, True),
    ]
    assert line("x", "y", verdicts) == "| `x` | y | 2 | 1 | 0 | 1 | 1 | 0 | 1 | 1 | 1 | 0 |"
    assert differences("x", "y", verdicts) == [
        "| `x` | y | asked, in the form | right | 1 |",
        "| `x` | y | made: `a box` | wrong | 1 |",
    ]
