"""The commands that show what came out: results, export, show, plot, film."""

import json as jsonlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from razorbench.harness.cli import terminal
from razorbench.harness.cli.arguments import HOME, Computed, Home, Json, Name
from razorbench.harness.cli.terminal import busy, command, leaderboard, left_out, listing, out, say
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Task
from razorbench.harness.learn.runtime import AUTO
from razorbench.harness.report.text import interval, number
from razorbench.harness.tracks.catalogue import TRACKS, find_track, known_track
from razorbench.submissions.commands import told

if TYPE_CHECKING:  # it loads DuckDB
    from razorbench.harness.store.database import Store


def results(*, track: str | None = None, home: Home = HOME, json: Json = False) -> None:
    """Print the leaderboard of a track, or of all.

    Args:
        track: Id of the track; all that have rows, if not given.
    """
    from razorbench.harness.report import export
    from razorbench.harness.store import results as board
    from razorbench.harness.store.database import Store

    store = Store(home)
    track = track and named(track, store)
    left_out(store.torn())
    entries = [entry for id in ([track] if track else store.tracks()) for entry in board.table(store, id)]
    if json:
        print(jsonlib.dumps([export.flat(entry) for entry in entries], indent=1))
    elif not entries and (away := sum(len(store.runs(id, all=True)) for id in ([track] if track else TRACKS))):
        out.print(f"No rows to show in {home}: {away} are hidden or retracted.", highlight=False)
    elif not entries:
        out.print(f"No rows in {home} yet. Make some:")
        command(
            f"razorbench sweep {track or next(iter(TRACKS))} --methods sft,dr-grpo --grid lr=1e-4,3e-4 --seeds 0", home
        )
    else:
        for id in dict.fromkeys(entry.track for entry in entries):
            out.print(leaderboard(known_track(id, home), id, [entry for entry in entries if entry.track == id]))


def named(track: str, store: "Store") -> str:
    """The track that somebody names: its id, or its file, or what has rows here though nobody knows it any more.

    Refuses what is none of these.
    """
    return track if track in store.tracks() else find_track(track, store.home).id


def export(track: Name = "", *, format: str, out: Path, home: Home = HOME, json: Json = False) -> None:
    """Write the leaderboard of a track, or of all, for other people and programs.

    Args:
        track: Id of the track; all that have rows, if not given.
        format: csv, parquet, json: one row an entry; html: a page of one track; every-eval-ever: a folder of records
            for the data store of that name.
        out: File to write, or for every-eval-ever a folder that does not exist yet.
    """
    from razorbench.harness.report.export import publish
    from razorbench.harness.store.database import Store

    store = Store(home)
    track = track and named(track, store)
    with busy(f"exporting as {format}"):
        entries = publish(store, track or None, format, out)
    say({"out": str(out), "entries": entries}, json, f"{out} holds {entries} entries.")


def show(submission: Name, *, home: Home = HOME, json: Json = False) -> None:
    """Show everything known of one submission: where it stands, and its rows.

    Args:
        submission: Its id or name, as `razorbench queue` or `razorbench results --json` give them.
    """
    from razorbench.harness.measure.record import plain
    from razorbench.harness.report.flags import flags
    from razorbench.harness.store import results as board
    from razorbench.harness.store.database import Store

    brought = told(home, submission)
    records = list(brought["end"]["records"]) if brought and brought["end"] else []
    if not brought or records:
        rows = [board.show(Store(home), id) for id in records or [submission]]
    else:
        rows = []
    if json:
        print(
            jsonlib.dumps(
                plain({**brought, "flags": flags([row["run"] for row in rows]), "rows": rows} if brought else rows[0]),
                indent=1,
                default=str,
            )
        )
        return
    if brought:
        told_of = {(event["kind"], event["reason"]): event for row in rows for event in row["events"]}
        show_brought(brought, list(told_of.values()))  # each seed's record has them
    for flag in flags([row["run"] for row in rows]):
        out.print(f"⚑ {flag}", highlight=False, soft_wrap=True, style="yellow")
    for row in rows:
        show_row(row)


