"""LIBERO's suites as a table: what they ask, for how many steps, and what LIBERO-PRO changes of them.

Read without the simulator; `tests/test_libero_simulator.py` holds the words against the installed package.
"""

import re
from dataclasses import dataclass

from razorbench import Refused

BOWL = "pick_up_the_black_bowl_{}_and_place_it_on_the_plate"
BASKET = "pick_up_the_{}_and_place_it_in_the_basket"


@dataclass(frozen=True)
class Suite:
    """Ten tasks of one kind."""

    horizon: int
    """Motions that an episode may take in OpenVLA's evaluation (arXiv 2406.09246)."""
    tasks: tuple[str, ...]
    """Names of upstream's files, in upstream's order."""


SUITES = {
    "spatial": Suite(
        220,
        tuple(
            BOWL.format(where)
            for where in (
                "between_the_plate_and_the_ramekin",
                "next_to_the_ramekin",
                "from_table_center",
                "on_the_cookie_box",
                "in_the_top_drawer_of_the_wooden_cabinet",
                "on_the_ramekin",
                "next_to_the_cookie_box",
                "on_the_stove",
                "next_to_the_plate",
                "on_the_wooden_cabinet",
            )
        ),
    ),
    "object": Suite(
        280,
        tuple(
            BASKET.format(thing)
            for thing in (
                *("alphabet_soup", "cream_cheese", "salad_dressing", "bbq_sauce", "ketchup"),
                *("tomato_sauce", "butter", "milk", "chocolate_pudding", "orange_juice"),
            )
        ),
    ),
    "goal": Suite(
        300,
        (
            "open_the_middle_drawer_of_the_cabinet",
            "put_the_bowl_on_the_stove",
            "put_the_wine_bottle_on_top_of_the_cabinet",
            "open_the_top_drawer_and_put_the_bowl_inside",
            "put_the_bowl_on_top_of_the_cabinet",
            "push_the_plate_to_the_front_of_the_stove",
            "put_the_cream_cheese_in_the_bowl",
            "turn_on_the_stove",
            "put_the_bowl_on_the_plate",
            "put_the_wine_bottle_on_the_rack",
        ),
    ),
    "10": Suite(
        520,
        (
            "LIVING_ROOM_SCENE2_put_both_the_alphabet_soup_and_the_tomato_sauce_in_the_basket",
            "LIVING_ROOM_SCENE2_put_both_the_cream_cheese_box_and_the_butter_in_the_basket",
            "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it",
            "KITCHEN_SCENE4_put_the_black_bowl_in_the_bottom_drawer_of_the_cabinet_and_close_it",
            "LIVING_ROOM_SCENE5_put_the_white_mug_on_the_left_plate_and_put_the_yellow_and_white_mug_on_the_right_plate",
            "STUDY_SCENE1_pick_up_the_book_and_place_it_in_the_back_compartment_of_the_caddy",
            "LIVING_ROOM_SCENE6_put_the_white_mug_on_the_plate_and_put_the_chocolate_pudding_to_the_right_of_the_plate",
            "LIVING_ROOM_SCENE1_put_both_the_alphabet_soup_and_the_cream_cheese_box_in_the_basket",
            "KITCHEN_SCENE8_put_both_moka_pots_on_the_stove",
            "KITCHEN_SCENE6_put_the_yellow_and_white_mug_in_the_microwave_and_close_it",
        ),
    ),
}
"""Suite → its tasks."""

CHANGED = {
    "": tuple(SUITES),
    "lan": tuple(SUITES),
    "swap": ("spatial", "object", "10"),
}
"""What LIBERO-PRO changes, and of which suites: nothing; the words (`lan`); which things stand where (`swap`)."""
CAMERAS: dict[str, tuple[str, ...]] = {
    "": (),
    "camera": ("agentview",),
    "cameras": ("agentview", "robot0_eye_in_hand"),
}
"""What stands in an id → the simulator's names of the cameras that are seen."""
STACKS = {"": "3.", "mujoco2": "2.3."}
"""What stands in an id → how the version of MuJoCo begins: another one is another task. The second is that of published
results, the package's extra `compatible`, which needs an interpreter of its own.
"""
ID = re.compile(r"(spatial|object|goal|10)(?:-(lan|swap))?-(\d)(?:-(cameras?))?(?:-(mujoco2))?-v1")


@dataclass(frozen=True)
class Row:
    """One task as its id names it."""

    suite: str
    number: int
    """Which of the suite's ten."""
    change: str = ""
    """A key of `CHANGED`."""
    cameras: tuple[str, ...] = ()
    stack: str = ""
    """A key of `STACKS`."""

    @property
    def folder(self) -> str:
        """Upstream's name of the suite."""
        return "_".join(filter(None, ("libero", self.suite, self.change)))

    @property
    def name(self) -> str:
        """Upstream's name of the task."""
        return SUITES[self.suite].tasks[self.number]

    @property
    def words(self) -> str:
        """The instruction, as upstream's evaluations and OpenVLA's training data have it: that of the file's name.

        With the words changed, it is not known before the simulator has read the task.
        """
        return re.sub(r"^[A-Z_]+SCENE\d+_", "", self.name).replace("_", " ")


def row(rest: str) -> Row:
    """The row of an id without its `libero-`. Refuses what names none."""
    said = ID.fullmatch(rest)
    if said is None or said[1] not in CHANGED[said[2] or ""]:
        raise Refused(
            f"unknown task 'libero-{rest}'; it should be libero-SUITE-N-v1, of the suites {', '.join(SUITES)} and N of "
            "0–9; after the suite -lan (other words) or -swap (other places; not of goal), after N -camera (a picture "
            "over the table) or -cameras (and one of the wrist), and then -mujoco2 (as MuJoCo 2.3.7 has it)"
        )
    return Row(said[1], int(said[3]), said[2] or "", CAMERAS[said[4] or ""], said[5] or "")
