"""Who may import whom: the doors of docs/design.md, walked in the source and in a fresh interpreter."""

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import razorbench

ROOT = Path(__file__).parent.parent
PACKAGES = ("harness", "tasks", "agents", "submissions", "leaderboard")
ROOMS = ("core", "learn", "tracks", "measure", "store", "runs", "report", "cli")
"""The rooms of `harness`: none imports from a later one."""
POLICY = ("learn.policy", "learn.runtime", "learn.saved", "learn.shards", "learn.vocabulary")
"""What an agent may know of the engine."""
COMMANDS = ("razorbench.leaderboard.serve", "razorbench.submissions.commands")
"""What the command line reaches beyond `harness`."""
TORCHLESS = (
    "razorbench",
    *(f"razorbench.harness.core.{name}" for name in ("lanes", "questions")),
    *(f"razorbench.harness.learn.{name}" for name in ("settings", "runtime", "saved")),
    *(f"razorbench.harness.measure.{name}" for name in ("statistics", "ranking", "law", "record", "answers")),
    *(f"razorbench.harness.tracks.{name}" for name in ("catalogue", "variants")),
    *(f"razorbench.harness.store.{name}" for name in ("database", "results", "aggregates", "server")),
    *(f"razorbench.harness.report.{name}" for name in ("flags", "plots", "export", "every_eval_ever", "page")),
    *(f"razorbench.harness.cli.{name}" for name in ("main", "check.verdicts", "doctor", "scaffold")),
    *(f"razorbench.submissions.{name}" for name in ("commands", "gate", "lease", "queue", "source")),
)
GATE = ("claim", "strict", "tensors", "copying", "template", "render", "language", "fit", "gate")
"""The modules of `submissions` that read what a stranger has written."""
LINES = 450
"""No module is longer, or it does two things."""


def imports(file: Path) -> set[str]:
    """Our modules that a file imports, wherever in it."""
    named = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name for name in inner if exists(name)} or {node.module}
    return {name for name in named if name.split(".")[0] == "razorbench"}


def exists(name: str) -> bool:
    """Whether there is a module of that name."""
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def files(package: str) -> list[Path]:
    """The modules of a package."""
    listed = sorted((ROOT / package).rglob("*.py"))
    assert listed
    return listed


def within(name: str, *packages: str) -> bool:
    """Whether a module is one of these packages, or stands in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("package", "doors"),
    {
        "tasks": ("razorbench.tasks",),
        "agents": ("razorbench.agents", *(f"razorbench.harness.{name}" for name in POLICY)),
        "submissions": ("razorbench.submissions", "razorbench.harness"),
        "leaderboard": ("razorbench.leaderboard", "razorbench.harness", "razorbench.submissions.queue"),
    }.items(),
)
def test_package_imports_only_what_the_design_allows(package, doors):
    """And all of them the public door, which is where tasks and agents have their words from."""
    for file in files(package):
        wrong = {name for name in imports(file) if name != "razorbench" and not within(name, *doors)}
        assert wrong == set(), file.name


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_none_after_it(room):
    """And none from tasks and agents, which are found by name."""
    before = [f"razorbench.harness.{name}" for name in ROOMS[: ROOMS.index(room) + 1]]
    for file in files(f"harness/{room}"):
        wrong = {name for name in imports(file) if name != "razorbench" and not within(name, *before)}
        assert {name for name in wrong if room != "cli" or name not in COMMANDS} == set(), file.name


def test_every_room_has_its_place():
    """And no module stands outside a room."""
    inside = {path.name for path in (ROOT / "harness").iterdir() if path.name != "__pycache__"}
    assert inside == {*ROOMS, "__init__.py"}


@pytest.mark.parametrize("package", ["razorbench", *PACKAGES])
def test_no_module_is_too_long(package):
    long = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files(package)}
    assert {name: lines for name, lines in long.items() if lines > LINES} == {}


@pytest.mark.slow
def test_no_module_imports_by_the_former_names():
    """`harness` and the others are folders of the checkout; what is imported is `razorbench.harness`."""
    for package in ("razorbench", *PACKAGES, "tests", "benchmarks"):
        for file in files(package):
            for node in ast.walk(ast.parse(file.read_text())):
                named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.split(".")[0] in PACKAGES for name in named), file


def test_modules_do_not_load_torch():
    """One after another in one interpreter: the first that loads it is named."""
    code = f"""
import sys
from importlib import import_module
for module in {TORCHLESS}:
    import_module(module)
    if "torch" in sys.modules:
        sys.exit(module)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_gate_opens_no_model_library():
    modules = ", ".join(f"razorbench.submissions.{name}" for name in ("gate", "copying", "template"))
    code = f"import sys, {modules}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    heavy = {"torch", "transformers", "safetensors", "peft", "tokenizers", "duckdb"}
    assert not heavy & {name.split(".")[0] for name in loaded}
    assert not [name for name in loaded if within(name, "razorbench.tasks", "razorbench.agents")]
    for name in GATE:
        wrong = imports(ROOT / "submissions" / f"{name}.py") - {"razorbench"}
        doors = ("razorbench.submissions", "razorbench.harness.learn.saved")
        assert all(within(module, *doors) for module in wrong), f"{name} imports {wrong}"


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        ("import razorbench", {"razorbench"}),
        ("from razorbench import Card, Instances, Outcome, each, mix, register", {"razorbench", "numpy"}),
    ],
)
def test_the_public_door_loads_nothing_but_numpy_and_that_when_it_is_asked(work, expected):
    code = f"import sys; sys.path += {sys.path!r}; {work}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in ran.stdout.split()} - set(sys.stdlib_module_names)
    assert {name for name in loaded if not name.startswith("_")} == expected


def test_the_public_door_tells_type_checkers_the_same_names():
    (checked,) = (node for node in ast.parse(Path(razorbench.__file__).read_text()).body if isinstance(node, ast.If))
    told = {alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == set(razorbench.__all__)
    assert told <= set(dir(razorbench))
    assert all(getattr(razorbench, name) for name in told)
    with pytest.raises(AttributeError, match="has no attribute 'Nobody'"):
        _ = razorbench.Nobody


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_of_the_checkout_is_a_package_of_razorbench(package):
    file = import_module(f"razorbench.{package}").__file__
    assert file is not None
    assert os.path.samefile(Path(file).parent, ROOT / package)
