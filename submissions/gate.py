"""The gate: whether a submission that was copied in may be scored, found out without running anything of it."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Refused
from razorbench.harness.learn.saved import ADAPTER_CONFIG, ADAPTERS, INDEX, WEIGHTS
from razorbench.submissions import claim as claims
from razorbench.submissions import fit, language, tensors
from razorbench.submissions.claim import Claim
from razorbench.submissions.copying import HASHES, SHARD, WAYPOINTS, inventory
from razorbench.submissions.fit import KINDS
from razorbench.submissions.strict import SMALL, parse, shown, text

CURVE = "curve.jsonl"

CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "use_kernels", "kernel_config")
"""Keys of JSON files that make libraries load code."""

STEPS, CURVES = 50_000, 2**24
"""The most lines and bytes of all curves together: each line is parsed on its own."""

FINGERPRINTS = 1_000_000
"""The most training questions a submission may declare."""


@dataclass(frozen=True)
class Reference:
    """What a submission to a track must fit."""

    track: str
    weights: Path
    """The safetensors of the track's base."""
    folder: Path | None = None
    """Of the base, with its config and tokenizer, where it is a language model."""

    @property
    def bytes(self) -> int:
        """Bytes of the base's weights in single precision, in which adaptations of it may be kept."""
        return sum(4 * math.prod(tensor.shape) for tensor in tensors.header(self.weights).tensors.values())


@dataclass(frozen=True)
class Passed:
    """A submission that may be scored."""

    claim: Claim
    kind: str
    """`full` or `lora`."""
    folders: tuple[str, ...]
    """Of each seed's weights, in the order of the claim's seeds; "" is the submission's own."""
    weights: tuple[str, ...]
    """The digest of each seed's weights; for LoRA with what scales them."""
    digest: str
    """sha256 over the names and contents of all files."""
    fingerprints: frozenset[str]
    """sha256 of the declared training questions."""
    trained_on: tuple[str, ...] = ()
    """The models that adapters are said to be trained on, by the names that their maker used."""


def check(folder: Path, reference: Reference) -> Passed:
    """Read a copied-in submission, and return what it is made of. Refused, with the reason, if it may not be scored.

    Nobody else may change `folder` meanwhile: check what `copying.take` has copied.
    """
    files = inventory(folder)
    claim = _claim(folder, files, reference)
    kind, beginnings = _folders(files, claim)
    base = tensors.header(reference.weights)
    for name in files:
        _check_text(folder / name, name)
    _check_curves(folder, [name for name in files if name.rpartition("/")[2] == CURVE])
    fingerprints = _fingerprints(folder, files, claim)
    found = [fit.find(folder, files, at, file, base) for at, file in beginnings.items()]  # what is missed most, first
    language.check(folder, files, reference.folder)
    weights: dict[str, str] = {}
    for at, each in zip(beginnings, found, strict=True):
        hashed = fit.hold(each, base)
        if hashed in weights:
            raise Refused(f"{at} holds the same weights as {weights[hashed]}: each seed needs a run of its own")
        weights[hashed] = at
    digest = sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
    trained_on = dict.fromkeys(each.described.base for each in found if each.described and each.described.base)
    return Passed(claim, kind, tuple(beginnings), tuple(weights), digest, fingerprints, tuple(trained_on))


# --- the claim and the folders ----------------------------------------------------------------------------------------


def _claim(folder: Path, files: Mapping[str, str], reference: Reference) -> Claim:
    """The claim, made for this track."""
    if claims.FILE not in files:
        raise Refused(f"the folder has no {claims.FILE}: add one that says track, name, method and licence")
    claim = claims.load(folder / claims.FILE)
    if claim.track != reference.track:
        raise Refused(f"the claim is for the track {shown(claim.track)}, this is {reference.track}: submit it there")
    return claim


