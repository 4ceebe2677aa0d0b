"""The gate: whether a submission that was copied in may be scored, found out without running anything of it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from harness.types import Refused
from submissions import claim as claims
from submissions import tensors
from submissions.claim import Claim
from submissions.intake import HASHES, WAYPOINTS, inventory
from submissions.plain import parse, shown, text
from submissions.template import Conversation, render

FULL, LORA = "model.safetensors", "adapter_model.safetensors"
KINDS = {FULL: "full", LORA: "lora"}
ADAPTER = "adapter_config.json"

OF_LANGUAGE = (
    "config.json generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json "
    "added_tokens.json vocab.json merges.txt chat_template.jinja"
).split()
"""Files that only a track whose base is a language model uses."""

PARSED = 2**24
"""The most bytes of a tokenizer that is not the base's own, byte for byte."""

UNCOMPARED = ("model", "truncation", "padding", "version")
"""Keys of tokenizer.json that are not compared as a whole: the model is in parts, the others are for training."""

HARMLESS = {
    *("transformers_version", "dtype", "torch_dtype", "_name_or_path", "use_cache", "initializer_range"),
    *("attention_dropout", "max_window_layers", "_attn_implementation", "attn_implementation", "_from_model_config"),
}
"""Keys of config.json that may differ from the base's: none changes what the model computes when it is scored."""

CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "use_kernels", "kernel_config")
"""Keys of JSON files that make libraries load code."""

SMALL = 100_000
"""The most JSON values of a file that is neither weights nor tokenizer."""

STEPS = 50_000
"""The most lines of a curve."""

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

CONVERSATIONS: tuple[Conversation, ...] = (
    ({"role": "user", "content": "How many legs have 7 spiders?"},),
    ({"role": "system", "content": "Answer briefly. "}, {"role": "user", "content": "  Is 91 prime?\n"}),
    (
        {"role": "user", "content": "Say <b>'hello'</b> & {{ goodbye }}"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "Noch einmal: grüß Gott, 你好 🙂"},
    ),
)
"""What templates are compared on."""


@dataclass(frozen=True)
class Reference:
    """What a submission to a track must fit."""

    track: str
    weights: Path
    """The safetensors of the track's base."""
    folder: Path | None = None
    """Of the base, with its config and tokenizer, where it is a language model."""


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


def check(folder: Path, reference: Reference, known: Mapping[str, str] = {}) -> Passed:
    """Read a copied-in submission. Refused, with the reason, if it may not be scored.

    `known` maps digests of weights to the submissions that brought them. Nobody else may change `folder` meanwhile:
    check what `intake.take` has copied.
    """
    files = inventory(folder)
    claim = _claim(folder, files, reference)
    kind, folders = _folders(files, claim)
    base = tensors.header(reference.weights)
    for name in files:
        _check_text(folder / name, name)
    fingerprints = _fingerprints(folder, files, claim)
    _check_language(folder, files, reference)
    own = tensors.digest(reference.weights, base) if kind == FULL else ""
    weights = []
    for at in folders:
        found = _weights(folder, files, at, kind, base, own)
        if (other := known.get(found)) is not None:
            raise Refused(
                f"{at or 'the folder'} holds the weights of {shown(other)}, which came before: bring your own"
            )
        if found in weights:
            first = folders[weights.index(found)]
            raise Refused(f"{at} holds the same weights as {first}: each seed needs a run of its own")
        weights.append(found)
    digest = sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
    return Passed(claim, KINDS[kind], folders, tuple(weights), digest, fingerprints)


# --- the claim and the folders ----------------------------------------------------------------------------------------


