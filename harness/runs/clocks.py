"""What time is counted in: seconds of processors, of a GPU at hand, or those that a stated device would need."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.policy import Piece
from razorbench.harness.learn.runtime import Dtype

Clock = Callable[[], float]
"""Seconds so far."""


@dataclass(frozen=True)
class Device:
    """What the maker of a GPU publishes of it. Operations a second are of dense matrix products."""

    about: str
    bfloat16: float
    """Operations a second in bf16, summed in float32."""
    float32: float
    """Operations a second in float32, without tensor cores."""
    bandwidth: float
    """Bytes of memory that are read or written a second."""
    memory: float
    """Bytes."""

    def seconds(self, piece: Piece, dtype: Dtype, share: float) -> float:
        """How long a piece of work takes at a share of what is published: its operations, or its bytes of memory."""
        peak = self.float32 if dtype == "float32" else self.bfloat16
        return max(piece.operations / peak, piece.bytes / self.bandwidth) / share


DEVICES: dict[str, Device] = {
    "a100": Device("NVIDIA A100 SXM, 80 GB", 312e12, 19.5e12, 2.039e12, 80e9),
    "h100": Device("NVIDIA H100 SXM, 80 GB", 989e12, 67e12, 3.35e12, 80e9),
    "h200": Device("NVIDIA H200 SXM, 141 GB", 989e12, 67e12, 4.8e12, 141e9),
    "l40s": Device("NVIDIA L40S, 48 GB", 362e12, 91.6e12, 0.864e12, 48e9),
    "l4": Device("NVIDIA L4, 24 GB", 121e12, 30.3e12, 0.3e12, 24e9),
}
"""By the names of data sheets; NVIDIA's, as of 2025."""


def find_device(name: str) -> Device:
    """The device of that name. Refuses one that is not in the table."""
    if name not in DEVICES:
        raise Refused(f"nothing is known of the GPU {name!r}; name one of {', '.join(DEVICES)}")
    return DEVICES[name]


def processors() -> float:
    """Seconds that this process and all that it has started have taken of processors, whoever else uses them.

    Of those that still run, such as simulators in processes of their own, Linux tells; elsewhere they do not count.
    """
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system + sum(map(_taken, _below(os.getpid())))


def on_gpu() -> float:
    """Seconds of this machine's clock when its GPU has done what it was given."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def _below(process: int) -> list[int]:
    """Processes that a process has started and that still run, and theirs."""
    found = []
    for told in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in told.read_text().split()]
        except OSError:  # the thread has ended
            continue
        found += [each for child in children for each in (child, *_below(child))]
    return found


def _taken(process: int) -> float:
    """Seconds of processors that a running process has taken; 0 of one that has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # user and system, its own and its ended children's
