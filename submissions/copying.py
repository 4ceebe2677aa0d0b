"""Copying a stranger's folder in: plain files of known names alone, read through the descriptors that were checked.

A file is looked at after it is opened, so nothing can be put in its place in between; and what is checked further is
the copy, which nobody else can change.
"""

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from razorbench import Refused
from razorbench.harness.learn.saved import ADAPTER_CONFIG, ADAPTERS, INDEX, WEIGHTS
from razorbench.submissions.claim import FILE
from razorbench.submissions.strict import shown

MIB = 2**20
TIMES, SPARE = 8, 64 * MIB
"""A submission may have so many times the bytes of the base's weights a seed, and so many bytes besides."""

SHARD = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
"""One of several files with weights, as transformers saves large models; an index tells which is where."""

WHOLE = 2**62
"""For weights: no cap but what is left of the limit."""

FILES = {
    WEIGHTS: WHOLE,
    ADAPTERS: WHOLE,
    "tokenizer.json": 32 * MIB,
    "vocab.json": 32 * MIB,
    "merges.txt": 32 * MIB,
    "curve.jsonl": 16 * MIB,
    INDEX: 16 * MIB,
}
"""The most bytes of a file, by name; 1 MiB where nothing is said."""
FILES |= dict.fromkeys(
    "adapter_config.json config.json generation_config.json tokenizer_config.json special_tokens_map.json "
    "added_tokens.json chat_template.jinja dataset_statistics.json checkpoint.json README.md LICENSE".split(),
    MIB,
)

HASHES = re.compile(r"[A-Za-z0-9_-]+\.hashes")
SEED = re.compile(r"seed-(0|[1-9][0-9]{0,9})")
WAYPOINTS = "checkpoints"
WAYPOINT = re.compile(r"[0-9]{8}\.safetensors")
"""Weights in mid-training, by step."""
BASE_POINT = "00000000.safetensors"
"""Step 0 is the base; every track has that point of its own."""

MOST_FILES, MOST_WAYPOINTS = 256, 64
MOST_ENTRIES = 4096
"""What is passed over included, which may be the pictures or logs of a run."""
ALSO = 200
"""Characters in which other names that are refused are told."""
BEGINNINGS = (WEIGHTS, ADAPTERS, INDEX)
"""The files that weights begin with."""

LEFTOVERS = (
    "training_args.* trainer_state.json optimizer.* optimizer_[0-9]* scheduler.pt scaler.pt rng_state.pth "
    "rng_state_*.pth checkpoint-[0-9]* ref runs logs wandb completions events.out.tfevents.* global_step* latest "
    "zero_to_fp32.py pytorch_model_fsdp* *_results.json trainer_log.jsonl trainer_config.yaml llamaboard_config.yaml "
    "running_log.txt Modelfile args.json additional_config.json logging.jsonl val_dataset.jsonl images "
    "tokens_state.json debug.log *.png .git .gitattributes .gitignore .cache .DS_Store ._* __MACOSX Thumbs.db "
    "desktop.ini __pycache__ .ipynb_checkpoints LICENSE.* NOTICE NOTICE.* Notice.* USE_POLICY.*"
).split()
"""What lies beside weights where TRL, LLaMA-Factory, ms-swift, axolotl, FSDP and DeepSpeed train, git and `hf download`
fetch, and Finder looks: patterns of names that are passed over, neither opened nor copied.
"""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
CURES = {
    PICKLES: "pickle can run code: save the weights as safetensors",
    (".py", ".pyc", ".so", ".sh", ".ipynb"): "code is never run: remove it",
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".zst"): "an archive is not opened: unpack it",
    (".gguf", ".onnx", ".h5", ".msgpack", ".tflite"): "this format is not read: convert to safetensors",
}
"""What to do about names that are not on the list, by how they end."""


def limit(base_bytes: int, seeds: int) -> int:
    """The most bytes of a submission of so many folders of seeds (0: none), by the bytes of the base's weights.

    Eight times the weights leave room for those in mid-training.
    """
    return max(1, seeds) * TIMES * base_bytes + SPARE


def allowed(name: str) -> bool:
    """Whether a file of that name, such as `seed-0/config.json`, may be in a submission."""
    *folders, file = name.split("/")
    at = ""
    try:
        for each in folders:
            _check_folder(each, at)
            at += f"{each}/"
        _check_name(file, at)
        _check_file(file, at)
    except Refused:
        return False
    return not any(map(passed_over, name.split("/")))


def passed_over(name: str) -> bool:
    """Whether a file or folder of that name is left where it is."""
    return any(fnmatchcase(name, pattern) for pattern in LEFTOVERS)


