"""Two models are compared by one command, whatever they lie in; what cannot be compared is refused in a sentence."""

import errno
import json
import os
import shutil
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from razorbench import Card, Instances, Refused
from razorbench.agents.language.mini_lm import train_tokenizer
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.registry import REGISTERED, make
from razorbench.harness.measure.comparison import round_robin, told
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs import models
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import BASES
from tests.conftest import needs_data
from tests.servers import hub_files, serving

NEW, PRIORS = "mini-tools-v1", ["mini-sorting-v1", "mini-counting-v1"]
ASKED = ["--new", NEW, "--priors", *PRIORS, "--items", 6, "--limit", 24]


def saved(model: Any, folder: Path, tokenizer: Any = None, **how: Any) -> Path:
    """A folder as transformers or peft saves it."""
    model.save_pretrained(folder, **how)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def read(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def tiny_llama(tokens: int) -> Any:
    """A Llama of random weights."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=tokens, **sizes))


def moved(model: Any, far: float) -> Any:
    """The model with each trainable matrix changed at random."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad and weight.ndim == 2:
                weight += far * torch.randn(weight.shape, generator=noise)
    return model


def lora(base: Path, folder: Path, far: float = 0.02, **how: Any) -> Path:
    """A LoRA by plain peft, which says where its base was."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **how)
    return saved(moved(get_peft_model(read(base), config), far), folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`base`, a model that knows its priors, and a home in which it has answered."""
    place = tmp_path_factory.mktemp("models")
    policy = base_policy(BASES["mini-lm-v1"], place / "home")
    assert isinstance(policy, CausalLM)
    saved(policy.model, place / "base", policy.chat.tokenizer)
    return place


@pytest.fixture
def run(place, razorbench):
    """Runs `compare` on folders beside the base, in one home."""

    def run(first: str, second: str, *how: Any) -> Any:
        return razorbench("compare", place / first, place / second, *(how or ASKED), "--home", place / "home")

    return run


@pytest.mark.slow
def test_a_lora_by_plain_peft_is_compared_with_its_base_and_is_a_row(place, run, razorbench):
    lora(place / "base", place / "lora")
    page = place / "page.html"
    told = run("base", "lora", *ASKED, "--json", "--report", page).json
    assert [(c["task"], c["role"]) for c in told["changes"]] == [(NEW, "new"), *((id, "prior") for id in PRIORS)]
    assert {c["difference"]["n"] for c in told["changes"]} == {6}
    assert told["notes"] == []
    forward = next(d for d in told["drifts"] if (d["direction"], d["per"]) == ("forward", "episode"))
    assert forward["nats"] > 10 * forward["floor"]
    assert told["track"].startswith("compare-")
    row = razorbench("show", told["record"], "--home", place / "home", "--json").json["run"]
    assert (row["name"], row["track"]) == ("lora", told["track"])
    assert row["gain"] == pytest.approx(told["changes"][0]["difference"]["value"])
    assert row["retention"] == pytest.approx(told["mean"]["value"])
    assert "nats an episode" in page.read_text()
    (formed, *_) = told["beside"]
    assert (formed["task"], formed["metric"]) == (NEW, "well_formed")
    assert formed["difference"] == pytest.approx(formed["second"] - formed["first"])
    assert formed["low"] <= formed["difference"] <= formed["high"]
    wide = f"{formed['difference']:+.3g} [{formed['low']:+.3g}, {formed['high']:+.3g}]"
    assert wide in page.read_text()
    assert wide in " ".join(run("base", "lora").out.split())


@pytest.mark.slow
def test_what_was_compared_is_looked_up_and_of_a_killed_comparison_the_base_is_not_asked_again(place, run, monkeypatch):
    shutil.copytree(lora(place / "base", place / "first", 0.01), place / "second")
    asked = []
    answer = Bench.answer_task

    def counted(self, agent, task, *rest):
        asked.append(task)
        return answer(self, agent, task, *rest)

    monkeypatch.setattr(Bench, "answer_task", counted)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Bench, "score", full)
    how = ["--priors", *PRIORS, "--items", 5, "--limit", 24]
    assert run("base", "first", *how).code == 1
    assert asked == PRIORS  # by the base
    monkeypatch.undo()
    monkeypatch.setattr(Bench, "answer_task", counted)
    one = run("base", "first", *how, "--json").json
    assert asked == PRIORS
    monkeypatch.setattr(Bench, "score", lambda *_: pytest.fail("it was compared before"))
    assert run("base", "second", *how, "--json").json["record"] == one["record"]


