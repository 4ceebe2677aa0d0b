"""How the base of smollm2-sentiment-v1 was chosen: `python -m benchmarks.warm_up [--home DIR]`, some ten minutes.

Each try is SFT of SmolLM2 on reviews with labels drawn at random. What counts is what the model then says first about
the last 120 training reviews: how much probability lies on the two words, and how well their odds rank the reviews.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import make
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks.bases import begun
from razorbench.harness.tracks.catalogue import find_track

TRACK = "smollm2-sentiment-v1"
REVIEWS = 120
USUAL = Settings(lr=2e-4, lora=16, schedule="cosine", warmup=2, batch=8, steps=16)
TRIES = (
    None,
    replace(USUAL, lora=0, lr=2e-5),
    replace(USUAL, lora=0, lr=1e-5),
    replace(USUAL, lora=0, lr=5e-6),
    replace(USUAL, lora=0, lr=5e-6, steps=8),
    replace(USUAL, steps=8),
    USUAL,
)
"""Settings of each; None: the model as it comes."""


def main() -> None:
    """Print a row for each try."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"))
    told = parser.parse_args()
    torch.set_num_threads(1)
    start = begun(find_track(TRACK).base, told.home, {})
    assert isinstance(start, CausalLM)
    print("| warm-up | probability on the two words | area under the curve |\n| --- | ---: | ---: |")
    for settings in TRIES:
        mass, area = first_words(start if settings is None else warmed(start, settings))
        print(f"| {title(settings)} | {mass:.3f} | {area:.3f} |", flush=True)


def title(settings: Settings | None) -> str:
    """What a try is called."""
    if settings is None:
        return "none"
    what = f"LoRA of rank {settings.lora}" if settings.lora else "all weights"
    return f"{what}, {settings.lr:g}, {settings.steps} steps"


def warmed(start: CausalLM, settings: Settings) -> CausalLM:
    """The model after SFT on labels drawn at random."""
    policy = start.low_rank(settings.lora) if settings.lora else start.copy()
    for _ in Adaptation(policy, make("task", "sst2-form-v1"), METHODS["sft"], settings):
        pass
    return policy


@torch.inference_mode()
def first_words(policy: CausalLM) -> tuple[float, float]:
    """The mean probability of `Good` and `Bad` as the first token, and how often a good review has the better odds."""
    task = make("task", "sst2-sentiment-v1")
    train = task.instances("train")
    last = train.take(np.arange(len(train) - REVIEWS, len(train)))
    words = [policy.chat.tokens(word)[0] for word in task.words]
    asked = [policy.chat.opening("user", f"{task.instruction}\n\n{text}") for text in last.data["text"]]
    nats = []
    for ids in asked:
        state = policy.trunk(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        nats.append((policy.head @ state).log_softmax(-1)[words].tolist())
    good, bad = np.array(nats).T
    odds, right = good - bad, np.array(last.data["label"]) == task.words[0]
    return float((np.exp(good) + np.exp(bad)).mean()), float((odds[right][:, None] > odds[~right]).mean())


if __name__ == "__main__":
    main()
