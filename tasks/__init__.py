"""What is asked: one short file a task. Imports the public door and the task's own libraries, nothing else of ours."""
