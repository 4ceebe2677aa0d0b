"""The camera on the google robot's head, and the picture of the real scene that stands behind what is simulated.

It needs Vulkan: of a GPU, or Mesa's software driver (`mesa-vulkan-drivers` 25 or later). Numbers are SimplerEnv's:
sensors/camera.py, agents/configs/google_robot/defaults.py, and the overlay of envs/custom_scenes/base_env.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from razorbench import Refused
from razorbench.tasks.google.assets import asset
from razorbench.tasks.google.facts import CENTRE, CLIPPED, FOCAL, PIXELS
from razorbench.tasks.google.sapien3 import sapien

LOOKS = (0.5, 0.5, -0.5, 0.5)
"""How the camera is turned on its link: SAPIEN's looks along x, the link's along z."""


@dataclass(frozen=True)
class Studio:
    """What a scene is lit by, and what stands behind it."""

    behind: str
    """The overlay picture, a data file."""
    ambient: float
    lights: Sequence[tuple[tuple[float, float, float], float]]
    """Directions and strengths of what shines from afar."""
    glossy: bool = False
    """Whether the robot shines: specular 0.9, roughness 0.3."""


@cache
def kept() -> Any:
    """What draws no scene: while it is there, compiled shaders are, too, which take six seconds of a processor."""
    return sapien.render.RenderSystem()


def drawn() -> Any:
    """What draws a scene. Refuses where there is no Vulkan, with the cure."""
    try:
        kept()
        return sapien.render.RenderSystem()
    except RuntimeError as error:
        raise Refused(
            f"pictures of the google robot need Vulkan, and there is none ({error}); install a GPU's driver, or "
            "mesa-vulkan-drivers 25 or later (Debian 12: from bookworm-backports)"
        ) from error


class Overhead:
    """Takes pictures of a scene, in which what is not simulated is replaced by the real one."""

    def __init__(self, scene: Any, robot: Any, kept: Sequence[Any], studio: Studio):
        """The camera on the robot's head; `kept` are the entities that are seen as simulated, beside the robot's."""
        self.scene = scene
        scene.set_ambient_light([studio.ambient] * 3)
        for direction, strength in studio.lights:
            scene.add_directional_light(direction, [strength] * 3)
        links = [link.entity for link in robot.links]
        if studio.glossy:
            for link in links:
                polish(link)
        self.camera = sapien.render.RenderCameraComponent(*PIXELS)
        self.camera.set_focal_lengths(FOCAL, FOCAL)
        self.camera.set_principal_point(*CENTRE)
        self.camera.near, self.camera.far = CLIPPED
        next(link for link in links if link.name == "link_camera").add_component(self.camera)
        self.camera.local_pose = sapien.Pose(q=LOOKS)
        self.kept = [entity.per_scene_id for entity in (*links, *kept)]
        with Image.open(asset(studio.behind)) as picture:
            self.behind = np.asarray(picture.convert("RGB").resize(PIXELS, Image.Resampling.BILINEAR))

    def picture(self) -> np.ndarray:
        """What is seen now, uint8 [512, 640, 3]."""
        self.scene.update_render()
        self.camera.take_picture()
        colour = np.clip(self.camera.get_picture("Color")[..., :3], 0.0, 1.0)
        simulated = np.isin(self.camera.get_picture("Segmentation")[..., 1:2], self.kept)
        return np.where(simulated, (255 * colour).astype(np.uint8), self.behind)


def polish(entity: Any) -> None:
    """Make what a link looks like shine as SimplerEnv's robot does."""
    body = entity.find_component_by_type(sapien.render.RenderBodyComponent)
    for shape in body.render_shapes if body else ():
        for part in shape.parts:
            part.material.specular, part.material.roughness = 0.9, 0.3
