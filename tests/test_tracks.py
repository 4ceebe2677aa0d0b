"""A track is a file: what it says is read strictly, what it lacks is told, and rows of another track stay apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from razorbench import Refused, register
from razorbench.harness.cli import scaffold
from razorbench.harness.cli.check.tracks import check
from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.run import Spec, run, run_folder
from razorbench.harness.runs.sweep import preset
from razorbench.harness.store import results
from razorbench.harness.store.database import Store
from razorbench.harness.tracks import catalogue, files
from razorbench.harness.tracks.catalogue import OURS, TRACKS, add_track, find_track, known_track, table_key
from razorbench.harness.tracks.spec import Conditions
from razorbench.harness.tracks.suites import SUITES
from tests.toys import SPELLING

DIGESTS = {
    "parity-mnist-v1": "cede4bf242c4e331",
    "parity-mnist-anew-v1": "da11b1559deeebbd",
    "parity-mnist-short-v1": "02908fb1f16538f8",
    "mini-math-v1": "f6d6c0a5e660daf7",
    "mini-science-v1": "20ceef87b48d1398",
    "mini-tools-v1": "a9d7c0aa5e067236",
    "mini-robot-air-v2": "5815da2bc7cd1f25",
    "mini-robot-air-last-v1": "e9e2381f97729e3d",
    "maniskill-pick-cube-v1": "31d013216cc649fe",
    "google-coke-can-sapien3-v1": "4665c143c9db6c63",
    "libero-spatial-cabinet-v1": "3f78dc61ffc52c26",
    "smollm2-sentiment-v1": "b26447205099fae8",
    "smollm2-arithmetic-v1": "ab279acd1b9af8d2",
    "qwen2.5-3b-math-v1": "c1e802b0e7e07f24",
    "qwen2.5-3b-science-v1": "0327e574ae7a61cb",
    "qwen2.5-3b-tools-v1": "2cb60a7f7655495b",
    "qwen2.5-7b-science-v1": "aeb414f1ba31c8bb",
    "qwen2.5-14b-science-v1": "e9837baa96ce9af7",
    "openvla-7b-coke-can-v1": "8240f94d2bc6263c",
}
"""Of our tracks: whoever changes one of these changes what the numbers of its id mean."""


@pytest.fixture
def written(tmp_path: Path):
    """Writes a track's file: the template with parts replaced."""

    def write(*changes: tuple[str, str], name: str = "mine-v1") -> Path:
        text = scaffold.TRACK.replace("my-track-v1", name)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_track_says_where_its_tasks_are_played_and_that_changes_no_digest(written):
    plain = find_track(str(written()))
    said = "[priors]", '[workers."mini-*"]\nlanes = 2\npatience = 300.0\n\n[priors]'
    track = find_track(str(path := written(said)))
    assert (track.digest, plain.workers) == (plain.digest, {})
    with track.task(track.new) as played:
        assert (played.lanes, played.scenes, played.card) == (2, 1, plain.task(plain.new).card)
    path.write_text(files.toml(track))
    assert find_track(str(path)) == track


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("[workers.fetch-air-v1]\nlanes = 2", "'fetch-air-v1' is no task of the track"),
        ('[workers."mini-*"]\nlanes = 0', "lanes and scenes should be 1 or more"),
        ('[workers."mini-*"]\nlane = 2', "there is no 'lane'; did you mean 'lanes'?"),
    ],
)
def test_workers_that_cannot_be_are_refused(written, said, sentence):
    with pytest.raises(Refused, match=sentence):
        find_track(str(written(("[priors]", f"{said}\n\n[priors]"))))


def test_our_tracks_are_files_and_are_what_they_were():
    assert {path.stem for path in OURS.glob("*.toml")} == set(TRACKS)
    assert {id: track.digest for id, track in TRACKS.items()} == DIGESTS
    assert [base.id for base in catalogue.BASES.values()] == sorted(p.stem for p in (OURS / "bases").glob("*.toml"))


def test_a_digest_is_of_what_decides_a_number_and_of_nothing_else():
    track = TRACKS["mini-math-v1"]
    same = [{"title": "x"}, {"question": "y"}, {"demo": {}}, {"presets": {"small": {"sft": ("lr=1e-4",)}}}]
    other = [
        {"items": 151},
        {"new": "mini-tools-v1"},
        {"priors": {"other": track.priors["skills"]}},
        {"base": replace(track.base, sha256="0" * 64)},
        {"base": replace(track.base, settings=Settings())},
        {"settings": replace(track.settings, lr=1e-3)},
        {"conditions": Conditions(prompt="Think.")},
    ]
    assert {replace(track, **change).digest for change in same} == {track.digest}
    assert len({track.digest, *(replace(track, **change).digest for change in other)}) == 8
    assert replace(track, settings=replace(track.settings, batch=16.0)).digest == track.digest  # 16 is 16.0
    assert len({track, replace(track), *(replace(track, **change) for change in other)}) == 8


