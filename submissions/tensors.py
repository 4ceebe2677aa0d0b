"""Safetensors files without the library: the header parsed strictly, the tensors hashed and looked at in pieces.

The format: 8 bytes with the length of the header, the header as JSON, then the data, tensor after tensor.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from razorbench import Refused
from razorbench.harness.learn.saved import EMPTY
from razorbench.submissions.strict import parse, shown

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes an element, by dtype."""

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""How numpy reads them; bfloat16 is the upper half of a float32."""

HEADER, TENSORS, CHUNK = 2**24, 20_000, 2**20
"""The most bytes of a header, the most tensors, and the numbers read at once."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: from byte `start` of a file to byte `stop`."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds, or several that are one model."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def header(path: Path) -> Header:
    """The header of a safetensors file, or of all those that an index names (`model.safetensors.index.json`).

    Refused unless the tensors of a file cover its data without overlap, hole or rest.
    """
    if path.suffix == ".json":
        shards = parse(path.read_bytes(), path.name, values=TENSORS).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise Refused(f"{path.name} has no weight_map of tensors and files: save the weights again")
        names = sorted(set(shards.values()))
        for name in names:
            if not re.fullmatch(r"[\w.-]+\.safetensors", name) or not path.with_name(name).is_file():
                raise Refused(
                    f"{path.name} names {shown(name)}, which is no file beside it: bring all parts of the weights"
                )
        parts = {name: header(path.with_name(name)).tensors for name in names}
        held = {key: name for name, part in parts.items() for key in part}
        if held != shards or len(held) < sum(map(len, parts.values())):
            raise Refused(f"{path.name} does not say what is in which part of the weights: save all of them again")
        return Header({key: tensor for part in parts.values() for key, tensor in part.items()}, {})
    name = path.name
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10:
            raise Refused(f"{name} has {size} bytes, too few for safetensors: save the weights again")
        if length > HEADER:
            raise Refused(f"{name} says that its header has {length:,} bytes: 16 MiB are the most in safetensors here")
        if length > size - 8:
            raise Refused(f"{name} ends within its header: it was cut off, so bring the whole file")
        raw = file.read(length)
    if not raw.startswith(b"{"):
        raise Refused(f"{name} does not begin as safetensors do: save the weights with save_file of safetensors")
    rows = parse(raw, f"the header of {name}", values=20 * TENSORS)
    del raw
    metadata = _metadata(rows.pop("__metadata__", {}), name)
    if not rows:
        raise Refused(f"{name} holds no tensors. {EMPTY}")
    if len(rows) > TENSORS:
        raise Refused(f"{name} holds {len(rows):,} tensors: {TENSORS:,} are the most")
    tensors = {key: _tensor(key, row, path, 8 + length, size) for key, row in rows.items()}
    at = 8 + length
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        if tensor.start != at:
            what = "a hole before" if tensor.start > at else "an overlap at"
            raise Refused(
                f"{name} has {what} the tensor {shown(key)}: tensors must follow one another, so save it anew"
            )
        at = tensor.stop
    if at != size:
        raise Refused(f"{name} has {size - at:,} bytes behind its last tensor: they belong to nothing, so save it anew")
    return Header(tensors, metadata)


def values(header: Header, name: str, numbers: int = CHUNK) -> Iterator[np.ndarray]:
    """A tensor of floats, piece by piece, each a flat array of so many numbers, the last one of fewer."""
    tensor = header.tensors[name]
    return (_numbers(raw, tensor.dtype) for raw in _pieces(tensor, numbers))


def _numbers(raw: bytes, dtype: str) -> np.ndarray:
    """Floats of their bytes, a flat array."""
    piece = np.frombuffer(raw, FLOATS[dtype])
    return (piece.astype("<u4") << 16).view("<f4") if dtype == "BF16" else piece


def finite(header: Header) -> None:
    """Refused, naming the tensor, if a number is NaN or infinite."""
    for name, tensor in header.tensors.items():
        for raw in _pieces(tensor) if tensor.dtype in FLOATS else ():
            _check_finite(raw, tensor, name)


def _check_finite(raw: bytes, tensor: Tensor, name: str) -> None:
    """Refused if some bytes of a tensor of floats hold a number that is none."""
    if tensor.dtype in FLOATS and not np.isfinite(_numbers(raw, tensor.dtype)).all():
        raise Refused(
            f"{tensor.file.name} has NaN or infinity in {shown(name)}: bring a checkpoint that has not diverged"
        )


