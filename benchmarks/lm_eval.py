"""Priors of lm-eval beside its own `hf` backend: the same verdicts, log-likelihoods and answers, and what they cost.

    python -m benchmarks.lm_eval [--home HOME] [--documents N] [--ids lm-eval/… …]

One process, one thread, one model (SmolLM2-135M in float32), the first N documents of each task. Both answer the same
requests; times are processor time, building and grading included. `tokens`: what the model reads, ours over theirs;
padding counts. IFEval, the last, needs nltk's punkt_tab: lm-eval's own loop ends in an error without it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES
from razorbench.tasks.lm_eval.benchmark import SEED, LmEval, quiet, seeded

BASE = "smollm2-135m-q4-v1"
IDS = (
    "lm-eval/hellaswag",
    "lm-eval/winogrande",
    "lm-eval/truthfulqa_mc2",
    "lm-eval/mmlu_anatomy",
    "lm-eval/winogrande?shots=5",
    "lm-eval/mmlu_anatomy?shots=5",
    "lm-eval/ifeval?chat=1&tokens=128",
)


def hf(policy: CausalLM, batch: int = 16) -> Any:
    """The same weights as lm-eval's own backend runs them."""
    with quiet():
        model = deepcopy(policy.model)
        model.set_attn_implementation("sdpa")
        make_model: Any = HFLM
        return make_model(pretrained=model, tokenizer=policy.chat.tokenizer, batch_size=batch, backend="causal")


def theirs(benchmark: LmEval, model: Any, limit: int) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval's own loop logs of each document of a benchmark, by task."""
    for part in benchmark.parts.values():
        part.set_fewshot_seed(SEED)
    with quiet(), seeded(SEED):
        found: Any = evaluate(
            lm=model,
            task_dict={"tasks": benchmark.parts},
            limit=limit,
            bootstrap_iters=0,
            apply_chat_template=bool(benchmark.rules.chat),
            fewshot_as_multiturn=True,
        )
    return found["samples"]


def responses(ours: list[Any], theirs: list[Any]) -> tuple[float, int]:
    """The largest difference of a log-likelihood, and the number of texts that differ."""
    far, other = 0.0, 0
    for request, said in zip(ours, theirs, strict=True):
        mine, peer = request[0], said[0]
        if isinstance(mine, str):
            other += mine != peer
        else:
            far = max(far, abs(mine[0] - peer[0]))
            other += mine[1] != peer[1]
    return far, other


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Within it the tokens that a transformers model reads are added up."""
    total = [0]

    def add(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        total[0] += 0 if ids is None else ids.numel()

    hook = model.model.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield total
    finally:
        hook.remove()


def measured(model: Any, what: Callable[[], Any]) -> tuple[Any, float, int]:
    """What it finds, processor seconds, and tokens that the model has read."""
    with counted(model) as tokens:
        started = time.process_time()
        found = what()
        return found, time.process_time() - started, tokens[0]


def compared(policy: CausalLM, peer: Any, id: str, documents: int) -> str:
    """One row of the table."""
    benchmark: LmEval = make("task", id)
    ours, mine, read = measured(policy.model, lambda: benchmark.evaluate(policy, documents))
    (part,) = benchmark.parts.values()
    said = [list(request.resps) for request in part.instances]
    logged, their, read_by_them = measured(peer.model, lambda: theirs(benchmark, peer, documents))
    (rows,) = logged.values()
    metric, through = benchmark.metric(part)
    rows = [row for row in rows if row["filter"] == through]
    wrong = sum(abs(sample.score - float(row[metric])) > 1e-4 for sample, row in zip(ours, rows, strict=True))
    far, other = responses(said, [told for row in rows for told in row["resps"]])
    return (
        f"| `{id}` | {len(ours)} | {wrong} | {far:.1e} | {other} | {mine:.1f} | {their:.1f} | {mine / their:.2f} | "
        f"{read / read_by_them:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"))
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--ids", nargs="+", default=IDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = base_policy(BASES[BASE], arguments.home)
    assert isinstance(policy, CausalLM)
    peer = hf(policy)
    print(
        "| prior | documents | verdicts that differ | nats | answers that differ | ours, s | `hf`, s | ratio | tokens |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for id in arguments.ids:
        print(compared(policy, peer, id, arguments.documents), flush=True)


if __name__ == "__main__":
    main()
