"""The gate: the corpus of bad and good submissions, what happens while one is copied, and what the gate may load."""

import json
import os
import stat
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from razorbench import Refused
from razorbench.submissions import claim, copying, tensors
from razorbench.submissions.copying import allowed, take
from razorbench.submissions.gate import Reference, check
from razorbench.submissions.language import CONVERSATIONS
from razorbench.submissions.template import render
from tests.gate_corpus import (
    ADAPTER,
    CASES,
    GOOD,
    LIMIT,
    NASTY,
    SAME,
    TEMPLATE,
    Case,
    full,
    lora,
    make_base,
    measure,
    packed,
    put,
    refusal,
    seeds,
    submit,
    weights,
)

ROOT = Path(__file__).parent.parent
LM, ROBOT = ROOT / "agents/weights/mini-lm-v1", ROOT / "agents/weights/mini-robot-v1"
PHRASES = {case.phrase for case in CASES}


@pytest.fixture
def base(tmp_path: Path) -> Reference:
    return make_base(tmp_path / "base")


# --- the corpus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow) if case.name.startswith(("bomb: ", "template: ")) else case
        for case in CASES
    ],
    ids=lambda case: case.name,
)
def test_bad_submission_is_refused_with_the_sentence_of_its_rule(case: Case, tmp_path):
    told = refusal(case, tmp_path)
    assert told is not None
    assert case.phrase in told
    assert {phrase for phrase in PHRASES if phrase in told} == {case.phrase}, "a sentence that serves two rules"
    assert told.isprintable()
    assert len(told) < 500
    assert not (tmp_path / "witness").exists(), "a payload ran"


def test_corpus_has_no_case_twice():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 120
    assert len(GOOD) >= 30
    assert set(NASTY) <= set(names)


@pytest.mark.parametrize("name", GOOD)
def test_good_submission_passes(name, base, tmp_path):
    make, language = GOOD[name]
    make(tmp_path / "source")
    reference = base if language else Reference(base.track, base.weights)
    passed = submit(tmp_path / "source", tmp_path / "target", reference)
    assert passed.claim.track == "tiny-v1"
    assert len(passed.weights) == len(passed.folders) == max(1, len(passed.claim.seeds))


# --- what a submission is found to be ---------------------------------------------------------------------------------


def test_seeds_come_in_the_order_of_the_claim(base, tmp_path):
    GOOD["seeds of adapters"][0](tmp_path / "source")
    passed = submit(tmp_path / "source", tmp_path / "target", base)
    assert passed.kind == "lora"
    assert passed.claim.seeds == (2**31 - 1, 0)
    assert passed.folders == ("seed-2147483647", "seed-0")


def test_fingerprints_of_all_files_come_back(base, tmp_path):
    full(tmp_path / "source")
    lines = [sha256(question).hexdigest() for question in (b"a", b"b", b"c")]
    more = "".join(f"[[data]]\nname = 'a'\nfingerprints = '{each}.hashes'\n" for each in "xy")
    put(tmp_path / "source/x.hashes", f"{lines[0]}\n{lines[1]}\n")
    put(tmp_path / "source/y.hashes", f"{lines[1]}\n{lines[2]}")
    with open(tmp_path / "source/submission.toml", "a") as file:
        file.write(more)
    assert submit(tmp_path / "source", tmp_path / "target", base).fingerprints == set(lines)


def test_weights_have_one_digest_in_whatever_file(base, tmp_path):
    full(tmp_path / "source")
    first = submit(tmp_path / "source", tmp_path / "target", base)
    put(tmp_path / "source/model.safetensors", packed(weights(), {"format": "pt"}))
    again = submit(tmp_path / "source", tmp_path / "again", base)
    assert (first.weights == again.weights, first.digest == again.digest) == (True, False)


def test_adapters_with_another_alpha_are_other_weights(base, tmp_path):
    digests = set()
    for alpha in (4, 8):
        source = tmp_path / f"source-{alpha}"
        lora(source)
        put(source / "adapter_config.json", {**ADAPTER, "lora_alpha": alpha})
        digests |= set(submit(source, tmp_path / f"target-{alpha}", base).weights)
    assert len(digests) == 2


