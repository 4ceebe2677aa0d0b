"""Submissions good and bad, made from a tiny base, and what the gate says of each.

`python -m tests.gate_corpus` prints how many there are, which takes longest, and the peak of memory.
"""

import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Refused
from razorbench.submissions.copying import take
from razorbench.submissions.gate import Passed, Reference, check

LIMIT = 2**26
"""Bytes that a submission of the corpus may have."""

TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
SAME = "{%- for m in messages -%}<{{ m.role }}>{{ m.content }}<|end|>{%- endfor -%}<assistant>"
"""What renders the same, written otherwise."""

CONFIG = {"model_type": "tiny", "architectures": ["Tiny"], "hidden_size": 4, "use_cache": True, "dtype": "float32"}
VOCAB = {"<|end|>": 0, "a": 1, "b": 2, "ab": 3}
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 0, "content": "<|end|>"}],
    "normalizer": {"type": "NFC"},
    "model": {"type": "BPE", "vocab": VOCAB, "merges": [["a", "b"]]},
}
ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["q_proj", "down_proj"]}

SHAPES = {
    "model.embed_tokens.weight": (4, 4),
    "model.layers.0.input_layernorm.weight": (4,),
    "model.layers.0.mlp.down_proj.weight": (4, 6),
    "model.layers.0.self_attn.q_proj.weight": (4, 4),
    "model.layers.0.self_attn.k_proj.weight": (2, 4),
}
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"

Tensors = Mapping[str, tuple[str, tuple[int, ...], bytes]]
"""dtype, shape and bytes by name."""


# --- writing files ----------------------------------------------------------------------------------------------------


def encoded(content: Any) -> bytes:
    """Bytes as they are, text as UTF-8, any other value as JSON; large ones are made when they are wanted."""
    if callable(content):
        content = content()
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode("utf-8", "surrogatepass")


def put(path: Path, content: Any) -> None:
    """Write what `encoded` makes of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(content))


def safetensors(header: Any, data: bytes = b"") -> bytes:
    """A file with that header, be it JSON already or not."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def packed(tensors: Tensors, metadata: Mapping[str, str] | None = None, order: Iterable[str] = ()) -> bytes:
    """Tensors as a safetensors file, in an order of one's own."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name in order or tensors:
        dtype, shape, raw = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return safetensors(header, data)


def numbers(x: np.ndarray, dtype: str = "F32") -> tuple[str, tuple[int, ...], bytes]:
    """An array as a tensor of floats."""
    if dtype == "BF16":
        return dtype, x.shape, (x.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return dtype, x.shape, x.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def weights(seed: int = 1, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> dict[str, Any]:
    """Weights as an adaptation may leave them; seed 0 is the base."""
    random = np.random.default_rng(seed)
    return {name: numbers(random.normal(size=shape)) for name, shape in shapes.items()}


def adapters(r: int = 2, dtype: str = "F32", modules: Iterable[str] = (Q, DOWN), seed: int = 1) -> dict[str, Any]:
    """LoRA adapters as peft names them."""
    random, named = np.random.default_rng(seed), {}
    for module in modules:
        out, into = SHAPES[f"{module}.weight"]
        named[f"base_model.model.{module}.lora_A.weight"] = numbers(random.normal(size=(r, into)), dtype)
        named[f"base_model.model.{module}.lora_B.weight"] = numbers(random.normal(size=(out, r)), dtype)
    return named


def claim(at: Path, more: str = "", **lines: str | None) -> None:
    """Write submission.toml; each line is TOML, None leaves it out."""
    plain: dict[str, str | None] = {"track": '"tiny-v1"', "name": '"Tiny"', "method": '"sft"', "licence": '"MIT"'}
    text = "".join(f"{name} = {value}\n" for name, value in {**plain, **lines}.items() if value is not None)
    put(at / "submission.toml", text + more)


def full(at: Path) -> None:
    """A good submission of full weights."""
    claim(at)
    put(at / "model.safetensors", packed(weights()))


def lora(at: Path) -> None:
    """A good submission of adapters."""
    claim(at)
    put(at / "adapter_model.safetensors", packed(adapters()))
    put(at / "adapter_config.json", ADAPTER)


def seeds(at: Path) -> None:
    """A good submission of two seeds."""
    claim(at, seeds="[3, 5]")
    for seed in (3, 5):
        put(at / f"seed-{seed}" / "model.safetensors", packed(weights(seed)))


def make_base(folder: Path) -> Reference:
    """The base of the track tiny-v1, a language model of 86 numbers."""
    put(folder / "model.safetensors", packed(weights(0)))
    put(folder / "config.json", CONFIG)
    put(folder / "tokenizer.json", TOKENIZER)
    put(folder / "tokenizer_config.json", {"chat_template": TEMPLATE, "eos_token": "<|end|>"})
    return Reference("tiny-v1", folder / "model.safetensors", folder)


# --- what is refused --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A good submission, what spoils it, and a phrase of the sentence that refuses it."""

    name: str
    phrase: str
    spoil: Callable[[Path], Any]
    start: Callable[[Path], None] = full
    language: bool = True


CASES: list[Case] = []


def case(
    phrase: str, spoils: Mapping[str, Callable[[Path], Any]], start: Callable[[Path], None] = full, **more
) -> None:
    """Add cases that one rule refuses."""
    CASES.extend(Case(name, phrase, spoil, start, **more) for name, spoil in spoils.items())


def writes(name: str, content: Any) -> Callable[[Path], None]:
    """Put a file there."""
    return lambda at: put(at / name, content)


def says(more: str = "", **lines: Any) -> Callable[[Path], None]:
    """Claim something else: more lines of TOML, and others in the place of those that `claim` writes."""
    return lambda at: claim(at, more, **lines)


class Payload:
    """Its pickle writes a file when it is opened."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def pickled(name: str) -> Callable[[Path], None]:
    """A pickle that would leave a witness beside the submission."""
    return lambda at: put(at / name, pickle.dumps(Payload(at.parent / "witness")))


def replaced(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Put something else in the place of a file."""

    def spoil(at: Path) -> None:
        (at / name).unlink(missing_ok=True)
        make(at / name)

    return spoil


