"""Tensors of which each process may hold a part, as torch's DTensors: how to read them, and to cut others like them."""

from typing import Any

from torch import Tensor


def shared(x: Tensor) -> Any:
    """A tensor as the DTensor that it is; None where this process holds all of it."""
    return x if hasattr(x, "full_tensor") else None  # to ask for the class is to load it, which takes a second


def number(x: Tensor) -> float:
    """The value of a tensor that holds one number; where processes share it, that of all together."""
    return float(x if shared(x) is None else shared(x).full_tensor())


def here(x: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return x if shared(x) is None else shared(x).to_local()


def placed(x: Tensor, like: Tensor) -> Tensor:
    """Of `x`, which is the same in all processes, what this one holds of `like`, a tensor of its shape."""
    if shared(like) is None:
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x.to(like.device), shared(like).device_mesh, shared(like).placements, src_data_rank=None)
