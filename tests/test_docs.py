"""The docs hang together: every page is reached, every command in them is one, and the reference leaves nothing out."""

import ast
import functools
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tyro
from PIL import Image

import razorbench
from razorbench.harness.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
    for path in DOCS.rglob("*.md")
    if "_build" not in path.parts
}
ROOMS = ("harness/core", "harness/learn", "harness/tracks", "harness/measure", "harness/store", "harness/runs")
ROOMS += ("harness/report", "agents", "agents/language", "agents/openvla")
"""What people import from; the command line has a page of its own."""
SPOKEN = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")} | PAGES
GUIDES = [text for name, text in SPOKEN.items() if name.startswith(("README", "quickstart", "guides/"))]


def dry(command: Callable[..., Any]) -> Callable[..., None]:
    """A command that takes the same arguments and does nothing."""

    @functools.wraps(command)
    def nothing(*arguments: Any, **named: Any) -> None:
        return

    return nothing


@functools.cache
def help_of(name: str) -> str:
    said = StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        tyro.cli(COMMANDS[name], args=["--help"])
    return said.getvalue()


def lines(text: str) -> Iterator[list[str]]:
    """The arguments of `razorbench` in each line of the fenced blocks of a page."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.M | re.S):
        for line in re.findall(r"^razorbench (.*)$", block, re.M):
            yield shlex.split(line, comments=True)


def linked(page: str) -> Iterator[str]:
    """The pages in the tables of contents of one."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", PAGES[page], re.M | re.S):
        for entry in block.split("\n"):
            if entry and not entry.startswith(":"):
                yield ((DOCS / page).parent / entry).relative_to(DOCS).as_posix()


def test_every_page_is_reached_from_the_index():
    reached, ahead = set[str](), ["index"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead += [each for each in linked(page) if each not in reached]
    assert reached == set(PAGES)


def test_every_command_is_in_a_guide():
    named = {name for text in GUIDES for name in re.findall(r"razorbench (\w+)", text)}
    assert [name for name in COMMANDS if name not in named] == []


@pytest.mark.parametrize("page", SPOKEN)
def test_every_command_line_is_understood(page: str):
    for name, *arguments in lines(SPOKEN[page]):
        try:
            tyro.cli(dry(COMMANDS[name]), args=arguments)
        except SystemExit as end:
            pytest.fail(f"razorbench {name} {shlex.join(arguments)}: exit {end.code}")


@pytest.mark.parametrize("page", SPOKEN)
def test_every_command_in_a_sentence_is_one(page: str):
    for said in re.findall(r"`razorbench ([a-z][^`]*)`", SPOKEN[page]):
        name = said.split()[0]
        assert name in COMMANDS, said
        assert [flag for flag in re.findall(r"--[a-z-]+", said) if flag not in help_of(name) and flag != "--help"] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_is_in_the_reference(room: str):
    """But for those of which every word stands at the door."""
    name = room.rpartition("/")[2]
    listed = re.findall(r"^   (\w+)$", PAGES[f"reference/{name}"], re.M)
    there = sorted(path.stem for path in (ROOT / room).glob("*.py") if path.stem != "__init__")
    assert [module for module in there if public(ROOT / room / f"{module}.py") - {*razorbench.__all__}] == listed


def public(module: Path) -> set[str]:
    """The functions and classes of a module."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name[0] != "_"}


def test_the_readme_begins_with_a_picture_that_moves_and_is_soon_there():
    ((told, path),) = re.findall(r"^!\[(.+)\]\((.+)\)$", SPOKEN["README.md"].partition("\n## ")[0], re.M)
    with Image.open(ROOT / path) as picture:
        assert (picture.size, getattr(picture, "n_frames", 1) > 10) == ((960, 600), True)
    assert (ROOT / path).stat().st_size < 1.5e6
    assert "terminal" in told
    assert "board" in told


def test_every_word_of_the_door_is_in_the_reference():
    told = re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", PAGES["reference/razorbench"], re.M)
    assert sorted(told) == sorted(razorbench.__all__)


def test_who_cites_it_names_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = dict(re.findall(r"^([a-z-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.M))
    assert project["version"] == citation["version"] == razorbench.__version__
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
