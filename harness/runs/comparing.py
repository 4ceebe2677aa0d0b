"""The call of the public door that compares: two models, two runs of lm-eval, or two rows of the board."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.measure.comparison import MODELS, ROWS, RUNS, Compared, kind_of
from razorbench.harness.measure.logged import compare_runs, read_run
from razorbench.harness.measure.record import Record
from razorbench.harness.store import results
from razorbench.harness.store.database import Store

ITEMS = 200
"""Of each task, unless more or fewer are wanted."""


def compare(
    first: str | Path | Record,
    second: str | Path | Record,
    *,
    new: str = "",
    priors: Sequence[str] = (),
    items: int = ITEMS,
    limit: int = 0,
    metric: Sequence[str] = (),
    common: bool = False,
    home: str | Path | None = None,
    runtime: Runtime = AUTO,
    tell: Callable[[str], Any] = lambda what: None,
) -> Compared:
    """Two of a kind task by task, on the items that both answered: models, runs of lm-eval, or rows of the board.

    Of models, `first` is the base: a folder, OWNER/NAME@COMMIT on the hub, or http://HOST/v1#MODEL; `second` is what
    became of it, such a model or a LoRA. `new`, `priors`, `items`, `limit` and `runtime` are as
    `runs.models.compare_models` has them. Of runs, which are folders, `metric` and `common` are as in
    `measure.logged.compare_runs`. A row is named by the id, name or record of any of its seeds, and counts with all of
    them.

    Returns the changes with their intervals and p-values, by task; of models the drift and the record, too. Raises
    Refused for two of different kinds, and for what cannot be compared.
    """
    there = home_folder(home)
    kinds = [ROWS if isinstance(each, Record) else kind_of(str(each)) for each in (first, second)]
    if kinds[0] is not kinds[1]:
        told = "; ".join(f"{each} is {kind.one}" for each, kind in zip((first, second), kinds, strict=True))
        raise Refused(f"{told}; name two models, two runs, or two rows")
    if kinds[0] is MODELS:
        from razorbench.harness.runs.models import compare_models  # it loads torch, and runs and rows need none

        if metric or common:
            raise Refused("metric and common are of runs of lm-eval, and these are models; leave them out")
        return compare_models(
            str(first),
            str(second),
            new=new,
            priors=priors,
            items=items,
            limit=limit,
            home=there,
            runtime=runtime,
            tell=tell,
        )
    if new or priors:
        raise Refused(f"new and priors are asked of models, and these are {kinds[0].several}; leave them out")
    if kinds[0] is RUNS:
        return compare_runs(read_run(Path(str(first))), read_run(Path(str(second))), metrics=metric, common=common)
    store = Store(there)
    rows = [row_of(store, each.id if isinstance(each, Record) else str(each)) for each in (first, second)]
    entries = {entry.id: entry for entry in store.some([row["entry"] for row in rows])}
    return results.compared(store, *(entries[row["entry"]] for row in rows))


def row_of(store: Store, named: str) -> dict[str, Any]:
    """The row of the board that somebody names by its id or name. Refuses what is none, nor anything else."""
    try:
        return store.submission(named)
    except Refused as error:
        raise Refused(f"{named} is no folder here and no OWNER/NAME@COMMIT, and {error}") from None


def home_folder(home: str | Path | None) -> Path:
    """The folder that everything lives in."""
    return Path(home or os.environ.get("RAZORBENCH_HOME", ".razorbench")).absolute()
