"""Numbers, and what a stranger wrote, as text that a page or a file may show."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads DuckDB
    from razorbench.harness.store.leaderboard import Entry

MOST = 80
"""Characters of a name that a page shows; the export has all."""


def number(value: float | None, form: str) -> str:
    """A number in some form, or a dash for what is not known."""
    return "–" if value is None or value != value else format(value, form)


def interval(value: float | None, low: float | None, high: float | None, form: str = "+.1f") -> str:
    """A change with its 95 % interval: in points, unless another form is given; a dash where nothing is known."""
    return (
        "–" if value is None or value != value else f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"
    )


def printable(text: object, most: int = MOST) -> str:
    """One line of what a stranger wrote: no character in it is unseen or turns the order of others; long ones end in …

    It is still no Markdown and no HTML: show it with st.text, st.code, in a table or a chart, or escaped.
    """
    seen = str(text)[: most + 1]
    if not seen.isprintable():  # rare, and the rest is slow
        seen = "".join("�" if unseen(c) else c for c in seen)
    return f"{seen[: most - 1]}…" if len(seen) > most else seen


def labels(entries: "Sequence[Entry]") -> dict[str, str]:
    """Entry id → a name that no other of the entries has."""
    names = {entry.id: printable(entry.name, 40) for entry in entries}
    times = Counter(names.values())
    return {id: name if times[name] == 1 else f"{name} · {id[:6]}" for id, name in names.items()}


UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, format characters, lone surrogates, separators of lines and paragraphs."""


def unseen(c: str) -> bool:
    """Whether a character is of those, or one that never means anything, such as U+FFFF, which no XML may hold."""
    return unicodedata.category(c) in UNSEEN or ord(c) & 0xFFFE == 0xFFFE
