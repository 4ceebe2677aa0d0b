"""What the submitter says of a submission: `submission.toml`, read strictly and written back."""

import math
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from razorbench import Refused
from razorbench.submissions.strict import meant, shown

FILE = "submission.toml"

REPORTED = ("gain", "retention", "drift")
"""What a submitter may have measured."""

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the order of what follows, so that a line shows other words than it holds."""

ID = re.compile("[0-9a-f]{16}")
"""How submissions and records are numbered."""
METHOD = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
NAME, SEEDS, ROWS = 80, 32, 64
"""The most characters of a name, and the most seeds and settings."""

SIZE, LINES, DOTS = 65_536, 1_000, 1_000
"""The most bytes, lines and dots: the time that TOML's dotted names take grows with the square of their length."""


@dataclass(frozen=True)
class Data:
    """Training data, as declared."""

    name: str
    source: str = ""
    """Where it is from, one line."""
    sha256: str = ""
    """Of the data set as a file, 64 hex digits; empty: not said."""
    fingerprints: str = ""
    """Name of a file in the submission: the sha256 of each training question, one a line; empty: not given."""


@dataclass(frozen=True)
class Claim:
    """What the submitter says of a submission; nothing of it is taken for granted."""

    track: str
    name: str
    method: str
    licence: str
    seeds: tuple[int, ...] = ()
    """Several: the weights of each are in `seed-<n>/`. One: there or, as where none is said, in the own folder."""
    contact: str = ""
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    compute: Mapping[str, str | int | float] = field(default_factory=dict)
    """What it took, such as `device` and `seconds`."""
    data: tuple[Data, ...] = ()
    reported: Mapping[str, float] = field(default_factory=dict)
    """What the submitter measured, by the names of `REPORTED`."""


