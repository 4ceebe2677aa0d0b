"""The pictures of a track hold the numbers of its board."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from razorbench import Refused
from razorbench.harness.measure import record as files
from razorbench.harness.measure.law import fit_law
from razorbench.harness.measure.record import Drift, Point
from razorbench.harness.report.plots import (
    COLORS,
    by_seed,
    chosen,
    curves_figure,
    draw,
    front,
    gain_retention,
    law_figure,
    styles,
)
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry
from razorbench.harness.store.results import table
from tests.test_record import make

TRACK = "tiny-v1"
LRS = (0.001, 0.002, 0.004, 0.008)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two methods at four learning rates, the first with two seeds; forgetting is 1 + 10·drift + 5·drift² points."""
    store = Store(tmp_path_factory.mktemp("plots") / "home")
    for method, seeds in (("grpo", 2), ("sft", 1)):
        for i, lr in enumerate(LRS):
            for seed in range(seeds):
                drift = (0.1 if method == "grpo" else 0.5) * (i + 1) + 0.05 * seed
                curve = (
                    Point(0, new=25.0, prior=80.0, drift=0.0),
                    Point(5, lr=lr, reward=0.25 + 0.5 * seed if method == "grpo" else None),
                    Point(50, lr=lr, new=50.0 + 2 * seed, prior=79.0, drift=drift / 2),
                    Point(100, end=True, new=75.0, prior=70.0, drift=drift),
                )
                won, kept = 10 + 2 * i, 18 - 2 * i if method == "grpo" else 6 - i  # of 20 items
                record = make(
                    f"{method}-{i}-{seed}",
                    name=f"{method} lr {lr}",
                    method=method,
                    settings={"lr": lr},
                    seed=seed,
                    gain=5.0 * won,
                    retention=-(1 + 10 * drift + 5 * drift**2),
                    drifts=(Drift("sums-v1", "forward", "episode", drift, 0.01, 20),),
                    curve=curve,
                )
                samples = {
                    "task": ["sums-v1"] * 20 + ["copy-v1"] * 20,
                    "role": ["new"] * 20 + ["prior"] * 20,
                    "item": list(range(20)) * 2,
                    "base": [0.0] * 20 + [1.0] * 20,
                    "adapted": [1.0] * won + [0.0] * (20 - won) + [1.0] * kept + [0.0] * (20 - kept),
                }
                files.write(store.home, record, samples)
    store.reconcile()
    return store


@pytest.fixture(scope="module")
def entries(store: Store) -> list[Entry]:
    return table(store, TRACK)


def curve_of(store: Store, entries: list[Entry]) -> list[dict[str, Any]]:
    return store.curve(*(run["id"] for entry in entries for run in entry.runs))


