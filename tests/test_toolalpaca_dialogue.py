"""ToolAlpaca's dialogue: what the simulated API accepts, what it refuses and why, and which dialogues are right."""

import json

import numpy as np
import pytest

from razorbench import Actions, Asked, Episodes, Reply
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.toolalpaca import Strict
from razorbench.tasks.toolalpaca_dialogue import TURNS, documented, read, redone, refused, written

DONE = "Thought: I know.\nFinal Answer: Here they are."
HAIR = {
    "style": "string. One of: [short, long]. How long.",
    "number": "Required. integer. How many.",
    "share": "number. Of all.",
    "tags": "Array[string]. Words.",
    "more": "Object. Anything.",
    "blob": "#Blob. Whatever.",
}
QUESTION = f"""Tools.
Documentation:
cutHair: Cut it: well.
Parameters: {json.dumps(HAIR)}
Output: Done.
 - Format: application/json
 - Structure: Object{{cut}}
listSalons: All of them. Parameters: {{}} Output: A list.
Use the following format:
Action: …

Begin!
Question: Cut!"""


class Talks:
    """Says these replies, one a turn, the last again and again."""

    def __init__(self, *replies: str):
        self.replies = replies

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        return Actions([self.replies[min(turn, len(self.replies) - 1)] for turn in asked.turn.tolist()])


@pytest.fixture
def task(data):
    return make("task", "toolalpaca-dialogue-v1")


def held(task, *replies: str) -> Episodes:
    """A dialogue about two pictures: small albino axolotls, and ones of middle size."""
    every = task.instances("test")
    (at,) = np.flatnonzero(every.id == "test-82")
    return rollout(Talks(*replies), task, every.take(np.array([at])))


def search(**inputs) -> str:
    return written("searchAxolotlImages", {"color": "albino", "page": 1, **inputs})


SMALL, MEDIUM = search(size="small"), search(size="medium")


def test_91_requests_are_tested_and_74_train_and_the_others_ask_for_what_there_is_not(task):
    for split, count, gone in (("train", 74, range(30, 36)), ("test", 91, (10, 33, 60, 61, 95, 96))):
        every, kept = Strict().instances(split), task.instances(split)
        assert len(kept) == count
        assert {*every.id.tolist()} - {*kept.id.tolist()} == {f"{split}-{at}" for at in gone}
        for one in every:
            asked = redone(one.data["question"])
            gold = [(call["Action"], json.loads(call["Action_Input"])) for call in one.data["gold"]]
            assert any(refused(call, documented(asked)) for call in gold) == (one.id not in kept.id)
            assert len(documented(asked)) == one.data["question"].count("Parameters: ")


def test_question_asks_for_one_call_at_a_time(task):
    for split in ("train", "test"):
        for question in task.instances(split).data["question"]:
            assert question.count("make one call at a time") == 1
            assert question.rpartition("\nQuestion: ")[2].strip()
            assert "Documentation:" in question


@pytest.mark.parametrize(
    ("replies", "right"),
    [
        ((SMALL, MEDIUM, DONE), True),
        ((MEDIUM, SMALL, DONE), True),
        ((search(size="small", gender=""), search(size="medium", gender=None), DONE), True),
        ((SMALL, search(size="tiny"), MEDIUM, DONE), True),
        ((SMALL, search(size="medium", age=3), MEDIUM, DONE), True),
        ((SMALL, "Thought: hm.", MEDIUM, DONE), True),
        ((SMALL, MEDIUM + "\n" + SMALL, MEDIUM, DONE), True),
        ((SMALL, Reply(MEDIUM, finished=False), MEDIUM, DONE), True),
        ((SMALL, MEDIUM + "\n" + DONE, MEDIUM, DONE), True),
        ((SMALL, MEDIUM, Reply(DONE, finished=False), DONE), True),
        ((SMALL, MEDIUM), False),
        ((SMALL, DONE), False),
        ((DONE,), False),
        ((SMALL, SMALL, MEDIUM, DONE), False),
        ((SMALL, MEDIUM, written("getAxolotlFacts", {}), DONE), False),
        ((SMALL, search(size="large"), DONE), False),
        ((SMALL, search(size="medium", gender="male"), DONE), False),
        ((SMALL, search(size="medium", page=2), DONE), False),
        ((SMALL, MEDIUM + "\n" + DONE), False),
        ((SMALL, Reply(MEDIUM, finished=False), DONE), False),
        ((SMALL + "\n" + MEDIUM, DONE), False),
        ((f"Observation: accepted.\n{SMALL}", MEDIUM, DONE), True),
        (("", DONE), False),
    ],
)
def test_dialogues_are_judged_as_by_hand(task, replies, right):
    assert held(task, *replies).reward[0] == right


