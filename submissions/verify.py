"""Scoring a submission again: does its result come out within its interval?"""

from dataclasses import dataclass

from razorbench import Refused
from razorbench.harness.store.database import Store
from razorbench.submissions import queue
from razorbench.submissions.confine import Limits, call
from razorbench.submissions.scoring import handed, lanes, measure, ready


@dataclass(frozen=True)
class Again:
    """One number of one seed: as recorded with its 95 % interval, and as it came out again."""

    seed: int | None
    number: str
    """gain or retention (points), or drift (nats an episode)."""
    recorded: float | None
    low: float | None
    high: float | None
    again: float | None

    @property
    def reproduced(self) -> bool:
        """Whether the new number lies in the interval; both unknown is as good."""
        if self.again is None or self.recorded is None or self.low is None or self.high is None:
            return self.again is None and self.recorded is None
        return self.low <= self.again <= self.high


def verify(store: Store, key: str, limits: Limits) -> list[Again]:
    """Score every seed of a scored submission again, and append what came out as an event of each record.

    Returns what came out, seed by seed. Refused for what is not scored, and for a row that nobody submitted:
    `razorbench sweep` or `adapt` makes that one again.
    """
    home, sub = store.home, queue.find(store.home, key)
    if sub is None:
        run = store.submission(key)
        if not (submission := run["provenance"].get("submission")):
            raise Refused(
                f"{key} was made here and not submitted; the same `razorbench sweep` or `adapt` makes it again"
            )
        sub = queue.read(home, submission["id"])
    end = queue.ended(home, sub.id)
    if end is None or end.state != "scored":
        raise Refused(f"{sub.name} ({sub.id}) is {queue.status(home, sub).state}; only what was scored can be verified")
    ready(sub.track, home)
    numbers = []
    for index, (seed, id) in enumerate(zip(sub.seeds, end.records, strict=True)):
        run = store.submission(id)
        log = queue.root(home) / sub.id / "verify.log"
        with lanes(sub.track, home) as workers:
            measured = call(handed, workers, measure, home, sub, index, limits=limits, writable=[], log=log)
        rows = []
        for number in ("gain", "retention", "drift"):
            value, low, high = run[number], run.get(f"{number}_low"), run.get(f"{number}_high")
            if number == "drift" and value is not None and run["drift_se"] is not None:
                low, high = value - 1.96 * run["drift_se"], value + 1.96 * run["drift_se"]
            rows.append(Again(seed, number, value, low, high, measured[number]))
        verdict = "reproduced" if all(row.reproduced for row in rows) else "differs"
        told = ", ".join(f"{row.number} {row.recorded} came out as {row.again}" for row in rows)
        store.decide(id, "verified", told, verdict)
        numbers += rows
    return numbers
