"""What a submitter names, a folder or a repository on the hub at a pinned revision; and the claim in it."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import checkpoint
from harness.questions import fingerprints
from harness.registry import make
from harness.tracks import Track
from harness.types import Refused, Task
from submissions import claim as claims
from submissions.claim import Claim
from submissions.gate import Reference

HUB = re.compile(r"([\w.-]+/[\w.-]+)@(\w+)")
WANTED = ("*.safetensors", "*.json", "*.toml", "*.jinja", "*.hashes", "merges.txt", "seed-*/*", "checkpoints/*")
"""What is fetched from a repository; the gate decides whether it may stay."""
UNSAID = "not stated"
"""The licence of who says none."""


@contextmanager
def folder(source: str) -> Iterator[Path]:
    """The folder of a submission; of a repository on the hub, a copy that is removed afterwards.

    Refused if there is no such folder, if a revision is no full commit hash, or if the hub does not give it.
    """
    named = HUB.fullmatch(source)
    if Path(source).is_dir() or not named:
        if not Path(source).is_dir():
            cure = "name a folder, or a repository as OWNER/NAME@REVISION with the full commit hash"
            raise Refused(f"{source} is not a folder; {cure}")
        yield Path(source)
        return
    repository, revision = named.groups()
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise Refused(
            f"{revision!r} may move; name the revision of {repository} by its full commit hash, 40 hex digits"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    with TemporaryDirectory(prefix="razorbench-") as place:
        try:
            snapshot_download(repository, revision=revision, local_dir=place, allow_patterns=list(WANTED))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            why = str(error).strip().splitlines()[0]
            cure = "check the name, or download it and name the folder"
            raise Refused(f"the hub does not give {source} ({why}); {cure}") from None
        shutil.rmtree(Path(place) / ".cache", ignore_errors=True)
        yield Path(place)


def claim_of(place: Path, track: Track, said: Mapping[str, Any]) -> tuple[Claim, bool]:
    """The claim in a folder, and whether it had to be written there, from what was `said` and from checkpoint.json.

    Refused if the file says something else than `said`, or nothing says the method.
    """
    said = {name: value for name, value in said.items() if value}
    path = place / claims.FILE
    if path.exists():
        found = claims.read(path.read_text(encoding="utf-8", errors="replace"))
        for name, value in said.items():
            if getattr(found, name) != value:
                raise Refused(
                    f"{path} says {name} {getattr(found, name)!r}, and you say {value!r}; change one of the two"
                )
        return found, False
    made = _made(place, track)
    known = {"name": place.resolve().name, "licence": UNSAID, **made, **said, "track": track.id}
    if "method" not in known:
        raise Refused(f"{place} does not tell how it was adapted; say it with --method, as in --method sft")
    claim = Claim(**known)
    path.write_text(claims.write(claim), encoding="utf-8")
    return claim, True


def _made(place: Path, track: Track) -> dict[str, Any]:
    """What the folder itself tells: checkpoint.json of `razorbench adapt`, or folders of seeds."""
    made: dict[str, Any] = {}
    seeds = sorted(int(path.name[5:]) for path in place.glob("seed-*") if path.name[5:].isdigit())
    first = place / f"seed-{seeds[0]}" if seeds else place
    if (first / checkpoint.MANIFEST).exists():
        found = checkpoint.read_manifest(first / checkpoint.MANIFEST)
        usual = vars(track.settings)
        changed = {name: value for name, value in found.settings.items() if value != usual.get(name) or name == "lr"}
        made = {"method": found.method, "settings": changed, "seeds": () if found.seed is None else (found.seed,)}
        if "seconds" in found.cost:
            made["compute"] = {"seconds": round(found.cost["seconds"], 1)}
    return made | ({"seeds": tuple(seeds)} if seeds else {})


def reference(track: Track, home: Path) -> Reference:
    """What a submission to a track must fit. A base that is made on first use is made now."""
    weights = track.base.weights(home)
    if not weights.exists():
        from harness.bases import base_policy

        base_policy(track.base, home)
    beside = weights.parent if (weights.parent / "config.json").exists() else None
    return Reference(track.id, weights, beside)


def evaluated(track: Track) -> set[str]:
    """The fingerprints of all that a track scores with."""
    tasks = [make("task", id) for id in (track.new, *track.prior_tasks)]
    return {
        found
        for task in tasks
        if isinstance(task, Task)
        for found in fingerprints(task, task.instances("test").first(track.items))
    }
