"""A track is a file, and so is a base: TOML, read strictly, so that a slip of the pen is told and not guessed at."""

import fnmatch
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.lanes import Lanes
from razorbench.harness.core.registry import check_id
from razorbench.harness.learn.settings import Settings, lasting
from razorbench.harness.tracks.origins import ORIGINS, Folder, Hub, Served, Wheel
from razorbench.harness.tracks.spec import Base, Conditions, Track, unusual
from razorbench.harness.tracks.suites import suite

T = TypeVar("T")


def read_track(path: Path, find_base: Callable[[str], Base]) -> Track:
    """The track that a file holds; a base that it names by its id is looked up with `find_base`.

    Refuses what is no TOML, lacks a field, has one that there is not or one of another type; the message names the
    file and the field.
    """
    table = loaded(path)
    base = table.get("base")
    if isinstance(base, str):
        table["base"] = find_base(base)
    elif isinstance(base, dict):
        table["base"] = made_base(base, f"{path}, [base]", path.parent)
    elif base is not None:
        raise Refused(f"{path}: base should be the id of a base, or a table [base], not {base!r}")
    for name, kind in (("settings", Settings), ("conditions", Conditions)):
        table[name] = filled(kind, table.get(name, {}), f"{path}, [{name}]")
    table["priors"] = {name: tasks(said, f"{path}, [priors] {name}") for name, said in listed(table, "priors", path)}
    table["demo"] = {
        method: numbers(rates, f"{path}, [demo] {method}") for method, rates in listed(table, "demo", path)
    }
    table["presets"] = presets(table, path)
    table["workers"] = {
        pattern: filled(Lanes, said, f"{path}, [workers] {pattern}") for pattern, said in listed(table, "workers", path)
    }
    track = filled(Track, table, str(path))
    check_name("track", track.id, str(path))
    if not track.prior_tasks:
        raise Refused(f"{path} names no prior task, so nothing could be forgotten; name some under [priors]")
    if track.new in track.prior_tasks or len(set(track.prior_tasks)) < len(track.prior_tasks):
        raise Refused(f"{path} names a task twice; the new task and all priors should be different tasks")
    for pattern in track.workers:
        if not fnmatch.filter(track.tasks, pattern):
            raise Refused(f"{path}, [workers]: {pattern!r} is no task of the track; they are {', '.join(track.tasks)}")
    return track


def read_base(path: Path) -> Base:
    """The base that a file holds. Refuses what cannot be one; the message names the file and the field."""
    return made_base(loaded(path), str(path), path.parent)


def toml(track: Track) -> str:
    """A track as a file that reads back as the same track. What is at its default is left out."""
    base = track.base
    head = unusual(track, leave=("base", "priors", "settings", "conditions", "workers", "demo", "presets"))
    recipe = {"task": base.task, "seed": base.seed, "threads": base.threads} if base.task else {}
    tables = {
        "base": {"id": base.id, "agent": base.agent} | ({"sha256": base.sha256} if base.sha256 else {}),
        "base.origin": vars(base.origin) if base.origin else {},
        "base.options": base.options,
        "base.recipe": recipe,
        "base.recipe.settings": lasting(vars(base.settings)) if base.task else {},
        "priors": track.priors,
        "settings": unusual(track.settings),
        "conditions": unusual(track.conditions),
        **{f"workers.{json.dumps(pattern)}": vars(lanes) for pattern, lanes in track.workers.items()},
        "demo": track.demo,
        **{f"presets.{json.dumps(name)}": grids for name, grids in track.presets.items()},
    }
    parts = [toml_lines(head), *(f"\n[{name}]\n{toml_lines(table)}" for name, table in tables.items() if table)]
    return "".join(parts)


def toml_lines(table: Mapping[str, Any]) -> str:
    """The lines of a table, `name = value` each. JSON's texts, numbers and lists are TOML's, too."""
    return "".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in table.items())


def made_base(table: Mapping[str, Any], where: str, near: Path = Path()) -> Base:
    """A base from its table: its origin, its options and its recipe stand in tables of their own.

    An origin that is a folder counts from `near`, where the file lies.
    """
    recipe, origin = table.get("recipe", {}), table.get("origin")
    if not isinstance(recipe, dict):
        raise Refused(f"{where}: recipe should be a table [recipe], not {recipe!r}")
    clash = set(recipe) - {"task", "settings", "seed", "threads"}
    if clash:
        raise Refused(f"{where}, [recipe]: {unexpected(min(clash), ('task', 'settings', 'seed', 'threads'))}")
    if recipe and "task" not in recipe:
        raise Refused(f"{where}, [recipe] does not say task")
    whole = {name: value for name, value in table.items() if name not in ("recipe", "origin")} | recipe
    whole["settings"] = filled(Settings, recipe.get("settings", {}), f"{where}, [recipe] settings")
    if origin is not None:
        whole["origin"] = made_origin(origin, f"{where}, [origin]", near)
    base = filled(Base, whole, where)
    check_name("base", base.id, where)
    return base


