"""The language-model policy beside its peers: TRL's trainers, transformers' `generate`, a plain forward pass.

    python -m benchmarks.language [--weights FILE] [--pairs N]

One process, one thread, one model (mini-lm-v1, 0.9 million weights in float32), questions of mini-tools-v1. Turns are
interleaved and a ratio is that of two neighbours; the table gives the median and the range of the ratios. All times are
processor time, which other work on the machine lengthens less than the wall clock's.
Nobody learns: at rate 0 a step costs the same, and both sides go on sampling replies of the same lengths. Without
weights the model is random; then almost every reply runs to the limit on both sides.

TRL is set to be fast: no gradient checkpointing, one generation a step, no logging. Its step is the time from the end
of one to the end of the next, as in our `Adaptation`: data, rollout, reward, loss, update.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from torch import nn
from transformers import Qwen2ForCausalLM, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from razorbench import Asked, Episodes, Observations, Turn, mix
from razorbench.agents.language.mini_lm import FOLDER, mini_lm
from razorbench.agents.language.packing import batches
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import encoded
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.drift import divergence
from razorbench.tasks.mini.tools import MiniTools

BATCH, PROMPTS, GROUP, LIMIT = 16, 16, 8, 64
ROWS = PROMPTS * GROUP
Pairs = list[tuple[float, float]]
"""Seconds of ours and of the peer, turn by turn."""


def plain(policy: CausalLM) -> Any:
    """The same weights as transformers runs them."""
    model = Qwen2ForCausalLM(deepcopy(policy.model.config))
    model.load_state_dict(policy.model.state_dict())
    model.set_attn_implementation("sdpa")
    return model.eval()


def seconds(what: Callable[[], object]) -> float:
    """How long it takes the processor."""
    started = time.process_time()
    what()
    return time.process_time() - started


def interleaved(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> Pairs:
    """Turns of both, after one of each that does not count."""
    return [(seconds(ours), seconds(theirs)) for _ in range(pairs + 1)][1:]


class Turns(TrainerCallback):
    """Takes a step of ours after each of the trainer's, and the time of both."""

    def __init__(self, ours: Callable[[], object]):
        self.ours, self.pairs, self.mark = ours, [], time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step of theirs is over."""
        theirs = time.process_time() - self.mark
        self.pairs.append((seconds(self.ours), theirs))
        self.mark = time.process_time()


def against(trainer: Any, ours: Callable[[], object]) -> Pairs:
    """Steps of a TRL trainer and of ours, in turn; the first of each does not count."""
    turns = Turns(ours)
    trainer.add_callback(turns)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return turns.pairs[1:]


def options(folder: str, rows: int, steps: int) -> dict[str, Any]:
    """What both trainers of TRL are told."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": rows,
        "learning_rate": 0.0,
        "lr_scheduler_type": "constant",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def sft(policy: CausalLM, task: MiniTools, pairs: int) -> Pairs:
    """SFT on the foreign demonstrations, 16 a step: the same ones, in the same order, of the same tokens."""
    steps = pairs + 1
    ours = Adaptation(policy.copy(), task, METHODS["sft"], Settings(lr=0.0, warmup=0, batch=BATCH, steps=steps))
    shown = encoded(policy, demonstrations(task, ours.learner.instances))
    talks = policy.chat.talks(shown.turns, len(shown))
    rows = {
        "input_ids": [talk.opening + talk.tail for talk in talks],
        "labels": [[-100] * len(talk.opening) + talk.tail for talk in talks],
    }
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(**options(folder, BATCH, steps), train_sampling_strategy="sequential")
        data, tokenizer = Dataset.from_dict(rows), policy.chat.tokenizer
        trainer = SFTTrainer(plain(policy), config, train_dataset=data, processing_class=tokenizer)
        return against(trainer, ours.advance)


def dr_grpo(policy: CausalLM, task: MiniTools, pairs: int) -> Pairs:
    """Dr. GRPO on the same prompts in the same order; each side samples, grades and learns from its own replies."""
    steps = pairs + 1
    settings = Settings(lr=0.0, warmup=0, batch=PROMPTS, group=GROUP, horizon=LIMIT, steps=steps)
    ours = Adaptation(policy.copy(), task, METHODS["dr-grpo"], settings)
    ids = ours.learner.instances.id.tolist()
    rows = {"prompt": [[{"role": "user", "content": task.question(id).text}] for id in ids], "question": ids}

    def graded(completions: list, question: list[int], **_: Any) -> list[float | None]:
        pairs = zip(completions, question, strict=True)
        return [task.grade(said[0]["content"], task.question(id)).reward for said, id in pairs]

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            **options(folder, ROWS, steps),
            loss_type="dr_grpo",
            scale_rewards="none",
            beta=0.0,
            num_generations=GROUP,
            max_completion_length=LIMIT,
            shuffle_dataset=False,
        )
        data, tokenizer = Dataset.from_dict(rows), policy.chat.tokenizer
        trainer = GRPOTrainer(plain(policy), graded, config, train_dataset=data, processing_class=tokenizer)
        return against(trainer, ours.advance)


