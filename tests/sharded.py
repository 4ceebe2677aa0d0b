"""What two processes do whose weights are shared out; `torchrun -m tests.sharded OUT HOME` runs all of it at once.

Written there: a checkpoint folder for each of `RUNS`, another as it was in the middle, and in `held-<rank>.json` how
many numbers a process held.
"""

import json
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.engine import started
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.shards import here
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, adapt_into, begin
from razorbench.harness.tracks.catalogue import find_track

TRACK = "mini-math-v1"
RUNS: dict[str, dict[str, Any]] = {
    "sft": {"l2": 1.0},
    "dr-grpo": {"group": 3, "kl": 0.1, "iterations": 2},
    "iterative-sft": {"group": 2, "lora": 2, "steps": 3, "examples": 14},
}
"""Method → its settings, beside those that all share."""
STEPS = 4


def spec(method: str) -> Spec:
    """A run; seven prompts a step: one process has four of them and the other three."""
    common = replace(find_track(TRACK).settings, steps=STEPS, warmup=2, batch=7, lr=1e-3)
    return Spec(method, replace(common, **RUNS[method]))


def main(out: Path, home: Path) -> None:
    """Adapt by each method, stopped after the second step and gone on with."""
    engine = started(sharded=True)

    def stopped(report: Report, steps: int) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    for method in RUNS:
        how = Runtime(micro_batch=200, shard=True, checkpointing=method == "sft")
        bench, folder = Bench(find_track(TRACK), home, how), out / method
        with suppress(KeyboardInterrupt):
            adapt_into(folder, bench, spec(method), engine=engine, observe=("update",), save_every=1, tell=stopped)
        if engine.rank == 0:
            shutil.copytree(folder, out / f"{method} stopped")
        adapt_into(folder, Bench(find_track(TRACK), home, how), spec(method), engine=engine, observe=("update",))
    bench = Bench(find_track(TRACK), home, Runtime(shard=True))
    going = begin(bench, spec("sft"), engine)
    going.advance()
    parts = [here(weight).numel() for weight in going.parameters]
    gradients = [here(weight.grad).numel() for weight in going.parameters if weight.grad is not None]
    moments = [here(x).numel() for state in going.optimizers[0].state.values() for x in state.values()]
    base = [here(weight).numel() for weight in bench.base.parameters()]
    held = [sum(some) for some in (base, parts, gradients, moments)]
    (out / f"held-{engine.rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