@pytest.mark.slow
def test_two_adaptations_of_a_base_are_two_entries_of_one_track(place, run, razorbench):
    for name, far in (("near", 0.01), ("far", 0.05)):
        lora(place / "base", place / name, far)
    near, far = (run("base", name, *ASKED, "--json").json for name in ("near", "far"))
    assert near["track"] == far["track"]
    assert near["record"] != far["record"]
    board = razorbench("results", "--track", near["track"], "--home", place / "home").out
    assert " near " in board
    assert " far " in board
    said = razorbench("compare", "near", "far", "--home", place / "home")
    assert said.code == 0
    assert "Mean change over 2 priors" in said.out


@pytest.mark.slow
@pytest.mark.parametrize("size", ["5GB", "1MB"])
def test_a_full_fine_tune_by_plain_transformers_whole_or_in_shards(size, place, run):
    name = f"full-{size}"
    saved(
        moved(read(place / "base"), 0.01),
        place / name,
        AutoTokenizer.from_pretrained(place / "base"),
        max_shard_size=size,
    )
    assert (place / name / "model.safetensors.index.json").exists() == (size == "1MB")
    told = run("base", name, *ASKED, "--json").json
    assert told["notes"] == []
    assert told["drifts"]


@pytest.mark.slow
def test_a_folder_without_a_tokenizer_uses_the_base_s_and_says_so_and_a_base_without_one_is_refused(place, run):
    saved(moved(read(place / "base"), 0.01), place / "bare")
    ran = run("base", "bare")
    assert f"{place / 'bare'} has no tokenizer, so that of {place / 'base'} is used." in ran.out
    assert "nats an episode" in ran.out
    refused = run("bare", "base")
    assert "has no tokenizer; save it there: AutoTokenizer.from_pretrained(…)" in refused.sentence


@pytest.mark.slow
def test_the_same_model_twice_has_no_flips_and_no_drift_and_is_told_to_be_the_same(place, run):
    ran = run("base", "base")
    assert "Nothing tells the two models apart." in ran.out
    assert "hold the same weights" in ran.out
    assert "Drift: none, at most what rounding makes" in ran.out
    assert "lost ·" not in ran.out
    assert "gained ·" not in ran.out


@pytest.mark.slow
def test_a_base_of_the_same_weights_that_is_asked_otherwise_answers_for_itself(place, run):
    words = AutoTokenizer.from_pretrained(place / "base")
    words.chat_template = "{{ '<|im_start|>user\nWhat is it?' * 5 }}" + words.chat_template
    saved(read(place / "base"), place / "distracted", words)
    how = ["--priors", PRIORS[1], "--items", 6, "--limit", 24, "--json"]
    first, second = (run(name, name, *how).json["changes"][0] for name in ("base", "distracted"))
    assert first["first"] == first["second"] != second["first"] == second["second"]


def test_another_tokenizer_is_compared_by_scores_without_drift_and_it_says_why(place, run):
    train_tokenizer(["Sort the words: pear fig kiwi 1 2 3 4 5 6 7 8 9 0."] * 4, place / "other", 300)
    saved(tiny_llama(len(AutoTokenizer.from_pretrained(place / "other"))), place / "other")
    told = run("base", "other", *ASKED, "--json").json
    assert told["drifts"] == []
    assert told["notes"][0].startswith("No drift: its tokenizer has another vocabulary (")
    assert {c["role"] for c in told["changes"]} == {"new", "prior"}


def test_another_architecture_that_says_the_same_tokens_has_a_drift(place, run):
    rows = read(place / "base").config.vocab_size
    saved(tiny_llama(rows), place / "llama", AutoTokenizer.from_pretrained(place / "base"))
    told = run("base", "llama", *ASKED, "--json").json
    assert told["drifts"][0]["nats"] > 1
    assert told["notes"] == []


def test_another_chat_template_has_no_drift(place, run):
    words = AutoTokenizer.from_pretrained(place / "base")
    words.chat_template = words.chat_template.replace("message['role'] + '\n'", "message['role'] + ': '")
    saved(moved(read(place / "base"), 0.01), place / "template", words)
    told = run("base", "template", *ASKED, "--json").json
    assert told["drifts"] == []
    assert "or its chat template is another" in told["notes"][0]


@pytest.mark.slow
def test_a_tokenizer_that_was_saved_without_its_template_is_refused_and_with_the_base_s_beside_it_is_read(place, run):
    saved(moved(read(place / "base"), 0.01), place / "mute", AutoTokenizer.from_pretrained(place / "base"))
    template = place / "mute" / "chat_template.jinja"
    template.unlink()
    refused = run("base", "mute").sentence
    assert "mute: the tokenizer has no chat template; bring a model that is tuned to chat, or put the" in refused
    shutil.copy(place / "base" / template.name, template)
    told = run("base", "mute", *ASKED, "--json").json
    assert told["notes"] == []
    assert told["drifts"]


