"""How replies are judged: a boxed answer, an answer tag, tool calls. One grader each, for the small and the real tasks.

The rules are ours, and strict. Where the publication of a data set judges otherwise, its rule belongs to an id of its
own, as `toolalpaca-published-v1` would be. A reply that was cut off at the token limit (`Reply.finished` False) has
no answer. Whatever a reply says, it gets a verdict, and nothing is raised.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

LONGEST = 200
"""Characters of an answer that are parsed as mathematics; longer ones are compared as text alone."""


def finished(reply: str) -> bool:
    """Whether the reply came to its end; a plain string did."""
    return getattr(reply, "finished", True)


# --- answers in a box or a tag ----------------------------------------------------------------------------------------

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
    found, at, opened = None, -1, []
    for part in BOX.finditer(reply):
        said = None
        if part["bare"]:
            start, said = part.start("bare"), part["bare"].rstrip(".,;:!?")
        elif part["open"] or part[0] == "{":
            opened.append(part.end() if part["open"] else None)
        elif part[0] == "}" and opened and (start := opened.pop()) is not None and start > at:
            said = reply[start : part.start()].strip()
        if said:
            found, at = said, start
        elif said is not None:
            found = found or ""
    return found


def answer_tag(reply: str) -> str | None:
    """What stands in the last <answer>…</answer> of a reply; None where there is none.

    From an opening tag to the closing one with no other opening between; capitals and a space before `>` do not
    matter, as in HTML. An empty pair hides no earlier answer. Where all are empty, so is the answer.
    """
    tags = [tag.strip() for tag in TAG.findall(reply)] if finished(reply) else []
    return next((tag for tag in reversed(tags) if tag), "" if tags else None)


# --- numbers and ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def equal(said: str, gold: str) -> bool:
    """Whether two answers are the same mathematically, by the math-verify library; the same text always is."""
    if said == gold:
        return True
    if len(said) > LONGEST:
        return False
    from math_verify import parse, verify

    # Its time limits are alarms, which only the main thread can set.
    limit = 5 if threading.current_thread() is threading.main_thread() else 0  # 0: none
    ours, theirs = (parse(f"\\boxed{{{text}}}", parsing_timeout=limit) for text in (gold, said))
    return bool(verify(ours, theirs, timeout_seconds=limit))


# --- tool calls -------------------------------------------------------------------------------------------------------


def calls(reply: str) -> tuple[list[str], dict[str, Any]] | None:
    """The tools that a reply calls, in order, and its inputs merged; None where they cannot be read.

    `Action: NAME`, then `Action Input: {JSON}`, as ToolAlpaca has them (arXiv 2306.05301); an input that several calls
    give has the value of the last.
    """
    if not finished(reply):
        return None
    names = re.findall(r"Action:\s*(\w+)", reply)
    merged: dict[str, Any] = {}
    starts = [match.end() for match in re.finditer(r"Action Input:\s*", reply)]
    if not names or len(names) != len(starts):
        return None
    for start in starts:
        try:
            given, _ = json.JSONDecoder().raw_decode(reply, start)
        except (ValueError, RecursionError):
            return None
        if not isinstance(given, Mapping):
            return None
        merged.update(given)
    return names, merged


def same_calls(found: tuple[Sequence[str], Mapping[str, Any]], gold: tuple[Sequence[str], Mapping[str, Any]]) -> bool:
    """Whether the same tools are called, as often each, with the same merged inputs."""
    return Counter(found[0]) == Counter(gold[0]) and dict(found[1]) == dict(gold[1])