def bound(path: Path) -> None:
    """A socket; the address is relative, for it may have 108 bytes only."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def nested(levels: int) -> str:
    """JSON or TOML within brackets."""
    return "[" * levels + "]" * levels


PK, ELF = b"PK\x03\x04\x14\x00\x00\x00\x08\x00", b"\x7fELF\x02\x01\x01\x00"

# Files and folders.
ENDINGS = ("bin", "pt", "pth", "pkl", "ckpt", "joblib", "npy", "npz")
case("pickle can run code", {f"a pickle, .{ending}": pickled(f"pytorch_model.{ending}") for ending in ENDINGS})
case("code is never run", {"Python": writes("modeling_tiny.py", "import os"), "a shared object": writes("x.so", ELF)})
case(
    "unpack it", {"a zip": writes("model.zip", PK), "a tar": writes("model.tar", b""), "gzip": writes("a.json.gz", b"")}
)
FORMATS = ("gguf", "onnx", "h5", "msgpack")
case("convert to safetensors", {f"another format, .{each}": writes(f"model.{each}", b"") for each in FORMATS})
case(" is not used: remove it", {"weights": writes("weights.safetensors", b""), "log": writes("train.log", "")})
case(" is not used: remove it", {"a shard of adapters": writes("adapter_model-00001-of-00002.safetensors", b"")})
case("is a part of weights", {"a shard beside weights": writes("model-00001-of-00002.safetensors", b"")})
case("git's own", {"git modules": writes(".gitmodules", ""), "git of another": writes(".github/x.yaml", "")})
case("hidden files", {"dots": writes(".hidden", ""), "three dots": writes(".../x", ""), "option": writes("-rf", "")})
NAMES = {
    "Unicode": "mödel.safetensors",
    "space": "model .safetensors",
    "newline": "config.json\n",
    "control": "a\x1b[2Jb",
}
NAMES |= {"right to left": "\u202enosj.gifnoc", "backslash": "a\\config.json", "not UTF-8": os.fsdecode(b"\xff\xfe")}
case("is a name with other", {f"name: {name}": writes(each, "") for name, each in NAMES.items()})
case("100 are the most", {"name: long": writes("a" * 101, "")})
case(
    "differ in case alone",
    {
        "name: case": writes("Model.safetensors", ""),
        "LICENSE": lambda at: [put(at / n, "") for n in ("LICENSE", "license")],
    },
)
LINK = "is a symbolic link"
case(LINK, {"symlink out": lambda at: (at / "README.md").symlink_to("/etc/passwd")})
case(LINK, {"symlink within": lambda at: (at / "README.md").symlink_to("submission.toml")})
case(LINK, {"symlink in place of weights": replaced("model.safetensors", lambda path: path.symlink_to("/dev/zero"))})
case(LINK, {"symlink to a folder": lambda at: (at / "checkpoints").symlink_to("/")})
case(LINK, {"symlink to itself": lambda at: (at / "README.md").symlink_to("README.md")})
case("is a hard link", {"hard link": lambda at: os.link(at / "submission.toml", at / "README.md")})
case(
    "device, pipe or socket",
    {"pipe": lambda at: os.mkfifo(at / "README.md"), "socket": lambda at: bound(at / "README.md")},
)
case("device, pipe or socket", {"pipe in place of weights": replaced("model.safetensors", os.mkfifo)})
case(
    "is a folder that is not used",
    {"folder": writes("more/README.md", ""), "deep": writes("checkpoints/checkpoints/x", "")},
)
case("is a folder that is not used", {"seed with zeros": writes("seed-007/README.md", "")})
case("is a folder that is not used", {"seed too large": writes("seed-2147483648/README.md", "")})
case("is a folder that is not used", {"file that is a folder": lambda at: (at / "README.md").mkdir()})
case("not a checkpoint by its step", {"step with 7 digits": writes("checkpoints/0000001.safetensors", b"")})
case("not a checkpoint by its step", {"pickle of a step": pickled("checkpoints/00000001.pt")})
case("is step 0, which is the base", {"step 0": writes("checkpoints/00000000.safetensors", packed(weights()))})
case(
    "more than 64 checkpoints",
    {"checkpoints": lambda at: [put(at / f"checkpoints/{i:08}.safetensors", b"") for i in range(1, 66)]},
)
case("more than 256 entries", {"entries": lambda at: [put(at / f"{i}.hashes", "") for i in range(300)]})
case(
    "more than 256 files",
    {"files": lambda at: [put(at / f"seed-{s}/{i}.hashes", "") for s in range(3) for i in range(99)]},
)
case("second submission.toml", {"claims": writes("seed-3/submission.toml", "")}, seeds)
case("the most for a file of that name", {"README": writes("README.md", "a" * (2**20 + 1))})
case("left of what a submission may have", {"sparse": lambda at: os.truncate(at / "model.safetensors", 2**40)})

# The claim.
case("has no submission.toml", {"no claim": lambda at: (at / "submission.toml").unlink()})
case("larger than 64 KiB", {"claim: long": says(name=f'"{"a" * 66_000}"')})
case("1,000 lines or 1,000 dots", {"claim: dots": says("a." * 30_000 + "a = 1"), "claim: lines": says("\n" * 2_000)})
case("needs tables of plain values", {"claim: brackets": says(seeds=nested(30_000))})
case("needs tables of plain values", {"claim: inline tables": says(settings="{a = " * 9_000 + "1" + "}" * 9_000)})
TOMLS = {"syntax": "= 1", "twice": 'track = "tiny-v1"', "digits": "a = " + "9" * 60_000, "date": "a = 2020-99-99"}
case("is not TOML", {f"claim: {name}": says(more) for name, more in TOMLS.items()})
case("is not UTF-8 text", {"claim: latin-1": writes("submission.toml", b'track = "\xe4"')})
case(
    "has the unknown key",
    {"claim: key": says(licens='"MIT"'), "claim: key of data": says("[[data]]\nname = 'a'\nurl = 'b'")},
)
DEEP = f"[{'a.' * 990}a]\n" + "".join(f"x{i} = 1\n" for i in range(980))
case("has the unknown key", {"claim: deep table": says(DEEP), "claim: deep key": says("a." * 990 + "a = 1")})
for each in ("track", "name", "method", "licence"):
    case(f"lacks {each}", {f"claim without {each}": partial(claim, **{each: None})})
case("write a text in quotes", {"claim: number for a text": says(name="7"), "claim: list": says(contact="['a']")})
case("has nothing for", {"claim: empty": says(name='""')})
case("characters: 80 are the most", {"claim: name": says(name=f'"{"a" * 81}"')})
BREAKS = {
    "escape": "\\u001b[2J",
    "newline": "a\\nb",
    "NUL": "\\u0000",
    "line separator": "a\\u2028b",
    "delete": "\\u007f",
}
case("control character or line break", {f"claim: {name}": says(name=f'"{text}"') for name, text in BREAKS.items()})
case("no assigned Unicode character", {"claim: unassigned": says(name='"a\\U000E0FFF"')})
case("turns the order", {f"claim: {mark}": says(name=f'"a\\u{mark}b"') for mark in ("202E", "2066")})
case("form NFC", {"claim: NFD": says(name='"e\u0301"')})
case("has the form of an id", {"claim: id": says(name='"0123456789abcdef"')})
case("is blank", {"claim: blank": says(name='"  "'), "claim: invisible": says(name='"\u200b\u200b"')})
case("use lower-case letters, digits and '-'", {"claim: method": says(method='"../sft"')})
case("is for the track", {"claim: track": says(track='"tiny-v2"')})
case(
    "seeds are whole numbers",
    {f"claim: seed {x}": says(seeds=f"[{x}]") for x in ("-1", "true", "1.0", "'1'", "2147483648")},
)
case("names a seed twice", {"claim: seeds": says(seeds="[1, 1]")})
case("for seeds: write a list", {"claim: seeds in a text": says(seeds="'1'")})
case("33 seeds: 32 are the most", {"claim: many seeds": says(seeds=str(list(range(33))))})
case("for settings: write a table", {"claim: settings": says(settings="[]")})
case(
    "rows in [settings]: 64", {"claim: many settings": says("[settings]\n" + "".join(f"a{i} = 1\n" for i in range(65)))}
)
case("40 at most", {"claim: name of a setting": says('[settings]\n"__class__" = 1')})
case("write a finite number, or leave", {f"claim: {x}": says(f"[settings]\nlr = {x}") for x in ("nan", "inf", "1e999")})
case(
    "more than 64 bits",
    {
        "claim: bits": says("[settings]\nlr = 9223372036854775808"),
        "claim: hex": says(f"[settings]\na = 0x{'f' * 50_000}"),
    },
)
case(
    "write a text, a number, true or false",
    {"claim: date of a setting": says("[settings]\nlr = 2020-01-01"), "claim: table": says("[settings.a]\nb = 1")},
)
case("in [compute]", {"claim: compute": says("[compute]\ngpu = true")})
case("which is not measured", {"claim: reported": says("[reported]\ngains = 1.0")})
case("as '7': write a number", {"claim: reported text": says("[reported]\ngain = '7'")})
case("write tables [[data]]", {"claim: data": says(data="[1]")})
case("has the sha256", {"claim: sha256": says("[[data]]\nname = 'a'\nsha256 = 'xyz'")})
case("name a file like", {"claim: path": says("[[data]]\nname = 'a'\nfingerprints = '../../etc/passwd'")})

# Folders and weights that do not agree with the claim.
case("holds neither", {"no weights": lambda at: (at / "model.safetensors").unlink()})
case("holds neither", {"seed without weights": lambda at: shutil.rmtree(at / "seed-5")}, seeds)
case("holds both", {"two kinds": lambda at: lora(at)})
case(
    "some seeds bring full weights",
    {
        "seeds of two kinds": lambda at: [
            shutil.rmtree(at / "seed-5"),
            lora(at / "seed-5"),
            (at / "seed-5/submission.toml").unlink(),
        ]
    },
    seeds,
)
case("add the seed or remove the folder", {"undeclared seed": writes("seed-7/model.safetensors", b"")}, seeds)
case("add the seed or remove the folder", {"seed that was not said": writes("seed-7/model.safetensors", b"")})
case(
    "lies beside the folders of seeds",
    {
        "weights in the root": writes("model.safetensors", b""),
        "steps in the root": writes("checkpoints/00000001.safetensors", b""),
    },
    seeds,
)
case(
    "lies beside the folders of seeds",
    {"one seed in two places": lambda at: [says(seeds="[7]")(at), put(at / "seed-7/model.safetensors", b"")]},
)
case(
    "add the seed or remove the folder",
    {"another seed": lambda at: [says(seeds="[7]")(at), put(at / "seed-8/model.safetensors", b"")]},
)
case("describes adapters, and there are none", {"stray adapter_config": writes("adapter_config.json", ADAPTER)})
case("is not in the folder: add that file", {"fingerprints": says("[[data]]\nname = 'a'\nfingerprints = 'a.hashes'")})
case("is named by no [[data]]", {"hashes": writes("a.hashes", ""), "hashes of a seed": writes("a.hashes", "")})


def hashes(raw: bytes | Callable[[], bytes]) -> Callable[[Path], Any]:
    """A file of fingerprints that the claim names."""
    return lambda at: [says("[[data]]\nname = 'a'\nfingerprints = 'a.hashes'")(at), put(at / "a.hashes", raw)]


LINES = {"upper case": b"A" * 64 + b"\n", "short": b"a" * 63 + b"\n", "CR": b"a" * 64 + b"\r", "empty line": b"\n"}
LINES |= {"two kinds of ends": b"a" * 64 + b"\r\n" + b"a" * 64 + b"\n\n"}
case("are no fingerprints", {f"fingerprints: {name}": hashes(raw) for name, raw in LINES.items()})
case("1,000,000 fingerprints", {"fingerprints: many": hashes(lambda: (b"a" * 64 + b"\n") * 1_000_001)})

# Safetensors that are none.
ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def tensor(**changes: Any) -> Callable[[Path], None]:
    """One tensor of two numbers, described otherwise."""
    return writes("model.safetensors", safetensors({"a": {**ROW, **changes}}, bytes(8)))


def rows(*each: tuple[str, Any], data: int = 8) -> Callable[[Path], None]:
    """A header of rows, keys perhaps twice."""
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(row)}" for name, row in each) + "}"
    return writes("model.safetensors", safetensors(text.encode(), bytes(data)))


def headed(raw: bytes, data: int = 8) -> Callable[[Path], None]:
    """A header as bytes."""
    return writes("model.safetensors", safetensors(raw, bytes(data)))


case("too few for safetensors", {"weights: empty": writes("model.safetensors", b"")})
case("16 MiB are the most in safetensors", {"weights: header bomb": writes("model.safetensors", b"\xff" * 100)})
case(
    "16 MiB are the most in safetensors",
    {
        "weights: pickle": pickled("model.safetensors"),
        "weights: zip": writes("model.safetensors", PK * 9),
        "weights: ELF": writes("model.safetensors", ELF * 9),
    },
)
case("ends within its header", {"weights: cut off": writes("model.safetensors", struct.pack("<Q", 1000) + b"{}")})
case(
    "does not begin as safetensors do",
    {"weights: array": headed(b"[]"), "weights: space first": headed(b" {}"), "weights: zip within": headed(PK)},
)
case("is not UTF-8 (byte", {"weights: not UTF-8": headed(b'{"\xff": 1}')})
case("JSON values: bring less", {"weights: values": lambda at: headed(b'{"a":[' + b"[]," * 5_000_000 + b"[]]}")(at)})
case("is nested without end", {"weights: brackets": headed(b'{"a":' + nested(100_000).encode() + b"}")})
case("is nested more than 32", {"weights: nested": headed(b'{"a":' + nested(40).encode() + b"}")})
case("is not JSON", {"weights: half": headed(b'{"a":'), "weights: digits": headed(b'{"a":' + b"9" * 99_999 + b"}")})
case("is not JSON", {"weights: NUL padding": headed(b"{}" + bytes(9)), "weights: two objects": headed(b"{}{}")})
case("no JSON number", {"weights: NaN": headed(b'{"a":NaN}')})
case("too large for a float", {"weights: float": headed(b'{"a":1e999}')})
case("twice: keep one", {"weights: tensor twice": rows(("a", ROW), ("a", ROW))})
case("holds no tensors", {"weights: no tensors": headed(b"{}", 0)})
case(
    "tensors: 20,000 are the most",
    {"weights: 20,001": headed(json.dumps({str(i): 0 for i in range(20_001)}).encode())},
)
case(
    "metadata that are not texts",
    {
        "weights: metadata": rows(("__metadata__", {"a": 1}), ("a", ROW)),
        "weights: metadata list": rows(("__metadata__", [])),
    },
)
case(
    "more than 64 metadata",
    {
        "weights: many metadata": rows(("__metadata__", dict.fromkeys(map(str, range(65)), "")), ("a", ROW)),
        "weights: long metadata": rows(("__metadata__", {"a": "a" * 70_000}), ("a", ROW)),
    },
)
case(
    "names a tensor",
    {
        "weights: tensor without name": rows(("", ROW)),
        "weights: tensor of Unicode": rows(("ä", ROW)),
        "weights: escape": rows(("\x1b", ROW)),
        "weights: long name": rows(("a" * 257, ROW)),
    },
)
case(
    "is not described by",
    {
        "weights: more keys": tensor(code="x"),
        "weights: no dtype": rows(("a", {"shape": [], "data_offsets": []})),
        "weights: text": rows(("a", "F32")),
    },
)
case(
    "has the dtype",
    {
        "weights: F8": tensor(dtype="F8_E4M3"),
        "weights: dtype list": tensor(dtype=["F32"]),
        "weights: object": tensor(dtype="O"),
    },
)
case("at most 8 numbers", {"weights: 9 dims": tensor(shape=[1] * 9), "weights: shape text": tensor(shape="2")})
case("that are not negative", {f"weights: shape {x}": tensor(shape=[x]) for x in (-2, 2.0, True, "2", None, 10**30)})
case("has no elements", {"weights: zero-length": tensor(shape=[0], data_offsets=[0, 0])})
case(
    "has the data_offsets",
    {f"weights: offsets {x}": tensor(data_offsets=x) for x in ([0], [0, 8, 9], [0.0, 8.0], [False, 8], "08", {})},
)
case(
    "outside of the",
    {f"weights: at {x}": tensor(data_offsets=x) for x in ([-8, 0], [8, 0], [0, 16], [2**63, 2**63 + 8])},
)
case(
    "which is not its shape",
    {
        "weights: 10^9 elements": tensor(shape=[10**9]),
        "weights: overflow": tensor(shape=[2**32, 2**31, 2]),
        "weights: short": tensor(shape=[1]),
    },
)
case(
    "not aligned",
    {
        "weights: aligned": rows(
            ("a", {**ROW, "dtype": "U8", "shape": [1], "data_offsets": [0, 1]}),
            ("b", {**ROW, "data_offsets": [1, 9]}),
            data=9,
        )
    },
)
case("a hole before", {"weights: hole": rows(("a", {**ROW, "data_offsets": [8, 16]}), data=16)})
case(
    "an overlap at",
    {
        "weights: overlap": rows(("a", ROW), ("b", {**ROW, "data_offsets": [4, 12]}), data=12),
        "weights: one place": rows(("a", ROW), ("b", ROW)),
    },
)
case("behind its last tensor", {"weights: trailing": lambda at: put(at / "model.safetensors", packed(weights()) + PK)})


def filled(value: float, dtype: str) -> Callable[[Path], None]:
    """Adapters, one number of which is not finite."""
    x = np.ones((2, 4))
    x[1, 3] = value
    return writes(
        "adapter_model.safetensors",
        packed(adapters(dtype=dtype) | {f"base_model.model.{Q}.lora_A.weight": numbers(x, dtype)}),
    )


case(
    "NaN or infinity",
    {
        f"weights: {value} in {dtype}": filled(value, dtype)
        for value in (np.nan, np.inf, -np.inf)
        for dtype in ("F32", "F16", "BF16")
    },
    lora,
)
case(
    "NaN or infinity",
    {
        "steps: NaN": writes(
            "checkpoints/00000001.safetensors",
            packed(weights() | {"model.layers.0.input_layernorm.weight": numbers(np.full(4, np.nan))}),
        )
    },
)

# Full weights.
LESS = {name: shape for name, shape in SHAPES.items() if "k_proj" not in name}


def shaped(**changes: Any) -> bytes:
    """Weights with other shapes."""
    return packed(weights(shapes={**SHAPES, **changes}))


case(
    "model.safetensors lacks 'model.layers",
    {"full: lacks one": writes("model.safetensors", packed(weights(shapes=LESS)))},
)
case("which the base has not: bring weights", {"full: one more": writes("model.safetensors", shaped(more=(2,)))})
case(
    "the base has F32 [4]",
    {"full: shape": writes("model.safetensors", shaped(**{"model.layers.0.input_layernorm.weight": (5,)}))},
)
case(
    "the base has F32 [4]",
    {
        "full: dtype": writes(
            "model.safetensors",
            packed(weights() | {"model.layers.0.input_layernorm.weight": numbers(np.ones(4), "F64")}),
        )
    },
)
case("other differences", {"full: another model": rows(("a", ROW))})
case(
    "00000001.safetensors lacks",
    {"full: steps of another": writes("checkpoints/00000001.safetensors", packed(weights(shapes=LESS)))},
)
case(
    "the base's own weights",
    {
        "full: the base": writes("model.safetensors", packed(weights(0))),
        "full: the base in another order": writes(
            "model.safetensors", packed(weights(0), {"format": "pt"}, reversed(SHAPES))
        ),
    },
)
case(
    "each seed needs a run",
    {"seeds: the same": writes("seed-5/model.safetensors", packed(weights(3), {"a": "b"}))},
    seeds,
)

# Adapters.


def adapted(tensors: Tensors) -> Callable[[Path], None]:
    """Other adapters."""
    return writes("adapter_model.safetensors", packed(tensors))


def described(**changes: Any) -> Callable[[Path], None]:
    """Another adapter_config.json."""
    return writes("adapter_config.json", {**ADAPTER, **changes})


def both(tensors: Tensors, told: Mapping[str, Any], **changes: Any) -> Callable[[Path], Any]:
    """Other adapters, and another adapter_config.json."""
    return lambda at: [adapted(tensors)(at), put(at / "adapter_config.json", {**told, **changes})]


QA, QB = f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight"
ONE = adapters(modules=[Q])
EMBED = "base_model.model.model.embed_tokens"
case("lacks adapter_config.json", {"lora: undescribed": lambda at: (at / "adapter_config.json").unlink()}, lora)
case(
    "which is no lora_A or lora_B",
    {
        "lora: bias": adapted(ONE | {f"base_model.model.{Q}.bias": numbers(np.ones(4))}),
        "lora: DoRA": adapted(ONE | {f"base_model.model.{Q}.lora_magnitude_vector.weight": numbers(np.ones(4))}),
        "lora: full tensors": adapted(weights()),
    },
    lora,
)
case(
    "can be adapted",
    {
        "lora: embeddings": adapted({f"{EMBED}.lora_A.weight": numbers(np.ones((2, 4)))}),
        "lora: unknown map": adapted({QA.replace("layers.0", "layers.9"): ONE[QA]}),
    },
    lora,
)
case("without its other half", {"lora: A alone": adapted({QA: ONE[QA]}), "lora: B alone": adapted({QB: ONE[QB]})}, lora)
case("adapters in F64", {"lora: F64": adapted(adapters(dtype="F64"))}, lora)
case(
    "and r = 2 needs",
    {
        "lora: rank": adapted(adapters(r=3)),
        "lora: transposed": adapted({QA: numbers(np.ones((4, 2))), QB: numbers(np.ones((2, 4)))}),
    },
    lora,
)


def steps(tensors: Tensors, folder: str = "") -> Callable[[Path], None]:
    """Adapters in mid-training, and how they are scaled."""

    def spoil(at: Path) -> None:
        put(at / folder / "checkpoints/00000001.safetensors", packed(tensors))
        put(at / folder / "checkpoints/adapter_config.json", ADAPTER)

    return spoil


case("and r = 2 needs", {"lora: steps": steps(adapters(r=3))}, lora)
case(
    "copy adapter_config.json into checkpoints/",
    {"lora: steps undescribed": writes("checkpoints/00000001.safetensors", packed(adapters()))},
    lora,
)
case(
    "scales other adapters",
    {"lora: steps scaled": writes("checkpoints/adapter_config.json", {**ADAPTER, "lora_alpha": 5})},
    lora,
)
case(
    "add nothing to the base",
    {
        f"lora: {side} = 0": adapted(
            {n: (t[0], t[1], bytes(len(t[2]))) if side in n else t for n, t in adapters().items()}
        )
        for side in ("lora_A", "lora_B")
    },
    lora,
)
NOTHING = {
    "negative 0": (ADAPTER, {QB: numbers(np.full((4, 2), -0.0))}),
    "disjoint ranks": (ADAPTER, {QA: numbers(np.eye(2, 4) * [[1], [0]]), QB: numbers(np.ones((4, 2)) * [0, 1])}),
    "alpha that underflows": ({**ADAPTER, "lora_alpha": 1e-300}, {}),
    "below the rounding": (ADAPTER, {QB: numbers(np.full((4, 2), 1e-12))}),
}
for name, (told, changes) in NOTHING.items():
    case("add nothing to the base", {f"lora: {name}": both(ONE | changes, told, target_modules=["q_proj"])}, lora)
case(
    "only 'LORA' is scored", {f"lora: {kind}": described(peft_type=kind) for kind in ("ADALORA", None, ["LORA"])}, lora
)
case("from 1 to 256", {f"lora: r {r}": described(r=r) for r in (0, -1, 257, 2.0, True, "2", 10**4000)}, lora)
case(
    "at most a million",
    {f"lora: alpha {a!r:.9}": described(lora_alpha=a) for a in (0, -1, "4", True, None, 10**400)},
    lora,
)
case("has use_rslora", {"lora: rslora": described(use_rslora="yes"), "lora: rslora 1": described(use_rslora=1)}, lora)
case("biases stay", {"lora: biases": described(bias="all")}, lora)
case(
    "which changes the base",
    {"lora: PiSSA": described(init_lora_weights="pissa"), "lora: LoftQ": described(init_lora_weights="loftq")},
    lora,
)
case("in megatron_core", {"lora: module": described(megatron_core="os")}, lora)
case(
    "has auto_mapping",
    {
        "lora: library": described(auto_mapping={"base_model_class": "A", "parent_library": "evil.module"}),
        "lora: mapping": described(auto_mapping="x"),
        "lora: prefix": described(auto_mapping={"base_model_class": "A", "parent_library": "transformersevil"}),
    },
    lora,
)
OPTIONS = {
    "use_dora": True,
    "modules_to_save": ["lm_head"],
    "rank_pattern": {"q_proj": 1},
    "alpha_pattern": {"q_proj": 1},
}
OPTIONS |= {"fan_in_fan_out": True, "use_qalora": True, "trainable_token_indices": [1], "target_parameters": ["a"]}
OPTIONS |= {
    "megatron_config": {"a": 1},
    "corda_config": {"cache_file": "x"},
}
OPTIONS |= {
    "lora_bias": True,
    "layer_replication": [[0, 1]],
    "arrow_config": {"top_k": 3},
    "loftq_config": {"loftq_bits": 4},
    "not_yet_known": "x",
}
case("plain LoRA is scored", {f"lora: {name}": described(**{name: value}) for name, value in OPTIONS.items()}, lora)

# JSON, text and code.
case(
    "is not JSON",
    {"JSON: comment": writes("config.json", "{} // x"), "JSON: empty": writes("generation_config.json", "")},
)
case(
    "and an object was expected",
    {"JSON: array": writes("config.json", "[]"), "JSON: text": writes("checkpoint.json", '"a"')},
)
case(
    "twice: keep one",
    {
        "JSON: twice": writes("config.json", '{"a": 1, "a": 2}'),
        "JSON: twice within": writes("config.json", '{"b": {"a": 1, "a": 2}}'),
    },
)
case(
    "no JSON number",
    {"JSON: NaN": writes("config.json", '{"a": NaN}'), "JSON: infinity": writes("checkpoint.json", '{"a": -Infinity}')},
)
case(
    "is nested without end",
    {
        "JSON: brackets": writes("config.json", nested(40_000)),
        "JSON: braces": writes("checkpoint.json", '{"a":' * 40_000),
    },
)
case("is nested more than 32", {"JSON: 33 levels": writes("config.json", {"a": json.loads(nested(32))})})
case(
    "is not UTF-8 (byte",
    {"JSON: UTF-16": writes("config.json", "{}".encode("utf-16")), "JSON: pickle": pickled("config.json")},
)
case(
    "which loads code",
    {
        f"code: {key}": writes(file, {"a": [{key: {"AutoModel": "x--y.Z"}}]})
        for key in ("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate")
        for file in ("config.json", "tokenizer_config.json", "generation_config.json")
    },
)
case("takes attention from", {"code: kernel": writes("config.json", {**CONFIG, "_attn_implementation": "evil/kernel"})})
case(
    "and text was expected",
    {
        "text: zip": writes("README.md", PK),
        "text: ELF": writes("README.md", ELF),
        "text: pickle": pickled("README.md"),
        "text: script": writes("LICENSE", "#!/bin/sh"),
        "text: PDF": writes("README.md", "%PDF-1.7"),
    },
)
case(
    "and text was expected",
    {
        "text: NUL": writes("README.md", "a\0b"),
        "text: terminal": writes("README.md", "\x1b[2J"),
        "text: C1": writes("LICENSE", "\x9b2J"),
        "text: template": writes("chat_template.jinja", "\0"),
    },
)
case("is not UTF-8 (byte", {"text: latin-1": writes("README.md", b"\xe4")})
case(
    "is not JSON",
    {"curve: not lines": writes("curve.jsonl", '{"a":\n1}'), "curve: blank": writes("curve.jsonl", "{}\n\n{}")},
)
case(
    "JSON values: bring less",
    {"curve: one long line": writes("curve.jsonl", lambda: '{"a":[' + "0," * 4_000_000 + "0]}")},
)
case("lines of curves in all", {"curve: lines": writes("curve.jsonl", "{}\n" * 60_000)})


def curves(line: str, lines: int) -> Callable[[Path], Any]:
    """A curve of so many lines for each of the two seeds."""
    return lambda at: [put(at / f"seed-{seed}/curve.jsonl", f"{line}\n" * lines) for seed in (3, 5)]


case("lines of curves in all", {"curves: lines of both": curves("{}", 25_001)}, seeds)
LONG = json.dumps({"a": "a" * 2**19})
case("bytes of curves in all", {"curves: bytes of both": curves(LONG, 16)}, seeds)

# Language models.
for each in (
    "config.json",
    "tokenizer.json",
    "vocab.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
):
    case("is not used by this track", {f"robot: {each}": writes(each, {})}, language=False)
case("is not used by this track", {"robot: template": writes("chat_template.jinja", "x")}, language=False)
case(
    "adapt this track's base",
    {
        "config: model_type": writes("config.json", {**CONFIG, "model_type": "llama"}),
        "config: none": writes("config.json", {}),
    },
)
case(
    "keeps the base's config",
    {
        "config: size": writes("config.json", {**CONFIG, "hidden_size": 8}),
        "config: architecture": writes("config.json", {**CONFIG, "architectures": ["Other"]}),
    },
)
case(
    "save them unquantised",
    {"config: quantised": writes("config.json", {**CONFIG, "quantization_config": {"bits": 4}})},
)


def tokenizer(**changes: Any) -> Callable[[Path], None]:
    """Another tokenizer.json."""
    return writes("tokenizer.json", {**TOKENIZER, **changes})


MODEL: dict[str, Any] = dict(TOKENIZER["model"])
case("another model.vocab", {"tokenizer: vocabulary": tokenizer(model={**MODEL, "vocab": {**VOCAB, "c": 4}})})
case(
    "another model.merges",
    {
        "tokenizer: merges": tokenizer(model={**MODEL, "merges": [["b", "a"]]}),
        "tokenizer: merges with a space": tokenizer(model={**MODEL, "merges": [["a b", ""]]}),
    },
)
case("another added_tokens", {"tokenizer: added": tokenizer(added_tokens=[])})
case(
    "another normalizer",
    {
        "tokenizer: normalizer": tokenizer(normalizer={"type": "Lowercase"}),
        "tokenizer: lacks one": writes("tokenizer.json", {k: v for k, v in TOKENIZER.items() if k != "normalizer"}),
    },
)
case(
    "another pre_tokenizer",
    {"tokenizer: regex": tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}})},
)
case("another model.merges", {"tokenizer: no model": tokenizer(model=None)})
case(
    "is not the base's own file",
    {"tokenizer: size": writes("tokenizer.json", lambda: " " * 2**24 + json.dumps({**TOKENIZER, "a": 1}))},
)
case(
    "JSON values: bring less", {"tokenizer: values": writes("tokenizer.json", lambda: "[" + "[]," * 5_000_000 + "[]]")}
)
case("not the base's vocabulary", {"vocabulary": writes("vocab.json", {"a": 0})})
case("not hold the base's merges", {"merges": writes("merges.txt", "b a"), "merges: pickle": pickled("merges.txt")})
case("adds the token", {"added tokens": writes("added_tokens.json", {"<|think|>": 4})})
case(
    "of the name default",
    {"templates in a list": writes("tokenizer_config.json", {"chat_template": [{"name": "a", "template": "b"}]})},
)


def template(text: str) -> Callable[[Path], None]:
    """A chat template of one's own."""
    return writes("chat_template.jinja", text)


