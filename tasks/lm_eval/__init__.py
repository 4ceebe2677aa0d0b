"""Tasks of EleutherAI's lm-evaluation-harness as benchmarks, by the ids `lm-eval/…`."""
