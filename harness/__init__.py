"""The engine: vocabulary, registry, rollouts, adaptation, drift, scoring, statistics, store, command line."""

__version__ = "0.1.0"
