"""Demonstrations by rejection sampling, and from a file: what is kept, what is refused, and that it is learned from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from razorbench import Actions, Asked, Card, Conditions, Instances, Observation, Outcome, Refused, Reply, each
from razorbench.harness.core.conversations import conversations
from razorbench.harness.core.questions import data_digest
from razorbench.harness.core.recorded import Manifest, beside, covered, digest_of, manifest, read
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import encoded, log_probabilities
from razorbench.harness.learn.settings import Settings, lasting, variant
from razorbench.harness.runs import rejection
from razorbench.harness.runs.rejection import Sampling, demonstrate
from razorbench.harness.runs.sweep import plan
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.harness.tracks.named import named_policy

TOLD = {"task": "mini-math-v1", "weights": "w", "base": "b"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return named_policy("mini-lm-v1", tmp_path_factory.mktemp("home"))[0]


@pytest.fixture(scope="module")
def made(policy, tmp_path_factory):
    """A file of demonstrations of the first 40 prompts of mini-math-v1, by its base."""
    file = tmp_path_factory.mktemp("made") / "math.jsonl"
    demonstrate(policy, policy, make("task", "mini-math-v1"), sampling(), file, told=TOLD, provenance={})
    return file


def sampling(samples: int = 4, keep: rejection.Keep = "right", items: int = 40, seed: int = 0) -> Sampling:
    return Sampling(Conditions(1.0, samples), keep, items, seed)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rewritten(file: Path, text: str) -> Path:
    """The file with another text, and a manifest that says so."""
    told = manifest(file)
    other = file.with_name("other.jsonl")
    other.write_text(text)
    lines = text.removesuffix("\n").count("\n") + 1
    beside(other).write_text(json.dumps(asdict(told) | {"sha256": digest_of(other), "lines": lines}))
    return other


class Twice:
    """Asks two things; the second depends on the first answer. Right is to say each question's letters backwards."""

    card = Card("", "", "", "", 0.0)

    def instances(self, split: str) -> Instances:
        return Instances(np.array([f"{split}-{i}" for i in range(4)]), {"word": ["ab", "cd", "ef", "gh"]})

    @each
    def play(self, x):
        first = yield Observation(x.data["word"])
        second = yield Observation(f"and {first}?", role="tool")
        return Outcome(float((first, second) == (x.data["word"][::-1], "yes")))


class Says:
    """Says what a function of (word, sample, turn) says; the sample is told by the keys, in the order they come."""

    def __init__(self, answer):
        self.answer, self.before = answer, {}

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        said = []
        for i, word in enumerate(asked.instances.data["word"]):
            seen = self.before.setdefault(word, [])
            key = int(asked.key[i])
            if key not in seen:
                seen.append(key)
            said.append(self.answer(word, seen.index(key), int(asked.turn[i])))
        return Actions(said)


class Counts:
    """Half a nat a letter: a base of which the distance is known by hand."""

    def encode(self, values):
        return [np.zeros(len(value), np.int64) for value in values]


COUNTS: Any = Counts()


def known_distance(monkeypatch):
    import torch

    def nats(policy, episodes):
        return torch.tensor([-0.5 * n for n in episodes.lengths()])

    monkeypatch.setattr(rejection, "log_probabilities", nats)


def test_first_right_answer_is_kept_and_prompt_asked_no_more(tmp_path, monkeypatch):
    known_distance(monkeypatch)
    right = {"ab": 0, "cd": 2, "ef": 9, "gh": 1}

    def answer(word, sample, turn):
        return "yes" if turn else word[::-1] if sample >= right[word] else word

    out = tmp_path / "f.jsonl"
    told = demonstrate(Says(answer), COUNTS, Twice(), sampling(3, items=0), out, told=TOLD, provenance={"agent": "me"})
    assert [line["id"] for line in lines(out)] == ["train-0", "train-1", "train-3"]
    assert lines(out)[1]["messages"] == [
        {"role": "user", "content": "cd"},
        {"role": "assistant", "content": "dc"},
        {"role": "tool", "content": "and dc?"},
        {"role": "assistant", "content": "yes"},
    ]
    # 4 prompts, then 3 that are still wrong, then 2; each kept one has 2 + 3 letters
    expected = {"prompts": 4, "drawn": 9, "right": 3, "unscored": 0, "solved": 3, "tokens": 15, "nats": 7.5}
    assert told.made["counts"] == expected | {"nats_per_token": 0.5}
    assert told.made["provenance"] == {"agent": "me"}
    assert (told.task, told.lines, told.sha256) == ("mini-math-v1", 3, digest_of(out))


