"""Who does the jobs of a sweep: processes of this machine, or what another package brings.

An executor is a function from a number of workers to a `concurrent.futures.Executor`. A sweep submits functions of
this package with arguments that can be pickled, at most as many at once as there are workers, and shuts it down with
`cancel_futures` when it is left. No two jobs may run at once in one process, for they share the track made ready there.
Where a worker is killed, its job ends in an error, or `submit` raises `BrokenExecutor`: both are how that run ended.
Workers on other machines need the home as a folder of the same path, and the store by its address.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import find


def processes(workers: int) -> Executor:
    """Fresh processes of this machine, which leave with this one."""
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=follow_parent)


def follow_parent() -> None:
    """Leave with the parent, however it dies; and use one thread, for there is one process a core."""
    import torch

    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


EXECUTORS: dict[str, Callable[[int], Executor]] = {"process": processes}
"""Our executors by id."""


def find_executor(id: str) -> Callable[[int], Executor]:
    """The executor of that id: ours, a script's or another package's. Refuses an unknown one and names the nearest."""
    made: Callable[[int], Executor] = find("executor", id)
    if not callable(made):
        raise Refused(f"what is registered as the executor {id!r} is not one: it should be a function of the workers")
    return made