def test_the_template_is_a_track_as_written(written):
    track = find_track(str(written()))
    assert (track.id, track.base, track.items) == ("mine-v1", TRACKS["mini-math-v1"].base, 100)
    assert track.prior_tasks == ["mini-sorting-v1", "mini-form-v1"]
    assert track.settings == Settings(lr=3e-4, warmup=5, batch=16, group=8, steps=32, horizon=96)
    assert track.conditions == Conditions()
    assert track.demo == {"dr-grpo": (3e-4,), "sft": (3e-4,)}


def test_a_base_may_stand_in_the_file(written):
    base = (
        '[base]\nid = "own-v1"\nagent = "mini-lm-v1"\n[base.recipe]\ntask = "mini-math-v1"\nsettings = { lr = 0.001 }\n'
    )
    track = find_track(str(written(('base = "mini-lm-v1" ', "# "), ("[priors]", f"{base}[priors]"))))
    assert (track.base.id, track.base.task, track.base.settings) == ("own-v1", "mini-math-v1", Settings(lr=1e-3))


@pytest.mark.parametrize(
    ("change", "sentence"),
    {
        "no TOML": (("items = 100", "items = "), r"mine-v1\.toml is no TOML: "),
        "unknown field": (("items = 100", "item = 100"), "there is no 'item'; did you mean 'items'?"),
        "unknown setting": (("warmup = 5", "warmpu = 5"), r"\[settings\]: there is no 'warmpu'; did you mean 'warmup'"),
        "a text for a number": (("items = 100", 'items = "100"'), "items is '100', which should be a whole number"),
        "a part of a number": (("items = 100", "items = 1.5"), "items is 1.5, which should be a whole number"),
        "a truth value": (("lr = 3e-4", "lr = true"), r"\[settings\]: lr is True, which should be a number"),
        "no new task": (('new = "mini-math-v1"', "# "), "does not say new"),
        "no base": (('base = "mini-lm-v1"', "# "), "does not say base"),
        "unknown base": (('base = "mini-lm-v1"', 'base = "mini-lm-v9"'), "unknown base 'mini-lm-v9'; did you mean"),
        "a base that is a number": (('base = "mini-lm-v1"', "base = 3"), "base should be the id of a base"),
        "no priors": (('skills = ["mini-sorting-v1", "mini-form-v1"]', ""), "names no prior task"),
        "a prior that is new": (('"mini-sorting-v1"', '"mini-math-v1"'), "names a task twice"),
        "a prior twice": (('"mini-sorting-v1"', '"mini-form-v1"'), "names a task twice"),
        "priors that are no list": (
            ('["mini-sorting-v1", "mini-form-v1"]', '"mini-form-v1"'),
            "a list of task ids, or the name of a suite: unknown suite 'mini-form-v1'; choose from paper",
        ),
        "rates that are no list": (("dr-grpo = [3e-4]", "dr-grpo = 3e-4"), "a list of learning rates"),
        "settings that cannot be": (("batch = 16", "batch = 0"), r"\[settings\]: batch 0 cannot be"),
        "conditions that cannot be": (("samples = 1 ", "samples = 2 "), "at temperature 0 all 2 answers are the same"),
        "an id without a version": (('id = "mine-v1"', 'id = "mine"'), "should be lower-case words and a version"),
    }.values(),
    ids=lambda value: "" if isinstance(value, tuple) else value[:30],
)
def test_a_slip_is_told_in_a_sentence(written, change, sentence):
    with pytest.raises(Refused, match=sentence) as refused:
        find_track(str(written(change)))
    assert "mine-v1" in str(refused.value) or "base" in str(refused.value)


def test_priors_may_be_a_suite_by_name(written):
    track = find_track(str(written(('["mini-sorting-v1", "mini-form-v1"]', '"paper"'))))
    assert track.priors == {"skills": SUITES["paper"]}
    assert [task.partition("?")[0].removeprefix("lm-eval/") for task in track.prior_tasks] == [
        *("hellaswag", "truthfulqa_mc2", "mmlu", "ifeval", "winogrande", "humaneval")
    ]


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(Refused, match=r"no\.toml cannot be read \(No such file"):
        find_track(str(tmp_path / "no.toml"))
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="no text in UTF-8"):
        find_track(str(tmp_path / "x.toml"))


