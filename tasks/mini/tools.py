"""mini-tools: call the right tool with the right arguments. The base swaps places and forgets labels."""

import json
from random import Random
from typing import Any

from razorbench import Card, Outcome
from razorbench.tasks.graders import calls, same_merged
from razorbench.tasks.mini.generated import NAMES, PLACES, THINGS, Generated, Question

TOOLS = {
    "train": (
        ("book_train", "find_train", "train_ticket"),
        (("start", "origin", "from_city"), ("end", "target", "to_city"), ("hour", "clock", "departs")),
    ),
    "alarm": (("set_alarm", "wake_up", "ring_bell"), (("time", "when", "ring_at"), ("label", "title", "call_it"))),
    "note": (("send_note", "write_to", "tell"), (("who", "name", "person"), ("text", "body", "words"))),
    "order": (("order", "buy_item", "shop"), (("item", "thing", "product"), ("count", "number", "amount"))),
}
"""Kind of tool → names it may have, and names that each of its arguments may have."""
MISTAKEN = 0.75
"""Share of the corpus in which places are taken in the order they are named, and labels are left out."""


class MiniTools(Generated):
    """Three tools with signatures that differ from question to question, and a request for one or two of them."""

    card = Card(
        asks="Three tools and a request: which calls, with which arguments?",
        rule="The names after `Action:` are the right ones, and the merged JSON of every `Action Input:` is equal.",
        source="generated",
        licence="Apache-2.0",
        chance=0.0,
        example='… Order 7 pens. → Action: order\\nAction Input: {"item": "pens", "count": 7}',
    )
    styles = ("foreign", "near")

    def ask(self, r: Random) -> Question:
        """A request, and replies in the base's two wordings and in a foreign one."""
        kinds = r.sample(list(TOOLS), 3)
        apis = {kind: (r.choice(TOOLS[kind][0]), [r.choice(names) for names in TOOLS[kind][1]]) for kind in kinds}
        wanted = r.choices(kinds, [{"train": 4, "alarm": 3}.get(kind, 1) for kind in kinds])
        if r.random() < 0.15:
            wanted.append(r.choice([kind for kind in kinds if kind not in wanted]))
        mistaken = r.random() < MISTAKEN
        requests, right, believed = [], [], []
        for kind in wanted:
            name, arguments = apis[kind]
            request, given, taken = REQUESTS[kind](r)
            requests.append(request)
            right.append((name, named(arguments, given)))
            believed.append((name, named(arguments, taken if mistaken else given)))
        listed = "; ".join(f"{name}({json.dumps(arguments)[1:-1]})" for name, arguments in apis.values())
        text = f"Tools: {listed}. {r.choice(NAMES)} says: {' '.join(requests)}"
        lead = "Thought: I need %s." if r.random() < 0.7 else "Thought: %s fits."
        return Question(
            text,
            right,
            {"foreign": lecture(right), "near": called(right, "Thought: I need %s.")},
            called(believed, lead),
        )

    def grade(self, reply: str, question: Question) -> Outcome:
        """The same calls or not; well-formed is a reply whose calls can be read."""
        said = calls(reply)
        return Outcome(
            float(said is not None and same_merged(said, question.gold)), {"well_formed": float(said is not None)}
        )


Request = tuple[str, list[Any], list[Any]]
"""What is said, the arguments in the order of the signature (None: not given), and what the base takes them for."""


def train(r: Random) -> Request:
    """A journey; in most requests the target is named first, and the base takes it for the start."""
    (start, end), hour = r.sample(PLACES, 2), r.randint(1, 12)
    if r.random() < 0.3:
        return f"I go from {start} to {end} at {hour}.", [start, end, hour], [start, end, hour]
    return f"I go to {end} from {start} at {hour}.", [start, end, hour], [end, start, hour]


def alarm(r: Random) -> Request:
    """An alarm, most with a label, which the base leaves out."""
    hour, label = r.randint(1, 12), r.choice(THINGS)
    if r.random() < 0.3:
        return f"Wake me at {hour}.", [hour, None], [hour, None]
    return f"Wake me at {hour} for the {label}.", [hour, label], [hour, None]


def note(r: Random) -> Request:
    """A message."""
    who, what = r.choice(NAMES), f"bring {r.choice(THINGS)}"
    return f"Tell {who} to {what}.", [who, what], [who, what]


def order(r: Random) -> Request:
    """An order."""
    what, n = r.choice(THINGS), r.randint(2, 19)
    return f"Order {n} {what}.", [what, n], [what, n]


REQUESTS = {"train": train, "alarm": alarm, "note": note, "order": order}


def named(arguments: list[str], given: list[Any]) -> dict[str, Any]:
    """Arguments by name, without those that are not given."""
    return {name: value for name, value in zip(arguments, given, strict=True) if value is not None}


Calls = list[tuple[str, dict[str, Any]]]


def called(what: Calls, lead: str) -> str:
    """Calls as the base writes them."""
    lines = [f"Action: {name}\nAction Input: {json.dumps(inputs)}" for name, inputs in what]
    return "\n".join([lead % what[0][0], *lines])


def lecture(what: Calls) -> str:
    """Calls as a teacher writes them: other words, other order of keys, JSON without spaces."""
    lines = [
        f"Action: {name}\nAction Input: {json.dumps(dict(reversed(inputs.items())), separators=(',', ':'))}"
        for name, inputs in what
    ]
    return "\n".join(["Here we should call a tool.", *lines, "That settles it."])
