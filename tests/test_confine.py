"""What a confined call may do, and how its end is told."""

import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from razorbench import Refused
from razorbench.submissions.confine import Crashed, Limits, Stopped, call
from razorbench.submissions.worker import sigterm

LIMITS = Limits(memory=1.0, seconds=30, file=0.01)


@pytest.fixture
def confined(tmp_path: Path):
    """Calls a function that may write below tmp_path/mine."""
    mine = tmp_path / "mine"
    mine.mkdir()

    def confined(function, *args, limits: Limits = LIMITS, **how):
        return call(function, *args, limits=limits, writable=[mine], log=tmp_path / "log.txt", every=0.05, **how)

    return confined


def test_result_comes_back(confined):
    assert confined(lambda a, b: {"sum": a + b}, 2, 3) == {"sum": 5}


def test_it_runs_in_another_process(confined):
    assert confined(os.getpid) != os.getpid()


def test_it_writes_to_its_own_folder_only(confined, tmp_path):
    confined((tmp_path / "mine" / "note").write_text, "written")
    assert (tmp_path / "mine" / "note").read_text() == "written"
    for work in (
        lambda: (tmp_path / "elsewhere").write_text("no"),
        lambda: (tmp_path / "mine" / ".." / "elsewhere").write_text("no"),
        lambda: (tmp_path / "other").mkdir(),
        lambda: os.remove(tmp_path / "log.txt.keep"),
        lambda: os.rename(tmp_path / "log.txt.keep", tmp_path / "mine" / "log"),
        lambda: os.replace(tmp_path / "mine" / "note", tmp_path / "log.txt.keep"),
        lambda: os.truncate(tmp_path / "log.txt.keep", 0),
        lambda: os.chmod(tmp_path / "log.txt.keep", 0),
        lambda: os.symlink(tmp_path / "mine" / "note", tmp_path / "elsewhere"),
        lambda: subprocess.run(["touch", str(tmp_path / "elsewhere")]),
        lambda: os.system(f"touch {tmp_path / 'elsewhere'}"),
        os.fork,
    ):
        (tmp_path / "log.txt.keep").write_text("kept")
        with pytest.raises(Crashed, match="PermissionError"):
            confined(work)
    assert (tmp_path / "log.txt.keep").read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "other").exists()


def test_link_out_of_its_folder_is_no_way_out(confined, tmp_path):
    (tmp_path / "mine" / "door").symlink_to(tmp_path)
    with pytest.raises(Crashed, match="PermissionError"):
        confined((tmp_path / "mine" / "door" / "elsewhere").write_text, "no")


def test_it_has_no_network(confined):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()

        def connect() -> None:
            socket.create_connection(address, timeout=1)

        with pytest.raises(Crashed, match="no network"):
            confined(connect)


def mapped() -> int:
    """Bytes of data that this process has mapped."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmData"))


def too_much() -> int:
    """Bytes that are 2 GiB more than this process has mapped, for a child may use all that: free heap, too."""
    return mapped() + 2 * 2**30


def test_too_much_memory_is_told(confined):
    assert confined(lambda: len(bytearray(200 * 2**20))) == 200 * 2**20
    size = too_much()
    with pytest.raises(Crashed, match="needed more than the 1 GiB of memory"):
        confined(lambda: len(bytearray(size)))
    with pytest.raises(Crashed, match="needed more than the 1 GiB of memory"):
        confined(lambda: float(torch.ones(size // 4).sum()))


@pytest.mark.slow
def test_free_heap_of_the_parent_counts_as_what_it_holds(confined):
    """A process that has freed much keeps it mapped: its child may use that, and no more than the limit on top."""
    crumbs = [bytes(1000) for _ in range(1_200_000)]
    pinned = crumbs[-1]
    del crumbs
    size = too_much()
    with pytest.raises(Crashed, match="needed more than the 1 GiB of memory"):
        confined(lambda: len(bytearray(size)))
    assert len(pinned) == 1000


@pytest.mark.slow
def test_garbage_of_the_parent_makes_no_room(confined):
    garbage: list[object] = [bytearray(1200 * 2**20)]
    garbage.append(garbage)
    del garbage
    before = mapped()
    _, after = confined(lambda: (gc.collect(), mapped()))
    assert after > before - 2**28
    gc.collect()


def test_too_much_time_is_told(confined):
    with pytest.raises(Crashed, match="took longer than the 1 s"):
        confined(time.sleep, 60, limits=Limits(seconds=1))


def test_too_large_a_file_is_told(confined, tmp_path):
    with pytest.raises(Crashed, match="File too large"):
        confined((tmp_path / "mine" / "large").write_bytes, bytes(2**25))


def test_answer_is_read_as_json_and_nothing_else(confined):
    with pytest.raises(Crashed, match="not JSON serializable"):
        confined(lambda: Path("x"))


def test_refusal_comes_back_as_such(confined):
    def refuse() -> None:
        raise Refused("this will not do; bring another")

    with pytest.raises(Refused, match="this will not do; bring another"):
        confined(refuse)


def test_how_it_went_down_is_told_and_logged(confined, tmp_path):
    with pytest.raises(Crashed, match="ZeroDivisionError"):
        confined(lambda: 1 / 0)
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    with pytest.raises(Crashed, match="SIGKILL"):
        confined(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(Crashed, match="exit code 7"):
        confined(os._exit, 7)


def test_it_is_stopped_when_it_is_not_wanted_any_more(confined):
    with pytest.raises(Stopped):
        confined(time.sleep, 60, keep_on=lambda: False)


def test_end_that_comes_while_it_forks_is_not_lost(confined):
    due = [signal.SIGTERM]
    os.register_at_fork(after_in_parent=lambda: due and os.kill(os.getpid(), due.pop()))
    with sigterm(), pytest.raises(KeyboardInterrupt):
        confined(time.sleep, 20)
    assert due == []


def test_it_does_not_outlive_its_parent(tmp_path):
    script = f"""
import os, time
from pathlib import Path
from razorbench.submissions.confine import Limits, call
def work():
    Path({str(tmp_path)!r}, "pid").write_text(str(os.getpid()))
    time.sleep(60)
call(work, limits=Limits(), writable=[Path({str(tmp_path)!r})], log=Path({str(tmp_path)!r}, "log"))
"""
    parent = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", script])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    for _ in range(500):
        if not Path(f"/proc/{child}").exists() or ") Z" in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child lives on")


def test_limits_do_not_reach_the_parent(confined):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    confined(lambda: None)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
