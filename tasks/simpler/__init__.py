"""SimplerEnv itself (arXiv 2405.05941), in an interpreter of its own: table, states, adapter, environment, tasks."""
