"""How near `razorbench plan` comes to what a run then takes.

    python -m benchmarks.plan [--home HOME] [--cases CASE …]

Each case is planned, adapted and scored by the commands themselves, one after another, each in a process of its own and
in a home that holds nothing but the base. Seconds are those of processors, user and system, of a command and all that
it starts, so that other work on the machine counts for little.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CASES: dict[str, list[str]] = {
    "parity-mnist-v1 sft": [],
    "parity-mnist-v1 grpo": [],
    "mini-math-v1 sft": ["--steps", "96", "--examples", "1536"],
    "mini-math-v1 dr-grpo": [],
    "mini-robot-air-v2 reinforce": [],
    "smollm2-sentiment-v1 sft": ["--batch", "8", "--steps", "24"],
}
"""Track and method, and the settings that are named: runs of five kinds, and one of a real pretrained model."""


def ran(*arguments: str) -> tuple[str, float]:
    """What a command prints, and the seconds of processors that it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "razorbench.harness.cli.main", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))


def case(name: str, bases: Path) -> None:
    """Print the rows of a case."""
    track, method = name.split()
    with tempfile.TemporaryDirectory(dir=bases.parent) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        (home / "bases").symlink_to(bases.resolve())
        at, out = ("--home", str(home)), str(Path(folder) / "out")
        told, measuring = ran("plan", track, "--method", method, *CASES[name], "--json", *at)
        (plan,) = json.loads(told)["plans"]
        took = {
            "adapt": ran("adapt", track, "--method", method, *CASES[name], "--out", out, "--json", *at)[1],
            "score": ran("score", out, "--track", track, "--json", *at)[1],
        }
    planned = plan["seconds"]
    rows = {stage: (planned[stage], took[stage]) for stage in took}
    rows["both"] = sum(planned.values()), sum(took.values())
    for stage, (said, done) in rows.items():
        print(f"| {name} | {stage} | {said:.1f} | {done:.1f} | {said / done - 1:+.0%} | {measuring:.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".razorbench"), help="where bases are, or are made")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    told = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(
        "| run | stage | planned, s | took, s | error | the plan itself, s |\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    for name in told.cases:
        ran("base", name.split()[0], "--json", "--home", str(told.home))
        (told.home / "bases").mkdir(parents=True, exist_ok=True)
        case(name, told.home / "bases")


if __name__ == "__main__":
    main()