def take(source: Path, target: Path, limit: int, left: Callable[[str], Any] = lambda name: None) -> dict[str, str]:
    """Copy a submitted folder, of at most `limit` bytes, to the new folder `target`: the sha256 of each file by name.

    What training tools leave (`LEFTOVERS`) is passed over, and `left` told its name. Refused at anything else but plain
    files of known names; then nothing is left of `target`. OSError if the disk is full.
    """
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise Refused(f"{target} exists: name a folder that does not, to copy the submission to") from None
    try:
        target.chmod(0o755)
        return _walk(source, limit, target, left)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def inventory(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a folder by name, under the same rules; nothing is copied."""
    return _walk(folder, WHOLE, None, lambda name: None)


def _walk(source: Path, limit: int, target: Path | None, left: Callable[[str], Any]) -> dict[str, str]:
    """The sha256 of each file by name, copied on the way where there is a target."""
    digests: dict[str, str] = {}

    def folder(handle: int, at: str) -> None:
        nonlocal limit
        for name, cap in _entries(handle, at, left):
            where = f"{at}{name}"
            if cap is None:
                if target:
                    (target / where).mkdir()
                    (target / where).chmod(0o755)
                with _opened(name, where, os.O_DIRECTORY, handle) as inner:
                    folder(inner, f"{where}/")
                continue
            if len(digests) == MOST_FILES:
                raise Refused(f"the submission has more than {MOST_FILES} files: bring what is scored alone")
            with _opened(name, where, 0, handle) as file:
                digests[where], read = _read(file, where, cap, limit, target and target / where)
            limit -= read
        steps = [name for name in digests if name.startswith(f"{at}{WAYPOINTS}/") and name.endswith(".safetensors")]
        if len(steps) > MOST_WAYPOINTS:
            raise Refused(f"{at}{WAYPOINTS} holds more than {MOST_WAYPOINTS} checkpoints: bring fewer steps")

    with _opened(os.fspath(source), os.fspath(source), os.O_DIRECTORY, None) as root:
        folder(root, "")
    return dict(sorted(digests.items()))


def _entries(handle: int, at: str, left: Callable[[str], Any]) -> list[tuple[str, int | None]]:
    """What is in a folder by name, with the most bytes that the file may have; None for a folder.

    Refused if something may not be there; the sentence tells of the first, and names the others.
    """
    with os.scandir(handle) as entries:
        listed = list(islice(entries, MOST_ENTRIES + 1))
    over = sorted((entry for entry in listed if passed_over(entry.name)), key=_last_step)
    kept = sorted((entry for entry in listed if not passed_over(entry.name)), key=lambda entry: entry.name)
    if len(kept) > MOST_FILES or len(listed) > MOST_ENTRIES:
        raise Refused(f"the folder {shown(at or '.')} has more than {MOST_FILES} entries: bring what is scored alone")
    last = {entry.name.casefold(): entry.name for entry in kept}
    taken: list[tuple[str, int | None]] = []
    refused: dict[str, str] = {}
    for entry in kept:
        try:
            _check_name(entry.name, at)
            if (other := last[entry.name.casefold()]) != entry.name:
                raise Refused(
                    f"{shown(at + entry.name)} and {shown(at + other)} differ in case alone: keep one of them"
                )
            if _is_folder(entry, at):
                _check_folder(entry.name, at, handle)
                taken.append((entry.name, None))
            else:
                taken.append((entry.name, _check_file(entry.name, at)))
        except Refused as why:
            refused[entry.name] = str(why)
    if refused:
        first, *others = refused
        raise Refused(refused[first] + _also(others))
    holds = not at or SEED.fullmatch(at.rstrip("/"))
    if holds and not any(name in BEGINNINGS or SEED.fullmatch(name) for name, _ in taken):
        _point_to_weights(handle, at, [entry.name for entry in over])
    for entry in sorted(over, key=lambda entry: entry.name):
        left(f"{at}{entry.name}")
    return taken


def _also(others: list[str]) -> str:
    """The names of what else is refused, as the end of a sentence; not all of very many."""
    if not others:
        return ""
    named, room = [], ALSO
    for name in map(shown, others):
        if (room := room - len(name) - 2) < 0:
            break
        named.append(name)
    rest = len(others) - len(named)
    told = ", ".join([*named, *([f"{rest} more"] if rest else [])])
    return f"; {told} {'is' if len(others) == 1 else 'are'} refused, too"


def _last_step(entry: os.DirEntry[str]) -> tuple[int, str]:
    """To sort a trainer's checkpoint-30 behind its checkpoint-4, and before what is none."""
    step = re.fullmatch(r"checkpoint-([0-9]{1,18})", entry.name)
    return (-int(step[1]) if step else 1, entry.name)


def _holds_weights(handle: int, name: str) -> bool:
    """Whether a folder in the folder `handle` holds a file with which weights begin."""
    try:
        with _opened(name, name, os.O_DIRECTORY, handle) as inner, os.scandir(inner) as entries:
            return any(entry.name in BEGINNINGS for entry in islice(entries, MOST_ENTRIES))
    except (Refused, OSError):
        return False


def _point_to_weights(handle: int, at: str, names: list[str]) -> None:
    """Refused where only a folder that is passed over holds weights: the latest of a trainer's is named."""
    for name in names:
        if _holds_weights(handle, name):
            where = shown(at or ".")
            raise Refused(f"the folder {where} itself holds no weights, and {shown(at + name)} does: submit that one")


def _check_name(name: str, at: str) -> None:
    """Refused unless a name is the same on every machine, and neither hidden nor an option."""
    where = shown(at + name)
    if name.startswith(".git"):
        raise Refused(f"{where} is git's own: remove it, or export the folder with git archive")
    if name.startswith((".", "-")):
        raise Refused(f"{where} begins with a dot or a dash, as hidden files and options do: remove it")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise Refused(f"{where} is a name with other characters than A–Z, a–z, 0–9, '.', '_', '-': rename it")
    if len(name) > 100:
        raise Refused(f"{where} is a name of {len(name)} characters: 100 are the most")


def _is_folder(entry: os.DirEntry[str], at: str) -> bool:
    """Whether it is a folder, not a file. Refused if it is neither."""
    where = shown(at + entry.name)
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError as error:
        raise Refused(f"{where} cannot be looked at ({error.strerror}): let it be read, and leave it alone") from None
    if stat.S_ISLNK(mode):
        raise Refused(
            f"{where} is a symbolic link: put the file itself there (cp -rL FOLDER COPY), or of a repository on the "
            "hub submit OWNER/NAME@REVISION"
        )
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise Refused(f"{where} is a device, pipe or socket, and a plain file was expected: remove it")
    return stat.S_ISDIR(mode)


def _check_folder(name: str, at: str, handle: int | None = None) -> None:
    """Refused unless a folder of that name may be in the folder `at`, which is open as `handle`."""
    if name == WAYPOINTS and not at.endswith(f"{WAYPOINTS}/"):
        return
    if not at and (match := SEED.fullmatch(name)) and int(match[1]) < 2**31:
        return
    where = shown(at + name)
    if handle is not None and _holds_weights(handle, name):
        raise Refused(f"{where} is a folder with weights of its own: submit FOLDER/{at}{name}, or move it elsewhere")
    raise Refused(f"{where} is a folder that is not used here: only seed-<n> and {WAYPOINTS} are, so move it elsewhere")


def _check_file(name: str, at: str) -> int:
    """The most bytes of a file of that name in the folder `at`. Refused where there may be none."""
    where = shown(at + name)
    if at.endswith(f"{WAYPOINTS}/"):
        if name == ADAPTER_CONFIG:  # `razorbench adapt` writes it beside adapters
            return MIB
        if name == BASE_POINT:
            raise Refused(f"{where} is step 0, which is the base and is scored already: remove it")
        if WAYPOINT.fullmatch(name):
            return WHOLE
        raise Refused(f"{where} is not a checkpoint by its step, such as 00000100.safetensors: rename or remove it")
    if name == FILE:
        if at:
            raise Refused(f"{where} is a second {FILE}: keep the one in the submission's own folder")
        return MIB
    if name in FILES:
        return FILES[name]
    if HASHES.fullmatch(name):
        return 64 * MIB
    if SHARD.fullmatch(name):
        return WHOLE
    for endings, cure in CURES.items():
        if name.lower().endswith(endings):
            raise Refused(f"{where} is not on the list of files: {cure}")
    raise Refused(f"{where} is not used: remove it")


@contextmanager
def _opened(path: str, where: str, flags: int, within: int | None) -> Iterator[int]:
    """A descriptor to read from, never through a link, never waiting."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=within)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        kind = "folder" if flags & os.O_DIRECTORY else "file"
        raise Refused(
            f"{shown(where)} cannot be opened as a {kind} ({why}): bring a plain one that can be read"
        ) from None
    try:
        yield handle
    finally:
        os.close(handle)


def _read(handle: int, where: str, cap: int, limit: int, copy: Path | None) -> tuple[str, int]:
    """The sha256 and the bytes of an opened file, which is copied on the way."""
    before = os.fstat(handle)
    if not stat.S_ISREG(before.st_mode):
        raise Refused(f"{where} is no plain file any more: leave the files alone until they are in")
    if before.st_nlink != 1:
        raise Refused(f"{where} is a hard link, one of {before.st_nlink} names of a file: put a copy of its own there")
    if before.st_size > cap:
        raise Refused(f"{where} has {before.st_size:,} bytes: {cap:,} are the most for a file of that name")
    if before.st_size > limit:
        raise Refused(
            f"{where} has {before.st_size:,} bytes, and {limit:,} are left of what a submission may have: bring less"
        )
    hash, read = sha256(), 0
    writer = open(copy, "xb") if copy else None  # noqa: SIM115 - closed below
    try:
        while piece := os.read(handle, min(MIB, before.st_size - read + 1)):
            read += len(piece)
            if read > before.st_size:
                break
            hash.update(piece)
            if writer:
                writer.write(piece)
        if writer:
            os.fchmod(writer.fileno(), 0o444)
    finally:
        if writer:
            writer.close()
    after = os.fstat(handle)
    if read != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise Refused(f"{where} changed while it was copied: bring it again, and leave it alone until it is in")
    return hash.hexdigest(), read
