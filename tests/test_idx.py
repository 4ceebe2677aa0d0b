"""Images from the data folder and from the hub's layout: the same content, checked either way."""

import gzip
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from razorbench import Missing, Refused
from razorbench.tasks import idx, published

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.uint8)
CONTENT = {
    "t10k-images-idx3-ubyte": struct.pack(">iiii", 2051, 7, 28, 28) + PIXELS.tobytes(),
    "t10k-labels-idx1-ubyte": struct.pack(">ii", 2049, 7) + LABELS.tobytes(),
}


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[idx.Source]:
    """A set of seven images in the place of MNIST."""
    hashes = {name: sha256(content).hexdigest() for name, content in CONTENT.items()}
    small = replace(idx.SOURCES["mnist"], sha256=hashes)
    monkeypatch.setitem(idx.SOURCES, "mnist", small)
    idx.load.cache_clear()
    yield small
    idx.load.cache_clear()


def parquet(path: Path) -> Path:
    """The hub's layout: a column of PNG files and one of labels."""
    images = []
    for pixels in PIXELS:
        png = BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        images.append({"bytes": png.getvalue(), "path": None})
    pq.write_table(pa.table({"image": images, "label": LABELS.astype(np.int64)}), path)
    return path


class Hub:
    """A hub that holds one file, and of which nothing is at hand; or another `head`, for one that is in trouble."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, file: Path, head: Callable[..., Any] = lambda url, timeout: None
    ):
        self.asked: dict[str, Any] = {}
        self.file, self.head, self.kept = file, head, False
        monkeypatch.delenv("RAZORBENCH_DATA", raising=False)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", self.download)
        monkeypatch.setattr("huggingface_hub.get_session", lambda: self)

    def download(self, repository: str, path: str, local_files_only: bool = False, **more: str) -> str:
        if local_files_only and not self.kept:
            raise LocalEntryNotFoundError("it is not here")
        self.asked = {**more, "repository": repository, "path": path}
        return str(parquet(self.file))


def test_hub_file_at_the_pinned_revision_gives_the_published_content(source, tmp_path, monkeypatch):
    hub = Hub(monkeypatch, tmp_path / "test.parquet")
    pixels, labels = idx.load("mnist", "test")
    assert np.array_equal(pixels, PIXELS.reshape(7, 784))
    assert labels.tolist() == LABELS.tolist()
    assert hub.asked == {
        "repository": "ylecun/mnist",
        "path": "mnist/test-00000-of-00001.parquet",
        "repo_type": "dataset",
        "revision": source.revision,
    }


def test_a_file_that_was_fetched_before_is_there_without_the_hub(source, tmp_path, monkeypatch):
    hub = Hub(monkeypatch, tmp_path / "test.parquet", head=lambda url, timeout: pytest.fail("the hub was asked"))
    hub.kept = True
    assert idx.load("mnist", "test")[1].tolist() == LABELS.tolist()


def test_a_hub_that_does_not_answer_costs_seconds_and_is_missing_data(source, tmp_path, monkeypatch):
    over = threading.Event()
    Hub(monkeypatch, tmp_path / "test.parquet", head=lambda url, timeout: over.wait(60))
    monkeypatch.setattr(published, "PATIENCE", 0.2)
    started = time.monotonic()
    with pytest.raises(Missing, match=r"cannot fetch ylecun/mnist from the hub \(TimeoutError\); set RAZORBENCH_DATA"):
        idx.load("mnist", "test")
    over.set()
    assert time.monotonic() - started < 10


def test_a_hub_that_is_not_there_is_missing_data(source, tmp_path, monkeypatch):
    def head(url: str, timeout: float) -> None:
        raise ConnectionError("no route")

    Hub(monkeypatch, tmp_path / "test.parquet", head)
    with pytest.raises(Missing, match=r"from the hub \(ConnectionError\); set RAZORBENCH_DATA to a folder"):
        idx.load("mnist", "test")


def test_a_data_folder_without_the_files_is_missing_data(source, tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    with pytest.raises(Missing, match="put the four idx files of mnist there"):
        idx.load("mnist", "test")


@pytest.mark.parametrize("zipped", [True, False])
def test_folder_gives_the_same_content_plain_or_zipped(source, tmp_path, monkeypatch, zipped):
    (tmp_path / "mnist").mkdir()
    for name, content in CONTENT.items():
        path = tmp_path / "mnist" / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    pixels, labels = idx.load("mnist", "test")
    assert np.array_equal(pixels, PIXELS.reshape(7, 784))
    assert labels.tolist() == LABELS.tolist()


def test_content_that_is_not_the_published_one_is_refused(source, tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    for name, content in CONTENT.items():
        (tmp_path / "mnist" / name).write_bytes(content[:-1] + b"\x63")
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    with pytest.raises(Refused, match="not the published file"):
        idx.load("mnist", "test")
