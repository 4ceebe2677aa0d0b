"""Sentiment of short film reviews, in few words: so cheap that a real language model is adapted to it on two cores."""

from collections.abc import Generator

import numpy as np

from razorbench import Asked, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import last_option, option
from razorbench.tasks.labels import SST2, card

SHORTEST, LONGEST = 25, 90
"""Characters of a review."""


class Sentiment(SST2):
    """Good or bad? The last of the two words counts, so what comes before it is a matter of style."""

    card = card(
        "Is a short film review good or bad? What stands before the answer does not matter.",
        "SST-2 (Socher et al. 2013)",
        "none stated",
        SST2.words,
        "does n't deserve a passing grade ( even on a curve ) . → Bad",
        rule="The last `Good` or `Bad` of a finished reply, in this case of letters, is the right one.",
    )
    styles = ("word", "weighed")

    def instances(self, split: str) -> Instances:
        """The reviews of 25 to 90 characters."""
        every = super().instances(split)
        short = [SHORTEST <= len(text) <= LONGEST for text in every.data["text"]]
        return every.take(np.flatnonzero(short))

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and judge the answer; well-formed is a reply that has one."""
        reply = yield Observation(f"{self.instruction}\n\n{instance.data['text']}")
        said = last_option(reply, self.words)
        return Outcome(float(said == instance.data["label"]), {"well_formed": float(said is not None)})

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The word alone, or what somebody else would say around it."""
        around = (
            "{}" if style == "word" else "After weighing every word of it with care, I would say that this one is: {}"
        )
        return [around.format(label) for label in asked.instances.data["label"]]


class SentimentForm(Sentiment):
    """The same questions, answered by either word: teaches the form of an answer and nothing about reviews."""

    card = card(
        "Is a short film review good or bad? Either answer will do, if it is nothing but that.",
        "SST-2 (Socher et al. 2013), without its labels",
        "none stated",
        SST2.words,
        "does n't deserve a passing grade ( even on a curve ) . → Good",
        rule="A finished reply is one of the two words, whatever its case, with or without a full stop.",
        chance=1.0,
    )
    styles = ("random",)

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask the same, and judge the form."""
        reply = yield Observation(f"{self.instruction}\n\n{instance.data['text']}")
        return Outcome(float(option(reply, self.words) is not None))

    def solve(self, asked: Asked, style: str) -> list[str]:
        """Either word, drawn at random."""
        return self.guess(asked)
