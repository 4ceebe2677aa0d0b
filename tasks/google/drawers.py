"""A cabinet of three drawers before the google robot, and when one of them counts as opened or closed."""

from typing import Any

import numpy as np

from razorbench.tasks.google.assets import CABINET, COLOURS, OVERLAYS
from razorbench.tasks.google.camera import Studio
from razorbench.tasks.google.facts import (
    CABINET_AT,
    CLOSED,
    HANDLE,
    OPEN,
    PLACES,
    PULLED,
    SLIDE_DAMPING,
    SLIDE_FRICTION,
)
from razorbench.tasks.google.sapien3 import sapien
from razorbench.tasks.google.simulator import Scene

GROUND = (10.0, 10.0, 0.017)
"""Half sizes of what the cabinet stands on (scene "dummy_drawer" of envs/custom_scenes/base_env.py), metres."""


class DrawerScene(Scene):
    """A drawer to be opened or closed. Its handle is seen and not felt, as in SimplerEnv."""

    colour = COLOURS[3]
    over = False
    """An open drawer may be closed again, so that only the last step decides."""

    def __init__(self, place: np.ndarray, drawer: str, closing: bool, seen: bool = False):
        """The robot stands at `place` [3]: x, y and its turn. What is to be closed is 20 cm out at first."""
        self.drawer, self.closing = drawer, closing
        nearest = min(PLACES, key=lambda name: np.linalg.norm(np.subtract(PLACES[name][:2], place[:2])))
        steep = np.deg2rad(75)
        self.studio = Studio(
            f"{OVERLAYS}/open_drawer_{nearest}.png",
            ambient=1.0,
            lights=(((-np.cos(steep), 0, -np.sin(steep)), 1.0),),
        )
        super().__init__(*place, seen=seen)

    def build(self) -> None:
        """The cabinet, and the ground where it is seen."""
        if self.seen:
            ground = self.scene.create_actor_builder().add_box_visual(half_size=GROUND)
            ground.set_physx_body_type("static")
            self.scene.add_entity(ground.build_entity())
        self.cabinet = self.articulation(CABINET, sapien.Pose(CABINET_AT))
        joints = self.cabinet.active_joints
        for joint in joints:
            joint.set_friction(SLIDE_FRICTION)
            joint.set_drive_properties(0.0, SLIDE_DAMPING)
        self.slide = [joint.name for joint in joints].index(f"{self.drawer}_drawer_joint")
        out = np.zeros(len(joints))
        out[self.slide] = PULLED * self.closing
        self.cabinet.set_qpos(out)
        self.cabinet.set_qvel(np.zeros(len(joints)))

    @property
    def success(self) -> bool:
        """Whether the drawer is closed, or is open."""
        return self.opened <= CLOSED if self.closing else self.opened >= OPEN

    @property
    def things(self) -> list[Any]:
        """The cabinet's parts."""
        return [link.entity for link in self.cabinet.links]

    @property
    def thing(self) -> Any:
        """The pose of the drawer's handle, x towards who opens it."""
        return self.cabinet.active_joints[self.slide].child_link.entity_pose * sapien.Pose(HANDLE)

    @property
    def opened(self) -> float:
        """How far the drawer is pulled out, metres."""
        return float(self.cabinet.qpos[self.slide])
