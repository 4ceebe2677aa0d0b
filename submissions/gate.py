"""The gate: whether a submission that was copied in may be scored, found out without running anything of it."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Refused
from razorbench.submissions import claim as claims
from razorbench.submissions import language, tensors
from razorbench.submissions.claim import Claim
from razorbench.submissions.copying import HASHES, WAYPOINTS, inventory
from razorbench.submissions.strict import SMALL, parse, shown, text

FULL, LORA = "model.safetensors", "adapter_model.safetensors"
KINDS = {FULL: "full", LORA: "lora"}
ADAPTER = "adapter_config.json"
CURVE = "curve.jsonl"

CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "use_kernels", "kernel_config")
"""Keys of JSON files that make libraries load code."""

STEPS, CURVES = 50_000, 2**24
"""The most lines and bytes of all curves together: each line is parsed on its own."""

FINGERPRINTS = 1_000_000
"""The most training questions a submission may declare."""

PEFT = {
    *("peft_type", "r", "lora_alpha", "use_rslora", "bias", "auto_mapping", "init_lora_weights", "megatron_core"),
    *("base_model_name_or_path", "peft_version", "task_type", "inference_mode", "revision", "lora_dropout"),
    *("target_modules", "layers_to_transform", "layers_pattern", "qalora_group_size"),
}
"""Keys of adapter_config.json that are checked by name, or say nothing of what the adapters compute.

Every other must be off: null, false or empty.
"""


PROJECTION = re.compile(r".+_proj|(vision_backbone|projector)\..+")
"""Linear maps that adapters may be on: of a language model, and all that OpenVLA has before it."""


@dataclass(frozen=True)
class Reference:
    """What a submission to a track must fit."""

    track: str
    weights: Path
    """The safetensors of the track's base."""
    folder: Path | None = None
    """Of the base, with its config and tokenizer, where it is a language model."""

    @property
    def bytes(self) -> int:
        """Bytes of the base's weights in single precision, in which adaptations of it may be kept."""
        return sum(4 * math.prod(tensor.shape) for tensor in tensors.header(self.weights).tensors.values())


@dataclass(frozen=True)
class Passed:
    """A submission that may be scored."""

    claim: Claim
    kind: str
    """`full` or `lora`."""
    folders: tuple[str, ...]
    """Of each seed's weights, in the order of the claim's seeds; "" is the submission's own."""
    weights: tuple[str, ...]
    """The digest of each seed's weights; for LoRA with what scales them."""
    digest: str
    """sha256 over the names and contents of all files."""
    fingerprints: frozenset[str]
    """sha256 of the declared training questions."""


@dataclass(frozen=True)
class Scale:
    """How much adapters count: alpha / r, or with `rslora` alpha / √r."""

    r: int
    alpha: float
    rslora: bool


def check(folder: Path, reference: Reference) -> Passed:
    """Read a copied-in submission, and return what it is made of. Refused, with the reason, if it may not be scored.

    Nobody else may change `folder` meanwhile: check what `copying.take` has copied.
    """
    files = inventory(folder)
    claim = _claim(folder, files, reference)
    kind, folders = _folders(files, claim)
    base = tensors.header(reference.weights)
    for name in files:
        _check_text(folder / name, name)
    _check_curves(folder, [name for name in files if name.rpartition("/")[2] == CURVE])
    fingerprints = _fingerprints(folder, files, claim)
    language.check(folder, files, reference.folder)
    weights = []
    for at in folders:
        hashed = _weights(folder, files, at, kind, base)
        if hashed in weights:
            first = folders[weights.index(hashed)]
            raise Refused(f"{at} holds the same weights as {first}: each seed needs a run of its own")
        weights.append(hashed)
    digest = sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
    return Passed(claim, KINDS[kind], folders, tuple(weights), digest, fingerprints)


# --- the claim and the folders ----------------------------------------------------------------------------------------


def _claim(folder: Path, files: Mapping[str, str], reference: Reference) -> Claim:
    """The claim, made for this track."""
    if claims.FILE not in files:
        raise Refused(f"the folder has no {claims.FILE}: add one that says track, name, method and licence")
    claim = claims.load(folder / claims.FILE)
    if claim.track != reference.track:
        raise Refused(f"the claim is for the track {shown(claim.track)}, this is {reference.track}: submit it there")
    return claim


