"""Adapt a small language model in two ways, score both, and ask whether they differ: task by task, with intervals."""

from razorbench import adapt, compare, score

TRACK = "mini-tools-v1"

sft = score(adapt(TRACK, "sft", "made/sft", steps=8), TRACK)
grpo = score(adapt(TRACK, "dr-grpo", "made/dr-grpo", steps=8), TRACK)
for record in (sft, grpo):
    print(
        f"{record.method}: gain {record.gain:+.1f}, retention {record.retention:+.1f}, {record.drifts[0].nats:.2g} nats"
    )
for task in compare(sft, grpo).changes:
    low, high = task.difference.low, task.difference.high
    print(f"{task.task}: {task.difference.value:+.1f} points [{low:+.1f}, {high:+.1f}], p = {task.p_holm:.2g}")
