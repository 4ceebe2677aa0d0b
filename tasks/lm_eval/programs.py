"""Tasks whose answers are programs, as HumanEval's: they are found in chat replies, and run in the sandbox alone."""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import comb
from typing import Any
from unittest.mock import patch

import evaluate
import numpy as np
from lm_eval.filters import build_filter_ensemble

from razorbench import Refused, run_tests, sandbox_rules

Asked = Any
"""`lm_eval.api.task.Task`, whose annotations are not those of what it returns."""
EXTRACTION = 1
"""Version of `solution`: another one finds other programs in the same reply."""
QUESTION = (
    "Write a solution to the following problem and make sure that it passes the tests:\n```python\n{{prompt}}\n```\n"
)
"""What HumanEval asks in chat, as lm-eval's humaneval_instruct words it, and nothing put into the model's mouth."""


# --- verdicts ---------------------------------------------------------------------------------------------------------


class CodeEval:
    """In the place of code_eval of the `evaluate` package, which runs programs unguarded: pass@k (arXiv 2107.03374)."""

    def compute(
        self, predictions: Sequence[Sequence[str]], references: Sequence[str], k: Sequence[int] = (1,), **_: Any
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The mean of pass@k over problems, from all programs of each; beside it the share that used up its time."""
        verdicts = [
            [run_tests(program, tests) for program in programs]
            for programs, tests in zip(predictions, references, strict=True)
        ]
        fewest = min(map(len, verdicts))
        rates = {
            f"pass@{n}": float(np.mean([pass_at(n, len(each), each.count("passed")) for each in verdicts]))
            for n in k
            if n <= fewest
        }
        late = [verdict == "timed out" for each in verdicts for verdict in each]
        return rates | {"timed_out": float(np.mean(late))}, {}


OURS = CodeEval()


def pass_at(k: int, n: int, right: int) -> float:
    """The chance that one of k programs is right, drawn from n of which so many are (equation 1)."""
    return 1 - comb(n - right, k) / comb(n, k)


@contextmanager
def sandboxed() -> Iterator[None]:
    """Within it a task that loads code_eval gets ours."""
    load = evaluate.load
    with patch.object(
        evaluate, "load", lambda path, *args, **how: OURS if path == "code_eval" else load(path, *args, **how)
    ):
        yield


def guard(name: str, part: Asked) -> None:
    """Make sure that a task runs what a model has written in the sandbox. Refuses one with a runner of its own."""
    if not getattr(part, "UNSAFE_CODE", False):
        return
    held: list[Any] = []
    for metric in part._metric_fn_list.values():
        names = getattr(getattr(metric, "__self__", metric), "__globals__", {})
        for each, value in names.items():
            if isinstance(value, evaluate.EvaluationModule) and value.name == "code_eval":
                names[each] = OURS  # somebody has loaded the task before
        held += names.values()
    if not any(each is OURS for each in held):
        raise Refused(f"lm-eval/{name} runs programs of the model with a runner of its own; leave it out")
    sandbox_rules()


def decides(part: Asked, chat: bool) -> list[Any]:
    """What else decides the score of an answer that is a program; nothing for any other."""
    return [sandbox_rules(), EXTRACTION if chat else None] if getattr(part, "UNSAFE_CODE", False) else []


def ask_in_chat(part: Asked) -> None:
    """Let HumanEval ask for a function in words, and find the program wherever the reply has it.

    As it stands the task ends an answer at the first `def`, and takes what is said for the rest of the function.
    """
    if not (getattr(part, "UNSAFE_CODE", False) and {"prompt", "entry_point"} <= {*part.features}):
        return
    if part.get_config("gen_prefix"):
        return  # lm-eval has a rule for that

    def programs(replies: Sequence[Sequence[str]], docs: Sequence[dict[str, str]]) -> list[list[str]]:
        return [
            [solution(reply, doc["prompt"], doc["entry_point"]) for reply in said]
            for said, doc in zip(replies, docs, strict=True)
        ]

    part.set_config("doc_to_text", QUESTION)
    part.set_config("generation_kwargs", {"until": []}, update=True)
    rule: Any = {"filter_fn": programs}
    part._filters = [build_filter_ensemble("create_test", [("custom", rule)])]


# --- programs in replies ----------------------------------------------------------------------------------------------

FENCE = re.compile(r"(?P<before>.*?)(?P<mark>`{3,}|~{3,})[ \t]*(?P<kind>[\w+-]*)[ \t]*")
"""A line that opens a block: the mark may stand behind a sentence, or in a list."""
OPENS = re.compile(r"(?:from|import|def|class)\b|@")
"""How a line begins with which a program may begin."""


def solution(reply: str, prompt: str, name: str) -> str:
    """The program that a reply to `prompt` gives: the prompt, and what defines the function `name` anew or goes on.

    The last fenced block that defines the function counts, closed or not; else the lines that do in what is said
    before any fence, or in all; else a body that goes on with the function of the prompt, fenced or not. Where there is
    none of these, the reply as it is, which fails.
    """
    fenced, plain = blocks(reply)
    for block in reversed(fenced):
        for text in (block, textwrap.dedent(block)):
            if name in defined(text):
                return f"{prompt}\n{text}\n"
    for text in (plain, reply):
        if whole := unfenced(text, name):
            return f"{prompt}\n{whole}\n"
    for text in (*reversed(fenced), plain):
        if body := continued(text, prompt):
            return body
    return f"{prompt}\n{reply}\n"


def blocks(reply: str) -> tuple[list[str], str]:
    """What stands in each fence of a reply, the last perhaps unclosed; and what stands before the first."""
    inside: list[list[str]] = []
    before: list[str] = []
    fence = ""
    for line in reply.splitlines():
        if fence:
            code, mark, rest = line.partition(fence)
            closed = mark and not rest.strip("`~ \t")
            if code.strip() or not closed:
                inside[-1].append(code if closed else line)
            fence = "" if closed else fence
        elif mark := FENCE.fullmatch(line):
            fence = mark["mark"]
            inside.append([])
            before += [mark["before"]] if len(inside) == 1 else []
        elif not inside:
            before.append(line)
    return ["\n".join(lines) for lines in inside], "\n".join(before)


def defined(text: str) -> set[str]:
    """The functions that a program defines at its top level; none where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {each.name for each in body if isinstance(each, ast.FunctionDef)}
    lambdas = [each.targets for each in body if isinstance(each, ast.Assign) and isinstance(each.value, ast.Lambda)]
    return names | {target.id for targets in lambdas for target in targets if isinstance(target, ast.Name)}


def unfenced(text: str, name: str) -> str:
    """The lines of a text that define the function, from one that may open a program on; empty if there are none."""
    lines = text.splitlines()
    starts = [at for at, line in enumerate(lines) if OPENS.match(line)][:TRIED]
    ends = [at + 1 for at, line in enumerate(lines) if line.strip()][: -TRIED - 1 : -1]
    for start in starts:
        for end in ends:
            if end > start and name in defined(some := "\n".join(lines[start:end])):
                return some
    return ""


TRIED = 50
"""Lines with which the program in a reply may begin, and end, as far as they are tried."""


def continued(text: str, prompt: str) -> str:
    """The prompt and the body that a text begins with, up to where it is no body any more; empty if it has none."""
    lines = text.expandtabs(4).strip("\n").splitlines()
    inner = next((at for at, line in enumerate(lines) if line[:1] == " " and line.strip()), 0)
    first = [f"    {line}" if at == 0 else line for at, line in enumerate(lines)]
    for some in (lines, first, [f"    {line}" for line in lines], lines[inner:]):
        until = next((at for at, line in enumerate(some) if line.strip() and line[0] != " "), len(some))
        for end in range(until, max(0, until - TRIED), -1):
            program = f"{prompt.rstrip()}\n" + "\n".join(some[:end]) + "\n"
            if any(line.strip() for line in some[:end]) and defined(program):
                return program
    return ""
