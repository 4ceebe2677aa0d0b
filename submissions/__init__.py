"""How an adapted checkpoint comes in: its claim, the gate, the queue, the worker."""
