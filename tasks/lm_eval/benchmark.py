"""Tasks and groups of lm-eval as benchmarks: `lm-eval/hellaswag`, `lm-eval/mmlu?shots=5`, `lm-eval/ifeval?chat=1`."""

import io
import json
import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, fields
from functools import cache, cached_property, partial
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import version
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import parse_qsl

import datasets
import lm_eval.api.task
import lm_eval.tasks
import numpy as np
from lm_eval.api.instance import Instance

from razorbench import Agent, Card, Missing, Refused, Sample
from razorbench.tasks.lm_eval.documents import at_hand
from razorbench.tasks.lm_eval.model import Model, Reader, Speaker, Spoken
from razorbench.tasks.lm_eval.programs import ask_in_chat, decides, guard, sandboxed
from razorbench.tasks.lm_eval.sentences import sentences_from_wheel

Asked = Any
"""`lm_eval.api.task.Task`, whose annotations are not those of what it returns."""
PREFIX = "lm-eval/"
SEED = 1234
"""Of few-shot examples that a task draws, as lm-eval has it."""
LIKELIHOOD = "likelihood"
"""A metric of ours, `?metric=likelihood`: it moves long before a verdict does."""
SCORED = ("multiple_choice", "loglikelihood_rolling")
"""Kinds of tasks that have it."""
KNOWN = Path(lm_eval.tasks.__file__).parent
"""Where lm-eval's own tasks stand, a folder a family."""


@dataclass(frozen=True)
class Rules:
    """What an id says beside the task, as `?name=value&…`; what it leaves out is as lm-eval has it."""

    shots: int = -1
    """Examples in the prompt; −1: as many as the task says, else none."""
    chat: int = 0
    """1: prompts go through the model's chat template, with the track's system prompt."""
    metric: str = ""
    """What is the score, `metric` or `metric,filter`; empty: acc_norm where the task has it, else its first metric."""
    tokens: int = 0
    """Tokens that an answer has at most; 0: what the task says."""
    documents: int = 0
    """Documents that are asked, the first ones, of a group in turn; 0: all, or as many as the track's items."""

    @property
    def said(self) -> dict[str, Any]:
        """What is not as lm-eval has it."""
        return {each.name: now for each in fields(self) if (now := getattr(self, each.name)) != each.default}

    @classmethod
    def read(cls, text: str, id: str) -> "Rules":
        """The rules that stand behind the ? of an id. Refuses what is none."""
        known: dict[str, Any] = {each.name: type(each.default) for each in fields(cls)}
        try:
            said = parse_qsl(text, strict_parsing=True) if text else []
            rules: dict[str, Any] = {name: known[name](value) for name, value in said}
            made = cls(**rules)
        except (KeyError, ValueError):
            raise Refused(
                f"{id!r} says {text!r}; after the ? an id may say {', '.join(known)}, such as ?shots=5&chat=1"
            ) from None
        if made.documents < 0:
            raise Refused(f"{id!r} says {text!r}; documents is at least 0")
        return made