def _folders(files: Mapping[str, str], claim: Claim) -> tuple[str, tuple[str, ...]]:
    """The name of the weights' file, which is one for all seeds, and the folder of each seed."""
    folders = tuple(f"seed-{seed}" for seed in claim.seeds)
    if len(folders) < 2 and not any(name.startswith(f"{folder}/") for folder in folders for name in files):
        folders = ("",)
    kind_of = {}
    for name in files:
        at, _, file = name.rpartition("/")
        home = at.removesuffix(WAYPOINTS).removesuffix("/")
        if home and home not in folders:
            told = f"the seeds {', '.join(map(str, claim.seeds))}" if claim.seeds else "no seeds"
            raise Refused(
                f"{home} is the folder of a seed, and the claim names {told}: add the seed or remove the folder"
            )
        if file in (*KINDS, ADAPTER) or at.endswith(WAYPOINTS):
            if home not in folders:
                raise Refused(f"{name} lies beside the folders of seeds: move it into that of its seed")
            if file in KINDS and kind_of.setdefault(home, file) != file:
                raise Refused(f"{home or 'the folder'} holds both {FULL} and {LORA}: keep what is to be scored")
    for home in folders:
        if home not in kind_of:
            raise Refused(f"{home or 'the folder'} holds neither {FULL} nor {LORA}: save the weights there")
    kinds = set(kind_of.values())
    if len(kinds) > 1:
        raise Refused("some seeds bring full weights and some adapters: submit the two on their own")
    kind = kinds.pop()
    for name in files:
        if kind == FULL and name.endswith(ADAPTER):
            raise Refused(f"{name} describes adapters, and there are none: remove it, or save {LORA}")
    return kind, folders


def _fingerprints(folder: Path, files: Mapping[str, str], claim: Claim) -> frozenset[str]:
    """The declared training questions, from files that the claim names."""
    declared = {data.fingerprints for data in claim.data if data.fingerprints}
    present = {name for name in files if HASHES.fullmatch(name.rpartition("/")[2])}
    if missing := declared - present:
        raise Refused(f"the claim names the fingerprints {min(missing)}, which is not in the folder: add that file")
    if unnamed := present - declared:
        raise Refused(f"{min(unnamed)} is named by no [[data]] of the claim: say there whose fingerprints it holds")
    if sum((folder / name).stat().st_size for name in present) > 65 * FINGERPRINTS:
        raise Refused(f"the claim has more than {FINGERPRINTS:,} fingerprints: submit fewer training questions")
    return frozenset(line for name in sorted(present) for line in _hashes(folder / name))


def _hashes(path: Path) -> Iterator[str]:
    """The lines of a file of fingerprints."""
    hexadecimal = np.zeros(256, bool)
    hexadecimal[list(b"0123456789abcdef")] = True
    with open(path, "rb") as file:
        while raw := file.read(65 * 2**14):
            raw += b"" if len(raw) % 65 == 0 else b"\n"
            rows = np.frombuffer(raw, np.uint8).reshape(-1, 65) if len(raw) % 65 == 0 else None
            if rows is None or not (hexadecimal[rows[:, :64]].all() and (rows[:, 64] == 10).all()):
                raise Refused(f"{path.name} has lines that are no fingerprints: write 64 lower-case hex digits a line")
            yield from raw.decode("ascii").split()


# --- text and JSON ----------------------------------------------------------------------------------------------------


def _check_text(path: Path, name: str) -> None:
    """Refused unless a file is the text that its name says; tokenizers and curves are read on their own."""
    if path.name in ("tokenizer.json", "vocab.json"):
        return
    if path.suffix == ".json":
        _check_code(parse(path.read_bytes(), name, SMALL), name)
    elif path.suffix in (".md", ".jinja") or path.name == "LICENSE":
        text(path.read_bytes(), name)


