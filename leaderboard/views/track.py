"""One track: its table, gain × retention, the law of forgetting, prior tasks, training curves."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from razorbench.harness.report.export import TABLES
from razorbench.harness.report.text import labels, printable
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import SIZES, SORTS, VERIFIED, Entry, Query
from razorbench.leaderboard import frames, queries
from razorbench.leaderboard.parts import ARROW, choose_entries, choose_track, columns, commands, paged, picture
from razorbench.leaderboard.queries import CELLS, MOST
from razorbench.leaderboard.snapshot import ask, state
from razorbench.leaderboard.words import number, runs_of, tied

REASONS = 5  # entries of which it is said why they have no front
LINES = 4  # entries whose curves are drawn unless others are chosen


def asked(track: str) -> Query:
    """What the filters ask for."""
    choices = ask(Store.choices, track)
    left, middle, right = st.columns(3)
    search = left.text_input("Search", key="q", bind="query-params", placeholder="name, method or setting")
    methods, bases = (shown(choices[name]) for name in ("methods", "bases"))
    picked = middle.multiselect("Method", list(methods), key="method", bind="query-params")
    based = right.multiselect("Base", list(bases), key="base", bind="query-params")
    left, middle, right, last = st.columns([1, 1, 1, 3])
    size = left.selectbox("Parameters", list(SIZES), key="size", bind="query-params")
    verified = middle.selectbox("Verified", VERIFIED, key="verified", bind="query-params")
    order = right.selectbox("Sort by", list(SORTS), key="sort", bind="query-params")
    last.multiselect("Columns", list(frames.COLUMNS), frames.shown(choices["lost"]), key="columns", bind="query-params")
    return Query(
        track,
        (search or "").strip(),
        tuple(name for label in picked for name in methods[label]),
        tuple(name for label in based for name in bases[label]),
        size,
        verified,
        order,
    )


def shown(names: Sequence[str]) -> dict[str, list[str]]:
    """The names as they are shown → the names that look so."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(printable(name, 40), []).append(name)
    return alike


def leaderboard(frame: pd.DataFrame, query: Query, skip: int) -> None:
    """The table, what can be done with chosen rows, and the downloads."""
    names = [name for name in frames.COLUMNS if name in st.session_state["columns"]]
    picked = st.dataframe(
        frame[names],
        hide_index=True,
        column_config=columns(frame),
        on_select="rerun",
        selection_mode="multi-row",
        key=f"rows {hash((query, skip))}",  # marks are numbers of rows: other rows have none
        alt="The leaderboard of this track",
    )
    ids = [frame["id"].iloc[row] for row in picked["selection"]["rows"] if row < len(frame)]
    store = state()  # a click is answered by another thread
    for column, (format, called) in zip(st.columns(4), {"csv": "CSV", "parquet": "Parquet"}.items(), strict=False):
        column.download_button(
            f"Download as {called}",
            lambda format=format: TABLES[format](store.entries(query)),
            f"{query.track}.{format}",
            on_click="ignore",
            width="stretch",
        )
    if len(ids) > 1:
        label = f"Compare the {len(ids)} chosen"
        asked = {"track": query.track, "ids": ",".join(ids)}
        st.page_link("views/compare.py", label=label, icon=ARROW, query_params=asked)
    else:
        st.caption("Mark two or more rows to compare them.")


def gain_and_retention(query: Query, skip: int, entries: list[Entry], total: int) -> None:
    """The chart whose points open their submissions, and the same by keyboard."""
    about = "Gain × retention with 95 % intervals over items. Ringed: front 1. Click a point to open it."
    about += f" Grey: where all {total} lie." if total > len(entries) else ""
    runs, points = {entry.id: entry.runs[0]["id"] for entry in entries}, []
    if drawn := ask(queries.scatter, query, skip, total > len(entries)):
        selected = picture(*drawn, about, key="points")
        points = [point["id"] for point in selected["selection"].get("point", ()) if point.get("id") in runs]
    else:
        st.write("None of these entries has both gain and retention yet.")
    named = labels(entries)
    picked = st.selectbox(
        "Open a submission", list(runs), None, format_func=lambda id: named[id], placeholder="Choose one"
    )
    if id := picked or next(iter(points), None):
        st.switch_page("views/submission.py", query_params={"id": runs[id]})


