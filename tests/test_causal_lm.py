"""The language-model policy: what it samples, what it predicts, and the same from plain transformers."""

import json
import pickle
import subprocess
import sys
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config

import razorbench.agents.language.decoding
import razorbench.agents.language.policy
import razorbench.harness.learn.vocabulary
from razorbench import (
    Actions,
    Card,
    Episodes,
    Instance,
    Instances,
    Observation,
    Observations,
    Outcome,
    Refused,
    Reply,
    Turn,
    each,
    mix,
    uniform,
)
from razorbench.agents.language.mini_lm import FOLDER, TEMPLATE, mini_lm, train_tokenizer
from razorbench.agents.language.packing import packed
from razorbench.agents.language.policy import CausalLM
from razorbench.agents.language.vllm_sampler import inverted
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn import checkpoint
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import Policy, draw, encoded, log_probabilities
from razorbench.harness.learn.settings import Settings
from razorbench.harness.learn.vocabulary import Vocabulary, likeliest
from razorbench.harness.measure.drift import divergence, elements, floor
from razorbench.harness.tracks.bases import policy_digest, weights_sha256

LIMIT = 12


class Chatter:
    """Asks for a number, then up to three times whether that is all; an odd last reply is right."""

    card = Card("Say it.", "The last reply has an odd length.", "made here", "none", 0.5)
    styles = ("right",)

    def instances(self, split: str) -> Instances:
        ids = np.arange(12) + 100 * (split == "test")
        return Instances(ids, {"text": [f"Ada has {'many, ' * (i % 5)}{i} pens." for i in ids], "turns": ids % 4})

    @each
    def play(self, instance: Instance):
        reply = yield Observation(instance.data["text"])
        for turn in range(instance.data["turns"]):
            reply = yield Observation(f"{turn}: {len(reply)}, is that all?", role="tool" if turn else "user")
        return Outcome(float(len(reply) % 2))

    def solve(self, asked, style):
        return ["yes"] * len(asked)


def lively(model: Any, stop: int) -> None:
    """Make random weights spread their bets unevenly, look at the context, and stop now and then."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight *= 3
        model.lm_head.weight *= 5 / 3
        model.lm_head.weight[stop] *= 6


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    policy = mini_lm(seed=1)
    policy.limit = LIMIT
    lively(policy.model, policy.chat.stop)
    return policy


@pytest.fixture(scope="module")
def episodes(lm) -> Episodes:
    """Every instance four times, its repeats side by side; dialogues of one to four turns."""
    return play(lm, np.repeat(np.arange(12), 4))


@pytest.fixture(scope="module")
def other(lm) -> CausalLM:
    """A policy near `lm`."""
    policy = lm.copy()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=noise) if weight.ndim == 2 else 0
    return policy


@pytest.fixture(scope="module")
def exact(lm) -> CausalLM:
    """`lm` in double precision, so that what should be equal is."""
    policy = lm.copy()
    policy.model.double()
    return policy


def play(policy: CausalLM, index: np.ndarray, **how) -> Episodes:
    task = Chatter()
    return rollout(policy, task, task.instances("train").take(index), **how)


def codes(played: Episodes) -> list[list[list[int]]]:
    """What each episode said, turn by turn."""
    return [[action.code for action in episode.actions] for episode in played]


def as_tokens(policy: CausalLM, played: Episodes, i: int) -> tuple[list[int], list[int]]:
    """An episode's token ids and the indices of those that were sampled, by ChatML written out."""
    ids, chosen, finished = [], [], None
    for seen, done in zip(played[i].observations, played[i].actions, strict=True):
        before = "" if finished is None else "\n" if finished else "<|im_end|>\n"
        text = f"{before}<|im_start|>{seen.role}\n{seen.text}<|im_end|>\n<|im_start|>assistant\n"
        ids += policy.chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        chosen += range(len(ids), len(ids) + len(done.code))
        ids += done.code
        finished = done.value.finished
    return ids, chosen


def plain(policy: CausalLM) -> Any:
    """The same model with transformers' own attention."""
    model = deepcopy(policy.model)
    model.set_attn_implementation("sdpa")
    return model


