"""What the sandbox starts in processes of its own, as `python -c`: the walls, and the program behind them.

It is read as text and imports the standard library alone, for behind the walls there is no package of ours.
"""

import builtins
import ctypes
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

NOBODY = 65534
"""Who the program runs as. Not root: whom the kernel exempts from the limit on processes."""
READY = b"r"
"""What is written when all is set up: what goes wrong before is the sandbox's failure, and after it the program's."""


# --- the walls --------------------------------------------------------------------------------------------------------

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NOSUID, NODEV, BIND, RECURSIVE, PRIVATE, DETACH = 2, 4, 0x1000, 0x4000, 0x40000, 2
PDEATHSIG, DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38
MOUNT_SETATTR, READ_ONLY, FROM_HERE, ALL_BELOW = 442, 1, -100, 0x8000


def kernel(name: str, *arguments: Any) -> None:
    """A call of the C library that raises OSError where it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    kernel("mount", *(text.encode() for text in (source, target, kind)), ctypes.c_ulong(flags), options.encode())


def wall(binds: Sequence[str], links: dict[str, str], room: int, command: Sequence[str]) -> None:
    """Run a command in name spaces of its own, and leave with its exit code, 128 and the signal where one ended it.

    It sees the paths `binds`, read-only, symbolic `links`, and an empty /tmp of `room` bytes. It has no network, no
    /proc, no /dev, and no process but its own. Root sets this up as root, everybody else as root of a user name space.
    """
    kernel("prctl", PDEATHSIG, signal.SIGKILL)
    apart = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
    try:
        kernel("unshare", apart)
    except PermissionError:
        if os.geteuid() == 0:  # of a container
            become_nobody()
        owner, group = os.geteuid(), os.getegid()
        kernel("unshare", apart | NEWUSER)
        for name, text in {
            "setgroups": "deny",
            "uid_map": f"{NOBODY} {owner} 1",
            "gid_map": f"{NOBODY} {group} 1",
        }.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        with suppress(OSError), open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")  # in these walls nobody builds others
    leave(followed(os.fork() or first(binds, links, room, command)))


def first(binds: Sequence[str], links: dict[str, str], room: int, command: Sequence[str]) -> int:
    """The first process of the name spaces: when it ends, so does every other. It waits for the command."""
    kernel("prctl", PDEATHSIG, signal.SIGKILL)
    build(binds, links, room)
    kernel("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        os.execv(command[0], list(command))
    leave(followed(child))
    return 0


def followed(child: int) -> int:
    """The exit code of a child; others that end meanwhile are tidied up."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def build(binds: Sequence[str], links: dict[str, str], room: int) -> None:
    """The file system of the command, which becomes the root."""
    os.umask(0o022)
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    mount("none", "/tmp", "tmpfs", NOSUID | NODEV, "mode=755,size=1m")
    os.mkdir("/tmp/old")
    kernel("pivot_root", b"/tmp", b"/tmp/old")
    os.chdir("/")
    for path in binds:
        if os.path.isdir(f"/old{path}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        mount(f"/old{path}", path, flags=BIND | RECURSIVE)
    for path, target in links.items():
        os.symlink(target, path)
    kernel("umount2", b"/old", DETACH)
    os.rmdir("/old")
    os.makedirs("/tmp", exist_ok=True)
    wanted = (ctypes.c_uint64 * 4)(READ_ONLY | NOSUID | NODEV, 0, 0, 0)
    kernel("syscall", MOUNT_SETATTR, FROM_HERE, b"/", ALL_BELOW, wanted, ctypes.c_size_t(32))
    mount("none", "/tmp", "tmpfs", NOSUID | NODEV, f"mode=1777,size={room},nr_inodes=1000")
    os.chdir("/tmp")


def become_nobody() -> None:
    """Give up what root may do."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel("prctl", DUMPABLE, 1, 0, 0, 0)  # so that /proc/self stays ours


def leave(code: int) -> None:
    """End this process, with nothing tidied up."""
    os._exit(code)


# --- behind the walls -------------------------------------------------------------------------------------------------


class Names(MutableMapping[str, Any]):
    """Names at the top level of tests: `theirs` of the program, which hide builtins, else those that are shared."""

    def __init__(self, shared: dict[str, Any], theirs: dict[str, Any]):
        self.shared, self.theirs = shared, theirs

    def __getitem__(self, name: str) -> Any:
        return self.theirs[name] if name in self.theirs else self.shared[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.theirs.pop(name, None)
        self.shared[name] = value

    def __delitem__(self, name: str) -> None:
        del (self.theirs if name in self.theirs else self.shared)[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.shared, **self.theirs})

    def __len__(self) -> int:
        return len({**self.shared, **self.theirs})


def limit(limits: dict[str, int]) -> None:
    """Hold this process and those it starts to limits, by their names in `resource`."""
    for name, cap in limits.items():
        which = getattr(resource, name)
        most = resource.getrlimit(which)[1]
        cap = cap if most == resource.RLIM_INFINITY else min(cap, most)
        # a second after the signal that a program may ignore comes the one that it may not
        resource.setrlimit(which, (cap, cap + (which == resource.RLIMIT_CPU and cap != most)))


def run(program: str, tests: str, limits: dict[str, int], token: str) -> None:
    """Run a program, then its tests, which see its names; write the token where they came to their end.

    What the program prints goes nowhere, and there is nothing to read. What it does to the builtins is undone before
    the tests; in functions of the tests a builtin is one, whatever else the program has called so.
    """
    answer, write, leave = os.dup(1), os.write, os._exit
    for stream in (0, 1):
        os.dup2(2, stream)
    if os.geteuid() == 0:
        become_nobody()
    execute, table = exec, builtins.__dict__
    kept = dict(table)
    tested = compile(tests, "<tests>", "exec", dont_inherit=True)
    random.seed(0)  # equal programs have equal verdicts
    limit(limits)
    write(answer, READY)
    try:
        names = vars(sys.modules.setdefault("solution", ModuleType("solution")))
        execute(compile(program, "<program>", "exec", dont_inherit=True), names)
        table.clear()
        table.update(kept)
        sys.settrace(None)
        sys.setprofile(None)
        theirs = {name: names[name] for name in kept if name[:2] != "__" and name in names}
        if theirs:
            names = {name: value for name, value in names.items() if name not in theirs}
        execute(tested, names, Names(names, theirs))
        write(answer, token.encode())
    finally:
        leave(0)


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            wall(**json.loads(sys.argv[1]))
        else:
            run(**json.loads(sys.stdin.buffer.read()))
    except Exception as error:
        os.write(1, f"{type(error).__name__}: {error}".encode())
        leave(1)
