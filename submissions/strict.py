"""Text and JSON that a stranger wrote, read strictly; and how to speak of them without repeating them in full."""

import json
import math
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from razorbench import Refused
from razorbench.harness.learn.saved import shown

DEPTH = 32
"""How deep JSON may be nested."""

VALUES = 1_000_000
"""How many values JSON may hold: a tokenizer of 150,000 words has three quarters of that."""

SMALL = 100_000
"""How many a file may hold that is neither weights nor tokenizer."""

MAGIC = {b"PK\x03\x04": "a zip archive", b"\x7fELF": "a program", b"\x80": "a pickle", b"\x1f\x8b": "a gzip archive"}
MAGIC |= {b"#!": "a script", b"%PDF": "a PDF"}
"""How files begin that are no text, whatever their name."""


def meant(name: str, known: Collection[str]) -> str:
    """Of what is known, the nearest to a name that is not, as the end of a sentence."""
    near = get_close_matches(name[:80], known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"


def text(raw: bytes, what: str) -> str:
    """UTF-8 text without control characters, and without the mark that Windows puts before it. Refused otherwise."""
    for magic, kind in MAGIC.items():
        if raw.startswith(magic):
            raise Refused(f"{what} begins like {kind}, and text was expected: bring the text, or remove the file")
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{what} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    control = next((c for c in decoded.translate(_PRINTED) if ord(c) < 32 or 127 <= ord(c) < 160), None)
    if control:
        raise Refused(f"{what} holds the control character {control!r}, and text was expected: remove it")
    return decoded


_PRINTED = dict.fromkeys([*range(32, 127), *map(ord, "\t\n\r\f")])
"""Removed before the search for control characters, which is then short."""


def parse(raw: bytes, what: str, values: int = VALUES, nan: bool = False) -> dict[str, Any]:
    """A JSON object, strictly: UTF-8, no key twice, no number that is not finite unless `nan`, at most so many values.

    A byte order mark may stand before it. Counting comes first, for parsing makes a hundred bytes of one.
    """
    if sum(raw.count(mark) for mark in (b",", b"[", b"{", b":")) > values:
        raise Refused(f"{what} holds more than {values:,} JSON values: bring less")
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{what} should be JSON and is not UTF-8 (byte {error.start}): write it as UTF-8") from None

    def constant(name: str) -> float:
        if nan:
            return float(name)
        raise Refused(f"{what} holds {name}, which is no JSON number: write null or a finite number")

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise Refused(f"{what} holds a number too large for a float ({shown(digits)}): write one that is finite")
        return value

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise Refused(f"{what} has the key {shown(twice)} twice: keep one of them")
        return table

    del raw
    try:
        value = json.loads(decoded, parse_constant=constant, parse_float=number, object_pairs_hook=members)
    except RecursionError:
        raise Refused(f"{what} is nested without end: {DEPTH} levels are the most") from None
    except ValueError as error:
        raise Refused(f"{what} is not JSON ({shown(str(error))}): write it with a JSON library") from None
    if not isinstance(value, dict):
        raise Refused(f"{what} holds a JSON {type(value).__name__}, and an object was expected: put it in braces")
    level: list[Any] = [value]
    for _ in range(DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
    if level:
        raise Refused(f"{what} is nested more than {DEPTH} levels deep: make it flatter")
    return value