def test_a_file_that_has_changed_is_read_again(written):
    path = written()
    assert find_track(str(path)).items == 100
    written(("items = 100", "items = 1000"))
    assert find_track(str(path)).items == 1000


def test_a_home_knows_the_tracks_that_were_put_into_it(written, tmp_path):
    home = tmp_path / "home"
    assert known_track("mine-v1", home) is None
    track = find_track(str(written()))
    for _ in range(2):
        add_track(track, home)
        assert find_track("mine-v1", home) == track
    assert list(catalogue.all_tracks(home)) == [*TRACKS, "mine-v1"]
    assert known_track("mine-v1") is None
    with pytest.raises(Refused, match="did you mean 'mine-v1'"):
        find_track("mine-v2", home)
    with pytest.raises(Refused, match=f"'mine-v1' is another track here, of hash {track.digest}"):
        add_track(replace(track, items=50), home)
    with pytest.raises(Refused, match="'mini-math-v1' is another track here"):
        add_track(replace(track, id="mini-math-v1"), home)


def test_a_file_that_takes_the_id_of_a_registered_track_is_refused(written, tmp_path):
    """Else the home would keep it, and everybody find the other one by its name."""
    theirs = replace(find_track(str(written())), items=7)
    register("track", "mine-v1")(theirs)
    try:
        with pytest.raises(Refused, match=f"'mine-v1' is another track here, of hash {theirs.digest}"):
            find_track(str(written()), tmp_path)
        add_track(theirs, tmp_path)  # which is that track
    finally:
        del REGISTERED["track"]["mine-v1"]
    assert known_track("mine-v1", tmp_path) == theirs


def test_a_home_that_holds_a_file_under_another_name_is_told(written, tmp_path):
    add_track(find_track(str(written())), tmp_path)
    (tmp_path / "tracks" / "mine-v1.toml").rename(tmp_path / "tracks" / "other-v1.toml")
    with pytest.raises(Refused, match=r"holds the track 'mine-v1'; name the file mine-v1\.toml"):
        find_track("other-v1", tmp_path)
    assert "other-v1" not in catalogue.all_tracks(tmp_path)


@pytest.mark.parametrize("id", ["../mine-v1", "a\0b-v1", "/etc/passwd", "x" * 5_000 + "-v1", "mine-v1/..", ""])
def test_an_id_that_leads_elsewhere_is_unknown(written, tmp_path, id):
    add_track(find_track(str(written())), tmp_path)
    (tmp_path / "tracks" / "x").mkdir()
    assert known_track(id, tmp_path) is None


def test_rows_of_another_track_of_the_same_id_are_no_rows_of_it(written, tmp_path):
    track, math = find_track(str(written())), TRACKS["mini-math-v1"]
    add_track(track, tmp_path)
    assert table_key("mine-v1", track.digest, tmp_path) == "mine-v1"
    assert table_key("mine-v1", "", tmp_path) == "mine-v1"
    assert table_key("mine-v1", "0123456789abcdef", tmp_path) == "mine-v1@01234567"
    assert table_key("mine-v1", track.digest, None) == f"mine-v1@{track.digest[:8]}"  # nobody here knows it
    assert table_key("mini-math-v1", math.digest, None) == "mini-math-v1"
    assert table_key("mini-math-v1", "", None) == "mini-math-v1"


def test_new_writes_a_file_that_passes_its_check(tmp_path):
    path = scaffold.new_track("sums", tmp_path)
    assert path == tmp_path / "sums-v1.toml"
    findings = check(str(path), tmp_path / "home")
    assert all(each.ok for each in findings), findings
    assert [each.name for each in findings][:6] == ["new", "priors", "base", "demo", "id", "weights"]
    with pytest.raises(Refused, match="exists"):
        scaffold.new_track("sums-v1", tmp_path)
    with pytest.raises(Refused, match="is taken"):
        scaffold.new_track("mini-math", tmp_path)
    with pytest.raises(Refused, match="lower-case words and a version"):
        scaffold.new_track("My Track", tmp_path)


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        (
            ('new = "mini-math-v1"', 'new = "mini-maths-v1"'),
            "new",
            "unknown task 'mini-maths-v1'; did you mean 'mini-math",
        ),
        (('"mini-sorting-v1"', '"sorting-v1"'), "priors", "unknown task 'sorting-v1'"),
        (("dr-grpo = [3e-4]", "grop = [3e-4]"), "demo", "unknown method 'grop'; did you mean 'grpo'"),
        (("items = 100 ", "items = 10_000_000 "), "mini-math-v1", "lower items, or take 0 for all"),
    ],
)
def test_check_names_what_is_missing(written, tmp_path, change, name, told):
    findings = {each.name: each for each in check(str(written(change)), tmp_path)}
    assert findings[name].ok is False
    assert told in findings[name].detail


