"""A text whose tokens have a background each, as a picture: what stands in it can be no Markdown and no HTML."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

from razorbench.harness.report.text import printable
from razorbench.leaderboard.charts import AUTOSIZE

WIDE, NARROW = 90, 36
"""Characters of a line: where there is room for the first, and else, as on a phone."""
CELL, LINE, FONT = 7.8, 22, 13
"""Pixels of a character, a line and the font; a monospaced character is 0.6 of its font wide."""
FULL = 2.0
"""Nats at which the background has its full colour."""
ORANGE = "#D55E00"
INK = {"light": "#31333F", "dark": "#FAFAFA"}
RETURN = "↵"


def painted(tokens: Sequence[Mapping[str, Any]], theme: str | None) -> dict[str, Any]:
    """A Vega-Lite picture of tokens (text, nats), the more orange the more nats, for a `light` or a `dark` page."""
    nats: dict[str, Any] = {"field": "nats", "type": "quantitative"}
    opacity = {"type": "sqrt", "domain": [0, FULL], "range": [0, 0.8], "clamp": True}
    tooltip = [{"field": "token", "type": "nominal"}, {**nats, "format": ".4f"}]
    x = {"type": "quantitative", "scale": None, "axis": None}
    y = {"field": "line", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0.1}}
    text = {"type": "text", "align": "left", "baseline": "middle", "font": "monospace", "fontSize": FONT}
    roomy = f"width >= {WIDE * CELL}"
    return {
        "data": {"values": pieces(tokens)},
        "height": {"step": LINE},
        "autosize": AUTOSIZE,
        "transform": [
            {"calculate": f"{roomy} ? datum.wide_line : datum.narrow_line", "as": "line"},
            {"calculate": f"({roomy} ? datum.wide_column : datum.narrow_column) * {CELL}", "as": "left"},
            {"calculate": f"datum.left + datum.cells * {CELL}", "as": "right"},
            {"calculate": f"datum.left + datum.indent * {CELL}", "as": "start"},
        ],
        "layer": [
            {
                "mark": {"type": "rect", "color": ORANGE},
                "encoding": {
                    "x": {**x, "field": "left"},
                    "x2": {"field": "right"},
                    "y": y,
                    "opacity": {**nats, "scale": opacity, "legend": None},
                    "tooltip": tooltip,
                },
            },
            {
                "mark": {**text, "color": INK["dark" if theme == "dark" else "light"]},
                "encoding": {"x": {**x, "field": "start"}, "y": y, "text": {"field": "text"}, "tooltip": tooltip},
            },
        ],
        "config": {"view": {"stroke": None}},
    }


def pieces(tokens: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tokens in parts that fit on a line, each with its line and column where lines are wide and narrow."""
    cut = [(token, part) for token in tokens for part in parts(token["text"])]
    sizes = [(cells(part), part.endswith(RETURN)) for _, part in cut]
    return [
        {
            "token": printable(token["text"].replace("\n", RETURN)),
            "nats": token["nats"],
            "text": part.strip().replace(" ", "\N{NO-BREAK SPACE}"),  # several would become one
            "indent": len(part) - len(part.lstrip()),  # Vega would leave it out
            "cells": size,
            **{"wide_line": wide[0], "wide_column": wide[1], "narrow_line": narrow[0], "narrow_column": narrow[1]},
        }
        for (token, part), (size, _), wide, narrow in zip(
            cut, sizes, places(sizes, WIDE), places(sizes, NARROW), strict=True
        )
    ]


def parts(text: str) -> Iterator[str]:
    """The text in parts that end where its lines do and that a narrow line takes; an empty one is �."""
    *lines, last = text.split("\n")
    for line in [f"{printable(line, len(text))}{RETURN}" for line in lines] + (
        [printable(last, len(text))] if last else []
    ):
        step = NARROW if cells(line) == len(line) else NARROW // 2
        yield from (line[at : at + step] for at in range(0, len(line), step))
    if not text:
        yield "�"


def cells(text: str) -> int:
    """How many columns a text takes: two a character where it is as wide as a Chinese one."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def places(sizes: Sequence[tuple[int, bool]], most: int) -> Iterator[tuple[int, int]]:
    """Line and column of parts, of which each has a width and may end its line, on lines of `most` columns."""
    line = column = 0
    for size, ends in sizes:
        if column and column + size > most:
            line, column = line + 1, 0
        yield line, column
        line, column = (line + 1, 0) if ends else (line, column + size)
