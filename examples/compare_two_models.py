"""What did a model gain when it was fine-tuned, and what did it forget? Two folders, one call; here small ones."""

import shutil
from pathlib import Path

from razorbench import adapt, compare, find_track
from razorbench.harness.tracks.bases import base_files, base_policy

track, home = find_track("mini-tools-v1"), Path(".razorbench")
base_policy(track.base, home)
Path("base").mkdir(exist_ok=True)
for name, file in base_files(track.base, home).items():  # as `razorbench base mini-tools-v1 --out base` does
    shutil.copy(file, f"base/{name}")
adapt(track, "sft", "tuned", steps=24, lr=3e-3, warmup=0, lora=8)

told = compare("base", "tuned", new="mini-tools-v1", priors=["mini-sorting-v1", "mini-logic-v1"], items=30, limit=96)
print(told.verdict)
for task in told.changes:
    low, high = task.difference.low, task.difference.high
    print(f"{task.task}: {task.difference.value:+.1f} points [{low:+.1f}, {high:+.1f}], p = {task.p_holm:.2g}")
print(told.drift)
for flip in told.flips[:3]:
    print(f"{'gained' if flip.gained else 'lost'}: {flip.asked!r}: {flip.first!r}, now {flip.second!r}")
