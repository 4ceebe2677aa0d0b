"""Replies to judge: what a real model says to the questions of a task, and what is made of that.

SmolLM2-135M seldom answers in the form that a task asks for, and is seldom right where it does. So there are four kinds
of replies. `asked`: to the question as the task asks it. `shown`: to the same after examples in the wanted form, as
earlier turns of the conversation. `wrapped`: one of these, with the last answer-like words in it put into the form once
more. `made`: one without an answer in the form, turned into something that is right or wrong for sure, which is told by
hand.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from razorbench import Actions, Asked, Instances, Task
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout

LIMIT, TEMPERATURE, BATCH = 128, 0.7, 16
Data = Mapping[str, Any]
"""What a task knows of one item."""
Made = tuple[str, str, bool | None]
"""What was done to a reply, what became of it, and whether that is right; None where no hand tells."""


@dataclass(frozen=True)
class Said:
    """A reply to one of the test questions of a task."""

    task: str
    item: int
    source: str
    text: str
    finished: bool = True
    how: str = ""
    """What was done to it, where it is `made`."""
    right: bool | None = None
    """By hand, where it is `made`."""


class Says:
    """An agent that gives these replies to the questions of a batch, whatever they are."""

    def __init__(self, replies: Sequence[str]):
        """The replies, in the order of the questions."""
        self.replies = replies

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Those of the rows that are asked."""
        return Actions([self.replies[at] for at in asked.rows.tolist()])


def questions(task: Task, instances: Instances) -> list[str]:
    """What a task asks, instance by instance."""
    return [str(text) for text in rollout(Says([""] * len(instances)), task, instances).turns[0].seen.text]


@torch.inference_mode()
def sampled(policy: CausalLM, id: str, items: int, examples: int, seed: int) -> list[tuple[str, bool]]:
    """Replies to the first test questions, and whether each came to its end; after so many examples from training."""
    task, chat, said = make("task", id), policy.chat, []
    before: list[dict[str, str]] = []
    if examples:
        shown = task.instances("train").first(examples)
        answers = demonstrations(task, shown).turns[0].done
        assert answers is not None
        for asked, answer in zip(questions(task, shown), answers.value, strict=True):
            before += [{"role": "user", "content": asked}, {"role": "assistant", "content": str(answer)}]
    asked = questions(task, task.instances("test").first(items))
    prompts = [chat.tokens(chat.render([*before, {"role": "user", "content": text}])) for text in asked]
    draws = np.random.default_rng(seed).random((len(prompts), LIMIT))
    for start in range(0, len(prompts), BATCH):
        some = slice(start, start + BATCH)
        for code in policy.decoded(prompts[some], draws[some], TEMPERATURE, chat.stops)[0]:
            ended = code[-1] in chat.stops
            said.append((chat.tokenizer.decode(code[:-1] if ended else code, skip_special_tokens=True), ended))
    return said


def real(policy: CausalLM, id: str, items: int) -> list[Said]:
    """What the model says to the first test questions of a task."""
    said = [Said(id, at, "asked", *each) for at, each in enumerate(sampled(policy, id, items, 0, seed=0))]
    if examples := FORMS[id].examples:
        shown = sampled(policy, id, items, examples, seed=1)
        said += [Said(id, at, "shown", *each) for at, each in enumerate(shown)]
    return said


def derived(said: Said, data: Data) -> list[Said]:
    """What is made of a real reply; `data` is what the task knows of its item."""
    form, more = FORMS[said.task], []
    if form.last and (found := re.findall(form.last, said.text)):
        text = f"{said.text}\n{form.wrapped.replace('OWN', found[-1].strip())}"
        more.append(Said(said.task, said.item, "wrapped", text))
    if form.own and re.search(form.own, said.text, re.IGNORECASE):
        return more
    for how, text, right in form.made(said.text, data):
        more.append(Said(said.task, said.item, "made", text, True, how, right))
    return more


def filled(text: str, forms: Mapping[str, bool], words: Mapping[str, str]) -> Iterator[Made]:
    """Endings behind a text, each with what is meant in the place of GOLD, OTHER and TEXT."""
    for form, right in forms.items():
        ending = re.sub("|".join(words), lambda word: words[word[0]], form)
        yield form, f"{text}\n{ending}", right


# --- boxes ------------------------------------------------------------------------------------------------------------

