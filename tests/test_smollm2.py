"""A real pretrained language model, from its wheel to a submission that is scored. `make real-tests`."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from razorbench import Observation, Outcome, each
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.core.episodes import Instances
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks import files
from razorbench.harness.tracks.bases import base_policy, policy_digest
from razorbench.harness.tracks.catalogue import BASES, TRACKS
from razorbench.harness.tracks.spec import Conditions

pytestmark = pytest.mark.real
BASE = BASES["smollm2-135m-q4-v1"]


class Asks:
    """Asks what it is given; every reply scores."""

    card = None

    @each
    def play(self, instance):
        yield Observation(text=instance.data["question"])
        return Outcome(1.0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def lm(home: Path) -> CausalLM:
    policy = base_policy(BASE, home, {"limit": 24})
    assert isinstance(policy, CausalLM)
    return policy


def test_weights_are_those_of_the_file(lm):
    assert sum(weight.numel() for weight in lm.parameters()) == 134_515_008
    assert policy_digest(lm) == "5d69b6a20d24a97840877d8090b4d06d93fde9de50e191e3bbc9d5b30fe86be7"


def test_texts_come_back_from_tokens(lm, data):
    tokens = lm.chat.tokenizer
    lines = (data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines for text in json.loads(line).values() if isinstance(text, str)]
    assert len(texts) > 2_000
    assert [text for text in texts if tokens.decode(tokens.encode(text, add_special_tokens=False)) != text] == []
    assert tokens.convert_ids_to_tokens(tokens.encode("12  x", add_special_tokens=False)) == ["1", "2", "Ġ", "Ġx"]


def test_english_is_likelier_than_the_same_words_in_another_order(lm):
    text = "The quick brown fox jumps over the lazy dog, and then it goes home to sleep in its warm bed."
    shuffled = " ".join(sorted(text.split()))

    def nats(words: str) -> float:
        ids = torch.tensor([lm.chat.tokens(words)])
        with torch.no_grad():
            logits = lm.model(input_ids=ids).logits[0, :-1]
        return float(torch.nn.functional.cross_entropy(logits.float(), ids[0, 1:]))

    assert nats(text) + 1 < nats(shuffled) < math.log(lm.head.shape[0])


def test_it_answers(lm):
    asked = Instances([0, 1], {"question": ["What is the capital of France?", "Which planet do we live on?"]})  # type: ignore[arg-type]
    said = [str(each.actions[0].value) for each in rollout(lm, Asks(), asked, temperature=0.0)]  # type: ignore[arg-type]
    assert "Paris" in said[0]
    assert "Earth" in said[1]


@pytest.mark.parametrize("lora", [8, 0])
def test_it_is_adapted_submitted_and_scored(lora, lm, home, tmp_path, razorbench):
    track = replace(
        TRACKS["mini-math-v1"],
        id="smol-v1",
        base=BASE,
        priors={"skills": ("mini-sorting-v1",)},
        settings=Settings(lr=3e-4, warmup=0, steps=2, batch=4, examples=8),
        conditions=Conditions(limit=16),
        **{"items": 4, "drift_items": 4, "checkpoints": 0, "demo": {}},
    )
    (tmp_path / "smol-v1.toml").write_text(files.toml(track))
    out, name = tmp_path / "out", f"of rank {lora}"
    how = ["--method", "sft", "--lora", lora, "--out", out, "--home", home]
    assert razorbench("adapt", tmp_path / "smol-v1.toml", *how).code == 0
    told = ["--track", "smol-v1", "--home", home, "--name", name, "--licence", "CC0-1.0"]
    assert razorbench("submit", out, *told).code == 0
    assert razorbench("worker", "--drain", "--home", home).code == 0
    (row,) = razorbench("show", name, "--home", home, "--json").json["rows"]
    assert row["run"]["drift"] > row["run"]["floor"]
    assert row["run"]["base"] == policy_digest(lm)


@pytest.fixture(scope="module")
def fraction(tmp_path_factory, data) -> Path:
    """The file of `sentiment-v1`: the track of `make real` at a fraction of its size."""
    whole = TRACKS["smollm2-sentiment-v1"]
    track = replace(
        whole,
        id="sentiment-v1",
        base=replace(whole.base, id="few-steps-v1", settings=replace(whole.base.settings, steps=2, warmup=1)),
        settings=replace(whole.settings, steps=2, warmup=1, batch=2, group=2),
        priors={
            suite: tuple(re.sub(r"documents=\d+", "documents=1", id) for id in ids)
            for suite, ids in whole.priors.items()
        },
        **{"items": 2, "drift_items": 2},
    )
    file = tmp_path_factory.mktemp("track") / "sentiment-v1.toml"
    file.write_text(files.toml(track))
    return file


def test_the_track_of_make_real_goes_its_whole_way_at_a_fraction_of_its_size(home, fraction, razorbench):
    how = ["--methods", next(iter(TRACKS["smollm2-sentiment-v1"].demo)), "--workers", 1, "--home", home]
    assert razorbench("sweep", fraction, *how, "--json").json == {"runs": 1, "failed": 0}
    (row,) = razorbench("results", "--track", "sentiment-v1", "--home", home, "--json").json
    assert row["drift"] > 0


def tuned(base: Path, questions: Path, folder: Path, lr: float, lora: LoraConfig | None = None) -> Path:
    """A LoRA, or the model whole, that learns one conversation a step; made with transformers and peft alone."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = model if lora is None else get_peft_model(model, lora)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for line in questions.read_text(encoding="utf-8").splitlines():
        text = tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False)
        asked = tokenizer(text, return_tensors="pt").input_ids
        model(input_ids=asked, labels=asked).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def learnt(tmp_path, data, razorbench) -> Path:
    """Three conversations about film reviews."""
    file = tmp_path / "learnt.jsonl"
    assert razorbench("questions", "sst2-sentiment-v1", "--items", 3, "--out", file).code == 0
    return file