def alone(model: Any, ids: list[int], chosen: list[int]) -> tuple[Tensor, Tensor]:
    """Log-probabilities [T] of the sampled tokens, and of every token there [T, V], from one plain forward pass."""
    every = model(torch.tensor([ids])).logits[0].log_softmax(-1)[torch.tensor(chosen) - 1]
    return every.gather(-1, torch.tensor(ids)[chosen][:, None])[:, 0], every


def predicted(policy: CausalLM, played: Episodes) -> list[Tensor]:
    """Log-probabilities of each episode's tokens, in order."""
    parts = list(policy.predict(played))
    owner, logp = torch.cat([part.owner for part in parts]), torch.cat([part.logp[:, 0] for part in parts])
    return [logp[owner == i] for i in range(len(played))]


# --- sampling and predicting ------------------------------------------------------------------------------------------


def test_it_is_a_policy(lm):
    assert isinstance(lm, Policy)


def test_episodes_are_of_many_lengths(episodes):
    turns = [len(episode.actions) for episode in episodes]
    ends = [action.value.finished for episode in episodes for action in episode.actions]
    lengths = [len(action.code) for episode in episodes for action in episode.actions]
    assert set(turns) == {1, 2, 3, 4}
    assert set(ends) == {True, False}
    assert len(set(lengths)) > 6


def test_packed_predictions_are_those_of_each_conversation_alone(exact, episodes):
    packs = packed(exact.chat.talks(episodes.turns, 48), exact.runtime.micro_batch)
    assert max(len(pack.talks) for pack in packs) == 4
    model = plain(exact)
    with torch.no_grad():
        for i, logp in enumerate(predicted(exact, episodes)):
            torch.testing.assert_close(logp, alone(model, *as_tokens(exact, episodes, i))[0], rtol=0, atol=1e-6)


def test_packed_gradient_is_that_of_each_conversation_alone(exact, episodes):
    some = episodes.take(np.arange(16))
    packed, apart = exact.copy(), plain(exact)
    weight = torch.linspace(-1, 1, len(some), dtype=torch.float64)
    for part in packed.predict(some):
        (part.logp[:, 0] @ weight[part.owner]).backward()
    for i in range(len(some)):
        (alone(apart, *as_tokens(exact, some, i))[0].sum() * weight[i]).backward()
    for ours, theirs in zip(packed.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_sampler_and_trainer_have_the_same_probabilities(exact, monkeypatch):
    recorded: list[Tensor] = []

    def spy(dist, u, temperature):
        code = draw(dist, u, temperature)
        recorded.append(dist.log_prob(code)[:, 0].clone())
        return code

    monkeypatch.setattr(razorbench.agents.language.decoding, "draw", spy)
    played = play(exact, np.repeat([0, 4, 8], 8))  # one turn each
    with torch.no_grad():
        for logp in predicted(exact, played):
            for step, value in zip(recorded, logp, strict=False):
                assert float((step - value).abs().min()) < 1e-5


def test_each_token_is_drawn_by_its_own_random_number(lm, episodes):
    model = plain(lm)
    for i in (0, 5, 21, 47):
        ids, chosen = as_tokens(lm, episodes, i)
        with torch.no_grad():
            every = alone(model, ids, chosen)[1]
        key = mix(0, episodes.instances.key, np.arange(48) % 4)[[i]]  # seed, instance, repeat
        u = [uniform(mix(key, turn), LIMIT)[0, : len(action.code)] for turn, action in enumerate(episodes[i].actions)]
        drawn = draw(Categorical(logits=every[None]), np.concatenate(u)[None])
        assert drawn[0].tolist() == torch.tensor(ids)[chosen].tolist()


def test_greedy_replies_are_those_of_generate(lm):
    played, model = play(lm, np.arange(12), temperature=0.0), plain(lm)
    for i, episode in enumerate(played):
        ids, _ = as_tokens(lm, played, i)
        prompt = torch.tensor([ids[: len(ids) - len(episode.actions[-1].code)]])
        said = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=LIMIT,
            eos_token_id=lm.chat.stop,
            pad_token_id=0,
        )
        assert said[0, prompt.shape[1] :].tolist() == episode.actions[-1].code


