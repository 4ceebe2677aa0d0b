"""The board: every page, headless, over an empty home, a small one, and one that strangers have named."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from razorbench import Refused
from razorbench.harness.core.registry import ids
from razorbench.harness.learn.measures import MEASURES
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.report.export import publish
from razorbench.harness.report.text import printable
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Query
from razorbench.harness.store.results import compare, table
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.harness.tracks.variants import again
from razorbench.leaderboard import cards, frames
from razorbench.leaderboard.app import PAGES
from razorbench.leaderboard.snapshot import State
from tests import board_home
from tests.board_home import OTHER, TRACK, add, items, large, scored, small
from tests.hostile import HOSTILE, MARK, SOME

ROOT = Path(__file__).parent.parent
CARDS = ["mini-math-v1", "mini-logic-v1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A small home, which no test changes."""
    return small(tmp_path_factory.mktemp("small")).home


@pytest.fixture(scope="module")
def crowded(tmp_path_factory) -> Path:
    """A large home, which no test changes."""
    return large(tmp_path_factory.mktemp("large")).home


def nodes(block: Any) -> Iterator[Any]:
    """Everything on a page, blocks and elements."""
    for child in block.children.values():
        yield child
        if hasattr(child, "children"):
            yield from nodes(child)


def texts(at: AppTest) -> str:
    return "\n".join(element.value for element in at.text)


def rows(at: AppTest) -> pd.DataFrame:
    """The leaderboard of the track page."""
    return at.dataframe[0].value


# --- homes ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_of_an_empty_home_says_what_to_do(page, tmp_path, show):
    at = show(tmp_path / "home", page)
    told = " ".join([texts(at), *(each.value for each in (*at.info, *at.code, *at.markdown))])
    assert "razorbench" in told or page in ("tasks", "about")
    assert not (tmp_path / "home").exists()  # to look at it makes nothing


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_of_a_small_home_draws(page, home, show):
    at = show(home, page)
    assert at.title
    assert not at.error


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_of_a_large_home_draws(page, crowded, show):
    at = show(crowded, page)
    assert at.title
    assert not at.error


@pytest.mark.slow
def test_large_track_is_paged_and_all_entries_are_counted(crowded, show):
    track = next(iter(TRACKS))
    first, second = (rows(show(crowded, "track", track=track, page=page, columns="name")) for page in ("1", "2"))
    assert (len(first), len(second)) == (100, 10)
    assert set(first["name"]).isdisjoint(second["name"])
    entries = Store(crowded).entries(Query(track, sort="gain"))
    shown = rows(show(crowded, "track", track=track, page="2", sort="gain"))
    assert shown["gain"].tolist() == [entry.gain.value for entry in entries[100:]]
    cells = Store(crowded).density(Query(track), 40)
    assert sum(cell["n"] for cell in cells) == 110
    assert any("110 entries" in each.value for each in show(crowded, "overview").markdown)


@pytest.mark.slow
def test_page_beyond_the_last_shows_what_is_left(crowded, show):
    assert len(rows(show(crowded, "track", track=next(iter(TRACKS)), page="99"))) in (10, 100)


def test_missing_index_says_how_to_make_it(tmp_path, show):
    store = small(tmp_path)
    store.snapshot.unlink()
    assert "razorbench rebuild" in texts(show(tmp_path, "track"))


def test_torn_snapshot_says_how_to_mend_it(tmp_path, show):
    store = small(tmp_path)
    store.snapshot.write_bytes(store.snapshot.read_bytes()[:5_000])
    at = show(tmp_path, "track")
    assert at.error
    assert "razorbench rebuild" in texts(at)


def test_new_snapshot_is_read_and_the_old_one_not_again(tmp_path, show):
    store = small(tmp_path)
    before = len(rows(show(tmp_path, "track", track=TRACK)))
    store.decide(f"{TRACK}-grpo-0", "hidden", "twice")
    store.decide(f"{TRACK}-grpo-1", "hidden", "twice")
    assert len(rows(show(tmp_path, "track", track=TRACK))) == before - 1


# --- strangers --------------------------------------------------------------------------------------------------------

AS_TEXT = {"text", "code", "dataframe", "arrow_data_frame", "vega_lite_chart", "arrow_vega_lite_chart"} | {
    *("selectbox", "multiselect", "text_input"),
}
"""Elements that show their content as it is, and never as Markdown or HTML."""


