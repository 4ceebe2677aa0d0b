"""Graders: what is right, what is merely well-formed, and what only looks like an answer."""

import json

import pytest

from harness.types import Reply
from tasks.graders import answer_tag, boxed, calls, equal, same_calls, same_merged


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


# --- calls ------------------------------------------------------------------------------------------------------------


def test_calls_are_read_one_by_one():
    reply = 'Thought: x\nAction: a_b\nAction Input: {"x": 1}\nAction: c\nAction Input:{"y":[{"z": "}"}]} done'
    assert calls(reply) == [("a_b", {"x": 1}), ("c", {"y": [{"z": "}"}]})]


@pytest.mark.parametrize(
    "reply",
    [
        "no call",
        "Action: a",
        "Action:",
        "Action: \nAction Input: {}",
        "Action Input: {}",
        "Action: a\nAction Input: {x}",
        "Action: a\nAction Input: [1]",
        "Action: a\nAction: b\nAction Input: {}",
        "Action: a\nAction: b\nAction Input: {}\nAction Input: {}",
        "Action Input: {}\nAction: a",
        "Action: a\nAction Input: {}\nAction Input: {}",
        "Action: a\nAction Input: {}\nAction: b",
        "Action: a\nAction Input: " + "[" * 100_000,
    ],
)
def test_calls_that_cannot_be_read_are_not_well_formed(reply):
    assert calls(reply) is None


@pytest.mark.parametrize(
    "name", ["preferred-routes_get", "preferred-routes_search_get", "api.search", "order/../delete", "[Optional]update"]
)
def test_a_name_is_read_to_its_end(name):
    assert calls(f"Action: {name}\nAction Input: {{}}") == [(name, {})]
    assert calls(f"action : {name} \nACTION INPUT : {{}}") == [(name, {})]


@pytest.mark.parametrize("quoted", ["`order`", '"order"', "'order'", "\norder"])
def test_quotes_around_a_name_are_none_of_it(quoted):
    assert calls(f"Action: {quoted}\nAction Input: {{}}") == [("order", {})]


def test_an_action_within_a_line_or_within_an_input_is_text():
    assert calls("Reaction: a\nAction Input: {}") is None
    assert calls("Action: a\nAction Input: {}\nNext Action: none") == [("a", {})]
    told = {"body": "see Action: b", "more": "and Action Input: {}", "list": ["Action: c"]}
    assert calls(f"Action: tell\nAction Input: {json.dumps(told)}") == [("tell", told)]
    spread = json.dumps({"\nAction: b": "\nAction Input: {}"}, indent=0)
    assert calls(f"Action: tell\nAction Input: {spread}") == [("tell", {"\nAction: b": "\nAction Input: {}"})]


@pytest.mark.parametrize(
    "written",
    ['```json\n{"x": 1}\n```', '\n```\n{"x": 1}```', '`{"x": 1}`', '``` {"x": 1}\n``` done', '{"x": 1}\n``` and more'],
)
def test_a_fence_around_an_input_is_taken_off(written):
    assert calls(f"Action: a\nAction Input: {written}") == [("a", {"x": 1})]


def test_a_whole_call_may_stand_in_a_fence():
    assert calls('```\nAction: a\nAction Input: {"x": 1}\n```') == [("a", {"x": 1})]


@pytest.mark.parametrize(
    "written",
    [
        '{"x": 1}}]',
        '{"x": 1}.',
        '```json\n{"x": 1}',
        '```json\n{"x": 1}\n```}',
        '{"x": 1,}',
        "{'x': 1}",
        '{"x": NaN}',
        '{"x": Infinity}',
        '{"x": -Infinity}',
        '{"x": 1e999}',
        '{"x": ' + "9" * 5000 + "}",
        '{"x": 2, "x": 1}',
        '{"y": {"x": 2, "x": 1}}',
        '{"x": "\n"}',
        '{"x": ' * 900 + "1" + "}" * 900,
        '{"x": ' + "[" * 64 + "]" * 64 + "}",
    ],
)
def test_an_input_that_is_no_plain_json_object_is_not_read(written):
    assert calls(f"Action: a\nAction Input: {written}") is None


A, B = ("a", {"x": 1}), ("b", {"y": "2"})


@pytest.mark.parametrize("same", [same_calls, same_merged])
def test_calls_are_the_same_whatever_their_order_and_the_order_of_their_keys(same):
    assert same([B, A], [A, B])
    assert same([("a", {"x": 1, "y": {"p": 1, "q": [2]}})], [("a", {"y": {"q": [2], "p": 1}, "x": 1})])
    assert not same([A, A, B], [A, B])
    assert not same([A], [A, B])
    assert not same([A, ("c", {"y": "2"})], [A, B])
    assert not same([A, ("b", {"y": "3"})], [A, B])


@pytest.mark.parametrize("same", [same_calls, same_merged])
@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("true", "1", False),
        ("false", "0", False),
        ("[true]", "[1]", False),
        ('{"z": false}', '{"z": 0}', False),
        ("null", "0", False),
        ('"7"', "7", False),
        ("7.0", "7", True),
        ("[7.0]", "[7]", True),
        ("-0.0", "0", True),
        ("7.5", "7", False),
        ("10000000000000001", "1e16", False),
        ("[1, 2]", "[2, 1]", False),
        ('"p\\u0065ns"', '"pens"', True),
    ],
)
def test_inputs_are_compared_as_json(same, said, gold, right):
    found = calls(f'Action: a\nAction Input: {{"x": {said}}}')
    assert found is not None
    assert same(found, [("a", {"x": json.loads(gold)})]) is right


def test_each_call_has_its_own_inputs_unless_the_rule_merges_them():
    swapped = [("a", {"y": "2"}), ("b", {"x": 1})]
    together = [("a", {"x": 1, "y": "2"}), ("b", {})]
    for said in (swapped, together):
        assert not same_calls(said, [A, B])
        assert same_merged(said, [A, B])
    overwritten = [("a", {"x": 3}), ("a", {"x": 1})]
    assert not same_calls(overwritten, [A, A])
    assert same_merged(overwritten, [A, A])
    assert not same_merged(overwritten, [A, ("a", {"x": 3})])
