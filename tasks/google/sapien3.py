"""SAPIEN 3, imported without the warning of a Vulkan loader that physics do not need."""

import warnings
from importlib import import_module
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sapien: Any = import_module("sapien")
physx: Any = sapien.physx
