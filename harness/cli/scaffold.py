"""Write a new task package or a new track's file that works as written, to be changed line by line."""

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


def new_task(name: str, folder: Path) -> list[Path]:
    """Write `folder`/razorbench-NAME with a pyproject.toml and a module; returns the two files.

    `name` is an id such as `word-sums-v1`; without a version it gets `-v1` (`versioned` tells the id).
    Refuses a name that is no id or no module name, one that is taken, and a folder that exists.
    """
    id = registry.versioned(name)
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


TRACK = """# A track: what is held fixed, so that rows compare. `razorbench track check FILE` says what is missing.
id = "my-track-v1"              # whatever would change a number wants a new id: the next version
title = "mini-math, retaining two skills"
question = "Does a small language model that unlearns a misreading of stories keep two other skills?"
base = "mini-lm-v1"             # what is adapted: the id of a base, or a table [base] of your own
new = "mini-math-v1"            # the new task; `razorbench tasks` lists what there is
items = 100                     # test questions of each task that are scored; 0: all
drift_items = 50                # test questions of the new task on which drift is measured; 0: all
checkpoint_items = 25           # test questions a task for points in mid-training
checkpoints = 2                 # points in mid-training, besides the end

[priors]                        # what must not be forgotten, by suite; retention is the mean over all of them
skills = ["mini-sorting-v1", "mini-form-v1"]

[settings]                      # defaults of an adaptation; `razorbench adapt --help` explains each
lr = 3e-4
warmup = 5
batch = 16
group = 8
steps = 32
horizon = 96

[conditions]                    # how items are answered; these are the defaults
temperature = 0.0               # 0: the likeliest token each time
samples = 1                     # answers to each item

[demo]                          # what `razorbench demo --tracks my-track-v1` runs: method → learning rates
dr-grpo = [3e-4]
sft = [3e-4]
"""
"""The worked example of docs/add-a-track.md; another id replaces `my-track-v1`."""


def new_track(name: str, folder: Path) -> Path:
    """Write `folder`/NAME.toml; a name without a version gets `-v1`. Refuses an id that is none or is taken, and a
    file that exists.
    """
    id = registry.versioned(name)
    registry.check_id("track", id)
    if registry.known("track", id):
        raise Refused(f"track id {id!r} is taken; choose another name, or a higher version")
    path = Path(folder) / f"{id}.toml"
    if path.exists():
        raise Refused(f"{path} exists; choose another name, or a higher version")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TRACK.replace("my-track-v1", id), encoding="utf-8")
    return path