def _check_curves(folder: Path, names: Iterable[str]) -> None:
    """Refused unless the curves are JSON, line by line, and not too long together."""
    lines = size = 0
    for name in names:
        with open(folder / name, "rb") as file:
            for number, raw in enumerate(iter(partial(file.readline, 2**20), b""), 1):
                lines += 1
                size += len(raw)
                if lines > STEPS or size > CURVES:
                    most = f"{STEPS:,} lines" if lines > STEPS else f"{CURVES:,} bytes"
                    raise Refused(f"{name} makes more than {most} of curves in all: keep every tenth step, or fewer")
                parse(raw, f"{name}, line {number},", values=1_000, nan=True)  # NaN: a step without reward


def _check_code(value: Any, name: str) -> None:
    """Refused if a key anywhere in a JSON object would make a library load code."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            for key, inner in each.items():
                if key in CODE:
                    raise Refused(f"{name} has the key {key!r}, which loads code: remove it, for no code is run")
                if key.endswith("attn_implementation") and isinstance(inner, str) and re.search("[/:@]", inner):
                    raise Refused(
                        f"{name} takes attention from {shown(inner)}, which is code: name 'sdpa' or leave it out"
                    )
            left += each.values()
        elif isinstance(each, list):
            left += each


# --- weights ----------------------------------------------------------------------------------------------------------


def _weights(folder: Path, files: Mapping[str, str], at: str, kind: str, base: tensors.Header) -> str:
    """The digest of the weights in the folder `at`, which with those in mid-training fit the base and are finite."""
    home = folder / at
    path = home / kind
    header = tensors.header(path)
    scale = None
    if kind == FULL:
        _check_full(header, base, path.name)
    else:
        if f"{at}/{ADAPTER}".lstrip("/") not in files:
            raise Refused(f"{at or 'the folder'} lacks {ADAPTER}: add the one that peft saves beside the adapters")
        scale = _scale(home / ADAPTER)
        _check_lora(header, scale.r, base, path.name)
    digest = tensors.digest(header, sound=True)
    points = sorted((home / WAYPOINTS).glob("*"))
    if scale and points and home / WAYPOINTS / ADAPTER not in points:
        where = f"{at}/{WAYPOINTS}".lstrip("/")
        raise Refused(f"{where} holds adapters and nothing says how they are scaled: copy {ADAPTER} into {WAYPOINTS}/")
    for point in points:
        if point.name == ADAPTER:
            if _scale(point) != scale:
                raise Refused(
                    f"{WAYPOINTS}/{ADAPTER} scales other adapters than those beside it: copy that of the weights"
                )
            continue
        early = tensors.header(point)
        if scale is None:
            _check_full(early, base, f"{WAYPOINTS}/{point.name}")
        else:
            _check_lora(early, scale.r, base, f"{WAYPOINTS}/{point.name}")
        tensors.finite(early)
    if scale is None:
        if tensors.equal(header, base):
            raise Refused(f"{path.name}: these are the base's own weights, so there is nothing to score")
        return digest
    pairs = {name.removesuffix(".lora_A.weight") for name in header.tensors if name.endswith(".lora_A.weight")}
    zero = partial(tensors.zero, header)
    if all(zero(f"{module}.lora_A.weight") or zero(f"{module}.lora_B.weight") for module in pairs):
        raise Refused(f"{path.name}: these adapters add nothing to the base (A or B is 0): train them, then submit")
    return sha256(json.dumps([digest, scale.r, scale.alpha, scale.rslora]).encode()).hexdigest()


def _check_full(header: tensors.Header, base: tensors.Header, name: str) -> None:
    """Refused unless the tensors have the names, shapes and dtypes of the base's; F32 holds what F16 and BF16 do."""
    expected, brought = base.tensors, header.tensors
    wrong = [f"lacks {shown(each)}" for each in sorted(expected.keys() - brought.keys())]
    wrong += [f"has {shown(each)}, which the base has not" for each in sorted(brought.keys() - expected.keys())]
    for each in sorted(expected.keys() & brought.keys()):
        ours, theirs = expected[each], brought[each]
        finer = theirs.dtype == "F32" and ours.dtype in ("F16", "BF16")
        if ours.shape != theirs.shape or not (ours.dtype == theirs.dtype or finer):
            told = f"{theirs.dtype} {list(theirs.shape)} for {shown(each)}"
            wrong.append(f"has {told}, the base has {ours.dtype} {list(ours.shape)}")
    if wrong:
        more = f" (and {len(wrong) - 1:,} other differences)" if len(wrong) > 1 else ""
        raise Refused(f"{name} {wrong[0]}{more}: bring weights of this track's base, in its dtype or in F32")


