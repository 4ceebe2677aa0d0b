"""Which tracks and bases there are: ours, those that scripts and other packages bring, and those of a home.

Ours stand in `ours/`, a file each. A home has those that its rows were made on, in its folder `tracks`.
"""

import os
import re
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import ID, family, find, ids, known, unknown
from razorbench.harness.tracks.files import read_base, read_track, toml
from razorbench.harness.tracks.spec import Base, Track

OURS = Path(str(files("razorbench.harness.tracks"))) / "ours"

BASES: dict[str, Base] = {base.id: base for base in map(read_base, sorted((OURS / "bases").glob("*.toml")))}
"""Our bases by id; of two versions the newer stands later."""

TRACKS: dict[str, Track] = {
    id: read_track(OURS / f"{id}.toml", BASES.__getitem__)
    for id in (
        *("parity-mnist-v1", "parity-mnist-anew-v1", "parity-mnist-short-v1"),
        *("mini-math-v1", "mini-science-v1", "mini-tools-v1"),
        *("mini-robot-air-v2", "mini-robot-air-last-v1"),
        *("maniskill-pick-cube-v1", "google-coke-can-sapien3-v1", "libero-spatial-cabinet-v1"),
        *("smollm2-sentiment-v1", "smollm2-arithmetic-v1"),
        *("qwen2.5-3b-math-v1", "qwen2.5-3b-science-v1", "qwen2.5-3b-tools-v1"),
        *("qwen2.5-7b-science-v1", "qwen2.5-14b-science-v1"),
        "openvla-7b-coke-can-v1",
    )
}
"""Our tracks by id, in the order in which they are shown."""

GROUPS: dict[str, tuple[str, ...]] = {
    "qwen2.5-scaling-v1": ("qwen2.5-3b-science-v1", "qwen2.5-7b-science-v1", "qwen2.5-14b-science-v1"),
}
"""Tracks that a sweep goes through by one name: `qwen2.5-scaling-v1` is figure 8 of arXiv 2509.04259."""

FED = ("google-",)
"""How the ids of tasks begin that need files which a user has brought."""
FRESH = [
    track
    for track in TRACKS.values()
    if not (track.base.origin or family("task", track.new) or track.new.startswith(FED))
]
"""Those that a fresh machine without a GPU can run: no base to fetch, no simulator that is installed for it alone, no
files to bring.
"""


def all_tracks(home: Path | None = None) -> dict[str, Track]:
    """All tracks by id: ours, then those that scripts, other packages and the home bring, but for what cannot be
    loaded.
    """
    tracks = dict(TRACKS)
    for id in [*ids("track"), *(path.stem for path in own_files(home))]:
        with suppress(Refused):
            tracks.setdefault(id, find_track(id, home))
    return tracks


def find_track(id: str, home: Path | None = None) -> Track:
    """The track of that id, or of a file that is named by its path and ends in `.toml`.

    Refuses an unknown one and names the nearest, what is no track of that id, and a file that cannot be one, or holds
    another track than the one of its id here.
    """
    if id.endswith(".toml"):
        track = from_file(Path(id))
        if home:
            refuse_other(track, home)
        return track
    if home and not known("track", id) and ID.fullmatch(id) and os.path.exists(path := own_file(home, id)):
        track = from_file(path)
        if track.id != id:
            raise Refused(f"{path} holds the track {track.id!r}; name the file {track.id}.toml")
        return track
    if not known("track", id):
        raise Refused(unknown("track", id, [*ids("track"), *(path.stem for path in own_files(home))]))
    track = find("track", id)
    if isinstance(track, Path | str):
        track = from_file(Path(track))
    if not isinstance(track, Track) or track.id != id:
        raise Refused(f"what is registered as the track {id!r} is not one: it should be a Track of that id")
    return track


def find_tracks(name: str, home: Path | None = None) -> list[Track]:
    """The tracks of a group by its name, or the one of that id or file; refused as `find_track` refuses."""
    return [find_track(id, home) for id in GROUPS.get(name, (name,))]


def known_track(id: str, home: Path | None = None) -> Track | None:
    """The track of that id; None of one that nobody here knows, as in the home of others."""
    with suppress(Refused):
        return find_track(id, home)
    return None


def own_file(home: Path, id: str) -> Path:
    """Where a home keeps the file of a track."""
    return home / "tracks" / f"{id}.toml"


def own_files(home: Path | None) -> list[Path]:
    """The track files of a home."""
    return sorted((home / "tracks").glob("*.toml")) if home else []


def from_file(path: Path) -> Track:
    """The track of a file; one that has not changed since is not read again."""
    try:
        told = path.stat()
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}); give the path of a track's .toml file") from None
    return _from_file(path, told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=256)
def _from_file(path: Path, size: int, changed: int) -> Track:
    return read_track(path, find_base)


def other_track(track: Track, home: Path) -> Track | None:
    """The track that has this id here, ours, another package's or the home's, where that is another one."""
    path = own_file(home, track.id)
    for other in (known_track(track.id), from_file(path) if path.exists() else None):
        if other and other.digest != track.digest:
            return other
    return None


def add_track(track: Track, home: Path) -> None:
    """Put a track's file into a home, which from then on knows it; one of ours every home knows.

    Refuses an id that means another track here: rows of the two would not compare.
    """
    refuse_other(track, home)
    path = own_file(home, track.id)
    if track.id not in TRACKS and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(toml(track), encoding="utf-8")
        os.replace(fresh, path)


def refuse_other(track: Track, home: Path) -> None:
    """Refuse an id that means another track here."""
    if other := other_track(track, home):
        raise Refused(
            f"{track.id!r} is another track here, of hash {other.digest}, not {track.digest}; "
            "give yours a new id, such as a higher version"
        )


def table_key(id: str, digest: str, home: Path | None) -> str:
    """Under which name rows of a track are compared: its id; of a track that has this id and is another, id@hash.

    `digest` is that of the record; records that are older than it have none, and are of the track that has the id.
    """
    here = known_track(id, home)
    return id if not digest or (here and here.digest == digest) else f"{id}@{digest[:8]}"


def find_base(id: str) -> Base:
    """The base of that id; without its version, the newest. Refuses an unknown one and names the nearest."""
    named = [name for name in BASES if id in (name, re.sub(r"-v\d+$", "", name))]
    return find("base", named[-1] if named else id)
