"""Two or more entries of a track, task by task, on the same items."""

import streamlit as st

from razorbench.harness.report.text import labels
from razorbench.harness.store.leaderboard import Entry
from razorbench.leaderboard import charts, frames, queries
from razorbench.leaderboard.parts import choose_entries, choose_track, columns, matching, picture
from razorbench.leaderboard.snapshot import ask


def pair(first: Entry, second: Entry, named: dict[str, str]) -> None:
    """What the second has that the first has not, and the reverse."""
    tasks = ask(queries.comparison, first.id, second.id)
    frame = frames.comparison(tasks)
    with st.container(border=True):
        st.text(f"first: {named[first.id]}\nsecond: {named[second.id]}")
        if frame.empty:
            st.write("They have no task in common.")
            return
        alone = frame[["second forgot", "first forgot"]].sum()
        about = (
            "Second − first after adapting, points, with 95 % intervals over the same items, each averaged over seeds."
        )
        picture(charts.differences(frame, "second − first (points)"), frame, about)
        st.dataframe(
            frame[["task", "first", "second", "difference", "p (Holm)", "second forgot", "first forgot"]],
            hide_index=True,
            column_config=columns(frame),
        )
        st.write(
            f"Of what the base knew, the second forgot {alone['second forgot']} items that the first kept, "
            f"and the first forgot {alone['first forgot']} that the second kept."
        )
        with st.expander("These items"):
            st.dataframe(frames.forgotten(tasks), hide_index=True)


def page() -> None:
    """Draw the page."""
    st.title("Compare")
    track = choose_track()
    offered = matching(track, "Search", "find")
    chosen = choose_entries("Entries; the others are held against the first", track, offered, [], "ids")
    if len(chosen) < 2:
        st.info("Choose two or more entries.")
        return
    named = labels(chosen)
    frame = frames.board(chosen)
    st.dataframe(
        frame[frames.shown(bool(frame[[*frames.LOST]].fillna(0).to_numpy().any()))],
        hide_index=True,
        column_config=columns(frame),
    )
    for other in chosen[1:]:
        pair(chosen[0], other, named)
    st.caption(
        "p: McNemar's test, or sign flips where seeds are averaged; corrected (Holm) over the tasks of a pair, not "
        "over the pairs. An item is right from a mean reward of one half."
    )


page()
