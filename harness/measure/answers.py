"""What base and adapted answered where they score differently: the rows of a record, and how flips are read.

Imports no torch, for the board shows them.
"""

from collections.abc import Sequence
from contextlib import closing
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import numpy as np
from PIL import Image

from razorbench.harness.core.episodes import Episode, Episodes, Observation
from razorbench.harness.core.errors import Refused
from razorbench.harness.measure import record as files
from razorbench.harness.measure.record import ANSWERS, DUCKDB

FLIPS = 200
"""Flips of a task whose answers are kept, the first ones: more than a person reads, and all answers of all items would
repeat those of the base in every record of its track."""
LONGEST = 20_000
"""Characters of a text that are kept."""
SIDE = 256
"""Pixels a side of a picture, at most."""

Tokens = Sequence[tuple[str, float]]
"""The pieces of a reply, each with the nats of drift there."""


# --- what is kept -----------------------------------------------------------------------------------------------------


def flipped(base: np.ndarray, adapted: np.ndarray, most: int = FLIPS) -> np.ndarray:
    """Which items [k] both have scored, and differently: the first `most`, from scores [n] (NaN: unscored)."""
    return np.flatnonzero(np.isfinite(base) & np.isfinite(adapted) & (base != adapted))[:most]


def answer_rows(
    task: str, items: Sequence[str], base: Episodes, adapted: Episodes, tokens: Sequence[Tokens] | None = None
) -> list[dict[str, Any]]:
    """Rows of `record.ANSWERS` for the items [k] that were played so; `tokens` [k] are those of the base.

    Both were asked the same; what they saw first need be kept of the adapted alone.
    """
    return [
        {
            "task": task,
            "item": items[i],
            "asked": shortened(ours.observations[0].text) if ours.observations else None,
            "picture": picture(theirs.observations[0]) if theirs.observations else None,
            "base": said(ours),
            "adapted": said(theirs),
            "base_values": values(ours),
            "adapted_values": values(theirs),
            "tokens": tokens and [{"text": text, "nats": finite(nats)} for text, nats in tokens[i]],
        }
        for i, (ours, theirs) in enumerate(zip(base, adapted, strict=True))
    ]


def word_rows(
    task: str, items: Sequence[str], base: Sequence[tuple[str | None, str | None]], adapted: Sequence[str | None]
) -> list[dict[str, Any]]:
    """The same for items [k] of a benchmark that tells what it asked and what was answered: `base` has both. An item of
    which it tells no question has no row.
    """
    nothing = dict.fromkeys(ANSWERS.names)
    return [
        {
            **nothing,
            "task": task,
            "item": item,
            "asked": shortened(asked),
            "base": shortened(b),
            "adapted": shortened(a),
        }
        for item, (asked, b), a in zip(items, base, adapted, strict=True)
        if asked is not None
    ]


def said(episode: Episode) -> str | None:
    """What was answered as text; of a dialogue, the turns in order. None where an answer is no word and no number."""
    answers = [action.value for action in episode.actions]
    if not answers or not all(isinstance(value, str | int | float | np.generic) for value in answers):
        return None
    parts = [str(answers[0])]
    for seen, value in zip(episode.observations[1:], answers[1:], strict=False):
        parts += [f"[{seen.role}] {seen.text or '(no text)'}", f"[answer] {value}"]
    return shortened("\n\n".join(parts))


def values(episode: Episode) -> list[list[float]] | None:
    """What was done in each turn, where that is a vector: enough to play the episode again. None where it is not."""
    done = [action.value for action in episode.actions]
    if not done or not all(isinstance(v, np.ndarray) and v.ndim == 1 and v.dtype.kind in "fiu" for v in done):
        return None
    return [value.astype(np.float64).tolist() for value in done]


def picture(seen: Observation) -> bytes | None:
    """What the first camera saw, as PNG; None where there is none, or what it saw is no picture."""
    image: Any = next(iter((seen.images or {}).values()), None)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return None
    if image.size == 0 or image.ndim < 2 or image.shape[2:] not in ((), (3,), (4,)):
        return None
    drawn, file = Image.fromarray(image), BytesIO()
    drawn.thumbnail((SIDE, SIDE))
    drawn.save(file, "PNG")
    return file.getvalue()


