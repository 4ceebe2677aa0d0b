"""ManiSkill3's environments that need no download, as a table; read without the simulator.

`tests/test_maniskill_simulator.py` holds each row against the installed package.
"""

from dataclasses import dataclass

EE = "pd_ee_delta_pose"
"""Motions of the end effector, by inverse kinematics: what policies that learn from several robots speak."""
JOINTS = "pd_joint_delta_pos"
"""Motions of each joint: what a robot has that no inverse kinematics is made for."""

TARGETS = "pd_joint_target_delta_pos"
"""The same, on top of what was asked before, and not of where the joints are."""

COLUMNS = {"qpos": 9, "qvel": 9, "tcp_pose": 7, "obj_pose": 7, "goal_pos": 3}
"""Common names of what is seen, and their widths: joints, rad and metres, and their speed; hand and thing (metres, then
a quaternion w x y z); where the thing should go, zeros where that is nowhere in particular.
"""


@dataclass(frozen=True)
class Row:
    """One environment, and the rules that it is played by."""

    env: str
    """Its name in ManiSkill3."""
    words: str
    """The instruction."""
    horizon: int
    """Steps of an episode: as upstream registers it."""
    control: str = EE
    motion: int = 7
    """Numbers in a motion, each in −1…1."""
    thing: str = ""
    """The simulator's name of the pose of what is to be moved. Where there is one, robot, thing and goal are seen under
    common names, so that one policy can play all such rows; elsewhere everything under the simulator's own.
    """
    goal: str = ""
    """The simulator's name of where it should go, a place or a pose; empty: nowhere in particular."""
    success: str = "once"
    """Which success is the score: that of any step, or of the last."""
    hertz: float = 20.0
    """Motions in a second of the simulated world."""
    cameras: tuple[tuple[str, str], ...] = (("base_camera", "128x128"),)
    """The cameras of the form with pictures, and their pixels."""


BASE = ("base_camera", "128x128")
WRIST = (BASE, ("hand_camera", "128x128"))
WRISTS = (BASE, *((f"panda_wristcam-{robot}-hand_camera", "128x128") for robot in range(2)))
HEAD = (BASE, ("head_camera", "128x128"))

TABLE = {
    "pick-cube": Row("PickCube-v1", "pick up the cube and hold it at the goal", 50, thing="obj_pose", goal="goal_pos"),
    "push-cube": Row("PushCube-v1", "push the cube to the goal", 50, thing="obj_pose", goal="goal_pos"),
    "pull-cube": Row("PullCube-v1", "pull the cube to the goal", 50, thing="obj_pose", goal="goal_pos"),
    "stack-cube": Row(
        "StackCube-v1", "stack the cube on the other one", 50, thing="cubeA_pose", goal="cubeB_pose", cameras=WRIST
    ),
    "lift-peg-upright": Row("LiftPegUpright-v1", "stand the peg upright", 50, thing="obj_pose"),
    "place-sphere": Row("PlaceSphere-v1", "put the sphere in the bin", 50, thing="obj_pose", goal="bin_pos"),
    "poke-cube": Row("PokeCube-v1", "poke the cube with the peg", 50, thing="peg_pose", goal="goal_pos"),
    "roll-ball": Row("RollBall-v1", "roll the ball to the goal", 80, thing="ball_pose", goal="goal_pos"),
    "pull-cube-tool": Row("PullCubeTool-v1", "pull the cube closer with the tool", 100),
    "push-t": Row("PushT-v1", "push the T to where it is drawn", 100, motion=6),
    "peg-insertion-side": Row("PegInsertionSide-v1", "put the peg into the hole", 100, cameras=WRIST),
    "plug-charger": Row("PlugCharger-v1", "plug the charger into the receptacle", 200, cameras=WRIST),
    "stack-pyramid": Row("StackPyramid-v1", "build a pyramid of the three cubes", 250, cameras=WRIST),
    "assembly-1-easy": Row("FMBAssembly1Easy-v1", "put the bridge onto the board", 500),
    "draw-triangle": Row(
        "DrawTriangle-v1", "draw along the triangle", 300, motion=6, cameras=(("base_camera", "240x320"),)
    ),
    "pick-cube-so100": Row("PickCubeSO100-v1", "pick up the cube and hold it at the goal", 50, JOINTS, 6),
    "grasp-cube-so100": Row("SO100GraspCube-v1", "grasp the cube", 64, TARGETS, 6),
    **{
        f"rotate-valve-{level}": Row(f"RotateValveLevel{level}-v1", "turn the valve", horizon, JOINTS, 9)
        for level, horizon in enumerate((80, 150, 150, 150, 300))
    },
    **{
        f"rotate-cube-{level}": Row(
            f"TriFingerRotateCubeLevel{level}-v1", "bring the cube to the goal's pose", 250, JOINTS, 9
        )
        for level in range(5)
    },
    **{
        f"rotate-in-hand-{level}": Row(
            f"RotateSingleObjectInHandLevel{level}-v1", "turn the thing in the hand", 300, JOINTS, 16
        )
        for level in range(2)
    },
    "two-robot-pick-cube": Row(
        "TwoRobotPickCube-v1", "hand the cube over and hold it at the goal", 100, motion=14, cameras=WRISTS
    ),
    "two-robot-stack-cube": Row(
        "TwoRobotStackCube-v1", "stack the cube on the other one", 100, motion=14, cameras=WRISTS
    ),
    "place-apple-in-bowl": Row(
        "UnitreeG1PlaceAppleInBowl-v1", "put the apple in the bowl", 100, JOINTS, 25, cameras=HEAD
    ),
    "transport-box": Row("UnitreeG1TransportBox-v1", "carry the box to the other table", 100, JOINTS, 25, cameras=HEAD),
}
"""Name in our ids → row: the 33 environments of 45 that need no download and say when they are solved."""
