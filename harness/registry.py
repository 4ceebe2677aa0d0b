"""Find tasks and agents by their versioned ids, and import a module only when it is asked for.

Three ways in: our own ids stand in the tables below; another package names its class under the entry-point group
`razorbench.tasks` (or `razorbench.agents`); a script puts `@register("task", "my-task-v1")` over its class.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from harness.types import Refused

T = TypeVar("T")

OURS: dict[str, dict[str, str]] = {
    "task": {
        "parity-mnist-v1": "tasks.parity_mnist:ParityMNIST",
        "fashion-mnist-v1": "tasks.parity_mnist:FashionMNIST",
        "parity-fashion-pretraining-v1": "tasks.parity_mnist:Pretraining",
        "parity-fashion-pretraining-anew-v1": "tasks.parity_mnist:PretrainingAnew",
        "mini-math-v1": "tasks.mini.arithmetic:MiniMath",
        "mini-science-v1": "tasks.mini.science:MiniScience",
        "mini-tools-v1": "tasks.mini.tools:MiniTools",
        "mini-sorting-v1": "tasks.mini.sorting:Sorting",
        "mini-recall-v1": "tasks.mini.recall:Recall",
        "mini-logic-v1": "tasks.mini.logic:Logic",
        "mini-counting-v1": "tasks.mini.counting:Counting",
        "mini-editing-v1": "tasks.mini.editing:Editing",
        "mini-form-v1": "tasks.mini.form:Form",
        "mini-program-v1": "tasks.mini.program:Program",
        "mini-facts-v1": "tasks.mini.facts:Facts",
        "mini-pretraining-v1": "tasks.mini.pretraining:Pretraining",
        "fetch-reach-v1": "tasks.fetch:Reach",
        "fetch-push-v1": "tasks.fetch:Push",
        "fetch-lift-v1": "tasks.fetch:Lift",
        "fetch-place-v1": "tasks.fetch:Place",
        "fetch-air-v1": "tasks.fetch:Air",
        "fetch-reach-last-v1": "tasks.fetch:ReachLast",
        "fetch-push-last-v1": "tasks.fetch:PushLast",
        "fetch-lift-last-v1": "tasks.fetch:LiftLast",
        "fetch-place-last-v1": "tasks.fetch:PlaceLast",
        "fetch-air-last-v1": "tasks.fetch:AirLast",
        "fetch-pretraining-v1": "tasks.fetch:Pretraining",
    },
    "agent": {
        "mlp-785-v1": "agents.mlp:Mlp",
        "mini-lm-v1": "agents.mini_lm:mini_lm",
        "mini-robot-v1": "agents.bins:mini_robot",
    },
}
"""Our own ids: kind → id → "module:attribute". What changes a score changes the id's version; old ids stay."""

REGISTERED: dict[str, dict[str, Any]] = {"task": {}, "agent": {}}
"""What `@register` has put in, by kind and id."""

ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-v[1-9][0-9]*")


def register(kind: str, id: str) -> Callable[[T], T]:
    """Decorator: make a class known under `id`, for scripts and notebooks. Refuses an id that is taken."""
    check_id(kind, id)
    if id in ids(kind):
        raise Refused(f"{kind} id {id!r} is taken; what differs needs another name or a higher version")

    def put(made: T) -> T:
        REGISTERED[kind][id] = made
        return made

    return put


def check_id(kind: str, id: str) -> None:
    """Refuse an id that is not lower-case words with a version at the end."""
    if not ID.fullmatch(id):
        raise Refused(f"{kind} id {id!r} should be lower-case words and a version, such as 'word-sums-v1'")


@cache
def installed(kind: str) -> dict[str, list[EntryPoint]]:
    """Entry points of other packages, by id; the group is `razorbench.tasks` or `razorbench.agents`."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"razorbench.{kind}s"):
        if ID.fullmatch(point.name):  # what has no version cannot be asked for
            found.setdefault(point.name, []).append(point)
    return found


def load(kind: str, id: str) -> Any:
    """The class of another package. Refused when two packages claim the id, or when its module cannot be imported."""
    points = installed(kind)[id]
    if len({point.value for point in points}) > 1:
        packages = " and ".join(sorted(point.dist.name if point.dist else point.value for point in points))
        raise Refused(f"{packages} both bring a {kind} {id!r}; uninstall one of them")
    try:
        return points[0].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise Refused(f"{kind} {id!r} cannot be loaded from {points[0].value} ({why}); mend its package") from error


def ids(kind: str) -> list[str]:
    """All ids of a kind, sorted."""
    return sorted({*OURS[kind], *REGISTERED[kind], *installed(kind)})


def find(kind: str, id: str) -> Any:
    """The class (or factory) behind an id. Refuses an unknown id and names the nearest ones."""
    if id in OURS[kind]:  # ours come first: an installed package cannot take one of our ids over
        module, _, attribute = OURS[kind][id].partition(":")
        return getattr(import_module(module), attribute)
    if id in REGISTERED[kind]:
        return REGISTERED[kind][id]
    if id in installed(kind):
        return load(kind, id)
    raise Refused(unknown(kind, id, ids(kind)))


def make(kind: str, id: str, *args: Any, **kwargs: Any) -> Any:
    """A new task or agent; arguments go to its class."""
    return find(kind, id)(*args, **kwargs)


def unknown(kind: str, id: str, known: list[str]) -> str:
    """The sentence for an id that nobody knows: near misses first, else where to look."""
    stem = re.sub(r"-v\d+$", "", id)
    near = [other for other in known if re.sub(r"-v\d+$", "", other) == stem] or get_close_matches(id, known, n=3)
    listed = kind not in ("setting", "base")
    where = f"`razorbench {kind}s` lists what there is" if listed else f"choose from {', '.join(known)}"
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else where
    return f"unknown {kind} {id!r}; {hint}"
