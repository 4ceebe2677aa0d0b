"""MNIST-format images: from the data folder, else from the hub at a pinned revision; checked by content either way."""

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np

from razorbench import Missing, Refused
from razorbench.tasks.published import hub_file


@dataclass(frozen=True)
class Source:
    """Where an image set lives on the hub, and the sha256 of its four decompressed idx files."""

    repository: str
    revision: str
    parquet: str
    """Path in the repository, with {split} for train or test."""
    sha256: dict[str, str]


SOURCES = {
    "mnist": Source(
        "ylecun/mnist",
        "77f3279092a1c1579b2250db8eafed0ad422088c",
        "mnist/{split}-00000-of-00001.parquet",
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": Source(
        "zalando-datasets/fashion_mnist",
        "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
        "fashion_mnist/{split}-00000-of-00001.parquet",
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}
STEMS = {"train": "train", "test": "t10k"}


@cache
def load(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 784] uint8 and labels [n] int64 of `mnist` or `fashion_mnist`, split `train` or `test`.

    Raises Missing, with the cure, when the files are neither at hand nor to be had, and Refused when they are not the
    published ones.
    """
    source, stem = SOURCES[name], STEMS[split]
    images, labels = f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"
    root = os.environ.get("RAZORBENCH_DATA")
    contents = from_folder(Path(root) / name, (images, labels)) if root else from_hub(source, split)
    for file, content in zip((images, labels), contents, strict=True):
        if sha256(content).hexdigest() != source.sha256[file]:
            raise Refused(f"{name}/{file} is not the published file (its sha256 differs); fetch it again")
    return (
        np.frombuffer(contents[0], np.uint8, offset=16).reshape(-1, 784),
        np.frombuffer(contents[1], np.uint8, offset=8).astype(np.int64),
    )


def from_folder(folder: Path, files: tuple[str, ...]) -> list[bytes]:
    """The decompressed idx files of a data folder, each stored plain or as .gz."""
    contents = []
    for file in files:
        plain, zipped = folder / file, folder / f"{file}.gz"
        try:
            contents.append(plain.read_bytes() if plain.exists() else gzip.decompress(zipped.read_bytes()))
        except FileNotFoundError:
            raise Missing(
                f"{zipped} is missing; put the four idx files of {folder.name} there, "
                "or unset RAZORBENCH_DATA to fetch them from the hub"
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            raise Refused(f"{zipped} cannot be read ({error}); fetch it again") from None
    return contents


def from_hub(source: Source, split: str) -> list[bytes]:
    """The idx content of a split, rebuilt from the hub's Parquet file of PNGs at the pinned revision."""
    file = hub_file(
        source.repository,
        source.revision,
        source.parquet.format(split=split),
        "a folder that holds mnist/ and fashion_mnist/ with their idx files",
    )
    return from_parquet(file)


def from_parquet(file: Path) -> list[bytes]:
    """Images and labels as idx bytes, from a Parquet file with the columns `image` (PNG bytes) and `label`."""
    from PIL import Image
    from pyarrow import parquet

    table = parquet.read_table(file)
    images = [np.asarray(Image.open(BytesIO(cell["bytes"]))) for cell in table["image"].to_pylist()]
    labels = np.asarray(table["label"].to_pylist(), np.uint8)
    return [
        struct.pack(">iiii", 0x803, len(images), 28, 28) + np.stack(images).tobytes(),
        struct.pack(">ii", 0x801, len(labels)) + labels.tobytes(),
    ]
