"""What is raised when the user, the data or the world is at fault."""

import errno
import os

FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
"""What the system says of a full disk, a quota, and a file that is too large."""


class Refused(Exception):
    """What the user gave cannot be used. The message says what was found and, in one sentence, the cure."""


class Missing(Refused):
    """Data are not at hand, and not to be had. The message says where they are looked for."""


def tells_of_full_disk(message: object) -> bool:
    """Whether a disk is full by what an error or another program says."""
    return any(each in str(message) for each in FULL)


class WorldFailed(Exception):
    """The world failed, whoever plays: a simulator that died, say. Raised in `play`, it leaves the episode unscored."""


class MachineFailed(Exception):
    """A part of the machine does what it must not, such as to sample with other weights; nothing it gave counts."""