@pytest.mark.slow
def test_companions_and_order_change_nothing(exact, monkeypatch):
    every = codes(play(exact, np.repeat(np.arange(12), 4)))
    assert codes(play(exact, np.arange(12))) == every[::4]
    backwards = codes(play(exact, np.repeat(np.arange(12)[::-1], 4)))
    assert [backwards[i] for i in (0, 20, 47)] == [every[i] for i in (44, 24, 3)]
    monkeypatch.setattr(razorbench.agents.language.decoding, "SLOTS", 300)  # a few rows at a time
    assert codes(play(exact, np.repeat(np.arange(12), 4))) == every


@pytest.mark.slow
def test_size_of_micro_batches_changes_nothing(exact, episodes):
    small = exact.copy()
    small.runtime = replace(exact.runtime, micro_batch=64)
    assert len(list(small.predict(episodes))) > len(list(exact.predict(episodes)))
    logp = log_probabilities(small, episodes)
    torch.testing.assert_close(logp, log_probabilities(exact, episodes), rtol=0, atol=1e-5)


def test_dialogue_goes_on_from_the_sampled_ids(lm):
    spelt = [*lm.chat.tokens("is"), lm.chat.stop]
    letters = [*lm.chat.tokens("i"), *lm.chat.tokens("s"), lm.chat.stop]
    assert spelt != letters
    turns = play(lm, np.array([1])).turns
    for code in (spelt, letters):
        said = [
            Turn(turns[0].rows, turns[0].seen, Actions([Reply("is")], [code])),
            turns[1],
        ]
        (talk,) = lm.chat.talks(said, 1)
        assert talk.tail[: len(code)] == code


def test_each_sampled_token_is_predicted_once(lm, episodes):
    owner = torch.cat([part.owner for part in lm.predict(episodes)])
    assert torch.bincount(owner).tolist() == episodes.lengths().tolist()


def test_reply_tells_whether_it_ended(lm, episodes):
    for episode in episodes:
        for action in episode.actions:
            assert action.value.finished == (action.code[-1] == lm.chat.stop)
            assert len(action.code) == LIMIT or action.value.finished
            assert "<|" not in action.value


def test_a_reply_ends_where_the_conversation_is_as_long_as_the_model_reads(lm, episodes, monkeypatch):
    """Each is what it would have been, cut; where nothing is left of it the agent has failed, and says why."""
    opened = [len(lm.chat.first("user", played.observations[0].text)) for played in episodes]
    most = max(opened)
    monkeypatch.setattr(lm.model.config, "max_position_embeddings", most)
    cut, failed, ended = play(lm, np.repeat(np.arange(12), 4)), 0, 0
    for whole, short, opening in zip(episodes, cut, opened, strict=True):
        first, reply = whole.actions[0].code, short.actions[0]
        assert short.outcome
        assert reply.code == first[: most - opening]
        assert reply.value.finished == (reply.code == first and whole.actions[0].value.finished)
        if opening == most:
            assert (reply.value, short.outcome.reward) == ("", 0.0)
            told = f"the prompt has {most} tokens, and prompt and reply together may have {most}"
            assert short.outcome.error == told
        failed += short.outcome.error is not None
        ended += reply.value.finished
    assert failed > opened.count(most) > 0  # of dialogues that go on, too
    assert 0 < ended < len(opened)
    assert divergence(lm, lm, cut).nats.abs().max() == 0
    assert torch.equal(divergence(lm, lm, cut).elements, torch.from_numpy(cut.lengths()))


def test_methods_learn_nothing_from_what_could_not_be_answered(lm, monkeypatch):
    monkeypatch.setattr(lm.model.config, "max_position_embeddings", 8)
    policy = lm.copy()
    (report,) = Adaptation(policy, Chatter(), METHODS["grpo"], Settings(lr=1e-2, warmup=0, batch=4, group=4, steps=1))
    assert (report.reward, report.elements, report.grad_norm) == (0, 0, 0)
    nothing = play(lm, np.arange(3))
    assert floor(lm, nothing) is None
    assert [len(code) for code, _ in elements(lm, lm, nothing)] == [0, 0, 0]


def test_encoding_gives_the_text_and_its_end(lm):
    whole, cut = lm.encode([Reply("7 + 4 = 11."), Reply("7 + 4", finished=False)])
    assert whole[-1] == lm.chat.stop
    assert lm.chat.stop not in cut
    assert lm.chat.tokenizer.decode(whole[:-1]) == "7 + 4 = 11."
    assert lm.chat.tokenizer.decode(cut) == "7 + 4"
    assert lm.encode(["7 + 4 = 11."]) == [whole]


