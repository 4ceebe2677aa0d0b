"""nltk's model of English sentences, which lm-eval's IFEval counts with; nltk has it on GitHub, PyPI in a wheel."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import nltk
from nltk.downloader import Downloader

from razorbench import Refused, download_wheel

NAME = "punkt_tab"
WHEEL = "llama-index-core==0.13.0"
FOLDER = "llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english"
"""In the wheel."""
FILES = {
    "abbrev_types.txt": "92a3e070f43d9b4c5534758ca40ad7343b04e7e29bfe0c2eb658a39445a4f779",
    "collocations.tab": "8e2da1225e4dd2cc9dba261ee231ccb134859e21b46006e7f472c5ee269af0cf",
    "ortho_context.tab": "4bbcca25ed3d3f06c02402abf8419b9f033b8adc06e7b482eca4e45f81a5dc4c",
    "sent_starters.txt": "f3f8535483e1dba487241b764945168123bca3209a9645e59acd1225dc76edac",
}
"""What the model consists of, and the sha256 of each."""


@contextmanager
def sentences_from_wheel() -> Iterator[None]:
    """Within it, what asks nltk to download this model gets that of the wheel; without a network as it was before."""
    ask: Any = nltk.download

    def download(name: str, *rest: Any, **how: Any) -> bool:
        if name != NAME:
            return ask(name, *rest, **how)
        try:
            unpack(Path(str(Downloader().default_download_dir())))  # where nltk itself would put it
        except (Refused, OSError):
            return ask(name, *rest, **how)
        return True

    with patch.object(nltk, "download", download):
        yield


def unpack(data: Path) -> None:
    """Put the model where nltk looks for it in its folder `data`. Refuses another content than the pinned one."""
    place = data / "tokenizers" / NAME / "english"
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent) as work:
        wheel, fresh = download_wheel(WHEEL, Path(work)), Path(work) / "english"
        fresh.mkdir()
        with zipfile.ZipFile(wheel) as packed:
            for name, digest in FILES.items():
                content = packed.read(f"{FOLDER}/{name}")
                if sha256(content).hexdigest() != digest:
                    raise Refused(f"{name} of {WHEEL} is not the file that is meant; try again")
                (fresh / name).write_bytes(content)
        try:
            os.rename(fresh, place)
        except OSError:  # another process was first
            shutil.rmtree(fresh)
