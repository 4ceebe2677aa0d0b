"""Flips: items that a submission forgot or learned."""

import pandas as pd
import streamlit as st

from harness.store import Store
from leaderboard.parts import ARROW, choose_submission, columns
from leaderboard.reading import ask
from leaderboard.words import legible

ROWS = 25  # items of a page
KINDS = {"forgot": "It scores less than the base did.", "learned": "It scores more than the base did."}


def page() -> None:
    """Draw the page."""
    st.title("Samples")
    run = choose_submission()
    st.text(f"{legible(run['name'])}, {legible(run['track'])}, seed {run['seed']}")
    st.page_link("views/submission.py", label="The submission", icon=ARROW, query_params={"id": run["id"]})
    scores = ask(Store.scores, run["id"])
    left, middle, right = st.columns(3)
    names = [score["task"] for score in sorted(scores, key=lambda score: score["role"] == "new")]  # priors first
    task = left.selectbox("Task", names, key="task", bind="query-params")
    kind = middle.segmented_control(
        "Items that it", list(KINDS), default="forgot", required=True, key="kind", bind="query-params"
    )
    search = right.text_input("Search", key="item", bind="query-params", placeholder="part of an item's id")
    found = pd.DataFrame(ask(Store.flips, run["id"], task, kind, (search or "").strip()))
    n = next(score["n"] for score in scores if score["task"] == task)
    st.write(f"{len(found)} of {n} items. {KINDS[kind]}")
    if found.empty:
        st.info("There are none: choose another task, or the other kind.")
        return
    pages = -(-len(found) // ROWS)
    at = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
    shown = found.iloc[(at - 1) * ROWS : at * ROWS]
    st.dataframe(shown, hide_index=True, column_config=columns(shown))
    st.caption(
        "Base and adapted: rewards, 0–1. Drift: nats of that episode. The files do not hold what was answered yet."
    )


page()
