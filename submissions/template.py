"""A stranger's chat template, rendered in sandboxed Jinja in a child process that has little time and memory."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer

from razorbench import Refused
from razorbench.submissions.strict import shown

SIZE, OUTPUT = 65_536, 2**20
"""The most bytes of a template, and of what it renders."""

PATIENCE = 10.0
"""Seconds on the clock; the child's limit of CPU time ends it earlier, unless the machine is busy."""

CURE = "leave the template out, for the track's own is used"

Conversation = Sequence[Mapping[str, str]]
"""Messages, each with `role` and `content`."""


def render(template: str, conversations: Sequence[Conversation], tokens: Mapping[str, str] | None = None) -> list[str]:
    """The text of each conversation, up to where the assistant speaks; `tokens` are names such as `bos_token`.

    Refused if the template is too long, fails, or takes more than it may.
    """
    if len(template.encode("utf-8", "surrogatepass")) > SIZE:
        raise Refused(f"the chat template is longer than 64 KiB: {CURE}")
    asked = json.dumps({"template": template, "conversations": conversations, "tokens": dict(tokens or {})})
    child = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("render.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    assert child.stdin is not None
    assert child.stdout is not None
    clock = Timer(PATIENCE, child.kill)
    clock.start()
    try:
        with suppress(BrokenPipeError):  # it died; its silence tells
            child.stdin.write(asked.encode())
        with suppress(BrokenPipeError):
            child.stdin.close()
        answer = child.stdout.read(OUTPUT + 1)
    finally:
        child.kill()
        child.wait()
        clock.cancel()
        child.stdout.close()
    if len(answer) > OUTPUT:
        raise Refused(f"the chat template renders more than 1 MiB of three short conversations: {CURE}")
    try:
        told = json.loads(answer)
    except ValueError:
        raise Refused(f"the chat template takes longer than a second, or broke its process: {CURE}") from None
    if "error" in told:
        why = f" ({shown(told['why'])})" if "why" in told else ""
        raise Refused(f"the chat template {told['error']}{why}: {CURE}")
    return told["texts"]
