"""Numbered SQL files that make the database what `Store` expects; each runs once, in a transaction of its own.

A change of the tables is a new file with the next number: what has been released is never edited.
"""

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from razorbench.harness.store.requests import StoreError

MIGRATIONS = {int(path.name[:4]): path for path in sorted(Path(__file__).parent.glob("*.sql"))}


def last() -> int:
    """The last migration that this program knows."""
    return max(MIGRATIONS)


def version(con: duckdb.DuckDBPyConnection) -> int:
    """The last migration of a database. StoreError if this program does not know it."""
    (number,) = con.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchall()[0]
    if number > last():
        raise StoreError(f"the store has migration {number} and this razorbench knows {last()}: upgrade razorbench")
    return number


def migrate(con: duckdb.DuckDBPyConnection) -> None:
    """Bring a database to the last migration, and note in `stale` the entries whose derived rows are to be made."""
    con.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMP)"
    )
    before = version(con)
    for number, path in MIGRATIONS.items():
        if number > before:
            con.begin()
            con.execute(path.read_text(encoding="utf-8"))
            con.execute(
                "INSERT INTO migrations VALUES (?, ?, ?)", [number, path.stem, datetime.now(UTC).replace(tzinfo=None)]
            )
            con.commit()
    # Whose derived rows are out of date, and whether numbers may have changed. A migration that changes what is derived
    # empties `runs`; were its writer killed before it made them again, the next one finds them missing.
    con.execute("CREATE OR REPLACE TEMP TABLE stale (entry VARCHAR, numbers BOOLEAN)")
    con.execute("INSERT INTO stale SELECT DISTINCT entry, true FROM submissions ANTI JOIN runs USING (id)")
