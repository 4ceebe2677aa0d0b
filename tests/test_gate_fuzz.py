"""The gate's readers under random input: nothing but Refused comes out, and what passes keeps its promises.

`RAZORBENCH_FUZZ=100000 python -m pytest tests/test_gate_fuzz.py` makes so many cases in all.
"""

import json
import os
import struct
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from razorbench import Refused
from razorbench.submissions import claim, strict, tensors
from razorbench.submissions.claim import REPORTED, Claim, Data
from razorbench.submissions.gate import Reference, check
from tests.gate_corpus import (
    ADAPTER,
    CONFIG,
    TOKENIZER,
    VOCAB,
    adapters,
    encoded,
    lora,
    make_base,
    packed,
    put,
    weights,
)

pytestmark = pytest.mark.slow

PROPERTIES = 9

often = settings(
    max_examples=int(os.environ.get("RAZORBENCH_FUZZ", "2700")) // PROPERTIES + 1,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

HERE = tempfile.TemporaryDirectory(prefix="gate-fuzz-")
FILE = Path(HERE.name, "x.safetensors")

VALID = [packed(weights()), packed(adapters(dtype="BF16"), {"format": "pt"})]
TOML = """track = "tiny-v1"
name = "Größe 数学"
method = "sft"
licence = "MIT"
seeds = [1, 2]
contact = "a@b.org"
[settings]
lr = 1e-5
note = "x\\u00e4"
[compute]
seconds = 12.5
[[data]]
name = "a"
source = 'https://b.org'
fingerprints = "train.hashes"
[reported]
gain = 3.0
"""


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes with some pieces cut out, put in, or put in the place of others."""
    raw = valid
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 8, 40]))
        piece = draw(
            st.binary(max_size=8) | st.sampled_from([b"[" * 2000, b'"', b"{", b"}", b"NaN", b"-1", b"9" * 5000])
        )
        raw = raw[:at] + piece + raw[at + length :]
    return raw


numbers = st.integers(-2, 2**70) | st.integers(0, 64) | st.floats() | st.booleans() | st.none() | st.text(max_size=3)
rows = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*tensors.SIZES, "F8_E4M3", "", None, 1]),
        "shape": st.lists(numbers | st.integers(1, 4), max_size=10) | numbers,
        "data_offsets": st.lists(numbers, min_size=1, max_size=3) | numbers,
    },
    optional={"more": numbers},
)
headers = st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), rows | numbers, max_size=4)


def look(raw: bytes) -> None:
    """Read a file as safetensors; if it passes, its tensors must cover the data, each byte once."""
    FILE.write_bytes(raw)
    with suppress(Refused):
        header = tensors.header(FILE)
        covered = sorted((tensor.start, tensor.stop) for tensor in header.tensors.values())
        assert covered[0][0] == 8 + int.from_bytes(raw[:8], "little")
        assert all(stop == start for (_, stop), (start, _) in pairwise(covered))
        assert covered[-1][1] == len(raw)
        assert len(tensors.digest(header)) == 64
        tensors.finite(header)


@often
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_as_weights(raw):
    look(raw)


@often
@given(st.sampled_from(VALID).flatmap(mutated))
def test_mutated_weights_pass_whole_or_are_refused(raw):
    look(raw)


@often
@given(headers, st.integers(0, 64))
def test_random_headers_pass_whole_or_are_refused(header, length):
    raw = json.dumps(header).encode()
    look(struct.pack("<Q", len(raw)) + raw + bytes(length))


@often
@given(
    st.lists(st.sampled_from(list(tensors.SIZES)), min_size=1, max_size=6),
    st.lists(st.integers(1, 3), max_size=3),
    st.randoms(),
)
def test_valid_file_laid_out_anew_has_the_same_digest(dtypes, shape, random):
    size = 1
    for dim in shape:
        size *= dim
    dtypes.sort(
        key=lambda dtype: -tensors.SIZES[dtype]
    )  # large elements first, as safetensors does, so all are aligned
    made = {
        str(i): (dtype, tuple(shape), random.randbytes(size * tensors.SIZES[dtype])) for i, dtype in enumerate(dtypes)
    }
    other = sorted(made, key=lambda name: (-tensors.SIZES[made[name][0]], random.random()))
    digests = set()
    for raw in (packed(made), packed(made, {"a": "b"}, other)):
        FILE.write_bytes(raw)
        digests.add(tensors.digest(tensors.header(FILE)))
    assert len(digests) == 1


@often
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_random_text_is_refused_as_a_claim(text):
    with suppress(Refused):
        claim.read(text)


@often
@given(mutated(TOML.encode()))
def test_mutated_claim_is_refused_or_can_be_written(raw):
    with suppress(Refused):
        read = claim.read(raw.decode("utf-8", "surrogateescape"))
        assert claim.read(claim.write(read)) == read


names = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
words = st.text(min_size=1, max_size=80) | st.sampled_from(['"', "\\", "a'b", "#", "🙂", "שלום", "x\\u0041"])


def said(text: str) -> bool:
    """Whether a text may stand in a claim, by its own reader: what is tested here is writing."""
    with suppress(Refused):
        return bool(claim.words(text, 80, "it"))
    return False


lines = words.filter(said)
finite = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
claims = st.builds(
    Claim,
    track=lines,
    name=lines,
    method=st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
    licence=lines,
    seeds=st.lists(st.integers(0, 2**31 - 1), unique=True, max_size=32).map(tuple),
    contact=lines | st.just(""),
    settings=st.dictionaries(names, lines | integers | finite | st.booleans(), max_size=6),
    compute=st.dictionaries(names, lines | integers | finite, max_size=6),
    data=st.lists(st.builds(Data, lines, lines, st.sampled_from(["", "a" * 64]), st.just("x.hashes")), max_size=3).map(
        tuple
    ),
    reported=st.dictionaries(st.sampled_from(REPORTED), finite),
)


@often
@given(claims)
def test_claim_that_is_written_is_read_back_equal(made):
    again = claim.read(claim.write(made))
    assert again == made
    assert {name: type(value) for name, value in again.settings.items()} == {
        name: type(value) for name, value in made.settings.items()
    }


json_values = st.recursive(
    numbers, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=20
)


@often
@given(st.dictionaries(st.text(max_size=3), json_values).map(lambda value: json.dumps(value).encode()).flatmap(mutated))
def test_mutated_json_is_an_object_or_is_refused(raw):
    with suppress(Refused):
        assert isinstance(strict.parse(raw, "it"), dict)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """A base, and beside it a good submission that has a file of nearly every kind."""
    base = make_base(Path(HERE.name, "base"))
    lora(Path(HERE.name, "good"))
    with open(Path(HERE.name, "good/submission.toml"), "a") as file:
        file.write("[[data]]\nname = 'a'\nfingerprints = 'a.hashes'\n")
    for name, content in KINDS.items():
        put(Path(HERE.name, "good", name), content)
    check(Path(HERE.name, "good"), base)
    return base


KINDS = {
    "adapter_config.json": ADAPTER,
    "config.json": CONFIG,
    "tokenizer.json": TOKENIZER,
    "tokenizer_config.json": {"model_max_length": 10**30, "eos_token": "<|end|>"},
    "added_tokens.json": {"<|end|>": 0},
    "vocab.json": VOCAB,
    "merges.txt": "#version: 0.2\na b\n",
    "curve.jsonl": '{"step": 1, "reward": NaN}\n{"step": 2}\n',
    "a.hashes": "0123456789abcdef" * 4 + "\n" + "f" * 64,
    "README.md": "# Größe",
}


@often
@given(st.sampled_from(sorted(KINDS)).flatmap(lambda name: st.tuples(st.just(name), mutated(encoded(KINDS[name])))))
def test_submission_with_a_mutated_file_passes_or_is_refused(reference, mutation):
    name, raw = mutation
    path = Path(HERE.name, "good", name)
    path.write_bytes(raw)
    try:
        with suppress(Refused):
            check(path.parent, reference)
    finally:
        put(path, KINDS[name])


@pytest.mark.parametrize("raw", VALID)
def test_what_is_mutated_is_valid_before(raw):
    FILE.write_bytes(raw)
    assert tensors.header(FILE).tensors
    assert claim.read(TOML).name == "Größe 数学"
