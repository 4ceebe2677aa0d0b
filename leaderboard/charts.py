"""Pictures of a track and of a submission, made from data frames alone."""

from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd

from harness.law import Law

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
"""Okabe & Ito's palette, which the colour-blind tell apart; grey for its black, which a dark page swallows."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
GREY = "#8a8a8a"
HEIGHT = 520
"""Pixels, key included."""


Picture = alt.LayerChart | alt.FacetChart


def look(field: str, names: Iterable[str]) -> tuple[alt.Color, alt.Shape]:
    """A colour and a shape for each name that a field has; 56 names all differ."""
    domain = sorted(set(names))
    legend = alt.Legend(orient="bottom", columns=3, labelLimit=100, symbolLimit=60, symbolOpacity=1)
    colors = alt.Scale(domain=domain, range=[COLORS[i % len(COLORS)] for i in range(len(domain))])
    shapes = alt.Scale(domain=domain, range=[SHAPES[i % len(SHAPES)] for i in range(len(domain))])
    return (
        alt.Color(f"{field}:N", title=field, scale=colors, legend=legend),
        alt.Shape(f"{field}:N", title=field, scale=shapes, legend=legend),
    )


def gain_retention(frame: pd.DataFrame) -> Picture:
    """Gain × retention of `frames.board` with 95 % intervals; front 1 is ringed. A click selects `point`, the id."""
    drawn = ["id", "front", "name", "method", "settings", "seeds", "gain", "retention", "drift"]
    drawn += [f"{name}_{end}" for name in ("gain", "retention") for end in ("low", "high")]
    frame = frame.dropna(subset=["gain", "retention"]).filter(items=drawn)
    frame = frame.assign(leads=frame["front"] == 1)
    color, shape = look("method", frame["method"])
    across, up = "gain on the new task (points)", "retention (points; 0 = kept)"
    x = alt.X("gain:Q", title=across, scale=alt.Scale(zero=False))
    y = alt.Y("retention:Q", title=up, scale=alt.Scale(zero=False))
    base = alt.Chart(frame).encode(color=color)
    return alt.layer(
        zero("y"),
        base.mark_rule(opacity=0.35).encode(x=alt.X("gain_low:Q", title=across), x2="gain_high", y=y),
        base.mark_rule(opacity=0.35).encode(y=alt.Y("retention_low:Q", title=up), y2="retention_high", x=x),
        alt.Chart(frame.loc[frame["leads"]]).mark_point(size=260, strokeWidth=1.5, color=GREY).encode(x=x, y=y),
        base.mark_point(filled=True, size=80, opacity=0.9, cursor="pointer")
        .encode(
            x=x,
            y=y,
            shape=shape,
            tooltip=["front", "name", "method", "settings", "seeds"]
            + [alt.Tooltip(f"{name}:Q", format=".2f") for name in ("gain", "retention", "drift")],
        )
        .add_params(alt.selection_point("point", fields=["id"])),
    ).properties(height=HEIGHT)


def zero(axis: str) -> alt.Chart:
    """A thin line where nothing changed."""
    place = {axis: alt.datum(0)}
    return alt.Chart(pd.DataFrame([{}])).mark_rule(color=GREY, opacity=0.6, strokeDash=[3, 3]).encode(**place)


def law(points: pd.DataFrame, fitted: Law | None, chosen: str | None = None) -> Picture:
    """Forgetting × drift of `frames.law_points` with the law and its band; the points of one entry may be ringed."""
    x = alt.X("drift:Q", title="drift, forward KL on the new task (nats an episode)")
    y = alt.Y("forgetting:Q", title="forgetting (points)")
    color, shape = look("method", points["method"])
    ends, middle = points.loc[points["when"] == "end"], points.loc[points["when"] != "end"]
    tooltip = [
        "name",
        "method",
        "seed",
        "step",
        *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("drift", "forgetting")),
    ]
    layers: list[alt.Chart] = [zero("y")]
    if fitted is not None:
        grid = np.linspace(ends["drift"].min(), ends["drift"].max(), 100)
        low, high = fitted.band(grid)
        curve = pd.DataFrame({"drift": grid, "forgetting": fitted.predict(grid), "low": low, "high": high})
        room = [min(points["forgetting"]), max(points["forgetting"])]
        scale = alt.Scale(domain=room, nice=True, clamp=True)  # of the points: a loose band must not squeeze them
        y = alt.Y("forgetting:Q", title="forgetting (points)", scale=scale)
        layers += [
            alt.Chart(curve).mark_area(color=GREY, opacity=0.25).encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high"),
            alt.Chart(curve).mark_line(color=GREY, strokeWidth=2).encode(x=x, y=y),
        ]
    layers += [
        alt.Chart(middle).mark_point(size=18, opacity=0.4).encode(x=x, y=y, color=color, tooltip=tooltip),
        alt.Chart(ends)
        .mark_point(size=70, filled=True, opacity=0.9)
        .encode(x=x, y=y, color=color, shape=shape, tooltip=tooltip),
    ]
    if chosen is not None:
        ring = alt.Chart(ends.loc[ends["entry"] == chosen]).mark_point(size=260, strokeWidth=1.5, color=GREY)
        layers.append(ring.encode(x=x, y=y))
    return alt.layer(*layers).properties(height=HEIGHT)


def heat(frame: pd.DataFrame) -> Picture:
    """Entries × prior tasks of `frames.effects`: orange where skill was lost, blue where it grew."""
    most = max([1.0, *frame["difference"].abs().dropna()])
    names = list(dict.fromkeys(frame["entry"]))
    axes = {
        "x": alt.X("task:N", title=None, axis=alt.Axis(labelAngle=-35, labelLimit=140, orient="top")),
        "y": alt.Y("entry:N", title=None, sort=names, axis=alt.Axis(labelLimit=180)),
    }
    scale = alt.Scale(domain=[-most, 0, most], range=[COLORS[1], "#f2f2f2", COLORS[0]])
    color = alt.Color("difference:Q", title="points", scale=scale, legend=alt.Legend(orient="bottom"))
    base = alt.Chart(frame).encode(**axes)
    tooltip = ["entry", "task", alt.Tooltip("difference:Q", format=".1f"), "95 %"]
    return alt.layer(
        base.mark_rect().encode(color=color, tooltip=tooltip),
        base.mark_text(fontSize=11).encode(
            text=alt.Text("difference:Q", format=".0f"),
            color=alt.condition(f"abs(datum.difference) > {0.6 * most}", alt.value("white"), alt.value("#222222")),
        ),
    ).properties(height=alt.Step(22))


def curves(frame: pd.DataFrame, name: str, title: str) -> Picture:
    """One column of `frames.curves` over steps: the mean over seeds, shaded from the lowest to the highest."""
    shown = frame.dropna(subset=[name]).filter(items=["entry", "step", name])
    color, x = look("entry", frame["entry"])[0], alt.X("step:Q", title="training step")
    base = alt.Chart(shown).encode(x=x, color=color if len(set(frame["entry"])) > 1 else alt.value(COLORS[0]))
    y = alt.Y(f"mean({name}):Q", title=title, scale=alt.Scale(zero=False))
    return alt.layer(
        base.mark_area(opacity=0.15).encode(y=alt.Y(f"min({name}):Q", title=title), y2=f"max({name}):Q"),
        base.mark_line(point=True).encode(y=y, tooltip=["entry", "step", alt.Tooltip(f"mean({name}):Q", format=".2f")]),
    ).properties(height=300)


def differences(frame: pd.DataFrame, title: str) -> Picture:
    """The column `difference` a task with its interval `low` to `high`, in points."""
    y = alt.Y("task:N", title=None, sort=list(frame["task"]), axis=alt.Axis(labelLimit=180))
    scale = alt.Scale(domain=["new", "prior"], range=[COLORS[1], COLORS[0]])
    color = alt.Color("role:N", title="task", scale=scale, legend=alt.Legend(orient="bottom", symbolOpacity=1))
    base = alt.Chart(frame.filter(items=["task", "role", "difference", "low", "high"])).encode(y=y, color=color)
    tooltip = ["task", *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("difference", "low", "high"))]
    return alt.layer(
        zero("x"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high"),
        base.mark_point(filled=True, size=80).encode(x=alt.X("difference:Q", title=title), tooltip=tooltip),
    ).properties(height=alt.Step(28))
