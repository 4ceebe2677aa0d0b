"""The figures of docs/results.md: methods × learning rates × seeds on every track, as `STUDIES` declares them.

    python -m benchmarks.study [TRACK …] --home .razorbench/study

Stopped and started again, it goes on. It prints the tables in Markdown, puts them between the markers of
docs/results.md, and draws the figures into docs/images.
"""

import argparse
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Expert
from razorbench.harness.cli.scoring import lr_axis
from razorbench.harness.cli.terminal import bar
from razorbench.harness.core.rollout import demonstrations
from razorbench.harness.learn.policy import encoded, log_probabilities
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.law import fit_law
from razorbench.harness.measure.score import Bench
from razorbench.harness.report import plots
from razorbench.harness.runs.run import Spec, adapt_into
from razorbench.harness.runs.sweep import plan, sweep
from razorbench.harness.store import results
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import find_track
from razorbench.harness.tracks.spec import Track
from razorbench.harness.tracks.variants import competitor, settings_for

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Study:
    """What is compared on a track. It stands here before anything is run."""

    competitors: tuple[str, ...]
    """Methods with settings of their own, as `razorbench sweep --methods` takes them."""
    rates: tuple[float, ...]
    """Learning rates that every competitor is tried at."""
    thresholds: tuple[float, ...]
    """Scores on the new task, in points, at which retention is compared."""
    teacher: tuple[str, dict[str, Any]] = ("", {})
    """Method and settings of the teacher of `distil`, adapted with seed 0."""
    further: tuple[str, ...] = ()
    """More competitors, which come after all seeds of the first."""
    own: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Competitors that have learning rates of their own."""
    twins: tuple[str, ...] = ()
    """Competitors whose weights are those of another: their points count once in the law."""


PARITY = Study(
    (
        "sft",
        "sft:style=zero-four",
        "oracle-sft",
        "reinforce",
        "1-0-reinforce",
        "grpo",
        "dr-grpo",
        "grpo:kl=0.1",
        "simpo",
        "distil:teacher={teacher}",
    ),
    tuple(float(f"{lr:.3g}") for lr in np.geomspace(3e-6, 1e-3, 8)),
    (93, 95, 97),
    ("grpo", {}),
    twins=("dr-grpo",),
)
MORE = "batch=32:steps=96:examples=3072"
"""Questions and steps of methods that sample nothing: as much compute as those that sample have."""
LANGUAGE = Study(
    (f"sft:{MORE}", f"sft:style=near:{MORE}", "reinforce", "dr-grpo"), (3e-5, 1e-4, 3e-4, 1e-3), (70, 80, 90)
)
ROBOT = Study(
    (
        *(f"sft:style={style}:steps=120" for style in ("usual", "slow", "straight-up", "sideways")),
        "reinforce",
        "dr-grpo",
    ),
    (5e-5, 1e-4),
    (60, 80),
)
STUDIES: dict[str, Study] = {
    "parity-mnist-v1": PARITY,
    "parity-mnist-anew-v1": PARITY,
    "parity-mnist-short-v1": PARITY,
    "mini-math-v1": LANGUAGE,
    "mini-science-v1": LANGUAGE,
    "mini-tools-v1": replace(
        LANGUAGE,
        thresholds=(60, 70, 80, 90),  # 60 was added when all runs were done: most competitors ended between 60 and 63
        teacher=("dr-grpo", {"lr": 3e-4}),
        further=(
            "self-sft",
            "iterative-sft",
            "1-0-reinforce",
            f"eaft:{MORE}",
            "simpo",
            "distil:teacher={teacher}",
        ),
    ),
    "mini-robot-air-v2": ROBOT,
    "smollm2-sentiment-v1": Study(
        (), (3e-5,), (60, 70), further=("dr-grpo",), own=find_track("smollm2-sentiment-v1").demo
    ),
    "smollm2-arithmetic-v1": Study((), (), (30, 40), own=find_track("smollm2-arithmetic-v1").demo),
    "mini-robot-air-last-v1": replace(ROBOT, competitors=(ROBOT.competitors[0], ROBOT.competitors[2], "reinforce")),
}


def main() -> None:
    """Run what is missing, then write the tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracks", nargs="*", default=list(STUDIES))
    parser.add_argument("--home", type=Path, default=Path(".razorbench/study"))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="run nothing: the tables of what there is")
    told = parser.parse_args()
    for id in told.tracks:
        track, study = find_track(id), STUDIES[id]
        if not told.report:
            run(track, study, told)
        text = "\n".join([report(track, study, Store(told.home)), *style_lines(Bench(track, told.home))])
        put(Path("docs/results.md"), id, text)
        for path in plots.draw(Store(told.home), id, Path("docs/images") / id):
            print(path)