def test_template_is_refused_where_the_base_has_none(base, tmp_path):
    assert base.folder
    put(base.folder / "tokenizer_config.json", {})
    full(tmp_path / "source")
    put(tmp_path / "source/chat_template.jinja", TEMPLATE)
    with pytest.raises(Refused, match="the track's base has none"):
        submit(tmp_path / "source", tmp_path / "target", base)


def test_template_is_compared_on_what_the_bases_template_takes(base, tmp_path):
    assert base.folder
    deaf = "{% for m in messages if m.role == 'system' %}{{ raise_exception('no system') }}{% endfor %}"
    put(base.folder / "tokenizer_config.json", {"chat_template": deaf + TEMPLATE})
    full(tmp_path / "source")
    put(tmp_path / "source/chat_template.jinja", SAME)
    submit(tmp_path / "source", tmp_path / "target", base)
    put(tmp_path / "source/chat_template.jinja", SAME.replace("<|end|>", "<|stop|>"))
    with pytest.raises(Refused, match="renders another prompt"):
        submit(tmp_path / "source", tmp_path / "again", base)


def test_digest_changes_with_any_file(base, tmp_path):
    full(tmp_path / "source")
    bare = submit(tmp_path / "source", tmp_path / "bare", base)
    put(tmp_path / "source/README.md", "hello")
    told = submit(tmp_path / "source", tmp_path / "told", base)
    assert bare.weights == told.weights
    assert bare.digest != told.digest


def test_one_seed_in_its_folder_is_scored_from_there(base, tmp_path):
    GOOD["one seed in its folder"][0](tmp_path / "source")
    passed = submit(tmp_path / "source", tmp_path / "target", base)
    assert (passed.claim.seeds, passed.folders) == ((3,), ("seed-3",))


# --- copying ----------------------------------------------------------------------------------------------------------


def test_copy_is_read_only_and_named_by_its_content(tmp_path):
    seeds(tmp_path / "source")
    copied = take(tmp_path / "source", tmp_path / "target", LIMIT)
    assert list(copied) == ["seed-3/model.safetensors", "seed-5/model.safetensors", "submission.toml"]
    for name, digest in copied.items():
        path = tmp_path / "target" / name
        assert sha256(path.read_bytes()).hexdigest() == digest
        assert path.read_bytes() == (tmp_path / "source" / name).read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert stat.S_IMODE((tmp_path / "target/seed-3").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ((), "remove it"),
        (("b.sh",), "; 'b.sh' is refused, too"),
        (("b.sh", ".c", "d/x"), "; 'a.md', 'b.sh', 'd' are refused, too"),
        ([f"{'x' * 40}{i}" for i in range(9)], f"; '{'x' * 40}0', .* '{'x' * 40}3', 5 more are refused, too"),
    ],
)
def test_first_of_several_that_are_refused_is_told_and_the_others_named(more, end, tmp_path):
    full(tmp_path / "source")
    for name in ("a.md", *more):
        put(tmp_path / "source" / name, "")
    with pytest.raises(Refused, match=end + "$"):
        take(tmp_path / "source", tmp_path / "target", LIMIT)


def test_leftovers_of_training_are_not_copied(tmp_path):
    GOOD["what training tools leave"][0](tmp_path / "source")
    left: list[str] = []
    taken = take(tmp_path / "source", tmp_path / "target", LIMIT, left.append)
    assert list(taken) == ["model.safetensors", "submission.toml"]
    assert left == sorted(
        ".cache .gitattributes optimizer.pt rng_state.pth scheduler.pt trainer_state.json training_args.bin".split()
    )


def test_names_are_allowed_as_they_are_copied():
    good = "model.safetensors README.md LICENSE a.hashes seed-0/config.json seed-1/checkpoints/00000001.safetensors"
    assert all(map(allowed, good.split()))
    bad = "optimizer.pt .gitattributes checkpoint-500/adapter_model.safetensors seed-0/optimizer.pt -a.hashes"
    bad += " checkpoints/00000000.safetensors seed-0/submission.toml a*.hashes ../config.json /config.json config.json/"
    assert not any(map(allowed, [*bad.split(), "", "a b.hashes", f"{'a' * 99}.hashes"]))


def test_limit_grows_with_base_and_seeds():
    assert copying.limit(1_000, 0) == copying.limit(1_000, 1) == 8_000 + 2**26
    assert copying.limit(1_000, 3) == 24_000 + 2**26


