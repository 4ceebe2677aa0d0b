"""Numbers of SimplerEnv's google robot and its scenes, each with the file it was read from; and those that we changed.

Files are those of simpler-env/ManiSkill2_real2sim at ef7a4d4, below `mani_skill2_real2sim/`. Lengths are metres, angles
radians, quaternions w x y z.
"""

from typing import Any

import numpy as np

# --- physics ----------------------------------------------------------------------------------------------------------

HERTZ, SUBSTEPS = 513, 171
"""Physics steps a second, and in a motion: 3 motions a second (envs/custom_scenes/grasp_single_in_scene.py)."""
POSITION_ITERATIONS, CONTACT_OFFSET = 25, 0.02
"""Of the TGS solver, and the distance at which contacts begin to be made (envs/sapien_env.py)."""
MATERIAL = (1.0, 1.0, 0.0)
"""Static and dynamic friction and restitution of what has none of its own (envs/sapien_env.py)."""
CALIBRATED: dict[str, Any] = {
    "velocity iterations": 0,  # SimplerEnv: 1, which here shakes the can out of the fingers
    "finger armature": 1e-4,  # SimplerEnv: none
    "persistent contact manifold": True,  # SimplerEnv: off
}
"""What makes SAPIEN 3 behave as SAPIEN 2.2.2 did where fingers hold a can, found by replaying 54 recorded episodes: it
is part of what the ids mean. It is fragile: 50 position iterations lift none of ten cans that lie crosswise."""

# --- the robot --------------------------------------------------------------------------------------------------------

JOINTS = ("torso", "shoulder", "bicep", "elbow", "forearm", "wrist", "gripper", "head_pan", "head_tilt",
          "finger_right", "finger_left")  # fmt: skip
ARM, FINGERS = slice(0, 9), slice(9, 11)
"""Rows of `JOINTS`; the arm's controller moves the head, too, and holds it where it is."""
REST = np.array([-0.2639457174606611, 0.0831913360274175, 0.5017611504652179, 1.156859026208673, 0.028583671314766423,
                 1.592598203487462, -1.080652960128774, -0.00285961, 0.7851361, 0.0, 0.0])  # fmt: skip
"""Where the joints begin (envs/custom_scenes/base_env.py)."""
STIFFNESS = (1700.0, 1737.0471680861954, 979.975871856535, 930.0, 1212.154500274304, 432.96500923932535,
             468.0013365498738, 2000.0, 2000.0, 200.0, 200.0)  # fmt: skip
DAMPING = (1059.9791902443303, 1010.4720585373592, 767.2803161582076, 680.0, 674.9946964336588, 274.613381336198,
           340.532560578637, 900.0, 900.0, 8.0, 8.0)  # fmt: skip
FORCE = (300.0, 300.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 60.0, 60.0)
"""Of the joints' drives: N m/rad, N m s/rad, and at most N m (agents/configs/google_robot/defaults.py)."""
ARM_LIMITS, FINGER_LIMITS = (1.5, 2.0, 50.0), (1.0, 7.0, 50.0)
"""Velocity, acceleration and jerk of a plan: rad/s, rad/s², rad/s³ (the same)."""
WIDE, SPARE, SMALL = 1.31, 0.01, 1e-3
"""By how much a finger motion of 1 moves the fingers' target (they stop at 1.3, so they press); how far beyond the
joint's limits it may lie; and below which motion the last target is repeated (the same)."""
TRIES = 100
"""Iterations of the inverse kinematics (agents/controllers/pd_ee_pose.py)."""
HEIGHT = 0.07905
"""Of the base: 0.06205 above a ground at 0.017 (envs/custom_scenes/base_env.py)."""
PATCHES = {
    **dict.fromkeys(("link_finger_left", "link_finger_right"), (2.0, 2.0, 0.1)),
    **dict.fromkeys(("link_finger_tip_left", "link_finger_tip_right"), (2.0, 2.0, 0.1)),
    **dict.fromkeys(("link_finger_nail_left", "link_finger_nail_right"), (0.1, 0.1, 0.01)),
    "link_base": (0.1, 0.0, 0.1),
    **dict.fromkeys(("link_wheel_left", "link_wheel_right"), (1.0, 0.0, 0.1)),
}
"""Static and dynamic friction of links, and the radius of their contact patches, from which torsional friction follows
(agents/configs/google_robot/defaults.py)."""
PIXELS, FOCAL, CENTRE = (640, 512), 425.0, (320.0, 256.0)
"""Width and height, focal length and principal point of the camera on `link_camera`, pixels (the same)."""
CLIPPED = (0.1, 10.0)
"""What is nearer or farther is not seen (sensors/camera.py)."""

