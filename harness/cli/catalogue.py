"""The commands that list what there is: tracks, tasks, agents, methods."""

import json as jsonlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import tyro

from razorbench.harness.cli.arguments import HOME, Home, Json
from razorbench.harness.cli.terminal import listing, out
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


def tasks(task: tyro.conf.Positional[str] = "", *, home: Home = HOME, json: Json = False) -> None:
    """List the registered tasks with their cards, and the suites of prior tasks; or show one card whole.

    Args:
        task: Id of one task.
    """
    from razorbench.harness.core.registry import find, ids
    from razorbench.harness.tracks.suites import SUITES

    if task:
        told = {"task": task, **find("task", task).card.told}
        if json:
            print(jsonlib.dumps(told))
        else:
            say_card(told)
        return
    listing([{"task": id, **find("task", id).card.told} for id in ids("task")], json, ("task", "asks", "chance"))
    if not json:
        listing([{"suite": name, "prior tasks": ids} for name, ids in SUITES.items()], json)


def say_card(told: Mapping[str, Any]) -> None:
    """The fields of a card, a line each; those of what stands in it behind its name."""
    for name, value in told.items():
        if isinstance(value, Mapping):
            say_card({f"{name} {inner}": each for inner, each in value.items()})
        elif value not in (None, ""):
            out.print(f"{name}: {value}", highlight=False, soft_wrap=True)


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
