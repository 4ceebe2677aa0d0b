"""Any two models compared, on a track that is made for it: its id is a hash of what it holds, and nobody writes it.

The one is a folder, a repository of the hub, or an endpoint; the other, too, or a LoRA of it as peft saves one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Missing, Refused
from razorbench.harness.core.protocols import Benchmark, Task
from razorbench.harness.core.registry import make
from razorbench.harness.learn.checkpoint import ADAPTER_CONFIG, ADAPTERS, INDEX, Checkpoint, Manifest, files
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.saved import MERGE, other_weights, read_description
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.comparison import Compared, of_record
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.comparing import ITEMS
from razorbench.harness.runs.run import keep, lookup
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.bases import begun, policy_digest
from razorbench.harness.tracks.named import LANGUAGE, brought_base
from razorbench.harness.tracks.origins import ON_HUB, Served, obtained, origin_key
from razorbench.harness.tracks.spec import Base, Conditions, Track
from razorbench.harness.tracks.suites import SUITES

USUAL = "paper"
"""The suite of priors that is asked where none are named."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Files of which one is in a folder that has a tokenizer."""


@dataclass(frozen=True)
class Brought:
    """A model that somebody names: a folder, a repository on the hub at a commit, or an endpoint."""

    name: str
    """As it was given."""
    base: Base
    """Its files as a base of tracks."""
    home: Path

    @cached_property
    def folder(self) -> Path:
        """Where its files are; fetched into the home if they are not here. Refuses what is not to be had."""
        assert self.base.origin is not None
        assert not isinstance(self.base.origin, Served)
        return obtained(self.base.origin, self.base.fetched(self.home))

    @property
    def served(self) -> bool:
        """Whether it answers behind a server, and no file of it is here."""
        return isinstance(self.base.origin, Served)

    @property
    def called(self) -> str:
        """What a row of it is called: the last part of its name."""
        if isinstance(self.base.origin, Served):
            return (self.base.origin.model or self.base.origin.url).rpartition("/")[2]
        match = ON_HUB.fullmatch(self.name)
        return (match[1] if match else str(Path(self.name).resolve())).rpartition("/")[2]

    @property
    def adapters(self) -> bool:
        """Whether it is a LoRA."""
        return not self.served and (self.folder / ADAPTER_CONFIG).exists()

    @property
    def words(self) -> bool:
        """Whether it has a tokenizer."""
        return self.served or any((self.folder / name).exists() for name in TOKENIZERS)


def brought(name: str, home: Path) -> Brought:
    """The model that somebody names. Refuses what is no folder, no repository of the hub at a commit, no endpoint."""
    base = brought_base(name)
    if base is None:
        raise Refused(
            f"{name} is no folder here; name a folder, a model on the hub as OWNER/NAME@COMMIT, or one behind a server "
            "as http://HOST/v1#MODEL, of a robot as ws://HOST#LAYOUT"
        )
    return Brought(name, base, home)


def compare_models(
    base: str,
    adapted: str,
    *,
    new: str = "",
    priors: Sequence[str] = (),
    items: int = ITEMS,
    limit: int = 0,
    home: Path,
    runtime: Runtime = AUTO,
    tell: Callable[[str], Any] = lambda what: None,
) -> Compared:
    """What became of a model: gain on the new task, retention of priors, drift, flips; kept as a record in the home.

    `priors` are ids of tasks or names of suites; none: those of `paper`. What of a suite cannot be asked here is left
    out and named. Of each task `items` are asked (0: all), and a reply has at most `limit` tokens (0: as many as the
    agent allows). `tell` hears what is done next. Killed, it goes on with what the base has answered; what was compared
    before is looked up.

    Refuses what cannot be compared, in a sentence with its cure.
    """
    if items < 0 or items == 1:
        raise Refused(f"items {items} cannot be; give at least 2, or 0 for all")
    first = brought(base, home)
    if first.adapters:
        raise Refused(f"{base} is a LoRA; name the model that it was trained on first, and the LoRA second")
    if not first.words:
        raise Refused(
            f"{base} has no tokenizer; save it there: AutoTokenizer.from_pretrained(…).save_pretrained({base!r})"
        )
    second = brought(adapted, home)
    tasks, notes = asked(new, priors, tell)
    track = ad_hoc(first, new, [id for id in tasks if id != new], items, Conditions(limit=limit))
    tell(f"reading {base}")
    bench = Bench(track, home, runtime, tasks)
    tell(f"reading {adapted}")
    trained_on = other_base(first, second) if second.adapters else ""
    policy = loaded(second, first, bench, runtime)
    checkpoint, told = policy_digest(policy), {"content": origin_key(second.base.origin)}  # type: ignore[arg-type]
    manifest = Manifest(track.id, "brought", settings=told, provenance={"from": adapted})
    store = Store(home)
    store.reconcile()
    record = None if first.served or second.served else lookup(bench, checkpoint, manifest, home)
    if record is None:
        for id in bench.tasks:
            tell(f"{base} answers {id}")
            bench.base_answers(id)
        record = keep(
            bench,
            policy,
            checkpoint,
            manifest,
            [],
            [],
            home,
            second.called,
            tell=lambda what: tell("drift" if what == "drift" else f"{adapted} answers {what}"),
        )
    store.add(record)
    notes += remarks(first, second, bench, policy, checkpoint, trained_on)
    return of_record(home, record, base, adapted, notes)


