"""ManiSkill3, robots on SAPIEN: its environments as a table, the simulator, experts, and the tasks."""
