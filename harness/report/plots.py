"""Pictures of a track: gain × retention with fronts, forgetting × drift with the law, training curves; and conflicts.

The figures are made from data alone and know nothing of files; `figures` reads a store, `draw` writes files, too.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.law import determined, fit_law, log_rate_steps
from razorbench.harness.report.text import printable
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry
from razorbench.harness.store.results import table

if TYPE_CHECKING:  # it loads torch
    from razorbench.harness.measure.conflicts import Landscape, Thresholds

Rows = Sequence[Mapping[str, Any]]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's palette, which the colour-blind tell apart; without its yellow, which white paper swallows."""
MARKERS, DASHES = "os^DvP*X", ("-", "--", ":", "-.")
KEY = 40
"""Characters of a method's name in a key: a longer one would leave no room for the data."""
NEAR_BEST = 0.9
"""Share of a method's best gain that an entry must reach to stand for the method in the curves."""
PANELS = {
    "new": "new task (points)",
    "prior": "prior tasks, mean (points)",
    "drift": "drift (forward KL, nats)",
    "reward": "training reward",
}
"""Column of the training curve → the title of its panel."""


def draw(store: Store, track: str, folder: Path) -> list[Path]:
    """Write `gain-retention.png`, `law.png` and `curves.png` into a folder, and return their paths.

    Refused if the track has no rows.
    """
    entries = scored(store, track)
    with plain_text():
        drawn = figures(store, entries)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=150)
    return [folder / f"{name}.png" for name in drawn]


def scored(store: Store, track: str) -> list[Entry]:
    """The entries of a track, of which there must be some; else Refused."""
    if entries := table(store, track):
        return entries
    raise Refused(f"nothing is scored on {track} in {store.home}: run `razorbench demo` or name another --home")


def figures(store: Store, entries: Sequence[Entry]) -> dict[str, Figure]:
    """The three pictures of a track, of which these are all entries: `gain-retention`, `law` and `curves`."""
    curve = store.curve(*(run["id"] for entry in entries for run in entry.runs))
    return {
        "gain-retention": gain_retention(entries),
        "law": law_figure(store.law_points(entries[0].track), methods_of(entries)),
        "curves": curves_figure(entries, curve),
    }


@contextmanager
def plain_text() -> Iterator[None]:
    """Draw within: names and settings are written by strangers, dollars, emoji and all."""
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box is drawn in its place
        yield


def gain_retention(entries: Sequence[Entry]) -> Figure:
    """Every entry of a track with its 95 % intervals (points), and as steps the front that each method reaches."""
    look = styles(methods_of(entries))
    shown = [entry for entry in entries if np.isfinite([entry.gain.value, entry.retention.value]).all()]
    figure, ((ax,),) = _sheet()
    ax.axhline(0, color="0.6", lw=1, zorder=1)
    ax.axvline(0, color="0.6", lw=1, zorder=1)
    for method in methods_of(shown):
        theirs = [entry for entry in shown if entry.variant == method]
        gain, gain_low, gain_high = _interval([entry.gain for entry in theirs])
        kept, kept_low, kept_high = _interval([entry.retention for entry in theirs])
        best, color, name = front(gain, kept), look[method]["color"], printable(method, KEY)
        strength = np.where(np.isin(np.arange(len(theirs)), best), 1.0, 0.35)
        ax.hlines(kept, gain_low, gain_high, color=color, lw=0.8, alpha=0.5 * strength, zorder=1.5)
        ax.vlines(gain, kept_low, kept_high, color=color, lw=0.8, alpha=0.5 * strength, zorder=1.5)
        points: dict[str, Any] = {"alpha": strength, "marker": look[method]["marker"], "label": f"_{name}, all"}
        ax.scatter(gain, kept, s=36, c=color, lw=0, zorder=2, **points)
        ax.plot(gain[best], kept[best], drawstyle="steps-pre", lw=1.6, ms=6, zorder=3, label=name, **look[method])
    ax.set(xlabel="gain on the new task (points)", ylabel="retention of prior tasks (points; 0 = kept)")
    ax.set_title(f"{entries[0].track}: gain and retention", loc="left")
    spread = [(e.gain_between, e.retention_between) for e in shown if e.gain_between + e.retention_between >= 0]
    about = f"Entries: {len(shown)}; seeds of each: {_seeds(shown)}"
    about += ", sd {:.1f} in gain and {:.1f} in retention (median)".format(*np.median(spread, axis=0)) if spread else ""
    about += ". Bars: 95 % intervals over items. Steps: the best a method reaches over its settings; the rest is pale."
    about += f" Without gain or retention, not drawn: {len(entries) - len(shown)}." * (len(shown) < len(entries))
    return _finish(figure, about)


