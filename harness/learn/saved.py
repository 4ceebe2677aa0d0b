"""What peft and transformers save beside weights, read in one way at every door: adapters, configs, the base they mean.

Nothing here loads a model library before it is asked for numbers: the gate of submissions reads with it, too.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import Repr
from typing import Any

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.checkpoint import ADAPTER_CONFIG as ADAPTER_CONFIG
from razorbench.harness.learn.checkpoint import ADAPTERS as ADAPTERS
from razorbench.harness.learn.checkpoint import INDEX as INDEX
from razorbench.harness.learn.checkpoint import WEIGHTS as WEIGHTS
from razorbench.harness.learn.checkpoint import files

ADAPTER = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
"""How the matrices of adapters are named in their file: of which map, and which of the two."""
ADAPTABLE = re.compile(r".+_proj|(vision_backbone|projector)\..+")
"""Linear maps that adapters may be on: of a language model, and all that OpenVLA has before it."""
RANKS = 2**16
"""The largest rank that is read."""

MERGE = "merge_and_unload().save_pretrained(FOLDER)"
MERGED = f"merge them, {MERGE}, and bring its model.safetensors"
"""The cure for adapters that are not read."""

PLAIN = {
    *("peft_type", "r", "lora_alpha", "use_rslora", "bias", "auto_mapping", "init_lora_weights", "megatron_core"),
    *("base_model_name_or_path", "peft_version", "task_type", "inference_mode", "revision", "lora_dropout"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "qalora_group_size"),
    *("eva_config", "ensure_weight_tying"),
}
"""Keys of adapter_config.json that are checked by name, or say nothing of what the adapters compute.

Every other must be off: null, false or empty.
"""
OTHER = {
    *("alpha_pattern", "rank_pattern", "modules_to_save", "lora_bias", "fan_in_fan_out", "layer_replication"),
    *("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "target_parameters"),
    *("trainable_token_indices", "megatron_config", "loftq_config", "corda_config", "lora_ga_config"),
    *("arrow_config", "kasa_config", "monteclora_config", "velora_config"),
}
"""Keys that are known, and make of adapters something else than plain LoRA unless they are off."""
STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin that leave the base as it is."""

PREFIXES = {
    "_orig_mod.": "torch.compile puts it there: save the model that was compiled, model._orig_mod.save_pretrained(…)",
    "module.": "DistributedDataParallel puts it there: save the model in it, model.module.save_pretrained(…)",
    "base_model.model.": f"peft puts it there: {MERGE} saves whole weights without it",
}
"""What is found before the names of tensors: who puts it there, and what to do."""
EMPTY = "DeepSpeed's ZeRO-3 leaves such: gather the weights when saving, or make them with zero_to_fp32.py"
"""Why tensors have no numbers, and what to do."""