def _claim(folder: Path, files: Mapping[str, str], reference: Reference) -> Claim:
    """The claim, made for this track."""
    if claims.FILE not in files:
        raise Refused(f"the folder has no {claims.FILE}: add one that says track, name, method and licence")
    try:
        claim = claims.read((folder / claims.FILE).read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(f"{claims.FILE} is not UTF-8 text (byte {error.start}): write it as UTF-8") from None
    if claim.track != reference.track:
        raise Refused(f"the claim is for the track {shown(claim.track)}, this is {reference.track}: submit it there")
    return claim


def _folders(files: Mapping[str, str], claim: Claim) -> tuple[str, tuple[str, ...]]:
    """The name of the weights' file, which is one for all seeds, and the folder of each seed."""
    folders = tuple(f"seed-{seed}" for seed in claim.seeds) if len(claim.seeds) > 1 else ("",)
    found = {}
    for name in files:
        at, _, file = name.rpartition("/")
        home = at.removesuffix(WAYPOINTS).removesuffix("/")
        if home and home not in folders:
            told = "no several seeds" if folders == ("",) else f"the seeds {', '.join(map(str, claim.seeds))}"
            raise Refused(
                f"{home} is the folder of a seed, and the claim names {told}: add the seed or remove the folder"
            )
        if file in (*KINDS, ADAPTER) or at.endswith(WAYPOINTS):
            if home not in folders:
                raise Refused(f"{name} lies beside the folders of seeds: move it into that of its seed")
            if file in KINDS and found.setdefault(home, file) != file:
                raise Refused(f"{home or 'the folder'} holds both {FULL} and {LORA}: keep what is to be scored")
    for home in folders:
        if home not in found:
            raise Refused(f"{home or 'the folder'} holds neither {FULL} nor {LORA}: save the weights there")
    kinds = set(found.values())
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
    """Refused unless a file is the text that its name says; tokenizers are read where they are compared."""
    if path.name in ("tokenizer.json", "vocab.json"):
        return
    if path.name == "curve.jsonl":
        with open(path, "rb") as file:
            number = 0
            while raw := file.readline(2**20):
                number += 1
                if number > STEPS:
                    raise Refused(f"{name} has more than {STEPS:,} lines: keep every tenth step, or fewer")
                parse(raw, f"{name}, line {number},", values=1_000, nan=True)  # NaN: a step without reward
        return
    if path.suffix == ".json":
        _check_code(parse(path.read_bytes(), name, SMALL), name)
    elif path.suffix in (".md", ".jinja") or path.name == "LICENSE":
        text(path.read_bytes(), name)


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


def _check_language(folder: Path, files: Mapping[str, str], reference: Reference) -> None:
    """Refused if config, tokenizer or chat template are not the base's, or the track has no use for them."""
    seen, templates = set(), {}
    for name, content in files.items():
        file = name.rpartition("/")[2]
        if file not in OF_LANGUAGE or (file, content) in seen:  # each seed may bring the same
            continue
        if reference.folder is None:
            raise Refused(f"{name} is not used by this track, whose base is no language model: remove it")
        seen.add((file, content))
        if look := LOOKS.get(file):
            look(folder / name, name, reference.folder)
        if (template := _template(folder / name, name)) is not None:
            templates.setdefault(template, name)
    if templates and reference.folder:
        _check_templates(templates, reference.folder)


def _check_config(path: Path, name: str, base: Path) -> None:
    """The model must be the base's."""
    found, expected = parse(path.read_bytes(), name), _own(base, "config.json")
    if found.get("model_type") != expected.get("model_type"):
        kinds = f"model_type {shown(found.get('model_type'))}, the base is {expected.get('model_type')!r}"
        raise Refused(f"{name} has {kinds}: adapt this track's base")
    if found.get("quantization_config"):
        raise Refused(f"{name} has a quantization_config, and weights are scored as they are: save them unquantised")
    for key in sorted((found.keys() & expected.keys()) - HARMLESS):
        if found[key] != expected[key]:
            told = f"{shown(found[key])} for {key}, the base has {shown(expected[key])}"
            raise Refused(f"{name} has {told}: an adaptation keeps the base's config")


def _check_tokenizer(path: Path, name: str, base: Path) -> None:
    """The tokenizer must be the base's; how it was to pad or cut while training does not matter."""
    if path.read_bytes() == (base / "tokenizer.json").read_bytes():
        return
    found, expected = (_parts(_large(file, name), name) for file in (path, base / "tokenizer.json"))
    for part in sorted(found.keys() | expected.keys()):
        if found.get(part) != expected.get(part) and not (part not in expected and found[part] in OFF):
            raise Refused(
                f"{name} has another {part} than the base's tokenizer: leave the file out, the base's is used"
            )


def _parts(tokenizer: dict[str, Any], name: str) -> dict[str, str]:
    """The hash of each part of a tokenizer.json, so that two need not be held at once."""
    model = tokenizer.get("model")
    parts = {part: value for part, value in tokenizer.items() if part not in UNCOMPARED}
    parts |= {f"model.{part}": value for part, value in model.items()} if isinstance(model, dict) else {"model": model}
    if len(parts) > 64:
        raise Refused(
            f"{name} has {len(parts):,} parts, more than any tokenizer: leave the file out, the base's is used"
        )
    if isinstance(merges := parts.get("model.merges"), list):
        parts["model.merges"] = [_merge(merge) for merge in merges]
    return {part: _hash(value) for part, value in parts.items()}


def _merge(merge: Any) -> Any:
    """A merge as older tokenizers write it, "a b", where that says the same."""
    if isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) and " " not in part for part in merge):
        return " ".join(merge)
    return merge


