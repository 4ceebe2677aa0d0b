"""IFEval as a target: instructions with constraints that a program verifies, ours to train, published ones to test."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from random import Random
from typing import Any

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.constraints import CHOICES, Constraint, exact, follows
from razorbench.tasks.graders import finished
from razorbench.tasks.published import Published, numbered, rows

TEST = Published(
    path="ifeval/input_data.jsonl",
    origin="github.com/josejg/instruction_following_eval at 0c495b2, instruction_following_eval/data/input_data.jsonl",
    sha256="d347ec7f648fa289990b966418e099ded068d7e9feb9f262b82cc20fb191e305",
)
TRAIN = 5000
"""Prompts that are made for training. There is no end to them."""

FORMS = (
    *("a short story", "a poem", "a letter to a friend", "a blog post", "a news report", "a speech", "a review"),
    *("a dialogue between two neighbours", "an advertisement", "a diary entry", "a summary for children", "a song"),
    *("a list of tips", "a travel guide", "a product description", "a formal email", "an essay", "a riddle"),
)
TOPICS = (
    *("the first snow of the year", "a lighthouse keeper", "learning to swim", "the history of bread", "night trains"),
    *("a lost umbrella", "growing tomatoes on a balcony", "how bees find their way", "moving to another city"),
    *("repairing an old bicycle", "the rules of chess", "a village market", "why leaves change their colour"),
    *("a robot that paints", "saving water at home", "a football match in the rain", "the moon", "choosing a dog"),
    *("working from home", "a broken clock", "tea and coffee", "volcanoes", "a museum of toys", "public libraries"),
    *("hiking with children", "an orchestra on strike", "the deep sea", "a cook who hates salt", "sleeping well"),
)
QUESTIONS = (
    *("Is a tomato a fruit?", "Can penguins fly?", "Is Mars larger than Earth?", "Will it rain tomorrow in Paris?"),
    *("Do spiders have six legs?", "Is chess older than football?", "Is seven a prime number?", "Can fish drown?"),
    *("Is glass made of sand?", "Was Mozart born in Vienna?", "Do bats lay eggs?", "Is zero an even number?"),
)
WORDS = (
    *("river", "window", "silver", "garden", "engine", "winter", "bottle", "candle", "forest", "mirror", "pocket"),
    *("ladder", "button", "harbor", "planet", "butter", "pencil", "island", "thunder", "blanket", "corner", "copper"),
    *("feather", "lantern", "marble", "needle", "orchard", "pepper", "saddle", "tunnel", "velvet", "whistle"),
)
"""Keywords: none stands in a form, a topic or an end."""
ENDS = ("That is all.", "Tell me what you think.", "Let us begin.", "And so it ends.", "Can I do more for you?")
RELATIONS = ("at least", "less than")


def first_word(paragraphs: int, r: Random, words: list[str]) -> Mapping[str, Any]:
    """With which word one of some paragraphs begins."""
    return {"num_paragraphs": paragraphs, "nth_paragraph": r.randint(1, paragraphs), "first_word": words.pop()}


@dataclass(frozen=True)
class Kind:
    """How a kind of constraint is asked for."""

    wordings: tuple[str, ...]
    draw: Callable[[Random, list[str]], Mapping[str, Any]] = lambda r, words: {}
    """Its arguments at random; keywords are taken off a list of them."""
    group: str = ""
    """Of a group, one is asked for at most."""
    clash: tuple[str, ...] = ()
    """Kinds and groups that it cannot stand beside."""


KINDS = {
    "punctuation:no_comma": Kind(("Do not use any commas.", "Use no comma anywhere in your reply.")),
    "length_constraints:number_words": Kind(
        ("Use {relation} {num_words} words.", "Your reply should have {relation} {num_words} words."),
        lambda r, words: {"relation": r.choice(RELATIONS), "num_words": r.randrange(80, 200, 10)},
    ),
    "keywords:existence": Kind(
        ("Use these words: {keywords}.", "What must occur: {keywords}."),
        lambda r, words: {"keywords": [words.pop() for _ in range(r.randint(1, 3))]},
    ),
    "keywords:forbidden_words": Kind(
        ("Do not use these words: {forbidden_words}.", "Avoid what follows: {forbidden_words}."),
        lambda r, words: {"forbidden_words": [words.pop() for _ in range(r.randint(1, 3))]},
    ),
    "keywords:frequency": Kind(
        ("The word {keyword} should occur {relation} {frequency} times.",),
        lambda r, words: {"keyword": words.pop(), "relation": r.choice(RELATIONS), "frequency": r.randint(2, 4)},
    ),
    "keywords:letter_frequency": Kind(
        ("The letter {letter} should occur {let_relation} {let_frequency} times.",),
        lambda r, words: r.choice(
            [
                {"letter": r.choice("aeinorst"), "let_relation": "at least", "let_frequency": r.randint(5, 30)},
                {"letter": r.choice("jqxz"), "let_relation": "less than", "let_frequency": r.randint(2, 6)},
            ]
        ),
    ),
    "detectable_content:number_placeholders": Kind(
        ("Use at least {num_placeholders} placeholders in square brackets, such as [name].",),
        lambda r, words: {"num_placeholders": r.randint(1, 5)},
    ),
    "detectable_format:number_highlighted_sections": Kind(
        ("Highlight at least {num_highlights} phrases with asterisks, *like this*.",),
        lambda r, words: {"num_highlights": r.randint(1, 4)},
    ),
    "detectable_format:title": Kind(("Give it a title in double angular brackets, such as <<my title>>.",)),
    "detectable_format:number_bullet_lists": Kind(
        ("Have exactly {num_bullets} bullet points, each on a line that begins with * or -.",),
        lambda r, words: {"num_bullets": r.randint(2, 6)},
        group="shape",
    ),
    "detectable_format:multiple_sections": Kind(
        ("Write {num_sections} sections, and begin each with {section_spliter} and its number.",),
        lambda r, words: {"section_spliter": r.choice(("Section", "PART", "Day")), "num_sections": r.randint(2, 4)},
        group="shape",
    ),
    "length_constraints:number_paragraphs": Kind(
        ("Write {num_paragraphs} paragraphs, and part them by three asterisks: ***",),
        lambda r, words: {"num_paragraphs": r.randint(2, 5)},
        group="shape",
    ),
    "length_constraints:nth_paragraph_first_word": Kind(
        (
            "Write {num_paragraphs} paragraphs, parted by an empty line; paragraph {nth_paragraph} must begin with the "
            "word {first_word}.",
        ),
        lambda r, words: first_word(r.randint(2, 4), r, words),
        group="shape",
    ),
    "detectable_format:json_format": Kind(
        ("Reply with JSON alone.", "Your entire reply must be valid JSON."), group="shape", clash=("edge",)
    ),
    "combination:two_responses": Kind(
        ("Give two different replies, parted by six asterisks: ******",), group="shape", clash=("edge",)
    ),
    "combination:repeat_prompt": Kind(
        ("First repeat the request above word for word, and nothing before it; then do it. Do not repeat this line.",),
        group="shape",
        clash=(
            *("punctuation:no_comma", "keywords:forbidden_words", "keywords:frequency", "keywords:letter_frequency"),
            *("startend:quotation", "length_constraints:number_words"),
        ),
    ),
    "startend:quotation": Kind(("Put your entire reply into double quotation marks.",), group="edge"),
    "startend:end_checker": Kind(
        ("End with exactly these words, and nothing after them: {end_phrase}",),
        lambda r, words: {"end_phrase": r.choice(ENDS)},
        group="edge",
    ),
    "detectable_content:postscript": Kind(
        ("Add a postscript at the end that begins with {postscript_marker}",),
        lambda r, words: {"postscript_marker": r.choice(("P.S.", "P.P.S"))},
        group="edge",
    ),
}
"""All kinds that are verified but for constrained responses, which belong to a question."""
QUESTIONED = 0.04
"""Share of training prompts that are questions with three answers to choose from."""


class IFEval:
    """Follow all constraints of an instruction."""

    card = Card(
        asks="An instruction with one to three constraints on the reply, such as a number of words or a title.",
        rule="A finished reply follows all of them, strictly, by IFEval's own rules. Chance is that of a single word.",
        source="train: made here; test: those 386 of the 541 prompts of IFEval (arXiv 2311.07911) of which every "
        "constraint has an exact rule, so none about languages, case in English, sentences or capital words",
        licence="Apache-2.0",
        chance=0.127,
        example="Write a poem about the moon. Do not use any commas. → The moon is round and white …",
    )

    def instances(self, split: str) -> Instances:
        """The published prompts under their keys, or ours under their numbers."""
        if split == "train":
            made, ids = ours(), numbered(split, TRAIN)
        else:
            read = [(row["key"], row["prompt"], published(row)) for row in rows(TEST)]
            kept = [(key, text, asked) for key, text, asked in read if all(map(exact, asked))]
            made, ids = [(text, asked) for _, text, asked in kept], np.array([f"ifeval-{key}" for key, _, _ in kept])
        return Instances(ids, {"prompt": [text for text, _ in made], "constraints": [asked for _, asked in made]})

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and verify; `followed` is the share of the constraints that are."""
        reply = yield Observation(instance.data["prompt"])
        kept = [finished(reply) and follows(reply, constraint) for constraint in instance.data["constraints"]]
        return Outcome(float(all(kept)), {"followed": sum(kept) / len(kept)})

    def guess(self, asked: Asked) -> list[str]:
        """Any word."""
        return [WORDS[int(len(WORDS) * u)] for u in asked.uniform(1)[:, 0]]


