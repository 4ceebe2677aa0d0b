"""How replies are judged: a boxed answer, an answer tag, an option, tool calls. One grader each, for all tasks.

The rules are ours, and strict. Where the publication of a data set judges otherwise, its rule belongs to an id of its
own, as `toolalpaca-published-v1` is. A reply that was cut off at the token limit (`Reply.finished` False) has
no answer. Whatever a reply says, it gets a verdict, and nothing is raised.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import isfinite
from typing import Any

from razorbench.tasks.mathematics import alike

LONGEST = 200
"""Characters of an answer that are parsed as mathematics; longer ones are compared as text alone."""


def finished(reply: str) -> bool:
    """Whether the reply came to its end; a plain string did."""
    return getattr(reply, "finished", True)


# --- answers in a box or a tag, or all that is said -------------------------------------------------------------------

BOX = re.compile(
    r"""
    \\(?:boxed|fbox) (?:
        (?P<open> \s* \{ )
      | [ \t]* (?P<bare>
            [-+]? (?: \.?[0-9] | \\(?:[dt]?frac|sqrt|pi)(?![A-Za-z]) ) (?: [^\s${}] | \{[^\s${}]*\} )*
          | (?<=[ \t]) [A-Za-z] (?= \s*\$ | \.?\s*\Z )
        )
    )
    | \\(?!\\(?:boxed|fbox)). | [{}]
    """,
    re.VERBOSE | re.DOTALL,
)
r"""A box with braces, one without, an escaped sign such as `\{` that neither opens nor closes, a brace."""
TAG = re.compile(r"<answer\s*>((?:(?!<answer\s*>).)*?)</answer\s*>", re.DOTALL | re.IGNORECASE)


def boxed(reply: str) -> str | None:
    r"""What stands in the last \boxed{…} or \fbox{…} of a reply, braces balanced; None where there is none.

    `\boxed 8` is a box, too, which ends at a space, a `$` or the end: of a number, a fraction, a root, or of one letter
    with which the reply or its formula ends. A box that is never closed, an empty one and the bare word are mentions:
    they hide no earlier box. Of nested boxes the inner counts. Where all are empty, so is the answer.
    """
    if not finished(reply):
        return None
    last, at, opened = None, -1, []
    for part in BOX.finditer(reply):
        said = None
        if part["bare"]:
            start, said = part.start("bare"), part["bare"].rstrip(".,;:!?")
        elif part["open"] or part[0] == "{":
            opened.append(part.end() if part["open"] else None)
        elif part[0] == "}" and opened and (start := opened.pop()) is not None and start > at:
            said = reply[start : part.start()].strip()
        if said:
            last, at = said, start
        elif said is not None:
            last = last or ""
    return last


def answer_tag(reply: str) -> str | None:
    """What stands in the last <answer>…</answer> of a reply; None where there is none.

    From an opening tag to the closing one with no other opening between; capitals and a space before `>` do not
    matter, as in HTML. An empty pair hides no earlier answer. Where all are empty, so is the answer.
    """
    tags = [tag.strip() for tag in TAG.findall(reply)] if finished(reply) else []
    return next((tag for tag in reversed(tags) if tag), "" if tags else None)


def option(reply: str, options: Sequence[str]) -> str | None:
    """Which option a finished reply is; None where it is none of them.

    The whole reply counts, whatever its case, with or without a full stop at its end: no option is looked for in a
    longer one.
    """
    said = reply.strip().removesuffix(".").casefold() if finished(reply) else None
    return next((each for each in options if each.casefold() == said), None)


def last_option(reply: str, options: Sequence[str]) -> str | None:
    """Which option a finished reply names last, as a word of its own and in this case; None where it names none."""
    if not finished(reply):
        return None
    named = re.findall(rf"(?<!\w)(?:{'|'.join(map(re.escape, options))})(?!\w)", reply)
    return named[-1] if named else None


# --- numbers and formulas ---------------------------------------------------------------------------------------------

FAR = Fraction(1, 10_000)
"""Relative difference of numbers that no rounding makes the same."""
STOP = re.compile(r"(?<!\.)(?<!\\right)\.\Z")
r"""The full stop of a sentence that ends in the box; in `\right.` it is a bracket that is not drawn."""
DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
FRACTION = re.compile(
    r"([+-]?)(?:([0-9]+)\s+)?([0-9]+)/([0-9]+)|([+-]?)([0-9]+)?\s*\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}",
)


def equal(said: str, gold: str) -> bool:
    r"""Whether two answers are the same mathematically; the same text always is.

    A full stop at the end counts for nothing. Plain numbers that are equal, or far from it, need no library: `8`,
    `-3.50`, `3/4`, `1 1/2`, `1\frac{1}{2}`. All else is for math-verify, within `mathematics.LIMIT`: decimals are the
    same to six places, `8%` is 8 and 0.08, `[8]` is 8, letters have no case; `8 pens` and `1e3` are not understood.
    """
    said, gold = (STOP.sub("", text.strip()).rstrip() for text in (said, gold))
    if said == gold:
        return True
    if len(said) > LONGEST:
        return False
    a, b = number(said), number(gold)
    if a is not None and b is not None and (a == b or abs(a - b) > FAR * max(1, abs(a), abs(b))):
        return a == b
    return alike(said, gold)


def number(text: str) -> Fraction | None:
    """The value of a plain number; None for any other text, and where a denominator is 0."""
    if len(text) > LONGEST:
        return None
    if DECIMAL.fullmatch(text):
        return Fraction(text)
    parts = FRACTION.fullmatch(text)
    if parts is None:
        return None
    sign, whole, above, below = parts.groups()[:4] if parts[3] else parts.groups()[4:]
    return Fraction(f"{sign}1") * (int(whole or 0) + Fraction(int(above), int(below))) if int(below) else None


# --- tool calls -------------------------------------------------------------------------------------------------------

DEEPEST = 64
"""Lists and objects within one another that an input may have."""
Calls = Sequence[tuple[str, Mapping[str, Any]]]
"""Each call: the tool's name and its inputs."""

KEYWORD = re.compile(r"^[ \t]*action(?P<input>[ \t]+input)?[ \t]*:", re.MULTILINE | re.IGNORECASE)
NAME = re.compile(r"\s*(\S+)")
FENCE = re.compile(r"\s*(?:(`{1,3})[a-z0-9]*\s*)?", re.IGNORECASE)


def calls(reply: str) -> Calls | None:
    """The calls of a reply, in order, each with its own inputs; None where they cannot be read.

    `Action: NAME`, then `Action Input: {JSON}`, in turn, each at the start of a line, as ToolAlpaca has them (arXiv
    2306.05301). The name is one word, perhaps quoted; the JSON is an object, perhaps in a fence of backticks, with
    nothing glued to its end. What is no JSON (NaN) is not read, nor are numbers beyond a double, integers beyond
    Python's limit of digits, keys given twice, and what is nested deeper than `DEEPEST`.
    """
    if not finished(reply):
        return None
    named: list[tuple[str, dict[str, Any]]] = []
    name, at = None, 0
    while keyword := KEYWORD.search(reply, at):
        if keyword["input"]:
            given = inputs(reply, keyword.end())
            if name is None or given is None:
                return None
            named.append((name, given[0]))
            name, at = None, given[1]
        else:
            word = NAME.match(reply, keyword.end())
            if name is not None or word is None:
                return None
            name, at = unquoted(word[1]), word.end()
    return named if named and name is None else None


def inputs(reply: str, at: int) -> tuple[dict[str, Any], int] | None:
    """The JSON object that comes next, and where it ends; None where there is none."""
    fence = FENCE.match(reply, at)
    assert fence  # it may be empty
    try:
        given, end = JSON.raw_decode(reply, fence.end())
    except (ValueError, RecursionError):
        return None
    close = re.compile(rf"\s*{fence[1]}(?!\S)" if fence[1] else r"(?!\S)").match(reply, end)
    return (given, close.end()) if close and isinstance(given, dict) and flat(given) else None


def flat(given: dict[str, Any]) -> bool:
    """Whether lists and objects stand in one another `DEEPEST` times at most, so that a comparison may recurse."""
    layer: list[Any] = [given]
    for _ in range(DEEPEST):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return not any(isinstance(inner, dict | list) for inner in layer)


def unquoted(name: str) -> str:
    """A name without the quotes around it."""
    quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "`\"'"
    return name[1:-1] if quoted else name


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(given := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return given


def _finite(text: str) -> float:
    if not isfinite(value := float(text)):
        raise ValueError("no finite number")
    return value


JSON = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)


def same_calls(said: Calls, gold: Calls) -> bool:
    """Whether the same tools are called, as often each, each time with the same inputs; in any order.

    Our own rule, for real tool calls; of the embedded tasks, mini-tools-v1 keeps the merged one. Inputs are compared
    as JSON: the order of keys does not matter, 7 is 7.0, and neither `true` nor "7" is a number.
    """
    ours, theirs = (Counter((name, canonical(given)) for name, given in each) for each in (said, gold))
    return ours == theirs


def same_merged(said: Calls, gold: Calls) -> bool:
    """Whether the same tools are called, as often each, and all inputs together are the same.

    The rule of mini-tools-v1, after the evaluation of ToolAlpaca's calls (arXiv 2306.05301): it does not matter which
    call has an input, and one that several give has the value of the last. Inputs are compared as in `same_calls`.
    """
    ours, theirs = (
        (Counter(name for name, _ in each), canonical({key: given[key] for _, given in each for key in given}))
        for each in (said, gold)
    )
    return ours == theirs


def canonical(value: Any) -> str:
    """The one JSON text of everything that is equal to a value as JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(value), sort_keys=True)
