"""The commands of those who write tasks and tracks: task new, task check; track new, track check, track add."""

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import tyro

from razorbench.harness.cli.arguments import HOME, Home, Json, Name
from razorbench.harness.cli.terminal import MARKS, Failed, command, err, out, say


def task(
    action: tyro.conf.Positional[Literal["new", "check"]],
    name: Name,
    *,
    folder: Path = Path("."),
    episodes: int = 256,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Write a new task in a package of its own, or prove one: chance, oracle, determinism, crash.

    Args:
        action: new writes a package; check proves a registered task.
        name: Id of the task, such as word-sums-v1.
        folder: Where `new` puts the package.
        episodes: Episodes that `check` plays at once; a slow simulator wants few.
    """
    if action == "new":
        from razorbench.harness.cli import scaffold
        from razorbench.harness.core.registry import versioned

        files = [str(path) for path in scaffold.new_task(name, folder)]
        if versioned(name) != name:
            err.print(f"A task's id has a version, so this one is {versioned(name)}.", highlight=False)
        say({"files": files}, json, "\n".join(["Written:", *files, "Install it, then prove it:"]))
        if not json:
            command(f"pip install -e {Path(files[0]).parent}")
            command(f"razorbench task check {versioned(name)}")
        return
    from razorbench.harness.cli.check.verdicts import check

    checks = check(name, episodes=episodes)
    told(checks, json)
    if failed := sum(finding.ok is False for finding in checks):
        raise Failed(f"{name} fails {failed} of {len(checks)} checks")


def track(
    action: tyro.conf.Positional[Literal["new", "check", "add"]],
    name: Name,
    *,
    folder: Path = Path("."),
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Write a new track's file, say what one lacks before anything heavy is loaded, or put one into a home.

    Args:
        action: new writes a file that works as written; check looks for what it names; add makes it known in the home.
        name: Id of the new track, such as my-track-v1; else its file, which ends in .toml.
        folder: Where `new` puts the file.
    """
    from razorbench.harness.tracks.catalogue import add_track, find_track

    if action == "new":
        from razorbench.harness.cli import scaffold

        file = scaffold.new_track(name, folder)
        say({"file": str(file)}, json, f"Written: {file}\nChange it, then see what it lacks:")
        if not json:
            command(f"razorbench track check {file}")
        return
    if action == "add":
        added = find_track(name, home)
        add_track(added, home)
        row = {"track": added.id, "hash": added.digest}
        say(row, json, f"{home} knows {added.id}, of hash {added.digest}. Adapt and score on it:")
        if not json:
            command(f"razorbench sweep {added.id} --methods sft,dr-grpo --grid lr=1e-4,3e-4 --seeds 0", home)
        return
    from razorbench.harness.cli.check import tracks

    findings = tracks.check(name, home)
    told(findings, json)
    if failed := sum(finding.ok is False for finding in findings):
        raise Failed(f"{name} lacks {failed} of {len(findings)} things")
    if not json:
        command(f"razorbench track add {name}", home)


def told(findings: Sequence[Any], json: bool) -> None:
    """What was looked at, a line each: its mark, its name and what was found."""
    if json:
        print(jsonlib.dumps([asdict(finding) for finding in findings], indent=1))
        return
    for finding in findings:
        out.print(MARKS[finding.ok], end=" ")
        out.print(f"{finding.name}: {finding.detail}", highlight=False, soft_wrap=True)
