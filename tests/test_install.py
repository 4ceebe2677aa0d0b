"""The package as others get it: a wheel that holds all it needs, installed where there is no checkout."""

import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("harness", "tasks", "agents", "submissions", "leaderboard")

pytestmark = pytest.mark.apart


def ran(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that must do its work, without what the tests' environment says of Python and razorbench."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAZORBENCH", "VIRTUAL"))
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**own, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of what git knows: a build folder of an earlier one may hold what is no longer there."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (source / name).symlink_to((ROOT / name).readlink())
        else:
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out)
    said = ran(sys.executable, *build, source, cwd=out)
    assert said.stdout + said.stderr == ""  # whoever installs it has other things to read
    (made,) = out.glob("*.whl")
    return made


def tracked() -> list[str]:
    """The files of the checkout, or of the export of one, that make the package."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.splitlines() or [
        str(path.relative_to(ROOT))
        for package in ("razorbench", *PACKAGES)
        for path in (ROOT / package).rglob("*")
        if (path.is_file() or path.is_symlink()) and "__pycache__" not in path.parts
    ]
    others = ("pyproject.toml", "README.md", "LICENSE")
    return [*(name for name in names if name.split("/")[0] in ("razorbench", *PACKAGES)), *others]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment outside the checkout that has the wheel, and from ours what it depends on."""
    place = tmp_path_factory.mktemp("environment")
    ran(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    (there,) = place.glob("lib/python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", place / "bin" / "python")
    ran(*pip, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (there / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return place / "bin"


def test_a_wheel_holds_every_file_of_the_packages(wheel: Path):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    told = {name if name.startswith("razorbench/") else f"razorbench/{name}" for name in tracked() if "/" in name}
    assert held == told - {f"razorbench/{package}" for package in PACKAGES}  # which are links


def test_what_is_installed_runs_the_demo_without_the_checkout(installed: Path, tmp_path: Path):
    where = ran(installed / "python", "-c", "import razorbench; print(razorbench.__file__)", cwd=tmp_path).stdout
    assert str(installed.parent) in where
    done = ran(installed / "razorbench", "demo", "--tracks", "mini-tools-v1", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert "mini-tools-v1: mini-tools, retaining seven skills" in done.stdout
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["mini-tools-v1 1 of 2", "mini-tools-v1 2 of 2"]
    for format, name in (("html", "report.html"), ("csv", "table.csv")):
        export = ("export", "mini-tools-v1", "--format", format, "--out", name)
        ran(installed / "razorbench", *export, cwd=tmp_path)
        assert (tmp_path / name).stat().st_size > 100


def test_it_works_beside_a_package_whose_import_name_is_agents(wheel: Path, installed: Path, tmp_path: Path):
    """As that of `openai-agents`: what has one name at its top cannot overwrite it, nor be overwritten by it."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", installed / "python", "--disable-pip-version-check")
    ran(*pip, "install", "openai-agents==0.24.0", cwd=tmp_path)
    code = "import agents, razorbench.agents; print(agents.Agent.__module__, razorbench.agents.__name__)"
    said = ran(installed / "python", "-c", code, cwd=tmp_path).stdout
    assert said.split() == ["agents.agent", "razorbench.agents"]
    assert "mini-lm-v1" in ran(installed / "razorbench", "agents", cwd=tmp_path).stdout
