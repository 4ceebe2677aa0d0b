"""Priors of lm-eval beside its own `hf` backend: the same verdicts, log-likelihoods and answers, and what they cost.

    python -m benchmarks.lm_eval [--home HOME] [--documents N] [--batch N] [--ids lm-eval/… …]

One model (SmolLM2-135M in float32), one thread, the first N documents of each task. Each side answers the same requests
in a process of its own, after one document that does not count; times are processor time, building and grading
included. `tokens`: what the model reads, ours over theirs; padding counts. `MiB`: the peak of memory above what the
process held when it began, model and documents included; it grows with what is read at once, which is 8,192 tokens of
ours, and a batch of theirs.

HellaSwag has no examples where the data folder has its validation split alone, and TruthfulQA has its own six in every
prompt: neither has a row of five shots.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from benchmarks.costs import Cost, apart, measured
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


@dataclass(frozen=True)
class Side:
    """How one side did on the documents of a task."""

    scores: list[float]
    said: list[Any]
    """The responses to each request, in order."""
    cost: Cost
    tokens: int


def our_side(policy: CausalLM, id: str, documents: int) -> Side:
    """A prior as a track has it scored."""
    benchmark: LmEval = make("task", id)
    benchmark.evaluate(policy, 1)
    with counted(policy.model) as tokens:
        samples, cost = measured(lambda: benchmark.evaluate(policy, documents))
    (part,) = benchmark.parts.values()
    return Side([each.score for each in samples], [list(each.resps) for each in part.instances], cost, tokens[0])


def their_side(policy: CausalLM, id: str, documents: int, batch: int) -> Side:
    """The same task in lm-eval's own loop, on its own backend."""
    benchmark: LmEval = make("task", id)
    peer = hf(policy, batch)
    theirs(benchmark, peer, 1)
    with counted(peer.model) as tokens:
        logged, cost = measured(lambda: theirs(benchmark, peer, documents))
    ((name, part),) = benchmark.parts.items()
    metric, through = benchmark.metric(part)
    rows = [row for row in logged[name] if row["filter"] == through]
    return Side([float(row[metric]) for row in rows], [said for row in rows for said in row["resps"]], cost, tokens[0])


def compared(policy: CausalLM, id: str, documents: int, batch: int) -> str:
    """One row of the table."""
    ours = apart(lambda: our_side(policy, id, documents))
    peer = apart(lambda: their_side(policy, id, documents, batch))
    wrong = sum(abs(mine - their) > 1e-4 for mine, their in zip(ours.scores, peer.scores, strict=True))
    far, other = responses(ours.said, peer.said)
    return (
        f"| `{id}` | {len(ours.scores)} | {wrong} | {far:.1e} | {other} | {ours.cost.seconds:.1f} | "
        f"{peer.cost.seconds:.1f} | {ours.cost.seconds / peer.cost.seconds:.2f} | {ours.tokens / peer.tokens:.2f} | "
        f"{ours.cost.mib:,.0f} | {peer.cost.mib:,.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"))
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16, help="documents that `hf` reads at once")
    parser.add_argument("--ids", nargs="+", default=IDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = base_policy(BASES[BASE], arguments.home)
    assert isinstance(policy, CausalLM)
    print(
        "| prior | documents | verdicts that differ | nats | answers that differ | ours, s | `hf`, s | ratio | tokens "
        "| ours, MiB | `hf`, MiB |"
    )
    print("| --- |" + " ---: |" * 10)
    for id in arguments.ids:
        print(compared(policy, id, arguments.documents, arguments.batch), flush=True)


if __name__ == "__main__":
    main()
