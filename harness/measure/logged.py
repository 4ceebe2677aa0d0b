"""Two runs of lm-eval that people already have, `--log_samples` and all, compared document by document.

lm-eval's own comparison tests paired answers as if they were not; here documents are joined, and what is tested is the
change of each.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure import significance, statistics
from razorbench.harness.measure.comparison import FLIPS, RUNS, Change, Compared, Flip, round_robin

FILE = re.compile(r"samples_(?P<task>.+)_(?P<at>\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(\.\d+)?)\.jsonl")
METRICS = ("acc_norm", "acc", "exact_match", "prompt_level_strict_acc", "pass@1", "pass_at_1")
"""Which of several metrics of a task is compared, unless another is asked for; else the file's first."""
CONDITIONS = {
    "versions": "version",
    "n-shot": "few-shot examples",
    "generation": "decoding",
    "chat_template_sha": "chat template",
    "system_instruction_sha": "system prompt",
    "fewshot_as_multiturn": "few-shot examples as turns",
}
"""What must be alike in two runs, and what a message calls it. Some of it lm-eval keeps for a run, some for a task."""


@dataclass(frozen=True)
class Logged:
    """One task of a run under one filter: what each document earned, and where its line stands."""

    file: Path
    filter: str
    document: list[str]
    """Names [n] of the documents: lm-eval's hash, of repeated ones with a number."""
    prompt: list[str]
    """Hashes [n] of the prompts; empty where an older lm-eval told none."""
    score: Mapping[str, np.ndarray]
    """By metric, [n] from 0 to 1: NaN where there is none. A metric that is larger for some document is no score."""
    line: np.ndarray
    """Where each line begins in the file, [n] bytes."""

    @property
    def cluster(self) -> np.ndarray:
        """The document [n] of each line: repeats of one share it."""
        return np.array([name.partition("#")[0] for name in self.document])


@dataclass(frozen=True)
class Run:
    """What a folder of lm-eval holds."""

    folder: Path
    tasks: Mapping[str, Mapping[str, Logged]]
    """Task → filter → what was logged."""
    conditions: Mapping[str, Mapping[str, Any]]
    """Task → how it was asked, by the names of `CONDITIONS`; empty where no results file tells."""
    cut: tuple[str, ...] = ()
    """Tasks whose last line is cut off."""


def read_run(folder: Path) -> Run:
    """The run that a folder of lm-eval's output holds, of each task the last one.

    Refuses a folder without `samples_*.jsonl`, one with runs of several models, and a line that is none.
    """
    files = {path: match for path in sorted(folder.rglob("samples_*.jsonl")) if (match := FILE.fullmatch(path.name))}
    if not files:
        raise Refused(f"{folder} holds no samples_*.jsonl; run lm-eval with --log_samples and --output_path {folder}")
    models = sorted({str(path.parent.relative_to(folder)) for path in files})
    if len(models) > 1:
        raise Refused(f"{folder} holds runs of several models ({', '.join(models)}); name the folder of one")
    last = {match["task"]: (match["at"], path) for path, match in sorted(files.items(), key=lambda f: f[1]["at"])}
    tasks, conditions, cut = {}, {}, []
    for task, (at, path) in sorted(last.items()):
        tasks[task], whole = read_samples(path)
        told = [
            each for each in path.parent.iterdir() if each.name.endswith(f"_{at}.json")
        ]  # results_, or a name given
        conditions[task] = asked_how(told, task)
        if not whole:
            cut.append(task)
    return Run(folder, tasks, conditions, tuple(cut))