def show_brought(brought: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    """Where a submission stands."""
    sub, end = brought["submission"], brought["end"]
    state = {"queued": "waits for a worker", "scoring": f"is being scored by {brought['worker']}"}
    how = state.get(brought["state"], brought["state"])
    line = f"{sub['name']} ({sub['id']}) on {sub['track']}: {how}"
    out.print(line + (f": {end['reason']}" if end and end["reason"] else ""), highlight=False)
    if sub["trained_on"]:
        out.print(f"its adapters say that they were trained on {sub['trained_on']}", highlight=False, soft_wrap=True)
    for event in events:
        reason = f"{event['kind']} {event['value'] or ''}".strip()
        out.print(f"{event['decided_at']:%Y-%m-%d}: {reason}: {event['reason']}", highlight=False, soft_wrap=True)
    if brought["crashes"]:
        out.print(f"scoring crashed {brought['crashes']} times; the end of the last log:", highlight=False)
    if brought["log"]:
        out.print(brought["log"], highlight=False, soft_wrap=True)


def show_row(row: Mapping[str, Any]) -> None:
    """One scored checkpoint."""
    from razorbench.harness.measure.comparison import unsteady
    from razorbench.harness.measure.record import UNTOLD

    run = row["run"]
    seed = "" if run["seed"] is None else f", seed {run['seed']}"
    line = f"{run['name']} ({run['id']}) on {run['track']}: {run['method']}{seed}"
    out.print(line, highlight=False)
    scores = [
        {
            "task": score["task"],
            "items": score["n"],
            "unscored": score["unscored"],
            "failed": score["failed_adapted"],
            "base": number(score["base"], ".1f"),
            "adapted": number(score["adapted"], ".1f"),
            "difference": interval(score["difference"], score["low"], score["high"]),
            "p": number(score["p_holm"], ".2g"),
            "mde": number(score["mde"], ".1f"),
        }
        for score in row["scores"]
    ]
    listing(scores, False)
    metrics = [
        {
            "task": score["task"],
            "metric": name,
            "base": number(base, ".4g"),
            "adapted": number(adapted, ".4g"),
            "difference": interval(*score["metric_changes"].get(name, UNTOLD), form="+.3g"),
        }
        for score in row["scores"]
        for name, (base, adapted) in score["metrics"].items()
    ]
    if metrics:
        listing(metrics, False)
    listing(row["drifts"], False, ("direction", "per", "nats", "se", "n", "floor"))
    for sentence in unsteady(run["provenance"]):
        out.print(sentence, highlight=False, soft_wrap=True)
    for merged in (run["provenance"] or {}).get("merged", ()):
        how = f"adapters merged in {merged['dtype']}: {merged['nats']:.2g} nats an episode from unmerged ones"
        said = f"{how}; of {merged['episodes']} greedy answers {100 * merged['answers']:.1f} % are others"
        out.print(said, highlight=False, soft_wrap=True)
    if stray := (run["provenance"] or {}).get("outside"):
        shares = f"{100 * stray['base']:.2g} % of the base, {100 * stray['adapted']:.2g} % of the adapted"
        out.print(f"probability on tokens that are no action: {shares}", highlight=False, soft_wrap=True)
    changed = {k: v for k, v in run["settings"].items() if v not in ("", 0)}
    out.print("settings: " + " ".join(f"{k} {v}" for k, v in changed.items()), highlight=False)
    out.print(f"files: {row['folder']}")


def plot(track: Name, *, out: Path, home: Home = HOME, json: Json = False) -> None:
    """Draw a track: gain × retention with fronts, forgetting × drift with the law, training curves.

    Args:
        track: Id of the track.
        out: Folder to write the PNG files to.
    """
    from razorbench.harness.report import plots
    from razorbench.harness.store.database import Store

    store = Store(home)
    files = [str(path) for path in plots.draw(store, named(track, store), out)]
    say({"files": files}, json, "\n".join(files))


def law(track: Name, *, home: Home = HOME, json: Json = False) -> None:
    """Say how well drift, and whatever else was measured of the runs of a track, predicts what they forgot.

    Args:
        track: Id of the track.
    """
    from razorbench.harness.store import results as board
    from razorbench.harness.store.database import Store

    store = Store(home)
    rows = [asdict(each) for each in board.predictors(store, named(track, store))]
    if not rows and not json:
        out.print("A law needs four scored runs at least, of three different drifts. Make some with razorbench sweep.")
        return
    shown = [row | {key: number(row[key], ".2f") for key in ("r2", "r2_left_out", "baseline_r2")} for row in rows]
    listing(rows if json else shown, json)


def conflicts(
    track: Name,
    checkpoint: tyro.conf.Positional[Path | None] = None,
    *,
    task: str = "",
    style: tuple[str, ...] = (),
    items: int = 256,
    lowest: float = 0.15,
    out: Path | None = None,
    runtime: Computed = AUTO,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Say how much of the demonstrations a model finds unlikely though it is sure there, beside its own rollouts.

    Args:
        track: Id of the track, or its file.
        checkpoint: Checkpoint folder; the track's base, if not given.
        task: Id of one of the track's tasks that has demonstrations; the new one, if not given.
        style: Styles of demonstrations; all, if not given.
        items: Training questions to look at, the first ones.
        lowest: Share of the demonstrations' elements that counts as unlikely, and share where the model counts as sure.
        out: PNG file to write: probability × entropy of every element.
        runtime: How the model is computed.
    """
    if items < 1 or not 0 < lowest < 1:
        raise Refused(
            f"items {items}, lowest {lowest:g} cannot be; give at least one item, and a share between 0 and 1"
        )
    if out and out.suffix.lower() != ".png":
        raise Refused(f"{out} is no name of a picture; give --out a file that ends in .png")
    chosen = find_track(track, home)
    from razorbench.harness.learn.checkpoint import read
    from razorbench.harness.measure import conflicts as measured
    from razorbench.harness.tracks.bases import base_policy

    asked = task or chosen.new
    if asked not in (chosen.new, *chosen.prior_tasks) or not isinstance(played := chosen.task(asked), Task):
        raise Refused(
            f"{asked!r} is no task of {chosen.id}; choose one of {', '.join((chosen.new, *chosen.prior_tasks))}"
        )
    with busy(f"looking at {asked}"):
        policy = base_policy(chosen.base, home, chosen.conditions.options, runtime)
        if checkpoint:
            policy = policy.copy()
            policy.load(read(checkpoint).weights)
        seen = measured.landscapes(policy, played, played.instances("train").first(items), style)
        thresholds = measured.Thresholds.of(seen[:-1], lowest)
        if out:
            from razorbench.harness.report import plots

            who = checkpoint.name if checkpoint else chosen.base.id
            with plots.plain_text():
                plots.conflicts_figure(seen, thresholds, f"{who} on {asked}").savefig(out, dpi=150)
    rows = measured.table(seen, thresholds)
    if json:
        cells = [cell for each in seen for cell in measured.cells(each)]
        print(jsonlib.dumps({"thresholds": asdict(thresholds), "data": rows, "map": cells, "out": out and str(out)}))
        return
    listing([percent(row) for row in rows], False)
    terminal.out.print(
        f"Confident conflicts: a probability up to {thresholds.probability:.3g} where the entropy is at most "
        f"{thresholds.entropy:.3g} nats, the lowest {100 * lowest:g} % of the demonstrations' elements in each.",
        highlight=False,
        soft_wrap=True,
    )
    if out:
        terminal.out.print(f"{out} shows every element.", highlight=False, soft_wrap=True)


def percent(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of conflicts as a table shows it: shares in per cent."""
    share = f"{100 * row['share']:.2f} [{number(100 * row['low'], '.2f')}, {number(100 * row['high'], '.2f')}]"
    shares = {f"{name} %": f"{100 * row[name]:.1f}" for name in ("unlikely", "sure")}
    kept = {name: row[name] for name in ("data", "episodes", "elements", "nats", "entropy")}
    return kept | shares | {"conflicts %": share}


def film(
    track: tyro.conf.Positional[str] = "",
    checkpoints: tyro.conf.Positional[tuple[Path, ...]] = (),
    *,
    out: Path | None = None,
    submission: str = "",
    task: str = "",
    item: str = "",
    most: int = 1,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Film the base and adapted checkpoints side by side, from the same initial state; or what a submission did.

    Args:
        track: Id of the track, where checkpoints are filmed.
        checkpoints: Checkpoint folders, as `razorbench adapt` writes them.
        out: File to write: .mp4 a video, .rrd a recording for the Rerun viewer. The films of a submission lie in the
            home, where the board finds them, if not given.
        submission: Id or name of a submission; its flips are filmed as they were scored, without weights.
        task: Id of one of the track's tasks; the new one, if not given.
        item: The instance; if not given, the first flip: of a submission, or of 50 instances and the first checkpoint.
        most: How many flips of a submission to film, the first ones.
    """
    if submission:
        film_submission(submission, task, item, most, out, home, json)
        return
    if not (track and checkpoints) or out is None:
        raise Refused("name a track, checkpoints and a file to write with --out, or a submission with --submission")
    chosen = find_track(track, home)
    from razorbench.harness.learn import checkpoint
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.report import takes
    from razorbench.harness.report.film import film as filmed

    bench = Bench(chosen, home)
    policies = {"base": bench.base}
    for folder in checkpoints:
        policies[folder.name] = bench.base.copy()
        policies[folder.name].load(checkpoint.read(folder).weights)
    name = task or chosen.new
    played = bench.tasks.get(name)
    if not isinstance(played, Task):
        raise Refused(f"{name!r} is no task of {track}; choose one of {', '.join(bench.tasks)}")
    with busy(f"filming {name}"):
        number = takes.find(played, item).id[0].item() if item else takes.first_flip(played, list(policies.values()))
        rewards = filmed(played, number, policies, out)
    ends = ", ".join(f"{who} {reward:g}" for who, reward in rewards.items())
    say({"file": str(out), "item": number, "rewards": rewards}, json, f"{out} shows item {number} of {name}: {ends}.")


def film_submission(submission: str, task: str, item: str, most: int, out: Path | None, home: Path, json: bool) -> None:
    """Film what base and adapted did on flips of a submission."""
    if most < 1:
        raise Refused(f"most {most} cannot be; give a number that is at least 1")
    if out and most > 1:
        raise Refused(f"{most} flips do not go into one file; leave out --out, or --most")
    from razorbench.harness.report.film import film_flips
    from razorbench.harness.store.database import Store

    run = Store(home).submission(submission)
    name = task or find_track(run["track"], home).new
    with busy(f"filming {name}"):
        files = [str(path) for path in film_flips(home, run["id"], name, item, most, out)]
    say({"files": files}, json, "\n".join(files))
