"""Prove a task: play it in the ways that show whether its scores can be trusted (`razorbench task check NAME`)."""
