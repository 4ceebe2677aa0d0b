"""Measurements whose figures stand in docs/: the study of parity-mnist, and speed beside peers in the same run."""
