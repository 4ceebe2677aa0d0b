"""Pictures of a track and of a submission as Vega-Lite, made from data frames alone."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from razorbench.harness.store.leaderboard import Curve

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
"""Okabe & Ito's palette, which the colour-blind tell apart; grey for its black, which a dark page swallows."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
GREY = "#8a8a8a"
HEIGHT = 380
"""Pixels of a large plot, without its key."""
KEY = 24
"""Names in a key at most; the others are told by their tooltips."""

AUTOSIZE = {"type": "fit-x", "contains": "padding"}

Spec = dict[str, Any]
"""A Vega-Lite specification with its data. Written out, because building it from objects takes longer than all else."""


def number(field: str, title: str | None = None, **more: Any) -> Spec:
    """A channel for a quantity."""
    return {"field": field, "type": "quantitative", "title": title or field, **more}


def name(field: str, title: str | None = None, **more: Any) -> Spec:
    """A channel for names."""
    return {"field": field, "type": "nominal", "title": title, **more}


def tooltip(*names: str, **formats: str) -> list[Spec]:
    """Fields as they are, then numbers in the format that is given for them."""
    numbers = [number(field, format=format) for field, format in formats.items()]
    return [*({"field": field, "title": field} for field in names), *numbers]


def layer(data: str, type: str, encoding: Spec, **mark: Any) -> Spec:
    """One kind of mark over the rows of a data set, which the chart has under that name."""
    return {"data": {"name": data}, "mark": {"type": type, **mark}, "encoding": encoding}


def chart(height: int, datasets: dict[str, pd.DataFrame], *layers: Spec) -> Spec:
    """A chart as wide as the page and so many pixels high, axes and key not counted.

    Layers over no rows are left out, for their scales would have no ends.
    """
    empty = [name for name, rows in datasets.items() if rows.empty]
    shown = [each for each in layers if each["data"].get("name") not in empty]
    return {"height": height, "autosize": AUTOSIZE, "datasets": datasets, "layer": shown}


def zero(axis: str) -> Spec:
    """A thin line where nothing changed."""
    mark = {"type": "rule", "color": GREY, "opacity": 0.6, "strokeDash": [3, 3]}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {axis: {"datum": 0}}}


def look(field: str, names: Iterable[str]) -> tuple[Spec, Spec]:
    """A colour and a shape for each name that a field has; 56 names all differ."""
    domain = sorted(set(names))
    columns = {"expr": "max(1, floor(width / 130))"}
    legend = {"orient": "bottom", "columns": columns, "labelLimit": 100, "values": domain[:KEY], "symbolOpacity": 1}
    colors, shapes = (
        {"domain": domain, "range": [each[i % len(each)] for i in range(len(domain))]} for each in (COLORS, SHAPES)
    )
    return name(field, field, scale=colors, legend=legend), name(field, field, scale=shapes, legend=legend)


def crowd(x: Spec, y: Spec) -> Spec:
    """How many lie where, as grey cells: rows of `cells` have n, the fields of x and y, and …_to, where they end."""
    depth = number("n", scale={"type": "log", "range": [0.12, 0.7]}, legend=None)
    sides = {"x": x, "x2": {"field": f"{x['field']}_to"}, "y": y, "y2": {"field": f"{y['field']}_to"}}
    return layer("cells", "rect", {**sides, "opacity": depth, "tooltip": tooltip("n")}, color=GREY)


def gain_retention(frame: pd.DataFrame, cells: pd.DataFrame) -> Spec:
    """Gain × retention of `frames.board` with 95 % intervals over the `crowd`; front 1 is ringed.

    A click selects `point`, the id.
    """
    drawn = ["id", "front", "name", "method", "settings", "seeds", "gain", "retention", "drift"]
    drawn += [f"{name}_{end}" for name in ("gain", "retention") for end in ("low", "high")]
    frame = frame.dropna(subset=["gain", "retention"]).filter(items=drawn)
    color, shape = look("method", frame["method"])
    across, up = "gain on the new task (points)", "retention (points; 0 = kept)"
    x, y = (number(field, title, scale={"zero": False}) for field, title in (("gain", across), ("retention", up)))
    told = tooltip("front", "name", "method", "settings", "seeds", gain=".2f", retention=".2f", drift=".2f")
    wide = {"x": number("gain_low", across), "x2": {"field": "gain_high"}, "y": y}
    tall = {"y": number("retention_low", up), "y2": {"field": "retention_high"}, "x": x}
    at = {"x": x, "y": y, "color": color, "shape": shape, "tooltip": told}
    points = layer("entries", "point", at, filled=True, size=80, opacity=0.9, cursor="pointer")
    bounded = {"wide": frame.dropna(subset=["gain_low"]), "tall": frame.dropna(subset=["retention_low"])}
    made = chart(
        HEIGHT,
        {"entries": frame, "front": frame.loc[frame["front"] == 1], "cells": cells, **bounded},
        zero("y"),
        crowd(x, y),
        layer("wide", "rule", {**wide, "color": color}, opacity=0.5),
        layer("tall", "rule", {**tall, "color": color}, opacity=0.5),
        ring("front", x, y),
        points | {"name": "points"},
    )
    return made | {"params": [{"name": "point", "select": {"type": "point", "fields": ["id"]}, "views": ["points"]}]}


