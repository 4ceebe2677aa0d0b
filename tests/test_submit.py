"""The commands of submissions, as people and scripts meet them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from razorbench.harness.learn.settings import Settings
from razorbench.harness.store.database import Store
from razorbench.harness.tracks import files
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.submissions import claim as claims
from razorbench.submissions import queue, scoring
from razorbench.submissions import source as sources
from razorbench.submissions.claim import Claim
from tests.toys import SPELLING, Speller, put_base

TRACK = SPELLING.id


@pytest.fixture
def home(toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scoring.ready.cache_clear()
    monkeypatch.setitem(TRACKS, TRACK, replace(SPELLING, items=60))
    put_base(SPELLING.base, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def weights(tmp_path: Path):
    """Makes a folder that holds weights and nothing else."""

    def weights(name: str = "mine", seed: int = 0, folder: str = "") -> Path:
        place = tmp_path / name / folder
        place.mkdir(parents=True)
        noise = torch.randn(Speller().logits.shape, generator=torch.Generator().manual_seed(seed))
        save_file({"logits": Speller().logits.detach() + noise}, place / "model.safetensors")
        return tmp_path / name

    return weights


@pytest.fixture
def submit(razorbench, home: Path):
    """Submits a folder; what JSON says of it."""

    def submit(folder: Path, *more: object) -> dict:
        ran = razorbench("submit", folder, "--track", TRACK, "--method", "sft", "--home", home, "--json", *more)
        assert ran.code == 0, ran.err
        return ran.json

    return submit


@pytest.mark.slow
def test_submit_worker_show_and_results_are_one_walk(razorbench, home, weights):
    ran = razorbench("submit", weights(), "--track", TRACK, "--method", "sft", "--home", home)
    assert "mine passed the gate (full weights) and is queued as" in ran.out
    assert "No worker is running" in ran.out
    assert "worker --drain" in ran.out
    assert "place" in razorbench("queue", "--home", home).out
    assert "waits for a worker" in razorbench("show", "mine", "--home", home).out
    ran = razorbench("worker", "--drain", "--home", home)
    assert "scored in" in ran.out
    assert "Nothing is left to be scored" in ran.out
    assert "Nothing waits for scoring" in razorbench("queue", "--home", home).out
    shown = razorbench("show", "mine", "--home", home, "--json").json
    assert (shown["state"], len(shown["rows"]), shown["flags"]) == ("scored", 1, [])
    (row,) = razorbench("results", "--home", home, "--json").json
    assert (row["name"], row["submissions"]) == ("mine", shown["rows"][0]["run"]["id"])


def test_submission_toml_is_written_from_the_flags_and_the_checkpoint(razorbench, home, weights, submit, tmp_path):
    folder = weights()
    made = {
        "track": TRACK,
        "method": "dr-grpo",
        "settings": vars(Settings(lr=0.5)),
        "seed": 3,
        "cost": {"seconds": 1.26},
    }
    (folder / "checkpoint.json").write_text(json.dumps(made))
    ran = razorbench("submit", folder, "--track", TRACK, "--name", "better", "--licence", "MIT", "--home", home)
    assert ran.code == 0, ran.err
    claim = claims.read((folder / claims.FILE).read_text())
    assert (claim.name, claim.method, claim.licence, claim.seeds) == ("better", "dr-grpo", "MIT", (3,))
    assert claim.settings["lr"] == 0.5
    assert claim.settings["batch"] == Settings().batch  # the track has another
    assert "clip" not in claim.settings  # as the track has it
    assert claim.compute == {"seconds": 1.3}
    assert "submission.toml says what was submitted" in ran.err


def test_submission_toml_that_is_there_is_held_against_the_flags(razorbench, home, weights):
    folder = weights()
    (folder / claims.FILE).write_text(claims.write(Claim(TRACK, "mine", "sft", "MIT")))
    ran = razorbench("submit", folder, "--track", TRACK, "--method", "grpo", "--home", home)
    assert ran.code == 2
    assert "says method 'sft', and you say 'grpo'" in ran.sentence
    ran = razorbench("submit", folder, "--track", TRACK, "--home", home)
    assert ran.code == 0


def test_folders_of_seeds_are_one_submission(razorbench, home, weights, submit):
    for seed in (0, 1, 5):
        folder = weights("mine", seed, f"seed-{seed}")
    submit(folder)
    razorbench("worker", "--drain", "--home", home)
    (row,) = razorbench("results", "--home", home, "--json").json
    assert (row["seeds"], len(row["submissions"].split())) == (3, 3)


def test_a_track_may_be_named_by_its_file_and_a_worker_knows_it_then(razorbench, home, weights, tmp_path):
    track = replace(SPELLING, id="of-a-file-v1", items=60)
    (tmp_path / "of-a-file-v1.toml").write_text(files.toml(track))
    ran = razorbench("submit", weights(), "--track", tmp_path / "of-a-file-v1.toml", "--method", "sft", "--home", home)
    assert ran.code == 0, ran.err
    assert "scored in" in razorbench("worker", "--drain", "--home", home).out
    (row,) = razorbench("results", "--home", home, "--json").json
    assert row["track"] == "of-a-file-v1"


def test_method_has_to_be_said_where_nothing_tells_it(razorbench, home, weights):
    ran = razorbench("submit", weights(), "--track", TRACK, "--home", home)
    assert ran.code == 2
    assert "say it with --method" in ran.sentence


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "nowhere is not a folder; name a folder, or a repository as OWNER/NAME@REVISION"),
        ("owner/name@main", "'main' may move; name the revision of owner/name by its full commit hash"),
    ],
)
def test_what_is_no_folder_is_refused(razorbench, home, source, sentence):
    ran = razorbench("submit", source, "--track", TRACK, "--method", "sft", "--home", home)
    assert ran.code == 2
    assert sentence in ran.sentence


def test_gate_refuses_with_exit_code_2_and_nothing_is_queued(razorbench, home, weights):
    folder = weights()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    ran = razorbench("submit", folder, "--track", TRACK, "--method", "sft", "--home", home)
    assert ran.code == 2
    assert "pytorch_model.bin" in ran.sentence
    assert queue.ids(home) == []


def test_retracted_out_of_the_queue_is_not_scored(razorbench, home, weights, submit):
    submit(weights())
    ran = razorbench("retract", "mine", "--reason", "a mistake", "--home", home)
    assert "is out of the queue" in ran.out
    razorbench("worker", "--drain", "--home", home)
    shown = razorbench("show", "mine", "--home", home).out
    assert "retracted: a mistake" in shown
    assert razorbench("results", "--home", home, "--json").json == []
    ran = razorbench("retract", "mine", "--reason", "again", "--home", home)
    assert ran.code == 2
    assert "is retracted; only what stands on the board" in ran.sentence


@pytest.mark.slow
def test_decisions_are_rows_and_every_seed_has_one(razorbench, home, weights, submit):
    for seed in (0, 1):
        folder = weights("mine", seed, f"seed-{seed}")
    id = submit(folder)["id"]
    razorbench("worker", "--drain", "--home", home)

    def rows() -> int:
        return len(razorbench("results", "--home", home, "--json").json)

    for command, left in (("hide", 0), ("unhide", 1), ("retract", 0)):
        ran = razorbench(command, id, "--reason", f"because of {command}", "--home", home)
        assert ran.code == 0, ran.err
        assert rows() == left
    events = Store(home).events()
    assert [event["kind"] for event in events] == ["hidden"] * 2 + ["unhidden"] * 2 + ["retracted"] * 2
    assert len(Store(home).runs(TRACK, all=True)) == 2
    assert "2 are hidden or retracted" in " ".join(razorbench("results", "--home", home).out.split())
    shown = razorbench("show", id, "--home", home).out
    for command in ("hide", "unhide", "retract"):
        assert shown.count(f"because of {command}") == (2 if command == "retract" else 1)
        ran = razorbench(command, id, "--reason", "again", "--home", home)
        assert ran.code == 2
        assert "retracted" in ran.sentence
    assert razorbench("unhide", id, "--reason", "", "--home", home).code == 2


@pytest.mark.slow
def test_verify_says_whether_it_comes_out_again(razorbench, home, weights, submit):
    submit(weights())
    assert razorbench("verify", "mine", "--home", home).code == 2  # not scored yet
    razorbench("worker", "--drain", "--home", home)
    assert "comes out again" in razorbench("verify", "mine", "--home", home).out
    told = razorbench("verify", "mine", "--home", home, "--json").json
    assert told["reproduced"] is True
    assert [row["number"] for row in told["numbers"]] == ["gain", "retention", "drift"]
    (run,) = Store(home).runs(TRACK)
    assert run["verified"] == "reproduced"


TEXTS = ["[/red] [bold]", "$\\frac{$", "<script>alert(1)</script>", "'; DROP TABLE runs; --", "%s {0}", "-–—שלום"]


@pytest.mark.slow
def test_what_strangers_write_is_shown_as_text(razorbench, home, weights, tmp_path):
    for seed, text in enumerate(TEXTS):
        settings = ({"style": text, "lr": text}, {"kl": text, "lr": 0.1, "x": 10**18}, {})[seed % 3]
        folder = weights(f"folder {seed}", seed)
        claim = Claim(TRACK, text, "sft", text, settings=settings, contact=text, compute={"device": text})
        (folder / claims.FILE).write_text(claims.write(claim))
        ran = razorbench("submit", folder, "--track", TRACK, "--home", home)
        assert ran.code == 0, ran.err
        assert f"{text} passed the gate" in ran.out

    def well(*command: object) -> str:
        ran = razorbench(*command, "--home", home)
        assert ran.code == 0, ran.err
        return ran.out

    for command in (("queue",), ("worker", "--drain"), ("results",), ("plot", TRACK, "--out", tmp_path / "plots")):
        well(*command)
    for text in TEXTS:
        assert well("show", text).startswith(text)
        well("verify", text)
        well("hide", text, "--reason", text)
        assert well("show", text).startswith(text)


def test_track_that_cannot_be_scored_here_is_said(razorbench, home, weights, submit, monkeypatch):
    submit(weights())

    def missing(*_) -> None:
        raise sources.Refused("the images are missing; set RAZORBENCH_DATA")

    monkeypatch.setattr("razorbench.submissions.worker.ready", missing)
    ran = razorbench("worker", "--drain", "--home", home)
    assert ran.code == 2
    assert f"{TRACK} cannot be scored here: the images are missing; set RAZORBENCH_DATA" in ran.err
    assert f"cannot be scored here ({TRACK}); see why above" in ran.sentence


def test_what_has_the_form_of_an_id_is_no_name(razorbench, home, weights, submit):
    submit(weights("mine", 1))
    razorbench("worker", "--drain", "--home", home)
    (record,) = razorbench("show", "mine", "--home", home, "--json").json["end"]["records"]
    folder = weights("other", 2)
    ran = razorbench("submit", folder, "--track", TRACK, "--method", "sft", "--name", record, "--home", home)
    assert ran.code == 2
    assert "has the form of an id" in ran.sentence
    theirs = submit(folder, "--name", "theirs")["id"]
    file = queue.root(home) / theirs / "submission.json"  # as one of before may have it
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"theirs"', f'"{record}"'))
    assert queue.find(home, record) is None
    assert razorbench("hide", record, "--reason", "a test", "--home", home).code == 0
    assert [event["submission"] for event in Store(home).events()] == [record]


def test_base_and_questions_are_given_to_other_tools(razorbench, home, tmp_path):
    ran = razorbench("base", TRACK, "--out", tmp_path / "base", "--home", home)
    assert ran.code == 0, ran.err
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["model.safetensors"]
    assert razorbench("base", TRACK, "--out", tmp_path / "base", "--home", home).code == 2
    out, hashes = tmp_path / "train.jsonl", tmp_path / "train.hashes"
    ran = razorbench("questions", "mini-facts-v1", "--items", 7, "--out", out, "--hashes", hashes)
    assert ran.code == 0, ran.err
    talks = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    assert [[message["role"] for message in talk] for talk in talks] == [["user", "assistant"]] * 7
    assert [len(line) for line in hashes.read_text().splitlines()] == [64] * 7
    assert razorbench("questions", "mini-facts-v1").code == 2


def test_store_that_is_not_served_is_said(razorbench, home, weights, submit, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_STORE_TOKEN", "0123456789abcdef")
    ran = razorbench("worker", "--drain", "--store", "quark:here", "--home", home)
    assert ran.code == 2
    assert "quack:HOST:PORT" in ran.sentence
