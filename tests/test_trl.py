"""SFT and Dr. GRPO against TRL, an independent implementation: same data, same weights, same steps.

TRL trains plain transformers models, with its own padding, masks and losses, and with accelerate's clipping. Both sides
compute in float32 but sum in other orders. That leaves losses up to 2e-7 apart (they are sums of terms of size 1),
norms of gradients 2e-6 of themselves, and weights 2e-5 of the way that they went: Adam divides a gradient by its size,
and so scales up the rounding of the smallest. The tolerances are five times that; a wrong constant shows at 1e-1.
"""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Qwen2ForCausalLM
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from razorbench import Card, Episodes, Instance, Instances, Observation, Outcome, each
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS, ON_POLICY, sampled
from razorbench.harness.learn.settings import Schedule, Settings

STEPS, BATCH, GROUP, LIMIT, WARM = 5, 6, 4, 12, 10


class Count:
    """Asks about pens, in prompts of unequal length; a reply of odd length is right."""

    card = Card("Say how many.", "The reply has an odd length.", "made here", "none", 0.5)
    styles = ("right",)

    def instances(self, split: str) -> Instances:
        ids = np.arange(STEPS * BATCH)
        return Instances(ids, {"text": [f"Ada has {'many, ' * (i % 5)}{i} pens. How many?" for i in ids]})

    @each
    def play(self, instance: Instance):
        reply = yield Observation(instance.data["text"])
        return Outcome(float(len(reply) % 2))

    def solve(self, asked, style):
        return [f"{'Well, ' * (id % 3)}she has {id}!" for id in asked.instances.id.tolist()]


@pytest.fixture(scope="module")
def base() -> CausalLM:
    """Random weights that have seen the demonstrations often enough to end some replies, and to get some right."""
    policy = mini_lm(seed=0)
    policy.limit = LIMIT
    for _ in Adaptation(policy, Count(), METHODS["sft"], Settings(lr=2e-3, warmup=0, batch=BATCH, steps=WARM)):
        pass
    return policy


def plain(policy: CausalLM) -> Any:
    """The policy's weights in a model that transformers made, with the attention of transformers."""
    model = Qwen2ForCausalLM(deepcopy(policy.model.config))
    model.load_state_dict(policy.model.state_dict())
    model.set_attn_implementation("sdpa")
    return model


def options(folder: Path, settings: Settings, rows: int) -> dict[str, Any]:
    """Our settings in TRL's words, without what it does beside training."""
    return {
        "output_dir": str(folder),
        "max_steps": STEPS * settings.iterations,
        "per_device_train_batch_size": rows,
        "learning_rate": settings.lr,
        "lr_scheduler_type": settings.schedule,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def off(policy: CausalLM) -> CausalLM:
    """Another engine: the policy with weights that are a little off."""
    sampler = policy.copy()
    with torch.no_grad():
        for weight in sampler.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return sampler


def ours(policy: CausalLM, method: str, settings: Settings) -> tuple[list[Report], list[Episodes]]:
    """Train the policy: what each step reports, and the episodes that it was about. With a cap another engine draws."""
    seen: list[Episodes] = []
    other = sampled(lambda learner: off(policy), on_policy=True)
    drawn = other if settings.importance_cap else METHODS[method].source

    def source(learner, prompts, seed):
        episodes, group = drawn(learner, prompts, seed)
        seen.append(episodes)
        return episodes, group

    if drawn in ON_POLICY:
        ON_POLICY.add(source)
    return list(Adaptation(policy, Count(), replace(METHODS[method], source=source), settings)), seen


def same_steps(reports: list[Report], steps: list[dict[str, float]]) -> None:
    """The same losses, norms of the gradient before clipping, and learning rates."""
    assert [r.loss for r in reports] == pytest.approx([step["loss"] for step in steps], abs=1e-6)
    assert [r.grad_norm for r in reports] == pytest.approx([step["grad_norm"] for step in steps], rel=1e-5)
    assert [r.lr for r in reports] == pytest.approx([step["learning_rate"] for step in steps], rel=1e-12)


def apart(policy: CausalLM, model: Any) -> float:
    """The distance between two trained models, as a share of the way that the policy went from its base."""
    weights = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (policy, model, policy.base())]
    return float((weights[0] - weights[1]).norm() / (weights[0] - weights[2]).norm())


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_sft_takes_the_steps_of_trl(base, schedule: Schedule, tmp_path):
    """Both take the mean over all tokens of the step's answers, whichever answer they stand in.

    TRL gets each conversation as a text and puts the end of the turn behind it. Given as messages, it would also train
    on the newline that the template writes after the end, which no policy of ours is ever asked for. And there is no
    warm-up here: that of transformers starts with a step at rate 0, ours at 1 / warmup, so it is one step ahead.
    """
    settings = Settings(lr=1e-3, schedule=schedule, warmup=0, batch=BATCH, max_grad_norm=0.1)
    policy, model = base.copy(), plain(base)
    reports, seen = ours(policy, "sft", settings)
    episodes = [episode for step in seen for episode in step]
    asked = [base.chat.render([{"role": "user", "content": episode.observations[0].text}]) for episode in episodes]
    rows = {"prompt": asked, "completion": [episode.actions[0].value for episode in episodes]}
    config = SFTConfig(**options(tmp_path, settings, BATCH), train_sampling_strategy="sequential")
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_dict(rows), processing_class=base.chat.tokenizer)
    trainer.train()
    same_steps(reports, trainer.state.log_history[:STEPS])
    assert min(report.grad_norm for report in reports) > settings.max_grad_norm  # every step was clipped
    assert apart(policy, model) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("iterations", "cap"), [(1, 0.0), (2, 0.0), (2, 1.2)])