def ring(data: str, x: Spec, y: Spec) -> Spec:
    """A circle around every row."""
    return layer(data, "point", {"x": x, "y": y}, size=260, strokeWidth=1.5, color=GREY)


def law(points: pd.DataFrame, cells: pd.DataFrame, fitted: Curve | None, chosen: str | None = None) -> Spec:
    """Forgetting × drift of `frames.law_points` over the `crowd`, the law and its band; one entry may be ringed."""
    color, shape = look("method", points["method"])
    all = [*points["forgetting"], *(cells[["forgetting", "forgetting_to"]].to_numpy().ravel() if len(cells) else [])]
    # Of the points: a loose band must not squeeze them.
    scale = {"domain": [min(all), max(all)], "nice": True, "clamp": True}
    x = number("drift", "drift, forward KL on the new task (nats an episode)")
    y = number("forgetting", "forgetting (points)", scale=scale)
    told = tooltip("name", "method", "seed", "step", drift=".3f", forgetting=".3f")
    at = {"x": x, "y": y, "color": color, "tooltip": told}
    band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    line = pd.DataFrame({part: getattr(fitted, part, []) for part in ("drift", "forgetting", "low", "high")})
    end = points["when"] == "end"
    parts = {
        "ends": points.loc[end],
        "middles": points.loc[~end],
        "chosen": points.loc[end & (points["entry"] == chosen)],
    }
    return chart(
        HEIGHT,
        {**parts, "cells": cells, "law": line},
        zero("y"),
        crowd(x, y),
        layer("law", "area", band, color=GREY, opacity=0.25),
        layer("law", "line", {"x": x, "y": y}, color=GREY, strokeWidth=2),
        layer("middles", "point", at, size=18, opacity=0.4),
        layer("ends", "point", {**at, "shape": shape}, size=70, filled=True, opacity=0.9),
        ring("chosen", x, y),
    )


def heat(frame: pd.DataFrame) -> Spec:
    """Entries × prior tasks of `frames.effects`: orange where skill was lost, blue where it grew."""
    most = max([1.0, *frame["difference"].abs().dropna()])
    names = list(dict.fromkeys(frame["entry"]))
    axes = {
        "x": name("task", axis={"labelAngle": -35, "labelLimit": 140, "orient": "top"}),
        "y": name("entry", sort=names, axis={"labelLimit": 180, "labelOverlap": False, "labelFlush": False}),
    }
    scale = {"domain": [-most, 0, most], "range": [COLORS[1], "#f2f2f2", COLORS[0]]}
    color = number("difference", "points", scale=scale, legend={"orient": "bottom", "gradientLength": 100})
    dark = {"test": f"abs(datum.difference) > {0.6 * most}", "value": "white"}
    written = {**axes, "text": number("difference", format=".0f"), "color": {"condition": dark, "value": "#222222"}}
    told = tooltip("entry", "task", "95 %", difference=".1f")
    return chart(
        22 * len(names),
        {"cells": frame},
        layer("cells", "rect", {**axes, "color": color, "tooltip": told}),
        layer("cells", "text", written, fontSize=11),
    )


def curves(frame: pd.DataFrame, title: str) -> Spec:
    """A `frames.curve` over steps: the mean over seeds, shaded from the lowest to the highest."""
    measured = frame.columns[-1]
    color = look("entry", frame["entry"])[0] if len(set(frame["entry"])) > 1 else {"value": COLORS[0]}
    plain = {"format": "~r"}  # or a single point would have six digits
    x, y = number("step", "training step", axis=plain), number(measured, title, scale={"zero": False}, axis=plain)
    line = {"x": x, "y": {**y, "aggregate": "mean"}, "color": color}
    shade = {"x": x, "y": {**y, "aggregate": "min"}, "y2": {"field": measured, "aggregate": "max"}, "color": color}
    told = [*tooltip("entry", "step"), number(measured, aggregate="mean", format=".2f")]
    return chart(
        200,
        {"curves": frame},
        layer("curves", "area", shade, opacity=0.15),
        layer("curves", "line", {**line, "tooltip": told}, point=True),
    )


def differences(frame: pd.DataFrame, title: str) -> Spec:
    """The column `difference` a task with its interval `low` to `high`, in points."""
    shown = frame.filter(items=["task", "role", "difference", "low", "high"])
    y = name("task", sort=list(frame["task"]), axis={"labelLimit": 180, "labelFlush": False})
    scale = {"domain": ["new", "prior"], "range": [COLORS[1], COLORS[0]]}
    color = name("role", "task", scale=scale, legend={"orient": "bottom", "symbolOpacity": 1})
    told = tooltip("task", difference=".1f", low=".1f", high=".1f")
    at = {"y": y, "color": color}
    return chart(
        28 * len(shown),
        {"tasks": shown, "bounded": shown.dropna(subset=["low"])},
        zero("x"),
        layer("bounded", "rule", {**at, "x": number("low", title), "x2": {"field": "high"}}, strokeWidth=2),
        layer(
            "tasks", "point", {**at, "x": number("difference", title), "tooltip": told}, filled=True, size=80, opacity=1
        ),
    )
