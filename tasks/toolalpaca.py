"""ToolAlpaca: an API and a request; which calls, with which inputs? Judged strictly, or as published."""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import calls, same_calls
from razorbench.tasks.published import Published, numbered, rows

TEST = Published(
    path="authors_splits/tooluse_eval.jsonl",
    origin="github.com/ayushnangia/Self-Distillation at 4b1c3db, tooluse_eval.arrow as JSON lines",
    sha256="a01d6d4822144edc8fc218f52e6c72bbaaff34f478feab574c1c35d04f005237",
    columns=("prompt", "golden_answer"),
)
REAL = Published(
    path="toolalpaca/eval_real.json",
    origin="github.com/tangqiaoyu/ToolAlpaca at 1890699, data/eval_real.json",
    sha256="abb41a755e00e6ae2b72f6dd3fa8daeb9e79cc8f709d730b8b90a3fb97297545",
    columns=("Name", "Description", "Authentication", "NLDocumentation", "Instructions", "Golden_Answers"),
)
ASKED = (
    "Your task is to answer the user's question using available tools. \nYou have access to the following tools:\n"
    "Name: {Name}\nDescription: {Description}\nDocumentation:\n{NLDocumentation}\n"
    "Use the following format:\nThought: you should always think about what to do\n"
    "Action: the action to take, should be one of the tool names.\n"
    "Action Input: the input to the action, must be in JSON format. "
    "All of the action input must be realistic and from the user.\n\nBegin!\nQuestion: {question}"
)
"""The form of the test questions, which the training questions get, too."""

Gold = list[Mapping[str, str]]
"""Each call as it is published: `Action`, and `Action_Input` as the text of a JSON object."""


NAME = re.compile(r"Action:\s*(\w+)")
INPUT = re.compile(r"Action Input:\s*(\{.*?\})", re.DOTALL)
"""What the published rule reads: up to the first closing brace, so never an object within an object."""
SOURCE = (
    "ToolAlpaca (arXiv 2306.05301); test: 97 requests to its 10 simulated APIs, 68 of its own and 29 that the "
    "Self-Distillation repository adds; train: 80 requests, all to those 8 of its real APIs that ask for no key"
)
LICENCE = "Apache-2.0; none stated for the 29"
EXAMPLE = "… Show me a random picture of an axolotl. → Action: getRandomAxolotlImage\\nAction Input: {}"


class Requests(ABC):
    """All calls that a request needs, at once and without their results: the paper's new task in tool use."""

    card: Card

    def instances(self, split: str) -> Instances:
        """The published rows, in their order."""
        if split == "test":
            pairs = [(row["prompt"], row["golden_answer"]) for row in rows(TEST)]
        else:
            pairs = [
                (ASKED.format(**api, question=question), gold)
                for api in rows(REAL)
                if not api["Authentication"]  # no question tells the key that the gold calls have
                for question, gold in zip(api["Instructions"], api["Golden_Answers"], strict=True)
            ]
        ids = numbered(split, len(pairs))
        return Instances(ids, {"question": [text for text, _ in pairs], "gold": [gold for _, gold in pairs]})

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and compare calls; well-formed is a reply whose calls can be read strictly."""
        reply = yield Observation(instance.data["question"])
        right = self.right(reply, instance.data["gold"])
        return Outcome(float(right), {"well_formed": float(calls(reply) is not None)})

    @abstractmethod
    def right(self, reply: str, gold: Gold) -> bool:
        """Whether the reply makes the gold calls."""


class Strict(Requests):
    """The graders' own rule: nothing but the right calls, each with its own inputs, whatever is nested in them."""

    card = Card(
        asks="The documentation of an API and a request: which calls, with which JSON inputs?",
        rule="The calls of a finished reply can be read, and are the gold calls, each with its inputs, in any order.",
        source=SOURCE,
        licence=LICENCE,
        chance=0.0,
        example=EXAMPLE,
    )
    styles = ("calls",)

    def right(self, reply: str, gold: Gold) -> bool:
        """Whether the same tools are called, each time with the same inputs."""
        said = calls(reply)
        return said is not None and same_calls(
            said, [(call["Action"], json.loads(call["Action_Input"])) for call in gold]
        )

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The gold calls, one after the other."""
        return [written(gold) for gold in asked.instances.data["gold"]]


class AsPublished(Requests):
    """The rule of the paper's authors, as it stands: some right replies are wrong by it, and some wrong ones right.

    It has no expert, for nothing is right where an input holds an object or a name other signs than letters.
    """

    card = Card(
        asks="The documentation of an API and a request: which calls, with which JSON inputs?",
        rule="Words after every `Action:` are the gold names, as often each; what every `Action Input:` holds up to "
        "its first closing brace, merged, is what the gold inputs hold, merged. The gold answers score 95 of 97.",
        source=SOURCE,
        licence=LICENCE,
        chance=0.0,
        example=EXAMPLE,
    )

    def right(self, reply: str, gold: Gold) -> bool:
        """Whether the names are the same, and the merged inputs. A reply that was cut off counts like any other."""
        merged: dict[str, Any] = {}
        for text in INPUT.findall(reply):
            with suppress(ValueError, RecursionError):
                merged.update(json.loads(text))
        wanted = {key: value for call in gold for key, value in json.loads(call["Action_Input"]).items()}
        return Counter(NAME.findall(reply)) == Counter(call["Action"] for call in gold) and merged == wanted


def written(gold: Gold) -> str:
    """Calls as a reply: a name and its inputs, as they are published, each on a line."""
    return "\n".join(f"Action: {call['Action']}\nAction Input: {call['Action_Input']}" for call in gold)
