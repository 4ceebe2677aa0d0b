"""A coke can on a table before the google robot, and when it counts as picked."""

from typing import Any

import numpy as np

from razorbench.tasks.google.assets import CAN, COLOURS, OVERLAYS, asset
from razorbench.tasks.google.camera import Studio
from razorbench.tasks.google.facts import (
    CAN_BASE,
    CAN_DAMPING,
    CAN_DENSITY,
    CAN_FRICTION,
    GRASP_ANGLE,
    GRASP_IMPULSE,
    HELD,
    HIGH,
    LIFTED,
    TABLE,
)
from razorbench.tasks.google.sapien3 import physx, sapien
from razorbench.tasks.google.simulator import Scene


class CanScene(Scene):
    """A can on a table. Its verdict is SimplerEnv's (envs/custom_scenes/grasp_single_in_scene.py)."""

    colour = COLOURS[1]
    studio = Studio(
        f"{OVERLAYS}/google_coke_can_real_eval_1.png",
        ambient=0.3,
        lights=(((0, 0, -1), 2.2), ((-1, -0.5, -1), 0.7), ((1, 1, -1), 0.7)),
        glossy=True,
    )

    def __init__(self, can: np.ndarray, seen: bool = False):
        """The can begins at the pose `can` [7], where it rests."""
        self.begun = can
        super().__init__(*CAN_BASE, seen=seen)
        self.links = {link.name: link for link in self.robot.links}
        self.lifted, self.high = False, 0

    def build(self) -> None:
        """The table, and the can on it."""
        centre, half = TABLE
        table = self.scene.create_actor_builder()
        table.add_box_collision(sapien.Pose(centre), half)
        if self.seen:  # it hides what is behind it
            table.add_box_visual(sapien.Pose(centre), half)
        table.build_static("table")
        builder = self.scene.create_actor_builder()
        builder.add_multiple_convex_collisions_from_file(
            str(asset(f"{CAN}/collision.obj")),
            material=physx.PhysxMaterial(CAN_FRICTION, CAN_FRICTION, 0.0),
            density=CAN_DENSITY,
        )
        if self.seen:
            builder.add_visual_from_file(str(asset(f"{CAN}/textured.dae")))
        builder.initial_pose = sapien.Pose(self.begun[:3], self.begun[3:])
        self.can = builder.build("can")
        body = self.can.find_component_by_type(physx.PhysxRigidDynamicComponent)
        body.linear_damping = body.angular_damping = CAN_DAMPING

    def step(self, motion: np.ndarray) -> None:
        """Execute a motion [7], and see what became of the can."""
        super().step(motion)
        felt = self.impulses()
        up = self.can.pose.p[2] - self.begun[2]
        free = all(np.linalg.norm(by) <= GRASP_IMPULSE for name, by in felt.items() if name not in self.links)
        self.grasped = all(self.presses(felt, side) for side in ("left", "right"))
        self.lifted = bool((self.lifted and self.grasped) or (free and up > LIFTED))
        self.high += self.lifted and up > HIGH

    @property
    def success(self) -> bool:
        """Whether the can is lifted, or has been lifted high in five steps."""
        return self.lifted or self.over

    @property
    def over(self) -> bool:
        """Whether nothing that follows can change the verdict of the last step."""
        return self.high >= HELD

    @property
    def things(self) -> list[Any]:
        """The can; the table is one of the picture behind."""
        return [self.can]

    @property
    def thing(self) -> Any:
        """The can's pose."""
        return self.can.pose

    def impulses(self) -> dict[str, np.ndarray]:
        """What each body was done by the can in the last physics step, N s [3], by the body's name."""
        felt: dict[str, np.ndarray] = {}
        for contact in self.scene.get_contacts():
            names = [body.entity.name for body in contact.bodies]
            if "can" in names:
                on_first = sum((point.impulse for point in contact.points), np.zeros(3))
                other = names[1 - names.index("can")]
                felt[other] = felt.get(other, np.zeros(3)) + (on_first if names[0] == other else -on_first)
        return felt

    def presses(self, felt: dict[str, np.ndarray], side: str) -> bool:
        """Whether a finger is pushed the way it opens."""
        parts = [f"link_finger_tip_{side}", f"link_finger_{side}"]
        pushed = [felt.get(part, np.zeros(3)) for part in parts]
        opens = [self.links[part].entity_pose.to_transformation_matrix()[:3, 1] for part in parts]
        hard, near = max(map(np.linalg.norm, pushed)), min(map(angle, opens, pushed))
        return bool(hard >= GRASP_IMPULSE and near <= GRASP_ANGLE)


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two vectors; 90 where one of them is zero."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(a @ b / lengths, -1.0, 1.0)))) if lengths else 90.0
