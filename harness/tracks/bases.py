"""The base of a track, the unadapted policy that every row is compared with: shipped, made or fetched on first use."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from inspect import signature
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.locks import alone
from razorbench.harness.core.registry import find, imported, make
from razorbench.harness.learn.checkpoint import INDEX, Report, files
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import Counted, Policy, Weightless, adapters
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.tracks.origins import Served, described, file_sha256, obtained, readable
from razorbench.harness.tracks.spec import Base

SHAPED = {"causal-lm-v1": "razorbench.agents.language.hollow:hollow"}
"""What makes an agent of shapes alone, by the id of the agent: "module:function"."""
CHUNK = 2**24
"""Numbers of a tensor that are read at once."""


def base_policy(base: Base, home: Path, options: Mapping[str, Any] | None = None, runtime: Runtime = AUTO) -> Policy:
    """The base with the weights that it is shipped with; else made or fetched on first use and kept in `home`/bases.

    The digest of the weights stands in each record, and adaptations of different bases are different entries. `options`
    are for the agent's factory, and so is `runtime`, if it takes one. Refused where the weights are damaged or not to
    be had, or the agent knows no such option.
    """
    policy, weights = begun(base, home, options or {}, runtime), base.weights(home)
    if base.sha256:
        if not weights.exists() or file_sha256(weights) != base.sha256:
            state = "damaged" if weights.exists() else "missing"
            raise Refused(f"{weights} is {state}; install razorbench again, which brings the weights of {base.id}")
    elif base.task and not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        pretrain(base, weights, home=home)
    elif not base.task:
        return policy
    try:
        policy.load(weights)
    except Refused as error:
        if base.sha256:
            raise
        raise Refused(f"{weights} is damaged; remove it, and the same command makes the base again") from error
    return policy


def begun(base: Base, home: Path, options: Mapping[str, Any], runtime: Runtime = AUTO) -> Policy:
    """What a base is before its recipe: its agent with the weights of its origin, or with random ones of its seed.

    A factory that takes a `folder` is given that of the origin's files, and reads what it needs there; of any other
    agent the folder holds the weights, model.safetensors. The agent of a server is told its address and name.
    """
    if runtime.device == "meta":
        raise Refused("nothing can be computed on the device 'meta'; give cpu, or cuda where there is a GPU")
    takes = signature(find("agent", base.agent)).parameters
    given: dict[str, Any] = {"seed": base.seed, **base.options, **options}
    if "runtime" in takes:
        given["runtime"] = runtime
    elif runtime != AUTO:
        raise Refused(
            f"{base.agent} is computed in one way only; leave out device, dtype, micro-batch and checkpointing"
        )
    folder = None
    if isinstance(base.origin, Served):
        given |= base.origin.identity
    elif base.origin:
        folder = obtained(base.origin, base.fetched(home))
    if folder and (index := folder / INDEX).exists():
        files(index)  # what lies elsewhere is no part of the folder, and transformers would read it
    if folder and "folder" in takes:
        given["folder"] = folder
    try:
        policy: Policy = make("agent", base.agent, **given)
    except TypeError as error:
        if not (options or base.options):
            raise
        unknown = [name for name in (*base.options, *options) if name not in takes]
        cure = "leave the track's at 0 or empty, and the base's out"
        raise Refused(f"{base.agent} cannot be told {', '.join(unknown)} ({error}); {cure}") from None
    if folder and "folder" not in takes:
        policy.load(folder / "model.safetensors")
    return policy


def shaped(base: Base, home: Path, options: Mapping[str, Any], runtime: Runtime, reply: int = 0) -> Counted:
    """The base without its weights, which counts what it would compute; its replies have `reply` tokens, or all that
    they may have. No weights are fetched. Refuses an agent of which nobody knows how to count.
    """
    if base.agent not in SHAPED or not base.origin or isinstance(base.origin, Served):
        raise Refused(
            f"operations are counted of {', '.join(SHAPED)} alone, and this base is {base.agent}; "
            "plan on the machine that is to do it, without --gpu"
        )
    folder = described(base.origin, base.fetched(home))
    on = replace(runtime, device="meta")
    return imported(SHAPED[base.agent])(folder=folder, reply=reply, runtime=on, **base.options, **options)


def base_digest(base: Base, home: Path) -> str:
    """The identity of a base, `policy_digest` of it. Weights that were fetched are read a piece at a time, so that a
    base which no memory here could hold can be fetched and checked.
    """
    if base.agent in SHAPED and base.origin and not base.task and not isinstance(base.origin, Served):
        obtained(base.origin, base.fetched(home))
        shapes = {name: tuple(x.shape) for name, x in shaped(base, home, {}, AUTO).named_parameters()}
        if digest := stored_digest(shapes, base.weights(home)):
            return digest
    return policy_digest(base_policy(base, home))


def stored_digest(shapes: Mapping[str, tuple[int, ...]], weights: Path) -> str | None:
    """`policy_digest` of a policy that keeps the tensors of these files in float32, under these names and in this
    order. None where the files hold others, and only who loads them can tell what becomes of them.
    """
    place: dict[str, Path] = {}
    for file in files(weights):
        with unbroken(file), safe_open(file, "pt") as opened:
            place |= dict.fromkeys(opened.keys(), file)
    if place.keys() != shapes.keys():
        return None
    digest = sha256()
    for name, shape in shapes.items():
        with unbroken(place[name]), safe_open(place[name], "pt") as opened:  # what is mapped is let go at its end
            tensor = opened.get_slice(name)
            if tuple(tensor.get_shape()) != shape:
                return None
            digest.update(str((shape, torch.float32)).encode())
            rows = max(1, CHUNK * shape[0] // prod(shape))
            for start in range(0, shape[0], rows):
                piece = tensor[start : start + rows].float().contiguous()
                digest.update(piece.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def unbroken(file: Path) -> Iterator[None]:
    """Refuses a file that is no safetensors."""
    try:
        yield
    except SafetensorError as error:
        raise Refused(f"{file} is not a readable safetensors file ({error}); save the weights again") from None


def pretrain(
    base: Base,
    out: Path,
    *,
    home: Path | None = None,
    save_every: int = 0,
    tell: Callable[[Report, int], Any] | None = None,
) -> Policy:
    """Make a base by its recipe and write its weights to `out`; the same on every machine of one kind.

    Where the recipe trains low-rank adapters they are added to the weights at its end.
    What it begins with is kept in `home`, by default where `out` lies. With `save_every` steps, its state is kept
    beside `out`, and a killed run goes on there. `tell(report, steps)` is called after each step. Refuses a base
    without a recipe.
    """
    if not base.task:
        raise Refused(f"{base.id} has no recipe: its weights are fetched, by `razorbench base`")
    start = begun(base, home or out.parent, {})
    lora = adapters(start, base.settings.lora) if base.settings.lora else None
    policy = lora or start
    state = out.with_name(f".{out.name}.{base.recipe}")
    with threads(base.threads):
        making = Adaptation(policy, make("task", base.task), METHODS["sft"], base.settings, seed=base.seed)
        making.load(state)
        for report in making:
            if save_every and report.step % save_every == 0:
                making.save(state)
            if tell:
                tell(report, making.steps)
    if lora:
        policy = lora.merged()
    fresh = out.with_name(f".{out.name}.{os.getpid()}")  # another process may make the same base
    policy.save(fresh)
    fresh.replace(out)
    shutil.rmtree(state, ignore_errors=True)
    return policy


def base_files(base: Base, home: Path) -> dict[str, Path]:
    """The files of a base that is at hand, by the names that they have in a folder of transformers; weights first."""
    weights, beside = base.weights(home), base.beside(home)
    files = {weights.name if weights.parent == beside else "model.safetensors": weights} if weights.exists() else {}
    for path in sorted(beside.iterdir()) if beside else ():
        if readable(path.name) and not (base.task and path.match("*.safetensors*")):
            files.setdefault(path.name, path)
    return files


def copy_into(out: Path, files: Mapping[str, Path]) -> None:
    """Copy files, by the names that they are to have, into a new folder, all or none. Refuses one that exists."""
    part = out.with_name(f".{out.name}.part")
    with alone(part):  # a killed call may have left some there
        try:
            if out.exists():
                raise Refused(f"{out} exists; name a new folder with --out")
            for name, path in files.items():
                shutil.copy(path, part / name)
            read_by_older(part / "tokenizer_config.json")
            part.replace(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def read_by_older(tokenizer: Path) -> None:
    """Write a copied tokenizer_config.json so that transformers 4 reads it, too: it takes no list of extra tokens.

    Nothing is lost: they stand in tokenizer.json as special ones.
    """
    told = json.loads(tokenizer.read_text(encoding="utf-8")) if tokenizer.exists() else {}
    if isinstance(told.get("extra_special_tokens"), list):
        del told["extra_special_tokens"]
        tokenizer.unlink()  # it may be read-only, as what it is a copy of
        tokenizer.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, as far as there are cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def weights_sha256(weights: Path) -> str:
    """sha256 of the file that holds some weights, or of the sha256s of several, by the order of their names."""
    each = [file_sha256(file) for file in files(weights)]
    return each[0] if len(each) == 1 else sha256(" ".join(each).encode()).hexdigest()


def policy_digest(policy: Policy) -> str:
    """sha256 of the policy's weights, name by name, and of how adapters count: the identity of a base or a checkpoint.

    Of an agent without weights here it is that of what the agent is known by.
    """
    digest = sha256()
    if isinstance(policy, Weightless):
        return sha256(json.dumps(dict(policy.identity), sort_keys=True).encode()).hexdigest()
    for parameter in policy.parameters():
        digest.update(str((tuple(parameter.shape), parameter.dtype)).encode())
        digest.update(
            parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        )  # numpy has no bf16
    if lora := getattr(policy, "lora", None):
        digest.update(str(lora).encode())
    return digest.hexdigest()