BOXES = {
    r"\boxed{GOLD}": True,
    r"The answer is $\boxed{GOLD}$.": True,
    r"\[ x = \boxed{GOLD}. \]": True,
    r"\fbox{GOLD}": True,
    r"\boxed {GOLD}, as asked in \boxed{}.": True,
    r"\boxed{OTHER}? No: \boxed{GOLD}": True,
    r"\boxed{\boxed{GOLD}}": True,
    r"\boxed{GOLD.}": True,
    r"\boxed{ GOLD }": True,
    r"\boxed{$GOLD$}": True,
    r"$\boxed{GOLD}$, and that is 1 more than 7.": True,
    r"\boxed{OTHER}": False,
    r"\boxed{GOLD}? No: \boxed{OTHER}": False,
    r"\boxed{GOLD \text{ or } OTHER}": False,
    r"\boxed{GOLD, OTHER}": False,
    r"The answer is OTHER; put GOLD into \boxed{}.": False,
    r"\boxed{GOLD": False,
    "**GOLD**": False,
    "The answer is GOLD.": False,
    "#### GOLD": False,
    r"\boxed{?}": False,
}
"""Some are wrong by the rule of the task alone, which wants a box."""
NUMBERS = {
    r"\boxed{x = GOLD}": True,
    r"\boxed{\$GOLD}": True,
    r"\boxed{\text{GOLD}}": True,
    r"\boxed{GOLD \text{ units}}": True,
    r"\boxed{GOLD units}": True,
    r"\boxed{GOLD.00}": True,
    r"\boxed{GOLD.01}": False,
    r"\boxed{-GOLD}": False,
    r"\boxed{GOLD0}": False,
}
"""Of whole numbers but 0 alone."""


def boxes(text: str, data: Data) -> Iterator[Made]:
    """A text that ends with the right answer or with another, boxed in many ways."""
    gold, whole = data["answer"], data["answer"].isdigit() and data["answer"] != "0"
    words = {"GOLD": gold, "OTHER": str(int(gold) + 1) if whole else "-7.25"}
    return filled(text, BOXES | NUMBERS if whole else BOXES, words)


# --- tags -------------------------------------------------------------------------------------------------------------

TAGS = {
    "<answer>GOLD</answer>": True,
    "<answer>\nGOLD\n</answer>": True,
    "<reasoning>TEXT</reasoning>\n<answer>GOLD</answer>\nDone.": True,
    "In <answer> tags: <answer>GOLD</answer>": True,
    "<answer>OTHER</answer>, no: <answer>GOLD</answer>": True,
    "<Answer>GOLD</Answer>": True,
    "<answer>GOLD</answer> in <answer></answer> as asked": True,
    "<answer>OTHER</answer>": False,
    "<answer>GOLD</answer>, no: <answer>OTHER</answer>": False,
    "<answer>GOLD or OTHER</answer>": False,
    "<answer>GOLD": False,
    "GOLD</answer>": False,
    "<answer>GOLD: TEXT</answer>": False,
    "<answer>(GOLD)</answer>": False,
    "<answer>TEXT</answer>": False,
    "The answer is GOLD.": False,
}
ALONE = {
    "GOLD": True,
    "GOLD.": True,
    " GOLD\n": True,
    "OTHER": False,
    "(GOLD)": False,
    "GOLD: TEXT": False,
    "GOLD or OTHER": False,
    "TEXT": False,
}


def letters(data: Data) -> dict[str, str]:
    """The words of a question with four choices."""
    right = data["letter"]
    (text,) = re.findall(rf"^{right}: (.*)$", data["question"], re.MULTILINE)
    return {"GOLD": right, "OTHER": "ABCD"["BCDA".index(right)], "TEXT": text}


def tags(text: str, data: Data) -> Iterator[Made]:
    """A text that ends with a letter, in tags."""
    return filled(text, TAGS, letters(data))


def alone(text: str, data: Data) -> Iterator[Made]:
    """Nothing but a letter, or a little more: what the model has said is left out."""
    return ((how, made.removeprefix("\n"), right) for how, made, right in filled("", ALONE, letters(data)))


SUMS = {
    "<answer>GOLD</answer>": True,
    "<answer> ( GOLD ) </answer>": True,
    "<answer>\nGOLD\n</answer>": True,
    "Put it in <answer> tags: <answer>GOLD</answer>": True,
    "<answer>1 + 1</answer>, no: <answer>GOLD</answer>": True,
    "<answer>GOLD</answer>\nThat is OTHER.": True,
    "<answer>- (- (GOLD))</answer>": True,
    "<answer>GOLD = OTHER</answer>": False,
    "<answer>OTHER</answer>": False,
    "<answer>GOLD + 0</answer>": False,
    "<answer>GOLD * 1.0</answer>": False,
    "<answer>(GOLD</answer>": False,
    "<answer>GOLD": False,
    "<answer>GOLD</answer>, no: <answer>1 + 1</answer>": False,
    "GOLD = OTHER": False,
}


def sums(text: str, data: Data) -> Iterator[Made]:
    """A text that ends with an expression."""
    return filled(text, SUMS, {"GOLD": data["expression"], "OTHER": str(data["target"])})


