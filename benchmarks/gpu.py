"""What only a GPU can show, in at most ten minutes: `python -m benchmarks.gpu [--tiny] [language openvla simulator]`.

Models of the published shapes with random weights, so nothing is downloaded: Qwen2.5-3B-Instruct samples 512 replies of
512 tokens by our own loop and by vLLM, rates texts, and takes a Dr. GRPO step on such replies; OpenVLA-7B says motions
for 1 and 64 pictures at once, and takes a REINFORCE step by adapters; ManiSkill3 simulates hundreds of scenes on the
GPU. A row a measurement, printed as it comes: clock time after a warm-up, and the peak of the device's memory. What a
package lacks, or what does not fit into the minutes that are left, is said in its place.

`--tiny` is the same script with small shapes on whatever is here, in less than a minute; the tests run it.
"""

import argparse
import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from razorbench import Asked, Episodes, Instances, Missing, Observation, Outcome, Runtime, each, mix
from razorbench.agents.language.mini_lm import FOLDER as WORDS
from razorbench.agents.language.policy import CausalLM
from razorbench.agents.openvla.policy import OpenVLA
from razorbench.agents.openvla.shape import TOWERS, Shape
from razorbench.agents.openvla.tiny import FOLDER as TINY
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.settings import Settings
from razorbench.harness.runs.clocks import DEVICES
from razorbench.tasks.tabletop import Green

