"""Find tasks, agents, tracks, bases, methods, measures and executors by id, and import a module when it is asked for.

Three ways in: our own ids stand in tables; another package names what it brings under the entry-point group
`razorbench.tasks` (`.agents`, `.tracks`, `.bases`, `.methods`, `.measures`, `.executors`); a script puts
`@register("task", "my-task-v1")` over its class, or calls `register("method", "mine")(METHOD)`.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.extras import needed

T = TypeVar("T")

OURS: dict[str, dict[str, str]] = {
    "task": {
        "parity-mnist-v1": "razorbench.tasks.parity_mnist:ParityMNIST",
        "fashion-mnist-v1": "razorbench.tasks.parity_mnist:FashionMNIST",
        "parity-fashion-pretraining-v1": "razorbench.tasks.parity_mnist:Pretraining",
        "parity-fashion-pretraining-anew-v1": "razorbench.tasks.parity_mnist:PretrainingAnew",
        "math-v1": "razorbench.tasks.boxed:OrzMath",
        "gsm8k-v1": "razorbench.tasks.boxed:GSM8K",
        "sciknoweval-chemistry-v1": "razorbench.tasks.sciknoweval:Chemistry",
        "sciknoweval-chemistry-direct-v1": "razorbench.tasks.sciknoweval:ChemistryDirect",
        "toolalpaca-strict-v1": "razorbench.tasks.toolalpaca:Strict",
        "toolalpaca-published-v1": "razorbench.tasks.toolalpaca:AsPublished",
        "ifeval-v1": "razorbench.tasks.ifeval:IFEval",
        "mmlu-v1": "razorbench.tasks.mmlu:MMLU",
        "toolalpaca-dialogue-v1": "razorbench.tasks.toolalpaca_dialogue:Dialogue",
        "countdown-3-v1": "razorbench.tasks.countdown:Countdown3",
        "countdown-4-v1": "razorbench.tasks.countdown:Countdown4",
        "labels-agnews-v1": "razorbench.tasks.labels:AGNews",
        "labels-sst2-v1": "razorbench.tasks.labels:SST2",
        "sst2-sentiment-v1": "razorbench.tasks.sentiment:Sentiment",
        "sst2-form-v1": "razorbench.tasks.sentiment:SentimentForm",
        "arithmetic-line-v1": "razorbench.tasks.arithmetic:Arithmetic",
        "arithmetic-form-v1": "razorbench.tasks.arithmetic:ArithmeticForm",
        "labels-amazon-v1": "razorbench.tasks.labels:Amazon",
        "labels-rte-v1": "razorbench.tasks.labels:RTE",
        "labels-wic-v1": "razorbench.tasks.labels:WiC",
        "news-text-v1": "razorbench.tasks.texts:News",
        "mini-math-v1": "razorbench.tasks.mini.arithmetic:MiniMath",
        "mini-science-v1": "razorbench.tasks.mini.science:MiniScience",
        "mini-tools-v1": "razorbench.tasks.mini.tools:MiniTools",
        "mini-sorting-v1": "razorbench.tasks.mini.sorting:Sorting",
        "mini-recall-v1": "razorbench.tasks.mini.recall:Recall",
        "mini-logic-v1": "razorbench.tasks.mini.logic:Logic",
        "mini-counting-v1": "razorbench.tasks.mini.counting:Counting",
        "mini-editing-v1": "razorbench.tasks.mini.editing:Editing",
        "mini-form-v1": "razorbench.tasks.mini.form:Form",
        "mini-program-v1": "razorbench.tasks.mini.program:Program",
        "mini-facts-v1": "razorbench.tasks.mini.facts:Facts",
        "mini-pretraining-v1": "razorbench.tasks.mini.pretraining:Pretraining",
        "fetch-reach-v1": "razorbench.tasks.fetch.tasks:Reach",
        "fetch-push-v1": "razorbench.tasks.fetch.tasks:Push",
        "fetch-lift-v1": "razorbench.tasks.fetch.tasks:Lift",
        "fetch-place-v1": "razorbench.tasks.fetch.tasks:Place",
        "fetch-air-v1": "razorbench.tasks.fetch.tasks:Air",
        "fetch-reach-last-v1": "razorbench.tasks.fetch.tasks:ReachLast",
        "fetch-push-last-v1": "razorbench.tasks.fetch.tasks:PushLast",
        "fetch-lift-last-v1": "razorbench.tasks.fetch.tasks:LiftLast",
        "fetch-place-last-v1": "razorbench.tasks.fetch.tasks:PlaceLast",
        "fetch-air-last-v1": "razorbench.tasks.fetch.tasks:AirLast",
        "fetch-pretraining-v1": "razorbench.tasks.fetch.tasks:Pretraining",
        "tabletop-red-v1": "razorbench.tasks.tabletop:Red",
        "tabletop-blue-v1": "razorbench.tasks.tabletop:Blue",
        "tabletop-green-v1": "razorbench.tasks.tabletop:Green",
        "tabletop-pretraining-v1": "razorbench.tasks.tabletop:Pretraining",
        "google-coke-can-upright-sapien3-v1": "razorbench.tasks.google.tasks:Upright",
        "google-coke-can-lengthwise-sapien3-v1": "razorbench.tasks.google.tasks:Lengthwise",
        "google-coke-can-crosswise-sapien3-v1": "razorbench.tasks.google.tasks:Crosswise",
        "google-open-top-drawer-sapien3-v1": "razorbench.tasks.google.tasks:OpenTop",
        "google-open-middle-drawer-sapien3-v1": "razorbench.tasks.google.tasks:OpenMiddle",
        "google-open-bottom-drawer-sapien3-v1": "razorbench.tasks.google.tasks:OpenBottom",
        "google-close-top-drawer-sapien3-v1": "razorbench.tasks.google.tasks:CloseTop",
        "google-close-middle-drawer-sapien3-v1": "razorbench.tasks.google.tasks:CloseMiddle",
        "google-close-bottom-drawer-sapien3-v1": "razorbench.tasks.google.tasks:CloseBottom",
        "google-pretraining-sapien3-v1": "razorbench.tasks.google.pretraining:Pretraining",
        "google-coke-can-upright-camera-sapien3-v1": "razorbench.tasks.google.pictures:Upright",
        "google-coke-can-lengthwise-camera-sapien3-v1": "razorbench.tasks.google.pictures:Lengthwise",
        "google-coke-can-crosswise-camera-sapien3-v1": "razorbench.tasks.google.pictures:Crosswise",
        "google-open-top-drawer-camera-sapien3-v1": "razorbench.tasks.google.pictures:OpenTop",
        "google-open-middle-drawer-camera-sapien3-v1": "razorbench.tasks.google.pictures:OpenMiddle",
        "google-open-bottom-drawer-camera-sapien3-v1": "razorbench.tasks.google.pictures:OpenBottom",
        "google-close-top-drawer-camera-sapien3-v1": "razorbench.tasks.google.pictures:CloseTop",
        "google-close-middle-drawer-camera-sapien3-v1": "razorbench.tasks.google.pictures:CloseMiddle",
        "google-close-bottom-drawer-camera-sapien3-v1": "razorbench.tasks.google.pictures:CloseBottom",
    },
    "agent": {
        "mlp-785-v1": "razorbench.agents.mlp:Mlp",
        "mini-lm-v1": "razorbench.agents.language.mini_lm:mini_lm",
        "causal-lm-v1": "razorbench.agents.language.pretrained:pretrained",
        "openai-api-v1": "razorbench.agents.endpoint:Endpoint",
        "policy-server-v1": "razorbench.agents.policy_server:PolicyServer",
        "openvla-v1": "razorbench.agents.openvla.published:openvla",
        "tiny-openvla-v1": "razorbench.agents.openvla.tiny:tiny_openvla",
        "mini-robot-v1": "razorbench.agents.bins:MiniRobot",
        "google-robot-v1": "razorbench.agents.bins:GoogleRobot",
        "mini-panda-v1": "razorbench.agents.bins:MiniPanda",
        "mini-libero-v1": "razorbench.agents.bins:MiniLibero",
    },
}
"""Our own ids: kind → id → "module:attribute". What changes a score changes the id's version; old ids stay."""