def test_dr_grpo_takes_the_steps_of_trl(base, iterations: int, cap: float, tmp_path):
    """TRL gets the replies that we sampled, decodes them and rewards them itself.

    Its loss is divided by rows × max_completion_length, ours by episodes × horizon: the same with an equal limit. In
    the second iteration the ratio to the policy that sampled is not 1, and is clipped. With a cap the sampler is
    another engine, weights that are a little off.
    """
    settings = Settings(
        lr=1e-3, warmup=0, batch=BATCH, group=GROUP, horizon=LIMIT, iterations=iterations, max_grad_norm=0.05,
        importance_cap=cap,
    )  # fmt: skip
    policy, model = base.copy(), plain(base)
    reports, seen = ours(policy, "dr-grpo", settings)
    done = [step.turns[0].done for step in seen if step.turns[0].done]
    replies, told = (iter([getattr(actions, name) for actions in done]) for name in ("code", "logp"))
    lengths = {length for step in seen for length in step.lengths().tolist()}
    assert len(lengths) > 5
    assert LIMIT in lengths  # some are cut off
    prompts = [step[i].observations[0].text for step in seen for i in range(0, BATCH * GROUP, GROUP)]
    rows = {"prompt": [[{"role": "user", "content": text}] for text in prompts]}

    def replayed(prompts: list, trainer: Any) -> dict[str, Any]:
        ids = trainer.processing_class.apply_chat_template(prompts, add_generation_prompt=True)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": next(replies), "logprobs": next(told) if cap else None}

    def odd(completions: list, **_: Any) -> list[float | None]:
        return [float(len(messages[0]["content"]) % 2) for messages in completions]

    config = GRPOConfig(
        **options(tmp_path, settings, BATCH * GROUP),
        loss_type="dr_grpo",
        scale_rewards="none",
        beta=0.0,
        epsilon=settings.clip,
        temperature=1.0,
        num_generations=GROUP,
        num_iterations=iterations,
        max_completion_length=settings.horizon,
        shuffle_dataset=False,
        vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_max=cap or None,
        vllm_importance_sampling_clip_min=0.0,
    )
    data, tokenizer = Dataset.from_dict(rows), base.chat.tokenizer
    with pytest.warns(UserWarning, match="'rollout_func', which is an experimental feature"):
        trainer = GRPOTrainer(model, odd, config, train_dataset=data, processing_class=tokenizer, rollout_func=replayed)
    if cap:  # TRL corrects vLLM alone; this one is asked for its weights and for nothing else
        vars(trainer).update(
            use_vllm=True, _last_loaded_step=-1, vllm_generation=SimpleNamespace(sync_weights=lambda: None)
        )
    trainer.train()
    updates = trainer.state.log_history[: STEPS * iterations]
    same_steps(reports, updates[iterations - 1 :: iterations])
    assert [report.reward for report in reports] == pytest.approx(
        [update["reward"] for update in updates[::iterations]]
    )
    clipped = [update["clip_ratio/region_mean"] > 0 for update in updates]
    assert clipped == [i % iterations == 1 for i in range(STEPS * iterations)]  # at first the ratio is 1
    assert max(report.grad_norm for report in reports) > settings.max_grad_norm
    assert apart(policy, model) < 1e-4
    if cap:
        assert min(report.measures["capped"] for report in reports) > 0
