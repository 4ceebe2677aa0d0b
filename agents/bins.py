"""Robot policies with OpenVLA's kind of action tokens: a motion's numbers, one after another, in 256 bins each."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from razorbench import Actions, Asked, Column, Episodes, Observations, Turn
from razorbench.agents.network import OneNetwork
from razorbench.harness.learn.policy import Prediction, draw, drawn_with

BINS = 256
"""Bins that each number of a motion is cut into, of equal width."""
CENTRES = torch.arange(0.5, BINS) * (2 / BINS) - 1
"""The values of the bins, [256], of a number that reaches from −1 to 1."""
LOUDNESS = 3.0
"""What a word counts as an input: a loud one keeps what is learned for one instruction from changing the others."""
WIDTH, INNER = 256, 128
"""Units of the trunk's layers, and of each head's."""
BUMPS = (8, 16, 32, 64)
"""How many smooth bumps over −1…1 the logits are made of, at each of four scales."""
HEARD = sum(BUMPS[:2])
"""Bumps by which a head sees a bin that was chosen before it: those of the two coarser scales."""
LEAST = math.log(1e-6 / BINS)
"""Log-probability that every bin has at least, nats: none becomes impossible in single precision, where KL is inf."""
ROWS = 8192
"""Rows of a micro-batch."""

AT_REST = np.array([-0.264, 0.083, 0.502, 1.157, 0.029, 1.593, -1.081], np.float32)
"""Joints of the google robot's arm when an episode begins, rad."""

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Body:
    """What a policy sees of a robot and what it can make it do."""

    id: str
    """The agent's."""
    reach: tuple[float, ...]
    """The largest motion, a number each; the smallest is its opposite."""
    inputs: int
    """How many numbers `look` makes of a state."""
    look: Callable[[State], list[np.ndarray]]
    """Columns [n, k] of what is seen, each about −1…1, from the task's named columns."""
    words: tuple[str, ...]
    """What an instruction may say; other words are not heard."""
    rests: bool = False
    """Whether a number in one of the two middle bins is zero, which no even number of bins has else: of a robot that
    holds still where it is told nothing, and drifts where it is told a little."""


def arm(state: State) -> list[np.ndarray]:
    """The arm of `tasks/fetch`, a block and a goal; metres are seen from the middle of the workspace."""
    centre = np.array((1.342, 0.749, 0.535), np.float32)
    gripper, block, goal = (state[name] - centre for name in ("gripper", "block", "goal"))
    return [
        gripper * 6,
        (block - gripper) * 10,
        np.tanh((block - gripper) * 40),  # grasping is a matter of a centimetre
        (goal - block) * 6,
        np.tanh((goal - block) * 20),
        state["facing"][:, :2],
        state["fingers"] * 40 - 1,
        state["moving"] * 2,
        (state["pushed"] - state["moving"]) * 2,
    ]


def google(state: State) -> list[np.ndarray]:
    """The robot of `tasks/google`: joints, the hand, and the thing as seen from it, in the frame of the base."""
    hand, thing = state["hand"], state["thing"]
    away = thing[:, :3] - hand[:, :3]
    turned = [axes(pose)[:, :, :2].reshape(len(pose), 6) for pose in (hand, thing)]
    return [
        (state["arm"] - AT_REST) * 1.5,
        state["speed"] * np.array([4.0] * 7 + [1.0] * 2),
        state["fingers"] * 1.5 - 1,
        (hand[:, :3] - (0.45, 0.0, 0.9)) * 3,
        away * 4,
        np.tanh(away * 15),
        np.tanh(away * 50),  # grasping is a matter of a centimetre
        *turned,
        state["opened"] * 5,
    ]


def panda(state: State) -> list[np.ndarray]:
    """ManiSkill3's Panda arm, a thing and a goal, where `tasks/maniskill` shows them under common names."""
    hand, thing, goal = state["tcp_pose"], state["obj_pose"], state["goal_pos"]
    away, left = thing[:, :3] - hand[:, :3], goal - thing[:, :3]
    return [
        (hand[:, :3] - (0.0, 0.0, 0.1)) * 5,
        away * 8,
        np.tanh(away * 40),  # grasping is a matter of a centimetre
        left * 4,
        np.tanh(left * 20),
        *(axes(pose)[:, :, ::2].reshape(len(pose), 6) for pose in (hand, thing)),
        (thing[:, 2:3] - 0.02) * 10,
        state["qpos"][:, 7:] * 40 - 1,
        state["qvel"] * np.array([1.0] * 7 + [10.0] * 2),
    ]


