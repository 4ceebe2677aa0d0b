"""Who answers: policies and other agents. Imports `harness.types`, `harness.policy` and libraries, never a task."""