def test_a_lora_by_plain_peft_goes_through_the_gate_and_a_worker_to_the_board(
    home, fraction, learnt, tmp_path, razorbench, show
):
    def well(*command: object) -> str:
        ran = razorbench(*command, "--home", home)
        assert ran.code == 0, ran.err
        return ran.out

    base = tmp_path / "base"
    well("base", fraction, "--out", base)
    lora = tuned(base, learnt, tmp_path / "lora", 1e-3, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    told = ["--name", "by plain peft", "--method", "sft", "--licence", "CC0-1.0"]
    assert "passed the gate (low-rank adapters)" in well("submit", lora, "--track", fraction, *told)
    assert "scored in" in well("worker", "--drain")
    shown = razorbench("show", "by plain peft", "--home", home, "--json").json
    (run,) = [row["run"] for row in shown["rows"]]
    assert shown["state"] == "scored"
    assert run["drift"] > 10 * run["floor"]
    board = show(home, "track", track=run["track"]).dataframe[0].value
    assert board.set_index("name").loc["by plain peft", "drift"] == pytest.approx(run["drift"])


def test_it_is_compared_with_a_lora_a_full_fine_tune_and_a_model_of_another_tokenizer(
    home, lm, learnt, tmp_path, razorbench
):
    base = BASE.fetched(home)

    def compared(folder: Path) -> dict[str, Any]:
        asked = ["--new", "sst2-sentiment-v1", "--priors", "lm-eval/hellaswag", "--items", 4, "--limit", 12]
        ran = razorbench("compare", base, folder, *asked, "--home", home, "--json")
        assert ran.code == 0, ran.err
        assert [change["difference"]["n"] for change in ran.json["changes"]] == [4, 4]
        return ran.json

    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    told = compared(tuned(base, learnt, tmp_path / "lora", 1e-3, lora))
    assert told["notes"] == []
    assert told["drifts"][0]["nats"] > 10 * told["drifts"][0]["floor"]
    nats = next(each for each in told["beside"] if each["metric"] == "nats")
    assert nats["low"] <= nats["difference"] <= nats["high"]
    assert nats["difference"] != 0

    full = tuned(base, learnt, tmp_path / "full", 2e-5)
    told = compared(full)
    assert told["notes"] == [f"{full} has no tokenizer, so that of {base} is used."]
    assert told["drifts"][0]["nats"] > 10 * told["drifts"][0]["floor"]

    other = base_policy(BASES["mini-lm-v1"], home)
    assert isinstance(other, CausalLM)
    other.model.save_pretrained(tmp_path / "other")
    other.chat.tokenizer.save_pretrained(tmp_path / "other")
    told = compared(tmp_path / "other")
    assert told["drifts"] == []
    assert told["notes"][0].startswith("No drift: its tokenizer has another vocabulary (")
