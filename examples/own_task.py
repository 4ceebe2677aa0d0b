"""A task in a script: a model learns to say a word backwards. What does it forget of sorting?"""

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, adapt, each, register, score
from razorbench.harness.tracks.catalogue import find_track

WORDS = ("stone", "river", "cloud", "apple", "house", "train", "green", "light")


@register("task", "backwards-v1")
class Backwards:
    """Each question is a pair of words."""

    card = Card("Say a word backwards.", "The reply is the word, last letter first.", "made here", "CC0-1.0", 0.0)
    styles = ("plain",)

    def instances(self, split: str) -> Instances:
        """The training words are others than those of the test."""
        words = WORDS[:4] if split == "test" else WORDS[4:]
        return Instances(np.array(words), {"word": list(words)})

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """One question, one answer."""
        reply = yield Observation(f"Backwards: {instance.data['word']}")
        return Outcome(float(reply.strip() == instance.data["word"][::-1]))

    def solve(self, asked: Asked, style: str) -> list[str]:
        """Right answers, for demonstrations."""
        return [word[::-1] for word in asked.instances.data["word"]]


track = replace(
    find_track("mini-tools-v1"),
    id="backwards-v1",
    new="backwards-v1",
    priors={"skills": ("mini-sorting-v1",)},
    items=40,
    drift_items=4,
    checkpoints=0,
    demo={},
)
record = score(adapt(track, "sft", "made/backwards", steps=6, batch=4, examples=4, warmup=1), track)
for task in record.scores:
    print(f"{task.task}: {task.base:.0f} → {task.adapted:.0f} % right")