case(
    "renders another prompt",
    {
        "template: other": template("{{ messages[0].content }}"),
        "template: in the config": writes("tokenizer_config.json", {"chat_template": "x"}),
    },
)
case("longer than 64 KiB", {"template: long": template("a" * 70_000)})
DUNDERS = (
    "''.__class__.__mro__[1].__subclasses__()",
    "cycler.__init__.__globals__.os.system('id')",
    "self.__init__.__globals__",
    "lipsum.__globals__.os",
)
case("templates may not touch", {f"template: {each}": template(f"{{{{ {each} }}}}") for each in DUNDERS})
case(
    "fails on an ordinary conversation",
    {
        "template: range": template("{{ range(10**9) | list }}"),
        "template: raise": template("{{ raise_exception('no') }}"),
        "template: include": template("{% include '/etc/passwd' %}"),
    },
)
case(
    "templates may not touch",
    {
        "template: changes the conversation": template("{{ messages.append(1) }}"),
        "template: changes a message": template("{{ messages[0].update({'content': 'x'}) }}"),
    },
)
case(
    "is not Jinja as it is read here",
    {
        "template: syntax": template("{% for %}"),
        "template: generation that does not end": template("{% generation %}"),
    },
)
case(
    "more memory than",
    {"template: string": template("{{ 'a' * 10**9 }}"), "template: list": template("{{ ([0] * 10**9) | length }}")},
)
case(
    "without end: leave",
    {
        "template: calls itself": template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"),
        "template: brackets": template("{{ " + "(" * 30_000),
    },
)
case(
    "longer than a second",
    {
        "template: loops": template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        "template: power": template("{{ (9 ** (10 ** 8)) % 7 }}"),
    },
)
case(
    "more than 1 MiB of",
    {"template: output": template("{% for i in range(99999) %}{{ 'abcdefghijklmnopqrst' }}{% endfor %}")},
)
WITNESS = "{{ lipsum.__globals__['os'].popen('touch witness').read() }}"
case(
    "templates may not touch",
    {"template: shell": template(WITNESS), "template: attr": template("{{ (''|attr('__class__')).a.b }}")},
)


