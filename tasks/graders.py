"""How replies are judged: a boxed answer, an answer tag, tool calls. One grader each, for the small and the real tasks.

A reply that was cut off at the token limit (`Reply.finished` False) has no answer.
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


def boxed(reply: str) -> str | None:
    r"""What stands in the last \boxed{…} of a reply, braces balanced; None where there is none."""
    start = reply.rfind("\\boxed{")
    if start < 0 or not finished(reply):
        return None
    start += len("\\boxed{")
    depth = 1
    for at in range(start, len(reply)):
        depth += {"{": 1, "}": -1}.get(reply[at], 0)
        if depth == 0:
            return reply[start:at].strip()
    return None


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


def answer_tag(reply: str) -> str | None:
    """What stands in the last <answer>…</answer> of a reply; None where there is none."""
    tags = re.findall(r"<answer>(.*?)</answer>", reply, re.DOTALL) if finished(reply) else []
    return tags[-1].strip() if tags else None


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
