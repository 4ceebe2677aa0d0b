"""Where a submission comes from: a folder or the hub; and the claim that is found in its copy, or made for it."""

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from razorbench import Refused
from razorbench.harness.learn.settings import Settings
from razorbench.submissions import claim as claims
from razorbench.submissions import source as sources
from razorbench.submissions.claim import Claim
from razorbench.submissions.copying import take
from tests.gate_corpus import LIMIT, full, put, seeds
from tests.toys import SPELLING

REVISION = "0123456789" * 4
SOURCE = f"owner/name@{REVISION}"
SAID = {"track": SPELLING.id, "name": "", "method": "sft", "licence": "", "contact": ""}


@contextmanager
def refused(*phrases: str) -> Iterator[None]:
    """Refused with one printable line that holds the phrases."""
    with pytest.raises(Refused) as raised:
        yield
    told = str(raised.value)
    assert all(phrase in told for phrase in phrases), told
    assert told.isprintable()


# --- the claim --------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path):
    """Makes a copy of a folder with weights, without a claim and with a checkpoint.json."""

    def copy(checkpoint: Any = None, make=full, file: str = "checkpoint.json") -> Path:
        make(tmp_path / "source")
        (tmp_path / "source/submission.toml").unlink()
        if checkpoint is not None:
            put(tmp_path / "source" / file, checkpoint)
        take(tmp_path / "source", tmp_path / "copy", LIMIT)
        return tmp_path / "copy"

    return copy


def made(place: Path, default: str = "mine", **said: str) -> Claim:
    """The claim that is written into a copy."""
    claim, written = sources.claim_of(place, SPELLING, {**SAID, **said}, default)
    assert written
    assert claims.load(place / claims.FILE) == claim
    return claim


def test_claim_is_written_into_the_copy_and_read_only(copy):
    place = copy()
    assert made(place, licence="MIT") == Claim(SPELLING.id, "mine", "sft", "MIT")
    assert stat.S_IMODE((place / claims.FILE).stat().st_mode) == 0o444


def test_claim_that_is_there_is_read_and_held_against_what_is_said(tmp_path):
    claim = Claim(SPELLING.id, "theirs", "sft", "MIT")
    put(tmp_path / claims.FILE, claims.write(claim))
    assert sources.claim_of(tmp_path, SPELLING, SAID, "mine") == (claim, False)
    with refused("submission.toml says method 'sft', and you say 'grpo'"):
        sources.claim_of(tmp_path, SPELLING, {**SAID, "method": "grpo"}, "mine")
    put(tmp_path / claims.FILE, b"\xff")
    with refused("submission.toml is not UTF-8"):
        sources.claim_of(tmp_path, SPELLING, SAID, "mine")


def test_claim_takes_what_adapt_wrote(copy):
    checkpoint = {"track": "other", "method": "dr-grpo", "seed": 3, "cost": {"seconds": 1.26}, "steps": 9}
    claim = made(copy(checkpoint | {"settings": vars(replace(SPELLING.settings, lr=0.5, group=7))}), method="")
    assert (claim.track, claim.method, claim.seeds, claim.compute) == (SPELLING.id, "dr-grpo", (3,), {"seconds": 1.3})
    assert claim.settings == {"lr": 0.5, "group": 7}


def test_folders_of_seeds_are_the_seeds(copy):
    place = copy({"method": "grpo", "seed": 9}, seeds, "seed-3/checkpoint.json")
    assert (claim := made(place, method="")).seeds == (3, 5)
    assert claim.method == "grpo"


def test_what_is_said_counts_more_than_what_adapt_wrote(copy):
    assert made(copy({"method": "grpo"}), method="sft").method == "sft"


ODD: Mapping[str, Any] = {
    "cost": [5, [1], {"seconds": True}, {"seconds": "9"}, {}],
    "seed": [True, -1, 2**31, 1.0, "1", [1]],
    "method": [5, "SFT", "a" * 41, "a\n", ["sft"], "\ud800"],
    "settings": [5, [1], {"more": 1}, {"lr": [1]}, {"lr": True}, {"steps": True, "style": 5, "batch": 1.5}],
    "unknown": [1, {"a": [2]}],
}
"""Values that `razorbench adapt` does not write, by key of checkpoint.json."""


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ODD.items() for value in values])
def test_odd_value_of_a_checkpoint_is_left_out(key, value, copy):
    assert made(copy({key: value})) == Claim(SPELLING.id, "mine", "sft", sources.UNSAID)


