"""The google robot of SimplerEnv on SAPIEN 3: its scenes, its controller, experts, and the tasks."""