@dataclass
class LmEval:
    """A task or a group of lm-eval, measured on any agent that reads text."""

    name: str
    """What stands behind `lm-eval/` in the id."""
    task: str = field(init=False)
    rules: Rules = field(init=False)
    parts: dict[str, Asked] = field(init=False)
    """The task, or all of the group, by name."""
    docs: dict[str, Any] = field(init=False)
    """The documents of each."""

    def __post_init__(self) -> None:
        """Loads the task and its documents. Refuses an unknown one, and one that runs programs outside our sandbox."""
        self.task, _, rules = self.name.partition("?")
        self.rules = Rules.read(rules, PREFIX + self.name)
        said = io.StringIO()  # nltk tells that it looks for a file of its own
        with (
            quiet(),
            at_hand(),
            sentences_from_wheel(),
            sandboxed(),
            seeded(SEED),
            redirect_stdout(said),
            redirect_stderr(said),
        ):
            self.parts = loaded(self.task)
            for name, part in self.parts.items():
                guard(name, part)
                set_rules(part, self.rules)
            self.docs = {name: part.eval_docs for name, part in self.parts.items()}

    @cached_property
    def card(self) -> Card:
        """What a reader should know, versions and rules included."""
        first = next(iter(self.parts.values()))
        metric = ",".join(self.metric(first)).removesuffix(",none")
        shots, chat = first.get_config("num_fewshot"), "the chat template" if self.rules.chat else "no chat template"
        many = f", {len(self.parts)} tasks" if len(self.parts) > 1 else ""
        return Card(
            asks=f"lm-eval's {self.task}{many}: {first.get_config('output_type')}",
            rule=f"{metric} of version {first.VERSION}, lm-eval {version('lm_eval')}; {shots} examples, {chat}",
            source=f"{first.get_config('dataset_path')} on the Hugging Face hub, or the same in RAZORBENCH_DATA",
            licence="as its card on the hub says",
            chance=chance(first, self.first(next(iter(self.parts)), 100)),
        )

    def metric(self, part: Asked) -> tuple[str, str]:
        """The name of the score, and the filter that answers go through before. Refuses one that the task lacks."""
        wanted, _, through = self.rules.metric.partition(",")
        names, filters = metrics(part), [each.name for each in part._filters]
        name = wanted or ("acc_norm" if "acc_norm" in names else names[0])
        through = through or filters[0]
        if name not in names or through not in filters:
            raise Refused(
                f"{self.task} has no metric {self.rules.metric!r}; it has {', '.join(names)}, with the filters "
                f"{', '.join(filters)}"
            )
        if not part.higher_is_better().get(name, True):
            raise Refused(f"{name} of {self.task} is better when lower; choose another metric")
        return name, through

    def shares(self, limit: int | None) -> dict[str, int]:
        """How many documents of each task are asked: of a group the first of each, then the second, and so on."""
        turns = zip_longest(*([name] * len(docs) for name, docs in self.docs.items()))
        limits = [each for each in (limit, self.rules.documents) if each]
        order = [name for turn in turns for name in turn if name is not None][: min(limits, default=None)]
        return {name: count for name in self.parts if (count := order.count(name))}

    def count(self, limit: int | None = None) -> int:
        """How many documents are asked."""
        return sum(self.shares(limit).values())

    def digest(self, limit: int | None = None) -> str:
        """A hash of all that decides the score of an answer: versions, rules, documents and examples."""
        told: list[Any] = [version("lm_eval"), self.rules.said]
        for name, count in self.shares(limit).items():
            part = self.parts[name]
            shots = part.get_config("num_fewshot")
            told.append([name, part.VERSION, shots, self.metric(part), *decides(part, bool(self.rules.chat))])
            told += [*self.first(name, count), *(part.fewshot_docs() if shots else ())]
        digest = blake2b(digest_size=16)
        for each in told:
            digest.update(json.dumps(each, sort_keys=True, default=repr).encode() + b"\n")
        return digest.hexdigest()

    def evaluate(self, agent: Agent, limit: int | None = None) -> list[Sample]:
        """Score the agent on the first `limit` documents, of a group in turn. Refuses an agent that reads no text."""
        chat = bool(self.rules.chat)
        if isinstance(agent, Reader):
            model = Model(agent, chat)
        elif isinstance(agent, Speaker):
            model = Spoken(agent, chat)
        else:
            raise Refused(f"lm-eval/{self.name} asks in words; {type(agent).__name__} is no language model")
        shares = self.shares(limit)
        with quiet(), seeded(SEED):
            for name, count in shares.items():
                self.parts[name].set_fewshot_seed(SEED)
                self.parts[name].build_all_requests(
                    limit=count,
                    system_instruction=(model.prompt or None) if chat else None,
                    apply_chat_template=chat,
                    fewshot_as_multiturn=True,
                    chat_template=model.apply_chat_template if chat else None,
                )
            answer(model, [request for name in shares for request in self.parts[name].instances])
        told = {name: [*self.samples(name, count)] for name, count in shares.items()}
        turns = zip_longest(*told.values())
        return [sample for turn in turns for sample in turn if sample is not None]

    def first(self, name: str, count: int) -> Iterator[Any]:
        """The first documents of a task."""
        return islice(self.docs[name], count)

    def samples(self, name: str, count: int) -> Iterator[Sample]:
        """How each document of a task went, in order."""
        part, metric = self.parts[name], self.metric(self.parts[name])
        part.apply_filters()
        requests: dict[Any, list[Instance]] = {}
        for request in part.instances:
            requests.setdefault(request.doc_id, []).append(request)
        for number, doc in enumerate(self.first(name, count)):
            id = f"{name}/{number}" if len(self.parts) > 1 else str(number)
            yield verdict(id, part, doc, sorted(requests[number], key=lambda request: request.idx), *metric)