def shortened(text: str | None) -> str | None:
    """The text, which ends in … beyond `LONGEST` characters; a lone surrogate, which no file holds, is ?."""
    if text is None:
        return None
    text = str(text).encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def finite(nats: float) -> float | None:
    """The number, or None."""
    return nats if np.isfinite(nats) else None


# --- how it is read ---------------------------------------------------------------------------------------------------

FOUND = """
    FROM (FROM read_parquet($samples, hive_partitioning = false) WHERE task = $task) AS scored
    LEFT JOIN (FROM {answers} WHERE task = $task) AS told USING (item)
    WHERE CASE $kind WHEN 'forgot' THEN scored.adapted < scored.base WHEN 'learned' THEN scored.adapted > scored.base
            ELSE scored.adapted <> scored.base END
        AND list_bool_or([contains(lower(text), lower($search)) FOR text IN [item, asked, told.base, told.adapted]])"""
"""The flips of a task; the search is no pattern."""


def count(home: Path, id: str, task: str, kind: str = "", search: str = "") -> int:
    """How many flips `flips` would find without a limit."""
    return _ask(home, id, f"SELECT count(*) AS n {FOUND}", task=task, kind=kind, search=search)[0]["n"]


def flips(
    home: Path, id: str, task: str, kind: str = "", search: str = "", *, limit: int = 1_000_000, offset: int = 0
) -> list[dict[str, Any]]:
    """Items of a task that a record (its id) `forgot`, scoring less than its base, or `learned`, scoring more; or both.

    Columns item, base, adapted (rewards) and drift (nats); what is kept of the answers: asked, picture (PNG),
    base_said, adapted_said, tokens, and whether they `moves`, that is can be filmed; `told` is False where nothing is
    kept. Those where item, question or an answer contain `search`, whatever its case, by item.
    """
    sql = f"""
        SELECT
            item, scored.base, scored.adapted, drift, asked, picture, told.base AS base_said,
            told.adapted AS adapted_said, tokens, told.task IS NOT NULL AS told,
            base_values IS NOT NULL AND adapted_values IS NOT NULL AS moves
        {FOUND} ORDER BY try_cast(item AS BIGINT), item LIMIT $limit OFFSET $offset"""
    return _ask(home, id, sql, task=task, kind=kind, search=search, limit=limit, offset=offset)


def motions(home: Path, id: str, task: str, item: str = "", most: int = 1) -> list[dict[str, Any]]:
    """Flips whose values are kept: the one with this item, or the first ones.

    Columns item, base, adapted (rewards), base_values and adapted_values.
    """
    sql = f"""
        SELECT item, scored.base, scored.adapted, base_values, adapted_values
        {FOUND} AND base_values IS NOT NULL AND adapted_values IS NOT NULL AND $item IN ('', item)
        ORDER BY try_cast(item AS BIGINT), item LIMIT $most"""
    return _ask(home, id, sql, task=task, kind="", search="", item=item, most=most)


def kept(home: Path, id: str) -> bool:
    """Whether the record has answers; those that were made before answers were kept have none."""
    return (files.checked_folder(home, id) / "answers.parquet").exists()


def film_of(home: Path, id: str, task: str, item: str) -> Path:
    """Where the film of a flip lies, or would."""
    return home / "films" / files.checked_folder(home, id).name / quote(task, "") / f"{quote(item, '')}.mp4"


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """A database in memory; to make one takes as long as to ask it twice."""
    return duckdb.connect(config=DUCKDB)


def _ask(home: Path, id: str, sql: str, **asked: Any) -> list[dict[str, Any]]:
    """What a query finds, one dict a row; Refused if the id is none, or its files cannot be read."""
    folder = files.checked_folder(home, id)
    asked["samples"] = str(folder / "samples.parquet")
    try:
        with closing(_engine().cursor()) as con:
            if kept(home, id):
                asked["answers"] = str(folder / "answers.parquet")
                result = con.execute(sql.format(answers="read_parquet($answers, hive_partitioning = false)"), asked)
            else:
                con.register("none", files.ANSWERS.empty_table())
                result = con.execute(sql.format(answers="none"), asked)
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    except duckdb.Error as error:
        why = str(error).splitlines()[0]
        raise Refused(f"{folder} is torn or missing ({why}): restore it from a copy") from error
