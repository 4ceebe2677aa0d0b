"""Constraints on a reply that a program can verify, by the rules of IFEval (arXiv 2311.07911), strictly.

Those of its 25 kinds whose rule is exact: what a language detector or a statistical tokenizer decides (languages, case
in English, sentences, capital words) is none of them. Each verdict is that of lm-eval's checker.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Constraint = tuple[str, Mapping[str, Any]]
"""Kind, and its arguments."""


def follows(reply: str, constraint: Constraint) -> bool:
    """Whether a reply follows a constraint; an empty one follows none."""
    kind, given = constraint
    return bool(reply.strip()) and FOLLOWS[kind][0](reply, **given)


def exact(constraint: Constraint) -> bool:
    """Whether a constraint is of a kind that is verified here, with arguments that mean something."""
    kind, given = constraint
    if kind not in FOLLOWS or given.keys() != {*FOLLOWS[kind][1]} or not all(given.values()):
        return False
    return "letter" not in given or bool(re.fullmatch("[A-Za-z]", given["letter"]))  # of others a letter is drawn there


def related(count: int, relation: str, bound: int) -> bool:
    """Whether a count is `at least` a bound, or `less than` it."""
    return count < bound if relation == "less than" else count >= bound


def number_words(reply: str, relation: str, num_words: int) -> bool:
    """Runs of letters, digits and underscores."""
    return related(len(re.findall(r"\w+", reply)), relation, num_words)


def number_paragraphs(reply: str, num_paragraphs: int) -> bool:
    """Paragraphs are parted by three asterisks; the first and the last alone may be empty, and do not count then."""
    parts = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", reply)]
    return all(parts[1:-1]) and sum(parts) == num_paragraphs


def nth_paragraph_first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are parted by two line feeds; the word ends at a punctuation mark, and its case does not matter."""
    parts = re.split(r"\n\n", reply)
    count = sum(bool(part.strip()) for part in parts)
    words = parts[nth_paragraph - 1].split() if nth_paragraph <= count else []
    if not words:
        return False
    said = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'), maxsplit=1)[0].lower()
    return count == num_paragraphs and said == first_word.lower()


def existence(reply: str, keywords: Sequence[str]) -> bool:
    """Each stands somewhere, perhaps within a longer word."""
    return all(occurrences(reply, keyword) for keyword in keywords)


def frequency(reply: str, keyword: str, relation: str, frequency: int) -> bool:
    """How often it stands somewhere, perhaps within a longer word."""
    return related(occurrences(reply, keyword.strip()), relation, frequency)


def forbidden_words(reply: str, forbidden_words: Sequence[str]) -> bool:
    """None stands as a word of its own."""
    return not any(re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in forbidden_words)


def occurrences(reply: str, keyword: str) -> int:
    """How often a text stands in a reply, whatever its case."""
    return len(re.findall(re.escape(keyword), reply, re.IGNORECASE))


def letter_frequency(reply: str, letter: str, let_relation: str, let_frequency: int) -> bool:
    """How often a letter is used, large or small."""
    return related(reply.lower().count(letter.lower()), let_relation, let_frequency)


def number_placeholders(reply: str, num_placeholders: int) -> bool:
    """At least so many [texts in brackets]."""
    return len(re.findall(r"\[.*?\]", reply)) >= num_placeholders


def postscript(reply: str, postscript_marker: str) -> bool:
    """The marker stands somewhere: `P.S.`, or `P.P.S` whose last point may lack."""
    marker = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(postscript_marker.strip())
    return bool(re.search(marker or re.escape(postscript_marker.strip().lower()), reply.lower()))


def number_bullet_lists(reply: str, num_bullets: int) -> bool:
    """Exactly so many lines begin with `*`, not two of them, or with `-`."""
    stars = re.findall(r"^\s*\*[^\*].*$", reply, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", reply, re.MULTILINE)) == num_bullets


def number_highlighted_sections(reply: str, num_highlights: int) -> bool:
    """At least so many *texts* or **texts** that are not empty, each on one line."""
    single = [each.strip("*").strip() for each in re.findall(r"\*[^\n\*]*\*", reply)]
    double = [each[2:-2].strip() for each in re.findall(r"\*\*[^\n\*]*\*\*", reply)]
    return sum(map(bool, single + double)) >= num_highlights


def multiple_sections(reply: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many marks, each with a number."""
    return len(re.findall(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", reply)) >= num_sections


def title(reply: str) -> bool:
    """A <<title>> on one line, which is not empty."""
    return any(each.lstrip("<").rstrip(">").strip() for each in re.findall(r"<<[^\n]+>>", reply))


def json_format(reply: str) -> bool:
    """The whole is JSON as Python reads it, perhaps in a fence."""
    text = reply.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def constrained_response(reply: str) -> bool:
    """One of three answers stands in it."""
    return any(choice in reply for choice in CHOICES)


def two_responses(reply: str) -> bool:
    """Two that differ, parted by six asterisks."""
    parts = [part.strip() for part in reply.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def repeat_prompt(reply: str, prompt_to_repeat: str) -> bool:
    """It begins with the request, whatever its case."""
    return reply.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(reply: str, end_phrase: str) -> bool:
    """It ends with the phrase, whatever its case, perhaps within quotation marks."""
    return reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(reply: str) -> bool:
    """It begins and ends with a double quotation mark."""
    said = reply.strip()
    return len(said) > 1 and said[0] == said[-1] == '"'


def no_comma(reply: str) -> bool:
    """No comma."""
    return "," not in reply


FOLLOWS: dict[str, tuple[Callable[..., bool], tuple[str, ...]]] = {
    "combination:repeat_prompt": (repeat_prompt, ("prompt_to_repeat",)),
    "combination:two_responses": (two_responses, ()),
    "detectable_content:number_placeholders": (number_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": (postscript, ("postscript_marker",)),
    "detectable_format:constrained_response": (constrained_response, ()),
    "detectable_format:json_format": (json_format, ()),
    "detectable_format:multiple_sections": (multiple_sections, ("section_spliter", "num_sections")),
    "detectable_format:number_bullet_lists": (number_bullet_lists, ("num_bullets",)),
    "detectable_format:number_highlighted_sections": (number_highlighted_sections, ("num_highlights",)),
    "detectable_format:title": (title, ()),
    "keywords:existence": (existence, ("keywords",)),
    "keywords:forbidden_words": (forbidden_words, ("forbidden_words",)),
    "keywords:frequency": (frequency, ("keyword", "relation", "frequency")),
    "keywords:letter_frequency": (letter_frequency, ("letter", "let_relation", "let_frequency")),
    "length_constraints:nth_paragraph_first_word": (
        nth_paragraph_first_word,
        ("num_paragraphs", "nth_paragraph", "first_word"),
    ),
    "length_constraints:number_paragraphs": (number_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": (number_words, ("relation", "num_words")),
    "punctuation:no_comma": (no_comma, ()),
    "startend:end_checker": (end_checker, ("end_phrase",)),
    "startend:quotation": (quotation, ()),
}
"""Kind, as IFEval names it → its rule, and the names of its arguments."""
