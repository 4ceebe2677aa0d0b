"""The oracle: among all policies that are always right, the nearest to the base (arXiv 2509.04259, appendix B.3)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.distributions import Categorical

from razorbench.harness.core.columns import Column, take
from razorbench.harness.core.episodes import Actions, Asked, Episodes, Turn
from razorbench.harness.core.keeping import nothing
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.policy import Enumerable, draw


@dataclass(frozen=True)
class Scripted:
    """An agent that gives the values [N] it was told to, in one turn."""

    values: Column

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """The told values of the rows asked."""
        return Actions(take(self.values, asked.rows))


@dataclass(frozen=True)
class Projection:
    """The base's distribution given that the answer is right: q*(y|x) ∝ π₀(y|x)·1[R(x, y) = 1].

    It minimises both KL(q‖π₀) (Lemma 5.1) and KL(π₀‖q) up to the mass that π₀ gives to wrong answers (B.3). Exact over
    the alphabet, for tasks of one turn with one element. Where no answer is right it answers as the base does.
    """

    base: Enumerable
    task: Task

    def distribution(self, asked: Asked) -> Categorical:
        """q* for each row asked, batch shape [n, 1]."""
        alphabet, n = self.base.alphabet, len(asked)
        script = Scripted(np.tile(np.asarray(alphabet), n))
        graded = rollout(script, self.task, asked.instances.take(np.repeat(np.arange(n), len(alphabet))), keep=nothing)
        right = torch.from_numpy(graded.reward >= 1).view(n, 1, len(alphabet))
        placeholder = self.base.encode(take(alphabet, np.zeros(n, np.int64)))
        seen = Turn(np.arange(n), asked.now, Actions(None, placeholder))
        with torch.no_grad():
            (part,) = self.base.predict(Episodes(asked.instances, [seen]))
        assert isinstance(part.dist, Categorical), "an alphabet goes with a categorical distribution"
        kept = right | ~right.any(-1, keepdim=True)
        return Categorical(logits=part.dist.logits.masked_fill(~kept, -math.inf), validate_args=False)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """An answer drawn from q*."""
        code = draw(self.distribution(asked), asked.uniform(1))  # [n, 1]
        return Actions(take(self.base.alphabet, code[:, 0].numpy()), code)