def _check_vocab(path: Path, name: str, base: Path) -> None:
    """vocab.json holds the base's vocabulary."""
    found = _hash(_large(path, name))
    if found != _hash(_large(base / "tokenizer.json", name)["model"]["vocab"]):
        raise Refused(f"{name} is not the base's vocabulary: leave the file out, the base's is used")


def _check_merges(path: Path, name: str, base: Path) -> None:
    """merges.txt holds the base's merges, perhaps below a line with a version."""
    merges = [str(_merge(merge)) for merge in _large(base / "tokenizer.json", name)["model"].get("merges", [])]
    body = re.sub(rb"^#version: [ -~]{0,100}\n", b"", path.read_bytes())
    if body.strip(b"\n") != "\n".join(merges).encode():
        raise Refused(f"{name} does not hold the base's merges: leave the file out, the base's are used")


def _check_added(path: Path, name: str, base: Path) -> None:
    """added_tokens.json names the base's added tokens with their numbers."""
    own = {token["content"]: token["id"] for token in _large(base / "tokenizer.json", name).get("added_tokens", [])}
    for token, number in parse(path.read_bytes(), name).items():
        if own.get(token) != number:
            raise Refused(f"{name} adds the token {shown(token)}, which the base has not: leave the file out")


def _template(path: Path, name: str) -> str | None:
    """The chat template in a file, if it brings one."""
    if path.name == "chat_template.jinja":
        return text(path.read_bytes(), name)
    if path.name != "tokenizer_config.json":
        return None
    template = parse(path.read_bytes(), name).get("chat_template")
    if template is not None and not isinstance(template, str):
        raise Refused(f"{name} has {shown(template)} for chat_template: one text was expected, so leave it out")
    return template


def _check_templates(templates: Mapping[str, str], base: Path) -> None:
    """Refused unless chat templates, with the files they are in, make the base's prompts of `CONVERSATIONS`."""
    settings = _own(base, "tokenizer_config.json")
    own = settings.get("chat_template")
    if (base / "chat_template.jinja").exists():
        own = (base / "chat_template.jinja").read_text(encoding="utf-8")
    others = [(template, name) for template, name in templates.items() if template != own]
    if not others:
        return
    template, name = others[0]
    if own is None:
        raise Refused(f"{name} brings a chat template, and the track's base has none: remove it")
    if len(others) > 1:
        raise Refused(f"{name} and {others[1][1]} bring chat templates that differ: keep one, or none")
    tokens = {key: value for key, value in settings.items() if key.endswith("_token") and isinstance(value, str)}
    if render(template, CONVERSATIONS, tokens) != render(own, CONVERSATIONS, tokens):
        raise Refused(
            f"{name} renders another prompt than the track's: leave the template out, the track fixes the prompt"
        )


def _own(base: Path, name: str) -> dict[str, Any]:
    """A JSON file of the base; empty if it has none."""
    return parse((base / name).read_bytes(), f"the base's {name}") if (base / name).exists() else {}


def _large(path: Path, name: str) -> dict[str, Any]:
    """A tokenizer's JSON file."""
    if path.stat().st_size > PARSED:
        raise Refused(f"{name} has more than {PARSED:,} bytes and is not the base's own file: leave it out")
    return parse(path.read_bytes(), name)