def run(track: Track, study: Study, told: argparse.Namespace) -> None:
    """The teacher, then the sweep."""
    folder = told.home / "teachers" / track.id
    if study.teacher[0]:
        method, changes = study.teacher
        adapt_into(folder, Bench(track, told.home), Spec(method, settings_for(track, **changes), 0))
    specs = [
        spec
        for seed in SEEDS
        for competitor, rates in study.own.items()
        for spec in plan(track, [competitor], [lr_axis(rates)], [seed])
    ]
    specs += [
        spec
        for competitors in filter(None, (study.competitors, study.further))
        for spec in plan(track, [each.format(teacher=folder) for each in competitors], [lr_axis(study.rates)], SEEDS)
    ]
    started, done = time.perf_counter(), 0
    with bar(track.id) as progress:
        line = progress.add_task("runs", total=len(specs))
        for ended in sweep(track, specs, told.home, told.workers):
            if ended.record is None:
                raise RuntimeError(f"{ended.spec}: {ended.error}")
            done += 1
            progress.update(line, completed=done)
    print(f"{track.id}: {done} runs in {time.perf_counter() - started:.0f} s")


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """One learning rate of a competitor at the end of training, over its seeds: scores in points, drift in nats."""

    lr: float
    new: np.ndarray
    prior: np.ndarray
    drift: np.ndarray


def reached(store: Store, track: Track) -> dict[str, list[Reached]]:
    """The end points by competitor, one a learning rate; columns are in the order of the seeds.

    Ends alone: they are measured on all 10,000 items, checkpoints on the way on the first 2,000, which are harder.
    """
    cells: dict[tuple[str, float], list[dict[str, Any]]] = {}
    runs = {run["id"]: run for run in store.runs(track.id)}
    for point in sorted(store.curve(*runs), key=lambda point: runs[point["submission"]]["seed"]):
        if point["end"]:
            run = runs[point["submission"]]
            cells.setdefault((competitor(track.id, run["method"], run["settings"]), run["settings"]["lr"]), []).append(
                point
            )
    by_method: dict[str, list[Reached]] = {}
    for (name, lr), points in cells.items():
        columns = (np.array([point[column] for point in points]) for column in ("new", "prior", "drift"))
        by_method.setdefault(name, []).append(Reached(lr, *columns))
    return by_method


def best(points: Iterable[Reached], threshold: float, without: int | None = None) -> Reached | None:
    """The point with the best mean prior score among those whose mean new score is high enough, `without` one seed."""

    def mean(scores: np.ndarray) -> float:
        return float((scores if without is None else np.delete(scores, without)).mean())

    good = [point for point in points if mean(point.new) >= threshold]
    return max(good, key=lambda point: mean(point.prior)) if good else None


def held_out(points: list[Reached], threshold: float) -> str:
    """Mean prior and new score on a seed that the point was not chosen on; a dash if ever none is good enough."""
    seeds, scores = min(len(point.new) for point in points), []
    for seed in range(seeds if seeds > 1 else 0):
        chosen = best(points, threshold, without=seed)
        if chosen is None:
            return "–"
        scores.append((chosen.prior[seed], chosen.new[seed]))
    if not scores:
        return "–"
    prior, new = np.mean(scores, axis=0)
    return f"{prior:.1f} at {new:.1f}"