def assert_only_text(at: AppTest) -> None:
    for node in nodes(at.main):
        if (proto := getattr(node, "proto", None)) is not None and MARK.encode() in proto.SerializeToString():
            assert node.type in AS_TEXT, f"{node.type}: {proto}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_hostile_texts_reach_no_markdown_and_no_html(page, strange, show):
    assert_only_text(show(strange, page, track=TRACK))


@pytest.mark.slow
def test_hostile_submission_is_shown_as_text(strange, show):
    at = show(strange, "submission", id="run-0")
    for i, text in enumerate(HOSTILE):
        at.query_params = {"id": f"run-{i}"}
        assert not at.run().exception
        assert_only_text(at)
        assert printable(text, 200).strip() in [element.value for element in at.text]


@pytest.mark.slow
def test_hostile_names_stand_in_the_table_as_they_are(strange, show):
    pages = [rows(show(strange, "track", track=TRACK, columns="name", page=page)) for page in "12"]
    names = pd.concat(pages)["name"].tolist()
    assert sorted(names) == sorted(printable(text) for text in HOSTILE)
    assert HOSTILE[0] in names  # what is harmless to a reader is not touched


@pytest.mark.slow
def test_hostile_search_finds_what_has_it_and_changes_nothing(strange):
    before, state = strange.joinpath("published.duckdb").read_bytes(), State(strange)
    held = {entry.id: f"{entry.name} {entry.method} {entry.differs}".lower() for entry in table(state, TRACK)}
    assert len(held) == len(HOSTILE) == 200
    for text in HOSTILE:
        asked = text.removesuffix(MARK).strip()
        hits = {entry.id for entry in state.entries(Query(TRACK, asked), effects=False)}
        assert hits == {id for id, told in held.items() if asked.lower() in told}, asked[:80]
    assert strange.joinpath("published.duckdb").read_bytes() == before


@pytest.mark.slow
def test_hostile_search_on_the_page_finds_its_entry(strange, show):
    at = show(strange, "track", track=TRACK, columns="name")
    for text in SOME:
        at.text_input(key="q").set_value(text).run()
        assert not at.exception
        assert printable(text) in rows(at)["name"].tolist()
        assert_only_text(at)


@pytest.mark.slow
def test_hostile_entries_are_compared(strange, show):
    chosen = [entry.id for entry in table(Store(strange), TRACK) if entry.name in SOME]
    at = show(strange, "compare", track=TRACK, ids=",".join(chosen))
    assert_only_text(at)
    assert not at.error


@pytest.mark.slow
@pytest.mark.parametrize("page", ["track", "submission", "compare", "samples"])
def test_hostile_permalink_is_text(page, home, show):
    at = show(home, page)
    for text in SOME:
        at.query_params = dict.fromkeys(
            ("id", "track", "ids", "task", "q", "sort", "search", "ring", "columns", "page"), text
        )
        assert not at.run().exception
        assert_only_text(at)


def test_path_in_a_permalink_reads_no_file(home, show):
    at = show(home, "samples", id="../../etc")
    assert at.error


def test_printable_shows_what_is_unseen_and_ends_what_is_long():
    assert printable("a\u202eb\nc\uffff") == "a�b�c�"
    assert printable("x" * 81) == "x" * 79 + "…"
    assert printable("x" * 80) == "x" * 80


# --- the track --------------------------------------------------------------------------------------------------------


def test_table_has_one_row_an_entry_with_its_intervals(home, show):
    frame = rows(show(home, "track", track=TRACK))
    assert frame.set_index("method")["gain"].to_dict() == {"sft": 100.0, "grpo": 75.0, "dr-grpo": 0.0}
    assert frame.set_index("method").loc["sft", "retention"] == -50.0
    assert frame["gain 95 %"].str.match(r"\[-?\d+\.\d, -?\d+\.\d\]").all()
    assert frame.set_index("method")["verified"].to_dict() == {"sft": "reproduced", "grpo": "no", "dr-grpo": "no"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "methods"),
    [
        ({"q": "DR-g"}, ["dr-grpo"]),
        ({"q": ".*"}, []),
        ({"method": "grpo"}, ["grpo"]),
        ({"verified": "reproduced"}, ["sft"]),
        ({"verified": "no", "sort": "gain"}, ["grpo", "dr-grpo"]),
        ({"sort": "retention"}, ["dr-grpo", "grpo", "sft"]),
    ],
)
def test_permalink_filters_and_sorts(parameters, methods, home, show):
    at = show(home, "track", track=TRACK, **parameters)
    if methods:
        assert rows(at)["method"].tolist() == methods
    else:
        assert "No entry is left" in at.info[0].value


