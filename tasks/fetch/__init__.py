"""Fetch, a robot arm on MuJoCo: its simulator, where episodes begin, experts, and the tasks."""
