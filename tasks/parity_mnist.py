"""ParityMNIST, its prior FashionMNIST, and the mixture their base is pretrained on (arXiv 2509.04259, appendix B.3).

An agent sees an image and an indicator, +1 for ParityMNIST and −1 for FashionMNIST; it answers with one of ten classes.
"""

from collections.abc import Generator

import numpy as np

from razorbench import Asked, Card, Column, Instances, Observations, Outcomes
from razorbench.tasks.idx import load

PRETRAINING = 500
"""Images of each set that the base is pretrained on, as in the paper: the first ones of the training files."""
PARITY, FASHION = 1, -1
"""Indicators."""


def columns(name: str, indicator: int, split: str) -> dict[str, Column]:
    """Pixels [n, 784] uint8, indicator [n] int8 and label [n] int64 of `mnist` or `fashion_mnist`."""
    pixels, label = load(name, split)
    return {"pixels": pixels, "indicator": np.full(len(label), indicator, np.int8), "label": label}


def unseen(name: str, indicator: int, split: str) -> Instances:
    """The 10,000 test images, or the 59,500 training images that the base was not pretrained on."""
    source = columns(name, indicator, split)
    index = np.arange(PRETRAINING if split == "train" else 0, len(source["label"]))
    return Instances(index + (60_000 if split == "test" else 0), source, index)


def show(instances: Instances) -> Observations:
    """What the agent sees: an image [n, 28, 28] uint8 and an indicator [n]."""
    images = {"image": instances.data["pixels"].reshape(-1, 28, 28)}
    return Observations(images=images, state={"indicator": instances.data["indicator"]})


class Classes:
    """What the tasks share: an answer is one of ten classes."""

    def valid(self, values: Column) -> np.ndarray:
        """Which of the values [n] are one of 0, 1, … 9."""
        return np.isin(np.asarray(values), np.arange(10))


def any_class(asked: Asked) -> np.ndarray:
    """One of ten classes at random, [n]."""
    return (asked.uniform(1)[:, 0] * 10).astype(np.int64)


def any_of_parity(asked: Asked) -> np.ndarray:
    """One of the five digits of the right parity at random, [n]."""
    return 2 * (asked.uniform(1)[:, 0] * 5).astype(np.int64) + asked.instances.data["label"] % 2


class ParityMNIST(Classes):
    """The new task: any digit of the image's parity is right, so many distributions are equally good."""

    card = Card(
        asks="Is the digit on this image even or odd? Answer with any digit of that parity.",
        rule="The answer has the parity of the image's digit.",
        source="MNIST (LeCun, Cortes and Burges), 59,500 training and 10,000 test images",
        licence="CC-BY-SA-3.0",
        chance=0.5,
        example="an image of a 7 → 1, 3, 5, 7 or 9",
    )
    styles = ("zero-one", "zero-four")

    def instances(self, split: str) -> Instances:
        """Images of the split."""
        return unseen("mnist", PARITY, split)

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show the image, take a digit, compare parities."""
        digit = yield show(instances)
        return Outcomes((np.asarray(digit) % 2 == instances.data["label"] % 2).astype(np.float64))

    def solve(self, asked: Asked, style: str) -> Column:
        """The paper's SFT labels: even → 0 and odd → 1, or even → 0 or 4 and odd → 1 or 5."""
        odd = asked.instances.data["label"] % 2
        return odd if style == "zero-one" else odd + 4 * (asked.uniform(1)[:, 0] < 0.5)

    def guess(self, asked: Asked) -> Column:
        """Any digit."""
        return any_class(asked)


class FashionMNIST(Classes):
    """The prior benchmark: which of ten kinds of clothing is on the image."""

    card = Card(
        asks="Which of ten kinds of clothing is on this image?",
        rule="The answer is the image's class.",
        source="Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), 10,000 test images",
        licence="MIT",
        chance=0.1,
        example="an image of a sandal → 5",
    )
    styles = ("label",)

    def instances(self, split: str) -> Instances:
        """Images of the split."""
        return unseen("fashion_mnist", FASHION, split)

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show the image, take a class."""
        kind = yield show(instances)
        return Outcomes((np.asarray(kind) == instances.data["label"]).astype(np.float64))

    def solve(self, asked: Asked, style: str) -> Column:
        """The label."""
        return asked.instances.data["label"]

    def guess(self, asked: Asked) -> Column:
        """Any class."""
        return any_class(asked)


class Pretraining(Classes):
    """What the base is trained on: 500 images of each set; a digit's label is drawn once from those of its parity."""

    card = Card(
        asks="Both sets mixed: the parity of the digit where the indicator is +1, the kind of clothing where it is −1.",
        rule="The answer has the digit's parity, or is the garment's class.",
        source="the first 500 training images of MNIST and of Fashion-MNIST; test: the 500 after them",
        licence="CC-BY-SA-3.0 and MIT",
        chance=0.3,
        example="an image of a 7 with indicator +1 → 1, 3, 5, 7 or 9",
    )
    styles = ("random",)
    copies = 1
    """How often each training image stands in the set, each time with a label of its own."""

    def instances(self, split: str) -> Instances:
        """500 + 500 images."""
        first = 0 if split == "train" else PRETRAINING
        mnist, fashion = columns("mnist", PARITY, "train"), columns("fashion_mnist", FASHION, "train")
        rows = slice(first, first + PRETRAINING)
        both = {name: np.concatenate([mnist[name][rows], fashion[name][rows]]) for name in mnist}
        index = np.tile(np.arange(2 * PRETRAINING), self.copies if split == "train" else 1)
        return Instances(np.arange(len(index)) + (1_000_000 if split == "test" else 0), both, index)

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show the image, take a class, judge it by the set the image is from."""
        answer = np.asarray((yield show(instances)))
        label, parity = instances.data["label"], instances.data["indicator"] == PARITY
        return Outcomes(np.where(parity, answer % 2 == label % 2, answer == label).astype(np.float64))

    def solve(self, asked: Asked, style: str) -> Column:
        """Random digits of the right parity; the label of a garment."""
        data = asked.instances.data
        return np.where(data["indicator"] == PARITY, any_of_parity(asked), data["label"])

    def guess(self, asked: Asked) -> Column:
        """Any class."""
        return any_class(asked)


class PretrainingAnew(Pretraining):
    """The same images, each standing 50 times: a digit's label is drawn anew every time it is seen."""

    copies = 50
