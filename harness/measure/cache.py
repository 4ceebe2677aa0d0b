"""What takes long and always comes out the same is kept on disk, under the hash of all that decides it.

A file holds the sha256 of its content, then the content: what is torn is made again. It is read by an unpickler that
makes our own records, numpy's arrays and torch's tensors, and nothing else, so that a home which somebody else has made
runs no code of theirs.
"""

import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from importlib import import_module
from inspect import getsourcefile
from pathlib import Path
from typing import Any, TypeVar

from razorbench.harness.core.episodes import Gathered

T = TypeVar("T")

MADE = {
    **dict.fromkeys(
        ("Actions", "Episodes", "Instances", "Observations", "Outcomes", "Reply", "Turn"),
        "razorbench.harness.core.episodes",
    ),
    "Answers": "razorbench.harness.measure.evaluation",
    "Divergence": "razorbench.harness.measure.drift",
    "ndarray": "numpy",
    "dtype": "numpy",
    "_reconstruct": "numpy._core.multiarray",
    "scalar": "numpy._core.multiarray",
    "_frombuffer": "numpy._core.numeric",
    "tensor": "razorbench.harness.measure.cache",
    "dict": "builtins",
}
"""What may be called to make a value again, and the module of each: nothing that does harm."""


def kept(folder: Path, key: Mapping[str, Any], make: Callable[[], T], lasting: Callable[[T], bool]) -> T:
    """`make()`, or what an earlier call with an equal `key` (of what JSON holds) made, in whatever process.

    What is not `lasting`, or cannot be kept, is made again each time.
    """
    path = place(folder, key)
    try:
        return read(path)
    except (OSError, pickle.UnpicklingError):
        made = make()
    if lasting(made):
        write(path, made)
    return made


def place(folder: Path, key: Mapping[str, Any]) -> Path:
    """The file of a key."""
    return folder / sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Any:
    """What a file keeps. Raises UnpicklingError where it is torn, or holds what we do not make; OSError without one."""
    digest, _, content = path.read_bytes().partition(b"\n")
    if sha256(content).hexdigest().encode() != digest:
        raise pickle.UnpicklingError(f"{path} is torn")
    try:
        return Reader(io.BytesIO(content)).load()
    except (ValueError, TypeError, AttributeError, EOFError, ImportError, KeyError, IndexError) as error:
        raise pickle.UnpicklingError(f"{path} cannot be read ({error})") from error


def write(path: Path, value: Any) -> None:
    """Keep a value, all or nothing; of what cannot be read again, nothing."""
    content = io.BytesIO()
    try:
        Writer(content, protocol=5).dump(value)
        Reader(io.BytesIO(content.getvalue())).load()
    except (pickle.PicklingError, pickle.UnpicklingError, TypeError, AttributeError):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(sha256(content.getvalue()).hexdigest().encode() + b"\n" + content.getvalue())
    os.replace(fresh, path)


class Writer(pickle.Pickler):
    """Writes tensors as arrays, and of gathered columns the rows that are meant."""

    def reducer_override(self, obj: Any) -> Any:
        """How a tensor or gathered columns are made again."""
        if isinstance(obj, Gathered):
            return dict, (dict(obj),)
        kind = type(obj)
        if (kind.__module__, kind.__name__) == ("torch", "Tensor"):
            return tensor, (obj.detach().cpu().numpy(),)
        return NotImplemented


class Reader(pickle.Unpickler):
    """Makes what stands in `MADE`, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """A class or function by its name. Raises UnpicklingError for what does not stand in `MADE`."""
        if MADE.get(name) != module:
            raise pickle.UnpicklingError(f"{module}.{name} is no record and no array")
        return super().find_class(module, name)


def tensor(array: Any) -> Any:
    """An array as a torch tensor."""
    return import_module("torch").from_numpy(array)


@cache
def code_digest(*classes: type) -> str:
    """A hash of the code that plays and answers: our own, and the modules of classes that others have brought."""
    root = Path(__file__).parents[2]
    files = {path for package in ("harness", "tasks", "agents") for path in (root / package).rglob("*.py")}
    for brought in classes:
        try:
            source = getsourcefile(brought)
        except TypeError:  # made in a session, which has no file
            source = None
        files |= {Path(source)} if source and Path(source).exists() else set()
    digest = sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