def test_every_choice_on_the_track_page_is_bound_to_the_url(home, show):
    at = show(home, "track", track=TRACK)
    at.text_input(key="q").set_value("dr-").run()
    assert rows(at)["method"].tolist() == ["dr-grpo"]
    bound = {each.proto.query_param_key for each in (*at.selectbox, *at.text_input, *at.multiselect)}
    assert bound >= {"track", "q", "method", "base", "verified", "sort", "columns", "ring"}


def test_columns_are_chosen(home, show):
    assert list(rows(show(home, "track", track=TRACK, columns="name"))) == ["name"]


@pytest.mark.parametrize(("format", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_download_holds_the_rows_of_the_export(format, read, home, tmp_path):
    entries = table(Store(home), TRACK)
    publish(Store(home), TRACK, format, tmp_path / "export")
    assert read(tmp_path / "export")["gain"].tolist() == [e.gain.value for e in entries]


def test_both_downloads_are_offered(home, show):
    labels = [button.label for button in show(home, "track", track=TRACK).download_button]
    assert labels == ["Download as CSV", "Download as Parquet"]


def test_entry_is_opened_by_keyboard(home, show):
    at = show(home, "track", track=TRACK)
    entry = table(Store(home), TRACK)[0]
    (box,) = (box for box in at.selectbox if box.label == "Open a submission")
    box.set_value(entry.id).run()
    assert at.title[0].value == "Submission"
    assert at.query_params["id"] == entry.runs[0]["id"]


def test_every_chart_has_its_numbers_below_it(home, show):
    for page in ("track", "submission"):
        at = show(home, page, track=TRACK, **({"id": f"{TRACK}-sft-0"} if page == "submission" else {}))
        charts = [node for node in nodes(at.main) if "vega" in node.type]
        assert charts
        assert all(chart.proto.alt for chart in charts)
        assert sum(each.label == "The same in numbers" for each in at.expander) == len(charts)


def test_law_is_fitted_to_the_ends(tmp_path):
    store, made = Store(tmp_path), []
    for i, nats in enumerate((0.0, 1.0, 2.0, 3.0)):  # forgets 100 · nats² / 9
        wrong = round(nats**2)
        prior = [0.0] * wrong + [1.0] * (9 - wrong)
        samples = items({("new", "mini-tools-v1"): ([0.0], [1.0]), ("prior", "mini-logic-v1"): ([1.0] * 9, prior)})
        drifts = (board_home.Drift("mini-tools-v1", "forward", "episode", nats, 0.1, 1),)
        settings = {"lr": 0.001 * (i + 1)}
        made.append((scored(f"r{i}", samples, drifts=drifts, settings=settings, curve=()), samples))
    add(store, *made)
    law = store.law(TRACK)
    assert law is not None
    assert (law.n, law.r2) == (4, pytest.approx(1))
    assert law.coefficients == pytest.approx([0, 0, 100 / 9], abs=1e-9)
    points = frames.law_points(store.law_points(TRACK), law)
    assert points["residual"].tolist() == pytest.approx([0] * 4, abs=1e-9)


# --- the other pages --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_overview_says_who_leads_and_what_waits(strange, show):
    at = show(strange, "overview")
    assert any(f"{len(HOSTILE)} entries. {len(HOSTILE)} tied on front 1." in each.value for each in at.markdown)
    assert any(f"{len(HOSTILE)} not scored yet" in each.value for each in at.markdown)


def test_overview_begins_with_tracks_that_have_entries(home, show):
    titles = [each.value for each in show(home, "overview").subheader]
    assert titles[:2] == [TRACKS[OTHER].title, TRACKS[TRACK].title]


def test_submission_shows_how_what_is_measured_beside_the_score_has_changed(home, show):
    at = show(home, "submission", id=f"{TRACK}-grpo-0")
    (beside,) = (each.value for each in at.dataframe if "metric" in each.value)
    assert {*beside["metric"]} == {"well_formed"}
    assert beside[["difference", "low", "high"]].drop_duplicates().to_numpy().tolist() == [[-0.1, -0.2, 0.0]]


def test_submission_shows_its_own_commands(home, show):
    at = show(home, "submission", id=f"{TRACK}-grpo-1")
    told = f"razorbench adapt {TRACK} --method grpo --seed 1 --out again-{TRACK}-grpo-1 --lr 0.001"
    assert told in at.code[0].value


def test_submission_shows_what_was_measured_on_the_way_and_says_what_it_is(home, show):
    assert MEASURES["entropy"] not in texts(show(home, "submission", id=f"{TRACK}-grpo-1"))
    told = texts(show(home, "submission", id=f"{TRACK}-grpo-1", more="true"))
    assert MEASURES["entropy"] in told
    assert "Measured by an observer of the run." in told  # `nobodys`, of which nobody here knows more


@pytest.mark.slow
def test_commands_quote_what_a_stranger_wrote(strange):
    state = State(strange)
    for i in range(len(HOSTILE)):
        run = state.submission(f"run-{i}")
        told = (run["track"], run["method"], run["settings"])
        assert again(*told, run) == [f"razorbench verify {i:016x}"]
        words_of = shlex.split(again(*told, {**run, "submitted": None})[0])
        assert words_of[:5] == ["razorbench", "adapt", TRACK, "--method", HOSTILE[i]]


@pytest.mark.slow
def test_submission_holds_what_is_reported_beside_what_is_measured(strange, show):
    at = show(strange, "submission", id="run-0")
    assert "⚑ Its maker reports a gain of 1 points; we measured 100 points." in texts(at)
    assert "3 of its declared training questions" in texts(at)


def test_retracted_submission_is_found_and_says_so(tmp_path, show):
    store = small(tmp_path)
    store.decide(f"{OTHER}-sft-0", "retracted", "a mistake")
    at = show(tmp_path, "submission", id=f"{OTHER}-sft-0")
    assert "retracted" in at.warning[0].value


def test_unknown_submission_is_one_sentence(home, show):
    at = show(home, "submission", id="nobody")
    assert "no submission 'nobody'" in texts(at)


def test_comparison_counts_what_each_alone_kept(home):
    by_method = {entry.method: entry for entry in table(Store(home), TRACK)}
    new, prior = compare(Store(home), by_method["sft"], by_method["grpo"])
    assert (new.task, new.role, new.first, new.second, new.difference.value) == ("mini-tools-v1", "new", 100, 75, -25)
    assert (new.first_alone, new.second_alone, new.first_kept, new.second_kept) == (2, 0, (), ())
    # The base had all 8 right; sft keeps items 0 to 3, grpo 1 to 7.
    assert (prior.first, prior.second, prior.difference.value) == (50, 87.5, 37.5)
    assert (prior.first_alone, prior.second_alone) == (1, 4)
    assert (prior.first_kept, prior.second_kept) == (("0",), ("4", "5", "6", "7"))
    assert prior.p == pytest.approx(2 * (1 + 5) / 2**5)  # exact McNemar: 1 of 5 discordant
    assert (new.p, new.p_holm) == (0.5, pytest.approx(0.75))
    assert isinstance(prior.difference, Estimate)
    assert prior.difference.low < 37.5 < prior.difference.high


def test_comparison_uses_the_items_that_both_scored(tmp_path):
    store, nan = Store(tmp_path), float("nan")
    for name, after in (("a", [1.0, nan, 1.0]), ("b", [1.0, 1.0, nan])):
        samples = items({("new", "mini-tools-v1"): ([0.0] * 3, after), ("prior", "mini-logic-v1"): ([1.0], [nan])})
        add(store, (scored(name, samples, method=name), samples))
    first, second = table(store, TRACK)
    new, prior = compare(store, first, second)
    assert (new.difference.n, new.difference.value) == (1, 0)
    assert prior.difference.n == 0
    assert np.isnan([prior.first, prior.p, prior.p_holm, prior.mde]).all()


def test_track_whose_entries_have_no_retention_draws(tmp_path, show):
    samples = items({("new", "mini-tools-v1"): ([0.0], [1.0]), ("prior", "mini-logic-v1"): ([1.0], [float("nan")])})
    add(Store(tmp_path), (scored("a", samples, retention=None), samples))
    at = show(tmp_path, "track", track=TRACK)
    assert all(rows(at)["front"].isna())
    told = [each.value for each in at.markdown]
    assert any("Nobody is ranked yet" in each for each in told)
    assert "None of these entries has both gain and retention yet." in told


def test_entries_of_two_tracks_are_not_compared(home):
    with pytest.raises(Refused, match="one track"):
        compare(Store(home), table(Store(home), TRACK)[0], table(Store(home), OTHER)[0])


def test_compare_page_shows_the_entries_of_its_link(home, show):
    entry_of = {entry.method: entry.id for entry in table(Store(home), TRACK)}
    at = show(home, "compare", track=TRACK, ids=f"{entry_of['sft']},{entry_of['grpo']}")
    assert at.dataframe[0].value["method"].tolist() == ["sft", "grpo"]
    assert "forgot 1 items that the first kept" in " ".join(each.value for each in at.markdown)


def test_samples_page_follows_its_link(home, show):
    at = show(home, "samples", id=f"{TRACK}-sft-0", task="mini-tools-v1", kind="learned", search="7")
    assert at.dataframe[0].value["item"].tolist() == ["7"]


def test_samples_are_paged(tmp_path, show):
    samples = items({("new", "mini-tools-v1"): ([0.0] * 60, [1.0] * 60), ("prior", "mini-logic-v1"): ([1.0], [1.0])})
    add(Store(tmp_path), (scored("long", samples), samples))
    at = show(tmp_path, "samples", id="long", task="mini-tools-v1", kind="learned", page="6")
    assert at.dataframe[0].value["item"].tolist() == [str(i) for i in range(50, 60)]


def test_newest_submissions_come_first(tmp_path):
    samples = items({("new", "mini-tools-v1"): ([0.0], [1.0]), ("prior", "mini-logic-v1"): ([1.0], [1.0])})
    store = Store(tmp_path)
    for id, day in (("old", 1), ("new", 3), ("middle", 2)):
        add(store, (scored(id, samples, method=id, scored_at=f"2025-11-0{day}T12:00:00+00:00"), samples))
    assert [run["id"] for run in store.newest(2)] == ["new", "middle"]


def test_cards_are_written_by_a_process_of_their_own(home, show, tmp_path, monkeypatch):
    monkeypatch.setenv(cards.PLACE, str(tmp_path))
    work = f"cards.ids = lambda kind: {CARDS!r}; cards.write(cards.Path({str(tmp_path)!r}))"
    code = f"from razorbench.leaderboard import cards; {work}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert set(cards.read()) == set(CARDS)
    at = show(home, "tasks", find="MATH-v1", task="mini-math-v1")
    assert at.dataframe[0].value["task"].tolist() == ["mini-math-v1"]
    assert "rule: " in texts(at)
    assert "test items: 10000; sha256 of what they ask: " in texts(at)


def test_the_page_of_a_robots_task_shows_its_protocol(home, show, tmp_path, monkeypatch):
    monkeypatch.setenv(cards.PLACE, str(tmp_path))
    cards.put(tmp_path, {id: cards.card(id) for id in ("fetch-air-last-v1", "mini-math-v1")})
    assert "success: end" in texts(show(home, "tasks", task="fetch-air-last-v1"))
    assert "success: " not in texts(show(home, "tasks", task="mini-math-v1"))


def test_every_task_has_a_card():
    assert all(cards.card(id).get("asks") or cards.card(id)["missing"] for id in ids("task"))


def test_same_items_have_the_same_hash():
    first, again, other = (cards.measured(id)["hash"] for id in ("mini-math-v1", "mini-math-v1", "mini-science-v1"))
    assert first == again != other


def test_torn_cards_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv(cards.PLACE, str(tmp_path))
    (tmp_path / "cards.json").write_text('{"mini')
    assert cards.read() == {}


def test_board_never_loads_torch_or_a_task():
    modules = [
        f"razorbench.leaderboard.{path.stem}" for path in (ROOT / "leaderboard").glob("*.py") if path.stem != "app"
    ]
    code = f"import sys, razorbench.submissions.queue, {', '.join(modules)}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    assert not {name.split(".")[0] for name in loaded} & {"torch", "scipy", "matplotlib", "mujoco"}
    assert not [name for name in loaded if name.startswith(("razorbench.tasks.", "razorbench.agents."))]
