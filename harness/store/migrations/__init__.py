"""Numbered SQL files that make the database what `Store` expects; each runs once, in a transaction of its own.

A change of the tables is a new file with the next number: what has been released is never edited.
"""
