"""Documents of lm-eval's tasks: from the data folder where it has them, else from the hub."""

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets

from razorbench import Missing

Rows = list[dict[str, Any]]


def hellaswag(folder: Path, name: str) -> dict[str, Rows]:
    """The validation split. The file holds contexts whole, so their second sentence begins as it is written there."""
    rows = []
    for row in lines(folder / "hellaswag" / "hellaswag_val.jsonl"):
        topic, _, context = row["ctx"].partition(": ")
        parts = {"activity_label": topic, "ctx_a": context, "ctx_b": "", "endings": row["endings"]}
        rows.append({"ind": row["ind"], **parts, "label": str(row["label"])})
    return {"validation": rows, "train": rows[:0]}


def winogrande(folder: Path, name: str) -> dict[str, Rows]:
    """The validation split, and the largest training split at hand for few-shot examples."""
    there = (folder / "winogrande" / f"train_{size}.jsonl" for size in ("xl", "l", "m", "s", "xs"))
    train = next((lines(path) for path in there if path.exists()), [])
    return {"train": train, "validation": lines(folder / "winogrande" / "dev.jsonl")}


def truthfulqa(folder: Path, name: str) -> dict[str, Rows]:
    """The questions of the multiple-choice form."""
    content = json.loads((folder / "truthfulqa" / "mc_task.json").read_text(encoding="utf-8"))
    kinds = ("mc1_targets", "mc2_targets")
    targets = [
        {kind: {"choices": list(row[kind]), "labels": list(row[kind].values())} for kind in kinds} for row in content
    ]
    return {"validation": [{"question": row["question"], **each} for row, each in zip(content, targets, strict=True)]}


def mmlu(folder: Path, name: str) -> dict[str, Rows]:
    """One subject: what is tested, and the five examples."""
    return {split: subject(folder / "mmlu" / split / f"{name}_{split}.csv", name) for split in ("dev", "test")}


def subject(path: Path, name: str) -> Rows:
    """Questions of MMLU with four choices and the number of the right one."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {"question": question, "subject": name, "choices": choices, "answer": "ABCD".index(letter)}
            for question, *choices, letter in csv.reader(file)
        ]


def ifeval(folder: Path, name: str) -> dict[str, Rows]:
    """Prompts with their instructions."""
    return {"train": lines(folder / "ifeval" / "input_data.jsonl")}


def humaneval(folder: Path, name: str) -> dict[str, Rows]:
    """Functions to write, with their tests."""
    return {"test": lines(folder / "humaneval" / "HumanEval.jsonl.gz")}


LOCAL: dict[str, Callable[[Path, str], dict[str, Rows]]] = {
    "Rowan/hellaswag": hellaswag,
    "allenai/winogrande": winogrande,
    "truthfulqa/truthful_qa": truthfulqa,
    "cais/mmlu": mmlu,
    "google/IFEval": ifeval,
    "openai/openai_humaneval": humaneval,
}
"""Repository on the hub → what the data folder has of its configuration `name`, by split, in the hub's columns."""


def lines(path: Path) -> Rows:
    """The rows of a file of JSON lines."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@contextmanager
def at_hand() -> Iterator[None]:
    """Within it lm-eval has its documents from RAZORBENCH_DATA, where this is set and has them.

    Raises Missing, with the cure, where they are neither there nor to be had from the hub.
    """
    from_hub, root = datasets.load_dataset, os.environ.get("RAZORBENCH_DATA")

    def load(path: str, name: str | None = None, **how: Any) -> Any:
        if root and path in LOCAL:
            try:
                splits = LOCAL[path](Path(root), name or "")
            except OSError as error:
                raise Missing(
                    f"{error.filename} cannot be read ({error.strerror}); put it there, or unset RAZORBENCH_DATA to "
                    f"fetch {path} from the hub"
                ) from None
            return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})
        try:
            return from_hub(path, name, **how)
        except (OSError, ValueError) as error:
            own = ", or set RAZORBENCH_DATA to a folder that has it" if path in LOCAL else ""
            raise Missing(
                f"{path} cannot be fetched from the hub ({first_line(error)}); try again with a hub at hand{own}"
            ) from error

    with patch.object(datasets, "load_dataset", load):
        yield


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).partition("\n")[0]
