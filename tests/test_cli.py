"""The command line as scripts and people meet it: exit codes, one sentence with its cure, JSON that parses."""

import fcntl
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest
from safetensors.torch import load_file, save_file

from razorbench import Missing, Refused
from razorbench.harness.cli import adapting, main, scoring
from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.learn.checkpoint import Checkpoint
from razorbench.harness.learn.settings import Settings, explained
from razorbench.harness.measure.record import answers_of, read, samples_of
from razorbench.harness.measure.record import folder as record_folder
from razorbench.harness.measure.score import Bench
from razorbench.harness.report.export import COLUMNS
from razorbench.harness.runs.run import Spec, run
from razorbench.harness.runs.sweep import Done, plan, sweep
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import BASES, TRACKS
from razorbench.tasks import idx
from tests import test_record
from tests.conftest import needs_data
from tests.toys import SPELLING, Dialogue

ROOT = Path(__file__).parents[1]
TRACK = "parity-mnist-v1"
SHORT = ("--steps", "2", "--batch", "32", "--warmup", "0")
MAIN = "from razorbench.harness.cli.main import main; main()"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def based(bench: Bench, shared_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that holds the base, and fewer items to score."""
    shutil.copytree(shared_home / "bases", home / "bases")
    small = replace(TRACKS[TRACK], items=500, drift_items=200, checkpoint_items=100, checkpoints=1)
    monkeypatch.setitem(TRACKS, TRACK, small)
    return home


@pytest.fixture
def adapted(razorbench, based: Path, tmp_path: Path) -> Path:
    """A checkpoint folder; its base is in `home`."""
    out = tmp_path / "out"
    assert razorbench("adapt", TRACK, "--method", "sft", *SHORT, "--out", out, "--home", based).code == 0
    return out


@pytest.fixture
def scored(razorbench, adapted: Path, based: Path) -> str:
    """Id of a scored checkpoint in `home`."""
    return razorbench("score", adapted, "--track", TRACK, "--home", based, "--json").json["id"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """What `adapt` and `sweep` would have done, had they not been kept from it."""
    specs: list[Spec] = []

    def adapt_into(folder: Path, bench: Any, spec: Spec, **how: Any) -> Checkpoint:
        specs.append(spec)
        return Checkpoint(folder, None)

    def sweeps(work: Any, *how: Any) -> Iterator[Done]:
        for _, wanted in work:
            specs.extend(wanted)
        return iter(())

    monkeypatch.setattr("razorbench.harness.measure.score.Bench", lambda *how: None)
    monkeypatch.setattr("razorbench.harness.runs.run.adapt_into", adapt_into)
    monkeypatch.setattr("razorbench.harness.runs.sweep.sweeps", sweeps)
    return specs


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a sweep know what this process knows, toys included."""
    monkeypatch.setattr("razorbench.harness.runs.executors.get_context", lambda kind: get_context("fork"))


# --- what is given ----------------------------------------------------------------------------------------------------

ADAPT = ("adapt", TRACK, "--out", "OUT", "--method")
GRID = ("sweep", TRACK, "--methods", "sft", "--grid")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("adapt", "parity-mnist-v2", "--out", "OUT", "--method", "sft"), r"unknown track .*did you mean '.*-v1'"),
        (("score", "OUT", "--track", "parity-mnits-v1"), "unknown track .*did you mean 'parity-mnist-v1'"),
        (("results", "--track", "nothing-like-it"), "unknown track 'nothing-like-it'; `razorbench tracks` lists"),
        (("export", "--format", "hmtl", "--out", "OUT"), "unknown format 'hmtl'; did you mean 'html'"),
        (("export", TRACK, "--format", "xml", "--out", "OUT"), "use json, csv, parquet, html, every-eval-ever"),
        (
            ("export", TRACK, "--format", "csv", "--out", "OUT"),
            "nothing to export on parity-mnist-v1 .*`razorbench demo`",
        ),
        (("export", "parity-mnist", "--format", "csv", "--out", "OUT"), "unknown track .*did you mean '.*-v1'"),
        (("plot", "parity-mnist", "--out", "OUT"), "unknown track .*did you mean 'parity-mnist-v1'"),
        (("plot", TRACK, "--out", "OUT"), "nothing is scored on parity-mnist-v1 .*run `razorbench demo`"),
        (("task", "check", "parity-mnist"), "unknown task .*did you mean 'parity-mnist-v1'"),
        (("task", "new", "Word Sums"), "'word-sums-v1'"),
        (("show", "nothing"), "no submission 'nothing' in .*home: `razorbench results` shows them"),
        (("sweep", TRACK, "--methods", "sft,gprpo"), "unknown method 'gprpo'; did you mean 'grpo'"),
        ((*GRID, "lr"), "'lr' should read field=value, such as lr=1e-4"),
        ((*GRID, "lr=fast"), "'fast' is no float, which lr needs; correct the value"),
        ((*GRID, "steps=1.5"), "'1.5' is no int, which steps needs"),
        ((*GRID, "lrr=1"), "unknown setting 'lrr'; did you mean 'lr'"),
        ((*GRID, "schedule=linear"), "schedule 'linear' is unknown; choose constant or cosine"),
        ((*GRID, "batch=0"), "batch 0 cannot be; give a number that is at least 1"),
        ((*GRID, "lr=1e-4", "--workers", "-1"), "workers -1 cannot be; give a number that is at least 0"),
        ((*ADAPT, "gprpo"), "unknown method 'gprpo'; did you mean 'grpo'"),
        ((*ADAPT, "sft", "--batch", "0"), "batch 0 cannot be; give a number that is at least 1"),
        ((*ADAPT, "sft", "--steps=-1"), "steps -1 cannot be; give a number that is at least 0"),
        ((*ADAPT, "sft", "--lr", "nan"), "lr nan cannot be; give a number that is at least 0"),
        ((*ADAPT, "sft", "--save-every", "-1"), "save-every -1 cannot be; give a number that is at least 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_cure(razorbench, home: Path, tmp_path: Path, argv: tuple, sentence: str):
    argv = tuple(tmp_path / "out" if argument == "OUT" else argument for argument in argv)
    ran = razorbench(*argv, "--home", home)
    assert ran.code == 2
    assert re.search(sentence, ran.sentence), ran.sentence
    assert not (tmp_path / "out").exists()


@needs_data
@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("sft", "--style", "zero-two"), "style 'zero-two'.*zero-one.*zero-four"),
        (("distil",), "teacher"),
        (("distil", "--teacher", "nowhere"), "nowhere is not a folder; name one that holds model.safetensors"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(razorbench, based: Path, tmp_path: Path, argv, sentence: str):
    ran = razorbench("adapt", TRACK, "--out", tmp_path / "out", *SHORT, "--home", based, "--method", *argv)
    assert ran.code == 2
    assert re.search(sentence, ran.sentence), ran.sentence


@pytest.mark.parametrize(
    "argv", [("adpat", TRACK), ("adapt", TRACK, "--lrr", "1"), ("adapt",), ("export", "--format"), ("tracks", "--jsn")]
)
def test_a_command_line_that_cannot_be_read_exits_with_2(argv: tuple, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["razorbench", *argv])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_every_setting_is_a_flag_of_adapt(razorbench, asked: list[Spec], home: Path, monkeypatch):
    monkeypatch.setattr(Spec, "check", lambda *_: None)  # some say nothing to this method
    other: dict[str, Any] = {
        field.name: {int: 7, float: 0.25, str: "other"}[type(field.default)] for field in fields(Settings)
    }
    other |= {"schedule": "cosine", "optimizer": "muon"}
    flags = [part for name, value in other.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert razorbench("adapt", TRACK, "--method", "sft", "--out", "x", "--home", home, *flags).code == 0
    assert asked == [Spec("sft", Settings(**other))]


def test_flags_override_the_settings_of_the_track_and_only_those_given(razorbench, asked: list[Spec], monkeypatch):
    own = Settings(lr=5e-4, batch=64, warmup=3)
    monkeypatch.setitem(TRACKS, TRACK, replace(TRACKS[TRACK], settings=own))
    default = Settings()
    razorbench("adapt", TRACK, "--method", "sft", "--out", "batch", "--lr", str(default.lr))
    razorbench("adapt", TRACK, "--method", "sft", "--out", "x", f"--warmup={default.warmup}", "--seed", 3)
    razorbench("adapt", TRACK, "--method", "sft", "--out", "x", "--lr=1e-4", "--max_grad_norm", 2)
    assert asked == [
        Spec("sft", replace(own, lr=default.lr)),  # a folder named like a setting is no flag
        Spec("sft", replace(own, warmup=default.warmup), 3),
        Spec("sft", replace(own, lr=1e-4, max_grad_norm=2.0)),
    ]


def test_settings_are_kept_that_a_caller_in_python_gives(asked: list[Spec], monkeypatch):
    own = Settings(lr=5e-4, batch=64, warmup=3)
    monkeypatch.setitem(TRACKS, TRACK, replace(TRACKS[TRACK], settings=own))
    monkeypatch.setattr(sys, "argv", ["script.py", "--lr", "7", "--kl=1"])  # the caller's own, none of our business
    adapt = partial(adapting.adapt, TRACK, method="sft", out=Path("x"))
    adapt(settings={"lr": Settings().lr})
    adapt(settings=Settings(lr=1e-3))
    adapt()
    assert asked == [
        Spec("sft", replace(own, lr=Settings().lr)),
        Spec("sft", Settings(lr=1e-3)),  # a whole value is the whole truth
        Spec("sft", own),
    ]
    with pytest.raises(Refused, match="unknown setting 'lrr'; did you mean 'lr'"):
        adapt(settings={"lrr": 1})


def test_help_tells_every_setting_with_its_meaning(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["razorbench", "adapt", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--max-grad-norm FLOAT Gradients are clipped to this norm. (default: the track's)" in shown
    assert set(explained()) == {field.name for field in fields(Settings)}
    assert all(line in shown for line in explained().values())


def test_a_sweep_is_methods_times_grid_times_seeds(razorbench, asked: list[Spec], home: Path):
    methods, grid = "sft,grpo:kl=0.1,sft:style=zero-four", ("lr=1e-5,1e-4", "schedule=constant,cosine")
    ran = razorbench("sweep", TRACK, "--methods", methods, "--grid", *grid, "--seeds", 0, 2, "--home", home, "--json")
    assert ran.json == {"runs": 24, "failed": 0}
    own = TRACKS[TRACK].settings
    expected = [
        Spec(method, replace(own, lr=lr, schedule=schedule, **changes), seed)
        for seed in (0, 2)
        for method, changes in (("sft", {}), ("grpo", {"kl": 0.1}), ("sft", {"style": "zero-four"}))
        for lr in (1e-5, 1e-4)
        for schedule in ("constant", "cosine")
    ]
    assert asked == expected


def test_a_setting_of_a_method_counts_more_than_the_grid():
    (one,) = plan(TRACKS[TRACK], ["sft:max-grad-norm=2"], ["max-grad-norm=3"], [0])
    assert one.settings.max_grad_norm == 2.0


def test_a_sweep_with_a_failed_run_exits_with_1_and_names_it(razorbench, home: Path, monkeypatch):
    def sweeps(work: Any, *how: Any) -> Iterator[Done]:
        ((track, specs),) = work
        yield Done(track, specs[0], None, "ValueError: no luck")
        yield Done(track, specs[1], test_record.make())

    monkeypatch.setattr("razorbench.harness.runs.sweep.sweeps", sweeps)
    ran = razorbench("sweep", TRACK, "--methods", "sft,grpo", "--home", home)
    assert ran.code == 1
    assert ran.err.splitlines()[:2] == [
        "failed sft, seed 0: ValueError: no luck",
        f"{TRACK} 2 of 2: grpo, seed 0: gain +50.0 [+10.0, +90.0], retention -20.0 [-50.0, +10.0], drift 0.4; 10 s",
    ]
    assert ran.sentence == "failed: 1 of 2 runs failed; the same command tries them again"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two toy tracks with a demo: one whose base is shipped, and one whose data are not to be had."""

    class Nowhere(Dialogue):
        def __init__(self) -> None:
            raise Missing("no dialogues at hand; set RAZORBENCH_DATA")

    own = replace(SPELLING, demo={"sft": (0.1, 0.2), "reinforce": (0.1,)})
    monkeypatch.setitem(REGISTERED["task"], "nowhere-v1", Nowhere)
    tracks = [replace(own, id="far-v1", new="nowhere-v1"), own]
    monkeypatch.setattr(scoring, "FRESH", tracks)
    for track in tracks:
        monkeypatch.setitem(TRACKS, track.id, track)


@pytest.mark.slow
@pytest.mark.usefixtures("toys", "forked", "shown")
def test_a_demo_in_a_file_tells_each_run_shows_each_track_and_leaves_out_what_lacks_data(razorbench, home: Path):
    ran = razorbench("demo", "--workers", 2, "--home", home)
    assert ran.code == 0
    told = [re.sub(r"\[.*?\]|[+-]?\d+\.\d+|\d+ s$", "#", line) for line in ran.err.splitlines()]
    assert [line.split(":")[0] for line in told] == [f"spelling-v1 {i} of 3" for i in (1, 2, 3)]
    assert {line.partition(": ")[2] for line in told} == {  # in the order in which they end
        f"{run}, seed 0: gain # #, retention # #, drift #; #" for run in ("sft", "sft lr #", "reinforce")
    }
    lines = ran.out.splitlines()
    assert lines[0].startswith("6 runs on 2 tracks; the first leaderboard comes")
    assert "spelling-v1: Two words" in lines[1]
    assert lines[-1] == "far-v1 was left out: no dialogues at hand; set RAZORBENCH_DATA; then the same command adds it."
    assert "razorbench board" in lines[-2]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2800-\u28ff━╸]", ran.err)  # no control characters, no bar
    before = {path: path.stat().st_mtime_ns for path in (home / "records").iterdir()}
    again = razorbench("demo", "--tracks", "spelling-v1", "--home", home)
    assert again.code == 0
    assert again.err.count("; done before") == 3
    assert {path: path.stat().st_mtime_ns for path in (home / "records").iterdir()} == before
    assert "left out" not in again.out


@pytest.mark.usefixtures("toys", "shown")
def test_a_demo_of_a_track_that_has_none_is_refused(razorbench, home: Path):
    ran = razorbench("demo", "--tracks", "parity-mnist-anew-v1", "--home", home)
    assert (ran.code, ran.sentence[:48]) == (2, "refused: parity-mnist-anew-v1 has no demo; choos")


@pytest.mark.slow
@pytest.mark.usefixtures("toys", "forked", "shown")
def test_what_a_sweep_has_is_what_one_run_alone_gives(home: Path, tmp_path: Path):
    spec = Spec("sft", SPELLING.settings)
    (done,) = sweep(SPELLING, [spec], home, workers=2)
    alone = run(Bench(SPELLING, tmp_path / "alone"), spec, tmp_path / "alone")
    assert done.record is not None
    for name in ("id", "scores", "drifts", "curve", "gain", "retention_low"):
        assert getattr(done.record, name) == getattr(alone, name), name
    for part in (samples_of, answers_of):
        assert part(home, alone.id) == part(tmp_path / "alone", alone.id)


def test_the_demo_begins_with_what_is_shipped_and_shows_sft_and_rl_on_each_track(asked: list[Spec], monkeypatch):
    work: list[Any] = []
    monkeypatch.setattr("razorbench.harness.runs.sweep.sweeps", lambda given, *how: work.extend(given) or iter(()))
    scoring.demo()
    assert [bool(track.base.sha256) for track, _ in work] == [True, True, True, True, False]
    for track, specs in work:
        methods = {spec.method for spec in specs}
        assert "sft" in methods
        assert methods & {"reinforce", "grpo", "dr-grpo"}, track.id


@pytest.mark.usefixtures("toys")
def test_adapting_in_a_file_says_now_and_then_how_far_it_is(razorbench, home: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("razorbench.harness.cli.terminal.PAUSE", -1.0)
    argv = ("adapt", SPELLING.id, "--method", "sft", "--steps", 3, "--out", tmp_path / "out", "--home", home)
    ran = razorbench(*argv)
    assert ran.code == 0
    assert [line.rpartition(", ")[0] for line in ran.err.splitlines()] == [
        f"adapting sft, seed 0: step {step} of 3" for step in (1, 2, 3)
    ]


# --- what lies in the folders -----------------------------------------------------------------------------------------


def test_a_folder_of_another_run_is_not_adapted_into(razorbench, adapted: Path, based: Path):
    adapt = ("adapt", TRACK, *SHORT, "--home", based, "--out", adapted)
    before = (adapted / "checkpoint.json").read_bytes()
    for argv, name in (
        ((*adapt, "--method", "grpo"), r"another method \(sft, not grpo\)"),
        ((*adapt, "--method", "sft", "--seed", 1), r"another seed \(0, not 1\)"),
        ((*adapt, "--method", "sft", "--lr", 1), r"other settings \({'lr': 0\.0001}, not {'lr': 1\.0}\)"),
    ):
        ran = razorbench(*argv)
        assert ran.code == 2
        assert re.search(f"holds a run with {name}.*; choose another --out", ran.sentence), ran.sentence
    assert (adapted / "checkpoint.json").read_bytes() == before
    assert razorbench(*adapt, "--method", "sft").code == 0


@needs_data
def test_a_folder_with_other_files_is_not_adapted_into(razorbench, based: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("")
    ran = razorbench("adapt", TRACK, "--method", "sft", *SHORT, "--out", tmp_path, "--home", based)
    assert ran.code == 2
    assert "is not empty and holds no checkpoint.json; choose a new folder for --out" in ran.sentence
    ran = razorbench("adapt", TRACK, "--method", "sft", *SHORT, "--out", tmp_path / "thesis.tex", "--home", based)
    assert ran.code == 2
    assert "thesis.tex is not a folder; choose a new folder for --out" in ran.sentence


def test_a_folder_without_weights_says_what_to_do(razorbench, home: Path, tmp_path: Path):
    score = ("score", tmp_path, "--track", TRACK, "--home", home)
    ran = razorbench(*score)
    assert ran.code == 2
    assert "holds no model.safetensors; save the weights there as safetensors" in ran.sentence
    (tmp_path / "checkpoint.json").write_text("{}")
    ran = razorbench(*score)
    assert ran.code == 2
    assert "holds no model.safetensors; run the same `razorbench adapt` again to finish it" in ran.sentence
    ran = razorbench("score", tmp_path / "nowhere", "--track", TRACK, "--home", home)
    assert ran.code == 2
    assert "nowhere is not a folder; name one that holds model.safetensors" in ran.sentence


def test_weights_that_do_not_fit_are_refused(razorbench, adapted: Path, based: Path, tmp_path: Path):
    score = ("score", tmp_path / "brought", "--track", TRACK, "--home", based)
    weights = tmp_path / "brought" / "model.safetensors"
    weights.parent.mkdir()
    tensors = load_file(adapted / "model.safetensors")
    name = min(tensors)
    save_file({**tensors, name: tensors[name][:1]}, weights)
    ran = razorbench(*score)
    assert ran.code == 2
    assert re.search(r"model\.safetensors holds .*; bring weights of that network", ran.sentence), ran.sentence
    import torch

    for content in (tensors, {"weights": [1, 2, 3]}):
        torch.save(content, weights)  # a pickle, which is never opened
        ran = razorbench(*score)
        assert ran.code == 2
        assert re.search("is not a readable safetensors file .*save the weights again", ran.sentence), ran.sentence
    (weights.parent / "checkpoint.json").write_text("[]")
    ran = razorbench(*score)
    assert ran.code == 2
    assert "checkpoint.json is not a checkpoint manifest" in ran.sentence
    assert not (based / "records").exists()


def test_a_checkpoint_of_another_track_is_not_scored(razorbench, adapted: Path, based: Path):
    manifest = json.loads((adapted / "checkpoint.json").read_text())
    (adapted / "checkpoint.json").write_text(json.dumps({**manifest, "track": "other-v1"}))
    ran = razorbench("score", adapted, "--track", TRACK, "--home", based)
    assert ran.code == 2
    assert "was adapted on other-v1, not parity-mnist-v1; score it with --track other-v1" in ran.sentence


def test_a_damaged_base_names_the_file_to_remove(razorbench, based: Path, tmp_path: Path):
    (base,) = (based / "bases").glob("parity-fashion-v1-*.safetensors")  # others may have made other bases there
    base.write_bytes(base.read_bytes()[:1000])
    adapt = ("adapt", TRACK, "--method", "sft", *SHORT, "--out", tmp_path / "out", "--home", based)
    ran = razorbench(*adapt)
    assert ran.code == 2
    assert f"{base} is damaged; remove it, and the same command makes the base again" in ran.sentence


def test_a_torn_state_names_what_to_remove(razorbench, based: Path, tmp_path: Path):
    adapt = ("adapt", TRACK, "--method", "sft", *SHORT, "--out", tmp_path / "out", "--home", based)
    assert razorbench(*adapt).code == 0
    (tmp_path / "out" / "model.safetensors").unlink()
    state = tmp_path / "out" / "state-00000001"
    state.mkdir()
    ran = razorbench(*adapt)
    assert ran.code == 2
    assert f"{state} is torn; remove it and give the same command again" in ran.sentence
    state.rmdir()
    assert razorbench(*adapt).code == 0


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder to damage: links to the real files."""
    for name in ("mnist", "fashion_mnist"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in (data / name).iterdir():
            (tmp_path / "data" / name / file.name).symlink_to(file)
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path / "data"))
    idx.load.cache_clear()
    yield tmp_path / "data"
    idx.load.cache_clear()


@pytest.mark.slow
def test_missing_data_are_named_with_their_place_and_cure(razorbench, home: Path, own_data: Path, tmp_path: Path):
    shutil.rmtree(own_data)
    own_data.mkdir()
    for argv in (("adapt", TRACK, "--method", "sft", "--out", tmp_path / "out"), ("sweep", TRACK, "--methods", "sft")):
        ran = razorbench(*argv, "--home", home)
        assert ran.code == 2
        assert f"{own_data}/" in ran.sentence
        assert re.search("is missing; put the four idx files of .*mnist there, or unset RAZORBENCH_DATA", ran.sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_damaged_data_are_refused(razorbench, home: Path, own_data: Path, tmp_path: Path):
    file = own_data / "mnist" / "train-labels-idx1-ubyte.gz"
    good = file.read_bytes()
    content = gzip.decompress(good)
    file.unlink()
    for bad, sentence in (
        (gzip.compress(content[:-1] + b"\0"), r"mnist/train-labels-idx1-ubyte is not the published file \(its sha256"),
        (good[:1000], r"train-labels-idx1-ubyte\.gz cannot be read .*; fetch it again"),
        (good[:1000] + bytes(100) + good[1100:], r"train-labels-idx1-ubyte\.gz cannot be read .*; fetch it again"),
        (b"<html>not found</html>", r"train-labels-idx1-ubyte\.gz cannot be read .*; fetch it again"),
    ):
        file.write_bytes(bad)
        idx.load.cache_clear()
        ran = razorbench("adapt", TRACK, "--method", "sft", "--out", tmp_path / "out", "--home", home)
        assert ran.code == 2
        assert re.search(sentence, ran.sentence), ran.sentence


@pytest.mark.slow
def test_without_data_and_without_the_hub_the_cure_is_one_sentence(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "RAZORBENCH_DATA"}
    adapt = ("adapt", TRACK, "--method", "sft", "--out", tmp_path / "out", "--home", tmp_path / "home")
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, *adapt],
        env={**environment, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    last = ran.stderr.strip().rpartition("\n")[2]
    assert re.search("refused: cannot fetch .* from the hub .*; set RAZORBENCH_DATA to a folder that holds", last), last


# --- the store and the disk -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_torn_database_exits_with_1_and_rebuild_cures_it(razorbench, scored: str, adapted: Path, home: Path):
    before = razorbench("results", "--home", home, "--json").json
    for file in (home / "razorbench.duckdb", home / "published.duckdb"):
        file.write_bytes(file.read_bytes()[:5000])
    for argv in (("score", adapted, "--track", TRACK), ("results",), ("show", scored)):
        ran = razorbench(*argv, "--home", home)
        assert ran.code == 1
        assert re.search(r"\.duckdb is damaged .*: make it again with `razorbench rebuild`", ran.sentence)
    assert razorbench("rebuild", "--home", home, "--json").json == {"records": 1}
    assert razorbench("results", "--home", home, "--json").json == before


@pytest.mark.slow
def test_a_torn_record_is_named(razorbench, scored: str, home: Path):
    path = record_folder(home, scored) / "record.json"
    path.write_text(path.read_text()[:100])
    ran = razorbench("rebuild", "--home", home)
    assert ran.code == 2
    assert re.search(f"{scored}/record.json is torn .*: restore it from a copy or remove its folder", ran.sentence)


@pytest.mark.slow
@pytest.mark.usefixtures("toys", "forked")
def test_a_torn_record_of_another_track_holds_up_no_command(razorbench, home: Path, tmp_path: Path):
    torn = home / "records" / "0123456789abcdef" / "record.json"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"schema": 1, "track": "mini-math-v1", "sco')
    named = f"left out: {torn} is torn"
    ran = razorbench("sweep", SPELLING.id, "--methods", "sft", "--workers", 1, "--home", home)
    assert ran.code == 0
    assert ran.err.count(str(torn)) == ran.err.count(named) == 1
    out = tmp_path / "out"
    assert razorbench("adapt", SPELLING.id, "--method", "reinforce", "--out", out, "--home", home).code == 0
    scored = razorbench("score", out, "--track", SPELLING.id, "--home", home, "--json")
    assert scored.err.count(named) == 1
    rows = razorbench("results", "--home", home, "--json")
    assert len(rows.json) == 2
    assert rows.err.count(named) == 1
    for argv in (
        ("show", scored.json["id"]),
        ("export", SPELLING.id, "--format", "csv", "--out", tmp_path / "out.csv"),
        ("export", "--format", "every-eval-ever", "--out", tmp_path / "records"),
        ("plot", SPELLING.id, "--out", tmp_path / "plots"),
        ("hide", scored.json["id"], "--reason", "why"),
        ("worker", "--drain"),
    ):
        assert razorbench(*argv, "--home", home).code == 0, argv


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [True, False])  # its row tells whose it is, or else making it again does
@pytest.mark.usefixtures("toys", "forked")
def test_a_sweep_whose_own_record_is_torn_says_so_and_does_the_others(razorbench, home: Path, indexed: bool):
    sweep = ("sweep", SPELLING.id, "--workers", 1, "--home", home, "--methods")
    assert razorbench(*sweep, "sft").code == 0
    (record,) = (home / "records").iterdir()
    whole = (record / "record.json").read_text()
    (record / "record.json").write_text(whole[:100])
    if not indexed:
        (home / "razorbench.duckdb").unlink()
    ran = razorbench(*sweep, "sft,reinforce")
    assert ran.code == 1
    assert ran.sentence == "failed: 1 of 2 runs failed; the same command tries them again"
    assert re.search(rf"failed sft, seed 0: {record}/record.json is torn .* or remove its folder", ran.err)
    assert len(list((home / "records").iterdir())) == 2
    shutil.rmtree(record)  # as the sentence says
    assert razorbench(*sweep, "sft,reinforce").code == 0
    assert json.loads((record / "record.json").read_text())["gain"] == json.loads(whole)["gain"]


@pytest.mark.slow
def test_a_store_in_use_is_named_after_a_while(razorbench, scored: str, adapted: Path, home: Path, monkeypatch):
    monkeypatch.setattr("razorbench.harness.store.database.Store", partial(Store, wait=0.1))
    score = ("score", adapted, "--track", TRACK, "--home", home)
    with open(home / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = razorbench(*score)
        assert ran.code == 1
        assert re.search(r"the store is locked by process \d+ .*: wait for it or end it, then try again", ran.sentence)
        assert razorbench("results", "--home", home).code == 0  # readers have a copy of their own
    script = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, home / "razorbench.duckdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout
    other.stdout.readline()
    ran = razorbench(*score)
    other.communicate()
    assert ran.code == 1
    assert re.search(r"razorbench\.duckdb is open in another program .*: close it there, then try again", ran.sentence)
    assert razorbench(*score).code == 0


@pytest.mark.parametrize("room", [10, 500, 100_000])  # the manifest, the curve, the weights do not fit
def test_adapting_on_a_full_disk_is_one_sentence_and_goes_on_later(
    razorbench, based: Path, tmp_path: Path, small_disk, room: int
):
    adapt = (
        "adapt",
        TRACK,
        "--method",
        "sft",
        "--steps",
        3,
        "--warmup",
        0,
        "--save-every",
        2,
        "--batch",
        32,
        "--home",
        based,
    )
    with_room, out = tmp_path / "with-room", tmp_path / "out"
    assert razorbench(*adapt, "--out", with_room).code == 0
    small_disk(room)
    ran = razorbench(*adapt, "--out", out)
    assert ran.code == 1
    assert re.search("the disk is full .*; make room and run the same command again", ran.sentence), ran.sentence
    assert not (out / "model.safetensors").exists()
    assert not list(out.glob("state-*"))
    small_disk(resource.RLIM_INFINITY)
    assert razorbench(*adapt, "--out", out).code == 0
    assert (out / "model.safetensors").read_bytes() == (with_room / "model.safetensors").read_bytes()
    assert {path.name for path in out.rglob("*")} == {path.name for path in with_room.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("room", [100, 5000, 1_000_000])
def test_scoring_on_a_full_disk_is_one_sentence_and_goes_on_later(
    razorbench, adapted: Path, based: Path, small_disk, room: int
):
    score = ("score", adapted, "--track", TRACK, "--home", based)
    if room < 1_000_000:
        Store(based).reconcile()  # else there is no room for the database itself
    small_disk(room)
    ran = razorbench(*score)
    assert ran.code == 1
    assert re.search("disk .*(make room and run the same command|free some space, then try) again", ran.sentence)
    small_disk(resource.RLIM_INFINITY)
    assert razorbench(*score).code == 0
    assert len(razorbench("results", "--home", based, "--json").json) == 1
    assert [path.name for path in (based / "records").iterdir()] == [
        path.name for path in (based / "records").glob("[!.]*")
    ]


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that this process may read and not write, even if it is root's."""
    folder = Path(tempfile.mkdtemp())
    me = os.geteuid()

    yield folder
    os.seteuid(me)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def read_only(folder: Path) -> None:
    """From now on the folder cannot be written to by this process."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_a_home_that_cannot_be_written_is_named(razorbench, nobody: Path):
    read_only(nobody)
    for argv in (("results",), ("rebuild",), ("show", "nothing")):
        ran = razorbench(*argv, "--home", nobody)
        assert ran.code == 1
        assert re.search(f"{nobody}.* cannot be used .*: check the folder and its permissions", ran.sentence)


def test_a_board_that_can_only_be_read_is_shown(razorbench, scored: str, home: Path, nobody: Path):
    shutil.copytree(home, nobody / "home")
    read_only(nobody)
    assert [row["method"] for row in razorbench("results", "--home", nobody / "home", "--json").json] == ["sft"]
    assert razorbench("show", scored, "--home", nobody / "home").code == 0


def test_a_folder_that_cannot_be_written_is_named(razorbench, scored: str, home: Path, nobody: Path, monkeypatch):
    export = razorbench("export", "--home", home, "--format", "csv", "--out", home / "nowhere" / "x.csv")
    assert export.code == 1
    assert re.search("nowhere/x.csv.*check the folder and its permissions", export.sentence), export.sentence
    (home / "file").write_text("")
    adapt = razorbench("adapt", TRACK, "--method", "sft", *SHORT, "--out", home / "file" / "out", "--home", home)
    assert adapt.code == 1
    assert re.search("file/out.*check the folder and its permissions", adapt.sentence), adapt.sentence


# --- what comes out ---------------------------------------------------------------------------------------------------

LISTS: dict[str, set[str]] = {
    "tracks": {"track", "question", "agent", "new", "priors"},
    "tasks": {"task", "asks", "rule", "source", "licence", "chance", "example"},
    "agents": {"agent", "what"},
    "methods": {"method", "about", "weight", "surrogate", "normaliser"},
    "doctor": {"what", "state", "detail", "cure"},
}


@pytest.mark.parametrize("command", LISTS)
def test_lists_are_tables_for_people_and_json_for_scripts(razorbench, home: Path, command: str):
    rows = razorbench(command, "--home", home, "--json").json
    assert rows
    assert all(set(row) >= LISTS[command] for row in rows)
    shown = razorbench(command, "--home", home)
    assert shown.code == 0
    assert all(str(next(iter(row.values()))) in shown.out for row in rows)


def test_the_card_of_one_task_is_shown_whole_with_the_protocol_of_a_robot(razorbench, home: Path):
    shown, told = razorbench("tasks", "fetch-air-last-v1"), razorbench("tasks", "fetch-air-last-v1", "--json").json
    assert "protocol horizon: 50\n" in shown.out
    assert "protocol success: end\n" in shown.out
    assert (told["task"], told["protocol"]["success"]) == ("fetch-air-last-v1", "end")
    assert "protocol" not in razorbench("tasks", "mini-math-v1").out
    assert razorbench("tasks", "fetch-air-lost-v1").code == 2


def test_an_empty_board_says_how_to_fill_it(razorbench, home: Path):
    assert razorbench("results", "--home", home, "--json").json == []
    ran = razorbench("results", "--home", home)
    assert ran.code == 0
    assert "razorbench sweep parity-mnist-v1 --methods" in ran.out


@pytest.mark.slow
def test_adapt_score_results_show_rebuild_and_plot_are_one_walk(razorbench, based: Path, tmp_path: Path):
    out, at = tmp_path / "out", ("--home", based)
    ran = razorbench("adapt", TRACK, "--method", "grpo", *SHORT, "--seed", 3, "--out", out, *at)
    assert f"razorbench score {out} --track {TRACK}" in ran.out
    ran = razorbench("score", out, "--track", TRACK, "--name", "mine", *at)
    assert ran.code == 0
    told = re.search(r"razorbench show (\w+)", ran.out)
    assert told
    record = read(record_folder(based, told[1]))
    assert f"mine scored: gain {record.gain:+.1f} [" in ran.out
    assert (record.name, record.method, record.seed, record.steps) == ("mine", "grpo", 3, 2)
    assert record.settings == asdict(Settings(steps=2, batch=32, warmup=0))
    (row,) = razorbench("results", "--track", TRACK, *at, "--json").json
    assert (row["name"], row["gain"], row["retention"], row["drift"], row["seeds"]) == (
        *("mine", record.gain, record.retention, record.drifts[0].nats),
        1,
    )
    assert set(row) >= {name for name in COLUMNS if ":" not in name}
    assert "grpo" in razorbench("results", *at).out
    for key in (record.id, "mine"):
        shown = razorbench("show", key, *at, "--json").json
        assert shown["run"]["id"] == record.id
        assert set(shown) == {"run", "scores", "drifts", "curve", "measures", "events", "folder"}
        assert f"mine ({record.id}) on {TRACK}: grpo, seed 3" in razorbench("show", key, *at).out
    near = razorbench("show", "mime", *at)
    assert (near.code, near.sentence) == (2, "refused: no submission 'mime': did you mean 'mine'?")
    for file in ("razorbench.duckdb", "published.duckdb"):
        (based / file).unlink()
    assert "is rebuilt from 1 records" in razorbench("rebuild", *at).out
    assert razorbench("results", *at, "--json").json == [row]
    files = razorbench("plot", TRACK, "--out", tmp_path / "figures", *at, "--json").json["files"]
    assert files
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)


def test_scoring_a_folder_twice_gives_one_row(razorbench, adapted: Path, based: Path):
    score = ("score", adapted, "--track", TRACK, "--home", based)
    first, again = razorbench(*score, "--json").json, razorbench(*score, "--json").json
    assert first == again
    assert set(first) == {"id", "name", "gain", "retention", "drift", "floor"}
    assert "was scored before" in razorbench(*score).out
    assert len(razorbench("results", "--home", based, "--json").json) == 1
    assert len(list((based / "records").iterdir())) == 1


@pytest.mark.slow
def test_scoring_a_known_checkpoint_under_another_name_renames_it(razorbench, adapted: Path, based: Path):
    score = ("score", adapted, "--track", TRACK, "--home", based)
    razorbench(*score, "--name", "first")
    assert razorbench(*score, "--name", "second", "--json").json["name"] == "second"
    assert razorbench(*score, "--json").json["name"] == "second"
    (row,) = razorbench("results", "--home", based, "--json").json
    assert row["name"] == "second"
    assert razorbench("show", "second", "--home", based).code == 0


def test_tables_are_written_for_other_programs(razorbench, scored: str, home: Path, tmp_path: Path):
    for format in ("csv", "parquet"):
        out = tmp_path / f"r.{format}"
        ran = razorbench("export", TRACK, "--home", home, "--format", format, "--out", out, "--json")
        assert ran.json == {"out": str(out), "entries": 1}
    (row,) = razorbench("results", "--home", home, "--json").json
    for table in (pyarrow.csv.read_csv(tmp_path / "r.csv"), pyarrow.parquet.read_table(tmp_path / "r.parquet")):
        (written,) = table.to_pylist()
        assert set(written) == set(row)
        assert written["gain"] == pytest.approx(row["gain"])
        assert json.loads(written["settings"]) == row["settings"]


def test_a_new_task_is_written_once(razorbench, home: Path, tmp_path: Path):
    new = ("task", "new", "odd-words", "--folder", tmp_path / "tasks", "--home", home, "--json")
    files = razorbench(*new).json["files"]
    assert files
    assert all(Path(file).is_file() for file in files)
    assert razorbench(*new).code == 2


@pytest.mark.parametrize("argv", [("tracks",), ("tracks", "--json")])
def test_a_reader_that_leaves_early_is_no_error(argv: tuple[str, ...]):
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


def test_an_interrupted_command_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys, home: Path):
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("razorbench.harness.store.database.Store.rebuild", interrupted)
    monkeypatch.setattr(sys, "argv", ["razorbench", "rebuild", "--home", str(home)])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 130
    assert "stopped; the same command goes on where it was" in capsys.readouterr().err


# --- bases ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("toys")
def test_a_base_is_made_and_held_against_the_shipped_one(razorbench, home: Path, tmp_path: Path, monkeypatch):
    made = razorbench("pretrain", "speller", "--out", tmp_path / "one", "--home", home, "--json").json
    assert (made["base"], made["same"], made["shipped"]) == ("speller-v1", None, None)
    monkeypatch.setitem(BASES, "speller-v1", replace(BASES["speller-v1"], sha256=made["sha256"]))
    again = razorbench("pretrain", "speller-v1", "--out", tmp_path / "two", "--home", home)
    assert again.code == 0
    assert f"sha256 {made['sha256']}: the same as the shipped one" in again.out
    monkeypatch.setitem(BASES, "speller-v1", replace(BASES["speller-v1"], sha256="0" * 64))
    other = razorbench("pretrain", "speller-v1", "--home", home)
    assert other.code == 0
    assert "last bits may differ" in other.out
    assert len(list((home / "bases").iterdir())) == 1


@pytest.mark.usefixtures("toys")
def test_a_base_is_not_written_over_a_file(razorbench, home: Path, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    ran = razorbench("pretrain", "speller-v1", "--out", tmp_path / "out", "--home", home)
    assert ran.code == 2
    assert "out exists; remove it, or name another file with --out" in ran.sentence


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_what_a_task_measures_beside_the_score_is_shown(razorbench, home: Path):
    spec = Spec("sft", SPELLING.settings)
    record = run(Bench(SPELLING, home), spec, home)
    Store(home).add(record)
    difference, low, high = record.scores[0].metric_changes["right"]
    shown = " ".join(razorbench("show", record.id, "--home", home).out.split())
    assert f"{difference:+.3g} [{low:+.3g}, {high:+.3g}]" in shown
    (score, _) = razorbench("show", record.id, "--home", home, "--json").json["scores"]
    assert score["metrics"]["right"] == record.scores[0].metrics["right"]
    assert score["metric_changes"]["right"] == [difference, low, high]