def generation(policy: CausalLM, task: MiniTools, distinct: int, pairs: int) -> Pairs:
    """128 replies of 64 tokens to so many distinct prompts: `act` and `generate`, each with a cache and sampling."""
    instances = task.instances("train").take(np.repeat(np.arange(distinct), ROWS // distinct))
    texts, rows = [task.question(id).text for id in instances.id], np.arange(ROWS)
    seen = Observations(text=texts)
    asked = Asked(Episodes(instances, [Turn(rows, seen)]), rows, seen, mix(rows), np.zeros(ROWS, np.int64))
    model, tokenizer = plain(policy), policy.chat.tokenizer
    prompts = [policy.chat.render([{"role": "user", "content": text}]) for text in texts]
    given = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    wanted = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": LIMIT}
    stop = {"eos_token_id": policy.chat.stop, "pad_token_id": tokenizer.pad_token_id}
    return interleaved(lambda: policy.act(asked), lambda: model.generate(**given, **wanted, **stop), pairs)


def kl(policy: CausalLM, task: MiniTools, passes: int, pairs: int) -> Pairs:
    """KL of two policies along 128 sampled replies, and so many plain forward passes over the same tokens."""
    episodes = rollout(policy, task, task.instances("train").first(ROWS))
    other, model = policy.copy(), plain(policy)
    talks = sorted((t.opening + t.tail for t in policy.chat.talks(episodes.turns, ROWS)), key=len)
    parts = [
        nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in talks[part]], batch_first=True)
        for part in batches([len(ids) for ids in talks], policy.runtime.micro_batch)
    ]

    def forward() -> None:
        with torch.no_grad():
            for _ in range(passes):
                for ids in parts:
                    model(input_ids=ids, use_cache=False)

    return interleaved(lambda: divergence(policy, other, episodes), forward, pairs)


def line(what: str, peer: str, pairs: Pairs, tokens: int = 0) -> None:
    """One row of the table: milliseconds, or tokens a second, of both; then the ratio of their times."""
    times = np.array(pairs)
    ratio = times[:, 0] / times[:, 1]
    ours, theirs = (
        f"{tokens / time:,.0f} tokens/s" if tokens else f"{time * 1e3:,.0f} ms" for time in np.median(times, 0)
    )
    spread = f"{ratio.min():.2f}–{ratio.max():.2f}"
    print(f"| {what} | {peer} | {ours} | {theirs} | {np.median(ratio):.2f} | {spread} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=FOLDER / "model.safetensors", help="pretrained, where there")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    task, policy, pairs = MiniTools(), mini_lm(), arguments.pairs
    policy.limit = LIMIT
    print("| what | peer | ours | peer's | ours / peer, time | min–max |\n| --- | --- | ---: | ---: | ---: | --- |")
    line(f"SFT step, batch {BATCH}", "TRL's SFTTrainer", sft(policy, task, 3 * pairs))
    step = f"Dr. GRPO step, {PROMPTS} × {GROUP} replies"
    line(f"{step}, all of about {LIMIT} tokens", "TRL's GRPOTrainer", dr_grpo(policy, task, pairs))
    if arguments.weights.exists():
        trained = policy.copy()
        trained.load(arguments.weights)
        line(f"{step}, as the pretrained model ends them", "TRL's GRPOTrainer", dr_grpo(trained, task, pairs))
    for distinct in (ROWS, PROMPTS):
        what = f"{ROWS} replies of {LIMIT} tokens, {distinct} distinct prompts"
        line(what, "`generate` of transformers", generation(policy, task, distinct, pairs), ROWS * LIMIT)
    for passes, peer in ((1, "one plain forward pass"), (2, "two plain forward passes")):
        line(f"KL over the vocabulary along {ROWS} replies", peer, kl(policy, task, passes, pairs))


if __name__ == "__main__":
    main()