def report(track: Track, study: Study, store: Store) -> str:
    """The tables of a track, in Markdown."""
    points = reached(store, track)
    runs = store.runs(track.id)
    scores = store.scores(runs[0]["id"])
    base = {role: np.mean([row["base"] for row in scores if row["role"] == role]) for role in ("new", "prior")}
    lines = [
        f"Base: {base['new']:.1f} % on {track.new}, {base['prior']:.1f} % on "
        f"{'the prior task' if len(scores) == 2 else f'the {len(scores) - 1} prior tasks'}. {len(runs)} runs, "
        f"{len(runs) * (track.checkpoints + 1)} measured points.",
        "",
    ]
    for threshold in study.thresholds:
        lines += [
            f"Best prior score at ≥ {threshold} % on the new task (mean ± standard deviation between seeds):",
            "",
            "| method | prior score | new task | forward KL (nats) | lr | held-out seed: prior at new |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        rows = []
        for name, all in points.items():
            chosen = best(all, threshold)
            if chosen is None:
                top = max(float(point.new.mean()) for point in all)
                rows.append((-1.0, f"| {name} | not reached | at most {top:.1f} | | | |"))
                continue
            line = f"| {name} | {cell(chosen.prior)} | {cell(chosen.new)} | {cell(chosen.drift, 2)} | {chosen.lr:.2g} "
            rows.append((float(chosen.prior.mean()), f"{line}| {held_out(all, threshold)} |"))
        lines += [line for _, line in sorted(rows, reverse=True)] + ["", *spread(store, track, points, threshold)]
    return "\n".join([*lines, *entry_lines(store, track), *prior_lines(store, track), *law_lines(store, track, study)])


def spread(store: Store, track: Track, points: dict[str, list[Reached]], threshold: float) -> list[str]:
    """By how many standard errors the best and the worst competitor of a matched table differ in retention.

    The standard error of an entry's retention is the larger of the one over items and the one over seeds.
    """
    entries = {(entry.variant, entry.settings["lr"]): entry for entry in results.table(store, track.id)}
    there = []
    for name, all in points.items():
        if chosen := best(all, threshold):
            entry = entries[name, chosen.lr]
            error = max(entry.retention.se, np.nan_to_num(entry.retention_between) / entry.seeds**0.5)
            there.append((entry.retention.value, error, name))
    if len(there) < 2:
        return []
    (low, low_error, worst), (high, high_error, leader) = min(there), max(there)
    error = float(np.hypot(low_error, high_error))
    return [
        f"Spread of retention: {high - low:.1f} points between {leader} and {worst}, "
        f"{(high - low) / error:.1f} standard errors of that difference.",
        "",
    ]


def entry_lines(store: Store, track: Track) -> list[str]:
    """Every competitor at every learning rate: gain, retention and drift with intervals."""
    lines = [
        "Every entry: 95 % intervals over items, averaged over seeds; in brackets the standard deviation of seeds.",
        "",
        "| method | lr | seeds | gain | retention | nats an episode | nats an element | well-formed, base → adapted |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    formed = well_formed(store, track)
    for entry in sorted(results.table(store, track.id), key=lambda entry: (entry.variant, entry.settings["lr"])):
        told = [formed[run["id"]] for run in entry.runs if run["id"] in formed]
        shares = " → ".join(f"{100 * share:.0f} %" for share in np.mean(told, axis=0)) if told else "–"
        lines.append(
            f"| {entry.variant} | {entry.settings['lr']:g} | {entry.seeds} "
            f"| {interval(entry.gain)}{between(entry.gain_between)} "
            f"| {interval(entry.retention)}{between(entry.retention_between)} | {interval(entry.drift, 2)} "
            f"| {entry.drift_element:.3f} | {shares} |"
        )
    return [*lines, ""]


def between(spread: float) -> str:
    """The standard deviation of seeds, in brackets; empty where there is one seed."""
    return "" if np.isnan(spread) else f" ({spread:.1f})"


def prior_lines(store: Store, track: Track) -> list[str]:
    """What each entry lost on each prior task, where these are benchmarks of others: in points, and in nats of the
    right choice's log-likelihood, which moves before a choice does.
    """
    priors = [task for task in track.prior_tasks if task.startswith("lm-eval/")]
    if not priors:
        return []
    names = [task.removeprefix("lm-eval/").partition("?")[0] for task in priors]
    lines = [
        "Change of each prior in points; in brackets of the right choice in nats of log-likelihood; means over seeds.",
        "",
        f"| method | lr | {' | '.join(names)} |",
        f"| --- | ---: |{' ---: |' * len(names)}",
    ]
    for entry in sorted(results.table(store, track.id), key=lambda entry: (entry.variant, entry.settings["lr"])):
        rows = store.scores(*[run["id"] for run in entry.runs])
        cells = []
        for task in priors:
            mine = [row for row in rows if row["task"] == task]
            told = f"{np.mean([row['difference'] for row in mine]):+.1f}"
            nats = [row["metrics"]["nats"] for row in mine if "nats" in row["metrics"]]
            cells.append(told + (f" ({np.mean([after - before for before, after in nats]):+.2f})" if nats else ""))
        lines.append(f"| {entry.variant} | {entry.settings['lr']:g} | {' | '.join(cells)} |")
    return [*lines, ""]


def style_lines(bench: Bench, demonstrated: int = 100) -> list[str]:
    """How far each style of demonstrations is from the base: −log π₀ of what the expert does, a mean over elements."""
    if not isinstance(bench.new, Expert):
        return []
    far = []
    for style in bench.new.styles:
        shown = demonstrations(bench.new, bench.new.instances("test").first(demonstrated), style)
        shown = encoded(bench.base, shown)
        nats = -float(log_probabilities(bench.base, shown).sum()) / float(shown.lengths().sum())
        far.append(f"`{style}` {nats:.2f}")
    return [f"Demonstrations, nats an element under the base ({demonstrated} test items): {', '.join(far)}.", ""]


def well_formed(store: Store, track: Track) -> dict[str, tuple[float, float]]:
    """Share of well-formed replies to the new task, base and adapted, by submission; of tasks that judge the form."""
    ids = [run["id"] for run in store.runs(track.id)]
    rows = [row for row in store.scores(*ids) if row["role"] == "new"]
    return {row["submission"]: row["metrics"]["well_formed"] for row in rows if "well_formed" in row["metrics"]}


def interval(estimate: Estimate, digits: int = 1) -> str:
    """Value and 95 % interval; of a drift of one seed no interval is kept."""
    if np.isnan(estimate.low):
        return f"{estimate.value:+.{digits}f}"
    return f"{estimate.value:+.{digits}f} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def law_lines(store: Store, track: Track, study: Study) -> list[str]:
    """The law of forgetting: fits over all points, end points and mid-training, and for each competitor alone.

    Of fewer than four points there is none.
    """
    lines = [
        "Forgetting (points lost on the priors) as a quadratic in forward KL on the new task"
        + "".join(f"; `{twin}` has the weights of another and is left out" for twin in study.twins)
        + ".",
        "",
        "| points | n | R² | R² of methods left out | R² of log(lr × steps) | highest leverage |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for title, end in (("end points", True), ("mid-training", False), ("all", None)):
        points = columns(store, track, study, end)
        if distinct(*points[:2]) < LEAST:
            continue
        fit = fit_law(*points)
        lines.append(
            f"| {title} | {fit.n} | {fit.r2:.3f} | {fit.r2_left_out_pooled:.3f} | {fit.baseline_r2:.3f} "
            f"| {np.max(fit.leverage):.3f} |"
        )
    drift, forgetting, method, baseline = columns(store, track, study, None)
    if distinct(drift, forgetting) < LEAST:
        return []
    together = fit_law(drift, forgetting, method, baseline)
    rows = []
    for name in dict.fromkeys(method):
        mine = method == name
        if distinct(drift[mine], forgetting[mine]) < LEAST:
            continue
        fit = fit_law(drift[mine], forgetting[mine], method[mine], baseline[mine])
        rows.append(
            f"| {name} | {fit.n} | {fit.r2:.3f} | {together.r2_left_out[name]:.3f} | {fit.baseline_r2:.3f} "
            f"| {drift[mine].max():.2f} | {forgetting[mine].max():.1f} |"
        )
    if rows:
        lines += [
            "",
            "| method | n | R² of its own fit | R² from the others' fit | R² of log(lr × steps) | largest drift (nats) "
            "| largest forgetting (points) |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    return [*lines, ""]


LEAST = 4
"""Points that the law needs."""


def distinct(drift: np.ndarray, forgetting: np.ndarray) -> int:
    """How many points there are, each counted once."""
    return len({*zip(drift.tolist(), forgetting.tolist(), strict=True)})


def columns(store: Store, track: Track, study: Study, end: bool | None) -> tuple[np.ndarray, ...]:
    """Drift, forgetting, competitor and log(lr × steps) of law points, no checkpoint twice."""
    runs, seen = {}, set()
    for run in sorted(store.runs(track.id), key=lambda run: run["method"] in study.twins):
        if run["checkpoint"] not in seen:
            runs[run["id"]] = run
            seen.add(run["checkpoint"])
    rows = [row for row in store.law_points(track.id, end) if row["submission"] in runs]
    return (
        np.array([row["drift"] for row in rows]),
        np.array([row["forgetting"] for row in rows]),
        np.array([row["variant"] for row in rows]),
        np.log([row["lr_steps"] for row in rows]),
    )


def cell(values: np.ndarray, digits: int = 1) -> str:
    """Mean ± standard deviation between seeds; of a single seed, its value."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def put(path: Path, track: str, text: str) -> None:
    """Replace what stands between the markers of a track on a page, and print it."""
    print(text)
    page = path.read_text()
    start, end = f"<!-- made by benchmarks.study: {track} -->", f"<!-- end: {track} -->"
    path.write_text(re.sub(f"{start}.*?{end}", lambda _: f"{start}\n\n{text}\n{end}", page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
