"""How Sphinx makes the site: `make docs` writes it to `docs/_build`, and a warning ends it."""

import os
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import TYPE_CHECKING, Any

os.environ.pop("RAZORBENCH_HOME", None)  # or the defaults that are shown would be those of this machine
os.environ["COLUMNS"] = "80"  # what a page has room for

import tyro
from sphinx import addnodes

import razorbench

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx

project = "razorbench"
author = "The razorbench authors"
project_copyright = f"{author}; Apache-2.0"
version = release = razorbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
highlight_language = "text"

# Every reference must lead somewhere. What is not ours has no page here and is named without a link, and so are
# the variables of generic types.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!razorbench\b).*"), ("py:class", r"razorbench\..*\.[A-Z]")]

# The pages are read in the repository, too: links between them are plain Markdown, to files and headings.
myst_heading_anchors = 4

# Docstrings speak as the pages do: what stands between backticks is code.
default_role = "literal"
add_module_names = False
toc_object_entries_show_parents = "hide"
python_display_short_literal_types = True
maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
# Words of the public door have their one place there.
autosummary_context = {
    "door": {f"razorbench.harness.{module}": ", ".join(names) for module, names in razorbench.PLACES.items()}
}

html_theme = "pydata_sphinx_theme"
html_title = "razorbench"
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "quickstart": []}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: "Sphinx") -> None:
    """What is made while the site is built."""
    app.connect("source-read", with_commands)
    app.connect("env-get-outdated", lambda *_: [COMMAND_LINE])
    app.connect("autodoc-process-signature", bare_protocols)
    app.connect("object-description-transform", bare_values)


COMMAND_LINE = "reference/command-line"


def with_commands(app: "Sphinx", page: str, source: list[str]) -> None:
    """Put behind the page of the command line what each command says of itself."""
    if page != COMMAND_LINE:
        return
    from razorbench.harness.cli.main import COMMANDS

    for name in COMMANDS:
        said = StringIO()
        with redirect_stdout(said), suppress(SystemExit):
            tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="razorbench", args=[name, "--help"])
        source[0] += f"\n## {name}\n\n```text\n{said.getvalue().strip()}\n```\n"


def bare_protocols(
    app: "Sphinx", what: str, name: str, thing: Any, options: Any, arguments: str | None, result: str | None
) -> tuple[str, None] | None:
    """A protocol is not called: it has no arguments to show."""
    return ("", None) if what == "class" and getattr(thing, "_is_protocol", False) else None


def bare_values(app: "Sphinx", domain: str, what: str, content: "Element") -> None:
    """A value that is longer than a line, or a path of the machine that builds the site, is not shown."""
    for signature in content.parent.children:
        if what in ("data", "attribute") and isinstance(signature, addnodes.desc_signature):
            for part in signature[1:]:
                text = part.astext()
                if text.startswith(" = ") and (len(text) > 80 or "Path(" in text):
                    signature.remove(part)
