"""Scored checkpoints in the interchange format Every Eval Ever 0.3.0 (evalevalai.com): one aggregate file each.

What each field is made of stands in docs/export.md. Nothing that a stranger wrote decides a path.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import find
from razorbench.harness.measure import statistics
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.record import Drift, Record, Score, folder, plain, read, samples_of
from razorbench.harness.report.text import printable
from razorbench.harness.store.leaderboard import UNKNOWN
from razorbench.harness.tracks.catalogue import known_track

VERSION = "0.3.0"
OWNER = "razorbench"
"""Stands for who evaluates, and before the model's name, until a curator puts an organisation there."""
LONGEST = 10_000
"""Characters of a text that goes into a file."""
TOLD = ("asks", "source", "licence", "protocol")
"""What is told of a task's card."""
INFINITE = "Infinity"

Json = dict[str, Any]


def aggregates(home: Path, runs: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[tuple[str, Json]]:
    """Path below the folder of the data store → content, one a submission.

    `runs` are rows of the table `runs`, `now` is when the files are made. Refused if a record's files are torn.
    """
    for run in runs:
        record = read(folder(home, run["id"]))
        yield path(record), aggregate(home, record, run["name"], now)


def path(record: Record) -> str:
    """`data/<collection>/<developer>/<model>/<uuid>.json`; the same for a record whenever it is exported."""
    digest = sha256(evaluation_id(record).encode()).digest()
    parts = (f"{OWNER}__{slug(record.track)}", OWNER, slug(model(record)), f"{UUID(bytes=digest[:16], version=4)}.json")
    return "/".join(("data", *parts))


def aggregate(home: Path, record: Record, name: str, now: datetime) -> Json:
    """All results of one submission of a home; `name` is what the board calls it. Refused if its files are torn."""
    samples = samples_of(home, record.id)
    scored, adapted = (record.provenance.get(part) or {} for part in ("scored", "adapted"))
    results = [made for score in record.scores for made in _task(record, score, samples)]
    results += _overall(record) + [_drift(record, drift) for drift in record.drifts]
    known = [result for result in results if result["score_details"]["score"] is not None]
    track = known_track(record.track, home)
    return {
        "schema_version": VERSION,
        "evaluation_id": evaluation_id(record),
        "evaluation_timestamp": _epoch(datetime.fromisoformat(record.scored_at)),
        "retrieved_timestamp": _epoch(now),
        "source_metadata": {
            "source_name": OWNER,
            "source_type": "evaluation_run",
            "source_organization_name": OWNER,
            "evaluator_relationship": relationship(record),
            "additional_details": texts(track=record.track, record=record.id, entry=record.entry),
        },
        "eval_library": {
            "name": OWNER,
            "version": _text(scored.get("razorbench") or "unknown"),
            "additional_details": texts(**{key: scored.get(key) for key in ("commit", "dirty", "python", "versions")}),
        },
        "model_info": {
            "name": _text(name),
            "id": f"{OWNER}/{model(record)}",
            "developer": OWNER if adapted.get("razorbench") else "unknown",
            "inference_platform": "local",
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **texts(base_name=track and track.base.id, base=record.base),
                **texts(agent=record.agent, method=record.method, settings=record.settings),
                **texts(seed=record.seed, steps=record.steps, weights_sha256=record.checkpoint, cost=record.cost),
            },
        },
        "evaluation_results": known,
    }


def evaluation_id(record: Record) -> str:
    """Track, model and the time of scoring: it does not change when a record is exported again."""
    return f"{OWNER}.{record.track}/{OWNER}/{model(record)}/{_epoch(datetime.fromisoformat(record.scored_at))}"


def model(record: Record) -> str:
    """The name of the adapted model: its track and the id of its record."""
    return f"{record.track}-{record.id}"


def relationship(record: Record) -> str:
    """Whether the evaluator also adapted the model; `other` where nobody says who did."""
    if "submission" in record.provenance:
        return "third_party"
    return "first_party" if (record.provenance.get("adapted") or {}).get("razorbench") else "other"


def slug(name: str) -> str:
    """The name if it is plain enough to name a folder anywhere, else a hash of it."""
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", name) else sha256(name.encode()).hexdigest()[:32]


# --- results ----------------------------------------------------------------------------------------------------------


def _task(record: Record, score: Score, samples: pa.Table) -> list[Json]:
    """One task: the adapted score with its own interval, and the paired change of a prior one; a new one's is gain."""
    about = texts(
        role=score.role,
        suite=score.suite or None,
        unscored=score.unscored,
        failed_base=score.failed_base,
        failed_adapted=score.failed_adapted,
    )
    change = {"base": score.base, "adapted": score.adapted, "p": score.p, "p_holm": score.p_holm, "mde": score.mde}
    data = _source(score.task)
    alone = _adapted(samples, score.task, score.role)
    made = [
        _result(
            (record.track, score.task, "score"),
            score.adapted,
            (100 * alone.low, 100 * alone.high, 100 * alone.se, alone.n, alone.method),
            data,
            about
            | texts(
                level="task",
                base=score.base,
                difference=score.difference,
                beside=dict(score.metrics) or None,
                beside_changes=dict(score.metric_changes) or None,
            ),
            _metric("score", "mean reward", "points", (0, 100), "mean reward over the items, times 100"),
        )
    ]
    if score.role == "prior":
        made.append(
            _result(
                (record.track, score.task, "change"),
                score.difference,
                (score.low, score.high, score.se, score.n, score.interval),
                data,
                about | texts(level="task", **change),
                _metric("change", "adapted − base", "points", (-100, 100), "paired by item"),
            )
        )
    return made


