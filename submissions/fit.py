"""Whether weights fit the base of a track: whole ones by names, shapes and numbers, adapters as they are described."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from razorbench import Refused
from razorbench.harness.learn.saved import (
    ADAPTER_CONFIG,
    ADAPTERS,
    INDEX,
    WEIGHTS,
    Description,
    adapted_maps,
    cut,
    described,
    prefixed,
    repeated,
)
from razorbench.submissions import tensors
from razorbench.submissions.copying import WAYPOINTS
from razorbench.submissions.strict import parse, shown

KINDS = {WEIGHTS: "full", INDEX: "full", ADAPTERS: "lora"}
"""The files that weights begin with, and what they hold."""
RANK = 256
"""The largest rank of adapters."""
SINGLE = ("F32", "F16", "BF16")
"""Types of numbers that are exact in single precision, in which weights are scored."""


@dataclass(frozen=True)
class Part:
    """The tensors of a file, or of several that are one model, that were found to fit by their names and shapes."""

    header: tensors.Header
    maps: frozenset[str] = frozenset()
    """Of adapters: the base's maps that they are on."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Tensors that repeat another and count for nothing: of a tied head its embedding, beside adapters the base's."""


@dataclass(frozen=True)
class Found:
    """The weights of a seed."""

    name: str
    last: Part
    early: tuple[Part, ...]
    """In mid-training."""
    described: Description | None
    """None of whole weights."""


def find(folder: Path, files: Mapping[str, str], at: str, file: str, base: tensors.Header) -> Found:
    """The weights in the folder `at`, in the file of that name. Refused unless they, and those in mid-training, have
    the names, shapes and types of the base's, or are adapters of it. No numbers are read.
    """
    home = folder / at
    if KINDS[file] == "full":
        last = _full(tensors.header(home / file), base, file)
        points = sorted((home / WAYPOINTS).glob("*.safetensors"))
        return Found(file, last, tuple(_full(tensors.header(each), base, _point(each)) for each in points), None)
    if f"{at}/{ADAPTER_CONFIG}".lstrip("/") not in files:
        raise Refused(f"{at or 'the folder'} lacks {ADAPTER_CONFIG}: add the one that peft saves beside the adapters")
    told = _described(home / ADAPTER_CONFIG)
    last = _lora(tensors.header(home / file), told, base, file)
    early = []
    points = sorted((home / WAYPOINTS).glob("*"))
    if points and home / WAYPOINTS / ADAPTER_CONFIG not in points:
        where = f"{at}/{WAYPOINTS}".lstrip("/")
        raise Refused(
            f"{where} holds adapters and nothing says how they are scaled: copy {ADAPTER_CONFIG} into {WAYPOINTS}/"
        )
    for each in points:
        if each.name != ADAPTER_CONFIG:
            early.append(_lora(tensors.header(each), told, base, _point(each)))
        elif _described(each).scale != told.scale:
            raise Refused(
                f"{WAYPOINTS}/{ADAPTER_CONFIG} scales other adapters than those beside it: copy that of the weights"
            )
    return Found(file, last, tuple(early), told)


def hold(found: Found, base: tensors.Header) -> str:
    """The digest of weights, for adapters with what scales them. Refused unless their numbers are finite, and they are
    something else than the base.
    """
    header, told = found.last.header, found.described
    digest = tensors.digest(header, leave=found.last.copies, sound=True)
    for part in (found.last, *found.early):
        if part is not found.last:
            tensors.finite(part.header)
        for name, other in part.copies.items():
            whole = part.header if other in part.header.tensors else base
            if not tensors.alike(part.header, name, whole, other):
                what = f"{shown(name)}, which is not {shown(other)}" + ("" if whole is base else " beside it")
                cure = "untie no head" if whole is part.header else "adapt its projections alone, or merge"
                raise Refused(f"{found.name} has {what}, and this track's base has no such weights: {cure}")
    if told is None:
        names = header.tensors.keys() - found.last.copies
        if all(tensors.alike(header, name, base, name) for name in sorted(names)):
            raise Refused(f"{found.name}: these are the base's own weights, so there is nothing to score")
        return digest
    scale = told.alpha / (math.sqrt(told.rank) if told.rslora else told.rank)
    if not any(tensors.adds(header, module, scale, base) for module in sorted(found.last.maps)):
        raise Refused(f"{found.name}: these adapters add nothing to the base (B A is 0 beside it): train them first")
    return sha256(json.dumps([digest, *told.scale]).encode()).hexdigest()


def _point(path: Path) -> str:
    """Weights in mid-training, as a sentence names them."""
    return f"{WAYPOINTS}/{path.name}"


def _full(header: tensors.Header, base: tensors.Header, name: str) -> Part:
    """Refused unless the tensors have the names and shapes of the base's, in numbers that are exact in F32."""
    expected, brought = base.tensors, header.tensors
    copies = {each: other for each in brought if (other := repeated(each, expected)) in brought}
    wrong = [f"lacks {shown(each)}" for each in sorted(expected.keys() - brought.keys())]
    if wrong and (why := prefixed(brought.keys(), expected.keys())):
        raise Refused(f"{name} {why}")
    others = sorted(brought.keys() - expected.keys() - copies.keys())
    wrong += [f"has {shown(each)}, which the base has not" for each in others]
    for each in sorted(expected.keys() & brought.keys()):
        ours, theirs = expected[each], brought[each]
        if len(ours.shape) == 2 and theirs.shape[1:] == ours.shape[1:] and theirs.shape[0] > ours.shape[0]:
            raise Refused(f"{name} has {theirs.shape[0]:,} rows in {shown(each)}: {cut(ours.shape[0])}")
        alike = theirs.dtype == ours.dtype or {theirs.dtype, ours.dtype} <= {*SINGLE}
        if ours.shape != theirs.shape or not alike:
            told = f"{theirs.dtype} {list(theirs.shape)} for {shown(each)}"
            wrong.append(f"has {told}, the base has {ours.dtype} {list(ours.shape)}")
    if wrong:
        more = f" (and {len(wrong) - 1:,} other differences)" if len(wrong) > 1 else ""
        raise Refused(f"{name} {wrong[0]}{more}: bring weights of this track's base, in {', '.join(SINGLE)}")
    return Part(header, copies=copies)


def _lora(header: tensors.Header, told: Description, base: tensors.Header, name: str) -> Part:
    """Refused unless the tensors are adapters as they are described, of the base's projections."""
    shapes, expected = ({key: each.shape for key, each in part.tensors.items()} for part in (header, base))
    maps, copies = adapted_maps(shapes, told, expected, name)
    for key, tensor in header.tensors.items():
        if tensor.dtype not in SINGLE:
            raise Refused(f"{name} has adapters in {tensor.dtype} ({shown(key)}): save them in F32, F16 or BF16")
    return Part(header, frozenset(maps), copies)


def _described(path: Path) -> Description:
    """How adapters are scaled, and what they promise. Refused unless it is plain LoRA."""
    return described(parse(path.read_bytes(), path.name), path.name, RANK)
