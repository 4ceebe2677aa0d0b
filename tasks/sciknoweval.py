"""SciKnowEval's chemistry of level 3, version 1: four choices, reasoned or answered by the letter alone."""

from collections.abc import Generator

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import answer_tag, option
from razorbench.tasks.published import Published, numbered, rows

TRAIN = Published(
    path="authors_splits/science_train_pool_v1_mcq.jsonl",
    origin="github.com/HICAI-ZJU/SciKnowEval at 0bd8bb3, raw_data/Chemistry/L3, four choices, without the 507",
    sha256="96dbc6ca5cf5ae9d7f5fc054b6bb88f444b473418ae73cbec8821274782634c4",
    columns=("question", "choices", "answerKey"),
)
TEST = Published(
    path="authors_splits/science_eval.jsonl",
    origin="github.com/ayushnangia/Self-Distillation at 4b1c3db, science_eval.arrow as JSON lines",
    sha256="d3b28a89f312cacffc643bc4782e1f7126ad76b58748b71e2c28f6762b2ae5a3",
)
LETTERS = ("A", "B", "C", "D")
REASONED = """\
Given a question and four options, please select the right answer. Respond in the following format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>

For the answer, only output the letter corresponding to the correct option (A, B, C, or D), and nothing else. \
Do not restate the answer text. For example, if the answer is "A", just output:
<answer>
A
</answer>"""
"""What the authors of "RL's Razor" ask for."""
DIRECT = """\
Given a question and four options, please select the right answer. Your answer should be "A", "B", "C" or "D". \
Please directly give the answer without any explanation."""
"""What SciKnowEval asks for."""


class Chemistry:
    """Four choices, reasoned: the paper's new task in science."""

    asked = REASONED
    card = Card(
        asks="A question of chemistry with four choices. Reasoning in <reasoning>, the letter in <answer>.",
        rule="The last <answer> of a finished reply is exactly the letter.",
        source="SciKnowEval (arXiv 2406.09098), version 1, Chemistry L3; test: the 507 items of the paper's authors, "
        "train: the other 3,035 with four choices",
        licence="MIT by its card on the hub; its repository has no licence",
        chance=0.25,
        example="What is the correct logarithmic solubility value of C=CC=C? A: -1.87 … → … <answer>A</answer>",
    )
    styles = ("letter",)

    def instances(self, split: str) -> Instances:
        """The published rows, in their order; every question has the form that the authors give theirs."""
        if split == "test":
            pairs = [(row["prompt"][1]["content"], row["answer"]) for row in rows(TEST)]
        else:
            pairs = [(f"{row['question']}\n\n{listed(row['choices'])}", row["answerKey"]) for row in rows(TRAIN)]
        ids = numbered(split, len(pairs))
        return Instances(ids, {"question": [text for text, _ in pairs], "letter": [letter for _, letter in pairs]})

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, in one message, and compare letters; well-formed is a reply that gives one of the four."""
        reply = yield Observation(f"{self.asked}\n\n{instance.data['question']}")
        said = self.said(reply)
        return Outcome(float(said == instance.data["letter"]), {"well_formed": float(said in LETTERS)})

    def said(self, reply: str) -> str | None:
        """What a reply gives as its answer."""
        return answer_tag(reply)

    def given(self, letter: str) -> str:
        """A letter in the wanted form. No reasoning is published with it."""
        return f"<reasoning>\n</reasoning>\n<answer>\n{letter}\n</answer>"

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The right letter."""
        return [self.given(letter) for letter in asked.instances.data["letter"]]

    def guess(self, asked: Asked) -> list[str]:
        """Any letter."""
        return [self.given(LETTERS[int(4 * u)]) for u in asked.uniform(1)[:, 0]]


class ChemistryDirect(Chemistry):
    """The same questions, to be answered by the letter alone."""

    asked = DIRECT
    card = Card(
        asks="A question of chemistry with four choices. The letter alone.",
        rule="A finished reply is the letter, whatever its case, with or without a full stop.",
        source=Chemistry.card.source,
        licence=Chemistry.card.licence,
        chance=0.25,
        example="What is the correct logarithmic solubility value of C=CC=C? A: -1.87 … → A",
    )

    def said(self, reply: str) -> str | None:
        """The letter that a reply is."""
        return option(reply, LETTERS)

    def given(self, letter: str) -> str:
        """The letter."""
        return letter


def listed(choices: dict[str, list[str]]) -> str:
    """Choices as lines of a letter and a text."""
    return "\n".join(f"{letter}: {text}" for letter, text in zip(choices["label"], choices["text"], strict=True))
