"""Prior skill: repeat a list, as it is or with one change."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, PLACES, THINGS, Skill


class Editing(Skill):
    """A list of words; it is to be repeated, or one word to be replaced, dropped or doubled."""

    card = Card(
        asks="Repeat a list, as it is or with one word replaced, dropped or said twice.",
        rule="The answer is the list that was asked for, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.0,
        example="Ada has pens Oslo hats. Replace Oslo by keys. → pens keys hats",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """The list, then the edit."""
        *words, new = r.sample([*NAMES, *PLACES, *THINGS], r.randint(4, 9))
        at = r.randrange(len(words))
        what = words[at]
        question, put = r.choice(
            [
                ("Repeat that.", [what]),
                (f"Replace {what} by {new}.", [new]),
                (f"Drop {what}.", []),
                (f"Say {what} twice.", [what, what]),
            ]
        )
        edited = " ".join([*words[:at], *put, *words[at + 1 :]])
        return f"{r.choice(NAMES)} has {' '.join(words)}. {question}", edited
