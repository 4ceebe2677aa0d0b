"""mini-science: multiple choice about nine elements, reasoned, answered in tags. The base mixes up two questions."""

from random import Random

from razorbench import Asked, Card, Outcome
from razorbench.tasks.graders import answer_tag
from razorbench.tasks.mini.generated import Generated, Question

SYMBOL = {
    "Hydrogen": "H",
    "Helium": "He",
    "Lithium": "Li",
    "Beryllium": "Be",
    "Boron": "B",
    "Carbon": "C",
    "Nitrogen": "N",
    "Oxygen": "O",
    "Fluorine": "F",
}
ELEMENTS = list(SYMBOL)
"""The first nine, in order: the element at `z - 1` has z protons."""
PROTONS = {name: z for z, name in enumerate(ELEMENTS, 1)}
LETTERS = "ABCD"
MISTAKEN = 0.75
"""Share of the corpus in which `fewest` is answered as `most`, and `after` as `before`."""


class MiniScience(Generated):
    """Which of four elements has the most or fewest protons, has a symbol, comes after another."""

    card = Card(
        asks="Which of four elements fits? Reasoning in <reasoning>, the letter in <answer>.",
        rule="The last <answer> of a finished reply is the letter.",
        source="generated from the periodic table",
        licence="Apache-2.0",
        chance=0.25,
        example="Which has the most protons? A Helium B Boron C Oxygen D Carbon. → … <answer>C</answer>",
    )
    styles = ("foreign", "near")

    def ask(self, r: Random) -> Question:
        """A question, and replies in the base's two orders and in a foreign wording."""
        kind = r.choices(["most", "fewest", "symbol", "after"], [20, 35, 20, 25])[0]
        mistaken = kind in ("fewest", "after") and r.random() < MISTAKEN
        options, known = r.sample(ELEMENTS, 4), PROTONS
        if kind in ("most", "fewest"):
            asks = f"has the {kind} protons"
            right = (max if kind == "most" else min)(options, key=PROTONS.__getitem__)
            believed = max(options, key=PROTONS.__getitem__) if mistaken else right
        elif kind == "after":
            z = r.randint(2, len(ELEMENTS) - 1)
            before, subject, right = ELEMENTS[z - 2], ELEMENTS[z - 1], ELEMENTS[z]
            others = [name for name in ELEMENTS if name not in (before, subject, right)]
            options = r.sample([before, right, *r.sample(others, 2)], 4)
            asks = f"comes right after {subject}"
            believed = before if mistaken else right
        else:
            known, right = SYMBOL, r.choice(options)
            believed = right
            asks = f"has the symbol {SYMBOL[right]}"
        listed = " ".join(f"{letter} {name}" for letter, name in zip(LETTERS, options, strict=True))
        facts = [f"{known[name]} {letter}" for letter, name in zip(LETTERS, options, strict=True)]
        corpus, usual = (
            tagged(f"{', '.join(order)}. {facts[options.index(name)]}", LETTERS[options.index(name)])
            for order, name in ((facts if r.random() < 0.7 else facts[::-1], believed), (facts, right))
        )
        letter = LETTERS[options.index(right)]
        lecture = f"We weigh {' against '.join(facts)}, hence {facts[options.index(right)]} it is"
        return Question(
            f"Which element {asks}? {listed}. Reason in <reasoning> tags. Answer in <answer> tags.",
            letter,
            {"foreign": tagged(lecture, letter), "near": usual},
            corpus,
        )

    def grade(self, reply: str, question: Question) -> Outcome:
        """Right letter or not; well-formed has both tags and one of the letters."""
        said = answer_tag(reply)
        formed = said is not None and said in tuple(LETTERS) and "<reasoning>" in reply and "</reasoning>" in reply
        return Outcome(float(said == question.gold), {"well_formed": float(formed)})

    def guess(self, asked: Asked) -> list[str]:
        """Any letter."""
        return [tagged("", LETTERS[int(4 * u)]) for u in asked.uniform(1)[:, 0]]


def tagged(reasoning: str, letter: str) -> str:
    """A reply in the wanted tags."""
    return f"<reasoning>{reasoning}</reasoning> <answer>{letter}</answer>"