def _hash(value: Any) -> str:
    """Equal for equal JSON values."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


OFF = {_hash(value) for value in (None, False, [], {}, "")}

LOOKS: dict[str, Callable[[Path, str, Path], None]] = {
    "config.json": _check_config,
    "tokenizer.json": _check_tokenizer,
    "vocab.json": _check_vocab,
    "merges.txt": _check_merges,
    "added_tokens.json": _check_added,
}
"""How each file of a language model is looked at: its path, its name in the submission, the base's folder."""


# --- weights ----------------------------------------------------------------------------------------------------------


def _weights(folder: Path, files: Mapping[str, str], at: str, kind: str, base: tensors.Header, own: str) -> str:
    """The digest of the weights in the folder `at`, which with those in mid-training fit the base and are finite.

    `own` is the digest of the base's weights.
    """
    home = folder / at
    path = home / kind
    found = tensors.header(path)
    scale = None
    if kind == FULL:
        _check_full(found, base, path.name)
    else:
        if f"{at}/{ADAPTER}".lstrip("/") not in files:
            raise Refused(f"{at or 'the folder'} lacks {ADAPTER}: add the one that peft saves beside the adapters")
        scale = _scale(home / ADAPTER)
        _check_lora(found, scale.r, base, path.name)
    tensors.finite(path, found)
    for point in sorted((home / WAYPOINTS).glob("*")):
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
        tensors.finite(point, early)
    digest = tensors.digest(path, found)
    if scale is None:
        if digest == own:
            raise Refused(f"{path.name}: these are the base's own weights, so there is nothing to score")
        return digest
    pairs = {name.removesuffix(".lora_A.weight") for name in found.tensors if name.endswith(".lora_A.weight")}
    zero = partial(tensors.zero, path, found)
    if all(zero(f"{module}.lora_A.weight") or zero(f"{module}.lora_B.weight") for module in pairs):
        raise Refused(f"{path.name}: these adapters add nothing to the base (A or B is 0): train them, then submit")
    return sha256(json.dumps([digest, scale.r, scale.alpha, scale.rslora]).encode()).hexdigest()


def _check_full(found: tensors.Header, base: tensors.Header, name: str) -> None:
    """Refused unless the tensors have the names, shapes and dtypes of the base's."""
    expected, brought = base.tensors, found.tensors
    wrong = [f"lacks {shown(each)}" for each in sorted(expected.keys() - brought.keys())]
    wrong += [f"has {shown(each)}, which the base has not" for each in sorted(brought.keys() - expected.keys())]
    for each in sorted(expected.keys() & brought.keys()):
        ours, theirs = expected[each], brought[each]
        if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            told = f"{theirs.dtype} {list(theirs.shape)} for {shown(each)}"
            wrong.append(f"has {told}, the base has {ours.dtype} {list(ours.shape)}")
    if wrong:
        more = f" (and {len(wrong) - 1:,} other differences)" if len(wrong) > 1 else ""
        raise Refused(f"{name} {wrong[0]}{more}: bring weights of this track's base, in its dtype")


def _check_lora(found: tensors.Header, rank: int, base: tensors.Header, name: str) -> None:
    """Refused unless the tensors are pairs A [r, in] and B [out, r] for projections [out, in] of the base."""
    maps = {key.removesuffix(".weight"): each.shape for key, each in base.tensors.items() if len(each.shape) == 2}
    maps = {module: shape for module, shape in maps.items() if module.endswith("_proj")}
    if not maps:
        raise Refused(f"{name} holds adapters, and this track's base has no projections to adapt: bring {FULL}")
    for key, tensor in found.tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
        if not match:
            raise Refused(f"{name} has the tensor {shown(key)}, which is no lora_A or lora_B: save plain LoRA")
        module, side = match[1], match[2]
        if module not in maps:
            raise Refused(f"{name} adapts {shown(module)}: only the base's projections (…_proj) can be adapted")
        other = f"base_model.model.{module}.lora_{'B' if side == 'A' else 'A'}.weight"
        if other not in found.tensors:
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
