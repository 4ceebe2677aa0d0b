"""Tracks and their bases: what is held fixed so that rows compare."""
