"""A task's questions: what it asks first, and fingerprints of that.

A fingerprint is one hash of what is asked, by which training data are told to have met the evaluation items.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import blake2b, sha256
from typing import Any

import numpy as np

from razorbench.harness.core.episodes import Instances, Observation
from razorbench.harness.core.protocols import Task

BATCH = 256
"""Instances that are asked at once."""


def of_text(text: str) -> str:
    """sha256 of a text in Unicode's NFC, in which each run of white space is one blank and none stands at the ends."""
    return sha256(" ".join(unicodedata.normalize("NFC", text).split()).encode()).hexdigest()


def of_array(array: np.ndarray) -> str:
    """sha256 of an array: shape, kind and little-endian bytes; real numbers count in single precision."""
    array = np.asarray(array)
    array = array.astype("<f4" if array.dtype.kind == "f" else array.dtype.newbyteorder("<"))
    return sha256(f"{array.shape} {array.dtype.str} ".encode() + array.tobytes()).hexdigest()


def of(seen: Observation) -> str:
    """The hash of what is seen: of the text, where there is nothing else; else of the hashes of all its parts."""
    state: Mapping[str, Any] = seen.state if isinstance(seen.state, Mapping) else {"": seen.state}
    parts = [] if seen.text is None else [of_text(seen.text)]
    parts += [of_array(image) for _, image in sorted((seen.images or {}).items())]
    parts += [of_array(state[name]) for name in sorted(state) if state[name] is not None]
    return parts[0] if len(parts) == 1 else sha256(" ".join(parts).encode()).hexdigest()


def data_digest(instances: Instances) -> str:
    """A digest of questions: their ids and data, in order."""
    digest = blake2b(digest_size=16)
    for one in instances:
        digest.update(canonical(str(one.id)) + canonical(one.data))
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """Bytes that are equal for equal data."""
    if isinstance(value, Mapping):
        return b"{" + b",".join(str(name).encode() + b":" + canonical(value[name]) for name in sorted(value)) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype != object:
            return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()
    return repr(value).encode()


def asked_first(task: Task, instances: Instances) -> Iterator[Observation]:
    """What each instance asks first."""
    for start in range(0, len(instances), BATCH):
        some = instances.take(np.arange(start, min(start + BATCH, len(instances))))
        playing = task.play(some)
        try:
            seen = next(playing)
            yield from (seen[i] for i in range(len(seen)))
        finally:
            playing.close()


def fingerprints(task: Task, instances: Instances) -> Iterator[str]:
    """The hash of what each instance asks first."""
    return map(of, asked_first(task, instances))
