"""What base and adapted answered where they differ: kept by scoring, found, filmed again, and shown as text."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from razorbench import Action, Actions, Episode, Instance, Observation, Outcome, Refused, Reply
from razorbench.agents.bins import MiniRobot
from razorbench.agents.language.mini_lm import mini_lm
from razorbench.harness.core.registry import REGISTERED, make
from razorbench.harness.core.rollout import Demonstrator, rollout
from razorbench.harness.measure import answers
from razorbench.harness.measure import record as files
from razorbench.harness.measure.drift import divergence, elements
from razorbench.harness.measure.score import Bench
from razorbench.harness.report.film import film, film_flips
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import find_track
from razorbench.leaderboard.reply_image import NARROW, WIDE, painted, parts, pieces
from razorbench.tasks.fetch.simulator import studio
from razorbench.tasks.fetch.tasks import PICK
from tests import test_record
from tests.board_home import TRACK, add, items, scored
from tests.conftest import absent
from tests.hostile import HOSTILE, SOME
from tests.test_board import assert_only_text
from tests.toys import SPELLING, WORDS, Spell, Speller, table

PRIOR = "mini-logic-v1"
NAN = float("nan")


def home_of(path: Path, rows: list[dict] | None, flips: int = 1) -> Path:
    """A home of one record, `r`, that learned the first items of its new task and forgot as many of its prior one."""
    samples = items({("new", TRACK): ([0.0] * flips, [1.0] * flips), ("prior", PRIOR): ([1.0] * flips, [0.0] * flips)})
    add(Store(path), (scored("r", samples), samples, rows))
    return path


def row(item: str = "0", **columns: Any) -> dict[str, Any]:
    return {"task": PRIOR, "item": item, **columns}


def shown(at: AppTest) -> list[str]:
    return [each.value for each in at.code]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_flips_are_items_that_both_scored_and_differently():
    base, adapted = np.array([1.0, 0, NAN, 1, 1]), np.array([0.0, 0, 1, NAN, 0.5])
    assert answers.flipped(base, adapted).tolist() == [0, 4]
    many = np.zeros(answers.FLIPS + 5)
    assert answers.flipped(many, many + 1).tolist() == list(range(answers.FLIPS))


def episode(seen: list[Observation], done: list) -> Episode:
    return Episode(Instance(7, {}), seen, [Action(value) for value in done], Outcome(1.0))


def test_dialogue_is_told_turn_by_turn():
    asked = [Observation("2 + 2?"), Observation("sure?", role="tool")]
    assert answers.said(episode(asked[:1], [Reply("4")])) == "4"
    assert answers.said(episode(asked, [Reply("5"), Reply("no, 4")])) == "5\n\n[tool] sure?\n\n[answer] no, 4"


def test_numbers_are_told_as_text_and_vectors_as_values():
    blind = Observation(state=np.zeros(3))
    assert answers.said(episode([blind], [np.int64(7)])) == "7"
    assert answers.values(episode([blind], [np.int64(7)])) is None
    motions = episode([blind] * 2, [np.array([0.1, -1], np.float32), np.array([0, 0.5], np.float32)])
    assert answers.said(motions) is None
    assert answers.values(motions) == [[np.float32(0.1), -1.0], [0.0, 0.5]]  # not a bit is lost


@pytest.mark.parametrize("done", [[], [{"a": 1}], [None], [[[1], [2, 3]]], [np.array(["a"])], [np.zeros((2, 2))]])
def test_answer_that_is_no_text_and_no_vector_is_null(done):
    odd = episode([Observation(images={"front": np.zeros(5)})], done)
    assert (answers.said(odd), answers.values(odd), answers.picture(odd.observations[0])) == (None, None, None)


def test_long_text_ends_in_an_ellipsis_and_any_text_can_be_written():
    text = answers.shortened("x" * (answers.LONGEST + 1))
    assert text is not None
    assert (len(text), text[-2:]) == (answers.LONGEST, "x…")
    assert answers.shortened("x" * answers.LONGEST) == "x" * answers.LONGEST
    assert answers.shortened("a\udc80") == "a?"


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (np.arange(784).astype(np.uint8).reshape(28, 28), (28, 28)),
        (np.full((40, 20, 3), 9, np.uint8), (20, 40)),
        (np.full((1024, 512, 3), 9, np.uint8), (128, 256)),
    ],
)
def test_picture_is_a_png_no_larger_than_needed(image, size):
    png = answers.picture(Observation("look", {"front": image, "wrist": np.zeros((2, 2), np.uint8)}))
    assert png is not None
    read = np.asarray(Image.open(io.BytesIO(png)))
    assert (read.shape[1], read.shape[0]) == size
    if image.ndim == 2:
        assert read.tolist() == image.tolist()


# --- drift, token by token --------------------------------------------------------------------------------------------


def test_elements_are_what_a_divergence_sums():
    p, q, task = table(1), table(2), Spell()
    episodes = rollout(p, task, task.instances("test"))
    ps, qs = p.logits.detach().log_softmax(-1), q.logits.detach().log_softmax(-1)
    each = (ps.exp() * (ps - qs)).sum(-1)  # [S, T]
    drifts, done = elements(p, q, episodes), episodes.turns[0].done
    assert done is not None
    for s, (code, nats) in enumerate(drifts):
        assert nats.tolist() == pytest.approx(each[s, : p.lengths[s]].tolist(), rel=1e-5)
        assert code.tolist() == done.code[s]
    assert [n.sum().item() for _, n in drifts] == pytest.approx(divergence(p, q, episodes).nats.tolist(), rel=1e-6)


class Lettered(Speller):
    """A table that tells the letter of each of its elements."""

    def pieces(self, code: torch.Tensor) -> list[str]:
        return ["abcd"[c] for c in code.tolist()]


def test_scored_dialogues_are_painted_over_all_their_turns(toys, tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTERED["agent"], "speller-v1", Lettered)
    bench = Bench(SPELLING, tmp_path)
    adapted = bench.base.copy()
    with torch.no_grad():
        for logits, word in zip(next(adapted.parameters()), WORDS, strict=True):  # it spells all words
            for place, letter in enumerate(word):
                logits[place, "abcd".index(letter)] += 20.0
    scored = bench.score(adapted)
    new = [row for row in scored.answers if row["task"] == "dialogue-v1"]
    base = bench.answers["dialogue-v1"]
    flips = np.flatnonzero(base.score == 0)[: answers.FLIPS]
    assert [row["item"] for row in new] == [str(id) for id in np.asarray(base.id)[flips]]
    assert base.played is not None
    nats = divergence(bench.base, adapted, base.played.take(flips)).nats.tolist()
    assert [sum(token["nats"] for token in row["tokens"]) for row in new] == pytest.approx(nats, rel=1e-5)
    for row in new:
        assert "".join(token["text"] for token in row["tokens"]) == row["base"].replace(
            "\n\n[user] (no text)\n\n[answer] ", ""
        )


def test_pieces_of_a_language_model_read_as_its_reply():
    policy, said = mini_lm(), "So 3 + 4 = 7.\n\\boxed{ 7 } é"
    (code,) = policy.encode([Reply(said)])
    spelt = policy.pieces(torch.tensor(code))
    assert len(spelt) == len(code)
    assert spelt[-1] == "<|im_end|>"
    assert "".join(spelt[:-1]).replace("�", "") == said.replace("é", "")
    assert " +" in spelt


@pytest.mark.slow
def test_language_model_is_scored_with_what_it_said(tmp_path):
    track = find_track("mini-math-v1")
    bench = Bench(replace(track, priors={"skills": ("mini-sorting-v1",)}, items=6, drift_items=3), tmp_path)
    plain, broken = bench.score(bench.base), bench.base.copy()
    assert plain.answers == []  # it differs from itself nowhere
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    rows = bench.score(broken).answers
    assert rows
    for row in rows:
        task, played = bench.tasks[row["task"]], bench.answers[row["task"]].played
        assert played is not None
        at = [str(id) for id in played.instances.id].index(row["item"])
        assert row["asked"] == task.question(int(row["item"])).text  # type: ignore[union-attr]
        assert row["base"] == played[at].actions[0].value
        assert row["adapted"] != row["base"]
        assert "".join(token["text"] for token in row["tokens"]) == row["base"] + "<|im_end|>"
        nats = divergence(bench.base, broken, played.take(np.array([at]))).nats.item()
        assert sum(token["nats"] for token in row["tokens"]) == pytest.approx(nats, rel=1e-3)


@pytest.mark.slow
def test_classifier_is_scored_with_the_images(bench: Bench, tmp_path):
    adapted = bench.base.copy()
    with torch.no_grad():
        list(adapted.parameters())[-1][3] += 20.0  # it says 3 to everything
    rows = bench.score(adapted).answers
    assert len(rows) == 2 * answers.FLIPS
    files.write(tmp_path, test_record.make(), test_record.columns(), rows)
    some = files.answers_of(tmp_path, "r1").to_pylist()[-1]  # type: ignore[union-attr]
    assert (some["task"], some["adapted"], some["asked"], some["tokens"]) == ("fashion-mnist-v1", "3", None, None)
    instances = bench.tasks["fashion-mnist-v1"].instances("test")  # type: ignore[union-attr]
    at = [str(id) for id in instances.id].index(some["item"])
    assert np.asarray(Image.open(io.BytesIO(some["picture"]))).ravel().tolist() == instances[at].data["pixels"].tolist()
    assert some["base"] != "3"


# --- files ------------------------------------------------------------------------------------------------------------


def test_answers_come_back_as_they_were_written_and_never_change(tmp_path):
    made, rows = (test_record.make(), test_record.columns()), [row(asked="why?", base="a", adapted="b")]
    files.write(tmp_path, *made, rows)
    files.write(tmp_path, *made, rows)
    (read,) = files.answers_of(tmp_path, "r1").to_pylist()  # type: ignore[union-attr]
    assert {name: value for name, value in read.items() if value is not None} == rows[0]
    for other in (None, [], [row(asked="who?", base="a", adapted="b")]):
        with pytest.raises(Refused, match="records never change"):
            files.write(tmp_path, *made, other)


def test_a_write_that_fails_at_the_answers_leaves_nothing(tmp_path, monkeypatch):
    write = files.pq.write_table

    def full(table, path, **more):
        if path.name == "answers.parquet":
            raise OSError(28, "No space left on device")
        write(table, path, **more)

    monkeypatch.setattr(files.pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path, test_record.make(), test_record.columns(), [])
    assert list((tmp_path / "records").iterdir()) == []


# --- finding them -----------------------------------------------------------------------------------------------------


def test_flips_are_what_was_forgotten_or_learned(tmp_path):
    samples = items({("new", TRACK): ([0.0] * 3, [1.0, NAN, 0.5]), ("prior", PRIOR): ([1.0, 1], [0.0, 1])})
    add(Store(tmp_path), (scored("r", samples), samples))
    (forgot,) = answers.flips(tmp_path, "r", PRIOR, "forgot")
    assert {name: forgot[name] for name in ("item", "base", "adapted", "drift", "told")} == {
        **{"item": "0", "base": 1.0, "adapted": 0.0, "drift": None, "told": False}
    }
    learned = answers.flips(tmp_path, "r", TRACK, "learned")
    assert [(flip["item"], flip["drift"]) for flip in learned] == [("0", 0.0), ("2", 0.2)]
    assert answers.flips(tmp_path, "r", TRACK, "forgot") == []
    assert answers.count(tmp_path, "r", TRACK, "learned") == answers.count(tmp_path, "r", TRACK) == 2
    assert [flip["item"] for flip in answers.flips(tmp_path, "r", TRACK, "learned", limit=1, offset=1)] == ["2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "hits"),
    [
        ("", ["0", "1", "2", "3"]),
        ("%", ["1"]),
        ("_", ["2"]),
        ("it's \"", ["3"]),
        ("ÉCLAIR", ["0"]),
        ("B", ["1", "2"]),
        ("3", ["3"]),
        (".*", []),
        ("\x00", []),
        ("nulltrue", []),
    ],
)
def test_search_is_literal_and_knows_no_case(search, hits, tmp_path):
    said = ["an éclair", "50 % b", "A_B", 'it\'s "so"']
    rows = [row(str(i), **{["asked", "base", "adapted", "asked"][i]: text}) for i, text in enumerate(said)]
    home = home_of(tmp_path, rows, flips=4)
    assert [flip["item"] for flip in answers.flips(home, "r", PRIOR, "forgot", search)] == hits
    assert answers.count(home, "r", PRIOR, "forgot", search) == len(hits)


def test_id_that_leads_elsewhere_reads_no_file(tmp_path):
    for read in (answers.flips, answers.count, answers.motions, answers.film_of):
        with pytest.raises(Refused):
            read(tmp_path, "../x", "t", "0")
    path = answers.film_of(tmp_path, "r", "../t", "../../x")
    assert path.parent.parent == tmp_path / "films" / "r"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["samples", "answers"])
def test_torn_files_are_one_sentence(name, tmp_path, show):
    home = home_of(tmp_path, [row(base="a", adapted="b")])
    path = files.folder(home, "r") / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Refused, match="restore it from a copy"):
        answers.count(home, "r", PRIOR)
    at = show(home, "samples", id="r", task=PRIOR)
    assert at.error
    assert any("restore it from a copy" in each.value for each in at.text)


# --- films ------------------------------------------------------------------------------------------------------------


class Still:
    """An agent that does nothing."""

    def act(self, asked, *, temperature=1.0):
        return Actions(np.zeros((len(asked), 4), np.float32))


@pytest.mark.slow
def test_kept_motions_are_filmed_as_they_were_played(tmp_path, razorbench):
    try:
        with studio(PICK):
            task = make("task", "fetch-reach-v1")
    except Refused as refused:
        absent(str(refused))
    some = task.instances("test").take(np.array([1]))
    agents = {"base": Still(), "adapted": Demonstrator(task, "usual")}
    base, adapted = (rollout(agent, task, some, temperature=0.0) for agent in agents.values())
    id = str(some.id[0])
    samples = items({("new", "fetch-reach-v1"): ([0.0], [1.0]), ("prior", PRIOR): ([1.0], [1.0])}) | {"item": [id, "0"]}
    rows = answers.answer_rows("fetch-reach-v1", [str(id) for id in base.instances.id], base, adapted)
    assert (rows[0]["asked"], rows[0]["base"], rows[0]["picture"]) == ("reach the goal", None, None)
    add(Store(tmp_path), (scored("r", samples), samples, rows))
    (path,) = film_flips(tmp_path, "r", "fetch-reach-v1")
    film(task, int(id), agents, tmp_path / "played.mp4")
    assert path.read_bytes() == (tmp_path / "played.mp4").read_bytes()
    assert path == answers.film_of(tmp_path, "r", "fetch-reach-v1", id)
    path.unlink()
    ran = razorbench("film", "--submission", "r", "--task", "fetch-reach-v1", "--item", id, "--home", tmp_path)
    assert ran.out.replace("\n", "") == str(path)
    assert path.exists()


def test_nothing_to_film_is_one_sentence(tmp_path, razorbench):
    home = home_of(tmp_path, [row(base="a", adapted="b")])
    assert (
        "keeps no motions of item 0"
        in razorbench("film", "--submission", "r", "--task", PRIOR, "--item", 0, "--home", home).sentence
    )
    assert "most 0 cannot be" in razorbench("film", "--submission", "r", "--most", 0, "--home", home).sentence
    assert "--submission" in razorbench("film").sentence


def test_robot_has_no_pieces():
    assert not hasattr(MiniRobot(), "pieces")


# --- the page ---------------------------------------------------------------------------------------------------------


def test_page_shows_both_answers_beside_each_other(tmp_path, show):
    tokens = [{"text": "4", "nats": 0.5}, {"text": "!\n", "nats": None}]
    png = answers.picture(Observation(images={"image": np.zeros((28, 28), np.uint8)}))
    rows = [row(asked="2 + 2?\nThink.", picture=png, base="4!\n", adapted="5", tokens=tokens)]
    at = show(home_of(tmp_path, rows), "samples", id="r", task=PRIOR)
    assert shown(at) == ["2 + 2?\nThink.", "4!", "5"]
    assert [[each.value for each in column.code] for column in at.columns[-2:]] == [["4!"], ["5"]]
    assert len(at.get("image")) == 1
    (chart,) = at.get("vega_lite_chart")
    assert chart.proto.alt == "The base's reply, painted: 0.500 nats in 2 tokens, at most 0.500 in one."
    assert at.dataframe[0].value["nats"].tolist()[0] == 0.5
    assert at.expander[0].label == "The same in numbers"


def test_page_of_an_older_record_says_that_answers_are_not_known(tmp_path, show):
    at = show(home_of(tmp_path, None), "samples", id="r", task=PRIOR)
    assert at.info[0].value == "This record was made before answers were kept, so only its scores are here."
    assert at.dataframe[0].value["item"].tolist() == ["0"]


def test_flip_beyond_those_that_are_kept_says_so(tmp_path, show):
    at = show(home_of(tmp_path, []), "samples", id="r", task=PRIOR)
    assert any("a record holds those of 200 flips" in each.value for each in at.caption)


def test_page_offers_the_command_that_makes_a_film_and_then_shows_it(tmp_path, show):
    motions: Any = {"base_values": [[0.0] * 4], "adapted_values": [[1.0] * 4]}
    home = home_of(tmp_path, [row(asked="lift", **motions)])
    assert shown(show(home, "samples", id="r", task=PRIOR)) == [
        "lift",
        f"razorbench film --submission r --task {PRIOR} --item 0 --home {home}",
    ]
    path = answers.film_of(home, "r", PRIOR, "0")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"film")
    at = show(home, "samples", id="r", task=PRIOR)
    assert shown(at) == ["lift"]
    assert len(at.get("video")) == 1


def test_flips_are_searched_and_paged_by_the_link(tmp_path, show):
    rows = [row(str(i), base=f"word{i}", adapted="x") for i in range(25)]
    home = home_of(tmp_path, rows, flips=25)
    assert shown(show(home, "samples", id="r", task=PRIOR, page="3"))[::2] == [f"word{i}" for i in range(20, 25)]
    at = show(home, "samples", id="r", task=PRIOR, search="WORD7")
    assert shown(at) == ["word7", "x"]
    assert any("1 of 25 items" in each.value for each in at.markdown)
    at.text_input(key="search").set_value("nothing").run()
    assert "There are none" in at.info[0].value
    assert {each.proto.query_param_key for each in (*at.selectbox, *at.text_input)} == {"task", "search"}


@pytest.mark.slow
def test_hostile_answers_reach_text_alone(strange, show):
    at = show(strange, "samples", id="run-0", task=PRIOR)
    for text in SOME:
        at.query_params = {"id": f"run-{HOSTILE.index(text)}", "task": PRIOR}
        assert not at.run().exception
        assert_only_text(at)
        assert len(shown(at)) == 3


# --- painting ---------------------------------------------------------------------------------------------------------


def test_parts_end_with_lines_and_fit_on_narrow_ones():
    assert list(parts("ab\ncd\n")) == ["ab↵", "cd↵"]
    assert list(parts("")) == ["�"]
    assert [len(part) for part in parts("x" * (NARROW + 4))] == [NARROW, 4]
    assert [len(part) for part in parts("漢" * NARROW)] == [NARROW // 2] * 2
    assert list(parts("a\u202e\x00")) == ["a��"]


def test_tokens_are_laid_out_on_wide_and_narrow_lines():
    tokens = [{"text": text, "nats": 0.0} for text in ("x" * 30, " you", "\n", "z" * 60)]
    laid = pieces(tokens)
    assert [(p["text"][:3], p["indent"]) for p in laid] == [("xxx", 0), ("you", 1), ("↵", 0), ("zzz", 0), ("zzz", 0)]
    assert [(p["wide_line"], p["wide_column"]) for p in laid] == [(0, 0), (0, 30), (0, 34), (1, 0), (1, 36)]
    assert [(p["narrow_line"], p["narrow_column"]) for p in laid] == [(0, 0), (0, 30), (0, 34), (1, 0), (2, 0)]
    assert all(p["wide_column"] + p["cells"] <= WIDE and p["narrow_column"] + p["cells"] <= NARROW for p in laid)


def test_picture_is_drawn_in_the_ink_of_the_page():
    light, dark = (
        painted([{"text": "a", "nats": 1.0}], theme)["layer"][1]["mark"]["color"] for theme in (None, "dark")
    )
    assert light != dark
