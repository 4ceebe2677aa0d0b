"""A policy that is a table and a task that is a lookup, small enough to work out by hand; and tracks of toys."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import Categorical

from razorbench import (
    Actions,
    Asked,
    Card,
    Column,
    Episodes,
    Instance,
    Instances,
    Observation,
    Observations,
    Outcome,
    Outcomes,
    each,
)
from razorbench.harness.learn.policy import Prediction, draw, drawn_with
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES
from razorbench.harness.tracks.spec import Base, Track


class Table:
    """Spells `lengths[s]` letters for question s, each from its own row of logits [S, T, A]; micro-batches of two."""

    def __init__(self, logits: Tensor, lengths: Sequence[int]):
        self.logits: Tensor = torch.nn.Parameter(logits.clone())
        self.lengths, self.reference = list(lengths), None

    def _dist(self, question: np.ndarray) -> Categorical:
        return Categorical(logits=self.logits[torch.from_numpy(question)], validate_args=False)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        question = np.asarray(asked.now.state)
        with torch.no_grad():
            dist = self._dist(question)
            code = draw(dist, asked.uniform(self.logits.shape[1]), temperature)
            logp = drawn_with(dist, code, temperature)
        ends = [self.lengths[q] for q in question]
        codes, nats = ([row[:end] for row, end in zip(x.tolist(), ends, strict=True)] for x in (code, logp))
        return replace(self._actions(codes), logp=nats)

    def _actions(self, codes: list[list[int]]) -> Actions:
        return Actions(["".join("abcd"[letter] for letter in code) for code in codes], codes)

    def encode(self, values: Column) -> list[list[int]]:
        return [["abcd".index(letter) for letter in value] for value in values]

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        for turn in episodes.turns:
            assert turn.done is not None
            question = np.asarray(turn.seen.state)
            for start in range(0, len(question), 2):
                rows = np.arange(start, min(start + 2, len(question)))
                code = torch.zeros(len(rows), self.logits.shape[1], dtype=torch.int64)
                mask = torch.zeros_like(code, dtype=torch.bool)
                for i, at in enumerate(rows):
                    letters = turn.done.code[at]
                    code[i, : len(letters)], mask[i, : len(letters)] = torch.tensor(letters), True
                yield Prediction(self._dist(question[rows]), code, mask, torch.from_numpy(turn.rows[rows]))

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        yield self.logits  # type: ignore[misc]

    def base(self) -> "Table":
        return self.reference or self

    def copy(self) -> "Table":
        twin = Table(self.logits.detach(), self.lengths)
        twin.reference = self.base()
        return twin

    def save(self, path: Path) -> None:
        save_file({"logits": self.logits.detach()}, path)

    def load(self, path: Path) -> None:
        with torch.no_grad():
            self.logits.copy_(load_file(path)["logits"])


class Spell:
    """Question s wants the word `words[s]`; right or wrong, nothing between."""

    card = Card("Spell the word.", "The word is spelt.", "made here", "none", 0.0)
    styles = ("right",)

    def __init__(self, words: Sequence[str] = ("a", "bb", "ab", "b")):
        self.words = list(words)

    def instances(self, split: str) -> Instances:
        n = len(self.words)
        ids = np.arange(n) + (n if split == "test" else 0)
        return Instances(ids, {"question": np.arange(n), "word": self.words})

    def play(self, instances: Instances):
        said = yield Observations(state=instances.data["question"])
        wanted = instances.data["word"]
        reward = np.array([float(a == b) for a, b in zip(said, wanted, strict=True)])
        return Outcomes(reward, turn_rewards=reward[:, None])

    def solve(self, asked: Asked, style: str) -> Column:
        return asked.instances.data["word"]


def table(seed: int = 0, words: Sequence[str] = ("a", "bb", "ab", "b"), letters: int = 3) -> Table:
    """A table policy with random logits for the words of `Spell`."""
    longest = max(map(len, words))
    logits = torch.randn(len(words), longest, letters, generator=torch.Generator().manual_seed(seed))
    return Table(logits, [len(word) for word in words])


# --- a track of its own: dialogues of unequal length, answers of unequal length ---------------------------------------

WORDS = ("a", "b", "ca", "c", "bb", "abc")
"""The first four are what `Dialogue` asks for, the last two what `Known` does."""


class Speller(Table):
    """A table for `WORDS` that can be made by its id."""

    def __init__(self, seed: int = 0):
        super().__init__(table(seed, WORDS).logits.detach(), [len(word) for word in WORDS])


class Dialogue:
    """Two words, one after the other; who misses the first is not asked for the second."""

    card = Card("Spell two words.", "Both words are spelt.", "made here", "none", 0.0)
    styles = ("right",)

    def instances(self, split: str) -> Instances:
        ids = np.arange(1000) + (1000 if split == "test" else 0)
        return Instances(ids, {"questions": np.stack([ids % 4, ids // 4 % 4], -1)})

    @each
    def play(self, instance: Instance):
        right = 0
        for question in instance.data["questions"].tolist():
            if (yield Observation(state=question)) != WORDS[question]:
                return Outcome(0.0, {"right": right})
            right += 1
        return Outcome(1.0, {"right": right})

    def solve(self, asked: Asked, style: str) -> Column:
        return [WORDS[question] for question in np.asarray(asked.now.state).tolist()]


class Known(Dialogue):
    """One word of the last two: what the base learns first."""

    def instances(self, split: str) -> Instances:
        ids = np.arange(100) + (100 if split == "test" else 0)
        return Instances(ids, {"questions": 4 + ids[:, None] % 2})


class Says:
    """An agent that answers the questions of a batch with these replies, whatever it is asked."""

    def __init__(self, replies: Sequence[str]):
        self.replies = replies

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        return Actions([self.replies[at] for at in asked.rows.tolist()])


TOYS = {"task": {"dialogue-v1": Dialogue, "known-v1": Known}, "agent": {"speller-v1": Speller}}

SPELLING = Track(
    id="spelling-v1",
    title="Two words, retaining two others",
    question="Does a table that learns some rows keep the others?",
    base=Base("speller-v1", "speller-v1", "known-v1", Settings(lr=0.1, warmup=0, batch=20, steps=60)),
    new="dialogue-v1",
    priors={"words": ("known-v1",)},
    settings=Settings(lr=0.1, warmup=0, batch=20, group=8, steps=5),
    items=300,
    drift_items=60,
    checkpoint_items=60,
)

REACHING = Track(
    id="reaching-v1",
    title="A green block on a table seen from the gripper, retaining red and blue ones",
    question="Does what sees and moves keep what it knew?",
    base=BASES["tiny-openvla-v1"],
    new="tabletop-green-v1",
    priors={"tabletop": ("tabletop-red-v1", "tabletop-blue-v1")},
    settings=Settings(lr=1e-4, warmup=0, batch=8, group=4, steps=2),
    items=24,
    drift_items=8,
    checkpoint_items=8,
)
"""A track of pictures, with the tiny OpenVLA as its base."""

KEPT: dict[str, bytes] = {}
"""The weights of toy bases that this process has made, by the names of their files."""


def put_base(base: Base, home: Path) -> None:
    """Put a toy base into a home; it is made once a process."""
    file = base.made(home)
    if file.name in KEPT:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(KEPT[file.name])
    else:
        base_policy(base, home)
        KEPT[file.name] = file.read_bytes()