def test_reply_ends_with_any_token_that_the_models_config_names():
    policy = mini_lm(seed=1, limit=LIMIT)
    other = policy.chat.tokens("a")[0]
    policy.model.generation_config.eos_token_id = [policy.chat.stop, other]
    twice = CausalLM(policy.model, policy.chat.tokenizer, limit=LIMIT)
    assert twice.chat.stops == sorted([policy.chat.stop, other])
    lively(twice.model, other)
    said = [action for episode in play(twice, np.arange(12)) for action in episode.actions]
    ended = [action for action in said if action.code[-1] == other]
    assert ended
    for action in said:
        assert action.value.finished == (action.code[-1] in twice.chat.stops)
        assert not set(action.code[:-1]) & set(twice.chat.stops)
    for action in ended:  # the token that ends a reply is none of its words
        assert str(action.value) == twice.chat.tokenizer.decode(action.code[:-1], skip_special_tokens=True)
    (talk,) = twice.chat.talks(
        [
            Turn(np.arange(1), Observations(["?"]), Actions([Reply("x")], [[5, other]])),
            Turn(np.arange(1), Observations(["!"])),
        ],
        1,
    )
    assert talk.tail[:2] == [5, other]
    assert twice.chat.stop not in talk.tail[:3]  # the reply has ended once


def test_system_prompt_stands_before_every_question():
    plain, told = mini_lm(seed=1), mini_lm(seed=1, prompt="Answer briefly.")
    opening = told.chat.tokenizer.decode(told.chat.opening("user", "7?"))
    assert opening.startswith("<|im_start|>system\nAnswer briefly.<|im_end|>")
    assert opening.endswith(plain.chat.tokenizer.decode(plain.chat.opening("user", "7?")))
    assert told.copy().chat.prompt == "Answer briefly."


def test_reply_is_a_string_that_can_be_sent_and_copied():
    reply = Reply("so", finished=False)
    twins: list[Reply] = [pickle.loads(pickle.dumps(reply)), copy(reply), deepcopy(reply)]
    for twin in twins:
        assert twin == "so"
        assert twin.finished is False
    assert Reply("so").finished is True


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_architecture_predicts_as_in_transformers(lm, config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config(
            vocab_size=1024,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=48,
            tie_word_embeddings=False,
        )
    )
    lively(model, lm.chat.stop)
    policy = CausalLM(model, lm.chat.tokenizer, limit=LIMIT)
    played, reference = play(policy, np.repeat(np.arange(4), 2)), plain(policy)
    with torch.no_grad():
        for i, logp in enumerate(predicted(policy, played)):
            torch.testing.assert_close(logp, alone(reference, *as_tokens(lm, played, i))[0], rtol=0, atol=1e-5)


# --- drift and methods ------------------------------------------------------------------------------------------------


def test_divergence_from_itself_is_zero(lm, episodes):
    drift = divergence(lm, lm.copy(), episodes)
    assert float(drift.nats.abs().max()) == 0.0
    assert float(drift.log_ratio.abs().max()) == 0.0


@pytest.mark.slow
def test_exact_divergence_is_the_mean_of_the_sampled_log_ratio(lm, other):
    drift = divergence(lm, other, play(lm, np.repeat(np.arange(12), 16)))
    away = drift.log_ratio - drift.nats
    assert float(drift.nats.mean()) > 0.05
    assert abs(float(away.mean())) < 4 * float(away.std()) / len(away) ** 0.5
    assert float(drift.nats.std()) < float(drift.log_ratio.std())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "eaft", "simpo", "grpo", "dr-grpo"])
def test_method_takes_a_step(lm, method):
    policy = lm.copy()
    settings = Settings(lr=1e-3, warmup=0, batch=4, group=4, steps=1, kl=0.1, iterations=2)
    (report,) = Adaptation(policy, Chatter(), METHODS[method], settings)
    assert report.grad_norm > 0
    assert float(divergence(lm, policy, play(lm, np.arange(3))).nats.min()) > 0


def test_demonstrations_are_learnt(lm):
    policy = mini_lm()
    shown = encoded(policy, demonstrations(Chatter(), Chatter().instances("train")))
    before = log_probabilities(policy, shown).mean()
    for _ in Adaptation(policy, Chatter(), METHODS["sft"], Settings(lr=3e-3, warmup=0, batch=12, steps=10)):
        pass
    assert log_probabilities(policy, shown).mean() > before / 4


