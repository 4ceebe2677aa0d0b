"""What is asked: one short file a task. Imports `harness.types` and the task's own libraries, nothing else of ours."""
