"""What several commands are given: the home, the store, a name, settings, how a model is computed."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

import tyro

from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.settings import Settings, explained

HOME = Path(os.environ.get("RAZORBENCH_HOME", ".razorbench"))
"""The folder that everything lives in, unless --home names another."""

Home = Annotated[Path, tyro.conf.arg(help="Folder that everything lives in (RAZORBENCH_HOME).")]
Json = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="Print JSON for scripts.")]
Server = Annotated[
    str | None, tyro.conf.arg(name="store", help="Address quack:HOST:PORT of who writes the store (razorbench serve).")
]
Name = tyro.conf.Positional[str]


def flags() -> Any:
    """What a command line says of settings: those that are named there, and no other, whatever their values are."""
    told, usual = explained(), "(default: the track's)"
    named = {
        field.name: Annotated[field.type, tyro.conf.arg(help=told[field.name], help_behavior_hint=usual)]
        for field in fields(Settings)
    }
    return TypedDict("Named", named, total=False)  # type: ignore


Changes = Annotated[Settings | Mapping[str, Any], tyro.conf.arg(constructor=flags()), tyro.conf.OmitArgPrefixes]
"""Settings: all of them, or some by name, and then the others are the track's."""
Computed = Annotated[Runtime, tyro.conf.OmitArgPrefixes]
"""How models are computed."""
UNCHANGED: dict[str, Any] = {}
"""Settings as the track has them."""
