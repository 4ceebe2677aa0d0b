"""How the settings of a run differ from its track's: who competes with whom, and the commands that make a run again."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import unknown
from razorbench.harness.learn.settings import Settings, variant
from razorbench.harness.tracks.catalogue import known_track
from razorbench.harness.tracks.spec import Track


def competitor(track: str, method: str, settings: Mapping[str, object], home: Path | None = None) -> str:
    """What competes on a track, over all learning rates: the method, and what changes its objective there."""
    here = known_track(track, home)
    return variant(method, settings, here and here.settings)


def changed(track: str, settings: Mapping[str, object], home: Path | None = None) -> dict[str, object]:
    """The settings of a run that are not its track's."""
    here = known_track(track, home)
    usual = vars(here.settings) if here else {}
    told = {name: value for name, value in settings.items() if not name.endswith("_sha256")}  # no setting
    return {name: value for name, value in told.items() if name not in usual or usual[name] != value}


def differs(track: str, settings: Mapping[str, object], home: Path | None = None) -> str:
    """The same in words: `lr 0.001, batch 8`."""
    return ", ".join(f"{name} {value}" for name, value in changed(track, settings, home).items())


def again(
    track: str, method: str, settings: Mapping[str, object], run: Mapping[str, object], home: Path | None = None
) -> list[str]:
    """The commands that make a run again, of which `run` tells the id, the seed and, if it was brought, `submitted`."""
    if run["submitted"]:
        return [shlex.join(["razorbench", "verify", str(run["submitted"])])]
    seed = ["--seed", str(run["seed"] or 0), "--out", f"again-{run['id']}"]
    told = changed(track, settings, home).items()
    flags = [part for name, value in told for part in (f"--{name.replace('_', '-')}", str(value))]
    return [
        shlex.join(["razorbench", "adapt", track, "--method", method, *seed, *flags]),
        shlex.join(["razorbench", "score", f"again-{run['id']}", "--track", track]),
    ]


def settings_for(track: Track, **changes: object) -> Settings:
    """The track's settings with some changed. Refuses a field that does not exist."""
    for name in changes:
        if name not in Settings.__dataclass_fields__:
            raise Refused(unknown("setting", name, sorted(Settings.__dataclass_fields__)))
    return replace(track.settings, **changes)  # type: ignore[arg-type]