def test_check_says_that_the_id_is_another_track_here(written, tmp_path):
    (finding,) = (f for f in check(str(written(name="mini-math-v1")), tmp_path) if f.name == "id")
    assert finding.ok is False


@pytest.mark.parametrize("id", TRACKS)
def test_what_is_written_of_a_track_reads_back_as_it(id, tmp_path):
    track = replace(TRACKS[id], title='a "b" c \\ ü', conditions=Conditions(0.7, 3, "Think.", 9), question="")
    path = tmp_path / f"{id}.toml"
    path.write_text(files.toml(track), encoding="utf-8")
    assert files.read_track(path, catalogue.find_base) == track


def test_what_is_written_of_a_base_with_its_own_seed_and_threads_reads_back(tmp_path):
    track = TRACKS["mini-math-v1"]
    for seed, threads in ((0, 1), (1, 2)):
        whole = replace(track, base=replace(track.base, seed=seed, threads=threads))
        (tmp_path / "x.toml").write_text(files.toml(whole), encoding="utf-8")
        assert files.read_track(tmp_path / "x.toml", catalogue.find_base) == whole


def test_presets_are_grids_of_a_file_and_read_back(written):
    track = find_track(str(path := written(("[demo]", '[presets.small]\n"sft:batch=8" = ["lr=1e-4,3e-4"]\n\n[demo]'))))
    assert track.presets == {"small": {"sft:batch=8": ("lr=1e-4,3e-4",)}}
    path.write_text(files.toml(track))
    assert find_track(str(path)) == track
    runs = preset(track, "small", [], [], [0, 1])
    assert [(run.method, run.settings.batch, run.settings.lr, run.seed) for run in runs] == [
        ("sft", 8, lr, seed) for seed in (0, 1) for lr in (1e-4, 3e-4)
    ]
    assert {run.settings.warmup for run in preset(track, "small", ["sft:warmup=3"], ["schedule=cosine"], [0])} == {3}
    with pytest.raises(Refused, match="unknown preset 'large'"):
        preset(track, "large", [], [], [0])
    with pytest.raises(Refused, match="unknown method 'grpo'"):
        preset(track, "small", ["grpo"], [], [0])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ('[presets]\nsmall = "sft"', r"small should be a table \[small\]"),
        ('[presets.small]\nsft = "lr=1e-4"', "should be a list of axes"),
        ("[presets.small]\nsft = [1e-4]", "should be a list of axes"),
    ],
)
def test_presets_that_are_no_grids_are_refused(written, said, sentence):
    with pytest.raises(Refused, match=sentence):
        find_track(str(written(("[demo]", f"{said}\n\n[demo]"))))


def test_commands_take_a_file_and_refuse_one_that_has_changed_since(written, tmp_path, razorbench):
    home = tmp_path / "home"
    add_track(find_track(str(written())), home)
    changed = written(("items = 100", "items = 50"))
    for command in (("adapt", changed, "--method", "sft", "--out", "x"), ("track", "add", changed)):
        ran = razorbench(*command, "--home", home)
        assert ran.code == 2
        assert "'mine-v1' is another track here" in ran.sentence
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_track_that_python_changes_has_a_table_of_its_own(tmp_path, toys):
    spec = Spec("sft", replace(SPELLING.settings, lr=0.1, steps=1, warmup=0))
    store = Store(tmp_path)
    small = replace(SPELLING, items=3)
    for track in (SPELLING, small):
        store.add(run(Bench(track, tmp_path), spec, tmp_path))
    assert store.tracks() == [SPELLING.id, f"{SPELLING.id}@{small.digest[:8]}"]
    assert [len(results.table(store, id)) for id in store.tracks()] == [1, 1]
    before = store.rows("SELECT id, track FROM submissions ORDER BY id")
    assert store.rebuild() == 2
    assert store.rows("SELECT id, track FROM submissions ORDER BY id") == before
    assert run_folder(tmp_path, SPELLING, "b", spec) != run_folder(tmp_path, small, "b", spec)
