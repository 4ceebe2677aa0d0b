"""Flips: items that a submission forgot or learned, and what base and adapted answered."""

import shlex
from typing import Any

import pandas as pd
import streamlit as st

from razorbench.harness.measure import answers
from razorbench.harness.report.text import printable
from razorbench.harness.store.database import Store
from razorbench.leaderboard.parts import ARROW, choose_submission, columns, commands, paged
from razorbench.leaderboard.reply_image import FULL, painted
from razorbench.leaderboard.snapshot import ask, home
from razorbench.leaderboard.words import number

ROWS = 10  # flips of a page
PAINTED, LETTERS = 500, 200  # tokens of a reply that are drawn, and characters of each
TALL = 1_500  # characters, of which a box with a scroll bar is made
KINDS = {"forgot": "It scores less than the base did.", "learned": "It scores more than the base did."}


def lines(text: str) -> str:
    """What a stranger wrote, line by line."""
    return "\n".join(printable(line, answers.LONGEST) for line in text.split("\n"))


def told(text: str | None) -> None:
    """What was asked or answered."""
    if text is None:
        st.caption("not in words")
    else:
        st.code(lines(text), None, wrap_lines=True, height=300 if len(text) > TALL else "content")


def moved(id: str, task: str, item: str) -> None:
    """The film of a flip, or how to make it."""
    film = answers.film_of(home(), id, task, item)
    if film.exists():
        st.video(str(film), width=512)
    else:
        st.caption("The motions are kept, and this makes the film of them:")
        words = ["razorbench", "film", "--submission", id, "--task", task, "--item", item]
        commands(shlex.join(words))


def drift(tokens: list[dict[str, Any]]) -> None:
    """The base's reply, each token on its nats."""
    known = [token["nats"] for token in tokens if token["nats"] is not None]
    about = f"The base's reply, painted: {number(sum(known), 3)} nats in {len(tokens)} tokens"
    about += f", at most {number(max(known), 3)} in one." if known else "."
    shown = [token | {"text": token["text"][:LETTERS]} for token in tokens[:PAINTED]]
    st.vega_lite_chart(painted(shown, st.context.theme.type), width="stretch", alt=about)
    st.caption(about + (f" The first {PAINTED} are drawn." if len(tokens) > PAINTED else ""))
    with st.expander("The same in numbers"):
        frame = pd.DataFrame([{"token": printable(token["text"]), "nats": token["nats"]} for token in tokens])
        st.dataframe(frame, hide_index=True, column_config=columns(frame))


def draw(id: str, task: str, flip: dict[str, Any]) -> None:
    """One flip."""
    with st.container(border=True):
        ends = f"the base scores {flip['base']:g}, adapted {flip['adapted']:g}"
        nats = "" if flip["drift"] is None else f"; drift {number(flip['drift'], 3)} nats"
        st.text(f"Item {printable(flip['item'])}: {ends}{nats}")
        if not flip["told"]:
            st.caption(f"Its answers are not kept: a record holds those of {answers.FLIPS} flips of a task at most.")
            return
        if flip["picture"]:
            st.image(flip["picture"], width=112, alt="what was shown")
        if flip["asked"] is not None:
            st.caption("Asked")
            told(flip["asked"])
        if flip["moves"]:
            moved(id, task, flip["item"])
            return
        for column, name in zip(st.columns(2), ("base", "adapted"), strict=True):
            with column:
                st.caption(name.capitalize())
                told(flip[f"{name}_said"])
        if flip["tokens"]:
            drift(flip["tokens"])


def page() -> None:
    """Draw the page."""
    st.title("Samples")
    run = choose_submission()
    st.text(f"{printable(run['name'])}, {printable(run['track'])}, seed {run['seed']}")
    st.page_link("views/submission.py", label="The submission", icon=ARROW, query_params={"id": run["id"]})
    scores = ask(Store.scores, run["id"])
    left, middle, right = st.columns(3)
    names = [score["task"] for score in sorted(scores, key=lambda score: score["role"] == "new")]  # priors first
    task = left.selectbox("Task", names, key="task", bind="query-params")
    kind = middle.segmented_control(
        "Items that it", list(KINDS), default="forgot", required=True, key="kind", bind="query-params"
    )
    search = right.text_input(
        "Search", key="search", bind="query-params", placeholder="in items, questions and answers"
    )
    assert task is not None  # a record has a task
    asked = home(), run["id"], task, kind, (search or "").strip()
    flipped, n = answers.count(*asked), next(score["n"] for score in scores if score["task"] == task)
    st.write(f"{flipped} of {n} items. {KINDS[kind]}")
    if not flipped:
        st.info("There are none: choose another task, or the other kind.")
        return
    at, _ = paged(flipped, ROWS)
    flips = answers.flips(*asked, limit=ROWS, offset=(at - 1) * ROWS)
    if not answers.kept(home(), run["id"]):
        st.info("This record was made before answers were kept, so only its scores are here.")
        shown = pd.DataFrame(flips).filter(items=["item", "base", "adapted", "drift"])
        st.dataframe(shown, hide_index=True, column_config=columns(shown))
        st.caption("Base and adapted: rewards, 0–1. Drift: nats of that episode.")
        return
    if any(flip["tokens"] for flip in flips):
        st.caption(
            "Orange is drift: how far the adapted model's distribution is from the base's at that token of the base's "
            f"own reply (forward KL, nats); full from {FULL:g} nats on. The drift beside an item is that of a reply "
            "which the base sampled."
        )
    for flip in flips:
        draw(run["id"], task, flip)


page()