def made_origin(table: Any, where: str, near: Path) -> Folder | Hub | Wheel | Served:
    """An origin from its table, whose fields tell the kind."""
    kinds = [name for name in ORIGINS if isinstance(table, dict) and name in table]
    if len(kinds) != 1:
        raise Refused(f"{where} should be a table that says one of {', '.join(ORIGINS)}, not {table!r}")
    origin = filled(ORIGINS[kinds[0]], table, where)
    if isinstance(origin, Folder):
        return replace(origin, folder=str((near / Path(origin.folder).expanduser()).resolve()))
    return origin


def check_name(kind: str, id: str, where: str) -> None:
    """Refuse an id that is none, with the place where it stands."""
    try:
        check_id(kind, id)
    except Refused as error:
        raise Refused(f"{where}: {error}") from None


def loaded(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Refuses what cannot be read, in a sentence."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is no TOML: {error}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path} is no text in UTF-8; save it as such") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}); give the path of a track's .toml file") from None


def filled(kind: type[T], table: Any, where: str) -> T:
    """A record with the values of a table. Refuses a field that there is not, one of another type, one that lacks."""
    if not isinstance(table, Mapping):
        raise Refused(f"{where} should be a table, not {table!r}")
    known, hints = {each.name: each for each in fields(kind)}, get_type_hints(kind)  # type: ignore[arg-type]
    for name, value in table.items():
        if name not in known:
            raise Refused(f"{where}: {unexpected(name, known)}")
        if not fits(value, hints[name]):
            raise Refused(f"{where}: {name} is {value!r}, which should be {CALLED.get(hints[name], 'of another type')}")
    lacking = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in table]
    if lacking:
        raise Refused(f"{where} does not say {', '.join(lacking)}")
    try:
        return kind(**table)
    except Refused as error:
        raise Refused(f"{where}: {error}") from None


CALLED = {float: "a number", int: "a whole number", str: "a text"}
"""What the types of fields are called."""


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type: a whole number is a number, and a truth value is neither."""
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if isinstance(kind, UnionType):
        return any(fits(value, each) for each in get_args(kind))
    plain = kind if isinstance(kind, type) else get_origin(kind)
    return isinstance(value, plain) if isinstance(plain, type) else isinstance(value, str)  # a Literal of strings


def unexpected(name: str, known: Any) -> str:
    """The sentence for a field that there is not."""
    near = get_close_matches(name, list(known), n=1)
    return f"there is no {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}")


def listed(table: Mapping[str, Any], name: str, path: Path) -> Any:
    """The entries of a table in the file; none where it is not there."""
    inner = table.get(name, {})
    if not isinstance(inner, dict):
        raise Refused(f"{path}: {name} should be a table [{name}], not {inner!r}")
    return inner.items()


def tasks(value: Any, where: str) -> tuple[str, ...]:
    """A list of task ids, or those of the suite that is named."""
    if isinstance(value, str):
        try:
            return suite(value)
        except Refused as error:
            raise Refused(f"{where} should be a list of task ids, or the name of a suite: {error}") from None
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise Refused(f"{where} should be a list of task ids, not {value!r}")
    return tuple(value)


def presets(table: Mapping[str, Any], path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """The grids of sweeps that a file names."""
    grids = dict(listed(table, "presets", path))
    return {
        name: {method: axes(said, f"{path}, [presets.{name}] {method}") for method, said in listed(grids, name, path)}
        for name in grids
    }


def axes(value: Any, where: str) -> tuple[str, ...]:
    """A list of the axes of a grid."""
    if not isinstance(value, list) or not all(isinstance(each, str) and "=" in each for each in value):
        raise Refused(f'{where} should be a list of axes such as "lr=1e-5,1e-4", not {value!r}')
    return tuple(value)


def numbers(value: Any, where: str) -> tuple[float, ...]:
    """A list of numbers."""
    if not isinstance(value, list) or not value or not all(fits(each, float) for each in value):
        raise Refused(f"{where} should be a list of learning rates, not {value!r}")
    return tuple(map(float, value))