@pytest.mark.parametrize(
    ("checkpoint", "phrase"),
    [
        ('{"a":' * 40_000, "is nested without end"),
        ("[]", "an object was expected"),
        ("{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        ('{"settings": {"lr": NaN}}', "no JSON number"),
        ({"settings": {"style": "a" * 201}}, "[settings], style has 201 characters"),
        ({"settings": {"style": "\x1b[2J"}}, "[settings], style holds a control character"),
        ({"settings": {"steps": 2**63}}, "[settings] has a number of more than 64 bits"),
        ({"cost": {"seconds": 2**63}}, "[compute] has a number of more than 64 bits"),
    ],
)
def test_checkpoint_that_cannot_be_read_is_named(checkpoint, phrase, copy):
    place = copy(checkpoint)
    with refused("checkpoint.json", phrase):
        sources.claim_of(place, SPELLING, SAID, "mine")
    assert not (place / claims.FILE).exists()


def test_method_has_to_be_said_where_nothing_tells_it(copy):
    with refused("say it with --method"):
        sources.claim_of(copy(), SPELLING, {**SAID, "method": ""}, "mine")


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * 81, "\u202eb", os.fsdecode(b"\xff")])
def test_folder_whose_name_cannot_be_shown_asks_for_another(name, copy):
    place = copy()
    with refused("say another with --name"):
        sources.claim_of(place, SPELLING, SAID, name)
    assert made(place, name, name="mine").name == "mine"


def test_name_of_a_folder_is_written_as_unicode_has_it(copy):
    assert made(copy(), "Gro\u0308ße").name == "Größe"


def test_too_many_folders_of_seeds_are_counted(tmp_path):
    for seed in range(33):
        (tmp_path / f"seed-{seed}").mkdir()
    with refused("33 folders of seeds: 32 are the most"):
        sources.claim_of(tmp_path, SPELLING, SAID, "mine")


# --- leaving it with the submitter ------------------------------------------------------------------------------------


def left(place: Path, text: str) -> bool:
    """Leave a claim in a folder."""
    with sources.held(place) as folder:
        return sources.leave(folder, text)


def test_claim_is_left_in_the_folder_of_the_submitter(tmp_path):
    assert left(tmp_path, "a = 'ä'\n")
    assert (tmp_path / claims.FILE).read_text(encoding="utf-8") == "a = 'ä'\n"
    assert not left(tmp_path, "b")
    assert (tmp_path / claims.FILE).read_text(encoding="utf-8") == "a = 'ä'\n"


def test_claim_is_not_left_through_a_link_or_pipe(tmp_path):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / claims.FILE).symlink_to(tmp_path / "outside")
    assert not left(tmp_path / "link", "a")
    assert not (tmp_path / "outside").exists()
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / claims.FILE)
    assert not left(tmp_path / "pipe", "a")


def test_claim_is_left_in_the_folder_that_was_submitted_and_not_in_what_takes_its_place(tmp_path):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    with sources.held(tmp_path / "mine") as folder:
        (tmp_path / "mine").rename(tmp_path / "away")
        (tmp_path / "mine").symlink_to(tmp_path / "theirs")
        assert sources.leave(folder, "a")
    assert (tmp_path / "away" / claims.FILE).read_text() == "a"
    assert list((tmp_path / "theirs").iterdir()) == []


# --- folders and the hub ----------------------------------------------------------------------------------------------


def test_link_to_a_folder_is_followed_when_it_is_named(tmp_path):
    full(tmp_path / "source")
    (tmp_path / "latest").symlink_to("source")
    with sources.folder(str(tmp_path / "latest"), LIMIT) as place:
        assert place == (tmp_path / "source").resolve()
        take(place, tmp_path / "copy", LIMIT)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "nowhere is not a folder; name a folder, or a repository as OWNER/NAME@REVISION"),
        ("a" * 5_000, "is not a folder"),
        ("owner/name@main", "'main' may move; name the revision of owner/name by its full commit hash"),
    ],
)
def test_what_is_no_folder_is_refused(source, sentence):
    with refused(sentence), sources.folder(source, LIMIT):
        pass


