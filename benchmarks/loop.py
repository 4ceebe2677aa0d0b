"""Our adaptation loop against a bare PyTorch loop on the same network, images, steps and settings.

    python -m benchmarks.loop

Blocks of steps are interleaved, ours then theirs, in one process and one thread; the ratio is the median over pairs
of blocks, with its quartiles. The bare loops are what one would write by hand: tensors, indices, autograd, fused AdamW,
clipping to norm 1. `shared` computes a prompt's forward pass once for its 16 answers, as our agent does; `unshared`
feeds all 2,048 rows through the network, as a plain implementation does.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from razorbench.agents.mlp import network
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.score import Bench
from razorbench.harness.tracks.catalogue import find_track

GROUP = 16


def bare(method: str, images: Tensor, labels: Tensor, batch: int, shared: bool) -> Iterator[float]:
    """A bare loop; each `next` is one step and gives its loss. `images` are [n, 785] bytes and a sign."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, weight_decay=0.0, fused=True)
    order = torch.randperm(len(images))
    while True:
        for rows in order.split(batch):
            x = images[rows].float()
            x[:, :-1] /= 255
            if method == "sft":
                loss = torch.nn.functional.cross_entropy(net(x), labels[rows] % 2)
            else:
                if shared:
                    logp = net(x).log_softmax(-1).repeat_interleave(GROUP, 0)  # [P·G, 10]
                    with torch.no_grad():
                        answers = torch.multinomial(logp.exp(), 1)[:, 0]
                else:
                    x = x.repeat_interleave(GROUP, 0)
                    with torch.no_grad():
                        answers = torch.multinomial(net(x).softmax(-1), 1)[:, 0]
                    logp = net(x).log_softmax(-1)
                reward = (answers % 2 == labels[rows].repeat_interleave(GROUP) % 2).float().view(-1, GROUP)
                advantage = reward - reward.mean(1, keepdim=True)
                if method == "grpo":
                    advantage = advantage / (reward.std(1, keepdim=True, correction=0) + 1e-6)
                chosen = logp.gather(1, answers[:, None])[:, 0]
                if method == "grpo":
                    ratio = (chosen - chosen.detach()).exp()
                    gained = torch.minimum(ratio * advantage.view(-1), ratio.clamp(0.8, 1.2) * advantage.view(-1))
                else:
                    gained = chosen * advantage.view(-1)
                loss = -gained.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            yield loss.item()


def ours(bench: Bench, method: str, batch: int) -> Iterator[float]:
    """Our loop; each `next` is one step and gives its loss."""
    settings = Settings(batch=batch, group=GROUP, steps=1_000_000)
    for report in Adaptation(bench.base.copy(), bench.new, METHODS[method], settings):
        yield report.loss


def compare(one: Callable[[], object], other: Callable[[], object], steps: int, pairs: int) -> tuple[float, np.ndarray]:
    """Milliseconds a step of `one` (median), and the ratios one/other of `pairs` interleaved blocks of `steps`."""

    def block(step: Callable[[], object]) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - started) / steps

    for warm in (one, other):
        block(warm)
    times = np.array([(block(one), block(other)) for _ in range(pairs)])
    return float(np.median(times[:, 0])) * 1e3, times[:, 0] / times[:, 1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"))
    parser.add_argument("--pairs", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(find_track("parity-mnist-v1"), arguments.home)
    data = bench.new.instances("train").data
    sign = torch.from_numpy(data["indicator"])[:, None]
    images = torch.cat([torch.from_numpy(data["pixels"]).to(torch.int16), sign.to(torch.int16)], 1)
    labels = torch.from_numpy(data["label"])
    print("| method | rows a step | bare loop | ours, ms a step | ours / bare | quartiles |")
    print("| --- | ---: | --- | ---: | ---: | --- |")
    cases = [
        ("sft", 2048, False),
        ("sft", 128, False),
        ("reinforce", 128, True),
        ("grpo", 128, True),
        ("reinforce", 128, False),
        ("grpo", 128, False),
    ]
    for method, batch, shared in cases:
        mine, theirs = ours(bench, method, batch), bare(method, images, labels, batch, shared)
        steps = 4 if batch > 1000 or not shared else 15
        ms, ratio = compare(lambda: next(mine), lambda: next(theirs), steps, arguments.pairs)  # noqa: B023
        rows = batch if method == "sft" else f"{batch} × {GROUP}"
        name = "plain" if method == "sft" else "shared" if shared else "unshared"
        low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75])
        print(f"| {method} | {rows} | {name} | {ms:.2f} | {middle:.3f} | {low:.3f}–{high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