def test_matrices_are_those_of_the_layers(lm):
    assert [tuple(p.shape) for p in lm.matrices()][:4] == [(128, 128), (64, 128), (64, 128), (128, 128)]
    assert len(list(lm.matrices())) == 4 * 7


# --- copies and files -------------------------------------------------------------------------------------------------


def test_copy_trains_apart_and_knows_its_base(lm):
    twin = lm.copy()
    assert twin.copy().base() is lm
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert not torch.equal(next(twin.parameters()), next(lm.parameters()))


def test_saved_weights_come_back(lm, other, episodes, tmp_path):
    other.save(tmp_path / "model.safetensors")
    twin = lm.copy()
    twin.load(tmp_path / "model.safetensors")
    assert float(divergence(other, twin, episodes).nats.abs().max()) == 0.0
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")  # tied: written once


def test_weights_that_transformers_saves_in_several_files_are_one_checkpoint(lm, tmp_path):
    lm.model.save_pretrained(tmp_path, max_shard_size="1MB")
    weights = checkpoint.read(tmp_path).weights
    parts = checkpoint.files(weights)
    assert len(parts) > 1
    blank = mini_lm(7)
    blank.load(weights)
    assert policy_digest(blank) == policy_digest(lm)
    first = weights_sha256(weights)
    save_file({name: x + 1 for name, x in load_file(parts[0]).items()}, parts[0])
    assert weights_sha256(weights) != first
    blank.load(weights)
    assert policy_digest(blank) != policy_digest(lm)
    parts[0].unlink()
    with pytest.raises(Refused, match="names files that are not beside it; bring all of model-00001-of-"):
        blank.load(weights)
    weights.write_text('{"weight_map": {"model.norm.weight": "../model.safetensors"}}')
    with pytest.raises(Refused, match="names files that are not beside it"):
        blank.load(weights)
    weights.write_text("[]")
    with pytest.raises(Refused, match="is no index of safetensors files"):
        blank.load(weights)


def test_saved_weights_serve_in_a_hugging_face_folder(other, episodes, tmp_path):
    other.save(tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    read = CausalLM.read(tmp_path, runtime=other.runtime)
    assert float(divergence(other, read, episodes).nats.abs().max()) == 0.0


def test_folder_of_save_pretrained_is_read(lm, tmp_path):
    lm.model.save_pretrained(tmp_path)
    lm.chat.tokenizer.save_pretrained(tmp_path)
    read = CausalLM.read(tmp_path, limit=LIMIT)
    assert codes(play(read, np.arange(4))) == codes(play(lm, np.arange(4)))


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(Refused, match="cannot be read as a causal language model"):
        CausalLM.read(tmp_path)


def test_folder_with_adapters_is_refused(lm, adapted, tmp_path):
    lm.model.save_pretrained(tmp_path)
    lm.chat.tokenizer.save_pretrained(tmp_path)
    adapted.save(tmp_path / "adapter_model.safetensors")
    with pytest.raises(Refused, match=r"holds adapters, adapter_config\.json; merge them into the weights, or remove"):
        CausalLM.read(tmp_path)


def test_folder_of_which_a_part_is_missing_is_refused_and_nothing_made_up(lm, tmp_path):
    lm.model.save_pretrained(tmp_path)
    lm.chat.tokenizer.save_pretrained(tmp_path)
    for tokenizer in tmp_path.glob("tokenizer*"):
        tokenizer.rename(tmp_path / f"not-{tokenizer.name}")
    with pytest.raises(Refused, match="ends no answer with a special token"):  # transformers makes an empty one up
        CausalLM.read(tmp_path)
    for tokenizer in tmp_path.glob("not-*"):
        tokenizer.rename(tmp_path / tokenizer.name.removeprefix("not-"))
    weights = tmp_path / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    weights.write_bytes(whole[:-100])
    with pytest.raises(Refused, match="cannot be read as a causal language model"):
        CausalLM.read(tmp_path)
    del tensors["model.norm.weight"]
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(Refused, match=r"lacks weights of its model, such as model\.norm\.weight; bring all files"):
        CausalLM.read(tmp_path)
    weights.write_bytes(whole)
    assert CausalLM.read(tmp_path).chat.stop == lm.chat.stop


def test_load_refuses_what_does_not_fit(lm, tmp_path):
    path = tmp_path / "model.safetensors"
    lm.save(path)
    weights = load_file(path)
    for change, words in (
        ({"model.norm.weight": torch.ones(3)}, r"model.norm.weight is \[3\], expected \[128\]"),
        ({"extra": torch.ones(3)}, "extra is .*, expected missing"),
        ({"model.norm.weight": torch.full((128,), torch.nan)}, "not finite"),
    ):
        save_file(weights | change, path)
        with pytest.raises(Refused, match=words):
            lm.copy().load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Refused, match="not a readable safetensors file"):
        lm.copy().load(path)