def test_every_right_answer_is_kept_once(tmp_path, monkeypatch):
    known_distance(monkeypatch)
    told = demonstrate(
        Says(lambda word, sample, turn: "yes" if turn else word[::-1]),
        COUNTS,
        Twice(),
        sampling(3, "every-right", 1),
        tmp_path / "f",
        told=TOLD,
        provenance={},
    )
    assert (told.lines, told.made["counts"]["right"], told.made["counts"]["tokens"]) == (1, 3, 5)


def test_answer_that_was_cut_off_demonstrates_no_end(tmp_path, monkeypatch):
    known_distance(monkeypatch)
    cut = Says(lambda word, sample, turn: Reply("yes", finished=False) if turn else word[::-1])
    with pytest.raises(Refused, match="none of 4 answers to 2 prompts is right"):
        demonstrate(cut, COUNTS, Twice(), sampling(2, items=2), tmp_path / "f", told=TOLD, provenance={})
    assert not [*tmp_path.iterdir()]


def test_dialogue_is_shown_again_turn_by_turn(tmp_path, monkeypatch):
    known_distance(monkeypatch)
    good = Says(lambda word, sample, turn: "yes" if turn else word[::-1])
    demonstrate(good, COUNTS, Twice(), sampling(1, items=3), tmp_path / "f", told=TOLD, provenance={})
    shown = demonstrations(Twice(), Twice().instances("train"), f"file:{tmp_path}/f")
    assert shown.reward.tolist() == [1.0, 1.0, 1.0]
    assert shown[1].actions[0].value == "dc"
    text = (tmp_path / "f").read_text().replace('"and dc?"', '"and cd?"')
    with pytest.raises(Refused, match=r"line 2 of .* was asked otherwise"):
        demonstrations(Twice(), Twice().instances("train"), f"file:{rewritten(tmp_path / 'f', text)}")


@pytest.mark.slow
def test_distance_is_that_of_the_lines_under_the_base(policy, made):
    shown = demonstrations(
        make("task", "mini-math-v1"), make("task", "mini-math-v1").instances("train"), f"file:{made}"
    )
    coded = encoded(policy, shown)
    counts = manifest(made).made["counts"]
    assert coded.lengths().sum() == counts["tokens"]
    assert -float(log_probabilities(policy, coded).double().sum()) == pytest.approx(counts["nats"], rel=1e-4)
    assert (shown.reward == 1).all()
    assert len(shown) == counts["solved"] == len(lines(made))


@pytest.mark.slow
def test_killed_it_goes_on_and_the_file_is_the_same(policy, made, tmp_path, monkeypatch):
    task, out, asked = make("task", "mini-math-v1"), tmp_path / "math.jsonl", []

    def stop(done, prompts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demonstrate(policy, policy, task, sampling(), out, told=TOLD, provenance={}, tell=stop)
    assert not out.exists()
    plain = rejection.block
    monkeypatch.setattr(rejection, "block", lambda *given: asked.append(len(given[3])) or plain(*given))
    demonstrate(policy, policy, task, sampling(), out, told=TOLD, provenance={})
    assert asked == [8]  # the first block of 32 stood
    assert out.read_bytes() == made.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["math.jsonl", "math.jsonl.manifest.json"]
    demonstrate(policy, policy, task, sampling(), out, told=TOLD, provenance={})  # nothing is left to do
    with pytest.raises(Refused, match="holds other demonstrations"):
        demonstrate(policy, policy, task, sampling(seed=1), out, told=TOLD, provenance={})


def test_file_of_another_task_or_of_other_data_is_refused(made):
    with pytest.raises(Refused, match=r"line 1 of .*, of mini-math-v1, was asked otherwise than this task asks"):
        read(make("task", "mini-science-v1"), made)
    with pytest.raises(Refused, match="is of other data than this task's, of mini-math-v1"):
        read(Twice(), made)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-20], "line {last} of .* is no demonstration, or cut off"),
        (lambda text: text.replace('"assistant"', '"system"', 1), "line 1 of .* is no demonstration"),
        (lambda text: text + "\n", "line {next} of .* is no demonstration"),
        (lambda text: text.replace('"id": 0', '"id": 100001', 1), "line 1 of .* answers 100001, which is no training"),
    ],
)
def test_line_that_is_none_is_refused_by_its_number(made, damage, said):
    text, last = made.read_text(), len(lines(made))
    assert '"id": 0,' in text
    with pytest.raises(Refused, match=said.format(last=last, next=last + 1)):
        read(make("task", "mini-math-v1"), rewritten(made, damage(text)))


