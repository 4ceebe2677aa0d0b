"""Config, tokenizer and chat template of a submission must be the base's; statistics of motions may be its own."""

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from razorbench import Refused
from razorbench.harness.learn.saved import cut, differing
from razorbench.submissions.strict import parse, shown, text
from razorbench.submissions.template import Conversation, render

OF_LANGUAGE = (
    "config.json generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json "
    "added_tokens.json vocab.json merges.txt chat_template.jinja dataset_statistics.json"
).split()
"""Files that only a track whose base is a language model uses."""

LARGE = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json")
"""To compare one of these, a tokenizer is parsed, which takes a second: so beside the base's, one of each may come."""

PARSED = 2**24
"""The most bytes of a tokenizer that is not the base's own, byte for byte."""

UNCOMPARED = ("model", "truncation", "padding", "version")
"""Keys of tokenizer.json that are not compared as a whole: the model is in parts, the others are for training."""

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


def check(folder: Path, files: Mapping[str, str], base: Path | None) -> None:
    """Refused if config, tokenizer or chat template are not the base's, or the track has no use for them.

    `files` are the sha256 of the files of `folder` by name, `base` the base's folder, None if it is no language model.
    """
    seen, templates = set(), {}
    if base:
        _check_alike(files, base)
    for name, content in files.items():
        file = name.rpartition("/")[2]
        if file not in OF_LANGUAGE or (file, content) in seen:  # each seed may bring the same
            continue
        if base is None:
            raise Refused(f"{name} is not used by this track, whose base is no language model: remove it")
        seen.add((file, content))
        if look := LOOKS.get(file):
            look(folder / name, name, base)
        if (template := _template(folder / name, name)) is not None:
            templates.setdefault(template, name)
    if templates and base:
        _check_templates(templates, base)


def _check_alike(files: Mapping[str, str], base: Path) -> None:
    """Refused if the seeds bring several tokenizers, the base's own not counted."""
    for file in LARGE:
        brought = {content: name for name, content in files.items() if name.rpartition("/")[2] == file}
        if len(brought) > 1 and (base / file).exists():
            brought.pop(sha256((base / file).read_bytes()).hexdigest(), None)
        if len(brought) > 1:
            one, other = sorted(brought.values())[:2]
            raise Refused(
                f"the seeds bring tokenizers that differ ({one}, {other}): leave them out, the base's is used"
            )


def _check_config(path: Path, name: str, base: Path) -> None:
    """The model must be the base's."""
    brought, expected = parse(path.read_bytes(), name), _own(base, "config.json")
    if brought.get("model_type") != expected.get("model_type"):
        kinds = f"model_type {shown(brought.get('model_type'))}, the base is {expected.get('model_type')!r}"
        raise Refused(f"{name} has {kinds}: adapt this track's base")
    if brought.get("quantization_config"):
        raise Refused(f"{name} has a quantization_config, and weights are scored as they are: save them unquantised")
    if other := differing(brought, expected):
        key, theirs, ours = other
        more = type(theirs) is type(ours) is int and key == "vocab_size" and theirs > ours
        cure = cut(ours) if more else "an adaptation keeps the base's config"
        raise Refused(f"{name} has {shown(theirs)} for {key}, the base has {shown(ours)}: {cure}")


def _check_tokenizer(path: Path, name: str, base: Path) -> None:
    """The tokenizer must be the base's; how it was to pad or cut while training does not matter."""
    if path.read_bytes() == (base / "tokenizer.json").read_bytes():
        return
    brought, expected = (_parts(_large(file, name), name) for file in (path, base / "tokenizer.json"))
    for part in sorted(brought.keys() | expected.keys()):
        if brought.get(part) != expected.get(part) and not (part not in expected and brought[part] in OFF):
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
    vocabulary = _hash(_large(path, name))
    if vocabulary != _hash(_large(base / "tokenizer.json", name)["model"]["vocab"]):
        raise Refused(f"{name} is not the base's vocabulary: leave the file out, the base's is used")


def _check_merges(path: Path, name: str, base: Path) -> None:
    """merges.txt holds the base's merges, perhaps below a line with a version."""
    merges = [str(_merge(merge)) for merge in _large(base / "tokenizer.json", name)["model"].get("merges", [])]
    body = re.sub(rb"^#version: [ -~]{0,100}\n", b"", path.read_bytes().replace(b"\r\n", b"\n"))
    if body.strip(b"\n") != "\n".join(merges).encode():
        raise Refused(f"{name} does not hold the base's merges: leave the file out, the base's are used")


def _check_added(path: Path, name: str, base: Path) -> None:
    """added_tokens.json names the base's added tokens with their numbers."""
    own = {token["content"]: token["id"] for token in _large(base / "tokenizer.json", name).get("added_tokens", [])}
    for token, number in parse(path.read_bytes(), name).items():
        if own.get(token) != number:
            raise Refused(f"{name} adds the token {shown(token)}, which the base has not: leave the file out")


def _check_statistics(path: Path, name: str, base: Path) -> None:
    """dataset_statistics.json holds percentiles of motions as long as the base's, by data set."""
    config = _own(base, "config.json")
    if config.get("model_type") != "openvla":
        raise Refused(f"{name} is not used by this track, whose base makes no motions: remove it")
    known = {**config.get("norm_stats", {}), **_own(base, name.rpartition("/")[2])}
    sizes = {len(each["action"]["q01"]) for each in known.values()}
    for key, told in parse(path.read_bytes(), name).items():
        try:
            low, high = (told["action"][column] for column in ("q01", "q99"))
            mask = told["action"].get("mask") or [True] * len(low)
            sound = len(low) == len(high) == len(mask) in sizes and all(type(each) is bool for each in mask)
            sound = sound and all(type(each) in (int, float) and abs(each) < 1e9 for each in (*low, *high))
        except (AttributeError, KeyError, TypeError):
            sound = False
        if not sound:
            what = f"q01, q99 and mask of {' or '.join(map(str, sorted(sizes)))} numbers"
            raise Refused(f"{name} does not tell {what} of actions for {shown(key)}: bring that of the checkpoint")


def _template(path: Path, name: str) -> str | None:
    """The chat template in a file, if it brings one."""
    if path.name == "chat_template.jinja":
        return text(path.read_bytes(), name).replace("\r\n", "\n")  # as transformers reads it
    if path.name != "tokenizer_config.json":
        return None
    template = parse(path.read_bytes(), name).get("chat_template")
    if isinstance(template, list):  # transformers has taken several, each with a name
        rows = [each for each in template if isinstance(each, dict) and each.get("name") == "default"]
        template = rows[0].get("template") if len(rows) == 1 else template
    if template is not None and not isinstance(template, str):
        what = f"{shown(template)} for chat_template: one text, or one of the name default, was expected"
        raise Refused(f"{name} has {what}, so leave it out")
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
    asked = [talk for talk in CONVERSATIONS if _takes(own, talk, tokens)]
    if render(template, asked, tokens) != render(own, asked, tokens):
        raise Refused(
            f"{name} renders another prompt than the track's: leave the template out, the track fixes the prompt"
        )


def _takes(template: str, talk: Conversation, tokens: Mapping[str, str]) -> bool:
    """Whether the base's template renders a conversation: some have no place for a system."""
    try:
        return bool(render(template, [talk], tokens))
    except Refused:
        return False


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
    "dataset_statistics.json": _check_statistics,
}
"""How each file of a language model is looked at: its path, its name in the submission, the base's folder."""
