"""Finding tasks and agents by id: ours, registered, installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import registry
from harness.types import Refused


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Each test has its own registrations and looks at the installed packages anew."""
    monkeypatch.setattr(registry, "REGISTERED", {"task": {}, "agent": {}})
    registry.installed.cache_clear()
    yield
    registry.installed.cache_clear()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Put a package with these entry points of `razorbench.tasks` on sys.path, as pip would install it."""

    def install(points: str, code: str = "class Dice:\n    sides = 6\n"):
        (tmp_path / "plugin_of_test.py").write_text(code)
        info = tmp_path / "plugin_of_test-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-test\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[razorbench.tasks]\n{points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "plugin_of_test", raising=False)

    return install


@pytest.mark.parametrize("id", ["math-v1", "a-v9", "simpler-pick-coke-can-v12", "2048-v1"])
def test_words_with_a_version_are_ids(id):
    registry.check_id("task", id)


@pytest.mark.parametrize("id", ["math", "Math-v1", "math-v0", "math-v01", "math_v1", "math--v1", "-v1", "math-v1 ", ""])
def test_other_ids_are_refused(id):
    with pytest.raises(Refused, match="lower-case words and a version"):
        registry.check_id("task", id)


def test_our_own_ids_are_well_formed_and_name_a_module_and_an_attribute():
    for kind, table in registry.OURS.items():
        for id, where in table.items():
            registry.check_id(kind, id)
            assert where.count(":") == 1, where


def test_registered_class_is_made_with_its_arguments():
    @registry.register("task", "dice-v1")
    class Dice:
        def __init__(self, sides=6):
            self.sides = sides

    made = registry.make("task", "dice-v1", sides=20)
    assert (type(made), made.sides) == (Dice, 20)
    assert "dice-v1" in registry.ids("task")
    assert "dice-v1" not in registry.ids("agent")


def test_an_id_can_be_registered_once():
    registry.register("task", "dice-v1")(object)
    with pytest.raises(Refused, match="'dice-v1' is taken"):
        registry.register("task", "dice-v1")


def test_one_of_our_ids_cannot_be_registered():
    with pytest.raises(Refused, match="taken"):
        registry.register("task", "parity-mnist-v1")


def test_a_near_miss_is_suggested():
    with pytest.raises(Refused, match="unknown task 'parity-mnst-v1'; did you mean 'parity-mnist-v1'"):
        registry.find("task", "parity-mnst-v1")


def test_the_right_name_with_another_version_or_none_is_suggested_first():
    for asked in ("dice-v2", "dice"):
        assert registry.unknown("task", asked, ["mice-v2", "dice-v1"]).endswith("did you mean 'dice-v1'?")


def test_where_nothing_is_near_the_listing_is_named():
    with pytest.raises(Refused, match="`razorbench tasks` lists what there is"):
        registry.find("task", "zzzzzzzz-v1")


def test_an_installed_package_brings_its_tasks(plugin):
    plugin("dice-v1 = plugin_of_test:Dice")
    assert "dice-v1" in registry.ids("task")
    assert registry.make("task", "dice-v1").sides == 6


def test_listing_ids_does_not_import_the_package_that_brings_them(plugin):
    plugin("dice-v1 = plugin_of_test:Dice", code="raise RuntimeError('imported')")
    assert "dice-v1" in registry.ids("task")


def test_an_installed_package_cannot_take_over_one_of_our_ids(plugin, monkeypatch):
    monkeypatch.setitem(registry.OURS["task"], "ours-v1", "fractions:Fraction")
    plugin("ours-v1 = plugin_of_test:Dice")
    assert registry.find("task", "ours-v1").__name__ == "Fraction"


def test_an_installed_task_without_a_version_is_not_listed(plugin):
    plugin("dice = plugin_of_test:Dice")
    assert "dice" not in registry.ids("task")


def test_an_installed_task_that_cannot_be_imported_is_refused_with_its_module(plugin):
    plugin("dice-v1 = no_such_module_of_test:Dice")
    with pytest.raises(Refused, match="no_such_module_of_test"):
        registry.find("task", "dice-v1")


def test_importing_the_registry_imports_neither_torch_nor_a_task_nor_an_agent():
    code = (
        "import sys, harness.registry; harness.registry.ids('task'); harness.registry.ids('agent');"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'tasks', 'agents', 'duckdb', 'scipy')])"
    )
    root = Path(registry.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
