"""The interpreter that SimplerEnv needs for itself: what it holds, how it is made from a checkout, what it lacks."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from razorbench import Refused

VARIABLE = "RAZORBENCH_SIMPLER_PYTHON"
"""The environment variable that holds the interpreter's path."""
COMMITS = {".": "4ab7178", "ManiSkill2_real2sim": "ef7a4d4"}
"""Folder of the checkout → the commit that all here was read from and tried with."""
PINNED = {"sapien": "2.2.2", "mani_skill2_real2sim": "0.5.3", "numpy": "1.26.4"}
"""Distributions whose version scores depend on."""
REQUIREMENTS = (
    *("sapien==2.2.2", "numpy==1.26.4", "gymnasium==0.29.1", "scipy==1.17.1", "ruckig==0.19.4", "transforms3d==0.4.2"),
    *("opencv-python==4.11.0.86", "imageio[ffmpeg]==2.38.1", "trimesh==5.2.0", "rtree==1.4.1", "h5py==3.16.0"),
    *("pyyaml==6.0.4", "tqdm==4.70.1", "GitPython==3.2.1", "tabulate==0.10.0", "gdown==6.5.1"),
    "setuptools<81",  # SAPIEN 2.2.2 imports pkg_resources
)
"""What is installed; numpy 2 gives SAPIEN 2.2.2 wrong inverse kinematics."""
CLONE = "git clone --recurse-submodules https://github.com/simpler-env/SimplerEnv"
CURE = (
    f"set {VARIABLE} to the interpreter that `razorbench simpler setup FOLDER` makes of a checkout of SimplerEnv "
    f"(`{CLONE}`)"
)
"""What to do where there is none."""
PYTHON = (3, 11)
"""razorbench needs it, and SAPIEN 2.2.2 has no build for a later one."""
MARK = "razorbench-requirements.txt"
"""Beside the interpreter: what was installed."""


def setup(folder: Path, python: str = "python3.11") -> Iterator[str]:
    """Make the environment in `.venv` of a checkout, and say each step. What is there already is not made again.

    Refused, before anything is made, where the folder is no checkout, is at another commit, or `python` is no 3.11.
    """
    folder = folder.absolute()
    yield from sources(folder)
    checked_python(python)
    home = folder / ".venv"
    inside, mark = home / "bin" / "python", home / MARK
    if inside.exists():
        yield f"{inside} is there"
    else:
        yield f"making {home} with {python}"
        run([python, "-m", "venv", str(home)], f"{python} has no venv: apt-get install python3-venv")
    wanted = "\n".join((*REQUIREMENTS, str(folder)))
    if mark.exists() and mark.read_text() == wanted:
        yield f"what it needs is installed ({mark.name})"
    else:
        pip = [str(inside), "-m", "pip", "install", "--quiet"]
        yield f"installing {len(REQUIREMENTS)} packages, 900 MB once they are unpacked"
        run([*pip, *REQUIREMENTS])
        yield "installing the checkout where it lies"
        run([*pip, "--no-deps", "--editable", str(folder / "ManiSkill2_real2sim"), "--editable", str(folder)])
        mark.write_text(wanted)
    run([str(inside), "-c", "import mani_skill2_real2sim.envs"], "what was installed cannot be imported")
    yield from lacking(folder)
    yield f"export {VARIABLE}={inside}"


def sources(folder: Path) -> Iterator[str]:
    """What the checkout is. Refused for what is none, or one of another commit."""
    for part, made in {".": "simpler_env", "ManiSkill2_real2sim": "mani_skill2_real2sim"}.items():
        if not (folder / part / made / "__init__.py").is_file() or not (folder / part / "setup.py").is_file():
            cure = f"git -C {folder} submodule update --init" if part != "." else f"{CLONE} {folder}"
            raise Refused(f"{folder} is no checkout of SimplerEnv: it has no {Path(part, made)}; run `{cure}`")
        found = commit(folder / part)
        if found and not found.startswith(COMMITS[part]):
            raise Refused(
                f"{folder / part} is at {found[:7]}, and the scores here are {COMMITS[part]}'s; run "
                f"`git -C {folder / part} checkout {COMMITS[part]}`"
            )
        yield f"{folder / part} is at {COMMITS[part]}" if found else f"{folder / part} has no git, so no known commit"


def commit(folder: Path) -> str:
    """The commit of a checkout; empty where git does not know one."""
    if not (folder / ".git").exists():
        return ""
    said = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip() if said.returncode == 0 else ""


def checked_python(python: str) -> None:
    """Refused for an interpreter that is not there, or that is no 3.11."""
    try:
        said = run([python, "-c", "import sys; print(*sys.version_info[:2])"])
    except FileNotFoundError:
        raise Refused(f"there is no {python}; name an interpreter of Python 3.11 by --python") from None
    if said.split() != [str(number) for number in PYTHON]:
        raise Refused(f"{python} is Python {'.'.join(said.split())}, and 3.11 is needed; name another by --python")


def lacking(folder: Path) -> Iterator[str]:
    """Stages of which a checkout without its large files has none."""
    from razorbench.tasks.simpler.table import TABLE

    names = {scene.name for rows in TABLE.values() for row in rows.values() for scene in row.scenes}
    stages = folder / "ManiSkill2_real2sim" / "data" / "hab2_bench_assets" / "stages"
    absent = [name for name in sorted(names) if "dummy" not in name and not (stages / f"{name}.glb").exists()]
    if absent:
        yield f"{len(absent)} stages are missing, and tasks on them will say so: {', '.join(absent)}"


def run(command: Sequence[str], why: str = "") -> str:
    """What a command prints. Refused, with the end of what it says, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        end = " ".join((done.stderr or done.stdout).split("\n")[-4:]).strip()
        raise Refused(f"{why or 'it failed'}: `{' '.join(command[:4])} …` said: {end}")
    return done.stdout
