"""What two processes make of a tiny OpenVLA whose weights they share out, beside one that holds all.

`torchrun -m tests.sharded_openvla OUT`: the first process writes there how far log-probabilities and gradients are
apart at most, and whether motions that are drawn within `whole` are the same.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from razorbench.agents.openvla.tiny import tiny_openvla
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.engine import started
from razorbench.harness.learn.policy import log_probabilities
from razorbench.harness.learn.shards import shared
from razorbench.tasks.tabletop import Pretraining
from tests.sharded_architectures import gradient


def main(out: Path) -> None:
    """Sampled, predicted, differentiated."""
    engine, task = started(sharded=True), Pretraining()
    whole, parts = (tiny_openvla(3).copy() for _ in range(2))
    instances = task.instances("test").take(np.repeat(np.arange(20, 23), 2))
    played = rollout(whole, task, instances)
    engine.share_out(parts)
    with parts.whole():
        again = rollout(parts, task, instances)
    same = all(
        torch.equal(one.done.code, two.done.code)
        for one, two in zip(played.turns, again.turns, strict=True)
        if one.done and two.done
    )
    ours = gradient(parts, played)
    pairs = [(log_probabilities(whole, played), log_probabilities(parts, played))]
    pairs += [
        (one, shared(two).full_tensor() / engine.size)  # a sum over the processes, who have done the same
        for one, two in zip(gradient(whole, played), ours, strict=True)
    ]
    apart = max(float((one - two).abs().max() / (1 + one.abs().max())) for one, two in pairs)
    if engine.rank == 0:
        out.write_text(json.dumps({"apart": apart, "same": same, "weights": len(ours)}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
