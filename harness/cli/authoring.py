"""The command of those who write tasks: task new, task check."""

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Literal

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

        files = [str(path) for path in scaffold.new(name, folder)]
        if scaffold.versioned(name) != name:
            err.print(f"A task's id has a version, so this one is {scaffold.versioned(name)}.", highlight=False)
        say({"files": files}, json, "\n".join(["Written:", *files, "Install it, then prove it:"]))
        if not json:
            command(f"pip install -e {Path(files[0]).parent}")
            command(f"razorbench task check {scaffold.versioned(name)}")
        return
    from razorbench.harness.cli.check.verdicts import check

    checks = check(name, episodes=episodes)
    failed = sum(found.ok is False for found in checks)
    if json:
        print(jsonlib.dumps([asdict(found) for found in checks], indent=1))
    else:
        for found in checks:
            out.print(MARKS[found.ok], end=" ")
            out.print(f"{found.name}: {found.detail}", highlight=False)
    if failed:
        raise Failed(f"{name} fails {failed} of {len(checks)} checks")