def read_samples(path: Path) -> tuple[dict[str, Logged], bool]:
    """What a file has logged, by filter; and whether it is whole, or cut off in the middle of its last line."""
    rows: dict[str, list[tuple[str, str, dict[str, float], int]]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    at, whole = 0, True
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                filter, told = str(row.get("filter", "none")), [str(name) for name in row["metrics"]]
                name = str(row.get("doc_hash") or sha256(json.dumps(row["doc"], sort_keys=True).encode()).hexdigest())
                numbers = {metric: float(row[metric]) for metric in told if isinstance(row.get(metric), int | float)}
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                if isinstance(error, ValueError) and not line.endswith(b"\n"):
                    whole = False
                    break
                raise Refused(f"line {number} of {path} is no sample of lm-eval ({error}); log the run again") from None
            repeat = seen[filter, name]
            seen[filter, name] += 1
            rows.setdefault(filter, []).append(
                (f"{name}#{repeat}" if repeat else name, str(row.get("prompt_hash", "")), numbers, at)
            )
            at += len(line)
    logged = {}
    for filter, some in rows.items():
        document, prompt, each_told, lines = map(list, zip(*some, strict=True))
        metrics = dict.fromkeys(metric for each in each_told for metric in each)
        columns = {metric: np.array([each.get(metric, np.nan) for each in each_told]) for metric in metrics}
        score = {metric: each for metric, each in columns.items() if not ((each < 0) | (each > 1)).any()}
        logged[filter] = Logged(path, filter, document, prompt, score, np.array(lines))
    return logged, whole


def asked_how(results: Sequence[Path], task: str) -> dict[str, Any]:
    """How a task was asked, by the names of `CONDITIONS`; nothing where there is no results file that can be read."""
    try:
        told = json.loads(results[0].read_text(encoding="utf-8"))
        told["generation"] = [told["configs"][task].get("generation_kwargs"), told["config"].get("gen_kwargs")]
        return {
            name: of.get(task) if isinstance(of := told.get(name), dict) else of  # of each task, or of the run
            for name in CONDITIONS
        }
    except (OSError, ValueError, AttributeError, TypeError, LookupError):
        return {}


def compare_runs(
    first: Run, second: Run, *, metrics: Sequence[str] = (), common: bool = False, flips: int = FLIPS
) -> Compared:
    """The change from the first run to the second in each task that both have, document by document.

    `metrics` names those to compare, in order of preference; one that no task has is refused. Of documents that one run
    lacks those in `common` are compared, if that is asked for; else they are refused, and so are runs that were asked
    in another way, by name of what differs.
    """
    both = sorted({*first.tasks} & {*second.tasks})
    if not both:
        raise Refused(
            f"{first.folder} has {', '.join(first.tasks)} and {second.folder} has {', '.join(second.tasks)}: "
            "no task in common, so there is nothing to compare"
        )
    notes = [
        f"{task} was logged by {run.folder} alone."
        for run, other in ((first, second), (second, first))
        for task in run.tasks
        if task not in other.tasks
    ]
    pairs = {pair for task in both for pair in in_common(task, first, second)}
    for name in metrics:
        if pairs and not any(name in names(*pair) for pair in pairs):
            known = ", ".join(sorted({metric for _, metric in pairs}))
            raise Refused(f"no task has the metric {name} in both runs; choose from {known}")
    changes, differences, documents, shown = [], [], [], []
    for task in both:
        change, difference, document, told, wrong = compare_task(task, first, second, metrics, common)
        changes.append(change)
        differences.append(difference)
        documents.append(document)
        notes += told
        shown.append(wrong)
    held = significance.holm([change.p for change in changes])
    changes = [replace(change, p_holm=float(p)) for change, p in zip(changes, held, strict=True)]
    together = statistics.shared(differences, documents)
    mean = statistics.combine([change.difference for change in changes], together)
    return Compared(
        RUNS,
        str(first.folder),
        str(second.folder),
        tuple(changes),
        mean,
        tuple(round_robin(shown, flips)),
        tuple(notes),
    )


def compare_task(
    task: str, first: Run, second: Run, metrics: Sequence[str], common: bool
) -> tuple[Change, np.ndarray, np.ndarray, list[str], Iterator[Flip]]:
    """The change in one task, that of each line [n] and its document, what is to be said, and flips, losses first."""
    notes = []
    if wrong := differing(task, first, second):
        raise Refused(f"the two runs asked {task} in another way, so their difference says nothing: {wrong}")
    if not (first.conditions[task] and second.conditions[task]):
        notes.append(f"Of {task} a run has no results_*.json, so only documents and prompts could be held against.")
    (filter, metric), left = chosen(task, first, second, metrics)
    if left:
        notes.append(f"Of {task} there is {', '.join(left)}, too; --metric compares it.")
    one, other = first.tasks[task][filter], second.tasks[task][filter]
    there = set(other.document)
    joined = [name for name in one.document if name in there]
    lacking = [
        (run, len(mine.document) - len(joined))
        for run, mine in ((second, one), (first, other))
        if len(mine.document) > len(joined)
    ]
    if lacking:
        said = "; ".join(
            f"{run.folder} lacks {count:,} documents of {task}" + (", its file is cut off" if task in run.cut else "")
            for run, count in lacking
        )
        if not common or not joined:
            raise Refused(f"{said}; run it again, or compare those in common with --common")
        notes.append(f"{said}; the {len(joined):,} in common are compared.")
    places = [{name: at for at, name in enumerate(each.document)} for each in (one, other)]
    at, to = (np.array([place[name] for name in joined]) for place in places)
    changed = sum(a != b for a, b in zip((one.prompt[i] for i in at), (other.prompt[i] for i in to), strict=True))
    if changed:
        raise Refused(
            f"the two runs asked {task} in another way: {changed:,} of {len(joined):,} prompts differ; use one chat "
            "template and one choice of few-shot examples for both"
        )
    x, y = one.score[metric][at], other.score[metric][to]
    repeated = len({*one.cluster}) < len(one.document)
    pair = statistics.compared(x, y, one.cluster[at] if repeated else None)
    change = Change(**vars(pair), task=task, filter=filter, metric=metric)
    if unscored := int(np.isnan(x + y).sum()):
        notes.append(f"{unscored:,} documents of {task} lack a score in a run and are left out.")
    lost, gained = (x >= 0.5) & (y < 0.5), (y >= 0.5) & (x < 0.5)
    order = [*np.flatnonzero(lost), *np.flatnonzero(gained)]
    shown = (flip(task, one, int(at[i]), other, int(to[i]), bool(gained[i])) for i in order)
    return change, y - x, one.cluster[at], notes, shown


def chosen(task: str, first: Run, second: Run, metrics: Sequence[str]) -> tuple[tuple[str, str], list[str]]:
    """Filter and metric that are compared, and the others that both runs have, named as lm-eval does: `acc,none`.

    `metrics` are preferred in their order, as `acc` or as `acc,none`. Refused where both have none.
    """
    for run in (first, second):
        if not run.tasks[task]:
            raise Refused(f"{run.folder} holds no whole document of {task}; run it again, or remove its file")
    pairs = in_common(task, first, second)
    if not pairs:
        raise Refused(f"the two runs logged no metric of {task} in common that is a score from 0 to 1 of each document")
    wanted = [pair for name in (*metrics, *METRICS) for pair in pairs if name in names(*pair)]
    best = (wanted or pairs)[0]
    return best, [f"{metric},{filter}" for filter, metric in pairs if (filter, metric) != best]


def in_common(task: str, first: Run, second: Run) -> list[tuple[str, str]]:
    """Filter and metric of the scores of a task that both runs have."""
    ours, theirs = first.tasks[task], second.tasks[task]
    return [(f, m) for f, one in ours.items() if f in theirs for m in one.score if m in theirs[f].score]


def names(filter: str, metric: str) -> tuple[str, str]:
    """By what a metric may be asked for."""
    return metric, f"{metric},{filter}"


def differing(task: str, first: Run, second: Run) -> str:
    """In what two runs asked a task differently, in words; empty where nothing is known to differ."""
    ours, theirs = first.conditions[task], second.conditions[task]
    if not (ours and theirs):
        return ""
    return "; ".join(
        f"{called} {ours[name]!r} and {theirs[name]!r}"
        for name, called in CONDITIONS.items()
        if ours[name] != theirs[name]
    )


def flip(task: str, one: Logged, at: int, other: Logged, to: int, gained: bool) -> Flip:
    """A document as both runs logged it."""
    ours, theirs = (line_at(each.file, int(each.line[i])) for each, i in ((one, at), (other, to)))
    return Flip(task, one.document[at], asked(ours), str(ours.get("target", "")), said(ours), said(theirs), gained)


def line_at(path: Path, start: int) -> dict[str, Any]:
    """The row whose line begins at a byte of a file."""
    with open(path, "rb") as file:
        file.seek(start)
        return json.loads(file.readline())


def asked(row: Mapping[str, Any]) -> str:
    """What a document asked: the end of its prompt, behind the few-shot examples; where options have prompts of their
    own, the document.
    """
    prompts = {prompt for prompt, _ in options(row)}
    if len(prompts) == 1:
        return prompts.pop().rpartition("\n\n")[2]
    doc = row.get("doc")
    return "\n".join(f"{key}: {value}" for key, value in doc.items()) if isinstance(doc, dict) else str(doc)


def said(row: Mapping[str, Any]) -> str:
    """What a model said to a document: its reply, or of several continuations the likeliest, behind its own prompt."""
    replies, given = row.get("resps") or [""], options(row)
    try:
        if len(replies) == 1 and isinstance(replies[0][0], str):
            return replies[0][0]
        nats = [float(each[0][0]) for each in replies]
        prompt, continuation = given[max(range(len(nats)), key=nats.__getitem__)]
    except (TypeError, ValueError, LookupError):
        return str(replies[0] if isinstance(replies, list) else replies)
    return prompt + continuation if len({prompt for prompt, _ in given}) > 1 else continuation


def options(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a model was given for a document: of each request the prompt, and the continuation or how to decode."""
    given = row.get("arguments")
    if isinstance(given, dict):  # gen_args_10 is behind gen_args_9
        given = [given[name] for name in sorted(given, key=lambda name: (len(name), name))]
    requests = []
    for each in given if isinstance(given, list) else ():
        parts = list(each.values()) if isinstance(each, dict) else each if isinstance(each, list) else [each]
        prompt, continuation, *_ = *map(str, parts), "", ""
        requests.append((prompt, continuation))
    return requests