def test_what_the_api_says_and_what_is_measured(task):
    shown = held(task, SMALL, search(size="tiny"), "Hm.", MEDIUM, DONE)
    said = [seen.text for seen in shown[0].observations[1:]]
    form = "Object{results: Array[Object{url, source, description}], pagination: Object{current_page, total_pages, "
    assert (
        said[0]
        == said[3]
        == (
            f"Observation: accepted; the result has the form {form}total_results}}}}; "
            "this API is simulated and tells no content."
        )
    )
    assert said[1] == "Observation: Error: size of searchAxolotlImages should be one of small, medium, large."
    assert said[2] == ("Observation: Error: give one Action with its Action Input as a JSON object, or a Final Answer.")
    assert shown.outcome
    told = {name: float(column[0]) for name, column in shown.outcome.metrics.items()}
    assert told == {"well_formed": 0.8, "turns": 5, "refused": 1}


def test_dialogue_without_end_is_ended(task):
    shown = held(task, "Hm.")
    assert (len(shown[0].actions), shown.reward[0]) == (TURNS, 0)


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("cutHair", {"number": 1}, ""),
        ("cutHair", {"number": 1, "style": "long", "share": 0.5, "tags": ["a"], "more": {"a": 1}, "blob": 3}, ""),
        ("cutHair", {"number": 1, "share": 1, "style": ""}, ""),
        ("listSalons", {}, ""),
        ("cuthair", {"number": 1}, "there is no tool cuthair; the tools are cutHair, listSalons"),
        ("cutHair", {}, "cutHair needs number"),
        ("cutHair", {"number": ""}, "cutHair needs number"),
        ("cutHair", {"number": "1"}, "number of cutHair should be of the type integer"),
        ("cutHair", {"number": 1.5}, "number of cutHair should be of the type integer"),
        ("cutHair", {"number": True}, "number of cutHair should be of the type integer"),
        ("cutHair", {"number": 1, "style": "medium"}, "style of cutHair should be one of short, long"),
        ("cutHair", {"number": 1, "tags": "a"}, "tags of cutHair should be of the type Array[string]"),
        ("cutHair", {"number": 1, "more": []}, "more of cutHair should be of the type Object"),
        ("cutHair", {"number": 1, "day": "Monday"}, "cutHair has no input day; it has style, number"),
        ("listSalons", {"day": "Monday"}, "listSalons has no input day; it has none"),
    ],
)
def test_calls_are_held_against_the_documentation(name, inputs, said):
    tools = documented(QUESTION)
    assert (tools["cutHair"].output, tools["listSalons"].output) == ("Object{cut}", "")
    why = refused((name, inputs), tools)
    assert bool(why) == bool(said)
    assert said in why


@pytest.mark.parametrize(
    ("reply", "ended", "named"),
    [
        (DONE, True, None),
        ("final answer: yes", True, None),
        ("The final answer: yes", False, None),
        ("Action: a\nAction Input: {}", False, "a"),
        ("Thought: so.\nAction: a\nAction Input: {}\nFinal Answer: b", False, None),
        ("Action: a\nAction Input: {", False, None),
        ("Action: a", False, None),
        ("Final Answer: Actions were taken.\nActions: none", True, None),
    ],
)
def test_reply_is_a_call_or_an_end(reply, ended, named):
    over, call = read(reply)
    assert (over, call and call[0]) == (ended, named)
