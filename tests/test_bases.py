"""Bases: made by their recipe, or shipped and held against their sha256."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from razorbench import Refused
from razorbench.harness.tracks.bases import base_files, base_policy, copy_into, policy_digest, pretrain
from razorbench.harness.tracks.catalogue import find_base
from razorbench.harness.tracks.origins import file_sha256
from razorbench.harness.tracks.spec import Base
from tests.toys import SPELLING

pytestmark = pytest.mark.usefixtures("toys")
BASE = SPELLING.base


class Killed(Exception):
    pass


def die_at(step: int):
    def tell(report, steps):
        if report.step == step:
            raise Killed

    return tell


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The toy base as one that the package brings."""
    file = tmp_path / "weights" / "model.safetensors"
    file.parent.mkdir()
    pretrain(BASE, file)
    monkeypatch.setattr(Base, "shipped", property(lambda base: file))
    return replace(BASE, sha256=file_sha256(file)), file


def test_base_is_made_on_first_use_and_then_kept(tmp_path):
    first = base_policy(BASE, tmp_path)
    made = BASE.made(tmp_path).stat().st_mtime_ns
    assert policy_digest(base_policy(BASE, tmp_path)) == policy_digest(first)
    assert BASE.made(tmp_path).stat().st_mtime_ns == made


def test_shipped_base_is_loaded_and_nothing_is_made(shipped, tmp_path):
    base, _ = shipped
    assert policy_digest(base_policy(base, tmp_path)) == policy_digest(base_policy(BASE, tmp_path / "other"))
    assert not (tmp_path / "bases").exists()


def test_shipped_base_that_is_damaged_or_missing_is_refused_with_the_cure(shipped, tmp_path):
    base, file = shipped
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(Refused, match="is damaged; install razorbench again"):
        base_policy(base, tmp_path)
    file.unlink()
    with pytest.raises(Refused, match="is missing; install razorbench again"):
        base_policy(base, tmp_path)


def test_pretraining_that_was_killed_goes_on_and_makes_the_same_file(tmp_path):
    pretrain(BASE, tmp_path / "whole")
    with pytest.raises(Killed):
        pretrain(BASE, tmp_path / "half", save_every=20, tell=die_at(30))
    steps = []
    pretrain(BASE, tmp_path / "half", save_every=20, tell=lambda report, total: steps.append(report.step))
    assert steps[0] == 21
    assert (tmp_path / "half").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "whole"]


def test_state_of_another_recipe_is_not_gone_on_with(tmp_path):
    with pytest.raises(Killed):
        pretrain(BASE, tmp_path / "out", save_every=20, tell=die_at(30))
    steps = []
    pretrain(replace(BASE, seed=1), tmp_path / "out", tell=lambda report, total: steps.append(report.step))
    assert steps[0] == 1


def test_threads_are_the_recipe_s_and_then_as_before(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    before, seen = torch.get_num_threads(), []
    pretrain(replace(BASE, threads=2), tmp_path / "out", tell=lambda *_: seen.append(torch.get_num_threads()))
    assert set(seen) == {2}
    assert torch.get_num_threads() == before


def test_base_is_found_without_its_version_and_near_misses_are_named():
    assert find_base("speller") is find_base("speller-v1") is BASE
    with pytest.raises(Refused, match="unknown base 'spelller'; did you mean 'speller-v1'"):
        find_base("spelller")


def test_copy_of_a_base_is_read_by_transformers_4_too_and_says_the_same_to_5(tmp_path):
    """4.57 ends at a list of extra tokens (`'list' object has no attribute 'keys'`); they are special without it."""
    files = base_files(find_base("mini-lm-v1"), tmp_path)
    copy_into(tmp_path / "copy", files)
    assert "extra_special_tokens" in json.loads(files["tokenizer_config.json"].read_text())
    assert "extra_special_tokens" not in json.loads((tmp_path / "copy/tokenizer_config.json").read_text())
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {*files}
    own, copied = (
        AutoTokenizer.from_pretrained(folder) for folder in (files["tokenizer.json"].parent, tmp_path / "copy")
    )
    talk = [{"role": "user", "content": "How many 7's? <|im_start|> Größe"}]
    ids = [each.apply_chat_template(talk, add_generation_prompt=True)["input_ids"] for each in (own, copied)]
    assert ids[0] == ids[1]
    assert own.decode(ids[0], skip_special_tokens=True) == copied.decode(ids[0], skip_special_tokens=True)