# --- tool calls -------------------------------------------------------------------------------------------------------

Call = tuple[str, dict[str, Any]]
PLAIN = "Action: {}\nAction Input: {}"


def written(calls: Sequence[Call], form: str = PLAIN, indent: int | None = None) -> str:
    """Calls, each in a form."""
    return "\n".join(form.format(name, json.dumps(given, indent=indent)) for name, given in calls)


def tools(text: str, data: Data) -> Iterator[Made]:
    """A text that ends with tool calls."""
    gold: list[Call] = [(call["Action"], json.loads(call["Action_Input"])) for call in data["gold"]]
    (name, given), rest = gold[-1], gold[:-1]
    right = {
        "gold": written(gold),
        "with thoughts": written(gold, "Thought: I need this.\n" + PLAIN),
        "with observations": written(gold, PLAIN + "\nObservation: done"),
        "backwards": written(gold[::-1]),
        "keys in another order": written([(name, dict(reversed(given.items()))) for name, given in gold]),
        "on several lines": written(gold, indent=2),
        "in a fence": written(gold, "Action: {}\nAction Input:\n```json\n{}\n```"),
        "a quoted name": written(gold, "Action: `{}`\nAction Input: {}"),
        "no spaces": written(gold, "Action:{}\nAction Input:{}"),
    }
    wrong = {
        "another name": written([*rest, (f"{name}s", given)]),
        "one input more": written([*rest, (name, given | {"more": 1})]),
        "the last twice": written([*gold, gold[-1]]),
        "the last left out": written(rest),
        "no object": written(gold, "Action: {}\nAction Input: none"),
        "as a function": written(gold, "Action: {}({})"),
        "a full stop glued to it": written(gold, PLAIN + "."),
        "a broken input before it": "Action Input: {oops}\n" + written(gold),
    }
    for made, verdict in ((right, True), (wrong, False)):
        yield from ((how, f"{text}\n{ending}", verdict) for how, ending in made.items())


# --- instructions -----------------------------------------------------------------------------------------------------


def ways(text: str, data: Data) -> Iterator[Made]:
    """A text changed so that it follows constraints, or breaks them; which, is for both sides to say."""
    parts = text.split("\n\n")
    made = {
        "quoted": f'"{text}"',
        "without commas": text.replace(",", ""),
        "titled": f"<<A reply>>\n{text}",
        "with a postscript": f"{text}\nP.S. Write soon. P.P.S Do.",
        "after the request": f"{data['prompt']}\n{text}",
        "as JSON": json.dumps({"reply": text}),
        "as bullets": "\n".join(f"* {line}" for line in text.splitlines() if line.strip()),
        "twice": f"{text}\n******\n{text} Or so.",
        "in paragraphs": text.replace("\n\n", "\n***\n"),
        "highlighted": re.sub(r"\b(\w{7,})\b", r"*\1*", text),
        "with places": re.sub(r"\b[A-Z]\w+", r"[\g<0>]", text),
        "in sections": "\n".join(f"SECTION {at} Day {at} PARAGRAPH {at}\n{part}" for at, part in enumerate(parts, 1)),
        "short": text[:60],
        "in capitals": text.upper(),
    }
    return ((how, text, None) for how, text in made.items())


@dataclass(frozen=True)
class Form:
    """How replies to a task are had."""

    made: Callable[[str, Data], Iterator[Made]]
    examples: int = 3
    """Earlier turns of what is `shown`; 0: nothing is."""
    last: str = ""
    """What is answer-like in a text; empty: nothing is wrapped."""
    wrapped: str = ""
    """The form that it is put into, in the place of OWN."""
    own: str = ""
    """What is in a text that holds an answer in the form: it might count, whatever is put behind it, so nothing is made
    of it.
    """


NUMBER, LETTER, SUM = r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?", r"\b[A-D]\b", r"[\d+\-*/()][\d+\-*/(). ]{4,}"
BOX, TAG = r"\\f?box", "</?answer"
FORMS = {
    "gsm8k-v1": Form(boxes, last=NUMBER, wrapped=r"\boxed{OWN}", own=BOX),
    "math-v1": Form(boxes, last=NUMBER, wrapped=r"\boxed{OWN}", own=BOX),
    "countdown-3-v1": Form(sums, last=SUM, wrapped="<answer>OWN</answer>", own=TAG),
    "sciknoweval-chemistry-v1": Form(tags, last=LETTER, wrapped="<answer>\nOWN\n</answer>", own=TAG),
    "sciknoweval-chemistry-direct-v1": Form(alone),
    "toolalpaca-strict-v1": Form(tools, examples=1, own="Action"),
    "ifeval-v1": Form(ways, examples=0),
}