def of_id(rest: str) -> Callable[[], LmEval]:
    """What makes the benchmark of an id without its `lm-eval/`."""
    return partial(LmEval, rest)


def answer(model: Model | Spoken, requests: list[Instance]) -> None:
    """Put the model's responses into requests, those of one kind at once."""
    for request in requests:
        request.resps.clear()
    for kind in dict.fromkeys(request.request_type for request in requests):
        some = [request for request in requests if request.request_type == kind for _ in range(request.repeats or 1)]
        for request, said in zip(some, getattr(model, kind)(some, disable_tqdm=True), strict=True):
            request.resps.append(said)


def verdict(id: str, part: Asked, doc: Any, requests: list[Instance], metric: str, through: str) -> Sample:
    """The score of one document. What lm-eval cannot grade is unscored, and says why.

    A grader that draws at random draws the same for each document, and so do two graders of one answer.
    """
    said = [request.filtered_resps[through] for request in requests]
    try:
        with seeded(SEED):
            metrics = part.process_results(doc, said)
    except Exception as error:
        lines = (line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line)))
        why = f"{type(error).__name__}: {next(lines, '')}"
        return Sample(id, math.nan, error=why, asked=asked(part, doc), said=answered(part, doc, requests, metric))
    numbers = {
        name: float(value) for name, value in metrics.items() if isinstance(value, int | float | np.number | np.bool_)
    }
    if metric == LIKELIHOOD and (told := likelihood(part, doc, requests, said)) is not None:
        numbers[metric] = told
    if metric not in numbers:
        raise Refused(f"{metric} of {part.task_name} is no number of a document; choose from {', '.join(numbers)}")
    score = numbers.pop(metric)
    gold = right(part, doc)
    if gold is not None:
        numbers["nats"] = said[gold][0]
    return Sample(id, score, numbers, asked=asked(part, doc), said=answered(part, doc, requests, metric))


def asked(part: Asked, doc: Any) -> str:
    """What a document asks, without examples and template; where its options have prompts of their own, all of it but
    its ids and its answer.
    """
    text = part.doc_to_text(doc)
    if isinstance(text, str):
        return text
    told = {name: value for name, value in doc.items() if name != "answer" and not name.lower().endswith("id")}
    return "\n".join(f"{name}: {value}" for name, value in told.items())


def answered(part: Asked, doc: Any, requests: list[Instance], metric: str) -> str | None:
    """What the model answered: its reply, or the choice that it has for the likeliest, by letters where the score
    counts so; None where there is neither.
    """
    kind = part.get_config("output_type")
    if kind == "generate_until":
        return str(requests[0].resps[0])
    if kind != "multiple_choice":
        return None
    choices = [str(choice) for choice in part.doc_to_choice(doc)]
    nats = [
        request.resps[0][0] / (max(len(choice), 1) if metric == "acc_norm" else 1)
        for request, choice in zip(requests, choices, strict=False)  # there may be further requests behind these
    ]
    return choices[int(np.argmax(nats))]