def test_file_that_is_swapped_after_the_copy_changes_nothing(base, tmp_path):
    full(tmp_path / "source")
    take(tmp_path / "source", tmp_path / "target", LIMIT)
    before = check(tmp_path / "target", base)
    (tmp_path / "source/model.safetensors").unlink()
    (tmp_path / "source/model.safetensors").symlink_to("/etc/passwd")
    put(tmp_path / "source/submission.toml", "track = 'other'")
    assert check(tmp_path / "target", base) == before


def changing(monkeypatch: pytest.MonkeyPatch, change) -> None:
    """Call `change` once, after the first piece of a file was read."""
    read, pending = os.read, [change]

    def then(handle: int, size: int) -> bytes:
        piece = read(handle, size)
        if pending:
            pending.pop()()
        return piece

    monkeypatch.setattr(copying.os, "read", then)


@pytest.mark.parametrize("length", [0, 10, 5_000_000])
def test_file_that_changes_while_it_is_copied_is_refused(length, tmp_path, monkeypatch):
    full(tmp_path / "source")
    changing(monkeypatch, lambda: os.truncate(tmp_path / "source/model.safetensors", length))
    with pytest.raises(Refused, match="changed while it was copied"):
        take(tmp_path / "source", tmp_path / "target", LIMIT)
    assert not (tmp_path / "target").exists()


def test_file_that_becomes_a_link_before_it_is_opened_is_refused(tmp_path, monkeypatch):
    full(tmp_path / "source")
    entries = copying._entries

    def then(handle: int, at: str, left):
        listed = entries(handle, at, left)
        (tmp_path / "source/model.safetensors").unlink()
        (tmp_path / "source/model.safetensors").symlink_to("/etc/passwd")
        return listed

    monkeypatch.setattr(copying, "_entries", then)
    with pytest.raises(Refused, match="cannot be opened as a file"):
        take(tmp_path / "source", tmp_path / "target", LIMIT)


def test_pipe_that_takes_the_place_of_a_file_is_refused_without_waiting(tmp_path, monkeypatch):
    full(tmp_path / "source")
    entries = copying._entries

    def then(handle: int, at: str, left):
        listed = entries(handle, at, left)
        (tmp_path / "source/model.safetensors").unlink()
        os.mkfifo(tmp_path / "source/model.safetensors")
        return listed

    monkeypatch.setattr(copying, "_entries", then)
    with pytest.raises(Refused, match="no plain file any more"):
        take(tmp_path / "source", tmp_path / "target", LIMIT)


def test_limit_counts_all_files_and_is_exact(tmp_path):
    seeds(tmp_path / "source")
    size = sum(path.stat().st_size for path in (tmp_path / "source").rglob("*.*"))
    take(tmp_path / "source", tmp_path / "target", size)
    with pytest.raises(Refused, match="left of what a submission may have"):
        take(tmp_path / "source", tmp_path / "smaller", size - 1)
    assert not (tmp_path / "smaller").exists()


def test_nothing_is_copied_over_what_is_there(tmp_path):
    full(tmp_path / "source")
    put(tmp_path / "target/mine", "mine")
    with pytest.raises(Refused, match="exists: name a folder that does not"):
        take(tmp_path / "source", tmp_path / "target", LIMIT)
    assert (tmp_path / "target/mine").read_text() == "mine"


@pytest.mark.parametrize("name", ["missing", "link", "file", "nul\0"])
def test_source_that_is_no_folder_is_refused(name, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    put(tmp_path / "file", "")
    with pytest.raises(Refused, match="cannot be opened as a folder"):
        take(tmp_path / name, tmp_path / "target", LIMIT)


def test_folder_that_was_not_copied_in_is_checked_for_links_too(base, tmp_path):
    full(tmp_path / "source")
    (tmp_path / "source/README.md").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="symbolic link"):
        check(tmp_path / "source", base)


# --- against other implementations ------------------------------------------------------------------------------------


