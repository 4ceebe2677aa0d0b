"""SimplerEnv's data files: where they are, and its URDFs as SAPIEN 3 reads them, with what is seen or without."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from razorbench import Missing

ROBOT = "mani_skill2_real2sim/assets/descriptions/googlerobot_description/google_robot_meta_sim_fix_wheel_fix_fingertip"
"""The robot's URDF, without the name of its colours and the extension."""
COLOURS = ("", "_recolor_tabletop_visual_matching_1", "_recolor_tabletop_visual_matching_2",
           "_recolor_cabinet_visual_matching_1")  # fmt: skip
"""The robot's colours, which visual matching averages over; physics are the same in all."""
CABINET = "data/custom/mk_station_recolor.urdf"
CAN = "data/custom/models/opened_coke_can"
OVERLAYS = "data/real_inpainting"
"""Pictures of the real scene, which stand behind robot and things."""


def asset(name: str) -> Path:
    """A data file of SimplerEnv. Raises Missing with the cure where it is not at hand."""
    root = os.environ.get("RAZORBENCH_ASSETS")
    if not root:
        raise Missing(
            "the google robot needs SimplerEnv's data files, and RAZORBENCH_ASSETS is not set; run `git clone --depth "
            "1 https://github.com/simpler-env/ManiSkill2_real2sim assets/simpler`, and set it to the folder assets"
        )
    path = Path(root) / "simpler" / name
    if not path.exists():
        raise Missing(f"{path} is missing; put there what ManiSkill2_real2sim has, or set RAZORBENCH_ASSETS elsewhere")
    return path


@contextmanager
def urdf(name: str, seen: bool) -> Iterator[str]:
    """The path of a copy that names its meshes in full; what is seen is cut unless `seen`, for it asks for Vulkan."""
    path = asset(name)
    tree = ElementTree.parse(path)
    for link in tree.iter("link"):
        for visual in [] if seen else link.findall("visual"):
            link.remove(visual)
    for mesh in tree.iter("mesh"):
        mesh.set("filename", str(path.parent / mesh.get("filename", "")))
    with TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        tree.write(copy)
        yield str(copy)
