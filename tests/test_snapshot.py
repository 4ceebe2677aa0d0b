"""What the board shows while its file is written, replaced, torn or gone: the last state that was published."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Query
from razorbench.harness.store.requests import StoreError
from razorbench.leaderboard import snapshot
from razorbench.leaderboard.snapshot import Empty, Shelf, State
from tests.board_home import TRACK, small


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return small(tmp_path / "home")


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """A slow machine may take its time."""
    monkeypatch.setattr(snapshot, "PATIENCE", 60)


def entries(shelf: Shelf) -> int:
    return shelf.latest().count(Query(TRACK))


def hide(store: Store) -> None:
    for seed in (0, 1):
        store.decide(f"{TRACK}-grpo-{seed}", "hidden", "why")


def test_what_is_published_is_shown(store: Store):
    shelf = Shelf(store.home)
    before = shelf.latest()
    assert entries(shelf) == 3
    assert shelf.latest() is before  # nothing is opened twice
    hide(store)
    assert entries(shelf) == 2
    assert before.count(Query(TRACK)) == 3  # a page that began with it ends with it


def tearings(file: Path) -> Iterator[bytes]:
    """Contents of a file that was torn in several ways."""
    whole = file.read_bytes()
    yield from (whole[: len(whole) // 2], whole[:5_000], b"", b"no database" * 1_000)
    holes = bytearray(whole)
    for block in range(12_288, len(whole), 262_144):  # after the header: some hold rows, some are free
        holes[block + 1_000 : block + 2_000] = bytes(1_000)
    yield bytes(holes)


def test_a_torn_file_leaves_the_state_before_it(store: Store):
    shelf = Shelf(store.home)
    assert entries(shelf) == 3
    for torn in list(tearings(store.snapshot)):
        store.snapshot.write_bytes(torn)
        assert entries(shelf) == 3
        assert "razorbench rebuild" in shelf.trouble
    hide(store)  # a writer publishes a whole one
    assert entries(shelf) == 2
    assert shelf.trouble == ""


def test_a_missing_file_leaves_the_state_before_it(store: Store):
    shelf = Shelf(store.home)
    assert entries(shelf) == 3
    kept = store.snapshot.read_bytes()
    store.snapshot.unlink()
    assert entries(shelf) == 3
    assert "is gone" in shelf.trouble
    store.snapshot.write_bytes(kept)
    assert entries(shelf) == 3
    assert shelf.trouble == ""


def first_page(home: Path, monkeypatch) -> list:
    monkeypatch.setattr(snapshot.NOW, "state", Shelf(home).latest(), raising=False)
    return snapshot.ask(Store.entries, Query(TRACK))


def test_without_a_state_before_it_a_torn_file_is_a_sentence(store: Store, monkeypatch):
    for torn in list(tearings(store.snapshot)):
        store.snapshot.write_bytes(torn)
        with pytest.raises(StoreError, match="razorbench rebuild"):
            first_page(store.home, monkeypatch)


def test_nothing_to_show_says_how_to_get_it(tmp_path: Path):
    with pytest.raises(Empty, match="razorbench demo"):
        Shelf(tmp_path).latest()


@pytest.mark.slow
def test_pages_are_answered_while_workers_write(store: Store):
    shelf, done, seen = Shelf(store.home), threading.Event(), []

    def write() -> None:
        for i in range(10):
            store.decide(f"{TRACK}-sft-0", "unhidden" if i % 2 else "hidden", "again")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        seen.append((entries(shelf), shelf.trouble))
    writer.join()
    assert set(seen) == {(3, "")}  # the other seed keeps the entry on the board
    assert entries(shelf) == 3


def test_a_state_is_opened_while_the_one_before_is_shown(store: Store, monkeypatch):
    shelf, hold = Shelf(store.home), threading.Event()
    assert entries(shelf) == 3
    monkeypatch.setattr(snapshot, "PATIENCE", 0)
    opened = shelf.open
    monkeypatch.setattr(shelf, "open", lambda: hold.wait(60) and opened())
    hide(store)
    assert entries(shelf) == 3
    hold.set()
    shelf.opening.result(60)
    assert entries(shelf) == 2


def test_a_state_answers_a_question_once(store: Store):
    state, asked = State(store.home), []

    def question(state: State, number: int) -> int:
        asked.append(number)
        return number

    assert [state.answer(question, number) for number in (1, 1, 2)] == [1, 1, 2]
    assert asked == [1, 2]
