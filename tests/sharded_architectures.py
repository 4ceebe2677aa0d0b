"""What two processes make of tiny models whose weights they share out, by architecture, beside one that holds all.

`torchrun -m tests.sharded_architectures OUT`: the first process writes there how far log-probabilities and gradients
are apart at most.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from razorbench import Episodes
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.engine import started
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.shards import shared
from tests.test_architectures import CONFIGS, made, predicted
from tests.test_causal_lm import Chatter


def gradient(policy: Policy, played: Episodes) -> list[torch.Tensor]:
    """Of the sum of all log-probabilities, in each weight."""
    for part in policy.predict(played):
        part.logp.sum().backward()
    return [weight.grad for weight in policy.parameters() if weight.grad is not None]


def main(out: Path) -> None:
    """Every architecture once."""
    engine, apart = started(sharded=True), {}
    for name in CONFIGS:
        whole, parts = made(name), made(name)
        task = Chatter()
        played = rollout(whole, task, task.instances("train").take(np.repeat([0, 6], 2)))
        engine.share_out(parts)
        ours = gradient(parts, played)
        pairs = [*zip(predicted(whole, played), predicted(parts, played), strict=True)]
        pairs += [
            (one, shared(two).full_tensor() / engine.size)  # a sum over the processes, who have done the same
            for one, two in zip(gradient(whole, played), ours, strict=True)
        ]
        apart[name] = max(float((one - two).abs().max() / (1 + one.abs().max())) for one, two in pairs)
    if engine.rank == 0:
        out.write_text(json.dumps(apart))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
