"""A model by what people call it: a base's id, a folder, a checkpoint of a track, one on the hub, an endpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import known
from razorbench.harness.learn import checkpoint as checkpoints
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.tracks.bases import base_policy, policy_digest
from razorbench.harness.tracks.catalogue import find_base, find_track
from razorbench.harness.tracks.origins import ENDPOINT, ON_HUB, Folder, Hub, Served, content_digest, origin_key
from razorbench.harness.tracks.spec import Base

LANGUAGE = "causal-lm-v1"
"""The agent that reads a folder of transformers."""
SERVED, STEERED = "openai-api-v1", "policy-server-v1"
"""The agents that ask a server in words, and for motions."""
OTHERS = {"openvla": "openvla-v1"}
"""Agents that read one instead, by the model_type of its config.json."""


def named_policy(
    name: str, home: Path, options: Mapping[str, Any] | None = None, runtime: Runtime = AUTO
) -> tuple[Policy, str]:
    """The policy of that name, and what its base is called; `options` are for its agent's factory.

    A folder with checkpoint.json is an adaptation of that track's base; any other one is a model that transformers has
    saved; `owner/name@commit` is one on the hub, and `http://host/v1#name` one that answers behind a server: an agent
    that is no policy. Refuses what is none of these.
    """
    folder = Path(name)
    if (folder / checkpoints.MANIFEST).is_file():
        made = checkpoints.read(folder)
        assert made.manifest is not None
        base = find_track(made.manifest.track, home).base
        policy = base_policy(base, home, options, runtime)
        if made.manifest.base not in ("", policy_digest(policy)):
            raise Refused(f"{folder} was adapted from another base than {base.id} is here; give the --home it is of")
        policy = policy.copy()
        policy.load(made.weights)
        return policy, base.id
    base = base_of(name)
    return base_policy(base, home, options, runtime), name if base.origin and not known("base", base.id) else base.id


def base_of(name: str) -> Base:
    """The base that a name stands for: an id, a folder of transformers, a repository on the hub, an endpoint."""
    base = brought_base(name)
    if base is None and "/" in name and not known("base", name):
        raise Refused(
            f"{name} is no folder here; name one, a base's id, or a repository on the hub as OWNER/NAME@COMMIT"
        )
    if base and isinstance(base.origin, Folder) and not (Path(base.origin.folder) / "config.json").is_file():
        raise Refused(f"{name} has no config.json; name a folder that transformers has saved, or a checkpoint")
    return base or find_base(name)


def brought_base(name: str) -> Base | None:
    """What is in a folder, on the hub as OWNER/NAME@COMMIT, or behind a server as http://HOST/v1#MODEL or
    ws://HOST#LAYOUT, as a base of tracks; None of any other name.
    """
    if match := ENDPOINT.fullmatch(name):
        return served(*match.groups(default=""))
    if (folder := Path(name).expanduser().resolve()).is_dir():
        origin, agent = Folder(str(folder), content_digest(folder)), agent_of(folder)
    elif match := ON_HUB.fullmatch(name):
        origin, agent = Hub(match[1], match[2]), LANGUAGE
    else:
        return None
    return Base(f"brought-{origin_key(origin)}-v1", agent, origin=origin)


def served(url: str, model: str, socket: str, layout: str) -> Base:
    """A model behind a server, that answers in words or with motions, as a base of tracks."""
    origin, options = Served(url or socket, model), {"layout": layout} if layout else {}
    key = origin_key(origin) + (f"-{layout}" if layout else "")
    return Base(f"served-{key}-v1", SERVED if url else STEERED, origin=origin, options=options)


def agent_of(folder: Path) -> str:
    """The agent that reads a folder of transformers, by its config."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return LANGUAGE  # which says what is wrong
    return OTHERS.get(kind, LANGUAGE)