def test_what_cannot_be_asked_is_refused(lm):
    with pytest.raises(Refused, match="without text"):
        rollout(lm, Wordy(None), Chatter().instances("train"))
    silent = deepcopy(lm.chat.tokenizer)
    silent.chat_template = None
    with pytest.raises(Refused, match="no chat template"):
        CausalLM(lm.model, silent)


class Wordy(Chatter):
    """Says one thing to everybody."""

    def __init__(self, text: str | None):
        self.text = text

    @each
    def play(self, instance: Instance):
        yield Observation(self.text, state=0)
        return Outcome(0.0)


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(lm) -> CausalLM:
    """Adapters that have been trained for a step."""
    policy = lm.low_rank(4)
    settings = Settings(lr=1e-2, warmup=0, batch=4, group=4, steps=2)
    list(Adaptation(policy, Chatter(), METHODS["reinforce"], settings))
    return policy


def test_fresh_adapters_change_nothing(lm, episodes):
    assert float(divergence(lm, lm.low_rank(4), episodes).nats.abs().max()) == 0.0


def test_muon_trains_adapters_which_are_matrices_all(lm):
    policy = lm.low_rank(2)
    before = [p.detach().clone() for p in policy.parameters()]
    settings = Settings(lr=1e-3, warmup=0, batch=4, steps=2, optimizer="muon")
    list(Adaptation(policy, Chatter(), METHODS["sft"], settings))
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_adapters_alone_are_trained(lm, adapted, episodes):
    again = mini_lm(seed=1)
    lively(again.model, again.chat.stop)
    assert all(torch.equal(a, b) for a, b in zip(lm.parameters(), again.parameters(), strict=True))
    assert all(p.requires_grad for p in lm.parameters())
    assert {p.shape[0] for p in adapted.parameters()} | {p.shape[1] for p in adapted.parameters()} > {4}
    assert len(list(adapted.parameters())) == 2 * 7 * 4
    assert float(divergence(lm, adapted, episodes).nats.mean()) > 0


def test_adapters_share_the_frozen_weights(lm, adapted):
    for policy in (adapted, adapted.copy()):
        assert policy.head.data_ptr() == lm.head.data_ptr()
        assert policy.base() is lm
    twin = adapted.copy()
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(twin.parameters(), adapted.parameters(), strict=True))


def test_adapters_come_back_into_a_copy_of_the_base(lm, adapted, episodes, tmp_path):
    adapted.save(tmp_path / "model.safetensors")
    for twin in (lm.copy(), lm.low_rank(4)):
        twin.load(tmp_path / "model.safetensors")
        assert float(divergence(adapted, twin, episodes).nats.abs().max()) == 0.0
        assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), adapted.parameters(), strict=True))


def test_merged_adapters_are_weights_of_the_same_policy(lm, adapted, episodes, tmp_path):
    merged = adapted.merged()
    assert merged.lora is None
    assert merged.base() is lm
    assert 0 <= float(divergence(adapted, merged, episodes).nats.max()) < 1e-6
    assert float(divergence(lm, merged, episodes).nats.mean()) > 1e-3
    merged.save(tmp_path / "model.safetensors")
    plain_copy = lm.copy()
    plain_copy.load(tmp_path / "model.safetensors")
    assert float(divergence(merged, plain_copy, episodes).nats.abs().max()) == 0.0
    assert all(p.requires_grad for p in merged.parameters())
    assert adapted.lora is not None


