"""All tracks with who leads, what was scored last, and what waits."""

from typing import Any

import pandas as pd
import streamlit as st

from razorbench.harness.report.text import printable
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry
from razorbench.harness.tracks.catalogue import known_track
from razorbench.leaderboard.frames import link
from razorbench.leaderboard.parts import ARROW, columns, commands
from razorbench.leaderboard.queries import leaders
from razorbench.leaderboard.snapshot import Empty, ask, home, tracks
from razorbench.leaderboard.words import estimated, tied
from razorbench.submissions import queue

LEADERS, NEWEST, WAITING = 3, 10, 50  # rows that each table shows at most


def card(track: str, row: dict[str, Any], leaders: list[Entry]) -> None:
    """What a track asks, and who leads."""
    if known := known_track(track, home()):
        st.subheader(known.title)
        st.write(known.question)
    else:
        st.text(printable(track))
        st.write("This track is not played any more; its results stay.")
    if not leaders:
        st.caption("Nothing is scored here yet.")
    else:
        entries = f"{row['entries']} entr{'y' if row['entries'] == 1 else 'ies'}"
        st.markdown(f"**{entries}. {tied(row['leaders'])}.**")
        frame = pd.DataFrame(
            {
                "name": printable(entry.name),
                "gain": estimated(entry.gain),
                "retention": estimated(entry.retention),
                "drift": entry.drift.value,
                "open": link(entry.runs[0]["id"]),
            }
            for entry in leaders
        )
        st.dataframe(frame, hide_index=True, column_config=columns(frame))
        if row["leaders"] > LEADERS:
            st.caption(f"The {LEADERS} with the largest gain of the {row['leaders']} that are tied.")
    st.page_link("views/track.py", label="Open the track", query_params={"track": track}, icon=ARROW)


def newest() -> None:
    """What was scored last."""
    st.subheader("Newest submissions")
    try:
        runs = ask(Store.newest, NEWEST)
    except Empty as empty:
        st.text(str(empty))
        return
    if not runs:
        st.write("All submissions are hidden or retracted.")
        return
    frame = pd.DataFrame(
        {
            "name": printable(run["name"]),
            "track": printable(run["track"]),
            "seed": run["seed"],
            "gain": run["gain"],
            "retention": run["retention"],
            "drift": run["drift"],
            "scored": run["scored_at"],
            "open": link(run["id"]),
        }
        for run in runs
    ).astype({"seed": "Int64"})
    st.dataframe(frame, hide_index=True, column_config=columns(frame))


def waiting() -> None:
    """The submissions that have not ended, and the workers that live."""
    st.subheader("Queue")
    queued, workers = queue.waiting(home()), queue.live(home())
    working = f"{len(workers)} worker{'s' * (len(workers) != 1)} at work" if workers else "No worker is at work"
    if not queued:
        st.write(f"Nothing waits. {working}.")
        return
    st.write(f"{len(queued)} not scored yet. {working}.")
    if not workers:
        commands("razorbench worker --drain")
    stands = [queue.status(home(), sub) for sub in queued[:WAITING]]
    rows = [
        {
            "name": printable(each.submission.name),
            "track": printable(each.submission.track),
            "state": each.state,
            "crashes": each.crashes,
            "submitted": each.submission.submitted_at[:19],
        }
        for each in stands
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)


st.title("razorbench")
st.write("What did a model gain on a new task, what did it keep of its prior skill, how far did it drift?")
try:
    leading = ask(leaders, LEADERS)
except Empty:
    leading = {}
shown = tracks()
for left in range(0, len(shown), 2):
    for column, track in zip(st.columns(2), shown[left : left + 2], strict=False):
        with column.container(border=True):
            card(track, *leading.get(track, ({}, [])))
newest()
waiting()
