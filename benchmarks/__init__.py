"""Measurements whose figures stand in docs/: the studies, and speed beside peers in the same run."""
