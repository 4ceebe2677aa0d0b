"""The figures of docs/results.md: ten methods × eight learning rates × three seeds on both readings of parity-mnist.

    python -m benchmarks.study --home .razorbench/study

Stopped and started again, it goes on. It prints the tables in Markdown, puts them between the markers of
docs/results.md, and draws the figures into docs/images.
"""

import argparse
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import plots
from harness.law import fit_law
from harness.run import Spec, adapt_into
from harness.score import Bench
from harness.settings import Settings, variant
from harness.store import Store
from harness.sweep import plan, sweep
from harness.terminal import bar
from harness.tracks import Track, find_track

METHODS = [
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
]
LEARNING_RATES = np.geomspace(3e-6, 1e-3, 8)
SEEDS = (0, 1, 2)
THRESHOLDS = (93, 95, 97)
TEACHER = Spec("grpo", Settings(), seed=0)
TRACKS = ("parity-mnist-v1", "parity-mnist-anew-v1")


def main() -> None:
    """Run what is missing, then write the tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench/study"))
    parser.add_argument("--workers", type=int, default=0)
    home, workers = (lambda a: (a.home, a.workers))(parser.parse_args())
    sections = []
    for id in TRACKS:
        track = find_track(id)
        sections.append(report(track, Store(home), run(track, home, workers)))
        for path in plots.draw(Store(home), id, Path("docs/images") / id):
            print(path)
    put(Path("docs/results.md"), "\n".join(sections))


def run(track: Track, home: Path, workers: int) -> str:
    """The teacher, then the sweep; what the teacher scores, in one sentence."""
    teacher, bench = home / "teachers" / track.id, Bench(track, home)
    policy = bench.base.copy()
    policy.load(adapt_into(teacher, bench, TEACHER).weights)
    scores = [100 * float(found.score.mean()) for found in bench.answer(policy, track.items).values()]
    methods = [method.format(teacher=teacher) for method in METHODS]
    specs = plan(track, methods, ["lr=" + ",".join(f"{lr:.3g}" for lr in LEARNING_RATES)], SEEDS)
    started, done = time.perf_counter(), 0
    with bar(track.id) as progress:
        line = progress.add_task("runs", total=len(specs))
        for found in sweep(track, specs, home, workers):
            if found.record is None:
                raise RuntimeError(f"{found.spec}: {found.error}")
            done += 1
            progress.update(line, completed=done)
    print(f"{track.id}: {done} runs in {time.perf_counter() - started:.0f} s")
    return f"The teacher of `distil` has parity {scores[0]:.1f} %, FashionMNIST {scores[1]:.1f} %."


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
            cells.setdefault((variant(run["method"], run["settings"]), run["settings"]["lr"]), []).append(point)
    found: dict[str, list[Reached]] = {}
    for (name, lr), points in cells.items():
        columns = (np.array([point[column] for point in points]) for column in ("new", "prior", "drift"))
        found.setdefault(name, []).append(Reached(lr, *columns))
    return found


def best(points: Iterable[Reached], threshold: float, seeds: np.ndarray) -> Reached | None:
    """The point with the best mean prior score among those whose mean new score, over `seeds`, is high enough."""
    good = [point for point in points if point.new[seeds].mean() >= threshold]
    return max(good, key=lambda point: point.prior[seeds].mean()) if good else None


def held_out(points: list[Reached], threshold: float) -> str:
    """Mean prior and new score on a seed that the point was not chosen on; a dash if ever none is good enough."""
    scores = []
    for seed in range(len(SEEDS)):
        chosen = best(points, threshold, np.array([other for other in range(len(SEEDS)) if other != seed]))
        if chosen is None:
            return "–"
        scores.append((chosen.prior[seed], chosen.new[seed]))
    prior, new = np.mean(scores, axis=0)
    return f"{prior:.1f} at {new:.1f}"


def report(track: Track, store: Store, teacher: str) -> str:
    """The tables of a track, in Markdown."""
    points = reached(store, track)
    everyone = np.arange(len(SEEDS))
    runs = store.runs(track.id)
    score = {row["role"]: row["base"] for row in store.scores(runs[0]["id"])}
    lines = [
        f"### {track.id}",
        "",
        f"Base: parity {score['new']:.1f} %, FashionMNIST {score['prior']:.1f} %. {len(runs)} runs, "
        f"{len(runs) * (track.checkpoints + 1)} measured points. {teacher}",
        "",
    ]
    for threshold in THRESHOLDS:
        lines += [
            f"Best FashionMNIST accuracy at parity ≥ {threshold} % (mean ± standard deviation of {len(SEEDS)} seeds):",
            "",
            "| method | FashionMNIST | parity | forward KL (nats) | lr | held-out seed: FashionMNIST at parity |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        rows = []
        for name, all in points.items():
            chosen = best(all, threshold, everyone)
            if chosen is None:
                top = max(float(point.new.mean()) for point in all)
                rows.append((-1.0, f"| {name} | not reached | at most {top:.1f} | | | |"))
                continue
            line = f"| {name} | {cell(chosen.prior)} | {cell(chosen.new)} | {cell(chosen.drift, 2)} | {chosen.lr:.2g} "
            rows.append((float(chosen.prior.mean()), f"{line}| {held_out(all, threshold)} |"))
        lines += [line for _, line in sorted(rows, reverse=True)] + [""]
    return "\n".join([*lines, *law_lines(store, track)])


def law_lines(store: Store, track: Track) -> list[str]:
    """The law of forgetting: fits over all points, end points and mid-training, and for each competitor alone."""
    lines = [
        "Forgetting of FashionMNIST (points) as a quadratic in forward KL on parity. `dr-grpo` has the weights of",
        "`reinforce` and is left out, so that no point counts twice.",
        "",
        "| points | n | R² | R² of methods left out | R² of log(lr × steps) | highest leverage |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for title, end in (("end points", True), ("mid-training", False), ("all", None)):
        fit = fit_law(*columns(store, track, end))
        lines.append(
            f"| {title} | {fit.n} | {fit.r2:.3f} | {fit.r2_left_out_pooled:.3f} | {fit.baseline_r2:.3f} "
            f"| {np.max(fit.leverage):.3f} |"
        )
    drift, forgetting, method, baseline = columns(store, track, None)
    together = fit_law(drift, forgetting, method, baseline)
    lines += [
        "",
        "| method | n | R² of its own fit | R² from the others' fit | R² of log(lr × steps) | largest drift (nats) "
        "| largest forgetting (points) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(method):
        mine = method == name
        fit = fit_law(drift[mine], forgetting[mine], method[mine], baseline[mine])
        lines.append(
            f"| {name} | {fit.n} | {fit.r2:.3f} | {together.r2_left_out[name]:.3f} | {fit.baseline_r2:.3f} "
            f"| {drift[mine].max():.2f} | {forgetting[mine].max():.1f} |"
        )
    return [*lines, ""]


def columns(store: Store, track: Track, end: bool | None) -> tuple[np.ndarray, ...]:
    """Drift, forgetting, competitor and log(lr × steps) of law points, no checkpoint twice."""
    runs, seen = {}, set()
    for run in sorted(store.runs(track.id), key=lambda run: run["method"] == "dr-grpo"):
        if run["checkpoint"] not in seen:
            runs[run["id"]] = run
            seen.add(run["checkpoint"])
    rows = [row for row in store.law_points(track.id, end) if row["submission"] in runs]
    names = [variant(row["method"], runs[row["submission"]]["settings"]) for row in rows]
    return (
        np.array([row["drift"] for row in rows]),
        np.array([row["forgetting"] for row in rows]),
        np.array(names),
        np.log([row["lr_steps"] for row in rows]),
    )


def cell(values: np.ndarray, digits: int = 1) -> str:
    """Mean ± standard deviation between seeds."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def put(path: Path, text: str) -> None:
    """Replace what stands between the markers of a page, and print it."""
    print(text)
    page = path.read_text()
    start, end = "<!-- made by benchmarks.study -->", "<!-- end -->"
    path.write_text(re.sub(f"{start}.*?{end}", lambda _: f"{start}\n\n{text}\n{end}", page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