class Hub:
    """A repository on the hub: the sizes of its files, and what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: dict[str, int | None] = {"model.safetensors": 10, "README.md": 2}
        self.failing: dict[str, Exception] = {}
        self.fetched: list[str] = []

        def model_info(_, repository: str, *, revision: str, files_metadata: bool) -> SimpleNamespace:
            assert (repository, revision, files_metadata) == ("owner/name", REVISION, True)
            self.fail("list")
            return SimpleNamespace(
                siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in self.sizes.items()]
            )

        def snapshot_download(repository: str, *, revision: str, local_dir: str, allow_patterns: list[str]) -> None:
            assert (repository, revision) == ("owner/name", REVISION)
            self.fail("fetch")
            self.fetched += allow_patterns
            for name in allow_patterns:
                put(Path(local_dir, name), bytes(self.sizes[name] or 0))
            put(Path(local_dir, ".cache/huggingface/download/x.lock"), "")

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)

    def fail(self, when: str) -> None:
        if when in self.failing:
            raise self.failing[when]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


def test_only_files_of_a_submission_are_fetched_from_the_hub(hub, tmp_path):
    kept = ["README.md", "LICENSE", "model.safetensors", "seed-0/config.json", "checkpoints/00000001.safetensors"]
    left = ["optimizer.pt", ".gitattributes", "checkpoint-500/adapter_model.safetensors", "seed-0/optimizer.pt"]
    left += ["a/model.safetensors", "onnx/model.onnx", "seed-0/checkpoints/x/config.json", "a*.hashes"]
    hub.sizes = dict.fromkeys(kept, 5) | dict.fromkeys(left, 2**40)
    with sources.folder(SOURCE, 25) as place:
        take(place, tmp_path / "copy", LIMIT)
    assert sorted(hub.fetched) == sorted(kept)
    assert not place.exists()


def test_repository_that_is_too_large_is_not_fetched(hub):
    with refused("has 12 bytes to fetch, and 11 are the most"), sources.folder(SOURCE, 11):
        pass
    hub.sizes |= {f"{i}.hashes": 0 for i in range(256)}
    with refused("258 files to fetch, and 256 are the most"), sources.folder(SOURCE, LIMIT):
        pass
    hub.sizes = {"model.safetensors": None}
    with refused("does not tell the size of model.safetensors"), sources.folder(SOURCE, LIMIT):
        pass
    assert hub.fetched == []


def test_repository_without_a_file_of_use_is_refused(hub):
    hub.sizes = {"pytorch_model.bin": 5}
    with refused("has no file that a submission may have"), sources.folder(SOURCE, LIMIT):
        pass


@pytest.mark.parametrize("when", ["list", "fetch"])
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError("Connection refused\nmore"), "(Connection refused)"),
        (ValueError("Repo id"), "(Repo id)"),
        (TimeoutError(), "(TimeoutError)"),
    ],
)
def test_hub_that_does_not_give_it_is_named(when, error, why, hub):
    hub.failing = {when: error}
    with refused("the hub does not give owner/name@", why), sources.folder(SOURCE, LIMIT):
        pass


def test_full_disk_is_not_the_fault_of_the_hub(hub):
    hub.failing = {"fetch": OSError(errno.ENOSPC, "No space left on device")}
    with pytest.raises(OSError, match="No space left"), sources.folder(SOURCE, LIMIT):
        pass


def test_pattern_fetches_the_file_of_that_name_alone():
    from huggingface_hub.utils import filter_repo_objects

    names = ["config.json", "seed-0/config.json", "config.json/x", "xconfig.json"]
    assert list(filter_repo_objects(names, allow_patterns=["config.json"])) == ["config.json"]


def test_folder_of_the_teacher_stays_private(copy):
    place = copy({"method": "distil", "settings": {"lr": 0.5, "teacher": "/home/me/teacher"}})
    claim = made(place)
    assert dict(claim.settings) == {"lr": 0.5}
    assert "/home/me" not in (place / "submission.toml").read_text()


def test_settings_that_a_claim_takes_have_a_plain_default():
    assert {type(value) for value in vars(Settings()).values()} <= {int, float, str}
    assert json.dumps(vars(Settings()))
