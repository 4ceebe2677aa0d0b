"""Where the real data are, and a base that is made once a test run."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: spinning threads are many times slower

import pytest

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
if "RAZORBENCH_DATA" not in os.environ and SHARED.is_dir():
    os.environ["RAZORBENCH_DATA"] = str(SHARED)

needs_data = pytest.mark.skipif(
    "RAZORBENCH_DATA" not in os.environ, reason="RAZORBENCH_DATA is not set: the real images are not at hand"
)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip that says why."""
    if "RAZORBENCH_DATA" not in os.environ:
        pytest.skip("RAZORBENCH_DATA is not set: the real images are not at hand")
    return Path(os.environ["RAZORBENCH_DATA"])


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder that all test processes of a run share, so that the base is made once."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "home"


@pytest.fixture(scope="session")
def bench(data: Path, shared_home: Path):
    """ParityMNIST made ready."""
    from harness.score import Bench
    from harness.tracks import find_track

    return Bench(find_track("parity-mnist-v1"), shared_home)


@pytest.fixture(scope="module")
def toys() -> Iterator[None]:
    """The tasks, agents and the track of tests/toys.py are known by their ids."""
    from harness.registry import REGISTERED
    from harness.tracks import BASES, TRACKS
    from tests.toys import SPELLING, TOYS

    with pytest.MonkeyPatch.context() as patch:
        for kind, made in TOYS.items():
            for id, what in made.items():
                patch.setitem(REGISTERED[kind], id, what)
        patch.setitem(TRACKS, SPELLING.id, SPELLING)
        patch.setitem(BASES, SPELLING.base.id, SPELLING.base)
        yield
