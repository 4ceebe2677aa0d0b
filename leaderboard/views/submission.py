"""All of one submission: its numbers, tasks, drift, curve, how to make it again, and what was decided about it."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from razorbench.harness.learn.measures import MEASURES
from razorbench.harness.report.flags import flags
from razorbench.harness.report.text import printable
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry
from razorbench.harness.tracks.catalogue import known_track
from razorbench.harness.tracks.variants import again, differs
from razorbench.leaderboard import charts, frames, queries
from razorbench.leaderboard.parts import ARROW, choose_submission, columns, commands, picture
from razorbench.leaderboard.snapshot import ask, home
from razorbench.leaderboard.words import bounds, number, runs_of


def seeds(run: dict[str, Any], entry: Entry) -> None:
    """A way to the other seeds of the entry."""
    if len(entry.runs) < 2:
        return
    called = {each["id"]: f"seed {each['seed']}, {each['id']}" for each in entry.runs}
    picked = st.selectbox("Seed", list(called), list(called).index(run["id"]), format_func=lambda id: called[id])
    if picked and picked != run["id"]:
        st.query_params["id"] = picked
        st.rerun()


def estimates(entry: Entry) -> None:
    """Gain, retention and drift of the entry, over its seeds."""
    many = f"over {entry.seeds} seeds" if entry.seeds > 1 else "of one seed"
    st.subheader(f"All numbers {many}")
    for column, (name, digits, unit) in zip(
        st.columns(4)[:3], (("gain", 1, "points"), ("retention", 1, "points"), ("drift", 3, "nats")), strict=True
    ):
        estimate = getattr(entry, name)
        column.metric(f"{name} ({unit})", number(estimate.value, digits))
        between = number(getattr(entry, f"{name}_between"), digits)
        column.caption(f"95 %: {bounds(estimate, digits)}; between seeds: sd {between}")
    if entry.below_floor:
        st.write(f"Its drift is below the floor: rounding alone makes {entry.floor:.2g} nats of nothing.")
    if "cannot be read" in entry.gain.method:
        st.text(f"Nothing is known over its seeds: {entry.gain.method}")
    rank = f"no front ({entry.unranked})" if entry.rank is None else f"front {entry.rank}"
    element, reverse = number(entry.drift_element, 4), number(entry.reverse, 3)
    st.write(f"On {rank} of its track. Drift an element {element} nats; reverse KL {reverse} nats an episode.")


def tasks(id: str) -> None:
    """Base against adapted on each task, item by item."""
    scores = ask(Store.scores, id)
    frame = frames.tasks(scores)
    st.subheader("Tasks")
    about = "Adapted − base on the same items, points, with 95 % intervals; p by a paired test, corrected (Holm) "
    about += "over these tasks. Detectable: the smallest true difference that so many items find 4 times in 5."
    picture(charts.differences(frame, "adapted − base (points)"), frame, about)
    if not (measured := frames.metrics(scores)).empty:
        with st.expander("What the tasks measure beside the score"):
            st.dataframe(measured, hide_index=True)


def drift(id: str) -> None:
    """KL between base and adapted, both ways."""
    st.subheader("Drift")
    if rows := ask(Store.drifts, id):
        frame = pd.DataFrame(rows).filter(items=["task", "direction", "per", "nats", "se", "n", "floor"])
        st.dataframe(frame, hide_index=True, column_config=columns(frame))
    else:
        st.write("Its agent has no log-probabilities, so there is no drift.")


def answered(conditions: Mapping[str, Any] | None) -> str:
    """Under which conditions items were answered, in words."""
    told = conditions or {}  # of an older record: greedily
    how = f"{told['samples']} drawn at temperature {told['temperature']:g}" if told.get("temperature") else "greedily"
    limit = f", at most {told['limit']} elements" if told.get("limit") else ""
    prompt = f", after {told['prompt']!r}" if told.get("prompt") else ""
    return f"{how}{limit}{prompt}, by {told.get('engine', 'razorbench')}"


def training(entry: Entry) -> None:
    """Its curves."""
    drawn = ask(queries.curves, runs_of([entry]), *queries.MEASURED)
    if not drawn:
        return
    st.subheader("Training")
    for column, (title, chart, table) in zip(st.columns(len(drawn)), drawn, strict=True):
        with column:
            picture(chart, table, f"{title} over training; shaded: all seeds.")
    if not st.toggle("More of the training", key="more", bind="query-params"):
        return
    measured = ask(queries.measures, runs_of([entry]))
    if not measured:
        st.write("Nothing else was measured of it on the way.")
    for start in range(0, len(measured), 2):
        for column, (name, chart, table) in zip(st.columns(2), measured[start : start + 2], strict=False):
            with column:
                st.text(MEASURES.get(name, "Measured by an observer of the run."))
                picture(chart, table, f"{name.replace('_', ' ')} over training; shaded: all seeds.")


def reported(run: Mapping[str, Any], entry: Entry | None) -> None:
    """What its maker says, beside what we measured, and what is to be asked."""
    told, flagged = run["brought"], flags(ask(Store.seeds, entry.id) if entry else [run])
    for flag in flagged if not told else []:
        st.text(f"⚑ {flag}")
    if not told:
        return
    st.subheader("Reported and measured")
    claim = told["claim"]
    rows = [
        {
            "number": name,
            "reported": claim["reported"].get(name),
            "measured": getattr(entry, name).value if entry else run[name],
        }
        for name in ("gain", "retention", "drift")
    ]
    st.dataframe(pd.DataFrame(rows).astype({"reported": float, "measured": float}), hide_index=True)
    st.write("Questions to its maker, which are no verdicts:" if flagged else "Nothing about it calls for a question.")
    for flag in flagged:
        st.text(f"⚑ {flag}")
    with st.expander("What its maker says of it"):
        st.code(json.dumps(claim, indent=1, ensure_ascii=False), language=None, wrap_lines=True)


def history(id: str) -> None:
    """What was decided about it."""
    st.subheader("History")
    events = ask(Store.events, id)
    if not events:
        st.write("Nothing was decided about it.")
        return
    rows = [
        {
            "when": event["decided_at"],
            "what": event["kind"],
            "value": printable(event["value"] or ""),
            "reason": printable(event["reason"], 400),
        }
        for event in events
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)


def page() -> None:
    """Draw the page."""
    st.title("Submission")
    run = choose_submission()
    entries = ask(Store.some, (run["entry"],))
    entry = next((each for each in entries if any(seed["id"] == run["id"] for seed in each.runs)), None)
    st.text(printable(run["name"], 200))
    facts = {
        "track": run["track"],
        "method": run["method"],
        "differs from the track": differs(run["track"], run["settings"], home()) or "nothing",
        "seed": run["seed"],
        "steps": run["steps"],
        "base": run["base"],
        "agent": run["agent"],
        "weights": run["checkpoint"][:16],
        "answered": answered(run["conditions"]),
        "scored": f"{run['scored_at']:%Y-%m-%d %H:%M} UTC",
        "verified": run["verified"] or "nobody scored it again yet",
    }
    st.text("\n".join(f"{name}: {printable(value, 200)}" for name, value in facts.items()))
    left, middle, right = st.columns(3)
    left.page_link("views/track.py", label="Its track", icon=ARROW, query_params={"track": run["track"]})
    middle.page_link("views/samples.py", label="What it forgot and learned", icon=ARROW, query_params={"id": run["id"]})
    if entry is None:
        st.warning("It is hidden or retracted, and not on the leaderboard.")
    else:
        right.page_link(
            "views/compare.py", label="Compare it", icon=ARROW, query_params={"track": run["track"], "ids": entry.id}
        )
        estimates(entry)
        seeds(run, entry)
    tasks(run["id"])
    drift(run["id"])
    if entry is not None:
        training(entry)
    st.subheader("Make it again")
    commands(*again(run["track"], run["method"], run["settings"], run, home()))
    if known_track(run["track"], home()) is None:
        st.caption("Its track is not played any more: take the version of razorbench that its provenance names.")
    reported(run, entry)
    history(run["id"])
    with st.expander("Provenance"):
        parts = {name: part for name, part in (run["provenance"] or {}).items() if name != "submission"}
        st.code(
            json.dumps({**parts, "settings": run["settings"]}, indent=1, ensure_ascii=False),
            language="json",
            wrap_lines=True,
        )


page()