FAMILIES: dict[str, dict[str, str]] = {
    "task": {
        "lm-eval/": "razorbench.tasks.lm_eval.benchmark:of_id",
        "libero-": "razorbench.tasks.libero.tasks:of_id",
        "maniskill-": "razorbench.tasks.maniskill.tasks:of_id",
        "simpler-": "razorbench.tasks.simpler.tasks:of_id",
    },
}
"""Ids of which there is no list, by how they begin: kind → prefix → "module:function", which gives the class or
factory for an id's rest.
"""

TABLES = {
    "track": "razorbench.harness.tracks.catalogue:TRACKS",
    "base": "razorbench.harness.tracks.catalogue:BASES",
    "method": "razorbench.harness.learn.methods:METHODS",
    "measure": "razorbench.harness.learn.observers:OBSERVERS",
    "executor": "razorbench.harness.runs.executors:EXECUTORS",
}
"""Where our own stand of the kinds that are values: kind → "module:table"."""
KINDS = (*OURS, *TABLES)

REGISTERED: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
"""What `@register` has put in, by kind and id."""

UNVERSIONED = ("method", "measure", "executor")
"""Kinds whose ids have no version: what they do stands in the code, and in a record by its name."""

FORMER = ("harness", "tasks", "agents", "submissions", "leaderboard")
"""Names under which packages of others may still look for our modules."""

