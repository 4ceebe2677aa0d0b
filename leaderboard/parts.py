"""What several pages draw: a chart with its table, a table of entries, and ways to choose."""

import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from razorbench.harness.report.text import labels
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry, Query
from razorbench.harness.tracks.catalogue import known_track
from razorbench.leaderboard import frames
from razorbench.leaderboard.charts import Spec
from razorbench.leaderboard.queries import MOST
from razorbench.leaderboard.snapshot import USUAL, ask, home, tracks

Column = st.column_config.Column
Number = st.column_config.NumberColumn
ARROW = ":material/arrow_forward:"


def choose_track() -> str:
    """The track that the URL names, or that is chosen; its title and question."""
    track = st.selectbox("Track", tracks(), key="track", bind="query-params")
    if known := known_track(track, home()):
        st.subheader(known.title)
        st.write(known.question)
    else:
        st.caption("This track is not played any more; its results stay.")
    return track


def picture(chart: Spec, alternative: pd.DataFrame, about: str, key: str | None = None) -> Any:
    """A chart, the same in numbers below it, and what it shows in a sentence. With a key: what is selected in it."""
    selects: dict[str, Any] = {"on_select": "rerun", "key": key} if key else {}
    selected = st.vega_lite_chart(None, chart, width="stretch", alt=about, **selects)
    st.caption(about)
    with st.expander("The same in numbers"):
        st.dataframe(alternative, hide_index=True, column_config=columns(alternative))
    return selected


def paged(total: int, rows: int) -> tuple[int, int]:
    """Which page of so many rows each is chosen, from 1, and of how many; the URL's `page` keeps it."""
    pages = -(-total // rows)
    return (st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1), pages


def commands(*lines: str) -> None:
    """Commands to copy, with the home of this board where it is not the usual one."""
    more = "" if home() == USUAL else f" --home {shlex.quote(str(home()))}"
    st.code("\n".join(f"{line}{more}" for line in lines), language="sh", wrap_lines=True)


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


def matching(track: str, label: str, key: str) -> list[Entry]:
    """The entries of a track, or where they are many, those that a search finds: `MOST` at most, the best first."""
    query = Query(track)
    if ask(Store.count, query) > MOST:
        search = st.text_input(label, key=key, bind="query-params", placeholder="name, method or setting")
        query = Query(track, (search or "").strip())
    return ask(Store.entries, query, MOST)


def choose_entries(
    label: str, track: str, offered: Sequence[Entry], chosen: Sequence[Entry], parameter: str
) -> list[Entry]:
    """Some entries of a track; the parameter of the URL, ids with commas between, keeps which. `chosen` is the default.

    The URL may name entries that are not offered.
    """
    told = st.query_params.get(parameter)
    start = list(chosen)
    if told is not None:
        named = ask(Store.some, tuple(dict.fromkeys(told.split(","))))
        start = [entry for entry in named if entry.track == track]
    by_id = {entry.id: entry for entry in (*start, *offered)}
    called = labels(list(by_id.values()))
    default = [entry.id for entry in start]
    picked = st.multiselect(label, list(by_id), default=default, format_func=lambda id: called[id])
    if picked != [entry.id for entry in chosen]:
        st.query_params[parameter] = ",".join(picked)
    elif told is not None:
        del st.query_params[parameter]
    return [by_id[id] for id in picked]


def choose_submission() -> dict[str, Any]:
    """The run that the URL's `id` names, or that is chosen: a row of `runs`. Stops where none is."""
    if id := st.query_params.get("id"):
        return ask(Store.submission, id)
    offered = matching(choose_track(), "Search", "find")
    if not offered:
        st.info("Nothing is scored on this track yet, or nothing is found.")
        st.stop()
    named = labels(offered)
    called = {run["id"]: f"{named[entry.id]}, seed {run['seed']}" for entry in offered for run in entry.runs}
    picked = st.selectbox("Submission", list(called), None, format_func=lambda id: called[id], placeholder="Choose one")
    if picked is None:
        st.stop()
    st.query_params["id"] = picked
    st.rerun()
