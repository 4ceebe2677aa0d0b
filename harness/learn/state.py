"""What an adaptation needs to go on, in a folder that is renamed into place: weights and moments, whole or in parts.

::

    DIR/state-<step>/policy.safetensors                     as the policy saves itself
    DIR/state-<step>/policy-00001-of-00002.safetensors      or else what each of the processes that share it holds
    DIR/state-<step>/epoch_start…, optimizer…               likewise: the policy as the epoch began, AdamW's moments

Either kind is read by however many processes, whether they share weights or not.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.engine import Engine, first_does
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.shards import here, placed

OPTIMIZER = "optimizer"


@dataclass(frozen=True)
class State:
    """All that changes from step to step, but for the number of the step."""

    policies: Mapping[str, Policy]
    """By the names of their files."""
    optimizers: Sequence[torch.optim.Optimizer]
    engine: Engine

    def save(self, folder: Path, step: int, told: Mapping[str, str]) -> None:
        """Write it to `folder`/state-<step>, all or nothing, with what else is `told`, and drop older ones.

        All processes come here.
        """
        final = folder / f"state-{step:08d}"
        there, process = self.engine.gathered((final.exists(), os.getpid()))[0]
        if there:
            return
        fresh = folder / f".{final.name}.{process}"

        def begin() -> None:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)

        def publish() -> None:
            os.replace(fresh, final)
            for other in {*folder.glob("state-*"), *folder.glob(".state-*")} - {final}:
                shutil.rmtree(other, ignore_errors=True)

        first_does(self.engine, begin)
        if self.engine.sharded:
            part = f"-{self.engine.rank + 1:05d}-of-{self.engine.size:05d}.safetensors"
            for name, policy in self.policies.items():
                weights = {str(i): here(weight.detach()) for i, weight in enumerate(policy.parameters())}
                save_file(weights, fresh / f"{name}{part}")
            save_file(self.moments(), fresh / f"{OPTIMIZER}{part}", {**told})
        elif self.engine.rank == 0:
            for name, policy in self.policies.items():
                policy.save(fresh / f"{name}.safetensors")
            save_file(self.moments(), fresh / f"{OPTIMIZER}.safetensors", {**told})
        self.engine.gathered(None)  # everyone has written
        first_does(self.engine, publish)

    def moments(self) -> dict[str, Tensor]:
        """What this process holds of the optimisers' states."""
        return {
            f"{which}.{i}.{name}": here(value)
            for which, optimizer in enumerate(self.optimizers)
            for i, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }

    def load(self, folder: Path) -> tuple[int, dict[str, str]] | None:
        """Take over the newest state in `folder`; its step and what else is told there, or None where there is none.

        Refuses one that is torn.
        """
        states = sorted(folder.glob("state-*"))
        if not states:
            return None
        try:
            told = self.restore(states[-1])
        except (Refused, OSError, SafetensorError):
            raise Refused(f"{states[-1]} is torn; remove it and give the same command again") from None
        return int(states[-1].name.removeprefix("state-")), told

    def restore(self, state: Path) -> dict[str, str]:
        """Take over a state folder; what else is told there."""
        for name, policy in self.policies.items():
            if (whole := state / f"{name}.safetensors").exists():
                policy.load(whole)
                continue
            weights = list(policy.parameters())
            for i, value in joined(parts(state, name)):
                with torch.no_grad():
                    weights[int(i)].copy_(placed(value, weights[int(i)]))
        files = parts(state, OPTIMIZER)
        moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        trained = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in self.optimizers]
        for name, value in joined(files):
            which, i, field = name.split(".")
            like = trained[int(which)][int(i)]
            held = value if value.shape != like.shape else placed(value, like)  # the count of steps is one number
            moments[int(which)].setdefault(int(i), {})[field] = held
        for optimizer, moment in zip(self.optimizers, moments, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moment})
        with safe_open(files[0], "pt") as file:
            return dict(file.metadata() or {})


def parts(state: Path, name: str) -> list[Path]:
    """The files of one name, by rank: a single one where it was saved whole. Raises OSError where some are missing."""
    parts = sorted(state.glob(f"{name}.safetensors")) or sorted(state.glob(f"{name}-*-of-*.safetensors"))
    if not parts or ("-of-" in parts[0].name and len(parts) != int(parts[0].stem.rpartition("-")[2])):
        raise FileNotFoundError(f"{state} lacks parts of {name}")
    return parts


def joined(files: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
    """The named tensors of which each file holds a part, one after another: rows below rows, numbers as they are."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
        for name in opened[0].keys():  # noqa: SIM118 - it is no mapping
            pieces = [file.get_tensor(name) for file in opened]
            yield name, torch.cat(pieces) if pieces[0].ndim else pieces[0]
