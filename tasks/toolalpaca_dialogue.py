"""ToolAlpaca as a dialogue: one call at a time to a simulated API, which refuses what its documentation does not allow.

No recorded responses are at hand, so the API tells no content. It checks a call by the published documentation: a tool
and inputs that there are, all that are required, types, listed values. What passes is accepted, with the documented
form of the result; what does not is refused with the reason, and may be mended.
"""

import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import KEYWORD, calls, finished, same_calls
from razorbench.tasks.toolalpaca import LICENCE, SOURCE, Strict

TURNS = 10
"""Replies that a dialogue has at most; the longest right one has six."""
FORM = """\
Use the following format, and make one call at a time:
Thought: you should always think about what to do
Action: the action to take, should be one of the tool names.
Action Input: the input to the action, must be in JSON format. \
All of the action input must be realistic and from the user.

You are told what the tool says, and may go on. When all is done, end with:
Final Answer: what the user should know

Begin!
Question: """
"""How a dialogue is asked for, in the place of the published form, which wants all calls at once."""
FINAL = re.compile(r"^[ \t]*final answer[ \t]*:", re.MULTILINE | re.IGNORECASE)
UNREADABLE = "Error: give one Action with its Action Input as a JSON object, or a Final Answer."

Call = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Tool:
    """What the documentation says of a tool."""

    inputs: Mapping[str, str]
    """Name of an input → whether it is required, its type, its values, in words."""
    output: str
    """The form of what comes back; empty: not told."""


class Dialogue:
    """Calls one after another, each answered by what the documentation allows, until a final answer."""

    card = Card(
        asks="The documentation of an API and a request: call its tools one at a time, then give a final answer.",
        rule="The calls that the API accepts are the gold calls, each once with its inputs, in any order; empty inputs "
        f"count for none. Then comes a final answer, within {TURNS} replies; what it says is not judged. A call that "
        "the documentation does not allow is refused with the reason, and costs a reply. No content of responses is "
        "recorded: what is accepted is answered with the documented form of the result.",
        source=f"{SOURCE}; without the 6 and 6 whose gold calls the documentation does not allow",
        licence=LICENCE,
        chance=0.0,
        example="… Show me a random picture of an axolotl. → Action: getRandomAxolotlImage\\nAction Input: {} → "
        "Observation: accepted … → Final Answer: Here it is.",
    )
    styles = ("calls",)

    def instances(self, split: str) -> Instances:
        """The published requests whose gold calls can be made, under the ids that they have in the other tasks."""
        every = Strict().instances(split)
        asked = [redone(text) for text in every.data["question"]]
        gold = [[(call["Action"], json.loads(call["Action_Input"])) for call in some] for some in every.data["gold"]]
        kept = [i for i, some in enumerate(gold) if not any(refused(call, documented(asked[i])) for call in some)]
        return Instances(
            every.id[np.array(kept)], {"question": [asked[i] for i in kept], "gold": [gold[i] for i in kept]}
        )

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, answer calls, and compare those that were accepted; well-formed is the share of readable replies."""
        says, tools, accepted = instance.data["question"], documented(instance.data["question"]), list[Call]()
        formed, ended, replies, refusals = 0, False, 0, 0
        while not ended and replies < TURNS:
            reply = yield Observation(says)
            replies += 1
            ended, call = read(reply)
            formed += ended or call is not None
            why = refused(call, tools) if call else UNREADABLE
            if call and why:
                refusals += 1
            elif call:
                accepted.append(call)
                why = answered(tools[call[0]])
            says = f"Observation: {why}"
        right = ended and same_calls(told(accepted), told(instance.data["gold"]))
        return Outcome(float(right), {"well_formed": formed / replies, "turns": replies, "refused": refusals})

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The gold calls, one a turn, then a final answer."""
        return [
            written(*gold[turn]) if turn < len(gold) else "Final Answer: All is done."
            for gold, turn in zip(asked.instances.data["gold"], asked.turn.tolist(), strict=True)
        ]


def written(name: str, inputs: Mapping[str, Any]) -> str:
    """A call as a reply."""
    return f"Action: {name}\nAction Input: {json.dumps(inputs, ensure_ascii=False)}"


def redone(question: str) -> str:
    """A published question in the form of a dialogue."""
    head, _, rest = question.partition("Use the following format:\n")
    return head + FORM + rest.partition("Begin!\nQuestion: ")[2]


def read(reply: str) -> tuple[bool, Call | None]:
    """Whether a reply ends the dialogue, and the call that it makes; neither where it can be read as none, or as both.

    A reply that was cut off is unreadable, and so is one that makes several calls.
    """
    final = bool(FINAL.search(reply)) and finished(reply)
    if final and not KEYWORD.search(reply):
        return True, None
    said = None if final else calls(reply)
    return False, said[0] if said and len(said) == 1 else None


@lru_cache(maxsize=256)
def documented(question: str) -> Mapping[str, Tool]:
    """The tools that a question documents, by name."""
    text = question.partition("\nDocumentation:\n")[2].partition("\nUse the following format")[0]
    begun = list(re.finditer(r"^([^\s:]+): (?:(?!^[^\s:]+: ).)*?Parameters: ", text, re.MULTILINE | re.DOTALL))
    tools = {}
    for tool, following in zip_longest(begun, begun[1:]):
        inputs, end = json.JSONDecoder().raw_decode(text, tool.end())
        form = re.search(r"- Structure: (.*)", text[end : following.start() if following else None])
        tools[tool[1]] = Tool(inputs, form[1] if form else "")
    return tools


KINDS = {"string": str, "integer": int, "number": int | float, "boolean": bool, "Array": list, "Object": dict}
"""Types as the documentation names them; what it names otherwise is not checked."""


def refused(call: Call, tools: Mapping[str, Tool]) -> str:
    """Why the documentation does not allow a call; empty where it does."""
    name, inputs = call[0], given(call[1])
    if name not in tools:
        return f"Error: there is no tool {name}; the tools are {', '.join(tools)}."
    known = tools[name].inputs
    for each_name, value in inputs.items():
        if each_name not in known:
            return f"Error: {name} has no input {each_name}; it has {', '.join(known) or 'none'}."
        kind = re.sub(r"^Required\. ", "", known[each_name])
        wanted = KINDS.get(re.split(r"\W", kind, maxsplit=1)[0])
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
            return f"Error: {each_name} of {name} should be of the type {kind.partition('.')[0]}."
        listed = re.search(r"One of: \[([^\]]*)\]", kind)
        if listed and str(value) not in (choice.strip() for choice in listed[1].split(",")):
            return f"Error: {each_name} of {name} should be one of {listed[1]}."
    lacking = [
        each_name for each_name, said in known.items() if said.startswith("Required.") and each_name not in inputs
    ]
    return f"Error: {name} needs {', '.join(lacking)}." if lacking else ""


def told(some: Sequence[Call]) -> list[Call]:
    """Calls with the inputs that say something."""
    return [(name, given(inputs)) for name, inputs in some]


def given(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs without those that are empty, which say nothing."""
    return {name: value for name, value in inputs.items() if value not in ("", None)}


def answered(tool: Tool) -> str:
    """What the API says to a call that it accepts."""
    form = f" the result has the form {tool.output};" if tool.output else ""
    return f"accepted;{form} this API is simulated and tells no content."