case(
    "bring chat templates that differ",
    {
        "templates: two": lambda at: [
            template(SAME)(at),
            writes("tokenizer_config.json", {"chat_template": SAME + " "})(at),
        ]
    },
)


def of_both(name: str, one: Any, other: Any) -> Callable[[Path], Any]:
    """A file of each of the two seeds."""
    return lambda at: [put(at / f"seed-{seed}" / name, content) for seed, content in ((3, one), (5, other))]


case(
    "the seeds bring tokenizers that differ",
    {
        "tokenizers: two": of_both("tokenizer.json", {**TOKENIZER, "version": "2"}, {**TOKENIZER, "version": "3"}),
        "tokenizers: vocabularies": of_both("vocab.json", VOCAB, json.dumps(VOCAB, indent=1)),
        "tokenizers: merges": of_both("merges.txt", "a b", "a b\n"),
        "tokenizers: added tokens": of_both("added_tokens.json", {"<|end|>": 0}, '{"<|end|>":0}'),
    },
    seeds,
)


# Those that would take most memory.
def fingerprinted(at: Path) -> None:
    """As many fingerprints as are allowed, with nothing to score."""
    hashes(b"".join(b"%064x\n" % i for i in range(1_000_000)))(at)
    put(at / "model.safetensors", packed(weights(0)))