def alike(brought: Header, name: str, base: Header, other: str) -> bool:
    """Whether a tensor holds the numbers of another, rounded to its own type; ends at the first difference."""
    one, two = brought.tensors[name], base.tensors[other]
    if one.shape != two.shape:
        return False
    if not {one.dtype, two.dtype} <= FLOATS.keys():
        same = zip(_pieces(one), _pieces(two), strict=True) if one.dtype == two.dtype else iter([(b"1", b"2")])
        return all(first == second for first, second in same)
    pairs = zip(values(brought, name), values(base, other), strict=True)
    return all(np.array_equal(mine, rounded(theirs, one.dtype)) for mine, theirs in pairs)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as the nearest ones of a type, even where two are as near; bfloat16 is held in float32."""
    with np.errstate(over="ignore"):
        if dtype != "BF16":
            return x.astype(FLOATS[dtype])
        bits = x.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view("<f4")


def adds(header: Header, module: str, scale: float, base: Header) -> bool:
    """Whether scale · B A, added to the base's weight of a map [out, in] in float32, makes another weight."""
    tensor = base.tensors[f"{module}.weight"]
    out, into = tensor.shape
    a, b = (_matrix(header, f"base_model.model.{module}.lora_{side}.weight") for side in "AB")
    rows = max(1, CHUNK // into)
    with np.errstate(all="ignore"):
        for at, piece in zip(range(0, out, rows), values(base, f"{module}.weight", rows * into), strict=True):
            weight = piece.astype("<f4").reshape(-1, into)
            if (weight + np.float32(scale) * (b[at : at + rows] @ a) != weight).any():
                return True
    return False


def _matrix(header: Header, name: str) -> np.ndarray:
    """A tensor as float32, whole: of adapters, which are narrow."""
    return np.concatenate([piece.astype("<f4") for piece in values(header, name)]).reshape(header.tensors[name].shape)


def digest(header: Header, leave: Collection[str] = (), sound: bool = False) -> str:
    """The sha256 of names, types, shapes and numbers, by name: the same however the file is laid out.

    F16 and BF16 count as the F32 that they are exact in. What is to `leave` counts for nothing. Where it is to be
    `sound`, it is refused as `finite` refuses it, and both are found out in one reading.
    """
    hash = sha256()
    for name, tensor in sorted(header.tensors.items()):
        if name in leave:
            continue
        half = tensor.dtype in ("F16", "BF16")
        hash.update(json.dumps([name, "F32" if half else tensor.dtype, tensor.shape]).encode() + b"\n")
        for raw in _pieces(tensor):
            hash.update(_numbers(raw, tensor.dtype).astype("<f4").tobytes() if half else raw)
            if sound:
                _check_finite(raw, tensor, name)
    return hash.hexdigest()


def _pieces(tensor: Tensor, numbers: int = CHUNK) -> Iterator[bytes]:
    """The bytes of a tensor, so many numbers at once."""
    step = numbers * SIZES[tensor.dtype]
    with open(tensor.file, "rb", buffering=0) as file:
        file.seek(tensor.start)
        for at in range(tensor.start, tensor.stop, step):
            yield _exactly(file, min(step, tensor.stop - at), tensor.file.name)


def _exactly(file: BinaryIO | Any, length: int, name: str) -> bytes:
    """So many bytes. Refused if the file has become shorter since its header was read."""
    raw = file.read(length)
    if len(raw) != length:
        raise Refused(f"{name} became shorter while it was read: leave the files alone until they are checked")
    return raw


def _metadata(metadata: Any, file: str) -> dict[str, str]:
    """The texts that may stand beside the tensors."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Refused(f"{file} has metadata that are not texts: write names and texts, or leave them out")
    if len(metadata) > 64 or sum(map(len, chain(metadata, metadata.values()))) > 65_536:
        raise Refused(f"{file} has more than 64 metadata, or more than 64 KiB of them: leave them out")
    return metadata


def _tensor(name: str, row: Any, path: Path, data_at: int, size: int) -> Tensor:
    """One row of the header of a file of so many bytes, whose data section begins at byte `data_at`."""
    file, data = path.name, size - data_at
    if not 0 < len(name) <= 256 or not name.isascii() or not name.isprintable():
        raise Refused(f"{file} names a tensor {shown(name)}: use 1 to 256 printable ASCII characters")
    where = f"{file}, tensor {shown(name)},"
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"{where} is not described by dtype, shape and data_offsets alone: save it with safetensors")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise Refused(f"{where} has the dtype {shown(dtype)}: known are {', '.join(SIZES)}")
    if not isinstance(shape, list) or len(shape) > 8:
        raise Refused(f"{where} has the shape {shown(shape)}: a list of at most 8 numbers was expected")
    if not all(type(dim) is int and 0 <= dim < 2**48 for dim in shape):
        raise Refused(f"{where} has the shape {shown(shape)}: whole numbers that are not negative were expected")
    if 0 in shape:
        raise Refused(f"{where} has no elements (shape {shown(shape)}). {EMPTY}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int for at in offsets):
        raise Refused(f"{where} has the data_offsets {shown(offsets)}: two whole numbers were expected")
    start, stop = offsets
    if not 0 <= start <= stop <= data:
        raise Refused(f"{where} lies at {shown(offsets)}, outside of the {data:,} bytes of data: bring the whole file")
    if math.prod(shape) * SIZES[dtype] != stop - start:
        raise Refused(
            f"{where} has {stop - start:,} bytes, which is not its shape {shown(shape)} in {dtype}: save it anew"
        )
    if start % SIZES[dtype]:
        raise Refused(f"{where} begins at byte {start}, which is not aligned to {dtype}: save it with safetensors")
    return Tensor(dtype, tuple(shape), path, data_at + start, data_at + stop)