def libero(state: State) -> list[np.ndarray]:
    """LIBERO's Panda arm, the bowl that is meant and the plate, as the suite `spatial` of `tasks/libero` shows them."""
    hand, bowl, plate = state["gripper"], state["akita_black_bowl_1"], state["plate_1"][:, :3]
    rim = bowl[:, :3] + np.array((0.0, 0.045, 0.038), np.float32) - hand  # where a hand can take it
    left = plate - bowl[:, :3]
    held = np.concatenate([hand, np.roll(state["turned"], 1, axis=1)], axis=1)  # as a pose: w x y z
    return [
        (hand - (-0.1, 0.0, 1.05)) * 5,
        rim * 6,
        np.tanh(rim * 20),
        np.tanh(rim * 60),  # grasping is a matter of a centimetre
        left * 4,
        np.tanh(left * 20),
        np.tanh(left * 60),
        axes(held)[:, :, :2].reshape(len(hand), 6),
        axes(bowl)[:, :, 2],
        (bowl[:, 2:3] - 0.9) * 10,
        state["fingers"] * np.array([40.0, 40.0, 10.0, 10.0]) - (1.0, -1.0, 0.0, 0.0),
    ]


BODIES = {
    "mini-robot-v1": Body(
        "mini-robot-v1",
        reach=(1.0, 1.0, 1.0, 1.0),
        inputs=25,
        look=arm,
        words=("reach", "push", "lift", "place", "put", "the", "block", "goal", "to", "up", "at"),
    ),
    "google-robot-v1": Body(
        "google-robot-v1",
        reach=(0.12, 0.12, 0.12, 0.3, 0.3, 0.3, 1.0),
        inputs=43,
        look=google,
        words=("pick", "coke", "can", "open", "close", "top", "middle", "bottom", "drawer"),
    ),
    "mini-panda-v1": Body(
        "mini-panda-v1",
        reach=(1.0,) * 7,
        inputs=39,
        look=panda,
        words=(
            *("pick", "push", "pull", "stack", "hold", "up", "to", "on", "at"),
            *("cube", "goal", "other", "one", "it", "and", "the"),
        ),
    ),
    "mini-libero-v1": Body(
        "mini-libero-v1",
        reach=(1.0,) * 7,
        inputs=35,
        look=libero,
        words=(
            *("between", "next", "table", "center", "cookie", "box", "ramekin"),
            *("top", "drawer", "wooden", "cabinet", "stove"),
        ),
        rests=True,
    ),
}
"""By the agent's id."""


def axes(pose: np.ndarray) -> np.ndarray:
    """Rotation matrices [n, 3, 3] of poses [n, 7], whose quaternions are w x y z."""
    w, x, y, z = pose[:, 3:].T
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]  # fmt: skip
    return np.array(rows).transpose(2, 0, 1)


def inputs(body: Body, seen: Observations) -> Tensor:
    """What the network sees, [n, inputs + words] float32: what the body looks at, and which words are said."""
    columns = body.look(seen.state)
    heard = LOUDNESS * words(body, seen.text, len(columns[0]))
    return torch.from_numpy(np.concatenate([*columns, heard], axis=1, dtype=np.float32))