# --- the can ----------------------------------------------------------------------------------------------------------

TABLE = ((-0.295, 0.21, 0.4495), (0.315, 0.3075, 0.4325))
"""Centre and half sizes of the table's box (scene "dummy_tabletop" of envs/custom_scenes/base_env.py)."""
CAN_DENSITY, CAN_FRICTION, CAN_DAMPING = 50.0, 0.5, 0.1
"""kg/m³ (data/custom/info_pick_custom_v0.json), static and dynamic friction, and what damps its motion and turning
(envs/custom_scenes/base_env.py, grasp_single_in_scene.py)."""
RESTING = {
    "upright": (-0.000346, -0.000298, 0.950965, 0.70560998, 0.70859599, -0.00176700, 0.00174800),
    "lengthwise": (0.000270, -0.000906, 0.914094, 0.70700002, 0.01161800, -0.00809900, 0.70707202),
    "crosswise": (0.000902, 0.000262, 0.914094, -0.00004600, 0.01394700, 0.00248800, 0.99989998),
}
"""Where a can rests that SimplerEnv drops at (0, 0), and how it is turned: measured there. Other places move it by at
most 0.3 mm. Its names: upright, laid_vertically, lr_switch."""
CAN_BASE = (0.35, 0.20)
"""Where the robot stands (scripts of visual matching, and `_additional_prepackaged_config_reset`)."""
CAN_X, CAN_Y = (-0.35, -0.12), (-0.02, 0.42)
"""Where cans are put (`_initialize_actors`, and the scripts of visual matching, on a grid of 5 by 5). The paper prints
0.12 for −0.12 (arXiv 2509.04259, appendix B.2); there the table has ended."""
CAN_STEPS, LIFTED, HIGH, HELD = 80, 0.01, 0.02, 5
"""Motions of an episode; how far up a can is lifted, and lifted high; and for how many steps in all that is enough."""
GRASP_IMPULSE, GRASP_ANGLE = 1e-6, 80.0
"""N s, and degrees between what a finger feels and the way it opens (agents/robots/googlerobot.py)."""

# --- the drawers ------------------------------------------------------------------------------------------------------

DRAWERS = ("top", "middle", "bottom")
CABINET_AT = (-0.295, 0.0, 0.017)
SLIDE_FRICTION, SLIDE_DAMPING = 0.05, 1.0
"""Where the cabinet stands, and what brakes its drawers (envs/custom_scenes/open_drawer_in_scene.py)."""
PULLED, OPEN, CLOSED = 0.2, 0.15, 0.05
"""How far out a drawer is that is to be closed; how far one is, at least, to be open, and at most, to be closed."""
DRAWER_STEPS = 113
PLACES = {
    "a0": (0.644, -0.179, -0.03), "a1": (0.765, -0.182, -0.02), "a2": (0.889, -0.203, -0.06),
    "b0": (0.652, 0.009, 0.0), "b1": (0.752, 0.009, 0.0), "b2": (0.851, 0.035, 0.0),
    "c0": (0.665, 0.224, 0.0), "c1": (0.765, 0.222, -0.025), "c2": (0.865, 0.222, -0.025),
}  # fmt: skip
"""Where the robot stands before the cabinet: x, y, and its turn from facing −x (the same)."""
HANDLE = (0.3425, 0.0, 0.02)
"""A handle in its drawer's frame (data/custom/mk_station_recolor.urdf); one sees it, and feels the panel alone."""
HEIGHTS = {"top": 0.668, "middle": 0.423, "bottom": 0.178}
"""Of the drawers' frames in the cabinet's (the same)."""