@pytest.mark.slow
def test_a_lora_of_another_base_is_told(place, run):
    config = json.loads((lora(place / "base", place / "elsewhere") / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/other-model"
    (place / "elsewhere" / "adapter_config.json").write_text(json.dumps(config))
    (note,) = run("base", "elsewhere", *ASKED, "--json").json["notes"]
    assert note == (
        f"{place / 'elsewhere'} says that it was trained on somebody/other-model; if {place / 'base'} has other "
        "weights, its numbers say nothing."
    )


def test_a_lora_of_a_base_that_is_here_and_has_other_weights_is_refused(place, run):
    saved(moved(read(place / "base"), 0.01), place / "sft")
    lora(place / "sft", place / "on-top")
    sentence = run("base", "on-top").sentence
    assert f"was trained on {place / 'sft'}, whose weights are not those of {place / 'base'}" in sentence
    assert "compare it with that one, or bring it merged" in sentence


@pytest.mark.slow
def test_without_a_new_task_only_priors_are_asked(place, run):
    lora(place / "base", place / "only")
    told = run("base", "only", "--priors", *PRIORS, "--items", 4, "--limit", 24, "--json").json
    assert [c["role"] for c in told["changes"]] == ["prior", "prior"]
    assert told["notes"] == ["No drift: no new task is named, and drift is measured on it."]
    said = run("base", "only", "--priors", *PRIORS, "--items", 4, "--limit", 24).out
    assert "Retention over 2 priors: " in said


@pytest.mark.slow
def test_0_items_are_all_that_each_task_has(place, run, monkeypatch):
    lora(place / "base", place / "all")
    for id, of in (("few-tools-v1", NEW), ("few-sorts-v1", PRIORS[0])):
        monkeypatch.setitem(REGISTERED["task"], id, partial(Few, of))
    told = run(
        "base", "all", "--new", "few-tools-v1", "--priors", "few-sorts-v1", "--items", 0, "--limit", 24, "--json"
    )
    assert [c["difference"]["n"] for c in told.json["changes"]] == [5, 5]
    assert {d["n"] for d in told.json["drifts"]} == {5}


class Few:
    """The first five questions of a task, and no others."""

    card = Card("Little.", "As the task has it.", "made here", "none", 0.0)

    def __init__(self, id: str):
        self.task = make("task", id)

    def instances(self, split: str) -> Instances:
        return self.task.instances(split).first(5)

    def play(self, instances: Instances) -> Any:
        return self.task.play(instances)


@pytest.mark.slow
def test_prompts_that_the_model_cannot_read_are_its_failures_and_the_reader_is_told(place, run):
    """Of the six questions four have 49 tokens or more."""
    shutil.copytree(place / "base", place / "short")
    config = json.loads((place / "short" / "config.json").read_text())
    (place / "short" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 49}))
    lora(place / "short", place / "short-lora")
    told = run("short", "short-lora", *ASKED, "--json").json
    assert told["changes"][0]["difference"]["n"] == 6
    assert [note for note in told["notes"] if "cannot be judged" in note] == [
        f"4 of 6 items of {NEW} have a reply that cannot be judged, which scores 0: the prompt has 49 tokens, and "
        "prompt and reply together may have 49."
    ]


@pytest.mark.slow
def test_folders_are_compared_without_asking_any_host(place, run, monkeypatch):
    lora(place / "base", place / "alone")
    asked = []

    def connect(_: Any, address: Any) -> None:
        asked.append(address)
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert run("base", "alone", "--priors", PRIORS[1], "--items", 2, "--limit", 8).code == 0
    assert asked == []


@pytest.mark.slow
@needs_data
def test_a_prior_of_likelihood_alone_has_an_interval_and_no_flips(place, run):
    lora(place / "base", place / "far", 0.1)
    ran = run("base", "far", "--priors", "news-text-v1", "--items", 8)
    assert "news-text-v1 · " not in ran.out
    told = run("base", "far", "--priors", "news-text-v1", "--items", 8, "--json").json
    assert told["changes"][0]["difference"]["n"] == 8
    (nats,) = told["beside"]
    assert nats["low"] <= nats["difference"] <= nats["high"]
    assert nats["difference"] != 0


