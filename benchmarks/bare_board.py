"""The peer of `benchmarks.board`: a page with none of our code, 100 rows of the same snapshot and a scatter."""

import os

import duckdb
import streamlit as st

with duckdb.connect(os.environ["RAZORBENCH_HOME"] + "/published.duckdb", read_only=True) as con:
    frame = con.execute(
        """
        SELECT name, method, gain.value AS gain, retention.value AS retention FROM entries
        WHERE track = $track ORDER BY front, gain DESC LIMIT 100""",
        {"track": st.query_params.get("track")},
    ).df()
st.dataframe(frame)
st.scatter_chart(frame, x="gain", y="retention", color="method")