HARMLESS = {
    *("transformers_version", "dtype", "torch_dtype", "_name_or_path", "use_cache", "initializer_range"),
    *("attention_dropout", "max_window_layers", "_attn_implementation", "attn_implementation", "_from_model_config"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
}
"""Keys of config.json that may differ from the base's: none changes what the model computes when it is scored."""

BRIEF = Repr()
BRIEF.maxstring = BRIEF.maxother = BRIEF.maxlong = 80


def shown(value: Any) -> str:
    """A value as a message may quote it: on one line, and short."""
    try:
        return BRIEF.repr(value)
    except ValueError:  # a number of thousands of digits
        return f"a very large {type(value).__name__}"


# --- adapters ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Description:
    """What adapter_config.json says of plain LoRA: B A counts alpha / rank, or with `rslora` alpha / √rank."""

    rank: int
    alpha: float
    rslora: bool
    base: str = ""
    """The model that it was trained on, by the name or path that its maker used; empty: not said."""
    told: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def scale(self) -> tuple[int, float, bool]:
        """What decides how much the adapters count."""
        return self.rank, self.alpha, self.rslora

    def promised(self, maps: Iterable[str]) -> set[str]:
        """Which of the base's maps have adapters, as peft would choose them; none where a regular expression says it.

        A stranger's expression is not tried: some take for ever.
        """
        targets, excluded = self.told.get("target_modules"), self.told.get("exclude_modules") or []
        if not all(isinstance(names, list) and _texts(names) for names in (targets, excluded)):
            return set()
        assert targets is not None
        wanted = {name for name in maps if _ends(name, targets) and not _ends(name, excluded)}
        layers = self.told.get("layers_to_transform")
        layers = [layers] if isinstance(layers, int) else layers
        if not layers:
            return wanted
        patterns = self.told.get("layers_pattern") or r"[^.]*"
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not _texts(patterns) or not all(re.fullmatch(r"\w+|\[\^\.\]\*", pattern) for pattern in patterns):
            return set()
        found = {name: [re.match(rf".*\.{each}\.(\d+)\.", name) for each in patterns] for name in wanted}
        return {name for name, each in found.items() if any(match and int(match[1]) in layers for match in each)}


def _texts(values: Any) -> bool:
    """Whether all of a list are texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _ends(name: str, ends: Iterable[str]) -> bool:
    """Whether a map is one of those, or lies under that name."""
    return any(name == end or name.endswith(f".{end}") for end in ends)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Refuses what cannot be read as one."""
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(told, dict):
            raise ValueError(f"a {type(told).__name__} is no object")
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read ({error}); bring the one that was saved beside the weights") from None
    return told


def read_description(path: Path, most: int = RANKS) -> Description:
    """The description in an adapter_config.json. Refuses what is missing, no JSON, or another kind than plain LoRA."""
    return described(read_json(path), str(path), most)


def described(told: Mapping[str, Any], name: str, most: int = RANKS) -> Description:
    """What the keys and values of an adapter_config.json say. Refused unless they describe plain LoRA of at most such a
    rank; `name` is the file's, for the sentence.
    """
    if told.get("peft_type") != "LORA":
        raise Refused(f"{name} has peft_type {shown(told.get('peft_type'))}, and only 'LORA' is scored: {MERGED}")
    r, alpha, rslora = told.get("r"), told.get("lora_alpha"), told.get("use_rslora") or False
    if not isinstance(r, int) or isinstance(r, bool) or not 1 <= r <= most:
        raise Refused(f"{name} has r = {shown(r)}: a whole number from 1 to {most} was expected")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= 1_000_000:
        raise Refused(f"{name} has lora_alpha = {shown(alpha)}: a number above 0, at most a million, was expected")
    if not isinstance(rslora, bool):
        raise Refused(f"{name} has use_rslora = {shown(rslora)}: true or false was expected")
    if told.get("bias", "none") != "none":
        raise Refused(f"{name} has bias = {shown(told['bias'])}, and biases stay the base's: train with bias 'none'")
    start = told.get("init_lora_weights", True)
    if not isinstance(start, bool | str | None) or start not in STARTS:
        raise Refused(
            f"{name} has init_lora_weights = {shown(start)}, which changes the base: convert to plain LoRA when saving"
        )
    if told.get("megatron_core") not in (None, "megatron.core"):
        raise Refused(f"{name} names the module {shown(told['megatron_core'])} in megatron_core: remove that key")
    if not _maps_to_transformers(mapping := told.get("auto_mapping")):
        raise Refused(
            f"{name} has auto_mapping = {shown(mapping)}: only classes of transformers are known, so use null"
        )
    for key, value in told.items():
        if key not in PLAIN and value not in (None, False, [], {}, "", 0):
            newer = "" if key in OTHER else ", which is of a newer peft than is known here"
            raise Refused(f"{name} has {shown(key)} = {shown(value)}{newer}, and plain LoRA is scored: {MERGED}")
    base = told.get("base_model_name_or_path")
    return Description(r, float(alpha), rslora, base if isinstance(base, str) else "", told)


def _maps_to_transformers(mapping: Any) -> bool:
    """Whether an auto_mapping is none, or names a class of transformers, perhaps with plain values beside it."""
    if mapping is None:
        return True
    if not isinstance(mapping, dict) or not {"base_model_class", "parent_library"} <= mapping.keys():
        return False
    if not all(value is None or isinstance(value, str | int | float) for value in mapping.values()):
        return False
    library = mapping["parent_library"]
    named = isinstance(library, str) and isinstance(mapping["base_model_class"], str)
    return named and re.fullmatch(r"transformers(\.\w+)*", library) is not None


Shapes = Mapping[str, tuple[int, ...]]


def adapted_maps(shapes: Shapes, description: Description, base: Shapes, name: str) -> tuple[set[str], dict[str, str]]:
    """Which maps the adapters of a file are on; and what is saved beside them, by the weight of the base that it must
    be a copy of.

    `shapes` are those of the file's tensors, `base` those of the base's weights, both by their names in files. Refused
    unless there are pairs A [r, in] and B [out, r] for linear maps [out, in] of the base, and all that are promised.
    """
    maps = {key.removesuffix(".weight"): shape for key, shape in base.items() if len(shape) == 2}
    adaptable = {module: shape for module, shape in maps.items() if ADAPTABLE.fullmatch(module)}
    if not adaptable:
        raise Refused(f"{name} holds adapters, and this track's base has no projections to adapt: bring {WEIGHTS}")
    if not shapes or any(0 in shape for shape in shapes.values()):
        raise Refused(f"{name} holds adapters without numbers. {EMPTY}")
    adapted: set[str] = set()
    beside: dict[str, str] = {}
    for key, shape in shapes.items():
        if not (match := ADAPTER.fullmatch(key)):
            beside[key] = _copied(key, shape, base, name)
            continue
        module, side = match[1], match[2]
        if module not in adaptable:
            raise Refused(
                f"{name} adapts {shown(module)}, and only the base's projections (…_proj) can be adapted: {MERGED}"
            )
        if f"base_model.model.{module}.lora_{'B' if side == 'A' else 'A'}.weight" not in shapes:
            raise Refused(f"{name} has {shown(key)} without its other half: save both lora_A and lora_B")
        out, into = adaptable[module]
        expected = (description.rank, into) if side == "A" else (out, description.rank)
        if tuple(shape) != expected:
            told = f"{list(shape)} for {shown(key)}, and r = {description.rank} needs {list(expected)}"
            raise Refused(f"{name} has the shape {told}: bring the adapter_config.json of these adapters")
        adapted.add(module)
    lacking = sorted(description.promised({*maps, "lm_head"}) - adapted)
    if lacking:
        more = f" and {len(lacking) - 1:,} others" if len(lacking) > 1 else ""
        raise Refused(
            f"{name} has no adapters on {shown(lacking[0])}{more}, which its adapter_config.json names: "
            "save all of them, with save_pretrained of peft"
        )
    return adapted, beside


def _copied(key: str, shape: tuple[int, ...], base: Shapes, name: str) -> str:
    """The weight of the base that a tensor beside adapters is a copy of. Refused if it can be of none."""
    own = key.removeprefix("base_model.model.")
    own = own if own in base else repeated(own, base)
    if own and own != key:
        if shape[1:] == base[own][1:] and len(shape) == 2 and shape[0] > base[own][0]:
            raise Refused(f"{name} has {shape[0]:,} rows in {shown(key)}: {cut(base[own][0])}")
        return own
    for prefix, cure in PREFIXES.items():
        if key.startswith(prefix) and prefix != "base_model.model.":
            raise Refused(f"{name} has {prefix!r} before its names, as in {shown(key)}: {cure}")
    if re.search(r"\.lora_[AB]\.\w+\.weight$", key):
        called = key.split(".")[-2]
        raise Refused(
            f"{name} has {f'.{called}.'!r} in its names, as in {shown(key)}: "
            "that is a state_dict of the model, so save with its save_pretrained"
        )
    if re.search(r"\.lora_[AB]\.weight$", key):
        raise Refused(
            f"{name} has no 'base_model.model.' before its names, as in {shown(key)}: "
            "save with save_pretrained of get_peft_model, or put it before each"
        )
    raise Refused(f"{name} has the tensor {shown(key)}, which is no lora_A or lora_B of a linear map: {MERGED}")


def repeated(name: str, base: Collection[str]) -> str:
    """Of a head that the base does not hold, for it is tied, the embedding that it must repeat; empty of all else."""
    if name.rpartition("lm_head.weight")[1:] != ("lm_head.weight", "") or name in base:
        return ""
    return next((each for each in base if each.endswith("embed_tokens.weight")), "")


def cut(rows: int) -> str:
    """What to do about a vocabulary with more rows than the base's."""
    return f"cut the vocabulary to the base's {rows:,} rows, model.resize_token_embeddings({rows}), and save again"


def prefixed(names: Collection[str], base: Collection[str]) -> str:
    """Why the names of whole weights are not the base's, and what to do, where a prefix is all there is to it."""
    if any(".base_layer." in name or ".lora_" in name for name in names):
        return f"has adapters that are not merged ('base_layer' in its names): {MERGE} saves whole weights"
    for prefix, cure in PREFIXES.items():
        if any(name.startswith(prefix) and name.removeprefix(prefix) in base for name in names):
            return f"has {prefix!r} before its names: {cure}"
    heads = {name.partition(".")[0] for name in base if "." in name}
    for head in sorted(heads):
        if sum(f"{head}.{name}" in base for name in names) > len(names) // 2:
            return f"has no {f'{head}.'!r} before its names: save the whole model, with its head"
    return ""


# --- configs ----------------------------------------------------------------------------------------------------------


def differing(brought: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first key that two config.json have, not harmless, with other values, and the two; None: there is none.

    What transformers 4 and 5 say in other keys is held to be the same key.
    """
    ours, theirs = folded(base), folded(brought)
    for key in sorted((ours.keys() & theirs.keys()) - HARMLESS):
        if ours[key] != theirs[key]:
            return key, theirs[key], ours[key]
    return None


ROPE = ("rope_theta", "rope_scaling", "rope_local_base_freq", "rope_parameters")
"""Keys in which a config may say its rotary embedding; the last one is that of transformers 5."""


def folded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config in the keys of transformers 5, as far as those of 4 are others: all of its rotary embedding is one."""
    told = {key: value for key, value in config.items() if key not in ROPE}
    if not any(key in config for key in ROPE):
        return told
    said = config.get("rope_parameters") or {}
    layers = {kind: each for kind, each in said.items() if isinstance(each, dict)}
    if layers:  # one for each kind of layer
        told["rope_parameters"] = {kind: _rope(each, config, {}) for kind, each in layers.items()}
        return told
    scaling = config.get("rope_scaling") if isinstance(config.get("rope_scaling"), dict) else {}
    whole = _rope(said, config, scaling)
    if (local := config.get("rope_local_base_freq")) is not None:
        sliding = {"rope_type": "default", "rope_theta": _number(local)}
        told["rope_parameters"] = {"full_attention": whole, "sliding_attention": sliding}
    else:
        told["rope_parameters"] = whole
    return told


def _rope(said: Mapping[str, Any], config: Mapping[str, Any], scaling: Mapping[str, Any] | None) -> dict[str, Any]:
    """One rotary embedding, with what the config says of it beside."""
    told = {**(scaling or {}), **said}
    kind = told.pop("type", None)
    told.setdefault("rope_type", kind or "default")
    if "rope_theta" not in told and "rope_theta" in config:
        told["rope_theta"] = config["rope_theta"]
    if "partial_rotary_factor" not in told and "partial_rotary_factor" in config:
        told["partial_rotary_factor"] = config["partial_rotary_factor"]
    if told.get("partial_rotary_factor") == 1:
        del told["partial_rotary_factor"]
    return {key: _number(value) for key, value in told.items() if value is not None}


def _number(value: Any) -> Any:
    """A whole number as a float, for 10000 and 10000.0 are written for one another."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


# --- the base that is meant -------------------------------------------------------------------------------------------


def check_base(named: str, base: Path, called: str) -> str:
    """Hold the base that adapters name against the one whose weights are given, `called` so; in words what is known.

    Refused where it is a folder that can be read here, and has other weights than dtypes would explain.
    """
    other = other_weights(named, base)
    if other:
        raise Refused(
            f"these adapters were trained on {shown(named)}, whose weights are not those of {called} ({other}), where "
            f"they would make another model: {MERGE}, then bring its model.safetensors"
        )
    if other == "":
        return f"The adapters were trained on {shown(named)}, which has the weights of {called}."
    return unknown_base(named, called)


def unknown_base(named: str, called: str) -> str:
    """That nobody here can tell whether the base that adapters name is the one that they are put on."""
    return (
        f"The adapters say that they were trained on {shown(named)}. They are scored on {called}: if that model has "
        f"other weights, their numbers say nothing; then bring it merged, {MERGE}."
    )


def other_weights(named: str, base: Path) -> str | None:
    """The first tensor of a base that the model in the folder `named` has otherwise; empty: none, None: not known here.

    Numbers are the same where rounding to the coarser of two dtypes makes them so. Of a model that is quantised
    nothing is known.
    """
    folder = Path(named).expanduser()
    there = next((folder / name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)
    if there is None:
        return None
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        theirs = {key: file for file in files(there) for key in safe_open(file, "pt").keys()}  # noqa: SIM118
        for file in files(base):
            with safe_open(file, "pt") as ours:
                for key in sorted(ours.keys()):
                    if key not in theirs:
                        return f"it lacks {key}"
                    with safe_open(theirs[key], "pt") as other:
                        one, two = ours.get_tensor(key), other.get_tensor(key)
                    if not two.is_floating_point():
                        return None
                    coarser = min(one.dtype, two.dtype, key=lambda dtype: torch.finfo(dtype).bits)
                    if one.shape != two.shape or not torch.equal(one.to(coarser), two.to(coarser)):
                        return f"{key} differs"
    except (OSError, SafetensorError, Refused):
        return None
    return ""
