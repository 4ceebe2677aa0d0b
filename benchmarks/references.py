"""Scorers that others have published, to hold ours against: run as they are, or written anew from their rules.

Nothing here is shared with `tasks/`. What is written anew follows the published code line by line in what it accepts,
oddities included, for a verdict that differs is what is looked for.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.tasks.hendrycks_math import utils as hendrycks
from lm_eval.tasks.ifeval.utils import InputExample, test_instruction_following_strict
from math_verify import parse, verify

try:
    from lm_eval.tasks.minerva_math import utils as minerva
except (ImportError, AssertionError):  # it wants one version of its parser
    minerva: Any = None

Data = Mapping[str, Any]
"""What a task knows of one item (`Instance.data`)."""
Scorer = Callable[[str, Data], bool]
"""Whether a reply is right."""

LM_EVAL = Path(lm_eval.tasks.__file__).parent


# --- mathematics ------------------------------------------------------------------------------------------------------


def math_verify(reply: str, data: Data) -> bool:
    """math-verify 0.9 with all its defaults: the answer is looked for in the whole reply, boxed or not."""
    return bool(verify(parse(f"\\boxed{{{data['answer']}}}"), parse(reply)))


def hendrycks_math(reply: str, data: Data) -> bool:
    """MATH's own rule (arXiv 2103.03874), as lm-eval has it: the last box, compared as text that is tidied."""
    try:
        said = hendrycks.remove_boxed(hendrycks.last_boxed_only_string(reply))
        return bool(hendrycks.is_equiv(said, data["answer"]))
    except (AssertionError, TypeError, IndexError):  # no box, or one that is not read
        return False


def minerva_math(reply: str, data: Data) -> bool:
    """lm-eval's minerva_math (arXiv 2206.14858, appendix D): the last box, tidied, compared by SymPy."""
    try:
        said = minerva.remove_boxed(minerva.last_boxed_only_string(reply))
    except (AssertionError, TypeError):
        return False
    return bool(minerva.is_equiv(*map(minerva.normalize_final_answer, (said, data["answer"]))))


@cache
def gsm8k_rules() -> dict[str, Any]:
    """What lm-eval's gsm8k says of filters and metric."""
    return yaml.safe_load((LM_EVAL / "gsm8k" / "gsm8k.yaml").read_text(encoding="utf-8"))


def gsm8k_flexible(reply: str, data: Data) -> bool:
    """lm-eval's gsm8k, flexible-extract: the last number of a reply, wherever it stands."""
    rules = gsm8k_rules()
    (how,) = (each["filter"][0] for each in rules["filter_list"] if each["name"] == "flexible-extract")
    found = re.findall(how["regex_pattern"], reply)
    said = next((part for part in found[how["group_select"]] if part), "") if found else "[invalid]"
    metric = {key: rules["metric_list"][0][key] for key in ("regexes_to_ignore", "ignore_case", "ignore_punctuation")}
    return bool(exact_match_hf_evaluate(predictions=[said], references=[data["answer"]], **metric)["exact_match"])


# --- countdown, chemistry, tools, instructions ------------------------------------------------------------------------


def tinyzero(reply: str, data: Data) -> bool:
    """TinyZero's countdown.py at f36b1b8: the last tag on the last line, its digits as multiset, its value to 1e-5.

    It evaluates the text as Python; so does this, but for powers, which may have no end.
    """
    tags = re.findall(r"<answer>(.*?)</answer>", reply.split("\n")[-1])
    said = tags[-1].strip() if tags else ""
    if sorted(map(int, re.findall(r"\d+", said))) != sorted(map(int, data["numbers"])):
        return False
    if not re.match(r"^[\d+\-*/().\s]+$", said) or "**" in said:
        return False
    try:
        return abs(eval(said, {"__builtins__": None}, {}) - int(data["target"])) < 1e-5
    except Exception:
        return False


def tag_split(reply: str, data: Data) -> bool:
    """What stands behind the last opening tag, up to a closing one, is the letter: the rule of many GRPO examples."""
    return reply.split("<answer>")[-1].split("</answer>")[0].strip() == data["letter"]


def sciknoweval(reply: str, data: Data) -> bool:
    """SciKnowEval's own rule for four choices (metrics.py at 598158a): a right text alone, or a letter anywhere."""
    said, letter = reply.strip(), data["letter"]
    if len(said) < 2:
        return said == letter
    texts = dict(re.findall(r"^([A-D]): (.*)$", data["question"], re.MULTILINE))
    if texts[letter] in said and not any(text in said for key, text in texts.items() if key != letter):
        return True
    for key in "DCBA":
        marks = (f"{key}.", f"{key}\n", f"{key})", f"{key} ", f'"{key}', f'{key}"')
        if said[0] == key or any(mark in said for mark in marks):
            return key == letter
    return False


def tool_calls(reply: str, data: Data) -> bool:
    """The rule that the authors' evaluation of ToolAlpaca has (eval_tooluse.py at 536200e)."""
    inputs: list[dict[str, Any]] = [{}, {}]
    given = re.findall(r"Action Input:\s*({.*?})", reply, re.DOTALL)
    for merged, texts in zip(inputs, (given, [call["Action_Input"] for call in data["gold"]]), strict=True):
        for text in texts:
            with suppress(ValueError, TypeError):
                merged.update(json.loads(text))
    names = Counter(re.findall(r"Action:\s*(\w+)", reply))
    return names == Counter(call["Action"] for call in data["gold"]) and inputs[0] == inputs[1]


def ifeval(reply: str, data: Data) -> bool:
    """Google's checkers of IFEval, as lm-eval runs them: strictly, all constraints."""
    return test_instruction_following_strict(example(data), reply).follow_all_instructions


def ifeval_each(reply: str, data: Data) -> list[bool]:
    """The same, constraint by constraint."""
    return test_instruction_following_strict(example(data), reply).follow_instruction_list


def example(data: Data) -> InputExample:
    """A prompt with its constraints, as lm-eval has them."""
    kinds, given = zip(*data["constraints"], strict=True)
    return InputExample(
        key=0, instruction_id_list=[*kinds], prompt=data["prompt"], kwargs=[dict(each) for each in given]
    )
