"""The engine, one room a folder: core, learn, tracks, measure, store, runs, report, cli.

None imports from a later one.
"""
