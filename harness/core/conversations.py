"""Episodes in words as conversations: lists of messages with `role` and `content`, as other tools learn from them."""

from razorbench.harness.core.columns import row
from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.rollout import demonstrations

Talk = list[dict[str, str]]
"""Messages with `role` and `content`."""


def talks(task: Task, episodes: Episodes) -> list[Talk]:
    """What was asked and answered in each episode of a task. Refused if it asks otherwise than in words."""
    said: list[Talk] = [[] for _ in range(len(episodes))]
    for turn in episodes.turns:
        for at, episode in enumerate(turn.rows.tolist()):
            asked, answer = turn.seen[at], row(turn.done.value, at) if turn.done else None
            if asked.text is None or not isinstance(answer, str):
                raise Refused(f"{type(task).__name__} does not ask in words, so it has no conversations")
            said[episode].append({"role": asked.role, "content": asked.text})
            said[episode].append({"role": "assistant", "content": str(answer)})
    return said


def conversations(task: Task, instances: Instances, style: str = "") -> list[Talk]:
    """What an expert is asked in words and answers; of a file of demonstrations those instances that it has.

    Refused if the task has no expert or no such style, or asks otherwise than in words.
    """
    return talks(task, demonstrations(task, instances, style))