def wide(values: int, cap: int) -> str:
    """JSON of so many members and bytes, with names that Python holds in four bytes a character."""
    text = "{" + ",".join(f'"🙂{i:x}":1' for i in range(values)) + ',"a":"'
    return text + "a" * (cap - len(text.encode()) - 2) + '"}'


case("more than any tokenizer", {"bomb: tokenizer": writes("tokenizer.json", lambda: wide(490_000, 2**24))})
case("tensors: 20,000 are the most", {"bomb: header": lambda at: headed(wide(190_000, 2**24).encode())(at)})


def chains(cap: int) -> str:
    """JSON of objects in objects, as deep as they may be."""
    chain = '{"a":' * 28 + "{}" + "}" * 28
    text = '{"model":{"vocab":[' + ",".join([chain] * 16_000) + '],"🙂":"'
    return text + "a" * (cap - len(text.encode()) - 3) + '"}}'


case("another added_tokens", {"bomb: objects": writes("tokenizer.json", lambda: chains(2**24))})
case("the base's own weights", {"bomb: fingerprints": fingerprinted})
case("not the base's vocabulary", {"bomb: vocabulary": writes("vocab.json", lambda: wide(490_000, 2**24))})
NASTY = (
    "bomb: tokenizer",
    "bomb: header",
    "bomb: vocabulary",
    "bomb: objects",
    "bomb: fingerprints",
    "weights: values",
    "weights: brackets",
    "weights: 10^9 elements",
    "weights: 20,001",
    "tokenizer: values",
    "tokenizer: size",
    "curve: one long line",
    "fingerprints: many",
    "claim: brackets",
    "JSON: brackets",
    "template: string",
    "template: output",
    "sparse",
)