def law(query: Query, skip: int, entries: Sequence[Entry], all: int) -> None:
    """Forgetting × drift, with what the law is worth."""
    named, fitted, crowded = labels(entries), ask(Store.law, query.track), all > len(entries)
    ringed = st.selectbox("Ring an entry", list(named.values()), None, key="ring", bind="query-params")
    ring = next((id for id, name in named.items() if name == ringed), None)
    if (drawn := ask(queries.law, query, skip, crowded, ring)) is None:
        st.write("No run of these entries has both drift and retention yet.")
        return
    about = "Forgetting of the prior tasks by drift on the new one. Filled: ends of runs; small: in mid-training."
    about += " Grey cells: the ends of all runs of the track." * crowded
    if fitted is None:
        about += " Too few points for a law: it needs 4, of 3 different drifts."
    else:
        worth = [number(r2, 2) for r2 in (fitted.r2, fitted.r2_left_out, fitted.baseline_r2)]
        about += (
            f" Grey: the quadratic law with its 95 % bootstrap band, R² {worth[0]} over {fitted.n} ends; "
            f"leaving one method out {worth[1]}; log(learning rate × steps), to beat: {worth[2]}."
        )
    chart, frame = drawn
    picture(chart, frame.drop(columns="entry"), about)
    if ring and fitted is not None:
        residuals = frame.loc[(frame["entry"] == ring) & (frame["when"] == "end"), "residual"]
        told = ", ".join(f"{residual:+.1f}" for residual in residuals)
        st.write(f"The ringed entry forgot by so many points more than its drift predicts, a seed each: {told}.")


def priors(query: Query, skip: int, n: int) -> None:
    """What became of each prior task."""
    if (drawn := ask(queries.heat, query, skip)) is None:
        st.write("These entries have no prior task.")
        return
    picture(*drawn, "Adapted − base on each prior task, points. Orange: lost; blue: grown.")
    if n > CELLS:
        st.caption(f"The first {CELLS} of {n} entries; filter to see others.")


def training(track: str, entries: Sequence[Entry]) -> None:
    """The curves of some entries."""
    lines = choose_entries("Entries", track, entries, entries[:LINES], "curves")
    drawn = ask(queries.curves, runs_of(lines), "new", "prior", "drift")
    if not drawn:
        st.write("These entries have no training curve." if lines else "Choose an entry to see its training curve.")
        return
    for column, (title, chart, table) in zip(st.columns(len(drawn)), drawn, strict=True):
        with column:
            picture(chart, table, f"{title} over training; shaded: all seeds.")


def page() -> None:
    """Draw the page."""
    st.title("Track")
    track = choose_track()
    row = next((row for row in ask(Store.overview, 0) if row["track"] == track), None)
    if row is None:
        st.info(
            "Nothing is scored on this track yet. This adapts its base by one method with three seeds, and scores them:"
        )
        commands(f"razorbench sweep {track} --methods sft --seeds 0 1 2")
        return
    query = asked(track)
    total = ask(Store.count, query)
    st.markdown(f"**{total} of {row['entries']} entries. {tied(row['leaders'])}.**")
    if not total:
        st.info("No entry is left: change the filters.")
        return
    at, pages = paged(total, MOST)
    skip = (at - 1) * MOST
    entries, frame = ask(queries.rows, query, skip)
    if pages > 1:
        st.caption(f"Page {at} of {pages}. What is drawn below are the {len(entries)} entries of this page.")
    leaderboard(frame, query, skip)
    st.caption(
        "Points (0–100) and nats an episode. Entries on one front are tied: their intervals do not tell them apart."
    )
    if without := [f"{printable(entry.name, 40)}: {entry.unranked}" for entry in entries if entry.unranked][:REASONS]:
        st.text("No front has " + "; ".join(without) + ".")
    st.subheader("Gain and retention")
    gain_and_retention(query, skip, entries, total)
    st.subheader("Forgetting and drift")
    law(query, skip, entries, row["entries"])
    st.subheader("Prior tasks")
    priors(query, skip, len(entries))
    st.subheader("Training curves")
    training(track, entries)


page()