def dots(figure: Figure, label: str) -> set[tuple[float, float]]:
    """The points that the axes hold under a label, rounded."""
    offsets = [np.asarray(c.get_offsets()) for c in figure.axes[0].collections if c.get_label() == label]
    return {(round(float(x), 6), round(float(y), 6)) for x, y in np.concatenate(offsets)}


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def keys(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_track_is_drawn_as_three_png_files_of_sensible_size(store: Store, tmp_path: Path):
    paths = draw(store, TRACK, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["gain-retention.png", "law.png", "curves.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width == 1575  # 10.5 inches at 150 dpi
            assert 600 <= image.height <= 1500
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50  # not blank
        assert path.stat().st_size < 1_000_000


def test_a_track_without_rows_is_refused_and_nothing_is_written(store: Store, tmp_path: Path):
    with pytest.raises(Refused, match=r"nothing is scored on parity-mnist-v1 in .*: run `razorbench demo`"):
        draw(store, "parity-mnist-v1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- gain × retention -------------------------------------------------------------------------------------------------


def test_every_entry_is_a_point_with_its_intervals(entries: list[Entry]):
    figure = gain_retention(entries)
    for method in ("grpo", "sft"):
        theirs = [entry for entry in entries if entry.method == method]
        want = {(round(e.gain.value, 6), round(e.retention.value, 6)) for e in theirs}
        assert dots(figure, f"_{method}, all") == want
        assert len(want) == 4
    bars = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    ends = {tuple(np.round(s, 6).ravel().tolist()) for bar in bars for s in bar.get_segments()}
    for e in entries:
        x, y = e.gain, e.retention
        for bar in ((x.low, y.value, x.high, y.value), (x.value, y.low, x.value, y.high)):
            assert tuple(np.round(bar, 6).tolist()) in ends
    assert len(ends) == 16
    assert keys(figure) == ["grpo", "sft"]


def test_the_caption_says_how_many_seeds_and_what_is_not_drawn(entries: list[Entry]):
    assert "Entries: 8; seeds of each: 1 to 2, sd 0.0 in gain" in caption(gain_retention(entries))
    unknown = replace(entries[0], retention=replace(entries[0].retention, value=np.nan))
    assert "Entries: 7" in caption(gain_retention([unknown, *entries[1:]]))
    assert "not drawn: 1." in caption(gain_retention([unknown, *entries[1:]]))


def test_a_front_holds_what_no_other_point_equals_or_beats_on_both_axes():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 12, (2, 60)).astype(float)  # with ties and twins
    on = front(x, y)
    beaten = [any((x >= a) & (y >= b) & ((x > a) | (y > b))) for a, b in zip(x, y, strict=True)]
    assert {(x[i], y[i]) for i in on} == {(a, b) for a, b, lost in zip(x, y, beaten, strict=True) if not lost}
    assert (np.diff(x[on]) > 0).all()
    assert (np.diff(y[on]) < 0).all()
    assert front(np.array([1.0, 2, 3, 2]), np.array([9.0, 5, 7, 5])).tolist() == [0, 2]


def test_the_front_of_a_method_is_drawn_as_steps_through_its_best_entries(entries: list[Entry]):
    best, worse = entries[0], entries[0].gain.value - 5
    behind = replace(best, gain=replace(best.gain, value=worse), retention=replace(best.retention, value=-99.0))
    lines = {str(line.get_label()): line for line in gain_retention([*entries, behind]).axes[0].lines}
    for method in ("grpo", "sft"):  # in this home more gain always retains less
        want = sorted((e.gain.value, e.retention.value) for e in entries if e.method == method)
        assert np.array(lines[method].get_data()).T.tolist() == pytest.approx(np.array(want))
        assert lines[method].get_drawstyle() == "steps-pre"


def test_an_interval_that_is_not_known_draws_no_bar(entries: list[Entry], tmp_path: Path):
    bare = replace(entries[0], gain=replace(entries[0].gain, low=np.nan, high=np.nan))
    gain_retention([bare]).savefig(tmp_path / "bare.png")  # warnings are errors


# --- the law ----------------------------------------------------------------------------------------------------------


def test_the_law_goes_through_the_quadratic_that_made_the_points(store: Store):
    figure = law_figure(store.law_points(TRACK))
    (law,) = [line for line in figure.axes[0].lines if line.get_label() == "quadratic law"]
    x, y = np.array(law.get_data())
    assert (x.min(), x.max()) == pytest.approx((0.1, 2.0))  # no further than the end points
    assert y == pytest.approx(1 + 10 * x + 5 * x**2)


def test_end_points_are_filled_and_checkpoints_in_mid_training_hollow(store: Store):
    figure = law_figure(store.law_points(TRACK))
    drift = np.array([0.5, 1.0, 1.5, 2.0])
    assert dots(figure, "sft") == {(d, round(1 + 10 * d + 5 * d**2, 6)) for d in drift.tolist()}
    assert dots(figure, "_sft, middle") == {(d / 2, 1.0) for d in drift.tolist()}  # 80 − 79
    assert len(dots(figure, "grpo")) == 8
    assert keys(figure)[:3] == ["grpo", "sft", "in mid-training"]


def test_the_title_of_the_law_tells_what_it_is_worth(store: Store):
    points = store.law_points(TRACK)
    rng = np.random.default_rng(1)
    noisy = [point | {"forgetting": point["forgetting"] + rng.normal(0, 3)} for point in points]
    ends = [point for point in noisy if point["end"]]
    x, y, lr_steps = (np.array([point[name] for point in ends]) for name in ("drift", "forgetting", "lr_steps"))
    fit = fit_law(x, y, [point["method"] for point in ends], np.log(lr_steps))
    title = law_figure(noisy).axes[0].get_title(loc="left")
    assert title == (
        f"tiny-v1: forgetting by drift, R² {fit.r2:.2f} (all 12 end points)\n"
        f"leaving one method out {fit.r2_left_out_pooled:.2f}; to beat: log(lr × steps) {fit.baseline_r2:.2f}"
    )
    unknown = [point | {"lr_steps": None} for point in noisy]
    assert law_figure(unknown).axes[0].get_title(loc="left").endswith("log(lr × steps) unknown")


def test_points_that_carry_the_fit_are_ringed():
    point = {"track": TRACK, "variant": "sft", "end": True, "lr_steps": None}
    drift = [*np.linspace(0, 1, 20).tolist(), 9.0]
    points = [point | {"entry": str(i), "drift": d, "forgetting": d + i % 2} for i, d in enumerate(drift)]
    assert dots(law_figure(points), f"leverage above {9 / 21:.2g}") == {(9.0, 9.0)}


@pytest.mark.parametrize(("drifts", "counted"), [([], "0, different drifts: 0"), ([1, 2, 3], "3, different drifts: 3")])
def test_too_few_points_are_drawn_and_the_title_says_so(drifts: list[float], counted: str, tmp_path: Path):
    point = {"track": TRACK, "variant": "sft", "end": True, "lr_steps": 0.1}
    points = [point | {"entry": str(d), "drift": d, "forgetting": d} for d in drifts]
    figure = law_figure(points, ["sft"])
    assert f"too few points for a law\nend points: {counted}" in figure.axes[0].get_title(loc="left")
    assert not points or dots(figure, "sft") == {(d, d) for d in drifts}
    figure.savefig(tmp_path / "law.png")


# --- training curves --------------------------------------------------------------------------------------------------


def test_curves_show_the_mean_over_seeds_of_one_entry_a_method(store: Store, entries: list[Entry]):
    figure = curves_figure(entries, curve_of(store, entries))
    panels = {ax.get_title(loc="left"): {line.get_label(): line for line in ax.lines} for ax in figure.axes}
    assert list(panels) == [
        "new task (points)",
        "prior tasks, mean (points)",
        "drift (forward KL, nats)",
        "training reward",
    ]
    new, _, drift, reward = panels.values()
    assert np.array(new["grpo, lr 0.008"].get_data()).tolist() == [[0, 50, 100], [25, 51, 75]]
    assert np.array(new["sft, lr 0.008"].get_data()).tolist() == [[0, 50, 100], [25, 50, 75]]
    assert np.array(drift["sft, lr 0.008"].get_data()).tolist() == [[0, 50, 100], [0, 1, 2]]
    assert np.array(reward["grpo, lr 0.008"].get_data()).tolist() == [[5], [0.5]]
    assert list(reward) == ["grpo, lr 0.008"]
    assert "at least 90 % of its best gain. Lines: mean over seeds (1 to 2)" in caption(figure)


def test_the_entry_shown_retains_most_among_those_near_the_best_gain(entries: list[Entry]):
    def at(gain: float, retention: float) -> Entry:
        entry = entries[0]
        return replace(entry, gain=replace(entry.gain, value=gain), retention=replace(entry.retention, value=retention))

    points = [at(50.0, -20.0), at(45.0, -5.0), at(44.0, -1.0), at(46.0, -9.0), at(np.nan, 0.0), at(60.0, np.nan)]
    assert chosen(points) == {entries[0].method: points[1]}  # the bar is at 45
    losses = [at(-10.0, -3.0), at(-10.5, -2.0), at(-12.0, 0.0)]
    assert chosen(losses) == {entries[0].method: losses[1]}  # the bar is at −11


def test_steps_that_a_seed_lacks_are_left_out_and_so_is_a_seed_without_the_column(entries: list[Entry]):
    entry = replace(entries[0], runs=({"id": "a"}, {"id": "b"}, {"id": "c"}))
    rows = [("a", 0, 1.0), ("a", 10, 3.0), ("a", 20, 9.0), ("b", 0, 2.0), ("b", 10, 5.0), ("c", 0, None)]
    curve = [{"submission": id, "step": step, "new": value} for id, step, value in rows]
    steps, seeds = by_seed(entry, curve, "new")
    assert steps.tolist() == [0, 10]
    assert seeds.tolist() == [[1, 3], [2, 5]]


def test_without_rewards_there_is_no_reward_panel_and_without_curves_the_title_says_so(
    store: Store, entries: list[Entry], tmp_path: Path
):
    curve = [row | {"reward": None} for row in curve_of(store, entries)]
    assert len(curves_figure(entries, curve).axes) == 3
    none = curves_figure(entries, [])
    assert none.get_suptitle() == "tiny-v1: no training curves"
    none.savefig(tmp_path / "none.png")


# --- looks ------------------------------------------------------------------------------------------------------------


def test_fifty_six_methods_differ_in_colour_marker_or_line():
    look = styles(f"m{i:02d}" for i in range(56))
    assert len({tuple(style.values()) for style in look.values()}) == 56
    assert len({style["color"] for style in look.values()}) == len(COLORS) == 7


def test_a_method_has_one_colour_in_all_pictures_of_a_track(store: Store, entries: list[Entry]):
    points = [point for point in store.law_points(TRACK) if point["method"] == "sft"]
    (sft,) = [c for c in law_figure(points, ["grpo", "sft"]).axes[0].collections if c.get_label() == "sft"]
    lines = {line.get_label(): line for line in gain_retention(entries).axes[0].lines}
    assert lines["sft"].get_color() == COLORS[1]
    assert np.asarray(sft.get_facecolor())[0, :3].tolist() == pytest.approx([0xD5 / 255, 0x5E / 255, 0])


def test_names_that_people_typed_are_no_formulas_and_long_keys_make_room(
    store: Store, entries: list[Entry], tmp_path: Path
):
    many = [replace(e, method=f"m{i}-{j}", name=r"costs $\x and $") for i in range(6) for j, e in enumerate(entries)]
    figure = curves_figure(many, curve_of(store, entries))
    figure.savefig(tmp_path / "many.png")
    box = figure.legends[0].get_window_extent()
    assert box.y0 > 0
    assert all(box.x0 >= ax.get_window_extent().x1 for ax in figure.axes)  # beside the data