QWEN: dict[str, Any] = {
    "hidden_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}
QWEN |= {"intermediate_size": 11008, "vocab_size": 151936, "max_position_embeddings": 32768}
"""Qwen2.5-3B."""
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
SMALL |= {"intermediate_size": 128, "vocab_size": 1024, "max_position_embeddings": 512}


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    qwen: dict[str, Any]
    prompts: int
    group: int
    tokens: int
    texts: int
    """That are rated."""
    pictures: tuple[int, ...]
    scenes: int


WHOLE = Size(QWEN, 64, 8, 512, 512, (1, 64), 256)
TINY_SIZE = Size(SMALL, 2, 2, 8, 4, (1, 2), 2)


class Lottery:
    """A question of whose answers every second is right, whatever it says: random weights have something to learn."""

    card = None

    def instances(self, split: str) -> Instances:
        """4,096 questions of some hundred tokens."""
        ids = np.arange(4096)
        return Instances(ids, {"question": [f"Question {i}: " + "how many legs have spiders? " * 12 for i in ids]})

    @each
    def play(self, instance: Any) -> Any:
        """One answer."""
        said = yield Observation(text=instance.data["question"])
        return Outcome(float(mix(instance.id, len(said), sum(map(ord, said))) % 2))


class Rows:
    """A table that is printed as it is made, while there is time."""

    def __init__(self, device: str, minutes: float):
        """The clock begins now."""
        self.device, self.until = device, time.monotonic() + 60 * minutes
        print("| what | | seconds | peak, GB |\n| --- | ---: | ---: | ---: |")

    def take(self, what: str, do: Callable[[], float], unit: str, warm: bool = True) -> None:
        """Time `do`, which returns how many of something it made; or say that there is no time left."""
        if time.monotonic() > self.until:
            print(f"| {what} | no time left | | |", flush=True)
            return
        try:
            if warm:
                do()
            if self.device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            began = self.now()
            made = do()
            seconds = self.now() - began
        except (torch.OutOfMemoryError, Missing) as error:
            print(f"| {what} | {type(error).__name__}: {str(error).splitlines()[0][:90]} | | |", flush=True)
            return
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if self.device != "cpu" else "–"
        print(f"| {what} | {made / seconds:,.4g} {unit} | {seconds:.2f} | {peak} |", flush=True)

    def now(self) -> float:
        """Seconds, when the device has done what it was asked."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()


# --- a language model -------------------------------------------------------------------------------------------------


def language(rows: Rows, size: Size, device: str) -> None:
    """Sampling, scoring and a step of Dr. GRPO."""
    how = Runtime(device, "auto", micro_batch=2**15, checkpointing=True)
    policy = qwen(size, how)
    weights = sum(weight.numel() for weight in policy.parameters())
    task, n = Lottery(), size.prompts * size.group
    questions = task.instances("train").first(size.prompts)
    prompts = [policy.chat.first("user", row) for row in questions.data["question"] for _ in range(size.group)]
    u = np.random.default_rng(0).random((n, size.tokens))
    rows.take(f"{n} replies of {size.tokens} tokens, own loop", lambda: drawn(policy, prompts, u), "tokens/s")
    pairs = [(prompt, [7] * 64) for prompt in prompts[: size.texts]]
    read = sum(len(prompt) + 64 for prompt in prompts[: size.texts])
    name = torch.cuda.get_device_name() if device != "cpu" else ""
    peak = next((each.bfloat16 / 1e12 for part, each in DEVICES.items() if part.upper() in name), None)
    share = 2e-12 * weights / (peak or 1.0)
    rows.take(
        f"{len(pairs)} texts rated, {read:,} tokens of which prompts are shared",
        lambda: share * read if policy.likelihoods(pairs) else 0.0,
        f"of the peak of {peak:g} TFLOP/s" if peak else "TFLOP/s",
    )
    with stepping(policy, task, "dr-grpo", size.prompts, size.group, size.tokens) as step:
        rows.take(f"a Dr. GRPO step of {n} × {size.tokens}, all weights", lambda: step.advance().episodes, "replies/s")
    try:
        fast = qwen(size, Runtime(device, "auto", sampler="vllm"))
    except ModuleNotFoundError as error:
        print(f"| {n} replies of {size.tokens} tokens, vLLM | {error} | | |", flush=True)
        return
    rows.take(f"{n} replies of {size.tokens} tokens, vLLM", lambda: drawn(fast, prompts, u), "tokens/s")


def qwen(size: Size, how: Runtime) -> CausalLM:
    """A model of random weights, made on its device."""
    config = Qwen2Config(**size.qwen, tie_word_embeddings=True, architectures=["Qwen2ForCausalLM"])
    with torch.device(how.resolved().device):
        model = Qwen2ForCausalLM(config)
    return CausalLM(model, Qwen2Tokenizer.from_pretrained(WORDS), limit=size.tokens, runtime=how)


def drawn(policy: CausalLM, prompts: list[list[int]], u: np.ndarray) -> float:
    """How many tokens follow the prompts, where nothing ends them."""
    return float(sum(map(len, policy.decoded(prompts, u, 1.0, [])[0])))


# --- a vision-language-action model -----------------------------------------------------------------------------------


def openvla(rows: Rows, size: Size, device: str, tiny: bool) -> None:
    """Motions for some pictures at once, and a step of REINFORCE by adapters."""
    how = Runtime(device, "auto", micro_batch=2**14, checkpointing=True)
    with shape(tiny) as folder, torch.device(how.resolved().device):
        policy = OpenVLA.fresh(folder, Shape.read(folder), runtime=how)
    task = Green()
    for pictures in size.pictures:
        tables = task.instances("test").first(2 * pictures + 2)
        seen = next(task.play(tables))
        assert seen.rows is not None  # who is at the block already is not asked
        some = tables.take(seen.rows[:pictures])
        turns = np.zeros(len(some), int)
        asked = Asked(Episodes(some), np.arange(len(some)), seen.take(np.arange(len(some))), some.key, turns)
        rows.take(f"OpenVLA, {pictures} pictures at once", lambda asked=asked: moved(policy, asked), "motions/s")
    with stepping(policy.low_rank(32), task, "reinforce", max(size.pictures) // 8 + 1, 8, 0) as step:
        rows.take("a REINFORCE step by adapters of rank 32", lambda: step.advance().elements, "action tokens/s")


@contextmanager
def stepping(policy: Any, task: Any, method: str, prompts: int, group: int, horizon: int) -> Iterator[Adaptation]:
    """An adaptation, whose moments are given back afterwards."""
    settings = Settings(lr=1e-6, warmup=0, batch=prompts, group=group, steps=3, horizon=horizon or 512)
    yield Adaptation(policy, task, METHODS[method], settings)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def moved(policy: OpenVLA, asked: Asked) -> float:
    """How many motions the policy makes of pictures."""
    return float(len(policy.act(asked).value))


@contextmanager
def shape(tiny: bool) -> Iterator[Path]:
    """A folder that describes OpenVLA-7B, or a small one."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model"
        shutil.copytree(TINY, made)
        told = json.loads((TINY / "config.json").read_text())
        if not tiny:
            del told["tower_sizes"]
            told |= {"timm_model_ids": [name for kinds in TOWERS for name in kinds], "image_sizes": [224, 224]}
            told["text_config"] = {"model_type": "llama", "vocab_size": 32064, "pad_token_id": 32000}
        (made / "config.json").write_text(json.dumps(told))
        yield made


# --- a simulator ------------------------------------------------------------------------------------------------------


def simulator(rows: Rows, size: Size, device: str) -> None:
    """ManiSkill3's scenes side by side."""
    try:
        import gymnasium
        import mani_skill.envs  # pyright: ignore[reportMissingImports] # noqa: F401
    except ModuleNotFoundError as error:
        print(f"| PickCube, {size.scenes} scenes on the GPU | {error} | | |", flush=True)
        return
    if device == "cpu":
        print(f"| PickCube, {size.scenes} scenes on the GPU | there is none | | |", flush=True)
        return
    world: Any = gymnasium.make("PickCube-v1", num_envs=size.scenes, obs_mode="state", sim_backend="physx_cuda")
    world.reset(seed=0)
    rows.take(f"PickCube, {size.scenes} scenes on the GPU", lambda: played(world, 50) * size.scenes, "steps/s")


def played(world: Any, steps: int) -> float:
    """Take some steps at random."""
    for _ in range(steps):
        world.step(world.action_space.sample())
    return float(steps)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["language", "openvla", "simulator"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new is begun")
    told = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not told.tiny:
        parser.error("this machine has no GPU; --tiny runs the same with small shapes")
    print(f"{torch.cuda.get_device_name() if device == 'cuda' else 'no GPU'}, torch {torch.__version__}\n")
    size, rows = TINY_SIZE if told.tiny else WHOLE, Rows(device, told.minutes)
    if "language" in told.parts:
        language(rows, size, device)
    if "openvla" in told.parts:
        openvla(rows, size, device, told.tiny)
    if "simulator" in told.parts:
        simulator(rows, size, device)


if __name__ == "__main__":
    main()
