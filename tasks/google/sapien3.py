"""SAPIEN 3, imported without the warning of a Vulkan loader that physics do not need."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sapien
    from sapien import physx

__all__ = ["physx", "sapien"]