def test_header_agrees_with_the_safetensors_library(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    arrays = {"b": np.arange(6, dtype=np.float16).reshape(2, 3), "a": np.array(7, np.int64), "c": np.ones((1, 5), bool)}
    save_file(arrays, path, {"format": "np"})
    header = tensors.header(path)
    with safe_open(path, "numpy") as theirs:
        assert header.metadata == theirs.metadata()
        assert header.tensors.keys() == set(theirs.keys())
    for name, array in arrays.items():
        tensor = header.tensors[name]
        assert tensor.shape == array.shape
        assert path.read_bytes()[tensor.start : tensor.stop] == array.tobytes()


def test_bfloat16_is_read_as_the_upper_half_of_a_float(tmp_path):
    put(tmp_path / "x.safetensors", packed({"a": ("BF16", (2,), struct.pack("<HH", 0x3FC0, 0xC000))}))
    header = tensors.header(tmp_path / "x.safetensors")
    assert np.concatenate(list(tensors.values(header, "a"))).tolist() == [1.5, -2.0]


def test_digest_is_that_of_names_shapes_and_bytes_and_of_half_precision_as_what_it_is_in_single(tmp_path):
    put(tmp_path / "x.safetensors", packed({"b": ("U8", (2,), b"xy"), "a": ("BF16", (), b"\xc0\x3f")}))
    by_hand = b'["a", "F32", []]\n\0\0\xc0\x3f' + b'["b", "U8", [2]]\nxy'
    path = tmp_path / "x.safetensors"
    assert tensors.digest(tensors.header(path)) == sha256(by_hand).hexdigest()


def test_template_renders_as_transformers_does():
    from transformers.utils.chat_template_utils import render_jinja_template

    more = "{{ bos_token }}{% for m in messages %}\n  {% if loop.first %}\n{{ m | tojson }}{% continue %}{% endif %}\nx"
    for text in (TEMPLATE, more + "{% endfor %}"):
        theirs, _ = render_jinja_template(
            [[dict(message) for message in each] for each in CONVERSATIONS],
            chat_template=text,
            add_generation_prompt=True,
            bos_token="<s>",
        )
        assert render(text, CONVERSATIONS, {"bos_token": "<s>"}) == theirs


def test_template_is_rendered_from_any_working_folder(tmp_path, monkeypatch):
    put(tmp_path / "jinja2.py", "raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert render("{{ messages[0].role }}", CONVERSATIONS) == ["user", "system", "user"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Folders as transformers and peft save them, of the shipped language model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(LM)
    wrapped: Any = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    )
    wrapped.save_pretrained(home / "peft")
    wrapped.merge_and_unload().save_pretrained(home / "transformers")
    AutoTokenizer.from_pretrained(LM).save_pretrained(home / "transformers")
    for name in ("peft", "transformers"):
        put(home / name / "submission.toml", "track = 'mini-math-v1'\nname = 'a'\nmethod = 'sft'\nlicence = 'MIT'\n")
    return home


@pytest.mark.parametrize(("name", "kind"), [("peft", "lora"), ("transformers", "full")])
def test_folder_as_libraries_save_it_passes(name, kind, saved, tmp_path):
    reference = Reference("mini-math-v1", LM / "model.safetensors", LM)
    assert submit(saved / name, tmp_path / "target", reference).kind == kind


def test_shipped_language_model_itself_has_nothing_to_score(saved, tmp_path):
    reference = Reference("mini-math-v1", LM / "model.safetensors", LM)
    put(tmp_path / "source/submission.toml", (saved / "peft/submission.toml").read_bytes())
    for path in LM.iterdir():
        put(tmp_path / "source" / path.name, path.read_bytes())
    with pytest.raises(Refused, match="the base's own weights"):
        submit(tmp_path / "source", tmp_path / "target", reference)


@pytest.fixture
def half(tmp_path: Path) -> Reference:
    """The shipped language model in bf16 and in two shards, as one on the hub would be."""
    weights = {name: x.bfloat16() for name, x in load_file(LM / "model.safetensors").items()}
    names = sorted(weights)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    folder = tmp_path / "half"
    folder.mkdir()
    for path in LM.iterdir():
        if path.name != "model.safetensors":
            put(folder / path.name, path.read_bytes())
    for file, some in parts.items():
        save_file({name: weights[name] for name in some}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, some in parts.items() for name in some}}
    put(folder / "model.safetensors.index.json", json.dumps(index).encode())
    return Reference("mini-math-v1", folder / "model.safetensors.index.json", folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_base_in_bf16_and_in_shards_is_adapted_in_its_dtype_or_in_single_precision(half, saved, tmp_path, dtype):
    weights = {name: x.bfloat16() for name, x in load_file(LM / "model.safetensors").items()}
    assert half.bytes == 4 * sum(x.numel() for x in weights.values())
    put(tmp_path / "source/submission.toml", (saved / "peft/submission.toml").read_bytes())
    save_file({name: x.to(dtype) for name, x in weights.items()}, tmp_path / "source/model.safetensors")
    with pytest.raises(Refused, match="the base's own weights"):
        submit(tmp_path / "source", tmp_path / "target", half)
    weights["model.norm.weight"][0] += 1
    save_file({name: x.to(dtype) for name, x in weights.items()}, tmp_path / "source/model.safetensors")
    assert submit(tmp_path / "source", tmp_path / "other", half).kind == "full"
    save_file({name: x.to(torch.float16) for name, x in weights.items()}, tmp_path / "source/model.safetensors")
    assert submit(tmp_path / "source", tmp_path / "halves", half).kind == "full"
    save_file({name: x.to(torch.float64) for name, x in weights.items()}, tmp_path / "source/model.safetensors")
    with pytest.raises(Refused, match=r"has F64 .*, the base has BF16 .*in F32, F16, BF16"):
        submit(tmp_path / "source", tmp_path / "last", half)


@pytest.mark.parametrize("name", ["gone.safetensors", "../up.safetensors", "", "a\0.safetensors"])
def test_index_that_names_no_file_beside_it_is_refused(half, name):
    index = json.loads(half.weights.read_bytes())
    index["weight_map"]["model.norm.weight"] = name
    half.weights.write_text(json.dumps(index))
    with pytest.raises(Refused, match="which is no file beside it: bring all parts of the weights"):
        tensors.header(half.weights)


def test_robot_passes_with_weights_and_not_with_adapters(tmp_path):
    reference = Reference("tiny-v1", ROBOT / "model.safetensors")
    header = tensors.header(reference.weights)
    raw = bytearray(reference.weights.read_bytes())
    first = min(tensor.start for tensor in header.tensors.values())
    raw[first : first + 4] = struct.pack("<f", 0.5)
    full(tmp_path / "source")
    put(tmp_path / "source/model.safetensors", bytes(raw))
    assert submit(tmp_path / "source", tmp_path / "target", reference).folders == ("",)
    lora(tmp_path / "adapters")
    with pytest.raises(Refused, match="has no projections to adapt"):
        submit(tmp_path / "adapters", tmp_path / "other", reference)


# --- the claim --------------------------------------------------------------------------------------------------------


def test_claim_says_what_its_file_says():
    text = """
        track = "mini-math-v1"
        name = "Größe"
        method = "rl-1"
        licence = "Apache-2.0"
        seeds = [2, 1]
        [settings]
        lr = 1e-5
        steps = 9
        rslora = true
        [reported]
        gain = 3
        [[data]]
        name = "GSM8K"
        fingerprints = "train.hashes"
    """
    said = claim.read(text)
    assert said == claim.Claim(
        track="mini-math-v1",
        name="Größe",
        method="rl-1",
        licence="Apache-2.0",
        seeds=(2, 1),
        settings={"lr": 1e-5, "steps": 9, "rslora": True},
        data=(claim.Data("GSM8K", fingerprints="train.hashes"),),
        reported={"gain": 3.0},
    )
    assert claim.read(claim.write(said)) == said


def test_unknown_key_names_the_nearest():
    with pytest.raises(Refused, match="unknown key 'licens': did you mean 'licence'"):
        claim.read("licens = 'MIT'")


def test_claim_that_could_not_be_read_is_not_written():
    with pytest.raises(Refused, match="lower-case letters"):
        claim.write(claim.Claim("a", "b", "SFT", "MIT"))
    with pytest.raises(Refused, match="types that Claim says"):
        claim.write(claim.Claim("a", "b", "sft", "MIT", seeds=[1]))  # pyright: ignore[reportArgumentType]


# --- what it takes ----------------------------------------------------------------------------------------------------


def test_gate_loads_no_model_library():
    code = "import sys, razorbench.submissions.gate; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    others = {name for name in loaded if not name.startswith("_")} - set(sys.stdlib_module_names)
    assert not others & {"torch", "transformers", "safetensors", "peft", "tokenizers", "jinja2"}
    assert others == {"razorbench", "numpy"}


@pytest.mark.slow
def test_largest_submissions_take_less_than_300_mb():
    results = list(measure(case for case in CASES if case.name in NASTY))
    assert len(results) >= 12
    assert all(each.refused for each in results)
    assert max(each.peak for each in results) < 300, results
