"""What several pages draw: a chart with its table, a table of entries, and ways to choose."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from harness.results import Entry
from harness.store import Store
from harness.tracks import TRACKS
from leaderboard import frames
from leaderboard.charts import Picture
from leaderboard.reading import ask, entries, tracks
from leaderboard.words import labels

Column = st.column_config.Column
Number = st.column_config.NumberColumn
ARROW = ":material/arrow_forward:"


def choose_track() -> str:
    """The track that the URL names, or that is chosen; its title and question."""
    track = st.selectbox("Track", tracks(), key="track", bind="query-params")
    if known := TRACKS.get(track):
        st.subheader(known.title)
        st.write(known.question)
    else:
        st.caption("This track is not played any more; its results stay.")
    return track


def picture(chart: Picture, alternative: pd.DataFrame, about: str, key: str | None = None) -> Any:
    """A chart, the same in numbers below it, and what it shows in a sentence. With a key: what is selected in it."""
    selects: dict[str, Any] = {"on_select": "rerun", "key": key} if key else {}
    selected = st.altair_chart(chart, width="stretch", alt=about, **selects)
    st.caption(about)
    with st.expander("The same in numbers"):
        st.dataframe(alternative, hide_index=True, column_config=columns(alternative))
    return selected


def columns(frame: pd.DataFrame) -> dict[str, Any]:
    """How the columns of a table are written: links, and numbers with as many digits as they deserve."""
    digits = {name: 3 if "drift" in name or name in ("nats", "se") else 1 for name in frame.columns}
    config: dict[str, Any] = {
        name: Number(format=f"%.{digits[name]}f", help=frames.COLUMNS.get(name))
        for name in frame.select_dtypes("float").columns
    }
    config |= {
        name: Column(help=told, width="medium" if name in ("name", "settings") else None)
        for name, told in frames.COLUMNS.items()
        if name in frame.columns and name not in config
    }
    if "open" in frame.columns:
        config["open"] = st.column_config.LinkColumn("open", display_text="open", help=frames.COLUMNS["open"])
    return config


def choose_entries(label: str, found: Sequence[Entry], chosen: Sequence[str], parameter: str) -> list[Entry]:
    """Some of the entries; the parameter of the URL, ids with commas between, keeps which. `chosen` is the default."""
    named, by_id = labels(found), {entry.id: entry for entry in found}
    told = st.query_params.get(parameter)
    start = [id for id in (chosen if told is None else told.split(",")) if id in by_id]
    picked = st.multiselect(label, list(by_id), default=start, format_func=lambda id: named[id])
    if picked != list(chosen):
        st.query_params[parameter] = ",".join(picked)
    elif told is not None:
        del st.query_params[parameter]
    return [by_id[id] for id in picked]


def choose_submission() -> dict[str, Any]:
    """The run that the URL's `id` names, or that is chosen: a row of the view `runs`. Stops where none is."""
    if id := st.query_params.get("id"):
        return ask(Store.submission, id)
    track = choose_track()
    found = entries(track)
    if not found:
        st.info("Nothing is scored on this track yet.")
        st.stop()
    named = labels(found)
    called = {run["id"]: f"{named[entry.id]}, seed {run['seed']}" for entry in found for run in entry.runs}
    picked = st.selectbox("Submission", list(called), None, format_func=lambda id: called[id], placeholder="Choose one")
    if picked is None:
        st.stop()
    st.query_params["id"] = picked
    st.rerun()


def entry_of(run: dict[str, Any]) -> Entry | None:
    """The entry that a run is a seed of; None where it is hidden or retracted."""
    return next((e for e in entries(run["track"]) if any(each["id"] == run["id"] for each in e.runs)), None)
