"""The command line: one file a group of commands, and how all of them speak."""