WORDS = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
ID = re.compile(WORDS.pattern + r"-v[1-9][0-9]*")


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
    """Refuse an id that is not lower-case words; of kinds that have versions, with one at the end."""
    if kind in UNVERSIONED and not WORDS.fullmatch(id):
        raise Refused(f"{kind} id {id!r} should be lower-case words, such as 'my-{kind}'")
    if kind not in UNVERSIONED and not ID.fullmatch(id):
        raise Refused(f"{kind} id {id!r} should be lower-case words and a version, such as 'word-sums-v1'")


def versioned(name: str) -> str:
    """The id that a name stands for: itself, or with `-v1` where it has no version."""
    return name if re.search(r"-v\d+$", name) else f"{name}-v1"


@cache
def installed(kind: str) -> dict[str, list[EntryPoint]]:
    """Entry points of other packages, by id; the group is `razorbench.tasks`, and so on."""
    by_id: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"razorbench.{kind}s"):
        if (WORDS if kind in UNVERSIONED else ID).fullmatch(point.name):  # what has no version cannot be asked for
            by_id.setdefault(point.name, []).append(point)
    return by_id


def imported(where: str) -> Any:
    """What stands at "module:attribute", imported when it is asked for."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def own(kind: str) -> Mapping[str, Any]:
    """Our own of a kind, by id: what is found, or of tasks and agents where it stands."""
    if kind in OURS:
        return OURS[kind]
    return imported(TABLES[kind])


def load(kind: str, id: str) -> Any:
    """What another package brings. Refused when two packages claim the id, or its module cannot be imported."""
    points = installed(kind)[id]
    if len({point.value for point in points}) > 1:
        packages = " and ".join(sorted(point.dist.name if point.dist else point.value for point in points))
        raise Refused(f"{packages} both bring a {kind} {id!r}; uninstall one of them")
    try:
        return points[0].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in FORMER:
            why += "; since razorbench 0.1 its modules are imported as razorbench.harness and so on"
        raise Refused(f"{kind} {id!r} cannot be loaded from {points[0].value} ({why}); mend its package") from error


def ids(kind: str) -> list[str]:
    """All ids of a kind, sorted."""
    return sorted({*own(kind), *REGISTERED[kind], *installed(kind)})


def family(kind: str, id: str) -> str:
    """With what an id begins of which there is no list; empty where it is none of these."""
    return next((prefix for prefix in FAMILIES.get(kind, ()) if id.startswith(prefix)), "")


def known(kind: str, id: str) -> bool:
    """Whether there is something of that id, or may be; loads nothing of others."""
    return bool(family(kind, id)) or id in own(kind) or id in REGISTERED[kind] or id in installed(kind)


def find(kind: str, id: str) -> Any:
    """The class, factory or value behind an id. Refuses an unknown id and names the nearest ones.

    Missing where an extra that it needs is not installed.
    """
    ours = own(kind)
    if prefix := family(kind, id):
        with needed(f"{kind} {id!r}"):
            return imported(FAMILIES[kind][prefix])(id.removeprefix(prefix))
    if id in ours:  # ours come first: an installed package cannot take one of our ids over
        with needed(f"{kind} {id!r}"):
            return ours[id] if kind in TABLES else imported(ours[id])
    if id in REGISTERED[kind]:
        return REGISTERED[kind][id]
    if id in installed(kind):
        return load(kind, id)
    raise Refused(unknown(kind, id, ids(kind)))


def make(kind: str, id: str, *args: Any, **kwargs: Any) -> Any:
    """A new task or agent; arguments go to its class."""
    made = find(kind, id)
    with needed(f"{kind} {id!r}"):
        return made(*args, **kwargs)


def unknown(kind: str, id: str, known: list[str]) -> str:
    """The sentence for an id that nobody knows: near misses first, else where to look."""
    stem = re.sub(r"-v\d+$", "", id)
    near = [other for other in known if re.sub(r"-v\d+$", "", other) == stem] or get_close_matches(id, known, n=3)
    listed = kind not in ("setting", "base", "measure", "executor", "suite")
    where = f"`razorbench {kind}s` lists what there is" if listed else f"choose from {', '.join(known)}"
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else where
    return f"unknown {kind} {id!r}; {hint}"
