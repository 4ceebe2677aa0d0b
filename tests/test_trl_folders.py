"""The folders that TRL's trainers leave by default are submitted as they are: real runs, of a few steps."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from razorbench.submissions import queue
from razorbench.submissions.gate import Reference
from tests.forms import CLAIM, LM, LORA

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow(seconds=20),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]

USUAL: dict[str, Any] = {
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "learning_rate": 1e-3,
    "bf16": False,
}
ROWS = [
    [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}."}] for i in range(8)
]


def by_sft(out: Path, lora: bool) -> None:
    """Two steps of SFT, each of which leaves a checkpoint."""
    config = SFTConfig(output_dir=str(out), max_steps=2, save_steps=1, per_device_train_batch_size=2, **USUAL)
    data, adapters = Dataset.from_list([{"messages": row} for row in ROWS]), LoraConfig(**LORA) if lora else None
    trainer = SFTTrainer(str(LM), args=config, train_dataset=data, peft_config=adapters)
    trainer.train()
    trainer.save_model()


def by_grpo(out: Path, lora: bool, start: Any = str(LM), beta: float = 0.0) -> None:
    """Two steps of GRPO; with a KL penalty on adapters, TRL saves its reference beside."""
    config = GRPOConfig(
        output_dir=str(out),
        max_steps=2,
        save_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        beta=beta,
        **USUAL,
    )
    data = Dataset.from_list([{"prompt": row[:1]} for row in ROWS])
    adapters = LoraConfig(**LORA) if lora and isinstance(start, str) else None

    def lengths(completions: list, **_: Any) -> list[float | None]:
        return [float(len(messages[0]["content"])) for messages in completions]

    trainer = GRPOTrainer(start, lengths, config, train_dataset=data, peft_config=adapters)
    trainer.train()
    trainer.save_model()


def admitted(folder: Path, home: Path) -> tuple[str, list[str]]:
    """The kind of weights that the gate finds, and what it passes over."""
    reference, left = Reference("mini-tools-v1", LM / "model.safetensors", LM), []

    def complete(copy: Path) -> None:
        (copy / "submission.toml").write_text(CLAIM)

    sub = queue.admit(home, folder, reference, complete, passing=left.append)
    return sub.kind, left


@pytest.mark.parametrize("train", [by_sft, by_grpo])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_output_folder_of_a_trainer_is_taken_as_it_is(train, kind, tmp_path):
    train(tmp_path / "out", kind == "lora")
    found, left = admitted(tmp_path / "out", tmp_path / "home")
    assert found == kind
    assert {"checkpoint-1", "checkpoint-2", "training_args.bin"} <= {*left}
    assert admitted(tmp_path / "out/checkpoint-1", tmp_path / "other")[0] == kind


def test_reference_that_grpo_saves_beside_adapters_is_passed_over(tmp_path):
    by_sft(tmp_path / "sft", True)
    started = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(LM), tmp_path / "sft", is_trainable=True)
    by_grpo(tmp_path / "out", True, started, beta=0.04)
    found, left = admitted(tmp_path / "out", tmp_path / "home")
    assert found == "lora"
    assert "ref" in left
