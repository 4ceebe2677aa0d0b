"""No door holds the weights of a large model: they are read in pieces, whose memory does not grow with the model."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.costs import Cost, apart, measured
from benchmarks.doors import empty, model
from razorbench import Refused
from razorbench.harness.learn.runtime import AUTO
from razorbench.harness.tracks.bases import base_digest, base_policy, policy_digest, shaped
from razorbench.harness.tracks.origins import Folder, content_digest
from razorbench.harness.tracks.spec import Base
from razorbench.submissions.copying import limit, take
from razorbench.submissions.gate import Reference, check

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak of memory of a call")

T = TypeVar("T")

SMALL = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "tie_word_embeddings": True,
    "num_hidden_layers": 16,
}
"""Whose weights are 127 MB in bf16, in tensors of at most 4 MB."""
BOUND = 64
"""MiB: half of the weights as they are kept."""
CLAIM = 'track = "small-v1"\nname = "a large one"\nmethod = "sft"\nlicence = "Apache-2.0"\n'


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A model whose files are zeros."""
    model(tmp_path / "base", SMALL, part=50 * 10**6)
    assert len([*(tmp_path / "base").glob("*.safetensors")]) == 3
    return Base("small-v1", "causal-lm-v1", origin=Folder(str(tmp_path / "base"), content_digest(tmp_path / "base")))


def peak(what: Callable[[], T]) -> tuple[T, float]:
    """What a call returns that has been made before, and the most memory that it took, MiB; in a process apart."""

    def twice() -> tuple[T, Cost]:
        what()  # libraries are loaded
        return measured(what)

    found, cost = apart(twice)
    return found, cost.mib


@pytest.mark.slow
def test_base_is_checked_without_being_held(base, tmp_path):
    told, mib = peak(partial(base_digest, base, tmp_path))
    loaded, cost = measured(lambda: policy_digest(base_policy(base, tmp_path)))  # by threads, which no fork has
    assert told == loaded
    assert mib < BOUND < 3 * BOUND < cost.mib  # who loads it holds it in float32


def test_plan_holds_shapes_alone(base, tmp_path):
    numbers, mib = peak(lambda: sum(x.numel() for x in shaped(base, tmp_path, {}, AUTO).parameters()))
    assert numbers > 60e6
    assert mib < BOUND


def test_gate_reads_a_checkpoint_in_pieces(base, tmp_path):
    tensors = model(tmp_path / "other", SMALL)
    source, reference = tmp_path / "out", Reference("small-v1", tmp_path / "base" / "model.safetensors.index.json")
    source.mkdir()
    empty(source / "model.safetensors", tensors, b"\x80\x3f")  # its last number is 1
    (source / "submission.toml").write_text(CLAIM)
    copies = iter(tmp_path / f"copy-{at}" for at in range(9))

    def brought() -> str:
        copy = next(copies)
        take(source, copy, limit(reference.bytes, 1))
        return check(copy, reference).kind

    kind, mib = peak(brought)
    assert kind == "full"
    assert mib < BOUND


@pytest.mark.parametrize(("last", "sentence"), [(b"\xc0\x7f", "NaN or infinity"), (b"\0\0", "the base's own weights")])
def test_gate_reads_to_the_last_number(base, tmp_path, last, sentence):
    tensors = model(tmp_path / "other", SMALL)
    (tmp_path / "out").mkdir()
    empty(tmp_path / "out" / "model.safetensors", tensors, last)
    (tmp_path / "out" / "submission.toml").write_text(CLAIM)
    with pytest.raises(Refused, match=sentence):
        check(tmp_path / "out", Reference("small-v1", tmp_path / "base" / "model.safetensors.index.json"))


def test_weights_that_only_a_loaded_model_tells_of_are_loaded(base, tmp_path):
    """A head that is the embedding's is in some files a tensor of its own, which transformers leaves out."""
    tensors = model(tmp_path / "other", {**SMALL, "num_hidden_layers": 1})
    for file in (tmp_path / "other").glob("*.safetensors*"):
        file.unlink()
    empty(tmp_path / "other" / "model.safetensors", tensors | {"lm_head.weight": [4096, 512]})
    tied = Base("tied-v1", "causal-lm-v1", origin=Folder(str(tmp_path / "other"), content_digest(tmp_path / "other")))
    assert base_digest(tied, tmp_path) == policy_digest(base_policy(tied, tmp_path))


def test_a_broken_file_is_refused_where_it_is_read_in_pieces(base, tmp_path):
    file = min((tmp_path / "base").glob("*.safetensors"))
    with open(file, "r+b") as opened:
        opened.truncate(1000)
    broken = Base("broken-v1", "causal-lm-v1", origin=Folder(str(tmp_path / "base"), content_digest(tmp_path / "base")))
    with pytest.raises(Refused, match=f"{file.name} is not a readable safetensors file"):
        base_digest(broken, tmp_path)