def front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points `[n]` that no other equals or beats on both axes, by rising x; of twins, one."""
    kept: list[int] = []
    for i in np.lexsort((-y, -x)):  # by falling x, so that a point must rise above all before it
        if not kept or y[i] > y[kept[-1]]:
            kept.append(int(i))
    return np.array(kept[::-1], int)


def law_figure(points: Rows, methods: Iterable[str] = ()) -> Figure:
    """Forgetting (points) over drift (nats an episode) with the quadratic law fitted to the end points and its band.

    `points` are rows of `Store.law_points`; `methods` are those of the track, so that its pictures agree in colours.
    """
    drift, forgetting, lr_steps = (np.array([p[n] for p in points], float) for n in ("drift", "forgetting", "lr_steps"))
    method, entry = (np.array([point[name] for point in points], str) for name in ("variant", "entry"))
    end, look = np.array([point["end"] for point in points], bool), styles([*methods, *method.tolist()])
    figure, ((ax,),) = _sheet()
    ax.axhline(0, color="0.6", lw=1, zorder=1)
    for name in sorted(set(method.tolist())):
        color, marker, key = look[name]["color"], look[name]["marker"], printable(name, KEY)
        hollow, filled = (method == name) & ~end, (method == name) & end
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": color, "alpha": 0.5, "label": f"_{key}, middle"}
        ax.scatter(drift[hollow], forgetting[hollow], s=10, marker=marker, lw=0.6, zorder=1.5, **ring)
        rim: dict[str, Any] = {"edgecolors": "white", "lw": 0.4, "label": key}
        ax.scatter(drift[filled], forgetting[filled], s=40, c=color, marker=marker, zorder=3, **rim)
    if not end.all():
        ax.scatter([], [], s=10, facecolors="none", edgecolors="0.3", lw=0.6, label="in mid-training")
    x, y, rival = drift[end], forgetting[end], log_rate_steps(lr_steps)[end]
    title = f"too few points for a law\nend points: {len(x)}, different drifts: {len(set(x))}; needed: 4 and 3"
    about = f"Filled: {len(x)} end points, every seed its own. Above 0 it has forgotten."
    if determined(x, y):
        law = fit_law(x, y, method[end], rival, cluster=entry[end])
        limits = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}  # of the points: a loose band must not squeeze them
        grid = np.linspace(x.min(), x.max(), 200)
        ax.plot(grid, law.predict(grid), color="0.25", lw=1.8, zorder=2.5, label="quadratic law")
        ax.fill_between(grid, *law.band(grid), color="0.5", alpha=0.25, lw=0, zorder=1, label="95 % bootstrap band")
        limit = min(9 / law.n, 0.5)  # three times the mean hat value; beyond 1/2 it is high at any n (Huber 1981)
        if (high := law.leverage > limit).any():
            ring = {"facecolors": "none", "edgecolors": "0.1", "label": f"leverage above {limit:.2g}"}
            ax.scatter(x[high], y[high], s=130, lw=1.2, zorder=4, **ring)
        ax.set(**limits)
        left_out, baseline, known = law.r2_left_out_pooled, law.baseline_r2, int(np.isfinite(rival).sum())
        title = f"forgetting by drift, R² {law.r2:.2f} (all {law.n} end points)\n"
        title += f"leaving one method out {left_out:.2f}; to beat: log(lr × steps) {baseline:.2f}"
        title = title.replace("nan", "unknown") + f" (of {known} points)" * (0 < known < law.n)
        about += " Band: entries resampled. Left out: each method is predicted from the others, all points pooled."
    ax.set_title(f"{points[0]['track']}: {title}" if points else title, loc="left")
    ax.set(xlabel="drift, forward KL on the new task (nats an episode)", ylabel="forgetting of prior tasks (points)")
    return _finish(figure, about)


def curves_figure(entries: Sequence[Entry], curve: Rows) -> Figure:
    """Small multiples of `PANELS` over training steps, one line a method at the entry that `chosen` picks.

    `curve` are rows of `Store.curve`. A line is the mean over seeds, its shade goes from the lowest to the highest.
    """
    look, has_curve = styles(methods_of(entries)), {point["submission"] for point in curve}
    picked = chosen([entry for entry in entries if any(run["id"] in has_curve for run in entry.runs)])
    curves = {name: {method: by_seed(entry, curve, name) for method, entry in picked.items()} for name in PANELS}
    series = {name: {m: line for m, line in lines.items() if len(line[0])} for name, lines in curves.items()}
    if not series["reward"]:
        del series["reward"]
    figure, axes = _sheet(2, 2, 7.5) if len(series) == 4 else _sheet(1, 3, 4)
    for ax, (name, lines) in zip(axes.flat, series.items(), strict=True):
        for method, (steps, seeds) in lines.items():
            lr = picked[method].settings.get("lr")
            about = f", lr {lr:g}" if isinstance(lr, float) else f": {printable(picked[method].name)}"
            every = {"markevery": max(len(steps) // 8, 1), "label": fill(f"{printable(method, KEY)}{about}", 28)}
            ax.plot(steps, seeds.mean(0), lw=1.4, ms=4, **every, **look[method])
            ax.fill_between(steps, seeds.min(0), seeds.max(0), color=look[method]["color"], alpha=0.12, lw=0)
        ax.set_title(PANELS[name], loc="left", fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("training step")
    figure.suptitle(f"{entries[0].track}: {'training' if picked else 'no training'} curves", x=0.01, ha="left")
    about = f"Of each method the entry that retains most among those with at least {100 * NEAR_BEST:.0f} % of its best "
    about += f"gain. Lines: mean over seeds ({_seeds(list(picked.values()))}), shaded from the lowest to the highest."
    return _finish(figure, about if picked else "")


def conflicts_figure(landscapes: Sequence["Landscape"], thresholds: "Thresholds", title: str) -> Figure:
    """What a policy makes of each element of several data sets: its probability × the policy's entropy there.

    As in arXiv 2601.02151, figure 1, but that both axes are logarithmic; the corner of the confident conflicts is
    framed, and its share told.
    """
    figure, axes = _sheet(1, len(landscapes), 4.4, sharey=True)
    x, y = ([_log10(getattr(each, name)) for each in landscapes] for name in ("probability", "entropy"))
    limit = float(_log10(thresholds.probability)), float(_log10(thresholds.entropy))
    least = [min(limit[i], *map(np.min, z)) - 0.5 for i, z in enumerate((x, y))]
    edges = [np.linspace(low, max(low + 1, *map(np.max, z)), 51) for low, z in zip(least, (x, y), strict=True)]
    shares = [np.histogram2d(*each, edges)[0].T / len(each[0]) for each in zip(x, y, strict=True)]
    norm = LogNorm(min(share[share > 0].min() for share in shares), max(share.max() for share in shares))
    for ax, each, share in zip(axes.flat, landscapes, shares, strict=True):
        mesh = ax.pcolormesh(*edges, np.ma.masked_equal(share, 0), norm=norm, rasterized=True)
        ax.plot([edges[0][0], limit[0], limit[0]], [limit[1], limit[1], edges[1][0]], color=COLORS[1], lw=1.6, ls="--")
        conflicts = 100 * float(thresholds.conflicts(each).mean())
        ax.set_title(f"{printable(each.name)}\nconflicts: {conflicts:.2f} %", loc="left", fontsize=10)
        ax.set_xlabel("probability (log₁₀)")
    axes.flat[0].set_ylabel("entropy (log₁₀ nats)")
    figure.colorbar(mesh, ax=axes.ravel().tolist(), label="share of elements", format="{x:.0e}")  # type: ignore
    figure.suptitle(f"{title}: what stands there, and how sure the policy is", x=0.01, ha="left")
    about = f"Elements: {', '.join(f'{len(each.entropy):,}' for each in landscapes)}. Framed: confident conflicts, "
    about += f"probability up to {thresholds.probability:.3g}, entropy up to {thresholds.entropy:.3g} nats."
    return _finish(figure, about)


def _log10(x: Any) -> np.ndarray:
    """log₁₀ of a probability or an entropy, of the least that is drawn at least."""
    return np.log10(np.maximum(x, 1e-12))


def chosen(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Method → its entry that retains most among those within `NEAR_BEST` of its best gain."""
    # Unlike a quantile, a bar relative to the best does not move when more weak settings are tried.
    known = [entry for entry in entries if np.isfinite([entry.gain.value, entry.retention.value]).all()]
    best = {m: max(entry.gain.value for entry in known if entry.variant == m) for m in methods_of(known)}
    bar = {method: gain - (1 - NEAR_BEST) * abs(gain) for method, gain in best.items()}
    known.sort(key=lambda entry: (entry.retention.value, entry.gain.value))
    picked = {entry.variant: entry for entry in known if entry.gain.value >= bar[entry.variant]}  # the last one stays
    return dict(sorted(picked.items()))


