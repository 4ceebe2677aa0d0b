"""The commands that list what there is: tracks, tasks, agents, methods."""

from contextlib import suppress
from dataclasses import asdict

from razorbench.harness.cli.arguments import HOME, Home, Json
from razorbench.harness.cli.terminal import listing
from razorbench.harness.core.errors import Refused
from razorbench.harness.tracks.catalogue import all_tracks


def tracks(*, home: Home = HOME, json: Json = False) -> None:
    """List the tracks: what each asks, what it must not forget."""
    listing(
        [
            {
                "track": track.id,
                "question": track.question,
                "base": track.base.id,
                "agent": track.base.agent,
                "new": track.new,
                "priors": track.prior_tasks,
            }
            for track in all_tracks(home).values()
        ],
        json,
        ("track", "question"),
    )


def tasks(*, home: Home = HOME, json: Json = False) -> None:
    """List the registered tasks with their cards, and the suites of prior tasks."""
    from razorbench.harness.core.registry import find, ids
    from razorbench.harness.tracks.suites import SUITES

    listing([{"task": id, **asdict(find("task", id).card)} for id in ids("task")], json, ("task", "asks", "chance"))
    if not json:
        listing([{"suite": name, "prior tasks": ids} for name, ids in SUITES.items()], json)


def agents(*, home: Home = HOME, json: Json = False) -> None:
    """List the registered agents."""
    from razorbench.harness.core.registry import find, ids

    listing([{"agent": id, "what": (find("agent", id).__doc__ or "").split("\n")[0]} for id in ids("agent")], json)


def methods(*, home: Home = HOME, json: Json = False) -> None:
    """List the methods of adaptation."""
    from razorbench.harness.core.registry import ids
    from razorbench.harness.learn.methods import METHODS, find_method

    by_id = dict(METHODS)
    for id in ids("method"):
        with suppress(Refused):  # what another package brings and cannot be loaded
            by_id.setdefault(id, find_method(id))
    rows = [
        {
            "method": name,
            "about": method.about,
            "weight": method.weight.__name__,
            "surrogate": method.surrogate.__name__,
            "normaliser": method.normaliser.__name__,
        }
        for name, method in by_id.items()
    ]
    listing(rows, json, ("method", "about"))
