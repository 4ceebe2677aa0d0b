"""Adapting a policy: methods, the loop that runs them, and how it is computed."""
