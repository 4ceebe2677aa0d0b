"""Images from the data folder and from the hub's layout: the same content, checked either way."""

import gzip
import struct
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harness.types import Refused
from tasks import idx

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


def test_hub_file_at_the_pinned_revision_gives_the_published_content(source, tmp_path, monkeypatch):
    asked = {}

    def download(repository, path, **more):
        asked.update(more, repository=repository, path=path)
        return str(parquet(tmp_path / "test.parquet"))

    monkeypatch.delenv("RAZORBENCH_DATA", raising=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    pixels, labels = idx.load("mnist", "test")
    assert np.array_equal(pixels, PIXELS.reshape(7, 784))
    assert labels.tolist() == LABELS.tolist()
    assert asked == {
        "repository": "ylecun/mnist",
        "path": "mnist/test-00000-of-00001.parquet",
        "repo_type": "dataset",
        "revision": source.revision,
    }


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
