"""Where the real data are, a base that is made once a test run, and the command line."""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: spinning threads are many times slower

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
for variable, folder in {"RAZORBENCH_DATA": SHARED / "data", "RAZORBENCH_ASSETS": SHARED / "assets"}.items():
    if variable not in os.environ and folder.is_dir():
        os.environ[variable] = str(folder)

needs_data = pytest.mark.skipif(
    "RAZORBENCH_DATA" not in os.environ, reason="RAZORBENCH_DATA is not set: the real data are not at hand"
)

needs_assets = pytest.mark.skipif(
    "RAZORBENCH_ASSETS" not in os.environ,
    reason="RAZORBENCH_ASSETS is not set: SimplerEnv's data files are not at hand",
)


def absent(why: str) -> NoReturn:
    """What this machine lacks: a reason to skip, but where everything is installed by a script that would be wrong."""
    if "CI" in os.environ:
        pytest.fail(why)
    pytest.skip(why)


LONG = {"slow": 2, "long": 20, "kill": 60, "browser": 60, "load": 60, "apart": 60, "real": 60, "robots": 60}
"""Marks of what takes long, as pyproject.toml explains them, and about how many seconds; or a mark says them itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that hold the longest come first, each in one piece, so that no core waits for a long test at last."""
    longest: dict[Path, float] = {}
    for item in items:
        marks = [mark for mark in item.iter_markers() if mark.name in LONG]
        seconds = max((mark.kwargs.get("seconds", LONG[mark.name]) for mark in marks), default=0)
        longest[item.path] = max(seconds, longest.get(item.path, 0))
    items.sort(key=lambda item: -longest[item.path])


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on standard error; a command that does not succeed says why in it."""
        return self.err.strip().rpartition("\n")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def razorbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this process. It must end in 0, or in 1 or 2 with one sentence; never in a traceback."""

    from razorbench.harness.cli import main

    def run(*argv: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["razorbench", *map(str, argv)])
        with pytest.raises(SystemExit) as left:
            sys.exit(main.main())
        ran = Ran(left.value.code or 0, *capsys.readouterr())  # type: ignore[arg-type]
        assert "Traceback" not in ran.err
        assert "RAZORBENCH_DEBUG" not in ran.err, f"an error that nobody has thought of: {ran.err}"
        if ran.code:
            assert ran.sentence.startswith({1: "failed: ", 2: "refused: "}[ran.code]), ran.err
        return ran

    return run


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Opens a page of the board on a home, at a permalink."""
    from streamlit.testing.v1 import AppTest

    def opened(home: Path, page: str, /, **parameters: str) -> AppTest:
        monkeypatch.setenv("RAZORBENCH_HOME", str(home))
        at = AppTest.from_file(str(ROOT / "leaderboard" / "app.py"), default_timeout=60)
        at.run()
        at.switch_page(f"views/{page}.py")
        at.query_params = dict(parameters)
        at.run()
        assert not at.exception, at.exception
        return at

    return opened


@pytest.fixture
def goes_its_whole_way(razorbench: Callable[..., Ran], tmp_path: Path) -> Callable[[Any, str], None]:
    """Adapts a small track by methods, scores and lists it, all by the commands: a row a method."""
    from razorbench.harness.tracks import files

    def go(track: Any, methods: str) -> None:
        (tmp_path / f"{track.id}.toml").write_text(files.toml(track))
        home, runs = tmp_path / "home", len(methods.split(","))
        how = ["--methods", methods, "--workers", 1, "--home", home]
        assert razorbench("sweep", tmp_path / f"{track.id}.toml", *how, "--json").json == {"runs": runs, "failed": 0}
        rows = razorbench("results", "--track", track.id, "--home", home, "--json").json
        assert len(rows) == runs
        assert all(row["drift"] >= 0 and row["retention"] is not None for row in rows)

    return go


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file grow over some bytes; the system then says `File too large`, as a full disk says `No space left`."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda room: resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip that says why."""
    if "RAZORBENCH_DATA" not in os.environ:
        pytest.skip("RAZORBENCH_DATA is not set: the real data are not at hand")
    return Path(os.environ["RAZORBENCH_DATA"])


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder that all test processes of a run share, so that the base is made once."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "home"


@pytest.fixture(scope="session")
def strange(shared_home: Path) -> Path:
    """A hostile home, made once a run, which no test changes."""
    from razorbench.submissions.queue import locked
    from tests.board_home import hostile

    place = shared_home.with_name("strange")
    with locked(shared_home.parent):
        if not place.exists():
            hostile(place.with_name("strange.part")).home.rename(place)
    return place


@pytest.fixture(scope="session")
def bench(data: Path, shared_home: Path):
    """ParityMNIST made ready."""
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.tracks.catalogue import find_track
    from razorbench.submissions.queue import locked

    shared_home.mkdir(exist_ok=True)
    with locked(shared_home):  # or two processes of the run would make the base
        return Bench(find_track("parity-mnist-v1"), shared_home)


@pytest.fixture(scope="module")
def toys() -> Iterator[None]:
    """The tasks, agents and tracks of tests/toys.py are known by their ids."""
    from razorbench.harness.core.registry import REGISTERED
    from razorbench.harness.tracks.catalogue import BASES, TRACKS
    from tests.toys import REACHING, SPELLING, TOYS

    with pytest.MonkeyPatch.context() as patch:
        for kind, made in TOYS.items():
            for id, what in made.items():
                patch.setitem(REGISTERED[kind], id, what)
        patch.setitem(TRACKS, SPELLING.id, SPELLING)
        patch.setitem(TRACKS, REACHING.id, REACHING)
        patch.setitem(BASES, SPELLING.base.id, SPELLING.base)
        yield


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a package with these entry points of `razorbench.tasks` on sys.path, as pip would install it."""

    from razorbench.harness.core import registry

    def install(points: str, code: str = "class Dice:\n    sides = 6\n", kinds: str = "tasks") -> None:
        (tmp_path / "plugin_of_test.py").write_text(code)
        info = tmp_path / "plugin_of_test-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-test\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[razorbench.{kinds}]\n{points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        registry.installed.cache_clear()
        monkeypatch.delitem(sys.modules, "plugin_of_test", raising=False)

    yield install
    registry.installed.cache_clear()
