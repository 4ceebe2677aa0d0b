"""How to bring a checkpoint, with the commands filled in for a track."""

import streamlit as st

from razorbench.harness.tracks.catalogue import all_tracks
from razorbench.leaderboard.parts import commands
from razorbench.leaderboard.snapshot import home

TOML = """track = "{track}"
name = "what the board shows"
method = "sft"
licence = "CC0-1.0"

[reported]  # what you measured, if you like
gain = 16.0
"""


def step(words: str, *lines: str) -> None:
    """What to do, and the commands."""
    st.write(words)
    commands(*lines)


def page() -> None:
    """Draw the page."""
    st.title("Submit")
    tracks = all_tracks(home())
    track = tracks[st.selectbox("Track", list(tracks), key="track", bind="query-params")]
    st.write(track.question)
    st.subheader("With our methods")
    step(
        "Adapt the track's base, score it, and it is on the board.",
        f"razorbench adapt {track.id} --method sft --out mine",
        f"razorbench score mine --track {track.id}",
    )
    st.subheader("With tools of your own")
    step(
        "1. Take the track's base and, if you want them, questions of its training split with an expert's answers "
        "(of a task that does not ask in words: `--hashes` alone).",
        f"razorbench base {track.id} --out base",
        f"razorbench questions {track.new} --out train.jsonl --hashes train.hashes",
    )
    st.write(
        "2. Adapt it, and put into a folder: `model.safetensors`, or a LoRA as `peft` saves it, and submission.toml."
    )
    st.code(TOML.format(track=track.id), language="toml")
    step(
        "3. Submit the folder. It is checked, copied, queued, and scored by a worker. Nothing in it is ever executed.",
        f"razorbench submit my-folder --track {track.id}",
        "razorbench queue",
        "razorbench worker --drain",
    )
    step("4. See what came out, and let it be scored once more.", 'razorbench show "NAME"', 'razorbench verify "NAME"')
    st.write(
        "Several seeds of one method go into `seed-0/`, `seed-1/`, … and are one row. `razorbench retract` takes back."
    )
    st.caption("docs/submit.md does the whole way once, with all files that may be in the folder.")


page()