# --- what passes ------------------------------------------------------------------------------------------------------

GOOD: dict[str, tuple[Callable[[Path], Any], bool]] = {}
"""Good submissions by name: how they are made, and whether the base is a language model."""


def good(name: str, *steps: Callable[[Path], Any], language: bool = True) -> None:
    """Add one."""
    GOOD[name] = (lambda at: [step(at) for step in steps], language)


HASHED = b"".join(b"%064x\n" % i for i in range(20_000))
good("full weights", full)
good("full weights for a robot", full, language=False)
good(
    "full weights in another order",
    full,
    writes("model.safetensors", packed(weights(), {"format": "pt"}, reversed(SHAPES))),
)
good("full weights with a padded header", full, lambda at: put(at / "model.safetensors", padded(packed(weights()))))
for each in (1, 2, 8, 256):
    good(f"adapters of rank {each}", lora, adapted(adapters(r=each)), described(r=each))
for each in ("F32", "F16", "BF16"):
    good(f"adapters in {each}", lora, adapted(adapters(dtype=each)))
good("adapters on one map", lora, adapted(ONE), described(target_modules=["q_proj"]))
good("adapters with rslora", lora, described(use_rslora=True, lora_alpha=0.5))
good("adapters on a regex", lora, described(target_modules="(a+)+$"))
good("adapters with options that are off", lora, described(**dict.fromkeys(OPTIONS)))
good(
    "adapters with a mapping",
    lora,
    described(auto_mapping={"base_model_class": "Tiny", "parent_library": "transformers.models.tiny"}),
)
good("adapters that began as Gaussian", lora, described(init_lora_weights="gaussian"))
good(
    "adapters with steps",
    lora,
    steps(adapters(seed=2)),
)
good("one adapter that is 0", lora, adapted(adapters() | {QB: numbers(np.zeros((4, 2)))}))
good("config", full, writes("config.json", CONFIG))
good(
    "config of another version",
    full,
    writes("config.json", {**CONFIG, "dtype": None, "torch_dtype": "float32", "use_cache": False}),
)
good("config of attention", full, writes("config.json", {**CONFIG, "_attn_implementation": "sdpa"}))
good("generation config", full, writes("generation_config.json", {"temperature": 0.7}))
good("tokenizer", full, tokenizer())
good("tokenizer of older merges", full, tokenizer(model={**MODEL, "merges": ["a b"]}))
good("tokenizer that pads", full, tokenizer(padding={"length": 9}, truncation={"max_length": 9}, post_processor=None))
good("vocab.json and merges.txt", full, writes("vocab.json", VOCAB), writes("merges.txt", "#version: 0.2\na b\n"))
good(
    "added and special tokens",
    full,
    writes("added_tokens.json", {"<|end|>": 0}),
    writes("special_tokens_map.json", {"eos_token": "<|end|>"}),
)
good("template of the base", full, template(TEMPLATE))
good("template written otherwise", full, template(SAME))
good(
    "template in the tokenizer's config",
    full,
    writes("tokenizer_config.json", {"chat_template": SAME, "model_max_length": 10**30}),
)
good("seeds", seeds)
good(
    "seeds with all files",
    seeds,
    writes("seed-3/curve.jsonl", "{}\n"),
    writes("seed-3/config.json", CONFIG),
    writes("seed-5/checkpoints/00000001.safetensors", packed(weights(9))),
)
good(
    "seeds of adapters",
    lambda at: [
        (
            lora(at / f"seed-{s}"),
            (at / f"seed-{s}/submission.toml").unlink(),
            adapted(adapters(seed=s))(at / f"seed-{s}"),
        )
        for s in (0, 2**31 - 1)
    ],
    says(seeds="[2147483647, 0]"),
)
good("one seed that is said", full, says(seeds="[7]"))
good("one seed in its folder", lambda at: [seeds(at), shutil.rmtree(at / "seed-5")], says(seeds="[3]"))
good(
    "seeds with tokenizers, one of them the base's",
    seeds,
    of_both("tokenizer.json", TOKENIZER, {**TOKENIZER, "version": "2"}),
)
good("seeds with one tokenizer", seeds, of_both("tokenizer.json", *[{**TOKENIZER, "version": "2"}] * 2))
good("seeds with curves", seeds, curves('{"step": 1}', 1_000))
good("steps", full, *(writes(f"checkpoints/{i:08}.safetensors", packed(weights(i))) for i in (1, 10, 10**8 - 1)))
good("64 steps", full, *(writes(f"checkpoints/{i:08}.safetensors", packed(weights(i))) for i in range(1, 65)))
good(
    "what razorbench adapt writes",
    full,
    writes("checkpoint.json", {"track": "tiny-v1"}),
    writes("curve.jsonl", '{"step": 1, "reward": NaN}\n{"step": 2}\n'),
)
good(
    "what training tools leave",
    full,
    pickled("training_args.bin"),
    pickled("optimizer.pt"),
    writes("trainer_state.json", "no JSON"),
    writes(".gitattributes", "*.safetensors filter=lfs"),
    writes(".cache/huggingface/.gitignore", "*"),
    lambda at: (at / "scheduler.pt").symlink_to("/dev/zero"),
    lambda at: os.mkfifo(at / "rng_state.pth"),
)
good("fingerprints", full, hashes(HASHED))
good("fingerprints without a last newline", full, hashes(HASHED[:-1]))
good("README and licence", full, writes("README.md", "# Größe 🙂\r\n\ttext"), writes("LICENSE", "MIT"))
for each in ("Größe", "数学", "שלום עולם", "مرحبا", "नमस्ते", "👩‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "C++ & <b>'\"\\\\"):
    good(f"name: {each}", full, says(name=f'"{each}"' if '"' not in each else "'''C++ & <b>\"\\'''"))
EVERYTHING = """contact = "a@b.org"
[settings]
lr = 1e-5
steps = 9
rslora = true
note = "x"
[compute]
device = "H200"
seconds = 12.5
[reported]
gain = 3
drift = 0.5
[[data]]
name = "a"
source = "https://b.org/c"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"""
good("all that can be said", full, says(EVERYTHING))


def padded(raw: bytes) -> bytes:
    """The same file with spaces behind its header, as safetensors writes them."""
    length = struct.unpack("<Q", raw[:8])[0]
    return struct.pack("<Q", length + 13) + raw[8 : 8 + length] + b" " * 13 + raw[8 + length :]


# --- running it -------------------------------------------------------------------------------------------------------


def submit(source: Path, target: Path, reference: Reference) -> Passed:
    """Copy a submission in and check the copy."""
    take(source, target, LIMIT)
    return check(target, reference)


def prepare(case: Case, root: Path) -> Reference:
    """Make the source of a case, and the base it is checked against."""
    base = make_base(root / "base")
    case.start(root / "source")
    case.spoil(root / "source")
    return base if case.language else Reference(base.track, base.weights)


def refusal(case: Case, root: Path) -> str | None:
    """What the gate says of a case; None if it passes."""
    reference = prepare(case, root)
    try:
        submit(root / "source", root / "target", reference)
    except Refused as refused:
        return str(refused)
    return None


@dataclass(frozen=True)
class Measured:
    """What a case took: seconds on the clock, and the peak of memory up to then in MB."""

    name: str
    refused: bool
    seconds: float
    peak: float


CHILD = """
import sys, time
from pathlib import Path
from razorbench.submissions.gate import Refused, Reference, check
from razorbench.submissions.copying import take

for line in sys.stdin:
    root, language = Path(line.split()[0]), line.split()[1] == "True"
    base = root / "base"
    reference = Reference("tiny-v1", base / "model.safetensors", base if language else None)
    began, refused = time.perf_counter(), False
    try:
        take(root / "source", root / "target", 2**26)
        check(root / "target", reference)
    except Refused:
        refused = True
    peak = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    print(refused, time.perf_counter() - began, int(peak.split()[1]) * 1024 / 1e6, flush=True)
"""
"""Nothing but the gate, so that its memory is its own. VmHWM, for ru_maxrss would count who started the process."""


def measure(cases: Iterable[Case]) -> Iterator[Measured]:
    """Take each case in a process that does nothing else."""
    here = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=here, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="gate-") as root:
                prepare(case, Path(root))
                print(root, case.language, file=child.stdin, flush=True)
                refused, seconds, peak = child.stdout.readline().split()
            yield Measured(case.name, refused == "True", float(seconds), float(peak))


def main() -> None:
    """Print the table."""
    for title, cases in {
        "all others": [case for case in CASES if case.name not in NASTY],
        "the largest": [case for case in CASES if case.name in NASTY],
    }.items():
        results = list(measure(cases))
        slowest, largest = max(results, key=lambda each: each.seconds), max(results, key=lambda each: each.peak)
        print(f"{title}: {sum(each.refused for each in results)} of {len(results)} refused")
        print(f"  slowest {slowest.seconds:.2f} s ({slowest.name}); peak {largest.peak:.0f} MB ({largest.name})")


if __name__ == "__main__":
    main()