def metrics(part: Asked) -> list[str]:
    """The names of a task's metrics; one that is told for several k has a name for each, pass@1."""
    told = [(name, part._metric_fn_kwargs.get(name, {}).get("k", ())) for name in part.aggregation()]
    names = [each for name, many in told for each in ([f"pass@{k}" for k in many] or [name])]
    return [*names, LIKELIHOOD] if part.get_config("output_type") in SCORED else names


def likelihood(part: Asked, doc: Any, requests: list[Instance], said: list[Any]) -> float | None:
    """The probability of the right choice, or of a whole text, a byte of it: the geometric mean, 0–1.

    That is 1 / byte_perplexity, where lm-eval has this. A fraction as other scores are, it may be averaged with them;
    what a byte is does not depend on the tokenizer. None where there is no right choice, or more than one.
    """
    if part.get_config("output_type") == "loglikelihood_rolling":
        nats, text = said[0], requests[0].args[0]
    elif (gold := right(part, doc)) is not None:
        _, text = cast(tuple[str, str], requests[gold].args)
        nats = said[gold][0]
    else:
        return None
    return math.exp(nats / len(text.encode()))


def right(part: Asked, doc: Any) -> int | None:
    """Which choice is the right one; None where there are none, or more."""
    if part.get_config("output_type") != "multiple_choice":
        return None
    gold = part.doc_to_text(doc) if getattr(part, "multiple_input", 0) else part.doc_to_target(doc)
    choices = part.doc_to_choice(doc)
    if isinstance(gold, str):
        gold = choices.index(gold) if gold in choices else None
    return gold if isinstance(gold, int) and 0 <= gold < len(choices) else None


def chance(part: Asked, docs: Iterator[Any]) -> float:
    """What guessing scores on average over documents: one of the choices, where there are any."""
    if part.get_config("output_type") != "multiple_choice":
        return 0.0
    return float(np.mean([1 / len(part.doc_to_choice(doc)) for doc in docs]))


def set_rules(part: Asked, rules: Rules) -> None:
    """Make a task follow the rules of an id. Raises Missing where there are no examples to show."""
    shots = (part.get_config("num_fewshot") or 0) if rules.shots < 0 else rules.shots
    if shots and not any(True for _ in part.fewshot_docs()):
        raise Missing(f"{part.task_name} has no examples here; say ?shots=0, or unset RAZORBENCH_DATA to fetch them")
    part.set_config("num_fewshot", shots)
    if rules.tokens and part.get_config("output_type") == "generate_until":
        part.set_config("generation_kwargs", {"max_gen_toks": rules.tokens}, update=True)
    if rules.chat:
        ask_in_chat(part)


def loaded(task: str) -> dict[str, Asked]:
    """The task, or all of a group, by name. Refuses an unknown one; raises ModuleNotFoundError without its packages."""
    manager = managed(task)
    if task not in manager.all_tasks:
        raise Refused(f"lm-eval {version('lm_eval')} has no task {task!r}; `lm-eval ls tasks` lists what there is")
    return dict(manager.load([task])["tasks"])


@cache
def managed(task: str) -> Any:
    """lm-eval's index of tasks: of the family's folder where the task stands in one of its name, else of all.

    To read all takes ten seconds.
    """
    words = task.split("_")
    for n in range(len(words), 0, -1):
        folder = KNOWN / "_".join(words[:n])
        if folder.is_dir():
            family = lm_eval.tasks.TaskManager(include_defaults=False, include_path=folder)
            if task in family.all_subtasks or task in family.all_groups:
                return family
    return lm_eval.tasks.TaskManager()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and notes of lm-eval and its packages, such as each try to reach a hub that is not there."""
    logs, shown = (
        [logging.getLogger(name) for name in ("lm_eval", "huggingface_hub")],
        datasets.is_progress_bar_enabled(),
    )
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with patch.object(lm_eval.api.task, "tqdm", lambda rows, **_: rows):
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it the generators from which graders and prompts draw begin at a seed; then the global ones go on.

    IFEval's check of languages (langdetect) draws from one of its own, which has no seed unless it is given one.
    """
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    with suppress(ModuleNotFoundError):
        import_module("langdetect").DetectorFactory.seed = seed
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
