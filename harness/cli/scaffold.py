"""Write a new task package that works as written, to be changed line by line (`razorbench task new NAME`)."""

import re
import sys
from importlib.machinery import PathFinder
from keyword import iskeyword
from pathlib import Path

from razorbench.harness.core import registry
from razorbench.harness.core.errors import Refused

MODULE = '''"""Add five digits that are written as words: the task word-sums-v1."""

import numpy as np

from razorbench import Card, Instances, Observation, Outcome, each, mix

WORDS = "zero one two three four five six seven eight nine"


class WordSums:
    """The digits of the instance's id are the question, so no question is in both splits."""

    card = Card(
        asks="Add five digits written as words.", rule="The last word of the reply is the sum.",
        source="made here, from the instance's id", licence="CC0-1.0", chance=1 / 46,
    )  # fmt: skip
    styles = ("number", "sentence")

    def instances(self, split):
        ids = np.argsort(mix(np.arange(100_000)))  # every number once, in hash order
        ids = ids[:10_000] if split == "test" else ids[10_000:]
        return Instances(ids, {"digits": ids[:, None] // 10 ** np.arange(5) % 10})

    @each
    def play(self, instance):
        digits = instance.data["digits"]
        reply = yield Observation(" plus ".join(WORDS.split()[d] for d in digits) + "?")
        return Outcome(float(reply.split()[-1:] == [str(digits.sum())]))

    def solve(self, asked, style):
        sums = asked.instances.data["digits"].sum(axis=1)
        return [f"The sum is {n}" if style == "sentence" else f"{n}" for n in sums]

    def guess(self, asked):
        return [str(int(46 * u)) for u in asked.uniform(1)[:, 0]]  # one of 0, 1, … 45
'''
"""The worked example of docs/add-a-task.md; another name replaces `word-sums-v1` and `WordSums`."""

PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "razorbench-word-sums"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["razorbench"]

[project.entry-points."razorbench.tasks"]
word-sums-v1 = "word_sums:WordSums"

[tool.setuptools]
py-modules = ["word_sums"]
"""


def new(name: str, folder: Path) -> list[Path]:
    """Write `folder`/razorbench-NAME with a pyproject.toml and a module; returns the two files.

    `name` is an id such as `word-sums-v1`; without a version it gets `-v1` (`versioned` tells the id).
    Refuses a name that is no id or no module name, one that is taken, and a folder that exists.
    """
    id = versioned(name)
    registry.check_id("task", id)
    stem = re.sub(r"-v\d+$", "", id)
    module, package = stem.replace("-", "_"), Path(folder) / f"razorbench-{stem}"
    if not module.isidentifier() or iskeyword(module):
        raise Refused(f"task id {id!r} gives the module name {module!r}, which Python cannot import; begin with a word")
    if id in registry.ids("task"):
        higher = f"{stem}-v{int(id.rpartition('-v')[2]) + 1}"
        raise Refused(f"task id {id!r} is taken; choose another name, or a higher version such as {higher!r}")
    if package.exists():
        raise Refused(f"{package} exists; choose another name, or add {id!r} to its pyproject.toml as a second line")
    spec = PathFinder.find_spec(module)  # a mere folder of that name has no origin
    taken = "Python" if module in sys.stdlib_module_names else spec.origin if spec else None
    if taken:
        raise Refused(f"the module name {module!r} is taken by {taken}; choose a longer name, {stem + '-task'!r}")
    files = {package / "pyproject.toml": PROJECT, package / f"{module}.py": MODULE}
    package.mkdir(parents=True)
    for path, text in files.items():
        text = text.replace("word-sums-v1", id).replace("word-sums", stem).replace("word_sums", module)
        path.write_text(text.replace("WordSums", stem.title().replace("-", "")), encoding="utf-8")
    return list(files)


def versioned(name: str) -> str:
    """The id that a name stands for: itself, or with `-v1` where it has no version."""
    return name if re.search(r"-v\d+$", name) else f"{name}-v1"
