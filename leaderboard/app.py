"""The board: one table and one chart a track, from the published snapshot."""

import os
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from harness.results import Entry, table
from harness.store import Store
from harness.tracks import TRACKS


@st.cache_data(show_spinner="Reading the board")
def entries(home: str, track: str, published: float) -> list[Entry]:
    """The entries of a track; read again when the snapshot is replaced (`published` is its time)."""
    return table(Store(Path(home)), track)


def rows(found: list[Entry]) -> pd.DataFrame:
    """One row an entry, in points and nats."""
    return pd.DataFrame(
        {
            "front": entry.rank,
            "name": entry.name,
            "method": entry.method,
            "seeds": entry.seeds,
            "gain": entry.gain.value,
            "gain_low": entry.gain.low,
            "gain_high": entry.gain.high,
            "retention": entry.retention.value,
            "retention_low": entry.retention.low,
            "retention_high": entry.retention.high,
            "drift": entry.drift.value,
        }
        for entry in found
    )


def chart(frame: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Gain × retention with 95 % intervals."""
    x, y = alt.X("gain", title="gain (points)"), alt.Y("retention", title="retention (points)")
    base = alt.Chart(frame).encode(color="method")
    return alt.layer(
        base.mark_rule(opacity=0.5).encode(x=alt.X("gain_low", title="gain (points)"), x2="gain_high", y=y),
        base.mark_rule(opacity=0.5).encode(
            y=alt.Y("retention_low", title="retention (points)"), y2="retention_high", x=x
        ),
        base.mark_point(filled=True, size=70).encode(x=x, y=y, tooltip=["name", "gain", "retention", "drift", "seeds"]),
    )


def page() -> None:
    """Draw the page."""
    st.set_page_config("razorbench", layout="wide")
    home = Path(os.environ.get("RAZORBENCH_HOME", ".razorbench"))
    st.title("razorbench")
    st.write("What did a model gain on a new task, what did it keep of its prior skill, how far did it drift?")
    track = st.selectbox("Track", list(TRACKS))
    st.subheader(TRACKS[track].title)
    st.write(TRACKS[track].question)
    snapshot = Store(home).snapshot
    found = entries(str(home), track, snapshot.stat().st_mtime) if snapshot.exists() else []
    if not found:
        st.info(f"Nothing is scored on {track} yet. `razorbench demo` fills the board in minutes.")
        return
    frame = rows(found)
    st.altair_chart(chart(frame), width="stretch")
    number = st.column_config.NumberColumn
    st.dataframe(frame, hide_index=True, column_config={name: number(format="%.2f") for name in frame.columns[4:]})
    st.caption("Points (0–100) and nats an episode. Intervals are 95 % over items; entries on one front are tied.")


page()
