"""The DuckDB index over the records of a home: who writes it, what is derived, and how it is read."""
