"""What it costs to score a track a second time, when the home keeps what the base has said.

    python -m benchmarks.scoring [--home HOME] [--track TRACK]

Two checkpoints of the track, each after one step of SFT, are scored into a new home, one after the other and each in a
process of its own, with all that `razorbench.score` does: the model is read, its weights are hashed, tasks are loaded,
drift is measured, the row is added. Times are processor time on one thread; the peak of memory counts all that the
process took for it.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.costs import Cost, apart, measured
from razorbench import Track, adapt, find_track, score
from razorbench.harness.tracks.bases import base_policy


def make_base(track: Track, home: Path) -> None:
    """Put the base of a track into a home, unless it is there."""
    base_policy(track.base, home)


def one_step(track: Track, home: Path, out: Path, seed: int) -> None:
    """A checkpoint of a track."""
    adapt(track, "sft", out, seed=seed, home=home, steps=1, warmup=0)


def scoring(track: Track, home: Path, out: Path) -> Cost:
    """What it costs to score a checkpoint."""
    return measured(lambda: score(out, track, home=home))[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"), help="where the base is, or is made")
    parser.add_argument("--track", default="smollm2-sentiment-v1")
    told = parser.parse_args()
    torch.set_num_threads(1)
    track = find_track(told.track, told.home)
    apart(partial(make_base, track, told.home))
    print("| scoring | processor s | peak, MiB |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        home, costs = Path(folder) / "home", list[Cost]()
        home.mkdir()
        (home / "bases").symlink_to((told.home / "bases").resolve())
        for seed, name in enumerate(("first", "second")):
            out = Path(folder) / name
            apart(partial(one_step, track, home, out, seed))
            costs.append(apart(partial(scoring, track, home, out)))
            print(f"| {name} | {costs[-1].seconds:.1f} | {costs[-1].mib:,.0f} |", flush=True)
    first, second = costs
    print(f"| second / first | {second.seconds / first.seconds:.2f} | {second.mib / first.mib:.2f} |")


if __name__ == "__main__":
    main()
