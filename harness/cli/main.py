"""The command line, a contract that scripts rely on. Exit codes: 0 done, 1 failed while working, 2 refused."""

import errno
import os
import sys
import traceback

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make small models many times slower

import tyro

from razorbench.harness.cli.adapting import adapt, base, pretrain, questions
from razorbench.harness.cli.authoring import task, track
from razorbench.harness.cli.catalogue import agents, methods, tasks, tracks
from razorbench.harness.cli.comparing import compare
from razorbench.harness.cli.demonstrating import demonstrations
from razorbench.harness.cli.home import board, doctor, rebuild, serve
from razorbench.harness.cli.planning import plan
from razorbench.harness.cli.robots import robots
from razorbench.harness.cli.scoring import demo, score, sweep
from razorbench.harness.cli.showing import conflicts, export, film, law, plot, results, show
from razorbench.harness.cli.simpler import simpler
from razorbench.harness.cli.terminal import Failed, err
from razorbench.harness.core.errors import MachineFailed, Refused, tells_of_full_disk
from razorbench.harness.core.extras import missing
from razorbench.submissions.commands import hide, queue, retract, submit, unhide, verify, worker

COMMANDS = {
    f.__name__: f
    for f in (
        tracks, tasks, agents, methods, pretrain, plan, adapt, score, sweep, results, export, show, plot, law, film,
        rebuild, conflicts, compare, task, track, doctor, demo, board, submit, worker, queue, verify, retract, hide,
        unhide, serve, base, questions, demonstrations, robots, simpler,
    )
}  # fmt: skip


def main() -> None:
    """Run one command and leave with its exit code."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="razorbench",
            description="Adapt models; score what they gained, what they kept, and how far they drifted.",
        )
    except Refused as error:
        leave(2, error)
    except Failed as error:
        leave(1, error)
    except KeyboardInterrupt:
        leave(130, "stopped; the same command goes on where it was")
    except BrokenPipeError:  # the reader of a pipe has gone
        os._exit(0)
    except ModuleNotFoundError as error:
        said = missing(error)
        leave(2 if said else 1, said or sentence(error))
    except Exception as error:
        leave(1, sentence(error))


def sentence(error: Exception) -> str:
    """What went wrong, and what to do, in one sentence."""
    from razorbench.harness.store.database import StoreError

    if isinstance(error, (StoreError, MachineFailed)):
        return str(error)
    if os.environ.get("RAZORBENCH_DEBUG"):
        traceback.print_exc()
    if tells_of_full_disk(error):
        return f"the disk is full ({error}); make room and run the same command again"
    if isinstance(error, OSError) and error.errno in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ):
        return f"{error}; check the folder and its permissions"
    return f"{type(error).__name__}: {error} (RAZORBENCH_DEBUG=1 shows where)"


def leave(code: int, message: object) -> None:
    """Say why on standard error, and exit."""
    err.print("refused:" if code == 2 else "failed:", end=" ", style="bold red")
    err.print(str(message), highlight=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
