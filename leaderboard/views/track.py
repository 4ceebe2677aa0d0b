"""One track: its table, gain × retention, the law of forgetting, prior tasks, training curves."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from harness.results import Entry
from harness.store import Store
from leaderboard import charts, frames
from leaderboard.parts import ARROW, choose_entries, choose_track, columns, picture
from leaderboard.reading import ask, entries
from leaderboard.words import labels, tied

# Column to sort by → whether small is first.
SORTS = {"front": True, "gain": False, "retention": False, "drift": True, "seconds": True, "scored": False}
LINES, CELLS = 4, 40  # entries whose curves are shown unless others are chosen; rows of the heat map


def chosen(found: list[Entry]) -> pd.DataFrame:
    """The rows of the table that the filters leave, sorted."""
    frame = frames.board(found)
    left, middle, right = st.columns(3)
    search = left.text_input("Search", key="q", bind="query-params", placeholder="name, method or setting")
    methods = middle.multiselect("Method", sorted(set(frame["method"])), key="method", bind="query-params")
    bases = right.multiselect("Base", sorted(set(frame["base"])), key="base", bind="query-params")
    left, middle, right = st.columns(3)
    states = ("any", "reproduced", "differs", "no")
    again = left.selectbox("Verified", states, key="verified", bind="query-params")
    order = middle.selectbox("Sort by", list(SORTS), key="sort", bind="query-params")
    right.multiselect("Columns", list(frames.COLUMNS), list(frames.SHOWN), key="columns", bind="query-params")
    text = frame[["name", "method", "settings"]].agg(" ".join, axis=1).str.lower()
    keep = text.str.contains((search or "").strip().lower(), regex=False)
    keep &= frame["method"].isin(methods or frame["method"]) & frame["base"].isin(bases or frame["base"])
    keep &= frame["verified"].isin(states[1:] if again == "any" else [again])
    return frame.loc[keep].sort_values(order, ascending=SORTS[order], kind="stable", na_position="last")


def leaderboard(frame: pd.DataFrame, found: list[Entry]) -> None:
    """The table, what can be done with chosen rows, and the downloads."""
    shown = [name for name in frames.COLUMNS if name in st.session_state["columns"]]
    picked = st.dataframe(
        frame[shown],
        hide_index=True,
        column_config=columns(frame),
        on_select="rerun",
        selection_mode="multi-row",
        key="rows",
        alt="The leaderboard of this track",
    )
    ids = [frame["id"].iloc[row] for row in picked["selection"]["rows"] if row < len(frame)]
    kept = [entry for entry in found if entry.id in set(frame["id"])]
    for column, (format, called) in zip(st.columns(4), {"csv": "CSV", "parquet": "Parquet"}.items(), strict=False):
        column.download_button(
            f"Download as {called}",
            lambda format=format: frames.download(kept, format),
            f"{found[0].track}.{format}",
            on_click="ignore",
            width="stretch",
        )
    if len(ids) > 1:
        label = f"Compare the {len(ids)} chosen"
        st.page_link(
            "views/compare.py", label=label, icon=ARROW, query_params={"track": found[0].track, "ids": ",".join(ids)}
        )
    else:
        st.caption("Mark two or more rows to compare them.")


def gain_and_retention(frame: pd.DataFrame, found: list[Entry]) -> None:
    """The chart whose points open their submissions, and the same by keyboard."""
    about = "Gain × retention with 95 % intervals over items. Ringed: front 1. Click a point to open it."
    table = frame.filter(items=["front", "name", "method", "gain", "gain 95 %", "retention", "retention 95 %"])
    selected = picture(charts.gain_retention(frame), table, about, key="points")
    runs = {entry.id: entry.runs[0]["id"] for entry in found}
    points = [point["id"] for point in selected["selection"].get("point", ()) if point.get("id") in runs]
    named = labels(found)
    picked = st.selectbox(
        "Open a submission", list(frame["id"]), None, format_func=lambda id: named[id], placeholder="Choose one"
    )
    if id := picked or next(iter(points), None):
        st.switch_page("views/submission.py", query_params={"id": runs[id]})


def law(track: str, kept: Sequence[Entry]) -> None:
    """Forgetting × drift, with what the law is worth."""
    points, fitted = ask(frames.forgetting, track)
    if not points:
        st.write("No run of this track has both drift and retention yet.")
        return
    named = labels(kept)
    ringed = st.selectbox("Ring an entry", list(named.values()), None, key="ring", bind="query-params")
    ring = next((id for id, name in named.items() if name == ringed), None)
    frame = frames.law_points(points)
    about = "Forgetting of the prior tasks by drift on the new one. Filled: ends of runs; small: in mid-training."
    if fitted is None:
        about += " Too few points for a law: it needs 4, of 3 different drifts."
    else:
        about += f" Grey: the quadratic law with its 95 % bootstrap band, R² {fitted.r2:.2f} over {fitted.n} ends; "
        about += f"leaving one method out {fitted.r2_left_out_pooled:.2f}; "
        about += f"log(learning rate × steps), to beat: {fitted.baseline_r2:.2f}."
        about = about.replace("nan", "unknown")
    picture(charts.law(frame, fitted, ring), frame.drop(columns="entry"), about)
    if ring and fitted is not None:
        residuals = frame.loc[(frame["entry"] == ring) & (frame["when"] == "end"), "residual"]
        told = ", ".join(f"{residual:+.1f}" for residual in residuals)
        st.write(f"The ringed entry forgot by so many points more than its drift predicts, a seed each: {told}.")


def page() -> None:
    """Draw the page."""
    st.title("Track")
    track = choose_track()
    found = entries(track)
    if not found:
        st.info(
            "Nothing is scored on this track yet. This adapts its base by one method with three seeds, and scores them:"
        )
        st.code(f"razorbench sweep {track} --methods sft --seeds 0 1 2", language="sh")
        return
    frame = chosen(found)
    ranked = sum(entry.rank == 1 for entry in found)
    st.markdown(f"**{len(frame)} of {len(found)} entries. {tied(ranked)}.**")
    if frame.empty:
        st.info("No entry is left: change the filters.")
        return
    leaderboard(frame, found)
    st.caption(
        "Points (0–100) and nats an episode. Entries on one front are tied: their intervals do not tell them apart."
    )
    kept = [entry for entry in found if entry.id in set(frame["id"])]
    st.subheader("Gain and retention")
    gain_and_retention(frame, kept)
    st.subheader("Forgetting and drift")
    law(track, kept)
    st.subheader("Prior tasks")
    cells = frames.effects(kept[:CELLS])
    if not cells.empty:
        picture(charts.heat(cells), cells, "Adapted − base on each prior task, points. Orange: lost; blue: grown.")
        if len(kept) > CELLS:
            st.caption(f"The first {CELLS} of {len(kept)} entries; filter to see others.")
    st.subheader("Training curves")
    lines = choose_entries("Entries", kept, [entry.id for entry in kept[:LINES]], "curves")
    curve = frames.curves(lines, ask(Store.curve, *(run["id"] for entry in lines for run in entry.runs)))
    if curve.empty:
        st.write("These entries have no training curve." if lines else "Choose an entry to see its training curve.")
        return
    titles = {"new": "new task (points)", "prior": "prior tasks (points)", "drift": "drift (nats)"}
    known = curve.dropna(axis=1, how="all")
    parts = {name: title for name, title in titles.items() if name in known}
    for column, (name, title) in zip(st.columns(len(parts)), parts.items(), strict=True):
        with column:
            table = curve.dropna(subset=[name]).filter(items=["entry", "seed", "step", name])
            picture(charts.curves(curve, name, title), table, f"{title} over training; shaded: all seeds.")


page()
