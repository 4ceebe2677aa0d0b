"""Finding tasks, agents, tracks, bases and methods by id: ours, registered, installed."""

import subprocess
import sys
from dataclasses import replace

import pytest

from razorbench import Refused
from razorbench.harness.core import registry
from razorbench.harness.learn.methods import METHODS, find_method
from razorbench.harness.learn.settings import Settings
from razorbench.harness.runs.run import Spec
from razorbench.harness.tracks.catalogue import BASES, TRACKS, all_tracks, find_base, find_track, known_track


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Each test has its own registrations and looks at the installed packages anew."""
    monkeypatch.setattr(registry, "REGISTERED", {kind: {} for kind in registry.KINDS})
    registry.installed.cache_clear()
    yield
    registry.installed.cache_clear()


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


def test_an_installed_task_that_imports_by_the_former_names_is_told_the_new_ones(plugin):
    plugin("dice-v1 = plugin_of_test:Dice", "from harness.types import Card")
    with pytest.raises(Refused, match=r"No module named 'harness.*its modules are imported as razorbench\.harness"):
        registry.find("task", "dice-v1")


def test_importing_the_registry_imports_neither_torch_nor_a_task_nor_an_agent():
    code = (
        "import sys; from razorbench.harness.core.registry import ids; ids('task'); ids('agent');"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'duckdb', 'scipy')]);"
        "print([m for m in sys.modules if m.startswith(('razorbench.tasks.', 'razorbench.agents.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


# --- tracks, bases and methods, which are values ----------------------------------------------------------------------


def test_a_method_of_a_script_is_found_and_used():
    mine = replace(METHODS["grpo"], about="Mine.")
    registry.register("method", "mine")(mine)
    assert find_method("mine") is mine
    assert "mine" in registry.ids("method")
    assert Spec("mine", Settings()).method == "mine"
    with pytest.raises(Refused, match="unknown method 'min'; did you mean 'mine'"):
        Spec("min", Settings())
    with pytest.raises(Refused, match="is taken"):
        registry.register("method", "grpo")(mine)
    with pytest.raises(Refused, match="should be lower-case words, such as 'my-method'"):
        registry.register("method", "My Method")(mine)


def test_a_track_of_a_script_is_listed_and_found(razorbench):
    mine = replace(TRACKS["mini-math-v1"], id="mine-v1", title="Mine")
    registry.register("track", "mine-v1")(mine)
    assert find_track("mine-v1") is mine
    assert list(all_tracks())[-1] == "mine-v1"
    assert "mine-v1" in [row["track"] for row in razorbench("tracks", "--json").json]
    assert known_track("nobodys-v1") is None


def test_a_base_of_a_script_is_found():
    mine = replace(BASES["mini-lm-v1"], id="mine-v1")
    registry.register("base", "mine-v1")(mine)
    assert find_base("mine-v1") is mine
    assert find_base("mini-lm").id == "mini-lm-v1"


def test_what_is_none_is_refused_and_holds_up_no_list():
    registry.register("track", "wrong-v1")(replace(TRACKS["mini-math-v1"], id="other-v1"))
    registry.register("method", "wrong")(print)
    with pytest.raises(Refused, match="registered as the track 'wrong-v1' is not one"):
        find_track("wrong-v1")
    with pytest.raises(Refused, match="registered as the method 'wrong' is not one"):
        find_method("wrong")
    assert "wrong-v1" not in all_tracks()


def test_tracks_of_another_package_are_found_and_broken_ones_hold_up_nobody(plugin):
    code = (
        "from dataclasses import replace\n"
        "from razorbench.harness.tracks.catalogue import TRACKS\n"
        "MINE = replace(TRACKS['mini-math-v1'], id='mine-v1')\n"
    )
    plugin("mine-v1 = plugin_of_test:MINE\nbroken-v1 = plugin_of_test:NOTHING", code, "tracks")
    assert find_track("mine-v1").new == "mini-math-v1"
    assert list(all_tracks())[-1] == "mine-v1"
    with pytest.raises(Refused, match="cannot be loaded"):
        find_track("broken-v1")
    assert known_track("broken-v1") is None
