"""What SimplerEnv is asked to build, as a table; read without it.

Every value is one of its evaluation scripts' (scripts/*.sh of simpler-env/SimplerEnv at 4ab7178), or of the environment
that these name (simpler-env/ManiSkill2_real2sim at ef7a4d4).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from razorbench import Refused


@dataclass(frozen=True)
class Robot:
    """A robot, how it is controlled, and what it sees by."""

    name: str
    hertz: int
    """Motions a second."""
    physics: int
    """Steps of the physics a second."""
    control: str
    camera: str
    pixels: str
    """Of that camera, height before width."""


GOOGLE = Robot(
    "google_robot_static",
    3,
    513,
    "arm_pd_ee_delta_pose_align_interpolate_by_planner_gripper_pd_joint_target_delta_pos_interpolate_by_planner",
    "overhead_camera",
    "512x640",
)
WIDOWX = Robot(
    "widowx", 5, 500, "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos", "3rd_view_camera", "480x640"
)
SINK = replace(WIDOWX, name="widowx_sink_camera_setup")


@dataclass(frozen=True)
class Scene:
    """One way in which an environment is built."""

    env: str
    """Its name upstream."""
    name: str
    """Of the stage, `scene_name`."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What it is told besides."""


@dataclass(frozen=True)
class Row:
    """One task."""

    words: str
    """The instruction; empty where the simulator tells one for each episode."""
    rule: str
    """When a step is a success, in words."""
    horizon: int
    robot: Robot
    scenes: Sequence[Scene]
    begun: str
    """How its episodes begin: a name in `states.BEGUN`."""
    thing: str
    """Upstream's name of what is to be moved, an attribute of the environment."""
    overlay: str = ""
    """The picture of the real scene that stands behind what is simulated, or how the names of several begin."""
    shader: str = "ibl"
    """What draws: SAPIEN's rasteriser, or "rt", its ray tracer."""
    protocol: str = ""
    """One of `PROTOCOLS`."""
    drawn: str = ""
    """One of `DRAWN`."""
    spoken: str = ""
    """One of `SPOKEN`."""

    @property
    def seen(self) -> bool:
        """Whether pictures are seen."""
        return self.drawn != "state"


PROTOCOLS = {
    "": "visual matching",
    "variants": "variant aggregation",
    "grid": "the paper's own (arXiv 2509.04259, appendix B.2)",
}
"""What stands in an id → under which protocol it is played."""
DRAWN = {
    "": "as published",
    "raster": "by the rasteriser, where the published drawers are ray-traced",
    "state": "not at all: a state is seen",
}
"""What stands in an id → how pictures are drawn."""
SPOKEN = {
    "": "x, y, z, rotation vector, fingers",
    "openx": "x, y, z, roll, pitch, yaw, and how open the fingers are, 0 to 1, as in Open X-Embodiment",
}
"""What stands in an id → what a motion's seven numbers are, metres and radians."""

TABLETOP = "google_pick_coke_can_1_v4"
COLOURS = (
    "None",
    "recolor_tabletop_visual_matching_1",
    "recolor_tabletop_visual_matching_2",
    "recolor_cabinet_visual_matching_1",
)
"""Of the google robot, by upstream's names; visual matching averages over them."""
CAN = "GraspSingleOpenedCokeCan{}InScene-v0"
TURNED = {"upright": "upright", "lengthwise": "laid_vertically", "crosswise": "lr_switch"}
"""How a can lies → upstream's name."""
PICKED = (
    "the can is grasped and has been lifted 1 cm with nothing else touching it, or it has been 2 cm up so in 5 steps"
)
MOVED = (
    "the thing was moved by more than 3 cm and than any other, the boxes about it and the target are within 10 cm, no "
    "other thing is nearer to it by 1 cm, and nothing has fallen"
)
PUT = "the thing lies on the target, by boxes about them"


def coloured(env: str, stage: str, more: Mapping[str, Any], colours: Sequence[str] = COLOURS) -> tuple[Scene, ...]:
    """A scene for each colour of the robot."""
    return tuple(Scene(env, stage, {**more, "urdf_version": colour}) for colour in colours)


def varied(env: str, other: str, more: Mapping[str, Any]) -> list[Scene]:
    """What the variants of all tasks on the table share: as it is, textures, backgrounds, light, cameras, which make
    an environment of another name, `other` with a word in it.
    """
    textures = [f"Baked_sc1_staging_objaverse_cabinet{number}_h870" for number in (1, 2)]
    backgrounds = [f"{TABLETOP}_alt_background{number}" for number in ("", "_2")]
    return [
        *(Scene(env, stage, more) for stage in (TABLETOP, *textures, *backgrounds)),
        *(Scene(env, TABLETOP, {**more, f"slightly_{light}_lighting": True}) for light in ("darker", "brighter")),
        *(Scene(other.format(f"AltGoogleCamera{number}"), TABLETOP, more) for number in ("", "2")),
    ]


def can(way: str) -> dict[str, Row]:
    """The rows of a can that lies so, by protocol."""
    more = {TURNED[way]: True}
    row = Row(
        "pick coke can",
        PICKED,
        80,
        GOOGLE,
        coloured(CAN.format(""), TABLETOP, more),
        "can",
        "obj",
        "google_coke_can_real_eval_1.png",
    )
    among = [Scene(CAN.format("Distractor"), TABLETOP, {**more, "distractor_config": few}) for few in ("less", "more")]
    scenes = (*varied(CAN.format(""), CAN, more), *among)
    return {"": row, "variants": replace(row, scenes=scenes, overlay="", protocol="variants")}