def words(body: Body, text: Column, rows: int) -> np.ndarray:
    """Which of the body's words stand in each instruction, [n, words]; one string is for all rows."""
    texts = [text] * rows if isinstance(text, str) else text
    known = {said: [word in re.findall(r"\w+", said.lower()) for word in body.words] for said in set(texts)}
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

    def __init__(self, body: Body) -> None:
        """Torch's default initialisation."""
        super().__init__()
        seen, self.elements = body.inputs + len(body.words), len(body.reach)
        self.trunk = nn.Sequential(nn.Linear(seen, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.inner = nn.ModuleList(nn.Linear(WIDTH + HEARD * k, INNER) for k in range(self.elements))
        self.outer = nn.ModuleList(nn.Linear(INNER, sum(BUMPS)) for _ in range(self.elements))
        self.register_buffer("bumps", bumps(), persistent=False)

    def element(self, k: int, hidden: Tensor, code: Tensor) -> Tensor:
        """Logits [n, 256] of element `k`, from what the trunk says [n, 256] and the bins chosen before it [n, k]."""
        heard = self.bumps[:HEARD].T[code].flatten(1)  # [n, k * 24]
        inner = torch.relu(self.inner[k](torch.cat([hidden, heard], 1)))
        logits = (self.outer[k](inner) @ self.bumps).log_softmax(-1)
        return torch.logaddexp(logits, torch.full_like(logits, LEAST))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Logits [n, elements, 256] of every element, the codes [n, elements] before it given."""
        hidden = self.trunk(x)
        return torch.stack([self.element(k, hidden, code[:, :k]) for k in range(self.elements)], 1)


class Bins(OneNetwork):
    """A policy whose action is a motion of some numbers, chosen one after another."""

    body: Body
    net: Network
    memoryless = True

    def __init__(self, seed: int = 0):
        """The policy with random weights from `seed`."""
        self.id = self.body.id
        self.reach = torch.tensor(self.body.reach)
        super().__init__(seed)

    def network(self) -> Network:
        """The network of this body."""
        return Network(self.body)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Motions [n, elements] float32: of each a bin drawn by a random number of its own, or the likeliest."""
        u = asked.uniform(self.net.elements)
        with torch.no_grad():
            hidden = self.net.trunk(inputs(self.body, asked.now))
            code, logp = torch.empty(len(asked), 0, dtype=torch.int64), []
            for k in range(self.net.elements):
                dist = categorical(self.net.element(k, hidden, code)[:, None])
                chosen = draw(dist, u[:, k : k + 1], temperature)  # [n, 1]
                code = torch.cat([code, chosen], 1)
                logp.append(drawn_with(dist, chosen, temperature))
        return Actions(self.decode(code), code, torch.cat(logp, 1))

    def decode(self, code: Tensor) -> np.ndarray:
        """Motions [n, elements] of codes: the middles of the bins, or none where the body rests."""
        values = CENTRES[code]
        if self.body.rests:
            values = torch.where((code == BINS // 2) | (code == BINS // 2 - 1), 0.0, values)
        return (values * self.reach).numpy()

    def encode(self, values: Column) -> Tensor:
        """Codes [n, elements] of motions: the bins that they lie in, the outermost ones beyond what is reached."""
        at = (torch.as_tensor(np.asarray(values)) / self.reach + 1) * (BINS / 2)
        return at.long().clamp(0, BINS - 1)

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """Several turns a micro-batch, as many as make 8,192 rows."""
        turns: list[Turn] = []
        held = 0
        for turn in episodes.turns:
            if turns and held + len(turn.rows) > ROWS:
                yield self.prediction(turns)
                turns, held = [], 0
            turns.append(turn)
            held += len(turn.rows)
        if turns:
            yield self.prediction(turns)

    def prediction(self, turns: Sequence[Turn]) -> Prediction:
        """One micro-batch of all rows of some turns, looked at together: a turn may be of one row."""
        code = torch.cat([torch.as_tensor(turn.done.code) for turn in turns if turn.done is not None])
        names = turns[0].seen.state
        state = {name: np.concatenate([turn.seen.state[name] for turn in turns]) for name in names}
        texts = [[said] * len(turn.rows) if isinstance(said := turn.seen.text, str) else said for turn in turns]
        x = inputs(self.body, Observations([text for each in texts for text in each], state=state))
        return Prediction(
            categorical(self.net(x, code)), code, None, torch.from_numpy(np.concatenate([turn.rows for turn in turns]))
        )


def categorical(logits: Tensor) -> Categorical:
    """A distribution over bins."""
    return Categorical(logits=logits, validate_args=False)


class MiniRobot(Bins):
    """The policy of Fetch's tasks."""

    body = BODIES["mini-robot-v1"]


class GoogleRobot(Bins):
    """The policy of the google robot's tasks."""

    body = BODIES["google-robot-v1"]


class MiniPanda(Bins):
    """The policy of the Panda arm's tasks in ManiSkill3."""

    body = BODIES["mini-panda-v1"]


class MiniLibero(Bins):
    """The policy of the Panda arm in LIBERO's suite `spatial`."""

    body = BODIES["mini-libero-v1"]