def load(path: Path) -> Claim:
    """The claim in the file submission.toml, as `read` does."""
    try:
        return read(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Refused(f"{FILE} is not UTF-8 text (byte {error.start}): write it as UTF-8") from None


def read(text: str) -> Claim:
    """The claim in the text of a submission.toml. Refused if anything in it is unknown, missing or not plain."""
    if len(text.encode("utf-8", "surrogatepass")) > SIZE:
        raise Refused(f"{FILE} is larger than 64 KiB: say less")
    if text.count("\n") > LINES or text.count(".") > DOTS:
        raise Refused(f"{FILE} has more than {LINES:,} lines or {DOTS:,} dots: say less, with names that have no dots")
    try:
        written = tomllib.loads(text)
    except RecursionError:
        raise Refused(f"{FILE} is nested too deep to read: it needs tables of plain values alone") from None
    except (ValueError, OverflowError) as error:
        raise Refused(f"{FILE} is not TOML ({shown(str(error))}): correct it there") from None
    _known(written, Claim, FILE)
    seeds = _list(written, "seeds", SEEDS)
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**31:
            raise Refused(f"{FILE} has the seed {shown(seed)}: seeds are whole numbers from 0 to {2**31 - 1}")
    if len(set(seeds)) < len(seeds):
        raise Refused(f"{FILE} names a seed twice: give each once")
    method = _line(written, "method", 40)
    if not METHOD.fullmatch(method):
        raise Refused(f"{FILE} has the method {shown(method)}: use lower-case letters, digits and '-'")
    reported = table(written, "reported", len(REPORTED))
    for name, value in reported.items():
        if name not in REPORTED:
            raise Refused(f"{FILE} reports {shown(name)}, which is not measured: {meant(name, REPORTED)}")
        if type(value) not in (int, float):
            raise Refused(f"{FILE} reports {name} as {shown(value)}: write a number")
    compute = table(written, "compute", 32)
    if any(isinstance(value, bool) for value in compute.values()):
        raise Refused(f"{FILE} has true or false in [compute]: write a text or a number")
    name = _line(written, "name", NAME)
    if ID.fullmatch(name):
        raise Refused(f"{FILE} has the name {shown(name)}, which has the form of an id: give it another one")
    return Claim(
        track=_line(written, "track", 80),
        name=name,
        method=method,
        licence=_line(written, "licence", 80),
        seeds=tuple(seeds),
        contact=_line(written, "contact", 200, needed=False),
        settings=table(written, "settings", ROWS),
        compute=compute,
        data=tuple(_data(row) for row in _list(written, "data", 32)),
        reported={name: float(value) for name, value in reported.items()},
    )


def write(claim: Claim) -> str:
    """TOML that `read` gives back equal. Refused if the claim says what `read` would refuse."""
    plain = {name: getattr(claim, name) for name in ("track", "name", "method", "licence", "contact")}
    lines = [f"{name} = {_toml(value)}" for name, value in plain.items() if value]
    if claim.seeds:
        lines.append(f"seeds = [{', '.join(map(str, claim.seeds))}]")
    for table in ("settings", "compute", "reported"):
        if rows := getattr(claim, table):
            lines += ["", f"[{table}]", *(f"{name} = {_toml(value)}" for name, value in rows.items())]
    for data in claim.data:
        lines += ["", "[[data]]", *(f"{name} = {_toml(value)}" for name, value in vars(data).items() if value)]
    text = "\n".join(lines) + "\n"
    if read(text) != claim:
        raise Refused("this claim cannot be written: give its fields the types that Claim says")
    return text


def _data(row: Any) -> Data:
    """One table of [[data]]."""
    if not isinstance(row, dict):
        raise Refused(f"{FILE} has {shown(row)} in data: write tables [[data]]")
    where = f"{FILE}, [[data]]"
    _known(row, Data, where)
    data = Data(
        name=_line(row, "name", 80, where=where),
        source=_line(row, "source", 200, needed=False, where=where),
        sha256=_line(row, "sha256", 64, needed=False, where=where),
        fingerprints=_line(row, "fingerprints", 100, needed=False, where=where),
    )
    if not re.fullmatch(r"([0-9a-f]{64})?", data.sha256):
        raise Refused(f"{where} has the sha256 {shown(data.sha256)}: write 64 lower-case hex digits")
    if not re.fullmatch(r"([A-Za-z0-9_-]+\.hashes)?", data.fingerprints):
        raise Refused(f"{where} has fingerprints in {shown(data.fingerprints)}: name a file like train.hashes")
    return data


def _known(written: Mapping[str, Any], kind: type, where: str) -> None:
    """Refused at the first name that is no field of `kind`."""
    known = [each.name for each in fields(kind)]
    for name in written:
        if name not in known:
            raise Refused(f"{where} has the unknown key {shown(name)}: {meant(name, known)}")


def _line(written: Mapping[str, Any], name: str, most: int, needed: bool = True, where: str = FILE) -> str:
    """A line of text, or '' where it may be absent."""
    if name not in written:
        if needed:
            raise Refused(f'{where} lacks {name}: add {name} = "…"')
        return ""
    value = written[name]
    if not isinstance(value, str):
        raise Refused(f"{where} has {shown(value)} for {name}: write a text in quotes")
    if needed and not value:
        raise Refused(f"{where} has nothing for {name}: say it, in at most {most} characters")
    return words(value, most, f"{where}, {name}")


def words(value: str, most: int, where: str) -> str:
    """The text itself, if it is one line of at most so many characters that shows what it holds. Refused if not."""
    if len(value) > most:
        raise Refused(f"{where} has {len(value):,} characters: {most} are the most")
    for character in value:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Zl", "Zp"):
            raise Refused(f"{where} holds a control character or line break ({character!a}): write one plain line")
        if kind in ("Cs", "Cn"):
            raise Refused(f"{where} holds {character!a}, which is no assigned Unicode character: remove it")
        if character in BIDI:
            raise Refused(f"{where} holds {character!a}, which turns the order of the text: remove it")
    if not unicodedata.is_normalized("NFC", value):
        raise Refused(f"{where} is not in Unicode's form NFC: write {shown(unicodedata.normalize('NFC', value))}")
    if value and (value != value.strip() or not any(unicodedata.category(c)[0] in "LNPS" for c in value)):
        raise Refused(f"{where} is blank, or begins or ends with a space: write words")
    return value


def _list(written: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """A list of at most so many."""
    value = written.get(name, [])
    if not isinstance(value, list):
        raise Refused(f"{FILE} has {shown(value)} for {name}: write a list")
    if len(value) > most:
        raise Refused(f"{FILE} has {len(value):,} {name}: {most} are the most")
    return value


def table(written: Mapping[str, Any], name: str, most: int, file: str = FILE) -> dict[str, Any]:
    """A table of at most so many plain values. Refused, naming the file, if it is anything else."""
    rows = written.get(name, {})
    if not isinstance(rows, dict):
        raise Refused(f"{file} has {shown(rows)} for {name}: write a table [{name}]")
    if len(rows) > most:
        raise Refused(f"{file} has {len(rows):,} rows in [{name}]: {most} are the most")
    for key, value in rows.items():
        where = f"{file}, [{name}]"
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", key):
            raise Refused(f"{where} has the name {shown(key)}: use lower-case letters, digits and '_', 40 at most")
        if isinstance(value, str):
            words(value, 200, f"{where}, {key}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise Refused(f"{where} has {value} for {key}: write a finite number, or leave it out")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise Refused(f"{where} has a number of more than 64 bits for {key}: write it as a text")
        elif not isinstance(value, str | int | float):
            raise Refused(f"{where} has {shown(value)} for {key}: write a text, a number, true or false")
    return rows


def _toml(value: Any) -> str:
    """A plain value as TOML."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value).lower()
