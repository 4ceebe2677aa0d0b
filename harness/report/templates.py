"""The pages of this folder, as templates."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@cache
def template(name: str) -> Any:
    """The template of a page, `name`.html.jinja. What is put into it is escaped; what it is not given is an error."""
    made = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    made.trim_blocks = made.lstrip_blocks = True
    return made.get_template(f"{name}.html.jinja")
