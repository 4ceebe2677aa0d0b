"""Rows into and out of DuckDB, as dicts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa


def rows(con: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a query finds, one dict a row. JSON is parsed; times are UTC without saying so."""
    result = con.execute(sql, parameters)
    columns = [(column[0], str(column[1]) == "JSON") for column in result.description or ()]
    return [
        {name: json.loads(cell) if parse and cell else cell for (name, parse), cell in zip(columns, row, strict=True)}
        for row in result.fetchall()
    ]


def append(con: duckdb.DuckDBPyConnection, table: str, made: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; a column that they lack gets its default."""
    if made:
        con.register("fresh", pa.Table.from_pylist(list(made)))
        con.execute(f"INSERT INTO {table} BY NAME FROM fresh")
        con.unregister("fresh")
