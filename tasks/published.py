"""Published data sets: from the data folder, else from the hub at a pinned revision; checked by content either way."""

import csv
import json
import logging
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Missing, Refused

Row = dict[str, Any]
PATIENCE = 10.0
"""Seconds in which the hub must answer."""


@dataclass(frozen=True)
class OnHub:
    """A file of a data set on the Hugging Face hub."""

    repository: str
    revision: str
    file: str


@dataclass(frozen=True)
class Published:
    """Rows that somebody published, and where they are to be had."""

    path: str
    """In the data folder: JSON lines, a JSON list where it ends in .json, or a folder of CSV files."""
    origin: str
    """Repository, commit and file, in words."""
    sha256: str
    """Of the content (`digest`), so it does not matter in which format it came."""
    columns: tuple[str, ...] = ()
    """What is read of each row; empty: the row as it is."""
    hub: OnHub | None = None


@cache
def rows(published: Published) -> list[Any]:
    """The rows, in their order; they are shared, so nobody may change them.

    Raises Missing, with the cure, when they are neither at hand nor to be had, and Refused when they are not the
    published ones.
    """
    root, hub = os.environ.get("RAZORBENCH_DATA"), published.hub
    if root:
        file = Path(root) / published.path
        cure = f"put it there, from {published.origin}"
        if not file.exists():
            raise Missing(
                f"{file} is missing; {cure}{', or unset RAZORBENCH_DATA to fetch it from the hub' * bool(hub)}"
            )
    elif hub:
        cure = "fetch it again"
        file = hub_file(hub.repository, hub.revision, hub.file, f"a folder that holds {published.path}")
    else:
        raise Missing(
            f"{published.path} is looked for in RAZORBENCH_DATA, which is not set; "
            f"set it to a folder that holds it, from {published.origin}"
        )
    try:
        read = [chosen(row, published.columns) for row in parsed(file)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Refused(f"{file} cannot be read ({type(error).__name__}: {error}); {cure}") from None
    if digest(read) != published.sha256:
        raise Refused(f"{file} is not the published file (the sha256 of its content differs); {cure}")
    return read


def parsed(file: Path) -> list[Any]:
    """The rows of a file of JSON lines, of a JSON list, or of Parquet; of a folder of CSV files, by name, each row
    after the name of its file.
    """
    if file.is_dir():
        return [[path.stem, *row] for path in sorted(file.glob("*.csv")) for row in csv_rows(path)]
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(file).to_pylist()
    text = file.read_text(encoding="utf-8")
    return json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line]


def csv_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def chosen(row: Any, columns: tuple[str, ...]) -> Any:
    """The columns of a row; of none, the row."""
    return {name: row[name] for name in columns} if columns else row


def digest(read: list[Any]) -> str:
    """sha256 of rows as JSON, keys in order."""
    return sha256(json.dumps(read, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def numbered(split: str, count: int) -> np.ndarray:
    """Ids [count] of rows that have none of their own: `train-0`, `train-1`, …"""
    return np.array([f"{split}-{at}" for at in range(count)])


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub_file(repository: str, revision: str, file: str, instead: str) -> Path:
    """A file of a data set on the hub, fetched once. Missing where it is not to be had; `instead` is what would do."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries would bury the one sentence below
    fetch = partial(hf_hub_download, repository, file, repo_type="dataset", revision=revision)
    try:
        try:
            return Path(fetch(local_files_only=True))
        except LocalEntryNotFoundError:
            demand_answer(repository)
            return Path(fetch())
    except Exception as error:  # the hub's errors have many types, and all mean: no data
        raise Missing(
            f"cannot fetch {repository} from the hub ({type(error).__name__}); set RAZORBENCH_DATA to {instead}"
        ) from None


def demand_answer(repository: str) -> None:
    """Return when the hub answers at all, and raise what is in the way of it; TimeoutError if that takes too long.

    The hub's own client tries five times, and knows no bound on the look-up of a name or on a proxy that hangs.
    """
    from huggingface_hub import constants, get_session

    url, asked = f"{constants.ENDPOINT}/datasets/{repository}", Future()

    def ask() -> None:
        try:
            asked.set_result(get_session().head(url, timeout=PATIENCE))
        except Exception as error:
            asked.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()  # one that hangs keeps nobody
    asked.result(PATIENCE)
