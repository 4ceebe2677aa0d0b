"""Who may import whom: the edges of docs/design.md, walked in the source and in a fresh interpreter."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("harness", "tasks", "agents", "submissions", "leaderboard")
TORCHLESS = (
    *(
        "harness.types",
        "harness.registry",
        "harness.rollout",
        "harness.settings",
        "harness.runtime",
        "harness.tracks",
        "harness.flags",
    ),
    *(
        "harness.statistics",
        "harness.answers",
        "harness.record",
        "harness.store",
        "harness.results",
        "harness.plots",
        "harness.questions",
    ),
    *("harness.legible", "harness.export", "harness.every_eval_ever", "harness.report"),
    *("submissions.commands", "submissions.gate", "submissions.queue", "submissions.brought"),
)
GATE = ("claim", "plain", "tensors", "intake", "template", "render", "language", "gate")
"""The modules of `submissions` that read what a stranger has written."""


def imports(file: Path) -> set[str]:
    """Our modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS and exists(name)}


def exists(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def allowed(package: str, name: str) -> bool:
    top = name.split(".")[0]
    return {
        "tasks": top == "tasks" or name in ("harness", "harness.types"),
        "agents": top == "agents"
        or name in ("harness", "harness.types", "harness.policy", "harness.runtime", "harness.vocabulary"),
        "leaderboard": top in ("leaderboard", "harness") or name in ("submissions", "submissions.queue"),
        "submissions": top in ("submissions", "harness"),
        "harness": top == "harness",
    }[package]


@pytest.mark.parametrize("package", ["tasks", "agents", "submissions", "leaderboard"])
def test_package_imports_only_what_the_design_allows(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        wrong = {name for name in imports(file) if not allowed(package, name)}
        assert wrong == set(), f"{file.name} imports {wrong}"


def test_engine_reaches_tasks_and_agents_by_name_only():
    for file in sorted((ROOT / "harness").glob("*.py")):
        wrong = {name for name in imports(file) if not allowed("harness", name)}
        commands = {"leaderboard", "leaderboard.serve", "submissions", "submissions.commands"}
        assert {name for name in wrong if name not in commands or file.name != "cli.py"} <= set(), file.name


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
    code = "import sys, submissions.gate, submissions.intake, submissions.template; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in ran.stdout.split()}
    assert not loaded & {
        "torch",
        "transformers",
        "safetensors",
        "peft",
        "tokenizers",
        "duckdb",
        "tasks",
        "agents",
    }
    for name in GATE:
        wrong = imports(ROOT / "submissions" / f"{name}.py") - {"harness", "harness.types"}
        assert all(module.startswith("submissions") for module in wrong), f"{name} imports {wrong}"


def test_vocabulary_loads_nothing_but_numpy():
    code = f"import sys; sys.path += {sys.path!r}; import harness.types; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in ran.stdout.split()} - set(sys.stdlib_module_names)
    assert {name for name in loaded if not name.startswith("_")} == {"harness", "numpy"}


@pytest.mark.parametrize("package", ["harness", "tasks", "agents", "submissions", "leaderboard"])
def test_package_of_that_name_is_ours(package):
    """`agents` is also another project's import name."""
    file = import_module(package).__file__
    assert file is not None
    assert Path(file).parent == ROOT / package
