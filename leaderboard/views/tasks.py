"""The card of each task: what is asked, when an answer counts, where the data are from."""

import pandas as pd
import streamlit as st

from harness.tracks import TRACKS
from leaderboard import cards
from leaderboard.parts import ARROW
from leaderboard.reading import home


def page() -> None:
    """Draw the page."""
    st.title("Tasks")
    found = cards.read(home())
    if not found:
        st.info("The cards are written when the board starts. In some seconds, load this page again.")
        return
    search = st.text_input("Search", key="find", bind="query-params", placeholder="id, question, source or licence")
    words = (search or "").strip().lower()
    left = {id: card for id, card in found.items() if words in f"{id} {' '.join(map(str, card.values()))}".lower()}
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
        told = [name for name in ("asks", "rule", "source", "licence", "chance", "missing") if name in left[id]]
        st.text("\n".join(f"{name}: {left[id][name]}" for name in told))
        if example := left[id].get("example"):
            st.caption("example")
            st.code(example, language=None, wrap_lines=True)
    asked = {t.id: "new task" for t in TRACKS.values() if t.new == id}
    asked |= {t.id: "prior task" for t in TRACKS.values() if id in t.prior_tasks}
    for track, role in asked.items():
        st.page_link("views/track.py", label=f"{role} of {track}", icon=ARROW, query_params={"track": track})


page()