def by_seed(entry: Entry, curve: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps `[t]` and one curve a seed `[seeds, t]`, at the steps where every seed that has this column has it."""
    known = [point for point in curve if point[name] is not None]
    columns = ({p["step"]: p[name] for p in known if p["submission"] == run["id"]} for run in entry.runs)
    runs = [values for values in columns if values]
    steps = sorted(set.intersection(*map(set, runs))) if runs else []
    return np.array(steps), np.array([[values[step] for step in steps] for values in runs])


def methods_of(entries: Iterable[Entry]) -> list[str]:
    """The methods of entries, by name."""
    return sorted({entry.variant for entry in entries})


def styles(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Method → colour, marker and line style, as `Axes.plot` takes them; 56 methods all differ."""
    named = enumerate(sorted(set(methods)))
    return {m: {"color": COLORS[i % 7], "marker": MARKERS[i % 8], "ls": DASHES[i // 7 % 4]} for i, m in named}


def _interval(estimates: Sequence[Estimate]) -> np.ndarray:
    """Values, lows and highs `[3, n]`; a bound that is not known is the value, so that its bar has no length."""
    rows = np.array([[e.value, e.low, e.high] for e in estimates]).T
    return np.where(np.isnan(rows), rows[0], rows)


def _sheet(rows: int = 1, columns: int = 1, height: float = 6.5, sharey: bool = False) -> tuple[Figure, Any]:
    """A figure and its axes `[rows, columns]`."""
    figure = Figure(figsize=(10.5, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    axes = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)
    for ax in axes.flat:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(figure: Figure, caption: str) -> Figure:
    """Put a key beside the axes, never over data, and a caption below; a long key makes the figure taller."""
    keys = {label: handle for ax in figure.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    where: dict[str, Any] = {"loc": "outside right upper", "frameon": False, "fontsize": 9, "handlelength": 3}
    for text in figure.legend(keys.values(), keys.keys(), **where).get_texts() if keys else ():
        text.set_parse_math(False)  # names are what people typed, dollar signs included
    figure.set_figheight(max(figure.get_figheight(), 0.7 + 0.21 * sum(1 + label.count("\n") for label in keys)))
    figure.supxlabel(fill(caption, 135), x=0.01, ha="left", fontsize=8.5, color="0.3")
    return figure


def _seeds(entries: Sequence[Entry]) -> str:
    return " to ".join(map(str, sorted({pick(e.seeds for e in entries) for pick in (min, max)}))) if entries else "0"