def _overall(record: Record) -> list[Json]:
    """Gain and retention."""
    new, priors = ([score for score in record.scores if score.role == role] for role in ("new", "prior"))
    made = []
    for kind, scores, what in (
        ("gain", new, "adapted − base on the new task"),
        ("retention", priors, "mean over the prior tasks of adapted − base; 0: kept, negative: forgot"),
    ):
        value, low, high, se = (getattr(record, f"{kind}{part}") for part in ("", "_low", "_high", "_se"))
        method = scores[0].interval if len(scores) == 1 else "MOVER over the tasks' intervals"
        made.append(
            _result(
                (record.track, "all", kind),
                value,
                (low, high, se, sum(score.n for score in scores), method),
                _source(*(score.task for score in scores)),
                texts(level="track", tasks=[score.task for score in scores]),
                _metric(kind, kind, "points", (-100, 100), f"{what}; paired by item"),
            )
        )
    return made


def _drift(record: Record, drift: Drift) -> Json:
    """One KL divergence between base and adapted."""
    what = f"{drift.direction} KL between base and adapted along sampled episodes, exact at each element"
    return _result(
        (record.track, drift.task, f"{drift.direction}_kl_{drift.per}"),
        None if drift.nats is None else max(drift.nats, 0.0),  # rounding may leave −1e-9
        (None, None, drift.se, drift.n, "Monte Carlo over episodes"),
        _source(drift.task),
        texts(level="track", floor=drift.floor),
        _metric(f"{drift.direction}_kl", "drift", f"nats per {drift.per}", (0, INFINITE), what, lower_is_better=True)
        | {"metric_kind": "kl_divergence", "metric_parameters": {"direction": drift.direction, "per": drift.per}},
    )


def _result(
    id: tuple[str, str, str],
    score: float | None,
    uncertainty: tuple[float | None, float | None, float | None, int, str],
    data: Json,
    details: dict[str, str],
    metric: Json,
) -> Json:
    """One entry of `evaluation_results`; `id` is track, task and metric, `uncertainty` low, high, se, items, how."""
    low, high, se, n, method = uncertainty
    stated: Json = {"num_samples": n}
    if plain(se) is not None:
        stated["standard_error"] = {"value": se, "method": _text(method)}
    if plain(low) is not None and plain(high) is not None:
        stated["confidence_interval"] = {"lower": low, "upper": high, "confidence_level": 0.95, "method": _text(method)}
    track, task, _ = id
    return {
        "evaluation_result_id": "/".join(id),
        "evaluation_name": ".".join((OWNER, track) if task == "all" else (OWNER, track, task)),
        "source_data": data,
        "metric_config": metric,
        "score_details": {"score": plain(score), "details": details, "uncertainty": stated},
    }


def _metric(
    kind: str, name: str, unit: str, bounds: tuple[float, float | str], about: str, *, lower_is_better: bool = False
) -> Json:
    return {
        "evaluation_description": about,
        "metric_id": f"{OWNER}.{kind}",
        "metric_name": name,
        "metric_kind": kind,
        "metric_unit": unit,
        "lower_is_better": lower_is_better,
        "score_type": "continuous",
        "min_score": bounds[0],
        "max_score": bounds[1],
    }


def _adapted(samples: pa.Table, task: str, role: str) -> Estimate:
    """Mean reward of the adapted model, over the items that both models scored."""
    columns = {
        name: samples[name].to_numpy(zero_copy_only=False) for name in ("task", "role", "item", "base", "adapted")
    }
    base, adapted = (columns[name].astype(float) for name in ("base", "adapted"))
    mine = (columns["task"] == task) & (columns["role"] == role) & ~np.isnan(base + adapted)
    if not mine.any():
        return UNKNOWN
    return statistics.mean(adapted[mine], columns["item"][mine])


def _source(*tasks: str) -> Json:
    """What was asked: our tasks make or pack their data themselves, so there is no address of it."""
    cards = {task: card for task in tasks if (card := _card(task))}
    about = {task: {name: card[name] for name in TOLD if card[name] is not None} for task, card in cards.items()}
    details = next(iter(about.values())) if len(tasks) == 1 and about else {"tasks": about or list(tasks)}
    return {
        "dataset_name": tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks",
        "source_type": "other",
        "additional_details": texts(**details),
    }


@cache
def _card(task: str) -> Mapping[str, Any]:
    """The fields of a task's card; nothing for a task that is not installed here."""
    try:
        return find("task", task).card.told
    except (ImportError, Refused):
        return {}


# --- words ------------------------------------------------------------------------------------------------------------


def texts(**values: Any) -> dict[str, str]:
    """The values as text, as the format wants what it has no field for; numbers and lists as JSON, None left out."""
    return {
        name: _text(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))
        for name, value in values.items()
        if value is not None
    }


def _text(value: str) -> str:
    return printable(value, LONGEST)


def _epoch(when: datetime) -> str:
    return str(int(when.timestamp()))
