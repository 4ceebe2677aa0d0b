"""How much probability a policy's network puts on what the policy never chooses, such as tokens that are no motion.

Log-probabilities and KL of such a policy are of its choice given that it is one. What the network thinks of that
condition is told beside them.
"""

from collections.abc import Sequence

from razorbench.harness.core.episodes import Instances
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.policy import Constrained

EPISODES = 16
"""Episodes over which it is measured, of each policy its own."""


def outside(agents: Sequence[Agent], task: Task, instances: Instances) -> list[float]:
    """The mean probability of what is never chosen, over the elements of what each agent samples on the first
    instances; empty where one of them chooses among everything.
    """
    means = []
    for agent in agents:
        if not isinstance(agent, Constrained):
            return []
        means.append(agent.outside(rollout(agent, task, instances.first(EPISODES)))[0])
    return means
