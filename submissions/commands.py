"""The commands of submissions: submit, worker, queue, verify, retract, hide, unhide."""

import json as jsonlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from razorbench import Refused
from razorbench.harness.cli.arguments import HOME, Home, Json, Name, Server
from razorbench.harness.cli.terminal import Failed, busy, command, err, listing, out, say
from razorbench.harness.report.text import number
from razorbench.harness.tracks.catalogue import add_track, find_track


def submit(
    source: Name,
    *,
    track: str,
    name: str = "",
    method: str = "",
    licence: str = "",
    contact: str = "",
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Bring an adapted checkpoint: check it at the gate, copy it in, and queue it for scoring.

    Args:
        source: Folder with the weights, or OWNER/NAME@REVISION on the Hugging Face hub.
        track: Id of the track, or its file, which ends in .toml.
        name: Name on the board; by default the folder's.
        method: How it was adapted, such as sft; read from checkpoint.json where `razorbench adapt` made the folder.
        licence: Licence of the weights.
        contact: How to reach you; it is kept with the files and not shown on the board.
    """
    chosen = find_track(track, home)
    from razorbench.submissions import claim as claims
    from razorbench.submissions import queue
    from razorbench.submissions import source as sources
    from razorbench.submissions.claim import SEEDS
    from razorbench.submissions.copying import limit

    reference = sources.reference(chosen, home)
    add_track(chosen, home)  # the workers find it there
    said = {"track": chosen.id, "name": name, "method": method, "licence": licence, "contact": contact}
    with sources.folder(source, limit(reference.bytes, SEEDS)) as place, sources.held(place) as own:
        local = Path(source).is_dir()
        called = place.name if local else source.partition("@")[0].rpartition("/")[2]
        written, left, based = False, [], []

        def complete(copy: Path) -> None:
            nonlocal written
            _, written = sources.claim_of(copy, chosen, said, called)

        def trained(base: str) -> None:
            based.append(sources.trained_on(base, reference, local))

        with busy("at the gate"):
            sub = queue.admit(home, place, reference, complete, lambda: sources.evaluated(chosen), left.append, trained)
        if written and local and sources.leave(own, claims.write(sub.claim)) and not json:
            told = f"{place / claims.FILE} says what was submitted; keep it with the weights."
            err.print(told, highlight=False, soft_wrap=True)
    waiting = [other.id for other in queue.waiting(home)]
    place_in = waiting.index(sub.id) + 1 if sub.id in waiting else None
    row = {
        "id": sub.id,
        "name": sub.name,
        "kind": sub.kind,
        "bytes": sub.bytes,
        "overlap": sub.overlap,
        "place": place_in,
        "trained_on": sub.trained_on,
        "passed_over": left,
    }
    kind = {"full": "full weights", "lora": "low-rank adapters"}[sub.kind]
    seeds = f", {len(sub.folders)} seeds" if len(sub.folders) > 1 else ""
    say(row, json, f"{sub.name} passed the gate ({kind}{seeds}) and is queued as {sub.id}, place {place_in}.")
    if json:
        return
    if left:
        out.print(f"Passed over, neither opened nor copied: {listed(left)}.", highlight=False, soft_wrap=True)
    for sentence in based:
        out.print(sentence, highlight=False, soft_wrap=True)
    if sub.overlap:
        out.print(f"{sub.overlap} of the declared training questions are asked on {chosen.id}: the board will say so.")
    if queue.live(home):
        out.print("A worker is running and will come to it. See how it stands:")
        command(f"razorbench show {sub.id}", home)
    else:
        out.print("No worker is running. Start one, which ends when all is scored:")
        command("razorbench worker --drain", home)


def listed(names: Sequence[str]) -> str:
    """Names on one line; of very many the first."""
    from razorbench.submissions.strict import shown

    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(name if name.isprintable() else shown(name) for name in names[:12]) + more


def worker(
    *,
    drain: bool = False,
    lease: float = 60.0,
    memory: float = 16.0,
    hours: float = 6.0,
    server: Server = None,
    home: Home = HOME,
) -> None:
    """Score what is queued, until interrupted; several workers may share a home.

    Args:
        drain: End when nothing is left to be scored.
        lease: Seconds without a heartbeat after which others take this worker's submission over.
        memory: GiB that scoring one submission may need.
        hours: Time that scoring one submission may take.
    """
    from razorbench.harness.store.database import Store
    from razorbench.submissions.confine import Limits
    from razorbench.submissions.queue import End, Submission
    from razorbench.submissions.worker import work

    def say(sentence: str) -> None:
        err.print(sentence, highlight=False, soft_wrap=True)

    if lease < 1 or memory <= 0 or hours <= 0:
        raise Refused("lease must be at least 1 second, memory and hours more than 0")

    def tell(sub: Submission, end: End) -> None:
        how = f"scored in {end.seconds:.1f} s" if end.seconds is not None else f"{end.state}: {end.reason}"
        out.print(f"{sub.name} ({sub.id}): {how}", highlight=False, soft_wrap=True)

    say(f"Scoring what is queued in {home}. Ctrl-C ends it; what was begun is then given back.")
    limits = Limits(memory, 3600 * hours)
    unable = work(Store(home, server=server), drain=drain, lease=lease, limits=limits, tell=tell, say=say)
    if unable:
        raise Refused(f"{len(unable)} of the queued tracks cannot be scored here ({', '.join(unable)}); see why above")
    out.print("Nothing is left to be scored. The results:")
    command("razorbench results", home)


def queue(*, all: bool = False, home: Home = HOME, json: Json = False) -> None:
    """List what waits for scoring, and the workers.

    Args:
        all: List what was scored, failed or retracted, too.
    """
    from razorbench.harness.measure.record import Torn
    from razorbench.submissions import queue as submissions

    queued = submissions.waiting(home)
    starts = submissions.estimates(home, queued)
    places = {sub.id: place for place, sub in enumerate(queued, 1)}
    rows = []
    for sub in sorted(submissions.brought(home), key=lambda sub: sub.submitted_at) if all else queued:
        try:
            status = submissions.status(home, sub)
        except Torn:  # it is told of below
            continue
        rows.append(
            {
                "id": sub.id,
                "name": sub.name,
                "track": sub.track,
                "state": status.state,
                "place": places.get(sub.id),
                "starts": inward(starts.get(sub.id)) if status.state == "queued" else "",
                "worker": status.worker,
                "heartbeat": ago(status.beat),
                "submitted_at": sub.submitted_at,
            }
        )
    workers, torn = submissions.live(home), submissions.torn(home)
    if json:
        print(jsonlib.dumps({"submissions": rows, "workers": workers, "torn": torn}, indent=1))
        return
    for sentence in torn:
        err.print(sentence, highlight=False, soft_wrap=True, style="red")
    if rows:
        listing(rows, False, ("id", "name", "track", "state", "place", "starts", "heartbeat"))
    else:
        out.print("Nothing waits for scoring." if queued or not all else "Nothing was submitted yet.")
    if workers:
        beats = ", ".join(f"{worker['name']} ({ago(worker['age'])})" for worker in workers)
        out.print(f"Workers: {beats}", highlight=False)
    elif queued:
        out.print("No worker is running. Start one:")
        command("razorbench worker --drain", home)


def ago(seconds: float | None) -> str:
    """How long ago."""
    return "" if seconds is None else f"{seconds:.0f} s ago"


def inward(seconds: float | None) -> str:
    """When something begins."""
    if seconds is None:
        return "not known yet"
    return "now" if seconds < 1 else f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} min"


def verify(
    submission: Name,
    *,
    memory: float = 16.0,
    hours: float = 6.0,
    server: Server = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Score a submission again from its weights, and say whether the result comes out within its interval.

    Args:
        submission: Its id or name.
        memory: GiB that scoring may need.
        hours: Time that scoring may take.
    """
    from razorbench.harness.store.database import Store
    from razorbench.submissions.confine import Crashed, Limits
    from razorbench.submissions.verify import verify as again

    try:
        with busy(f"scoring {submission} again"):
            results = again(Store(home, server=server), submission, Limits(memory, 3600 * hours))
    except Crashed as error:
        raise Failed(f"scoring it again {error}") from None
    rows = [
        {
            "seed": each.seed,
            "number": each.number,
            "recorded": each.recorded,
            "low": each.low,
            "high": each.high,
            "again": each.again,
        }
        for each in results
    ]
    good = all(each.reproduced for each in results)
    if json:
        print(jsonlib.dumps({"reproduced": good, "numbers": rows}, indent=1))
    else:
        listing(
            [
                {
                    "seed": each.seed,
                    "number": each.number,
                    "recorded": f"{digits(each.recorded)} [{digits(each.low)}, {digits(each.high)}]",
                    "again": digits(each.again),
                }
                for each in results
            ],
            False,
        )
        out.print(
            "The result comes out again, within its intervals." if good else "The result does NOT come out again."
        )


def digits(value: float | None) -> str:
    """A number in a form that suits points and small nats alike."""
    return number(value, "+.4g")


def retract(submission: Name, *, reason: str, server: Server = None, home: Home = HOME, json: Json = False) -> None:
    """Take a submission back for good: out of the queue, or off the board.

    Args:
        submission: Its id or name.
        reason: Why; it is kept.
    """
    decide("retracted", submission, reason, home, server, json)


def hide(submission: Name, *, reason: str, server: Server = None, home: Home = HOME, json: Json = False) -> None:
    """Hide a row from the board, as a moderator.

    Args:
        submission: Its id or name.
        reason: Why; it is kept.
    """
    decide("hidden", submission, reason, home, server, json)


def unhide(submission: Name, *, reason: str, server: Server = None, home: Home = HOME, json: Json = False) -> None:
    """Show a hidden row again.

    Args:
        submission: Its id or name.
        reason: Why; it is kept.
    """
    decide("unhidden", submission, reason, home, server, json)


def decide(
    kind: Literal["retracted", "hidden", "unhidden"], key: str, reason: str, home: Path, server: str | None, json: bool
) -> None:
    """Append a decision about every record of a submission; one that waits is taken out of the queue."""
    from razorbench.harness.store.database import Store
    from razorbench.submissions import queue

    if not reason.strip():
        raise Refused("give a reason in words; it is kept with the decision")
    store = Store(home, server=server)
    sub = queue.find(home, key)
    called = f"{sub.name} ({sub.id})" if sub else key
    if sub and kind == "retracted" and queue.finish(home, sub, queue.End(kind, reason)):
        say({"submission": sub.id, "state": kind}, json, f"{called} is out of the queue.")
        return
    end = queue.ended(home, sub.id) if sub else None
    if sub and (end is None or end.state != "scored"):
        state = end.state if end else queue.status(home, sub).state
        raise Refused(f"{called} is {state}; only what stands on the board can be {kind}")
    records = end.records if end else (store.submission(key)["id"],)
    left = [id for id in records if not store.submission(id)["retracted"]]  # of seeds, where this was killed before
    if not left:
        raise Refused(f"{called} is retracted, and that is for good; it cannot be {kind}")
    for id in left:
        store.decide(id, kind, reason)
    if sub and kind == "retracted":
        queue.mark(home, sub, queue.End(kind, reason, records))
    done = {"retracted": "is retracted", "hidden": "is hidden", "unhidden": "is shown again"}[kind]
    say({"submission": called, "records": records, "state": kind}, json, f"{called} {done}: {reason}")


def told(home: Path, key: str) -> Mapping[str, Any] | None:
    """What is known of a submission by its id or name, for `razorbench show`; None if there is none."""
    from razorbench.submissions import queue
    from razorbench.submissions.worker import log_of

    sub = queue.find(home, key)
    if sub is None:
        return None
    status = queue.status(home, sub)
    end = asdict(status.end) if status.end else None
    log = log_of(home, sub) if status.state == "failed" or status.crashes else ""
    return {
        "submission": asdict(sub),
        "state": status.state,
        "tries": status.tries,
        "crashes": status.crashes,
        "worker": status.worker,
        "end": end,
        "log": log,
    }