def near() -> dict[str, Row]:
    """The rows of moving a thing near another."""
    row = Row(
        "",
        MOVED,
        80,
        GOOGLE,
        coloured("MoveNearGoogleBakedTexInScene-v0", TABLETOP, {}),
        "near",
        "episode_source_obj",
        "google_move_near_real_eval_1.png",
    )
    env = "MoveNearGoogleInScene-v0"
    scenes = (*varied(env, "MoveNear{}InScene-v0", {}), Scene(env, TABLETOP, {"no_distractor": True}))
    return {"": row, "variants": replace(row, scenes=scenes, overlay="", protocol="variants")}


def drawer(verb: str, which: str) -> dict[str, Row]:
    """The rows of opening or closing a drawer. No model is asked for, and upstream would check all that it knows."""
    env, alone = f"{verb.title()}{which.title()}DrawerCustomInScene-v0", {"model_ids": "opened_coke_can"}
    matched = {**alone, "station_name": "mk_station_recolor", "light_mode": "simple", "disable_bad_material": True}
    simple, stages = "frl_apartment_stage_simple", ("modern_bedroom_no_roof", "modern_office_no_roof")
    row = Row(
        f"{verb} {which} drawer",
        "the drawer is 15 cm out or more" if verb == "open" else "the drawer, 20 cm out at first, is 5 cm out or less",
        113,
        GOOGLE,
        coloured(env, "dummy_drawer", matched, (COLOURS[3], *COLOURS[1:3], COLOURS[0])),
        "drawer",
        "drawer_obj",
        "open_drawer_",
        "rt",
    )
    changed = (
        Scene(env, simple, alone),
        *(Scene(env, stage, alone) for stage in stages),
        *(Scene(env, simple, {**alone, "light_mode": light}) for light in ("brighter", "darker")),
        *(Scene(env, simple, {**alone, "station_name": f"mk_station{number}"}) for number in (2, 3)),
    )
    return {"": row, "variants": replace(row, scenes=changed, begun="before", overlay="", protocol="variants")}


def bridge(words: str, env: str, robot: Robot = WIDOWX) -> dict[str, Row]:
    """The row of one of WidowX's tasks."""
    sink = robot is SINK
    return {
        "": Row(
            words,
            PUT,
            120 if sink else 60,
            robot,
            (Scene(env, "bridge_table_1_v2" if sink else "bridge_table_1_v1"),),
            "sink" if sink else "table",
            "episode_source_obj",
            "bridge_sink.png" if sink else "bridge_real_eval_1.png",
        )
    }


def paper() -> dict[str, Row]:
    """The paper's row, a can that lies in one of three ways in turn: it does not say how, nor in which colours."""
    scenes = [Scene(CAN.format(""), TABLETOP, {TURNED[way]: True, "urdf_version": "None"}) for way in TURNED]
    return {"grid": replace(can("upright")[""], scenes=scenes, begun="grid", protocol="grid")}


TABLE: dict[str, dict[str, Row]] = {
    "coke-can": paper(),
    **{f"coke-can-{way}": can(way) for way in TURNED},
    "move-near": near(),
    **{
        f"{verb}-{which}-drawer": drawer(verb, which)
        for verb in ("open", "close")
        for which in ("top", "middle", "bottom")
    },
    "spoon-on-towel": bridge("put the spoon on the towel", "PutSpoonOnTableClothInScene-v0"),
    "carrot-on-plate": bridge("put carrot on plate", "PutCarrotOnPlateInScene-v0"),
    "stack-cube": bridge("stack the green block on the yellow block", "StackGreenCubeOnYellowCubeBakedTexInScene-v0"),
    "eggplant-in-basket": bridge("put eggplant into yellow basket", "PutEggplantInBasketScene-v0", SINK),
}
"""Name in our ids → protocol → row, drawn as published."""

ID = re.compile(rf"({'|'.join(TABLE)})(?:-(variants|grid))?(?:-(dummy))?(?:-(raster|state))?(?:-(openx))?-v1")


UNKNOWN = (
    f"unknown task 'simpler-{{}}'; it should be simpler-NAME-v1, NAME one of {', '.join(TABLE)}; behind it -variants "
    "(variant aggregation, of the google robot) or -grid (the paper's own, of coke-can, which has no other), then "
    "-dummy (a box for the table; of cans and move-near), then -raster (of drawers: not ray-traced) or -state (no "
    "pictures), then -openx (motions of Open X-Embodiment); variants are seen, and on their own stages"
)


def row(rest: str) -> Row:
    """The row of an id without its `simpler-`. Refuses what names none."""
    said = ID.fullmatch(rest)
    name, protocol, dummy, drawn, spoken = (said[k] or "" for k in range(1, 6)) if said else [""] * 5
    found = TABLE.get(name, {}).get(protocol)
    if found is None or any(
        (
            dummy and found.scenes[0].name != TABLETOP,
            drawn == "raster" and found.shader != "rt",
            protocol == "variants" and (dummy or drawn == "state"),
        )
    ):
        raise Refused(UNKNOWN.format(rest))
    scenes = tuple(replace(scene, name="dummy_tabletop") if dummy else scene for scene in found.scenes)
    if drawn == "state" and not protocol:
        scenes = scenes[:1]  # nobody sees the colours
    shader = "ibl" if drawn else found.shader
    return replace(found, scenes=scenes, drawn=drawn, shader=shader, spoken=spoken)
