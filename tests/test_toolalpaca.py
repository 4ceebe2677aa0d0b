"""Tool calls for real requests: counts, gold by both rules, spoilt gold, and where the rules differ."""

import json

import pytest

from razorbench import Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.toolalpaca import ASKED, AsPublished, Gold, Requests, Strict, written
from tests.toys import Says

RULES = {"strict": Strict(), "published": AsPublished()}


def scored(task: Requests, replies: list[str], split: str = "test") -> float:
    """How many of the first instances of a split are answered right by these replies."""
    return rollout(Says(replies), task, task.instances(split).first(len(replies))).reward.sum()


def test_80_requests_train_97_test_and_no_api_is_in_both(data):
    train, test = (make("task", "toolalpaca-strict-v1").instances(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (80, 97)
    named, tested = ({text.split("\nName: ")[1].split("\n")[0] for text in s.data["question"]} for s in (train, test))
    assert (len(named), len(tested)) == (8, 10)
    assert not named & tested


def test_training_questions_have_the_form_of_the_test_questions(data):
    simulated = json.loads((data / "toolalpaca" / "eval_simulated.json").read_text(encoding="utf-8"))
    ours = {ASKED.format(**api, question=question) for api in simulated for question in api["Instructions"]}
    theirs = make("task", "toolalpaca-strict-v1").instances("test").data["question"]
    assert sum(question in ours for question in theirs) == 68


@pytest.mark.parametrize(("rule", "train", "test"), [("strict", 80, 97), ("published", 78, 95)])
def test_gold_scores_what_the_documentation_says(data, rule, train, test):
    task = make("task", f"toolalpaca-{rule}-v1")
    for split, right in (("train", train), ("test", test)):
        assert scored(task, [written(gold) for gold in task.instances(split).data["gold"]], split) == right
    assert rule == "strict" or f"{test} of 97" in task.card.rule


def renamed(gold: Gold) -> Gold:
    return [{**gold[0], "Action": gold[0]["Action"] + "s"}, *gold[1:]]


def added(gold: Gold) -> Gold:
    return [{**gold[0], "Action_Input": json.dumps({**json.loads(gold[0]["Action_Input"]), "more": 1})}, *gold[1:]]


def changed(gold: Gold) -> Gold:
    """Every value is another."""
    return [{**call, "Action_Input": json.dumps(dict.fromkeys(json.loads(call["Action_Input"]), "?"))} for call in gold]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spoil", [renamed, added, lambda gold: gold[:-1], lambda gold: [*gold, gold[-1]]])
def test_spoilt_gold_is_wrong_by_both_rules(data, rule, spoil):
    task = RULES[rule]
    assert scored(task, [written(spoil(gold)) for gold in task.instances("test").data["gold"]]) == 0


@pytest.mark.parametrize("rule", RULES)
def test_gold_with_other_values_is_right_only_where_there_are_none(data, rule):
    task = RULES[rule]
    golds = task.instances("test").data["gold"]
    empty = sum(all(json.loads(call["Action_Input"]) == {} for call in gold) for gold in golds)
    assert scored(task, [written(changed(gold)) for gold in golds]) == empty


GOLD: Gold = [
    {"Action": "find", "Action_Input": '{"page": 1, "tags": ["a", "b"]}'},
    {"Action": "book", "Action_Input": '{"when": "noon"}'},
]
FIND, BOOK = (written([call]) for call in GOLD)
SWAPPED = 'Action: find\nAction Input: {"when": "noon"}\nAction: book\nAction Input: {"page": 1, "tags": ["a", "b"]}'
NESTED: Gold = [{"Action": "save", "Action_Input": '{"user": {"name": "Ada"}}'}]
OPTIONAL: Gold = [{"Action": "[Optional]save", "Action_Input": "{}"}]


@pytest.mark.parametrize(
    ("reply", "gold", "strict", "published"),
    [
        (f"{FIND}\n{BOOK}", GOLD, True, True),
        (f"Thought: both.\n{BOOK}\nThought: and now\n{FIND}\nDone.", GOLD, True, True),
        ('Action: find\nAction Input: {"tags": ["a", "b"], "page": 1}\n' + BOOK, GOLD, True, True),
        (FIND, GOLD, False, False),
        (f"{FIND}\n{BOOK}\n{BOOK}", GOLD, False, False),
        (f"{FIND}\n{BOOK}\nAction: none\nAction Input: {{}}", GOLD, False, False),
        ('Action: find\nAction Input: {"tags": ["b", "a"], "page": 1}\n' + BOOK, GOLD, False, False),
        ('Action: find\nAction Input: {"tags": ["a", "b"], "page": "1"}\n' + BOOK, GOLD, False, False),
        ("find(page=1); book(when='noon')", GOLD, False, False),
        ("", GOLD, False, False),
        (written(NESTED), NESTED, True, False),
        (written(OPTIONAL), OPTIONAL, True, False),
        (f'{FIND}\nAction: `book`\nAction Input: {{"when": "noon"}}', GOLD, True, False),
        (f'{FIND}\nAction: book\nAction Input: ```json\n{{"when": "noon"}}\n```', GOLD, True, False),
        (SWAPPED, GOLD, False, True),
        ('Action: find\nAction Input: {"page": true, "tags": ["a", "b"]}\n' + BOOK, GOLD, False, True),
        (f"{FIND}\n{BOOK}\nAction Input: {{oops}}", GOLD, False, True),
        (f"{FIND} and {BOOK}", GOLD, False, True),
        (Reply(f"{FIND}\n{BOOK}", finished=False), GOLD, False, True),
        ("Action: save\nAction Input: " + '{"a":' * 5000 + "}", NESTED, False, False),
        ('Action: save\nAction Input: {"a": ' + "9" * 5000 + "}", NESTED, False, False),
    ],
)
def test_replies_are_judged_as_by_hand(reply, gold, strict, published):
    assert (RULES["strict"].right(reply, gold), RULES["published"].right(reply, gold)) == (strict, published)
