"""HumanEval: programs are found in replies, judged in the sandbox, and never run in this process."""

import ast
from typing import Any

import evaluate
import pytest

from razorbench import Missing, Refused, WorldFailed, run_tests
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core import sandbox
from razorbench.harness.core.registry import make
from razorbench.tasks.lm_eval import programs
from razorbench.tasks.lm_eval.benchmark import LmEval
from razorbench.tasks.lm_eval.documents import lines
from razorbench.tasks.lm_eval.model import Model
from razorbench.tasks.lm_eval.programs import CodeEval, guard, pass_at, solution
from tests.conftest import needs_data

PROMPT = 'from typing import List\n\n\ndef mean(numbers: List[float]) -> float:\n    """ Their mean, 0 of none. """\n'
TESTS = "def check(f):\n    assert f([1.0, 3.0]) == 2.0\n    assert f([]) == 0\ncheck(mean)"
SIGNATURE = "def mean(numbers: List[float]) -> float:"
BODY = "    if not numbers:\n        return 0\n    return sum(numbers) / len(numbers)"
SHORT = "    return sum(numbers) / (len(numbers) or 1)"
WHOLE = f"{SIGNATURE}\n{BODY}"
BROKEN = f"{SIGNATURE}\n    return -1"
INDENTED = "\n".join(f"   {line}" for line in WHOLE.split("\n"))

REPLIES = {
    "a body": (BODY, True),
    "a body without its first spaces": (BODY.lstrip(), True),
    "a body from the edge on": ("\n".join(line[4:] for line in BODY.split("\n")), True),
    "a body in tabs": (BODY.replace("    ", "\t"), True),
    "a body, then a fence is closed": (f"{BODY}\n```\nThis handles an empty list.", True),
    "a body, then prose": (f"{BODY}\n\nThis handles an empty list.", True),
    "prose, then a body": (f"Here is the rest:\n{BODY}", True),
    "a body in a fence": (f"```python\n{BODY}\n```", True),
    "a body and a test of it": (f"{BODY}\n\nprint(mean([1]))", True),
    "the signature again": (WHOLE, True),
    "the whole prompt again": (f"{PROMPT}{BODY}", True),
    "the signature again, then a fence is closed": (f"{WHOLE}\n```\nDone.", True),
    "prose, the function, prose": (f"Sure, here it is.\n\n{WHOLE}\n\nIt takes the sum.", True),
    "prose that begins as code may": (f"import this into your code:\n\n{WHOLE}\n", True),
    "a fence": (f"```python\n{WHOLE}\n```", True),
    "a fence without a language": (f"```\n{WHOLE}\n```", True),
    "a fence of tildes": (f"~~~python\n{WHOLE}\n~~~", True),
    "a fence of four": (f"````py\n{WHOLE}\n````", True),
    "a fence behind a sentence": (f"Sure: ```python\n{WHOLE}\n```", True),
    "a fence closed at the end of a line": (f"```python\n{WHOLE}```", True),
    "prose, a fence, prose": (f"Let me think.\n\n```python\n{WHOLE}\n```\n\nIt takes the sum.", True),
    "an unclosed fence": (f"Here:\n```python\n{WHOLE}\n", True),
    "a fence in a list": (f"1. The function:\n\n   ```python\n{INDENTED}\n   ```", True),
    "lines of Windows": (f"```python\n{WHOLE}\n```".replace("\n", "\r\n"), True),
    "in tabs": (f"```python\n{WHOLE}\n```".replace("    ", "\t"), True),
    "imports of its own": (f"```python\nimport math\n\n{SIGNATURE}\n{SHORT.replace('sum', 'math.fsum')}\n```", True),
    "imports alone, then the function": (f"```python\nfrom typing import List\n```\n```python\n{WHOLE}\n```", True),
    "a helper": (f"```python\ndef s(x):\n    return sum(x)\n\n{SIGNATURE}\n{SHORT.replace('sum', 's')}\n```", True),
    "a main part": (f"```python\n{WHOLE}\n\nif __name__ == '__main__':\n    print(mean(input()))\n```", True),
    "an install before": (f"```bash\npip install nothing\n```\n```python\n{WHOLE}\n```", True),
    "an example after": (f"```python\n{WHOLE}\n```\nUse it so:\n```python\nprint(mean([1, 2]))\n```", True),
    "the last of two": (f"```python\n{BROKEN}\n```\nThat is wrong:\n```python\n{WHOLE}\n```", True),
    "the last of two is wrong": (f"```python\n{WHOLE}\n```\nOr shorter:\n```python\n{BROKEN}\n```", False),
    "a lambda": ("```python\nmean = lambda numbers: sum(numbers) / (len(numbers) or 1)\n```", True),
    "wrong": (f"```python\n{BROKEN}\n```", False),
    "wrong in a fence and right in prose": (f"```python\n{BROKEN}\n```\n{WHOLE}", False),
    "cut off": (f"```python\n{SIGNATURE}\n    if not numbers:\n        return 0\n    return sum(numb", False),
    "a method": ("```python\nclass Solution:\n    def mean(self, numbers):\n        return 2.0\n```", False),
    "another name": (f"```python\n{WHOLE.replace('mean', 'average')}\n```", False),
    "prose alone": ("I would take the sum and divide it by the length.", False),
    "nothing": ("", False),
    "an empty fence": ("```python\n```", False),
    "the prompt alone": (f"```python\n{PROMPT}```", False),
    "a zero byte": (f"```python\n{WHOLE}\0\n```", False),
    "brackets without end": ("(" * 5000, False),
}  # fmt: skip
"""Replies, and by hand whether they solve the problem."""