def test_peft_reads_the_adapters(lm, adapted, episodes, tmp_path):
    adapted.save(tmp_path / "adapter_model.safetensors")
    model = PeftModel.from_pretrained(plain(lm), str(tmp_path))
    with torch.no_grad():
        theirs = alone(model, *as_tokens(lm, episodes, 0))[0]
        torch.testing.assert_close(predicted(adapted, episodes)[0], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
def test_adapters_of_plain_peft_on_some_maps_are_read(lm, episodes, tmp_path, rslora):
    torch.manual_seed(3)
    wanted = LoraConfig(
        r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], use_rslora=rslora, init_lora_weights=False
    )
    theirs = get_peft_model(plain(lm), wanted).eval()
    theirs.save_pretrained(str(tmp_path))
    ours = lm.copy()
    ours.load(tmp_path / "adapter_model.safetensors")
    assert len(list(ours.parameters())) == 2 * 2 * 4
    with torch.no_grad():
        expected = alone(theirs, *as_tokens(lm, episodes, 0))[0]
        torch.testing.assert_close(predicted(ours, episodes)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha_pattern", {"q_proj": 64}), ("use_dora", True), ("fan_in_fan_out", True), ("init_lora_weights", "pissa")],
)
def test_adapters_that_are_computed_otherwise_are_refused_with_the_cure(lm, adapted, tmp_path, name, value):
    adapted.save(tmp_path / "adapters.safetensors")
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), name: value}))
    sentence = "changes the base" if value == "pissa" else r"plain LoRA is scored: merge them, merge_and_unload\(\)"
    with pytest.raises(Refused, match=rf"has '?{name}'? = .*{sentence}"):
        lm.copy().load(tmp_path / "adapters.safetensors")


def test_adapters_of_another_kind_are_refused(lm, adapted, tmp_path):
    adapted.save(tmp_path / "adapters.safetensors")
    lm.save(tmp_path / "weights.safetensors")
    with pytest.raises(Refused, match="adapters of rank 4"):
        lm.low_rank(2).load(tmp_path / "adapters.safetensors")
    with pytest.raises(Refused, match="no adapters"):
        lm.low_rank(2).load(tmp_path / "weights.safetensors")
    with pytest.raises(Refused, match="already"):
        adapted.low_rank(2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        ("{}", "peft_type None"),
        ("[]", "no object"),
        ('{"peft_type": "IA3", "r": 4, "lora_alpha": 8}', "IA3"),
    ],
)
def test_adapters_without_a_description_are_refused(lm, adapted, tmp_path, text, why):
    adapted.save(tmp_path / "adapters.safetensors")
    config = tmp_path / "adapter_config.json"
    config.unlink()
    if text:
        config.write_text(text)
    with pytest.raises(Refused, match=why):
        lm.copy().load(tmp_path / "adapters.safetensors")


def test_refused_adapters_leave_the_policy_as_it_was(lm, adapted, episodes, tmp_path):
    adapted.save(tmp_path / "adapters.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 5, "lora_alpha": 8}')
    policy = lm.copy()
    with pytest.raises(Refused, match=r"lora_A.*r = 5 needs \[5, 352\]"):
        policy.load(tmp_path / "adapters.safetensors")
    assert policy.lora is None
    assert float(divergence(lm, policy, episodes).nats.abs().max()) == 0.0


# --- the vocabulary ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=[2**25, 64], ids=["whole", "chunks"])
def pair(request, monkeypatch) -> tuple[Vocabulary, Vocabulary, Categorical, Categorical, Tensor]:
    """Two vocabularies, the same as Categoricals, and tokens [5, 3]."""
    monkeypatch.setattr(razorbench.harness.learn.vocabulary, "WHOLE", request.param)
    source = torch.Generator().manual_seed(0)
    hidden, heads = torch.randn(5, 3, 8, generator=source), torch.randn(2, 20, 8, generator=source)
    hidden.requires_grad_()
    heads.requires_grad_()
    code = torch.randint(20, (5, 3), generator=source)
    p, q = Vocabulary(hidden, heads[0]), Vocabulary(2 * hidden, heads[1])
    return p, q, Categorical(logits=hidden @ heads[0].T), Categorical(logits=2 * hidden @ heads[1].T), code


def gradient(value: Tensor, dist: Vocabulary) -> Tensor:
    """Of the value, weighted unevenly, with respect to the hidden states."""
    weight = torch.linspace(0.5, 2, value.numel()).view_as(value)
    return torch.autograd.grad((value * weight).sum(), dist.hidden, retain_graph=True)[0]


def test_vocabulary_is_a_categorical(pair):
    p, q, ours, theirs, code = pair
    for value, expected in (
        (p.log_prob(code), ours.log_prob(code)),
        (kl_divergence(p, q), kl_divergence(ours, theirs)),
        (p.logits, ours.logits),
    ):
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient(value, p), gradient(expected, p))


