"""The card of each task: what is asked, when an answer counts, where the data are from."""

import pandas as pd
import streamlit as st

from razorbench.harness.tracks.catalogue import all_tracks
from razorbench.leaderboard import cards
from razorbench.leaderboard.parts import ARROW, columns
from razorbench.leaderboard.snapshot import home

WORST = 98.0
"""Half the 95 % interval of a score of 50 % on one item, points."""
TOLD = ("asks", "rule", "source", "licence", "chance", "missing", "unread")
"""Fields of a card that are shown as they are."""


def page() -> None:
    """Draw the page."""
    st.title("Tasks")
    known = cards.read()
    if not known:
        st.info("`razorbench board` collects the cards when it starts. In some seconds, load this page again.")
        return
    search = st.text_input("Search", key="find", bind="query-params", placeholder="id, question, source or licence")
    words = (search or "").strip().lower()
    left = {id: card for id, card in known.items() if words in f"{id} {' '.join(map(str, card.values()))}".lower()}
    frame = pd.DataFrame(
        {
            "task": id,
            "asks": card.get("asks", card.get("missing")),
            "licence": card.get("licence"),
            "chance": card.get("chance"),
        }
        for id, card in left.items()
    )
    if frame.empty:
        st.info("No task is left: search for something else.")
        return
    st.dataframe(frame, hide_index=True)
    id = st.selectbox("Card", list(left), key="task", bind="query-params")
    with st.container(border=True):
        st.subheader(id)
        told = [name for name in TOLD if name in left[id]]
        st.text("\n".join(f"{name}: {left[id][name]}" for name in told))
        items = left[id].get("items")
        if items:
            st.text(f"test items: {items}; sha256 of what they ask: {left[id]['hash']}…")
        if protocol := left[id].get("protocol"):
            st.caption("protocol")
            st.text("\n".join(f"{name}: {told}" for name, told in protocol.items() if told))
        if example := left[id].get("example"):
            st.caption("example")
            st.code(example, language=None, wrap_lines=True)
    asked = [track for track in all_tracks(home()).values() if id in track.tasks]
    if not asked:
        return
    scored = [min(track.items or items or 0, items or track.items) for track in asked]
    frame = pd.DataFrame(
        {
            "track": [track.id for track in asked],
            "asked as": ["new task" if track.new == id else "prior task" for track in asked],
            "items": scored,
            "noise": [WORST / n**0.5 if n else None for n in scored],
        }
    )
    st.dataframe(frame, hide_index=True, column_config=columns(frame))
    st.caption("Noise: half the 95 % interval of a score of 50 %, points; paired differences are finer.")
    for track in asked:
        st.page_link("views/track.py", label=track.id, icon=ARROW, query_params={"track": track.id})


page()
