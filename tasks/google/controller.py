"""From motions to joint targets: the end effector's pose by inverse kinematics, then a jerk-limited plan.

What SimplerEnv calls `arm_pd_ee_delta_pose_align_interpolate_by_planner` with the fingers'
`pd_joint_target_delta_pos_interpolate_by_planner`. Facts from simpler-env/ManiSkill2_real2sim ef7a4d4,
agents/controllers/pd_ee_pose.py, pd_joint_pos.py and agents/configs/google_robot/defaults.py.
"""

from importlib import import_module
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from razorbench.tasks.google.facts import (
    ARM,
    ARM_LIMITS,
    DAMPING,
    FINGER_LIMITS,
    FINGERS,
    FORCE,
    HERTZ,
    JOINTS,
    SMALL,
    SPARE,
    STIFFNESS,
    SUBSTEPS,
    TRIES,
    WIDE,
)
from razorbench.tasks.google.sapien3 import sapien

ruckig: Any = import_module("ruckig")


class Plan:
    """Positions and velocities of some joints at a motion's physics steps, both [172, n]; the first is the start."""

    def __init__(self, start: np.ndarray, speed: np.ndarray, goal: np.ndarray, limits: tuple[float, float, float]):
        """From `start` at `speed` to rest at `goal` [n], in the shortest time that the limits allow."""
        n = len(start)
        asked, plan = ruckig.InputParameter(n), ruckig.Trajectory(n)
        asked.current_position, asked.current_velocity, asked.target_position = start, speed, goal
        asked.current_acceleration = asked.target_velocity = asked.target_acceleration = np.zeros(n)
        asked.max_velocity, asked.max_acceleration, asked.max_jerk = (np.full(n, limit) for limit in limits)
        asked.min_velocity, asked.min_acceleration = (np.full(n, -limit) for limit in limits[:2])
        ruckig.Ruckig(n).calculate(asked, plan)
        times = np.clip(np.arange(SUBSTEPS + 1) / HERTZ, 0.0, plan.duration)
        points = [plan.at_time(t) for t in times]
        self.position, self.velocity = (np.array([point[k] for point in points]) for k in range(2))


class Controller:
    """What one robot was told last, and what follows from it."""

    def __init__(self, robot: Any):
        """Take over an articulation of SAPIEN 3, and set the drives of its joints."""
        active = [joint.name for joint in robot.active_joints]
        self.robot = robot
        self.order = np.array([active.index(f"joint_{name}") for name in JOINTS])
        """Where each of `JOINTS` stands in the articulation's own order."""
        self.joints = [robot.active_joints[i] for i in self.order]
        for joint, *drive in zip(self.joints, STIFFNESS, DAMPING, FORCE, strict=True):
            joint.set_drive_properties(*drive, mode="force")
        self.hand = next(link for link in robot.links if link.name == "link_gripper_tcp")
        self.model = robot.create_pinocchio_model()
        self.moved = np.zeros(len(active), np.int32)
        self.moved[self.order[ARM]] = 1
        limit = robot.qlimits[self.order[FINGERS]]
        self.low, self.high = limit[:, 0] - SPARE, limit[:, 1] + SPARE
        self.begin()

    def begin(self) -> None:
        """Forget what was planned: where the joints are is where they shall be."""
        q = self.measured()[0]
        self.arm: Plan | None = None
        self.told, self.driven = q[FINGERS], q[FINGERS]

    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities of `JOINTS`, both [11] float64, rad and rad/s."""
        return self.robot.qpos[self.order].astype(float), self.robot.qvel[self.order].astype(float)

    def reached(self, motion: np.ndarray) -> np.ndarray | None:
        """Joints [9] that bring the hand where a motion [6] says, or None where no solution was found.

        The hand is moved by metres along the base's axes and turned about them by a rotation vector.
        """
        now = self.robot.pose.inv() * self.hand.entity_pose
        turn = Rotation.from_rotvec(motion[3:6]).as_quat(scalar_first=True)
        goal = sapien.Pose(q=turn) * sapien.Pose(q=now.q)
        goal.p = now.p + motion[:3]
        found, solved, _ = self.model.compute_inverse_kinematics(
            self.hand.index, goal, self.robot.qpos, self.moved, max_iterations=TRIES
        )
        return found[self.order[ARM]] if solved else None

    def plan(self, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Targets [171, 11] of all joints and velocities [171, 2] of the fingers, for each physics step of a motion.

        The arm's plan goes on from the end of the last one, the fingers' from where they are.
        """
        q, v = self.measured()
        found = self.reached(motion)
        goal = q[ARM] if found is None else found
        if self.arm is None:
            start, speed = q[ARM], np.clip(v[ARM], -ARM_LIMITS[0], ARM_LIMITS[0])
        else:
            start, speed = self.arm.position[-1], self.arm.velocity[-1]
        self.arm = Plan(start, speed, goal, ARM_LIMITS)
        by = WIDE * np.clip(motion[6], -1.0, 1.0)
        if abs(by) >= SMALL:
            self.told = np.clip(self.driven + by, self.low, self.high)
        fingers = Plan(q[FINGERS], np.clip(v[FINGERS], -FINGER_LIMITS[0], FINGER_LIMITS[0]), self.told, FINGER_LIMITS)
        self.driven = fingers.position[-1]
        return np.hstack([self.arm.position, fingers.position])[1:], fingers.velocity[1:]
