"""A goal-conditioned robot policy with OpenVLA's kind of action tokens: four autoregressive elements of 256 bins."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from razorbench import Actions, Asked, Column, Episodes, Observations, Turn
from razorbench.agents.network import OneNetwork
from razorbench.harness.learn.policy import Prediction, draw, drawn_with

ELEMENTS, BINS = 4, 256
"""Numbers in a motion, and the bins that each is cut into, of equal width in −1…1."""
CENTRES = torch.arange(0.5, BINS) * (2 / BINS) - 1
"""The values of the bins, [256]."""
WORDS = ("reach", "push", "lift", "place", "put", "the", "block", "goal", "to", "up", "at")
"""What an instruction may say; other words are not heard."""
LOUDNESS = 3.0
"""What a word counts as an input: a loud one keeps what is learned for one instruction from changing the others."""
CENTRE = (1.342, 0.749, 0.535)
"""Middle of the workspace, metres: positions are seen from here."""
WIDTH, INNER = 256, 128
"""Units of the trunk's layers, and of each head's."""
INPUTS = 25
"""Numbers that are seen of the arm, the block and the goal."""
BUMPS = (8, 16, 32, 64)
"""How many smooth bumps over −1…1 the logits are made of, at each of four scales."""
HEARD = sum(BUMPS[:2])
"""Bumps by which a head sees a bin that was chosen before it: those of the two coarser scales."""
LEAST = math.log(1e-6 / BINS)
"""Log-probability that every bin has at least, nats: none becomes impossible in single precision, where KL is inf."""
ROWS = 8192
"""Rows of a micro-batch."""


def inputs(seen: Observations) -> Tensor:
    """What the network sees, [n, 36] float32: arm, block and goal, each about −1…1, and which `WORDS` are said."""
    state = seen.state
    gripper, block, goal = (state[name] - np.array(CENTRE, np.float32) for name in ("gripper", "block", "goal"))
    columns = [
        gripper * 6,
        (block - gripper) * 10,
        np.tanh((block - gripper) * 40),  # grasping is a matter of a centimetre
        (goal - block) * 6,
        np.tanh((goal - block) * 20),
        state["facing"][:, :2],
        state["fingers"] * 40 - 1,
        state["moving"] * 2,
        (state["pushed"] - state["moving"]) * 2,
        LOUDNESS * words(seen.text, len(gripper)),
    ]
    return torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32))


def words(text: Column, rows: int) -> np.ndarray:
    """Which of `WORDS` stand in each instruction, [n, 11]; one string is for all rows."""
    texts = [text] * rows if isinstance(text, str) else text
    known = {said: [word in re.findall(r"\w+", said.lower()) for word in WORDS] for said in set(texts)}
    return np.array([known[said] for said in texts], np.float32)


def bumps() -> Tensor:
    """Smooth functions of a bin, [120, 256]: Gaussians of four widths, each family normalised."""
    families = []
    for count in BUMPS:
        places = torch.linspace(-1, 1, count)[:, None]
        family = torch.exp(-0.5 * ((CENTRES - places) * (count - 1) / 2) ** 2)
        families.append(family / family.sum(0))
    return torch.cat(families)


class Network(nn.Module):
    """Two hidden layers, then a head for each element, which also sees the elements before it.

    Logits are sums of smooth bumps, so what is learned of a bin holds for its neighbours, too. A millionth of the
    probability is spread evenly.
    """

    bumps: Tensor

    def __init__(self) -> None:
        """Torch's default initialisation."""
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(INPUTS + len(WORDS), WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.inner = nn.ModuleList(nn.Linear(WIDTH + HEARD * k, INNER) for k in range(ELEMENTS))
        self.outer = nn.ModuleList(nn.Linear(INNER, sum(BUMPS)) for _ in range(ELEMENTS))
        self.register_buffer("bumps", bumps(), persistent=False)

    def element(self, k: int, hidden: Tensor, code: Tensor) -> Tensor:
        """Logits [n, 256] of element `k`, from what the trunk says [n, 256] and the bins chosen before it [n, k]."""
        heard = self.bumps[:HEARD].T[code].flatten(1)  # [n, k * 24]
        inner = torch.relu(self.inner[k](torch.cat([hidden, heard], 1)))
        logits = (self.outer[k](inner) @ self.bumps).log_softmax(-1)
        return torch.logaddexp(logits, torch.full_like(logits, LEAST))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Logits [n, 4, 256] of every element, the codes [n, 4] before it given."""
        hidden = self.trunk(x)
        return torch.stack([self.element(k, hidden, code[:, :k]) for k in range(ELEMENTS)], 1)


class Bins(OneNetwork):
    """A policy whose action is a motion of four numbers, chosen one after another."""

    id = "mini-robot-v1"
    network = Network
    net: Network
    memoryless = True

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Motions [n, 4] float32: of each element a bin drawn by a random number of its own, or the likeliest."""
        u = asked.uniform(ELEMENTS)
        with torch.no_grad():
            hidden = self.net.trunk(inputs(asked.now))
            code, logp = torch.empty(len(asked), 0, dtype=torch.int64), []
            for k in range(ELEMENTS):
                dist = categorical(self.net.element(k, hidden, code)[:, None])
                chosen = draw(dist, u[:, k : k + 1], temperature)  # [n, 1]
                code = torch.cat([code, chosen], 1)
                logp.append(drawn_with(dist, chosen, temperature))
        return Actions(CENTRES[code].numpy(), code, torch.cat(logp, 1))

    def encode(self, values: Column) -> Tensor:
        """Codes [n, 4] of motions [n, 4]: the bins that they lie in, the outermost ones beyond −1…1."""
        at = (torch.as_tensor(np.asarray(values)) + 1) * (BINS / 2)
        return at.long().clamp(0, BINS - 1)

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """Several turns a micro-batch, as many as make 8,192 rows."""
        turns: list[Turn] = []
        for turn in episodes.turns:
            if turns and sum(len(other.rows) for other in turns) + len(turn.rows) > ROWS:
                yield self.prediction(turns)
                turns = []
            turns.append(turn)
        if turns:
            yield self.prediction(turns)

    def prediction(self, turns: Sequence[Turn]) -> Prediction:
        """One micro-batch of all rows of some turns."""
        code = torch.cat([torch.as_tensor(turn.done.code) for turn in turns if turn.done is not None])
        x = torch.cat([inputs(turn.seen) for turn in turns])
        return Prediction(
            categorical(self.net(x, code)), code, None, torch.from_numpy(np.concatenate([turn.rows for turn in turns]))
        )


def categorical(logits: Tensor) -> Categorical:
    """A distribution over bins."""
    return Categorical(logits=logits, validate_args=False)


def mini_robot(seed: int = 0) -> Bins:
    """The policy with random weights from `seed`."""
    return Bins(seed)