def test_names_that_are_wrong_are_refused_in_a_sentence(place, run, razorbench, tmp_path):
    lora(place / "base", place / "good")
    few = ["--priors", *PRIORS, "--items"]
    assert "items -3 cannot be; give at least 2, or 0 for all" in run("base", "good", *few, -3).sentence
    assert "items 1 cannot be" in run("base", "good", *few, 1).sentence
    assert (
        "unknown task 'mini-sortin-v1'; did you mean 'mini-sorting-v1'"
        in run("base", "good", "--priors", "mini-sortin-v1").sentence
    )
    assert "unknown task 'mini-tool-v1'" in run("base", "good", "--new", "mini-tool-v1", *few, 4).sentence
    assert "good is a LoRA; name the model that it was trained on first" in run("good", "base").sentence
    assert "nowhere is no folder here" in run("base", "nowhere").sentence
    no_commit = razorbench("compare", place / "base", "owner/name", "--home", place / "home").sentence
    assert "owner/name is no folder here and no OWNER/NAME@COMMIT of the hub" in no_commit
    (place / "empty").mkdir()
    assert "holds no model (config.json" in run("base", "empty").sentence
    assert "metric and common are of runs" in run("base", "good", "--common").sentence
    home = tmp_path / "home"
    assert "no folder here and no OWNER/NAME@COMMIT" in razorbench("compare", "a", "b", "--home", home).sentence
    assert "'main' may move" in razorbench("compare", "some/model@main", "some/model@main", "--home", home).sentence
    assert not (home / "tracks").exists()


def test_weights_in_another_format_are_refused_with_the_cure(place, run):
    saved(read(place / "base"), place / "pickled")
    (place / "pickled" / "model.safetensors").rename(place / "pickled" / "pytorch_model.bin")
    assert run("base", "pickled").sentence.endswith(
        "pickled holds no weights as safetensors (model.safetensors, or its parts with their index); save them there "
        "with save_pretrained of transformers"
    )


def test_a_lora_that_is_no_plain_one_is_refused_with_the_cure(place, run):
    lora(place / "base", place / "head", modules_to_save=["norm"])
    assert "'modules_to_save' = ['norm'], and plain LoRA is scored: merge them" in run("base", "head").sentence
    lora(place / "base", place / "weightless")
    (place / "weightless" / "adapter_model.safetensors").unlink()
    assert "holds adapter_config.json and no adapter_model.safetensors" in run("base", "weightless").sentence


def test_a_checkpoint_that_holds_weights_alone_has_the_base_s_config(place, run):
    policy = base_policy(BASES["mini-lm-v1"], place / "home")
    (place / "weights").mkdir()
    moved(policy.model, 0.01)  # type: ignore[attr-defined]
    policy.save(place / "weights" / "model.safetensors")
    assert run("base", "weights", *ASKED, "--json").json["drifts"]


@pytest.mark.slow
def test_a_base_on_the_hub_is_fetched_and_kept_and_without_a_network_the_refusal_says_what_to_do(
    place, razorbench, monkeypatch, tmp_path
):
    lora(place / "base", place / "of-hub")
    commit = "0123456789" * 4
    named = f"owner/name@{commit}"
    how = [named, place / "of-hub", "--priors", PRIORS[0], "--items", 2, "--limit", 8, "--home", tmp_path / "home"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def ask(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    ask("http://127.0.0.1:9")
    refused = razorbench("compare", *how).sentence
    assert f"the hub does not give {named}" in refused
    assert f"`hf download owner/name --revision {commit} --local-dir FOLDER`, and name the folder instead" in refused
    with serving(
        hub_files("owner/name", commit, {p.name: p.read_bytes() for p in (place / "base").iterdir()})
    ) as server:
        ask(server.url)
        assert razorbench("compare", *how).code == 0
    ask("http://127.0.0.1:9")
    assert razorbench("compare", *how).code == 0


def test_flips_are_lost_priors_and_gains_of_the_new_task_first_and_of_each_task_one_in_turn():
    samples = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (1.0, 0.2)}
    rows = [{"task": "x", "item": item, "asked": item, "base": "", "adapted": None} for item in "abc"]
    assert [flip.item for flip in told("prior", samples, rows)] == ["a", "c", "b"]
    assert [flip.item for flip in told("new", samples, rows)] == ["b", "a", "c"]
    some = [told(role, samples, rows) for role in ("new", "prior")]
    assert [flip.item for flip in round_robin(some, 5)] == ["b", "a", "a", "c", "c"]


def test_of_a_suite_what_cannot_be_asked_is_left_out_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    monkeypatch.setitem(models.SUITES, "some", ("mini-sorting-v1", "lm-eval/hellaswag"))
    tasks, notes = models.asked("", ["some"])
    assert [*tasks] == ["mini-sorting-v1"]
    assert notes[0].startswith("lm-eval/hellaswag is left out: ")
    monkeypatch.setitem(models.SUITES, "some", ("lm-eval/hellaswag",))
    with pytest.raises(Refused, match="no prior can be asked here"):
        models.asked(NEW, ["some"])