def _folders(files: Mapping[str, str], claim: Claim) -> tuple[str, dict[str, str]]:
    """The kind of the weights, which is one for all seeds; and each seed's folder, with the file it begins with."""
    folders = tuple(f"seed-{seed}" for seed in claim.seeds)
    if len(folders) < 2 and not any(name.startswith(f"{folder}/") for folder in folders for name in files):
        folders = ("",)
    file_of: dict[str, str] = {}
    for name in files:
        at, _, file = name.rpartition("/")
        home = at.removesuffix(WAYPOINTS).removesuffix("/")
        if home and home not in folders:
            told = f"the seeds {', '.join(map(str, claim.seeds))}" if claim.seeds else "no seeds"
            raise Refused(
                f"{home} is the folder of a seed, and the claim names {told}: add the seed or remove the folder"
            )
        if file in (*KINDS, ADAPTER_CONFIG) or at.endswith(WAYPOINTS):
            if home not in folders:
                raise Refused(f"{name} lies beside the folders of seeds: move it into that of its seed")
            if file in KINDS and (first := file_of.setdefault(home, file)) != file:
                two = " and ".join(sorted((first, file)))
                raise Refused(f"{home or 'the folder'} holds both {two}: keep what is to be scored")
    for home in folders:
        shards = {
            name for name in files if name.rpartition("/")[0] == home and SHARD.fullmatch(name.rpartition("/")[2])
        }
        if shards and file_of.get(home) != INDEX:
            raise Refused(f"{min(shards)} is a part of weights, and no {INDEX} names it: add that, or remove the part")
        if home not in file_of:
            raise Refused(f"{home or 'the folder'} holds neither {WEIGHTS} nor {ADAPTERS}: save the weights there")
    kinds = {KINDS[file] for file in file_of.values()}
    if len(kinds) > 1:
        raise Refused("some seeds bring full weights and some adapters: submit the two on their own")
    kind = kinds.pop()
    for name in files:
        if kind == "full" and name.endswith(ADAPTER_CONFIG):
            raise Refused(f"{name} describes adapters, and there are none: remove it, or save {ADAPTERS}")
    return kind, {home: file_of[home] for home in folders}


def _fingerprints(folder: Path, files: Mapping[str, str], claim: Claim) -> frozenset[str]:
    """The declared training questions, from files that the claim names."""
    declared = {data.fingerprints for data in claim.data if data.fingerprints}
    present = {name for name in files if HASHES.fullmatch(name.rpartition("/")[2])}
    if missing := declared - present:
        raise Refused(f"the claim names the fingerprints {min(missing)}, which is not in the folder: add that file")
    if unnamed := present - declared:
        raise Refused(f"{min(unnamed)} is named by no [[data]] of the claim: say there whose fingerprints it holds")
    many = f"the claim has more than {FINGERPRINTS:,} fingerprints: submit fewer training questions"
    if sum((folder / name).stat().st_size for name in present) > 66 * FINGERPRINTS:
        raise Refused(many)
    lines = [line for name in sorted(present) for line in _hashes(folder / name)]
    if len(lines) > FINGERPRINTS:
        raise Refused(many)
    return frozenset(lines)


def _hashes(path: Path) -> Iterator[str]:
    """The lines of a file of fingerprints, with Windows' line ends or without."""
    hexadecimal = np.zeros(256, bool)
    hexadecimal[list(b"0123456789abcdef")] = True
    with open(path, "rb") as file:
        end = b"\r\n" if file.read(66).endswith(b"\r\n") else b"\n"
        file.seek(0)
        wide = 64 + len(end)
        while raw := file.read(wide * 2**14):
            raw += b"" if len(raw) % wide == 0 else end
            rows = np.frombuffer(raw, np.uint8).reshape(-1, wide) if len(raw) % wide == 0 else None
            if rows is None or not (hexadecimal[rows[:, :64]].all() and (rows[:, 64:] == [*end]).all()):
                raise Refused(f"{path.name} has lines that are no fingerprints: write 64 lower-case hex digits a line")
            yield from raw.decode("ascii").split()


# --- text and JSON ----------------------------------------------------------------------------------------------------


def _check_text(path: Path, name: str) -> None:
    """Refused unless a file is the text that its name says; tokenizers and curves are read on their own."""
    if path.name in ("tokenizer.json", "vocab.json"):
        return
    if path.suffix == ".json":
        _check_code(parse(path.read_bytes(), name, SMALL), name)
    elif path.suffix in (".md", ".jinja") or path.name == "LICENSE":
        text(path.read_bytes(), name)


def _check_curves(folder: Path, names: Iterable[str]) -> None:
    """Refused unless the curves are JSON, line by line, and not too long together."""
    lines = size = 0
    for name in names:
        with open(folder / name, "rb") as file:
            for number, raw in enumerate(iter(partial(file.readline, 2**20), b""), 1):
                lines += 1
                size += len(raw)
                if lines > STEPS or size > CURVES:
                    most = f"{STEPS:,} lines" if lines > STEPS else f"{CURVES:,} bytes"
                    raise Refused(f"{name} makes more than {most} of curves in all: keep every tenth step, or fewer")
                parse(raw, f"{name}, line {number},", values=1_000, nan=True)  # NaN: a step without reward


def _check_code(value: Any, name: str) -> None:
    """Refused if a key anywhere in a JSON object would make a library load code."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            for key, inner in each.items():
                if key in CODE:
                    raise Refused(f"{name} has the key {key!r}, which loads code: remove it, for no code is run")
                if key.endswith("attn_implementation") and isinstance(inner, str) and re.search("[/:@]", inner):
                    raise Refused(
                        f"{name} takes attention from {shown(inner)}, which is code: name 'sdpa' or leave it out"
                    )
            left += each.values()
        elif isinstance(each, list):
            left += each
