"""Suites of prior tasks by name: what a track's file and `compare --priors` may say in place of ids."""

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import unknown

SUITES: dict[str, tuple[str, ...]] = {
    "paper": (
        "lm-eval/hellaswag?shots=0&metric=acc_norm",
        "lm-eval/truthfulqa_mc2?shots=0&metric=acc",
        "lm-eval/mmlu?shots=0&metric=acc",
        "lm-eval/ifeval?shots=0&metric=prompt_level_strict_acc",
        "lm-eval/winogrande?shots=0&metric=acc",
        "lm-eval/humaneval?shots=0&metric=pass@1",
    ),
}
"""Name → task ids. `paper` is the six of "RL's Razor" (arXiv 2509.04259), each with what decides its score."""


def suite(name: str) -> tuple[str, ...]:
    """The task ids of a suite. Refuses an unknown name."""
    if name not in SUITES:
        raise Refused(unknown("suite", name, list(SUITES)))
    return SUITES[name]