def test_likeliest_tokens_are_those_of_a_categorical(pair):
    p, _, ours, _, code = pair
    for k in (3, 100):
        torch.testing.assert_close(likeliest(p, k), likeliest(ours, k))
        assert not likeliest(p, k).requires_grad
    assert p.log_prob(code).requires_grad  # though it was asked afterwards
    assert likeliest(p, 100).shape == (5, 3, 20)


@pytest.mark.slow
def test_a_vocabulary_of_150_000_is_never_held_whole():
    code = """
import resource, torch, razorbench.harness.learn.vocabulary
from torch.distributions import kl_divergence
razorbench.harness.learn.vocabulary.WHOLE = 2**21
hidden, head = torch.randn(192, 1, 16, requires_grad=True), torch.randn(150_000, 16, requires_grad=True)
p, q = (razorbench.harness.learn.vocabulary.Vocabulary(hidden * x, head) for x in (1, 2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(p.log_prob(torch.zeros(192, 1, dtype=torch.int64)).sum() + kl_divergence(p, q).sum()).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parents[2]
    )
    assert (
        float(ran.stdout) < 110
    )  # MB; a single copy of all logits would take 110, and the backward pass needs several


# --- the small model and its tokenizer --------------------------------------------------------------------------------


def test_mini_lm_is_made_by_its_seed_alone():
    before = torch.get_rng_state()
    one, same, another = mini_lm(3), mini_lm(3), mini_lm(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.head, another.head)
    assert sum(p.numel() for p in one.parameters()) == 870_528


def test_tokenizer_is_trained_alike_each_time_and_read_back_alike(tmp_path):
    texts = [f"Ada has {n} pens and gives {n % 7} to Ben, who's glad.\n" for n in range(200)]
    for folder in (tmp_path / "one", tmp_path / "two"):
        train_tokenizer(texts, folder, vocab=320)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    read = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert type(read).__name__ == "Qwen2Tokenizer"
    vocabulary = json.loads((tmp_path / "one" / "tokenizer.json").read_text())["model"]["vocab"]
    assert read.get_vocab() == vocabulary
    assert read.tokenize("Ada has 123") == ["Ada", "Ġhas", "Ġ", "1", "2", "3"]
    assert read.decode(read.encode("naïve — 7²\n")) == "naïve — 7²\n"
    assert read.eos_token == "<|im_end|>"
    assert mini_lm(folder=tmp_path / "one").head.shape == (len(read), 128)


def test_shipped_tokenizer_speaks_chatml(lm):
    assert lm.chat.tokenizer.chat_template == TEMPLATE
    text = lm.chat.render([{"role": "user", "content": "hi"}])
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert lm.chat.tokenizer.convert_ids_to_tokens(lm.chat.tokens(text)[0]) == "<|im_start|>"


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_another_engine_is_left_one_token_a_row_the_one_that_we_would_draw(temperature):
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    numbers = np.random.default_rng(0).random((4, 3)).tolist()
    requests = {row: (numbers[row % 4], temperature, [7] * row) for row in (0, 1, 3, 9)}  # the last has no row any more
    told = inverted(logits.clone(), requests)
    for row, (u, _, said) in requests.items():
        if row == 9:
            continue
        dist = Categorical(logits=logits[row])
        at = min(len(said), 2)
        code = draw(Categorical(logits=logits[row][None, None]), np.array([[u[at]]]), temperature)[0, 0]
        assert told[row].isfinite().nonzero().flatten().tolist() == [int(code)]
        warm = Categorical(logits=dist.logits / temperature) if temperature else None
        assert float(told[row, code]) == pytest.approx(float(warm.log_prob(code)) if warm else 0.0, abs=1e-5)
    assert torch.equal(told[2], logits[2])  # who draws by itself there is left alone
