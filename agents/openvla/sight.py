"""What is seen as tokens: an instruction's, with those of a picture behind the first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from razorbench import Observations, Refused, row

PROMPT = "In: What action should the robot take to {}?\nOut:"
"""How OpenVLA is asked; it was trained on instructions in lower case."""
SPACE = "▁"
"""The token between a prompt and its answer."""


class Words:
    """The tokenizer of a checkpoint, as the file describes it."""

    def __init__(self, file: Path, first: int):
        """A tokenizer.json, and the token that begins a text. Refuses a file that cannot be read, or has no ▁."""
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # of a foreign library, which has no kinds of them
            raise Refused(f"{file} cannot be read as a tokenizer ({error}); bring that of the checkpoint") from None
        space = self.tokenizer.token_to_id(SPACE)
        if space is None:
            raise Refused(f"{file} has no token {SPACE!r}, which stands between a prompt and a motion; bring a Llama's")
        self.first, self.space = first, space
        self.prompt = lru_cache(2**16)(self.asked)

    def asked(self, instruction: str) -> list[int]:
        """The tokens of a prompt behind the one that begins it, up to where the motion begins."""
        ids = self.tokenizer.encode(PROMPT.format(instruction.lower().strip()), add_special_tokens=False).ids
        return ids if ids[-1:] == [self.space] else [*ids, self.space]


@dataclass
class Sight:
    """Distinct pictures, and prompts in which the token −1 − i is a patch of picture i."""

    words: Words
    patches: int
    camera: str = ""
    """Whose picture is seen; empty: that of the only camera."""
    pictures: list[np.ndarray] = field(default_factory=list)
    known: dict[tuple[tuple[int, ...], bytes], int] = field(default_factory=dict)

    def prompts(self, seen: Observations) -> list[list[int]]:
        """A prompt for each row that sees something: what begins a text, the picture's patches, the instruction."""
        shown = pictures(seen, self.camera)
        prompts = []
        for i in range(len(shown)):
            text = row(seen.text, i)
            if text is None:
                raise Refused("OpenVLA was asked without an instruction; give it a task that says what to do")
            patch = -1 - self.number(shown[i])
            prompts.append([self.words.first, *[patch] * self.patches, *self.words.prompt(text)])
        return prompts

    def number(self, picture: np.ndarray) -> int:
        """The number of a picture; equal ones have one number."""
        key = picture.shape, picture.tobytes()
        if key not in self.known:
            self.known[key] = len(self.pictures)
            self.pictures.append(picture)
        return self.known[key]


def pictures(seen: Observations, camera: str = "") -> Sequence[np.ndarray]:
    """The pictures [n, H, W, 3] of one camera. Refuses none, and several where none is named."""
    shown = seen.images
    if shown is None:
        raise Refused("OpenVLA was asked without a picture; give it a task that has a camera")
    if camera and camera not in shown:
        raise Refused(f"there is no camera {camera!r}; choose from {', '.join(shown)}")
    if not camera and len(shown) > 1:
        raise Refused(f"there are cameras {', '.join(shown)}, and OpenVLA sees by one; name it (camera)")
    return shown[camera or next(iter(shown))]
