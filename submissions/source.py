"""What a submitter names, a folder or a repository on the hub at a pinned revision; and the claim in it."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import Field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import normalize

from razorbench import Refused, Task
from razorbench.harness.core.questions import fingerprints
from razorbench.harness.learn.checkpoint import MANIFEST
from razorbench.harness.learn.saved import check_base, unknown_base
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks.origins import ON_HUB, from_hub
from razorbench.harness.tracks.spec import Track
from razorbench.submissions import claim as claims
from razorbench.submissions.claim import Claim
from razorbench.submissions.copying import MOST_FILES, SEED, allowed
from razorbench.submissions.gate import Reference
from razorbench.submissions.strict import SMALL, parse, shown

UNSAID = "not stated"
"""The licence of who says none."""


@contextmanager
def folder(source: str, limit: int) -> Iterator[Path]:
    """The folder of a submission; of a repository on the hub, a copy of at most `limit` bytes that is removed after.

    Of a repository, only files that a submission may have are fetched. Refused if there is no such folder, if a
    revision is no full commit hash, if the files are too large, or if the hub does not give them. OSError if the disk
    is full.
    """
    if os.path.isdir(source):
        yield Path(os.path.realpath(source))
        return
    named = ON_HUB.fullmatch(source)
    if not named:
        cure = "name a folder, or a repository as OWNER/NAME@REVISION with the full commit hash"
        raise Refused(f"{source} is not a folder; {cure}")
    repository, revision = named.groups()
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise Refused(
            f"{revision!r} may move; name the revision of {repository} by its full commit hash, 40 hex digits"
        )
    with TemporaryDirectory(prefix="razorbench-") as place:
        _fetch(repository, revision, limit, place)
        yield Path(place)


def _fetch(repository: str, revision: str, limit: int, place: str) -> None:
    """Download those files of a repository that a submission may have, after a look at their sizes."""
    import huggingface_hub

    source, cure = f"{repository}@{revision}", "check the name, or download it and name the folder"
    with from_hub(source, cure):
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size for file in info.siblings or () if allowed(file.rfilename)}
    if not sizes:
        raise Refused(f"{source} has no file that a submission may have; save the weights there as safetensors")
    if len(sizes) > MOST_FILES:
        raise Refused(f"{source} has {len(sizes):,} files to fetch, and {MOST_FILES} are the most; bring fewer")
    if unknown := [name for name, size in sizes.items() if size is None]:
        raise Refused(f"the hub does not tell the size of {unknown[0]} of {source}; download it and name the folder")
    total = sum(size or 0 for size in sizes.values())
    if total > limit:
        raise Refused(f"{source} has {total:,} bytes to fetch, and {limit:,} are the most for this track; bring less")
    with from_hub(source, cure):  # the names are exact: those that are allowed have no character of a pattern
        huggingface_hub.snapshot_download(repository, revision=revision, local_dir=place, allow_patterns=list(sizes))


def claim_of(copy: Path, track: Track, said: Mapping[str, Any], name: str) -> tuple[Claim, bool]:
    """The claim in a folder that `copying.take` made, and whether it had to be written there.

    It is written from what was `said`, from the folders of seeds and from checkpoint.json; `name` is for the board,
    where none is said. Refused if the file says something else than `said`, or if nothing says the method.
    """
    said = {key: value for key, value in said.items() if value}
    path = copy / claims.FILE
    if path.exists():
        written = claims.load(path)
        for key, value in said.items():
            if getattr(written, key) != value:
                raise Refused(
                    f"{claims.FILE} says {key} {getattr(written, key)!r}, and you say {value!r}; change one of the two"
                )
        return written, False
    if "name" not in said:
        said["name"] = _name(name)
    known = {"licence": UNSAID, **_made(copy, track), **said, "track": track.id}
    if "method" not in known:
        raise Refused("nothing in the folder tells how it was adapted; say it with --method, as in --method sft")
    claim = Claim(**known)
    path.write_text(claims.write(claim), encoding="utf-8")
    path.chmod(0o444)  # as `take` leaves the others
    return claim, True


@contextmanager
def held(place: Path) -> Iterator[int]:
    """The submitter's own folder as it is now, open: what is put in the place of its path later is another one."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def leave(folder: int, text: str) -> bool:
    """Put a submission.toml into the submitter's own folder, which is open as a descriptor. False where there is one,
    or it cannot be written.
    """
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        handle = os.open(claims.FILE, flags, 0o666, dir_fd=folder)
    except OSError:
        return False
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        with suppress(OSError):
            os.unlink(claims.FILE, dir_fd=folder)  # half of it
        return False
    return True


