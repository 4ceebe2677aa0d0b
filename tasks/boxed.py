"""Mathematics with the answer in a box: Open-Reasoner-Zero with MATH500, and grade school word problems (GSM8K)."""

import re
from collections.abc import Generator

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import boxed, equal
from razorbench.tasks.published import OnHub, Published, numbered, rows

ASKED = "Please reason step by step, and put your final answer within \\boxed{}."
RULE = "The last \\boxed{} of a finished reply is equal to the answer by the math-verify library."


class Boxed:
    """A question in words, any working, one answer in a box."""

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and compare what is in the last box; well-formed is a finished reply with a box.

        Where the comparison itself fails, and not the answer, `equal` raises WorldFailed: the episode is unscored.
        """
        reply = yield Observation(f"{instance.data['question']}\n\n{ASKED}")
        said = boxed(reply)
        right = said is not None and equal(said, instance.data["answer"])
        return Outcome(float(right), {"well_formed": float(said is not None)})

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The answer in a box, after the published solution in the style `solution`."""
        data = asked.instances.data
        answers = [f"\\boxed{{{answer}}}" for answer in data["answer"]]
        if style == "answer":
            return answers
        return [f"{solution}\n{answer}" for solution, answer in zip(data["solution"], answers, strict=True)]


# --- Open-Reasoner-Zero and MATH500 -----------------------------------------------------------------------------------

ORZ = Published(
    path="orz/orz_train_usable.json",
    origin="github.com/KevinH48264/Open-Reasoner-Zero at 21baa9e and its fork of avecplezir at ccb6bd6",
    sha256="435650e30775305654842cfd11a8dcafd99f8edaafa27673c4da465636341b8e",
)
MATH500 = Published(
    path="math/math500_full_solutions.jsonl",
    origin="github.com/hkust-nlp/simpleRL-reason at cf1c785, examples/simplelr_math_eval/data/math500/test.jsonl",
    sha256="6923f846d6c415f1da855cf720ca76dd585d63f2fe6b6165e56b153f3af414b6",
    columns=("problem", "answer", "unique_id"),
    hub=OnHub("HuggingFaceH4/MATH-500", "ff5b20257d8185524591543f8ff5993951537bb8", "test.jsonl"),
)


class OrzMath(Boxed):
    """The paper's new task in mathematics, as far as its training problems are in the open at a pinned commit."""

    card = Card(
        asks="A problem of a mathematics competition. Any working, the answer in \\boxed{}.",
        rule=RULE,
        source="train: 4,718 of the 57k problems of Open-Reasoner-Zero (arXiv 2503.24290); test: MATH500, the 500 of "
        "MATH (arXiv 2103.03874) that PRM800K holds out",
        licence="MIT",
        chance=0.0,
        example="How many vertical asymptotes does y = 2/(x² + x − 6) have? … → … \\boxed{2}",
    )
    styles = ("answer",)

    def instances(self, split: str) -> Instances:
        """Ids of test are MATH's own, such as `test/precalculus/807.json`."""
        if split == "test":
            pairs = [(row["problem"], row["answer"]) for row in rows(MATH500)]
            ids = np.array([row["unique_id"] for row in rows(MATH500)])
        else:
            pairs = [(asked["value"], told["ground_truth"]["value"]) for asked, told in rows(ORZ)]
            ids = numbered(split, len(pairs))
        return Instances(
            ids, {"question": [text.strip() for text, _ in pairs], "answer": [a.strip() for _, a in pairs]}
        )


# --- GSM8K ------------------------------------------------------------------------------------------------------------


def grade_school(split: str, sha256: str) -> Published:
    """A split of GSM8K."""
    return Published(
        path=f"gsm8k/{split}.jsonl",
        origin=f"github.com/openai/grade-school-math at 3101c7d, grade_school_math/data/{split}.jsonl",
        sha256=sha256,
        columns=("question", "answer"),
        hub=OnHub("openai/gsm8k", "e53f048856ff4f594e959d75785d2c2d37b678ee", f"main/{split}-00000-of-00001.parquet"),
    )


GSM8K_SPLITS = {
    "train": grade_school("train", "a15c77a9c9be31ea89c2607ca83ce6f4b405cc6079c67fac13ae4b4fe07fc265"),
    "test": grade_school("test", "e5cba797d83336f35da00c37e973eb7e56b60c14b841e22d2af3acad2f3a47c9"),
}
ANNOTATION = re.compile(r"<<[^>]*>>")
"""What a calculator was asked, in the middle of a solution: `48/2 = <<48/2=24>>24`."""


class GSM8K(Boxed):
    """Word problems of two to eight steps; all answers are whole numbers."""

    card = Card(
        asks="A word problem of grade school mathematics. Any working, the answer in \\boxed{}.",
        rule=RULE,
        source="GSM8K (arXiv 2110.14168), 7,473 training and 1,319 test problems",
        licence="MIT",
        chance=0.0,
        example="Natalia sold clips to 48 of her friends in April, and half as many in May. How many in all? … → "
        "48/2 = 24 … \\boxed{72}",
    )
    styles = ("solution", "answer")

    def instances(self, split: str) -> Instances:
        """The published rows, in their order. Answers have no commas, solutions none of a calculator's marks."""
        read = rows(GSM8K_SPLITS[split])
        parts = [ANNOTATION.sub("", row["answer"]).partition("\n####") for row in read]
        return Instances(
            numbered(split, len(read)),
            {
                "question": [row["question"].strip() for row in read],
                "answer": [answer.strip().replace(",", "") for _, _, answer in parts],
                "solution": [solution.strip() for solution, _, _ in parts],
            },
        )
