"""Entries of a track with intervals over items, seeds apart, and ties that are ties."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from razorbench.harness.measure import record as files
from razorbench.harness.measure.record import Record
from razorbench.harness.store.database import Store
from razorbench.harness.store.results import compare, show, table
from tests.board_home import TRACK, small
from tests.test_record import make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def put(store: Store, record: Record, new: tuple, prior: tuple, drift: list[float] | None = None) -> None:
    """Add a record with samples: (base, adapted) of the new task and of the one prior task."""
    parts = [("sums-v1", "new", *new), ("copy-v1", "prior", *prior)]
    rows = [
        (task, role, str(i), *pair)
        for task, role, base, adapted in parts
        for i, pair in enumerate(zip(base, adapted, strict=True))
    ]
    names = ("task", "role", "item", "base", "adapted")
    samples = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    drifts = None if drift is None else drift + [None] * (len(rows) - len(drift))
    files.write(store.home, record, samples | {"drift": drifts})
    store.add(record)


FLAT = ([0.0] * 40, [0.0] * 40)


def test_an_empty_track_has_no_entries(store: Store):
    assert table(store, "tiny-v1") == []


def test_one_seed_is_shown_as_it_was_recorded(store: Store):
    put(store, make(), FLAT, FLAT)
    (entry,) = table(store, "tiny-v1")
    assert (entry.gain.value, entry.gain.low, entry.gain.high, entry.gain.se) == (50.0, 10.0, 90.0, 20.0)
    assert (entry.retention.value, entry.drift.value, entry.drift.se) == (-20.0, 0.4, 0.1)
    assert math.isnan(entry.gain_between)
    assert [(e.task, e.role, e.suite, e.base, e.adapted, e.difference.value) for e in entry.effects] == [
        ("sums-v1", "new", "math", 25.0, 75.0, 50.0),
        ("copy-v1", "prior", "skills", 80.0, 60.0, -20.0),
    ]
    assert entry.effects[0].difference.n == 4
    assert entry.rank == 1


def test_seeds_are_averaged_by_item_and_few_changes_keep_a_width(store: Store):
    prior = ([1.0, 1.0], [1.0, 0.0])
    put(store, make("s0", seed=0, gain=25.0), ([0, 0, 1, 1], [1, 0, 1, 1]), prior, [0.1, 0.3, 0.1, 0.3])
    put(store, make("s1", seed=1, gain=50.0), ([0, 0, 1, 1], [1, 1, 1, 1]), prior, [0.3, 0.5, 0.3, 0.5])
    (entry,) = table(store, "tiny-v1")
    assert entry.seeds == len(entry.runs) == 2
    # Differences by item, averaged over seeds: 1, 1/2, 0, 0. With one made up their size is (1 + 1/4 + 1) / (3/2 + 1),
    # and they are 1.5 / 0.9 won of 4, beside 0.85 in each of three cells.
    assert entry.gain.value == pytest.approx(37.5)
    cells, won, lost = 4 + 3 * 0.85, 1.5 / 0.9 + 0.85, 0.85
    variance = ((won + lost) / cells - ((won - lost) / cells) ** 2) / (cells + 1)
    assert entry.gain.se == pytest.approx(100 * 0.9 * variance**0.5)
    assert entry.gain.low < 0  # two items tell nothing
    assert entry.gain.n == 4
    assert entry.retention.value == pytest.approx(-50.0)
    # Drift by item: 0.2, 0.4, 0.2, 0.4. Mean 0.3, variance 0.04 / 3.
    assert entry.drift.value == pytest.approx(0.3)
    assert entry.drift.se == pytest.approx((0.04 / 3 / 4) ** 0.5)
    assert entry.gain_between == pytest.approx(25 / 2**0.5)  # sd of the recorded 25 and 50
    assert [(e.task, e.suite, e.base, e.adapted) for e in entry.effects if e.role == "new"] == [
        ("sums-v1", "math", 50.0, 87.5)
    ]


def test_an_item_unscored_in_one_seed_counts_by_the_other_and_in_both_is_unscored(store: Store):
    nan = float("nan")
    new, prior = make().scores
    lost = [replace(new, unscored=1), prior]
    put(store, make("s0", seed=0, scores=lost), ([0, 0, 0], [1, nan, nan]), FLAT)
    put(store, make("s1", seed=1, scores=lost), ([0, 0, 0], [0, 1, nan]), FLAT)
    (entry,) = table(store, "tiny-v1")
    assert (entry.gain.value, entry.gain.n, entry.gain.unscored) == (pytest.approx(75.0), 2, 1)  # mean of 1/2 and 1
    assert entry.unscored == 2  # as the records say: one each


def test_fronts_rank_what_can_be_told_apart_and_tie_what_cannot(store: Store):
    n, zero = 400, [0.0] * 400
    won = [1.0] * 200 + [0.0] * 200
    almost = [1.0] * 199 + [0.0] * 201
    kept, lost = (zero, zero), ([1.0] * n, [0.0] * n)
    put(store, make("a", method="a", gain=50.0, retention=0.0), (zero, won), kept)
    put(store, make("b", method="b", gain=49.75, retention=0.0), (zero, almost), kept)
    put(store, make("c", method="c", gain=0.0, retention=-100.0), (zero, zero), lost)
    put(store, make("d", method="d", gain=None, retention=0.0), (zero, zero), kept)
    assert [(entry.method, entry.rank) for entry in table(store, "tiny-v1")] == [
        ("a", 1),
        ("b", 1),
        ("c", 2),
        ("d", None),
    ]


def test_entries_that_answered_other_items_are_held_against_each_other_on_those_of_both(store: Store):
    kept, half = ([0.0] * 4, [0.0] * 4), 20
    put(store, make("a", method="a", gain=60.0, retention=0.0), ([0.0] * 40, [1.0] * half + [0.0] * half), kept)
    put(store, make("b", method="b", gain=0.0, retention=0.0), ([0.0] * half, [0.0] * half), kept)
    put(store, make("c", method="c", gain=0.0, retention=0.0), ([0.0] * 2, [0.0] * 2), kept)
    ranks = {entry.method: entry.rank for entry in table(store, "tiny-v1")}
    assert ranks == {"a": 1, "b": 2, "c": 1}  # two items do not tell c from a


@pytest.mark.slow
def test_four_items_lost_in_one_seed_of_three_are_no_loss_and_lose_no_rank(store: Store):
    kept, lost = [1.0] * 150, [0.0] * 4 + [1.0] * 146
    for seed in range(3):
        put(store, make(f"a{seed}", method="a", seed=seed, gain=0.0), FLAT, (kept, kept if seed else lost))
        put(store, make(f"b{seed}", method="b", seed=seed, gain=0.0), FLAT, (kept, kept))
    first, second = sorted(table(store, "tiny-v1"), key=lambda entry: entry.method)
    assert first.retention.low < 0 <= first.retention.high
    assert (first.rank, second.rank) == (1, 1)
    (row,) = [row for row in compare(store, first, second) if row.role == "prior"]
    assert row.p == pytest.approx(2 / 16)
    assert row.difference.low <= 0 < row.difference.high
    other = compare(store, second, first)[-1].difference
    assert (other.low, other.high) == pytest.approx((-row.difference.high, -row.difference.low))


def pairs(store: Store, id: str, method: str, tasks: dict[str, list[float]], shared: bool = True, **changes) -> None:
    """Add a record whose base has every item of its prior tasks right; items of one number share a box."""
    names = ["sums-v1", *tasks]
    after = [[0.0] * 20, *tasks.values()]
    rows = [(task, str(i), score) for task, scores in zip(names, after, strict=True) for i, score in enumerate(scores)]
    samples = {
        "task": [task for task, _, _ in rows],
        "role": ["new" if task == "sums-v1" else "prior" for task, _, _ in rows],
        "item": [item for _, item, _ in rows],
        "base": [float(task != "sums-v1") for task, _, _ in rows],
        "adapted": [score for _, _, score in rows],
    }
    if shared:
        samples["cluster"] = [None if task == "sums-v1" else f"box {item}" for task, item, _ in rows]
    files.write(store.home, make(id, method=method, gain=0.0, **changes), samples)


@pytest.mark.parametrize(("shared", "ranks"), [(True, {"a": 1, "b": 1}), (False, {"a": 1, "b": 2})])
def test_items_that_share_a_box_count_once_for_a_front(store: Store, shared: bool, ranks: dict[str, int]):
    kept, lost = [1.0] * 40, [0.0] * 3 + [1.0] * 37  # three boxes, lost in two tasks each: six items
    for seed in (0, 1):
        pairs(store, f"a{seed}", "a", {"push-v1": kept, "lift-v1": kept}, shared, seed=seed)
        pairs(store, f"b{seed}", "b", {"push-v1": lost, "lift-v1": lost}, shared, seed=seed)
    store.reconcile()
    assert {entry.method: entry.rank for entry in table(store, "tiny-v1")} == ranks


def test_retention_over_tasks_that_share_boxes_is_wider_than_if_they_did_not(store: Store):
    lost = [0.0] * 10 + [1.0] * 30
    for method, shared in (("together", True), ("apart", False)):
        for seed in (0, 1):
            pairs(store, f"{method}{seed}", method, {"push-v1": lost, "lift-v1": lost}, shared, seed=seed)
    store.reconcile()
    retention = {entry.method: entry.retention for entry in table(store, "tiny-v1")}
    assert retention["together"].value == retention["apart"].value == pytest.approx(-25.0)
    assert retention["together"].se == pytest.approx(
        2**0.5 * retention["apart"].se
    )  # the same items twice tell nothing new
    assert retention["together"].low < retention["apart"].low


@pytest.mark.slow
def test_what_is_made_step_by_step_is_what_a_rebuild_makes(tmp_path: Path):
    store = small(tmp_path)
    for id, kind, value in (
        ("sft-0", "hidden", None),
        ("grpo-1", "renamed", "x"),
        ("dr-grpo-0", "verified", "differs"),
    ):
        store.decide(f"{TRACK}-{id}", kind, "why", value)
    store.decide(f"{TRACK}-sft-0", "unhidden", "why")
    store.decide(f"{TRACK}-grpo-0", "retracted", "why")
    derived = ("runs", "law", "entries", "effects", "item_sets", "laws")
    before = {name: sorted(map(repr, store.rows(f"FROM {name}"))) for name in derived}
    store.rebuild()
    assert {name: sorted(map(repr, store.rows(f"FROM {name}"))) for name in derived} == before


def test_hidden_submissions_leave_the_table(store: Store):
    put(store, make("s0", seed=0), FLAT, FLAT)
    put(store, make("s1", seed=1), FLAT, FLAT)
    store.decide("s1", "hidden", "why")
    (entry,) = table(store, "tiny-v1")
    assert [run["id"] for run in entry.runs] == ["s0"]
    store.decide("s0", "retracted", "why")
    assert table(store, "tiny-v1") == []


def test_a_submission_is_shown_whole(store: Store):
    put(store, make(), FLAT, FLAT)
    store.decide("r1", "renamed", "typo", "better")
    shown = show(store, "better")
    assert shown["run"]["id"] == "r1"
    assert [len(shown[part]) for part in ("scores", "drifts", "curve", "events")] == [2, 1, 3, 1]
    assert files.read(Path(shown["folder"])) == make()


def test_repeats_of_an_item_are_one_item(store: Store):
    twice = ([0, 0, 0, 0], [1, 1, 0, 1])
    for seed in (0, 1):
        rows = {"task": ["sums-v1"] * 4, "role": ["new"] * 4, "item": ["x", "x", "y", "y"]}
        files.write(store.home, make(f"s{seed}", seed=seed), rows | {"base": twice[0], "adapted": np.array(twice[1])})
    store.reconcile()
    (entry,) = table(store, "tiny-v1")
    assert (entry.gain.value, entry.gain.n) == (75.0, 2)
    assert math.isnan(entry.retention.value)
