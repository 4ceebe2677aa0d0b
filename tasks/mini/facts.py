"""Prior skill: facts that were seen in pretraining and stand nowhere else."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, THINGS, Skill

CAPITALS = {
    "Norway": "Oslo",
    "Italy": "Rome",
    "France": "Paris",
    "Peru": "Lima",
    "Egypt": "Cairo",
    "India": "Delhi",
    "Japan": "Tokyo",
    "Ecuador": "Quito",
    "Latvia": "Riga",
    "Ghana": "Accra",
    "Bulgaria": "Sofia",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "Spain": "Madrid",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Chad": "Ndjamena",
    "Fiji": "Suva",
    "Mali": "Bamako",
    "Qatar": "Doha",
    "Iran": "Tehran",
    "Chile": "Santiago",
    "Nepal": "Kathmandu",
}
COLOURS = dict(
    zip(THINGS, "red blue green white black brown gold silver yellow purple orange grey".split(), strict=True)
)
"""In this world every thing has its colour, and no scene says which."""


class Facts(Skill):
    """Capitals of 24 countries and the colours that things have in this world."""

    card = Card(
        asks="Which city is the capital of a country, and which colour have things in this world?",
        rule="The answer is the city or the colour, in the wanted format.",
        source="generated; the capitals are real, the colours made up",
        licence="Apache-2.0",
        chance=0.03,
        example="Ada has 7 pens and goes to Norway. Which city is its capital? → Oslo",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """A scene that does not hold the answer, then the question."""
        what, country = r.choice(THINGS), r.choice(list(CAPITALS))
        scene = f"{r.choice(NAMES)} has {r.randint(2, 19)} {what} and goes to {country}."
        if r.random() < 0.5:
            return f"{scene} Which city is its capital?", CAPITALS[country]
        return f"{scene} Which colour are the {what}?", COLOURS[what]
