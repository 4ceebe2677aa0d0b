"""Each architecture of language models: tiny ones answer, predict, learn and are saved as plain transformers would."""

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from razorbench import Episodes, Observation, Observations, Outcome, Refused, each
from razorbench.agents.language import architecture
from razorbench.agents.language.chat import Chat
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import encoded
from razorbench.harness.learn.runtime import Runtime
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.drift import divergence
from tests.test_causal_lm import LIMIT, Chatter, alone, as_tokens, lively, predicted
from tests.test_engine import ended, two

WINDOW = 20
"""Tokens of a sliding window: fewer than the shortest prompt has."""

ROPE = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 4, "long_factor": [9.0] * 4}

SHAPE: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
SOFT: dict[str, Any] = {"head_dim": 8, "query_pre_attn_scalar": 8, "tie_word_embeddings": True}

CONFIGS: dict[str, PreTrainedConfig] = {
    "gemma": GemmaConfig(**SHAPE | {"head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": Gemma2Config(
        **SHAPE | SOFT, sliding_window=WINDOW, attn_logit_softcapping=0.5, final_logit_softcapping=3.0
    ),
    "gemma3": Gemma3TextConfig(
        **SHAPE | SOFT, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]
    ),
    "llama": LlamaConfig(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "mistral, windows": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "phi3": Phi3Config(**SHAPE),
    "phi3, windows": Phi3Config(**SHAPE, sliding_window=WINDOW),
    "phi3, longrope": Phi3Config(**SHAPE, original_max_position_embeddings=256, rope_parameters=dict(ROPE)),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen2, windows": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "smollm3": SmolLM3Config(**SHAPE, no_rope_layer_interval=2),
}
CHAT = mini_lm().chat


def made(name: str, runtime: Runtime | None = None) -> CausalLM:
    """A tiny model of random weights, in double precision, that spreads its bets unevenly."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[name]), attn_implementation="eager")
    lively(model, CHAT.stop)
    return CausalLM(model.double(), CHAT, limit=LIMIT, runtime=runtime or Runtime("cpu", "float32"))


def plain(policy: CausalLM) -> Any:
    """The same weights as plain transformers computes them."""
    config = deepcopy(policy.model.config)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    model.load_state_dict(policy.model.state_dict())
    return model


QUICK = ("llama", "gemma2", "phi3")
"""Kinds that are always tried: the plain one, caps and windows, fused maps."""


@pytest.fixture(
    scope="module",
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS],
)
def policy(request) -> CausalLM:
    return made(request.param)


@pytest.fixture(scope="module")
def reference(policy) -> Any:
    return plain(policy)


@pytest.fixture(scope="module")
def played(policy) -> Episodes:
    """Dialogues of one to four turns, two of each."""
    task = Chatter()
    return rollout(policy, task, task.instances("train").take(np.repeat([0, 1, 6, 11], 2)))


@torch.no_grad()
def test_packed_predictions_are_those_of_each_conversation_alone(policy, reference, played):
    packs = policy.chat.talks(played.turns, len(played))
    assert max(len(talk.opening) + len(talk.tail) for talk in packs) > 3 * WINDOW
    for i, logp in enumerate(predicted(policy, played)):
        theirs = alone(reference, *as_tokens(policy, played, i))[0]
        torch.testing.assert_close(logp, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_greedy_answers_are_those_of_generate(policy, reference):
    task = Chatter()
    said = rollout(policy, task, task.instances("train").take(np.arange(0, 12, 2)), temperature=0.0)
    for i, episode in enumerate(said):
        ids, _ = as_tokens(policy, said, i)
        last = episode.actions[-1].code
        prompt = torch.tensor([ids[: len(ids) - len(last)]])
        how = {"do_sample": False, "max_new_tokens": LIMIT, "eos_token_id": policy.chat.stop, "pad_token_id": 0}
        theirs = reference.generate(prompt, attention_mask=torch.ones_like(prompt), **how)
        assert theirs[0, prompt.shape[1] :].tolist() == last


@torch.no_grad()
def test_likelihoods_that_share_a_header_are_those_of_each_pair_alone(policy, reference, monkeypatch):
    monkeypatch.setattr("razorbench.agents.language.likelihood.WORTH", 8)  # tokens after a header
    draws = torch.Generator().manual_seed(0)
    header, rest = (torch.randint(5, 1000, (n,), generator=draws).tolist() for n in (64, 90))
    pairs = [(header + rest[:n], rest[n : n + 1 + n % 3]) for n in (1, 30, 31, 50)]
    pairs += [(header + rest[:30], rest[60:64]), (rest[:7], rest[7:9])]
    for (context, continuation), (nats, _) in zip(pairs, policy.likelihoods(pairs), strict=True):
        ids = [*context, *continuation]
        theirs = alone(reference, ids, list(range(len(context), len(ids))))[0]
        assert nats == pytest.approx(float(theirs.sum()), abs=1e-5)


def test_adapters_are_on_every_projection_and_peft_reads_them(policy, played, tmp_path):
    adapted = policy.low_rank(2)
    maps = {name.split(".lora")[0] for name, _ in adapted.named_parameters()}
    inner = {name for name, part in policy.model.model.layers.named_modules() if isinstance(part, torch.nn.Linear)}
    assert maps == {f"model.layers.{name}" for name in inner}
    with torch.no_grad():
        for weight in adapted.parameters():
            weight += 0.1
    adapted.save(tmp_path / "adapter_model.safetensors")
    twin = policy.copy()
    twin.load(tmp_path / "adapter_model.safetensors")
    model = PeftModel.from_pretrained(plain(policy), str(tmp_path)).double()
    with torch.no_grad():
        theirs = alone(model, *as_tokens(policy, played, 0))[0]
        for ours in (adapted, twin):
            torch.testing.assert_close(predicted(ours, played)[0], theirs, rtol=0, atol=1e-5)
        assert float((theirs - predicted(policy, played)[0]).abs().max()) > 1e-3


def test_saved_weights_are_what_transformers_reads(policy, played, tmp_path):
    policy.model.config.save_pretrained(tmp_path)
    policy.save(tmp_path / "model.safetensors")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    theirs, told = loaded
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        expected = alone(theirs.eval(), *as_tokens(policy, played, 1))[0]
        torch.testing.assert_close(predicted(policy, played)[1], expected, rtol=0, atol=1e-5)


def test_activations_that_are_computed_again_change_no_gradient(policy, played):
    again = policy.copy()
    again.runtime = replace(policy.runtime, checkpointing=True)
    again.model.gradient_checkpointing_enable({"use_reentrant": False})
    other = policy.copy()
    for twin in (again, other):
        torch.stack([part.logp.sum() for part in twin.predict(played)]).sum().backward()
    for ours, theirs in zip(again.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_step_is_taken_and_drift_is_finite(policy, played):
    adapted = policy.copy()
    (report,) = Adaptation(adapted, Chatter(), METHODS["sft"], Settings(lr=1e-3, warmup=0, batch=4, steps=1))
    assert report.grad_norm > 0
    nats = divergence(policy, adapted, played).nats
    assert 0 < float(nats.min()) <= float(nats.max()) < 100
    assert float(divergence(policy, policy.copy(), played).nats.abs().max()) == 0.0


# --- what they differ in ----------------------------------------------------------------------------------------------


def test_windows_and_caps_matter_in_these_models():
    ids = CHAT.opening("user", "Ada has many, many, many pens, and Ben has none. " * 2)
    for name, without in (
        ("gemma2", {"sliding_window": 500}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("gemma3", {"sliding_window": 500}),
        ("mistral, windows", {"sliding_window": None}),
        ("phi3, windows", {"sliding_window": None}),
        ("qwen2, windows", {"sliding_window": 500}),
    ):
        policy = made(name)
        before = policy.likelihoods([(ids, ids[:3])])[0][0]
        for key, value in without.items():
            setattr(policy.model.config, key, value)
            for layer in policy.model.model.layers:
                setattr(layer.self_attn, key, value)
        assert abs(policy.likelihoods([(ids, ids[:3])])[0][0] - before) > 1e-3, (name, without)


def test_a_model_of_longrope_reads_as_far_as_every_token_turns_alike():
    policy = made("phi3, longrope")
    assert policy.reach == 256
    assert made("phi3").reach == 512
    replies, _ = policy.decoded([[5] * 250, [5] * 256], np.zeros((2, 12)), 0.0, [3])
    assert [len(reply) for reply in replies] == [6, 0]


def test_an_episode_that_is_longer_than_the_model_reads_is_refused():
    policy, task = made("phi3, longrope"), Chatter()
    shown = encoded(policy, demonstrations(task, task.instances("train").take(np.arange(2))))
    turn = replace(shown.turns[0], seen=Observations(["many " * 300] * 2))
    with pytest.raises(Refused, match="the model reads 256; leave such items out"):
        list(policy.predict(replace(shown, turns=[turn, *shown.turns[1:]])))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=1024),
            "this gpt2 model is not supported; bring one of gemma",
        ),
        (Gemma3TextConfig(**SHAPE | SOFT, use_bidirectional_attention=True), "looks at what comes after a token"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(config, words):
    with pytest.raises(Refused, match=words):
        CausalLM(AutoModelForCausalLM.from_config(config), CHAT)
    config = Qwen2Config(layer_types=["chunked_attention"], num_hidden_layers=1)
    with pytest.raises(Refused, match="has layers of chunked_attention"):
        architecture.check(config)


# --- templates that have no place for a system ------------------------------------------------------------------------

GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
"""As Gemma's, with the special tokens of mini-lm-v1."""
DEAF = GEMMA.partition("{% endif %}")[2].replace("(loop.index0 % 2 == 0)", "(m['role'] == 'user')")
DEAF = DEAF.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
"""As Phi-3's first: what a system says is left out."""


@pytest.mark.parametrize("template", [GEMMA, DEAF], ids=["refuses", "leaves out"])
def test_where_a_system_has_no_place_the_prompt_stands_before_the_first_question(template):
    tokenizer = mini_lm().chat.tokenizer
    tokenizer.chat_template = template
    chat = Chat(tokenizer, prompt="Answer briefly.")
    opening = chat.tokenizer.decode(chat.opening("user", "7?"))
    assert opening == "<|im_start|>user\nAnswer briefly.\n\n7?<|im_end|>\n<|im_start|>model\n"
    assert "briefly" not in chat.tokenizer.decode(chat.between("user", "8?"))


def test_a_role_that_the_template_does_not_take_is_refused():
    tokenizer = mini_lm().chat.tokenizer
    tokenizer.chat_template = GEMMA
    policy = CausalLM(made("gemma").model, tokenizer)

    class Tool(Chatter):
        @each
        def play(self, instance):
            yield Observation("7?", role="tool")
            return Outcome(0.0)

    with pytest.raises(Refused, match=r"does not take tool \(Roles must alternate\); give it a task of other roles"):
        rollout(policy, Tool(), Tool().instances("train"))


def test_an_answer_may_end_with_a_special_token_that_has_no_name():
    tokenizer = mini_lm().chat.tokenizer
    text = tokenizer.chat_template.replace("<|im_end|>", "<|end|>")
    tokenizer.add_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.chat_template = text
    assert tokenizer.convert_tokens_to_ids("<|end|>") not in tokenizer.all_special_ids
    assert Chat(tokenizer).stop == tokenizer.convert_tokens_to_ids("<|end|>")


@pytest.mark.long
@pytest.mark.slow(seconds=30)
def test_two_processes_that_share_the_weights_compute_what_one_does(tmp_path):
    ended(two("tests.sharded_architectures", tmp_path / "apart.json"))
    apart = json.loads((tmp_path / "apart.json").read_text())
    assert apart.keys() == CONFIGS.keys()
    assert max(apart.values()) < 1e-9