def _check_lora(header: tensors.Header, rank: int, base: tensors.Header, name: str) -> None:
    """Refused unless the tensors are pairs A [r, in] and B [out, r] for projections [out, in] of the base."""
    maps = {key.removesuffix(".weight"): each.shape for key, each in base.tensors.items() if len(each.shape) == 2}
    maps = {module: shape for module, shape in maps.items() if PROJECTION.fullmatch(module)}
    if not maps:
        raise Refused(f"{name} holds adapters, and this track's base has no projections to adapt: bring {FULL}")
    for key, tensor in header.tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
        if not match:
            raise Refused(f"{name} has the tensor {shown(key)}, which is no lora_A or lora_B: save plain LoRA")
        module, side = match[1], match[2]
        if module not in maps:
            raise Refused(f"{name} adapts {shown(module)}: only the base's projections (…_proj) can be adapted")
        other = f"base_model.model.{module}.lora_{'B' if side == 'A' else 'A'}.weight"
        if other not in header.tensors:
            raise Refused(f"{name} has {shown(key)} without its other half: save both lora_A and lora_B")
        if tensor.dtype not in ("F32", "F16", "BF16"):
            raise Refused(f"{name} has adapters in {tensor.dtype} ({shown(key)}): save them in F32, F16 or BF16")
        out, into = maps[module]
        expected = (rank, into) if side == "A" else (out, rank)
        if tensor.shape != expected:
            shapes = f"{list(tensor.shape)} for {shown(key)}, and r = {rank} needs {list(expected)}"
            raise Refused(f"{name} has the shape {shapes}: bring the adapter_config.json of these adapters")


def _scale(path: Path) -> Scale:
    """How adapters are scaled, from adapter_config.json. Refused unless it describes plain LoRA."""
    name, told = path.name, parse(path.read_bytes(), path.name)
    if told.get("peft_type") != "LORA":
        raise Refused(f"{name} has peft_type {shown(told.get('peft_type'))}: only 'LORA' is scored")
    r, alpha, rslora = told.get("r"), told.get("lora_alpha"), told.get("use_rslora") or False
    if not isinstance(r, int) or isinstance(r, bool) or not 1 <= r <= 256:
        raise Refused(f"{name} has r = {shown(r)}: a whole number from 1 to 256 was expected")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= 1_000_000:
        raise Refused(f"{name} has lora_alpha = {shown(alpha)}: a number above 0, at most a million, was expected")
    if not isinstance(rslora, bool):
        raise Refused(f"{name} has use_rslora = {shown(rslora)}: true or false was expected")
    if told.get("bias", "none") != "none":
        raise Refused(f"{name} has bias = {shown(told['bias'])}, and biases stay the base's: train with bias 'none'")
    if told.get("init_lora_weights", True) not in (True, False, None, "gaussian", "orthogonal"):
        made = shown(told["init_lora_weights"])
        raise Refused(
            f"{name} has init_lora_weights = {made}, which changes the base: convert to plain LoRA when saving"
        )
    if told.get("megatron_core") not in (None, "megatron.core"):
        raise Refused(f"{name} names the module {shown(told['megatron_core'])} in megatron_core: remove that key")
    mapping = told.get("auto_mapping")
    if mapping is not None and not (
        isinstance(mapping, dict)
        and mapping.keys() == {"base_model_class", "parent_library"}
        and all(isinstance(value, str) for value in mapping.values())
        and re.fullmatch(r"transformers(\.\w+)*", mapping["parent_library"])
    ):
        raise Refused(
            f"{name} has auto_mapping = {shown(mapping)}: only classes of transformers are known, so use null"
        )
    for key, value in told.items():
        if key not in PEFT and value not in (None, False, [], {}, "", 0):
            raise Refused(f"{name} has {shown(key)} = {shown(value)}, and plain LoRA is scored: train without it")
    return Scale(r, float(alpha), rslora)
