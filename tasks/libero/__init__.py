"""LIBERO, a Panda arm on MuJoCo: its suites and their tasks, the simulator, experts."""
