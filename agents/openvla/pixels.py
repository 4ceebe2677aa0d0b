"""Pictures as OpenVLA's towers take them: six channels, three for each, without torchvision."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from razorbench import Refused

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Pixels:
    """How a picture is prepared."""

    side: int
    """Pixels of its side."""
    norms: tuple[tuple[Sequence[float], Sequence[float]], ...] = (IMAGENET, HALF)
    """Mean and standard deviation of the three channels, for each tower."""
    crop: float = 0.0
    """Share of the picture's area around its centre that is seen; 0: all of it, as it is."""

    @staticmethod
    def read(folder: Path, side: int, crop: float = 0.0) -> "Pixels":
        """As the checkpoint's preprocessor_config.json says, where it has one.

        `tvf_normalize_params` there go before `means` and `stds`: the published ones are rounded to bf16, and the
        checkpoint's own code computes with them. Refuses a file that cannot be read, or names another resize.
        """
        path = folder / "preprocessor_config.json"
        if not path.exists():
            return Pixels(side, crop=crop)
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            pairs = [(each["mean"], each["std"]) for each in told.get("tvf_normalize_params") or ()]
            pairs = pairs or list(zip(told["means"], told["stds"], strict=True))
            resized = {each["interpolation"] for each in told.get("tvf_resize_params") or ()}
            resized |= {*(told.get("interpolations") or ())}
            strategy = told.get("image_resize_strategy", "resize-naive")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{path} cannot be read ({error!r}); bring that of the checkpoint") from None
        if len(pairs) != 2 or strategy != "resize-naive" or resized - {"bicubic", int(Image.Resampling.BICUBIC)}:
            raise Refused(f"{path} prepares pictures in another way than OpenVLA's; bring a checkpoint of OpenVLA")
        return Pixels(side, tuple(pairs), crop)

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Six channels [n, 6, side, side] float32 of pictures [H, W, 3] uint8, of whatever size each."""
        shown = [self.resized(np.asarray(picture)) for picture in pictures]
        scaled = np.stack(shown).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)  # [n, 3, side, side]
        means, stds = (np.array(each, np.float32)[:, :, None, None] for each in zip(*self.norms, strict=True))
        return np.concatenate([(scaled - mean) / std for mean, std in zip(means, stds, strict=True)], 1)

    def resized(self, picture: np.ndarray) -> np.ndarray:
        """A picture at its side, by PIL's bicubic filter; of its centre first, where that is asked for."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise Refused(f"a picture is {picture.dtype} {list(picture.shape)}; give uint8 [height, width, 3]")
        if self.crop:
            picture = centre(picture, self.crop, self.side)
        if picture.shape[:2] == (self.side, self.side):
            return picture
        return np.asarray(Image.fromarray(picture).resize((self.side, self.side), Image.Resampling.BICUBIC))


def centre(picture: np.ndarray, share: float, side: int) -> np.ndarray:
    """The centre of a picture, `share` of its area, at `side` pixels, as TensorFlow's crop_and_resize samples it.

    Checkpoints that were fine-tuned on random crops are evaluated so: corners are aligned, between four pixels it is
    bilinear, nothing is smoothed.
    """
    part = np.float32(share**0.5)
    lines = []
    for size in picture.shape[:2]:
        first, last = (1 - part) / 2 * (size - 1), (1 + part) / 2 * (size - 1)
        lines.append(first + np.arange(side, dtype=np.float32) * (last - first) / max(side - 1, 1))
    seen = picture.astype(np.float32) / np.float32(255)
    for axis, at in enumerate(lines):
        below = np.floor(at).astype(np.int64).clip(0, seen.shape[axis] - 1)
        above = (below + 1).clip(0, seen.shape[axis] - 1)
        weight = (at - below).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(3)])
        seen = seen.take(below, axis) * (1 - weight) + seen.take(above, axis) * weight
    return (seen.clip(0, 1) * np.float32(255.5)).astype(np.uint8)  # as TensorFlow makes bytes of shares
