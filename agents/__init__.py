"""Who answers: policies and other agents. Imports the public door, what a policy is, and libraries; never a task."""