def asked(
    new: str, priors: Sequence[str], tell: Callable[[str], Any] = lambda what: None
) -> tuple[dict[str, Task | Benchmark], list[str]]:
    """The new task and the priors, ready by their ids, and which of a suite are left out. `tell` hears which is read.

    Refuses an unknown one, one that is named and not at hand, and where nothing is left of a suite.
    """
    made: dict[str, Task | Benchmark] = {}
    notes, lacking = [], {}
    if new:
        tell(f"reading {new}")
        made[new] = make("task", new)
    for name in priors or (USUAL,):
        for id in SUITES.get(name, (name,)):
            if id in made:
                continue
            tell(f"reading {id}")
            try:
                made[id] = make("task", id)
            except Refused as error:
                if name not in SUITES or not (isinstance(error, Missing) or id.startswith("lm-eval/")):
                    raise
                lacking[id] = str(error)
    if len(made) == bool(new):
        why = next(iter(lacking.values()), "only the new task is named")
        raise Refused(
            f"no prior can be asked here ({why}); name others with --priors, `razorbench tasks` lists what there is"
        )
    notes += [f"{id} is left out: {why}." for id, why in lacking.items()]
    return made, notes


def ad_hoc(base: Brought, new: str, priors: Sequence[str], items: int, conditions: Conditions) -> Track:
    """A track that nobody has written: its id is a hash of what it holds."""
    track = Track(
        "",
        f"What became of {base.called}",
        "What did a model gain, and what did it forget?",
        base.base,
        new,
        {"priors": tuple(priors)},
        Settings(),
        conditions,
        items=items,
        drift_items=items,
        checkpoints=0,
    )
    return replace(track, id=f"compare-{track.digest}-v1")


def loaded(second: Brought, first: Brought, bench: Bench, runtime: Runtime) -> Policy:
    """The adapted policy. Config and tokenizer are its own, or those of its base where it has none.

    Refuses what cannot be read, by its name.
    """
    if second.served:
        return begun(second.base, bench.home, bench.track.conditions.options)
    weights = Checkpoint(second.folder, None).weights
    if second.adapters and weights.name != ADAPTERS:
        raise Refused(f"{second.name} holds {ADAPTER_CONFIG} and no {ADAPTERS}; save it with save_pretrained of peft")
    if not weights.exists():
        raise Refused(
            f"{second.name} holds no weights as safetensors ({weights.name}, or its parts with their index); save them "
            "there with save_pretrained of transformers"
        )
    own = (second.folder / "config.json").exists() and not second.adapters
    try:
        if weights.name == INDEX:
            files(weights)  # what lies elsewhere is no part of the folder, and transformers would read it
        policy: Policy = make(
            "agent",
            LANGUAGE,
            folder=(second if own else first).folder,
            words=(second if second.words else first).folder,
            runtime=runtime,
            **bench.track.conditions.options,
        )
        if not own:
            policy.load(weights)
    except Refused as error:
        raise Refused(f"{second.name}: {error}") from None
    return policy


def remarks(
    first: Brought, second: Brought, bench: Bench, policy: Policy, checkpoint: str, trained_on: str
) -> list[str]:
    """What a reader of the numbers should know of the two, in sentences; `trained_on` is the base that a LoRA names,
    where nobody knows whether it is the first.
    """
    notes = []
    notes += [
        f"{each.name} is known by address and name alone: which weights answer there, nobody here can tell."
        for each in (first, second)
        if each.served
    ]
    if why := bench.no_drift(policy):
        notes.append(f"No drift: {why}.")
    elif checkpoint == bench.base_id:
        notes.append(f"{first.name} and {second.name} hold the same weights.")
    if not second.words and not second.adapters:
        notes.append(f"{second.name} has no tokenizer, so that of {first.name} is used.")
    if trained_on:
        notes.append(
            f"{second.name} says that it was trained on {trained_on}; if {first.name} has other weights, its numbers "
            "say nothing."
        )
    return notes


def other_base(base: Brought, lora: Brought) -> str:
    """The base that a LoRA names, where it is not known to be this one; empty where it is, or none is named.

    Refused where it is a folder here that has other weights.
    """
    named = read_description(lora.folder / ADAPTER_CONFIG).base
    if not named:
        return ""
    weights = Checkpoint(base.folder, None).weights
    if other := other_weights(named, weights):
        raise Refused(
            f"{lora.name} was trained on {named}, whose weights are not those of {base.name} ({other}): compare it "
            f"with that one, or bring it merged, {MERGE}"
        )
    same = named.rstrip("/").rpartition("/")[2] == base.called
    return "" if same or other == "" else named
