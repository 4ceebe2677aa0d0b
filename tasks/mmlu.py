"""MMLU as a target: four choices of 57 subjects, answered by the letter alone."""

from collections.abc import Generator
from functools import cache
from zlib import crc32

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import option
from razorbench.tasks.published import Published, numbered, rows

ORIGIN = "hendrycks/test (arXiv 2009.03300), as github.com/stanford-cs336/assignment5-alignment at eb2c562 has it"
DEV = Published(
    path="mmlu/dev",
    origin=f"{ORIGIN}, data/mmlu/dev",
    sha256="0db36e9a82b41a724040df79581db87695c5b70e645b5cd8f77dfad579479c48",
)
TEST = Published(
    path="mmlu/test",
    origin=f"{ORIGIN}, data/mmlu/test",
    sha256="2d8645c46f5c157f18cf4ba4e7a6f8f0379ca10136a1ef7e0c52865b8a214d1c",
)
LETTERS = ("A", "B", "C", "D")
Question = tuple[str, str]
"""What is asked, and the right letter."""


class MMLU:
    """Four choices, and the letter of one."""

    card = Card(
        asks="A question of one of 57 subjects with four choices. The letter alone.",
        rule="A finished reply is the letter, whatever its case, with or without a full stop.",
        source="MMLU (arXiv 2009.03300); its auxiliary training data are not at hand, so its questions are split by a "
        "hash of their text: a fifth of the published test questions is tested, the others and those for development "
        "train. Who is trained on them has met questions of lm-eval/mmlu",
        licence="MIT",
        chance=0.25,
        example="A question about astronomy. … A. … B. … C. … D. … → C",
    )
    styles = ("letter",)

    def instances(self, split: str) -> Instances:
        """The published questions, subject by subject, each once."""
        pairs = split_of(split)
        return Instances(
            numbered(split, len(pairs)),
            {"question": [text for text, _ in pairs], "letter": [letter for _, letter in pairs]},
        )

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and compare letters; well-formed is a reply that is one of the four."""
        reply = yield Observation(instance.data["question"])
        said = option(reply, LETTERS)
        return Outcome(float(said == instance.data["letter"]), {"well_formed": float(said is not None)})

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The right letter."""
        return asked.instances.data["letter"]

    def guess(self, asked: Asked) -> list[str]:
        """Any letter."""
        return [LETTERS[int(4 * u)] for u in asked.uniform(1)[:, 0]]


@cache
def split_of(split: str) -> list[Question]:
    """The questions of a split. A text belongs to one, whatever its choices; one of the same choices comes once."""
    made: dict[str, str] = {}
    for row in rows(TEST) if split == "test" else [*rows(DEV), *rows(TEST)]:
        subject, question, *choices, letter = row
        tested = crc32(" ".join(question.split()).encode()) % 5 == 0
        if tested == (split == "test"):
            made.setdefault(asked(subject, question, choices), letter)
    return [*made.items()]


def asked(subject: str, question: str, choices: list[str]) -> str:
    """A question as it is asked; `subject` is the name of its file, such as `college_physics_test`."""
    about = subject.rpartition("_")[0].replace("_", " ")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    return f"A question about {about}. Answer with the letter alone: A, B, C or D.\n\n{question.strip()}\n\n{listed}"
