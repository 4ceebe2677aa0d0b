"""Gymnasium both ways: any environment of it is a task (`tasks.gym_task`), any task an environment (`envs.as_env`)."""