@pytest.mark.parametrize(("reply", "right"), REPLIES.values(), ids=REPLIES)
def test_the_program_in_a_reply_is_what_a_reader_takes_for_it(reply, right):
    assert (run_tests(solution(reply, PROMPT, "mean"), TESTS) == "passed") == right


@pytest.mark.parametrize(
    ("k", "n", "right", "rate"), [(1, 1, 1, 1), (1, 1, 0, 0), (1, 4, 1, 0.25), (2, 4, 2, 5 / 6), (2, 2, 1, 1)]
)
def test_pass_at_k_is_the_chance_that_one_of_k_is_right(k, n, right, rate):
    assert pass_at(k, n, right) == pytest.approx(rate)


def test_the_metric_is_code_evals():
    """Of https://huggingface.co/spaces/evaluate-metric/code_eval, whose page has these examples."""
    candidates = [["def add(a,b): return a*b", "def add(a, b): return a+b"]]
    assert CodeEval().compute(references=["assert add(2,3)==5"], predictions=candidates, k=[1, 2])[0] == {
        "pass@1": 0.5,
        "pass@2": 1.0,
        "timed_out": 0.0,
    }


@pytest.fixture
def humaneval(data) -> LmEval:
    return make("task", "lm-eval/humaneval?shots=0&metric=pass@1")


def answered(benchmark: LmEval, say: Any, documents: int, monkeypatch: Any) -> list[float]:
    """The scores of an agent that answers as it is told."""
    monkeypatch.setattr(Model, "generate_until", lambda _, requests, **__: [say(each.doc) for each in requests])
    samples = benchmark.evaluate(mini_lm(seed=1), documents)
    assert [sample.error for sample in samples] == [None] * documents
    return [sample.score for sample in samples]


@needs_data
@pytest.mark.slow
def test_humaneval_scores_pass_at_1_from_what_is_said(humaneval, monkeypatch):
    said = iter(["    return 1 / 0", "    while True: pass", None, None])
    monkeypatch.setitem(sandbox.LIMITS, "RLIMIT_CPU", 1)
    scores = answered(humaneval, lambda doc: next(said) or doc["canonical_solution"], 4, monkeypatch)
    assert scores == [0, 0, 1, 1]
    late = [sample.metrics["timed_out"] for sample in humaneval.samples("humaneval", 4)]
    assert late == [0, 1, 0, 0]


