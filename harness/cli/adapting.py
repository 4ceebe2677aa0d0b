"""The commands that make an adapted checkpoint and what it begins with: pretrain, base, questions, adapt."""

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.progress import TaskID

from razorbench.harness.cli.arguments import HOME, UNCHANGED, Changes, Computed, Home, Json, Name
from razorbench.harness.cli.terminal import Bar, bar, command, err, say
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Task
from razorbench.harness.learn.runtime import AUTO
from razorbench.harness.learn.settings import Settings
from razorbench.harness.report.flags import SILENCE
from razorbench.harness.tracks.catalogue import find_base, find_track
from razorbench.harness.tracks.variants import settings_for

if TYPE_CHECKING:  # it loads torch
    from razorbench.harness.learn.checkpoint import Report


def pretrain(base: Name, *, out: Path | None = None, home: Home = HOME, json: Json = False) -> None:
    """Make a base by its recipe; stopped and started again, it goes on where it was.

    Args:
        base: Id of the base; `razorbench tracks` names them.
        out: File to write; by default where the tracks look for a base that is not shipped.
    """
    chosen = find_base(base)
    from razorbench.harness.tracks import bases
    from razorbench.harness.tracks.origins import file_sha256

    file = out or chosen.made(home)
    if file.exists():
        raise Refused(f"{file} exists; remove it, or name another file with --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    with bar("pretraining") as progress:
        line = progress.add_task(chosen.id, total=None)
        bases.pretrain(
            chosen,
            file,
            home=home,
            save_every=100,
            tell=lambda report, steps: progress.update(line, completed=report.step, total=steps),
        )
    made, shipped = file_sha256(file), chosen.sha256
    if not shipped:
        verdict = "it is not shipped, so there is nothing to compare it with"
    elif made == shipped:
        verdict = "the same as the shipped one"
    else:
        verdict = f"the shipped one has {shipped}; another processor rounds in its own way, so last bits may differ"
    row = {
        "base": chosen.id,
        "file": str(file),
        "sha256": made,
        "shipped": shipped or None,
        "same": made == shipped if shipped else None,
    }
    say(row, json, f"{file} holds {chosen.id}, sha256 {made}: {verdict}.")


def base(track: Name, *, out: Path | None = None, home: Home = HOME, json: Json = False) -> None:
    """Get the unadapted model of a track and check it; and copy it into a folder, to adapt it with tools of your own.

    Fetched or made on first use, it is kept in the home. Cut or killed, the same command goes on.

    Args:
        track: Id of the track, or its file, which ends in .toml.
        out: New folder to write: weights, and config and tokenizer where it is a language model.
    """
    chosen = find_track(track, home).base
    if out and out.exists():
        raise Refused(f"{out} exists; name a new folder with --out")
    from razorbench.harness.tracks.bases import base_digest, base_files, copy_into
    from razorbench.harness.tracks.origins import Served

    if isinstance(chosen.origin, Served):
        raise Refused(f"{chosen.origin.told} answers behind a server, so there is nothing to fetch or to copy")
    if not json and chosen.origin and not chosen.fetched(home).exists():
        err.print(f"Fetching {chosen.id} …")
    digest = base_digest(chosen, home)
    files = base_files(chosen, home)
    if out:
        copy_into(out, files)
    size = sum(path.stat().st_size for path in files.values())
    row = {
        "base": chosen.id,
        "weights": digest,
        "folder": str(out) if out else None,
        "files": {name: str(path) for name, path in files.items()},
        "bytes": size,
    }
    at = f"{out} holds" if out else f"{next(iter(files.values())).parent} has"
    say(row, json, f"{at} {chosen.id}, weights {digest[:12]}: {', '.join(files)}; {size / 1e6:,.1f} MB.")


def questions(
    task: Name,
    *,
    items: int = 1000,
    style: str = "",
    split: Literal["train", "test"] = "train",
    out: Path | None = None,
    hashes: Path | None = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Write a task's questions with an expert's answers, to adapt with tools of your own, and their fingerprints.

    Args:
        task: Id of the task.
        items: How many of them; 0: all.
        style: The expert's style; the task's first, if not given; file:PATH for demonstrations of a file.
        split: train or test.
        out: JSON-lines file to write: conversations as lists of messages.
        hashes: File to write: one fingerprint a line, as a submission declares its training data.
    """
    from razorbench.harness.core.conversations import conversations
    from razorbench.harness.core.questions import fingerprints
    from razorbench.harness.core.recorded import covered
    from razorbench.harness.core.registry import make

    made = make("task", task)
    if not isinstance(made, Task):
        raise Refused(
            f"{task} owns its loop and lists no questions; docs/submit.md tells how to hash texts of your own"
        )
    if out is None and hashes is None:
        raise Refused("name a file to write, with --out or --hashes")
    some = covered(made, made.instances(split).first(items), style)
    if out:
        lines = [jsonlib.dumps({"messages": talk}) for talk in conversations(made, some, style)]
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if hashes:
        hashes.write_text("".join(f"{one}\n" for one in fingerprints(made, some)))
    files = [str(file) for file in (out, hashes) if file]
    row = {"task": task, "items": len(some), "files": files}
    say(row, json, f"{len(some)} questions of {task} are written to {' and '.join(files)}.")


def adapt(
    track: Name,
    *,
    method: str,
    out: Path,
    seed: int = 0,
    save_every: int = 0,
    settings: Changes = UNCHANGED,
    observe: tuple[str, ...] = (),
    runtime: Computed = AUTO,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Adapt the base of a track into a checkpoint folder; stopped and started again, it goes on where it was.

    Args:
        track: Id of the track, or its file, which ends in .toml.
        method: Id of the method; `razorbench methods` lists them.
        out: Checkpoint folder to write, or to go on with.
        seed: Seed of everything random.
        save_every: Steps between saved states, from which a killed run goes on; 0: five minutes.
        settings: What is not named is as the track has it.
        observe: What to measure besides, such as update: how far the weights moved.
        runtime: How the model is computed; it changes no result but for rounding.
    """
    chosen = find_track(track, home)
    if save_every < 0:
        raise Refused(f"save-every {save_every} cannot be; give a number that is at least 0")
    from razorbench.harness.learn.engine import started
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.runs.run import Spec, adapt_into

    whole = settings if isinstance(settings, Settings) else settings_for(chosen, **settings)
    spec = Spec(method, whole, seed)
    spec.check(chosen.settings)
    engine = started(runtime.shard)
    if engine.rank:  # the first process tells
        adapt_into(out, Bench(chosen, home, runtime), spec, save_every=save_every, engine=engine, observe=observe)
        return
    with bar("adapting") as progress:
        line = progress.add_task(f"{method}, seed {seed}", total=None)
        bench = Bench(chosen, home, runtime)
        made = adapt_into(
            out,
            bench,
            spec,
            save_every=save_every,
            tell=lambda report, steps: told_step(progress, line, report, steps),
            engine=engine,
            observe=observe,
        )
    if without := made.manifest and made.manifest.provenance.get("without_demonstration"):
        err.print(
            f"{without:,} training questions have no demonstration in the file and were left out.", highlight=False
        )
    say({"checkpoint": str(made.folder), "track": chosen.id}, json, f"{out} holds the adapted checkpoint. Score it:")
    if not json:
        command(f"razorbench score {out} --track {chosen.id}", home)


def told_step(progress: Bar, line: TaskID, report: "Report", steps: int) -> None:
    """Move the bar of an adaptation; and say when it has had nothing to learn from for a while."""
    progress.update(line, completed=report.step, total=steps)
    if report.measures.get("silent") == SILENCE:
        err.print(
            f"No answer carried a signal in the last {SILENCE} steps (step {report.step}): all of a group earn the "
            "same, or none is right. Nothing is learned so; a lower learning rate, larger groups or an easier task may "
            "help.",
            highlight=False,
            soft_wrap=True,
        )