def test_file_that_lost_lines_or_its_manifest_is_refused(made, tmp_path):
    task, file = make("task", "mini-math-v1"), tmp_path / "math.jsonl"
    with pytest.raises(Refused, match="cannot be read"):
        read(task, file)
    file.write_text("".join(made.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(Refused, match="no manifest of demonstrations"):
        read(task, file)
    beside(file).write_bytes(beside(made).read_bytes())
    with pytest.raises(Refused, match=f"is not what its manifest says, of {len(lines(made))} lines"):
        read(task, file)


@pytest.mark.slow
def test_several_demonstrations_of_a_prompt_are_shown_by_seed(tmp_path):
    task = make("task", "mini-math-v1")
    one = task.instances("train").first(1)
    talks = [conversations(task, one, style)[0] for style in task.styles]
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps({"id": 0, "messages": talk}) + "\n" for talk in talks))
    told = Manifest("mini-math-v1", data_digest(task.instances("train")), digest_of(file), 2)
    beside(file).write_text(json.dumps(asdict(told)))
    recorded = read(task, file)
    said = [rollout(recorded, task, one, seed=seed)[0].actions[0].value for seed in range(20)]
    assert {*said} == {talk[1]["content"] for talk in talks}
    assert said[3] == demonstrations(task, one, f"file:{file}", seed=3)[0].actions[0].value


@pytest.mark.slow
def test_prompts_without_demonstration_are_left_out_and_counted(policy, made):
    task, style = make("task", "mini-math-v1"), f"file:{made}"
    ids = [line["id"] for line in lines(made)]
    assert covered(task, task.instances("train").first(100), style).id.tolist() == ids
    assert len(ids) < 40
    settings = Settings(style=style, examples=100, batch=4, steps=2, warmup=0)
    adaptation = Adaptation(policy.copy(), task, METHODS["sft"], settings)
    assert adaptation.without == 100 - len(ids)
    reports = list(adaptation)
    assert [report.reward for report in reports] == [1.0, 1.0]
    assert {*adaptation.learner.instances.id.tolist()} <= {*ids}
    with pytest.raises(Refused, match="demonstrates none of the 1 training questions"):
        covered(task, task.instances("train").take(np.array([50_000])), style)


def test_file_is_known_by_its_content(made, tmp_path):
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(made.read_bytes())
    track = TRACKS["mini-math-v1"]
    here, there = (plan(track, [f"sft:style=file:{file}:steps=60"], ["lr=1e-4"], [0])[0] for file in (made, copy))
    assert here.settings.style == f"file:{made}"
    assert here.settings.steps == 60
    assert lasting(here.told) == lasting(there.told)
    assert f"style file:{digest_of(made)[:8]}" in variant("sft", here.told, track.settings)
    copy.write_text(copy.read_text().replace("boxed", "fbox", 1))
    assert lasting(here.told) != lasting(there.told)
    with pytest.raises(Refused, match="grpo does not read style"):
        plan(track, [f"grpo:style=file:{made}"], [], [0])


def test_task_without_expert_is_told_of_files():
    with pytest.raises(Refused, match="give a file of demonstrations as style file:PATH"):
        demonstrations(Twice(), Twice().instances("train"))


@pytest.mark.slow
def test_command_line(razorbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = "--from mini-lm-v1 --items 12 --samples 2 --out d.jsonl --json".split()
    done = razorbench("demonstrations", "mini-math-v1", *asked)
    assert done.code == 0, done.err
    assert (done.json["prompts"], done.json["lines"]) == (12, len(lines(tmp_path / "d.jsonl")))
    assert 0 < done.json["nats_per_token"] < 3
    adapt = ("adapt", "mini-math-v1", "--method", "sft", "--style", "file:d.jsonl", "--out", "c")
    short = ("--steps", "2", "--batch", "4", "--warmup", "0", "--examples", "12")
    learned = razorbench(*adapt, *short)
    assert learned.code == 0, learned.err
    assert f"{12 - done.json['lines']} training questions have no demonstration" in learned.err
    again = razorbench("demonstrations", "mini-math-v1", "--from", "c", "--items", "4", "--out", "e.jsonl", "--json")
    assert again.code == 0, again.err
    assert (
        manifest(tmp_path / "e.jsonl").made["known"]["weights"]
        != manifest(tmp_path / "d.jsonl").made["known"]["weights"]
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--from", "no/where"), "no/where is no folder here"),
        (("--from", "a/b@main"), "'main' may move"),
        (("--from", "mini-lm-v9"), "unknown base 'mini-lm-v9'"),
        (("--from", "."), "has no config.json"),
        (("--from", "mini-lm-v1", "--temperature", "0"), "at temperature 0 all 16 answers are the same"),
        (("--from", "mini-lm-v1", "--items", "-1"), "items -1 cannot be"),
    ],
)
def test_refusals(razorbench, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    done = razorbench("demonstrations", "mini-math-v1", *given)
    assert done.code == 2
    assert said in done.sentence
