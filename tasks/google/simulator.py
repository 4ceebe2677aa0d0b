"""The google robot in a scene of bare SAPIEN 3: its parts, what a motion does, what is seen; without Vulkan."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from razorbench.tasks.google.assets import ROBOT, urdf
from razorbench.tasks.google.camera import Overhead, Studio, drawn
from razorbench.tasks.google.controller import Controller
from razorbench.tasks.google.facts import (
    CALIBRATED,
    CONTACT_OFFSET,
    FINGERS,
    HEIGHT,
    HERTZ,
    JOINTS,
    MATERIAL,
    PATCHES,
    POSITION_ITERATIONS,
    REST,
)
from razorbench.tasks.google.sapien3 import physx, sapien


@contextmanager
def settings() -> Iterator[None]:
    """Within it bodies and scenes are made with our settings; SAPIEN keeps them for the whole process."""
    before = (physx.get_scene_config(), physx.get_body_config(), physx.get_shape_config())
    plain = physx.get_default_material()
    friction = (plain.static_friction, plain.dynamic_friction, plain.restitution)
    physx.set_scene_config(enable_pcm=CALIBRATED["persistent contact manifold"], enable_tgs=True)
    physx.set_body_config(POSITION_ITERATIONS, CALIBRATED["velocity iterations"])
    physx.set_shape_config(contact_offset=CONTACT_OFFSET)
    physx.set_default_material(*MATERIAL)
    try:
        yield
    finally:
        physx.set_scene_config(before[0])
        physx.set_body_config(before[1])
        physx.set_shape_config(before[2])
        physx.set_default_material(*friction)


class Scene(ABC):
    """A robot in a scene of its own; what an episode does is a function of where it begins and the motions."""

    colour: str
    """The robot's: one of `assets.COLOURS`."""
    studio: Studio

    def __init__(self, x: float, y: float, turned: float = 0.0, *, seen: bool = False):
        """The robot's base stands at (x, y) and is turned by so many radians from facing −x.

        `seen` builds what everything looks like, too; that needs Vulkan, and refuses where there is none.
        """
        self.seen = seen
        facing = Rotation.from_euler("z", turned + np.pi).as_quat(scalar_first=True)
        with settings():
            self.scene = sapien.Scene([physx.PhysxCpuSystem(), *([drawn()] if seen else [])])
            self.scene.set_timestep(1.0 / HERTZ)
            self.robot = self.articulation(f"{ROBOT}{self.colour}.urdf", sapien.Pose([x, y, HEIGHT], facing))
            self.build()
        for joint in self.robot.active_joints:
            joint.set_friction(0.0)  # the loader of SAPIEN 3 puts 0.05
            if "finger" in joint.name:
                joint.set_armature([CALIBRATED["finger armature"]])
        self.controller = Controller(self.robot)
        q = np.empty(len(JOINTS))
        q[self.controller.order] = REST
        self.robot.set_qpos(q)
        self.robot.set_qvel(np.zeros(len(q)))
        self.controller.begin()
        self.at_base = self.robot.pose.inv()
        self.camera = Overhead(self.scene, self.robot, self.things, self.studio) if seen else None

    @abstractmethod
    def build(self) -> None:
        """Put the things beside the robot."""

    def articulation(self, name: str, pose: Any) -> Any:
        """What a URDF describes, its root fixed."""
        loader = self.scene.create_urdf_loader()
        loader.fix_root_link = loader.load_multiple_collisions_from_file = True
        for link, (still, moving, radius) in PATCHES.items():
            loader.set_link_material(link, still, moving, 0.0)
            loader.set_link_patch_radius(link, radius)
            loader.set_link_min_patch_radius(link, radius)
        with urdf(name, self.seen) as path:
            made = loader.load(path)
        made.set_root_pose(pose)
        return made

    def step(self, motion: np.ndarray) -> None:
        """Execute a motion [7] for a third of a second: metres, a rotation vector in radians, fingers (1 closes).

        Raises ArithmeticError when it is no number, or the physics blow up.
        """
        if not np.isfinite(motion).all():
            raise ArithmeticError(f"the motion {motion} is not finite")
        targets, speeds = self.controller.plan(np.asarray(motion, np.float64))
        robot, joints = self.robot, self.controller.joints
        fingers = joints[FINGERS]
        for target, speed in zip(targets.tolist(), speeds.tolist(), strict=True):
            for joint, value in zip(joints, target, strict=True):
                joint.set_drive_target(value)
            for joint, value in zip(fingers, speed, strict=True):
                joint.set_drive_velocity_target(value)
            robot.set_qf(robot.compute_passive_force(gravity=True, coriolis_and_centrifugal=True))
            self.scene.step()
        if not np.isfinite(robot.qpos).all():
            raise ArithmeticError("the simulation became unstable")

    def look(self) -> np.ndarray:
        """What is seen, [33]: the columns of `tasks.COLUMNS`, poses in the frame of the robot's base."""
        q, v = self.controller.measured()
        hand, thing = (flat(self.at_base * pose) for pose in (self.controller.hand.entity_pose, self.thing))
        return np.concatenate([q[:7], v[:7], v[FINGERS], q[FINGERS], hand, thing, [self.opened]])

    def picture(self) -> np.ndarray:
        """What the camera on the robot's head sees, uint8 [512, 640, 3]; of a scene that is `seen`."""
        assert self.camera, "this scene is not seen"
        return self.camera.picture()

    @property
    @abstractmethod
    def things(self) -> list[Any]:
        """The entities that are simulated beside the robot."""

    @property
    @abstractmethod
    def thing(self) -> Any:
        """The pose, in the world, of what is to be moved."""

    @property
    def opened(self) -> float:
        """How far the drawer in question is pulled out, metres; 0 where there is none."""
        return 0.0


def flat(pose: Any) -> np.ndarray:
    """A pose as [7]: metres, and a quaternion w x y z, w not negative."""
    return np.concatenate([pose.p, pose.q if pose.q[0] >= 0 else -pose.q])