@cache
def ours() -> list[tuple[str, list[Constraint]]]:
    """The first `TRAIN` training prompts, each once; they are shared, so nobody may change them."""
    made: dict[str, list[Constraint]] = {}
    for number in count():
        text, constraints = prompt(Random(f"ifeval {number}"))
        made.setdefault(text, constraints)
        if len(made) == TRAIN:
            break
    return [*made.items()]


def published(row: Mapping[str, Any]) -> list[Constraint]:
    """The constraints of a published prompt."""
    return list(zip(row["instruction_id_list"], row["kwargs"], strict=True))


def prompt(r: Random) -> tuple[str, list[Constraint]]:
    """A training prompt at random: an instruction, and one to three constraints that can be followed together."""
    if r.random() < QUESTIONED:
        choices = ", ".join(f"'{choice}'" for choice in CHOICES)
        text = f"{r.choice(QUESTIONS)} Answer with one of these: {choices}"
        return text, [("detectable_format:constrained_response", {})]
    text = f"Write {r.choice(FORMS)} about {r.choice(TOPICS)}."
    words, constraints = r.sample(WORDS, len(WORDS)), list[Constraint]()
    for kind in compatible(r, r.choice((1, 1, 2, 2, 3))):
        how = KINDS[kind]
        if kind == "combination:repeat_prompt":
            given: Mapping[str, Any] = {"prompt_to_repeat": text}
            text += "\n" + r.choice(how.wordings)
        else:
            given = how.draw(r, words)
            text += " " + r.choice(how.wordings).format_map({name: shown(value) for name, value in given.items()})
        constraints.append((kind, given))
    return text, constraints


def compatible(r: Random, count: int) -> list[str]:
    """Kinds at random, up to `count`, no two of which clash; a request that is to be repeated comes last."""
    chosen: list[str] = []
    for kind in r.sample([*KINDS], len(KINDS)):
        if len(chosen) < count and not any(clashing(kind, other) or clashing(other, kind) for other in chosen):
            chosen.append(kind)
    return sorted(chosen, key="combination:repeat_prompt".__eq__)


def clashing(kind: str, other: str) -> bool:
    """Whether a kind rules another one out."""
    mine, theirs = KINDS[kind], KINDS[other]
    return (bool(mine.group) and mine.group == theirs.group) or other in mine.clash or theirs.group in mine.clash


def shown(value: Any) -> str:
    """An argument in words."""
    return ", ".join(value) if isinstance(value, list) else str(value)