@needs_data
def test_what_the_grader_cannot_do_is_unscored(humaneval, monkeypatch):
    monkeypatch.setattr(Model, "generate_until", lambda _, requests, **__: ["    return 1"] * len(requests))
    failed = WorldFailed("the sandbox did not start: no room")
    monkeypatch.setattr(programs, "run_tests", lambda *_: (_ for _ in ()).throw(failed))
    (sample,) = humaneval.evaluate(mini_lm(seed=1), 1)
    assert sample.score != sample.score
    assert sample.error == "WorldFailed: the sandbox did not start: no room"


@needs_data
def test_in_chat_a_function_is_asked_for_and_found_in_the_reply(data, monkeypatch):
    benchmark = make("task", "lm-eval/humaneval?chat=1&tokens=32")
    replies = iter(["```python\n{prompt}{canonical_solution}\n```", "{canonical_solution}", "I do not know."])
    scores = answered(benchmark, lambda doc: next(replies).format(**doc), 3, monkeypatch)
    assert scores == [1, 1, 0]
    asked, how = benchmark.parts["humaneval"].instances[0].args
    doc = benchmark.docs["humaneval"][0]
    assert f"problem and make sure that it passes the tests:\n```python\n{doc['prompt']}\n```\n" in asked
    assert (how["until"], how["max_gen_toks"]) == ([], 32)
    assert benchmark.digest(3) != make("task", "lm-eval/humaneval?tokens=32").digest(3)


@pytest.mark.long
@needs_data
@pytest.mark.slow
def test_gold_solutions_pass_and_broken_ones_fail(data):
    problems = lines(data / "humaneval" / "HumanEval.jsonl.gz")
    assert len(problems) == 164
    wrong = []
    for doc in problems:
        tests = f"{doc['test']}\ncheck({doc['entry_point']})"
        gold, broken = (f"{doc['prompt']}{body}" for body in (doc["canonical_solution"], "    return None\n"))
        if (run_tests(gold, tests), run_tests(broken, tests)) != ("passed", "failed"):
            wrong.append(doc["task_id"])
    assert wrong == []


@needs_data
@pytest.mark.slow
def test_every_gold_solution_is_found_in_every_form_of_reply(data):
    forms = [
        "{canonical_solution}",
        "```python\n{prompt}{canonical_solution}```",
        "Here:\n\n```\n{prompt}{canonical_solution}\n```\nDone.",
        "Sure, this works.\n\n{prompt}{canonical_solution}\nIt runs in O(n).",
        "{canonical_solution}\n```\nThis works.",
    ]

    def function(text: str, name: str) -> str:
        return [ast.dump(each) for each in ast.parse(text).body if getattr(each, "name", "") == name][-1]

    for doc in lines(data / "humaneval" / "HumanEval.jsonl.gz"):
        gold = function(f"{doc['prompt']}{doc['canonical_solution']}", doc["entry_point"])
        for form in forms:
            got = solution(form.format(**doc), doc["prompt"], doc["entry_point"])
            assert function(got, doc["entry_point"]) == gold, (doc["task_id"], form)


class Theirs(evaluate.Metric):
    """A metric as `evaluate` loads it."""

    def __init__(self) -> None:
        pass

    @property
    def name(self) -> str:
        return "code_eval"


class Part:
    """A task of lm-eval that runs programs."""

    UNSAFE_CODE = True

    def __init__(self, metric: Any):
        self._metric_fn_list = {"pass_at_k": metric.__call__}


def test_a_metric_that_somebody_loaded_before_is_replaced_and_another_runner_is_refused():
    names: dict[str, Any] = {"compute_": Theirs()}
    exec("def pass_at_k(): return compute_", names)
    guard("humaneval", Part(names["pass_at_k"]))
    assert names["pass_at_k"]() is programs.OURS
    with pytest.raises(Refused, match="lm-eval/cruxeval runs programs of the model with a runner of its own"):
        guard("cruxeval", Part(lambda: None))


@needs_data
def test_without_a_sandbox_the_task_is_refused_with_the_cure(data, monkeypatch):
    def none() -> None:
        raise Missing("programs of a model run in a sandbox, and none works here (bubblewrap: no); install it")

    monkeypatch.setattr(programs, "sandbox_rules", none)
    with pytest.raises(Missing, match="none works here"):
        make("task", "lm-eval/humaneval")