def _name(name: str) -> str:
    """A folder's name as the name on the board. Refused if the board cannot show it."""
    name = normalize("NFC", name)  # macOS takes letters and their accents apart
    try:
        return claims.words(name or " ", claims.NAME, "the folder's name")
    except Refused:
        raise Refused(
            f"the folder's name {shown(name)} cannot be shown on the board; say another with --name"
        ) from None


def _made(copy: Path, track: Track) -> dict[str, Any]:
    """What the folder itself tells: checkpoint.json of `razorbench adapt`, or folders of seeds."""
    seeds = sorted(int(match[1]) for path in copy.iterdir() if (match := SEED.fullmatch(path.name)))
    if len(seeds) > claims.SEEDS:
        raise Refused(f"there are {len(seeds)} folders of seeds: {claims.SEEDS} are the most")
    file = f"seed-{seeds[0]}/{MANIFEST}" if seeds else MANIFEST
    made = _told(parse((copy / file).read_bytes(), file, SMALL), file, track) if (copy / file).exists() else {}
    return made | ({"seeds": tuple(seeds)} if seeds else {})


def _told(manifest: Mapping[str, Any], file: str, track: Track) -> dict[str, Any]:
    """What a claim takes from a checkpoint.json. What is not as `razorbench adapt` writes it is left out."""
    made: dict[str, Any] = {}
    method, seed, settings, cost = (manifest.get(key) for key in ("method", "seed", "settings", "cost"))
    if isinstance(method, str) and claims.METHOD.fullmatch(method):
        made["method"] = method
    if type(seed) is int and 0 <= seed < 2**31:
        made["seeds"] = (seed,)
    if isinstance(settings, dict):
        usual = vars(track.settings)
        kept = {each.name: settings[each.name] for each in fields(Settings) if _plain(settings.get(each.name), each)}
        kept.pop("teacher", None)  # a folder of the maker's own machine
        changed = {name: value for name, value in kept.items() if value != usual[name] or name == "lr"}
        made["settings"] = claims.table({"settings": changed}, "settings", claims.ROWS, file)
    seconds = cost.get("seconds") if isinstance(cost, dict) else None
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        made["compute"] = claims.table({"compute": {"seconds": round(seconds, 1)}}, "compute", 1, file)
    return made


def _plain(value: Any, setting: Field) -> bool:
    """Whether a value has the type of a setting; whole numbers are floats, true and false are no numbers."""
    kind = type(setting.default)
    return type(value) is kind or (kind is float and type(value) is int)


def reference(track: Track, home: Path) -> Reference:
    """What a submission to a track must fit. A base that is made or fetched on first use is so now."""
    if not track.base.weights(home).exists():
        from razorbench.harness.tracks.bases import base_policy

        base_policy(track.base, home)
    beside = track.base.beside(home)
    return Reference(
        track.id, track.base.weights(home), beside if beside and (beside / "config.json").exists() else None
    )


def trained_on(base: str, reference: Reference, local: bool) -> str:
    """What is known of the model that adapters say they were trained on, in a sentence.

    Refused where it is a folder here with other weights than the track's base; the path that somebody on the hub wrote
    is not looked at.
    """
    called = f"the base of {reference.track}"
    return check_base(base, reference.weights, called) if local else unknown_base(base, called)


def evaluated(track: Track) -> set[str]:
    """The fingerprints of all that a track scores with."""
    tasks = [track.task(id) for id in track.tasks]
    return {
        fingerprint
        for task in tasks
        if isinstance(task, Task)
        for fingerprint in fingerprints(task, task.instances("test").first(track.items))
    }
