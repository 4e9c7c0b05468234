"""Anki's review log as it comes: the table `revlog` of a collection, or a CSV of it.

Anki keeps one row a review: `id` the time in milliseconds since 1970, `cid` the card, `ease` the
grade (1 Again, 2 Hard, 3 Good, 4 Easy; 0 is no review but a reschedule by hand), `ivl` the next
interval (positive days, negative seconds), `type` (0 learn, 1 review, 2 relearn, 3 filtered deck, 4
rescheduled by hand, 5 rescheduled by Anki). The other columns are not needed and may be missing.
"""

from __future__ import annotations

import csv
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from history.fsrs import Integers
from history.sources import HistoryError, explained

SECONDS_FOR_A_LOCK = 5.0
_FIRST_ID = 631_152_000_000
"""1990 in milliseconds: a time in seconds lies well below."""
_LONGEST_CLOCK_ERROR = 86_400_000
_RESCHEDULED = (4, 5)

_SQLITE = b"SQLite format 3\x00"
_ZIP = b"PK\x03\x04"
_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Revlog:
    """The reviews of an export in the order of time, one entry an array."""

    id: Integers
    """When, in milliseconds since 1970; no two are the same."""
    card: Integers
    rating: Integers
    interval: Integers
    """Seconds until the card is due again, as Anki decided at this review."""
    skipped: int
    """Rows that are no reviews: cards rescheduled without being asked."""

    def __len__(self) -> int:
        return len(self.id)


class _Entry(BaseModel):
    """One row of `revlog`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[int, Field(ge=_FIRST_ID)]
    cid: Annotated[int, Field(ge=1, lt=2**63)]
    ease: Annotated[int, Field(ge=0, le=4)]
    ivl: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000)]
    type: Annotated[int, Field(ge=0, le=5)]

    @field_validator("id")
    @classmethod
    def _has_come(cls, value: int) -> int:
        if value > datetime.now(UTC).timestamp() * 1000 + _LONGEST_CLOCK_ERROR:
            raise ValueError("takes the time of a review in milliseconds, not in the future")
        return value


_COLUMNS = tuple(_Entry.model_fields)


def read_revlog(path: Path) -> Revlog:
    """Read and check a whole export, CSV or SQLite as its first bytes tell.

    Raises HistoryError, naming the file, the row, the column and what it takes.
    """
    head = _first_bytes(path)
    if head == _SQLITE:
        return _gathered(path, "row", _sqlite_rows(path))
    if head.startswith(_ZIP):
        raise HistoryError(
            f"{path}: is a packed export (.apkg or .colpkg, a zip archive). Extract "
            "collection.anki21 or collection.anki2 from it (`unzip`) and give that"
        )
    if head.startswith(_ZSTD):
        raise HistoryError(
            f"{path}: is compressed (collection.anki21b). Unpack it (`zstd -d`) and give the "
            "result, or export from Anki with support for older versions"
        )
    return _gathered(path, "line", _csv_rows(path))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
    except FileNotFoundError:
        raise HistoryError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise HistoryError(f"{path}: is a directory; takes a file") from None
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise HistoryError(f"{path}: is empty; takes a revlog as CSV, or an Anki collection")
    return head


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row with the number of the line it ends on."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader)]
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                raise HistoryError(
                    f"{path}, line 1: the header lacks {', '.join(missing)}; takes a CSV of the "
                    "table revlog with the header id,cid,ease,ivl,lastIvl,factor,time,type"
                )
            for values in reader:
                if len(values) == len(header):
                    yield reader.line_num, dict(zip(header, values, strict=True))
                elif values:
                    raise HistoryError(
                        f"{path}, line {reader.line_num}: has {len(values)} values where the "
                        f"header has {len(header)}"
                    )
        except UnicodeDecodeError:
            raise HistoryError(
                f"{path}: is neither an Anki collection (SQLite) nor CSV text in UTF-8"
            ) from None
        except csv.Error as error:
            raise HistoryError(f"{path}, line {reader.line_num}: is no CSV ({error})") from None


def _sqlite_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row of the table with its number, without ever writing to the file."""
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    try:
        with closing(_opened(path)) as collection:
            found = {
                str(row[0])
                for row in collection.execute("SELECT name FROM pragma_table_info('revlog')")
            }
            if not found:
                raise HistoryError(f"{path}: has no table revlog; is it an Anki collection?")
            missing = [name for name in _COLUMNS if name not in found]
            if missing:
                raise HistoryError(f"{path}: its table revlog lacks {', '.join(missing)}")
            rows = collection.execute(f"SELECT {names} FROM revlog ORDER BY id")  # noqa: S608 -- our own names
            for number, row in enumerate(rows, 1):
                yield number, dict(zip(_COLUMNS, row, strict=True))
    except sqlite3.OperationalError as error:
        raise HistoryError(f"{path}: cannot be read ({error}); is Anki still open?") from None
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"{path}: is a damaged SQLite file ({error})") from None


def _opened(path: Path) -> sqlite3.Connection:
    """Open a collection so that neither it nor its directory is changed."""
    # In WAL mode, as Anki's collections are, even a reader leaves files beside them. Where there
    # are none nobody has the collection open: it may be taken as unchanging, which needs none.
    file = path.resolve()
    in_use = any(file.with_name(file.name + ending).exists() for ending in ("-wal", "-journal"))
    address = f"{file.as_uri()}?mode=ro" + ("" if in_use else "&immutable=1")
    return sqlite3.connect(address, uri=True, timeout=SECONDS_FOR_A_LOCK)


def _gathered(path: Path, kind: str, rows: Iterator[tuple[int, dict[str, Any]]]) -> Revlog:
    """Check all rows and return the reviews among them; `kind` is what a row's number counts."""
    number, time, card, rating, interval = (array("q") for _ in range(5))
    skipped = 0
    for place, row in rows:
        try:
            entry = _Entry.model_validate(row)
        except ValidationError as error:
            problems = "; ".join(explained(dict(detail)) for detail in error.errors())
            raise HistoryError(f"{path}, {kind} {place}: {problems}") from None
        if entry.ease == 0 or entry.type in _RESCHEDULED:
            skipped += 1
            continue
        number.append(place)
        time.append(entry.id)
        card.append(entry.cid)
        rating.append(entry.ease)
        interval.append(entry.ivl * 86_400 if entry.ivl > 0 else -entry.ivl)
    if not number:
        found = f"only {skipped} reschedules" if skipped else "no rows"
        raise HistoryError(f"{path}: holds no reviews, {found}")
    ids, places = _column(time), _column(number)
    order = np.argsort(ids, kind="stable")
    (again,) = np.nonzero(np.diff(ids[order]) == 0)
    if again.size:
        first, second = order[again[0]], order[again[0] + 1]
        raise HistoryError(
            f"{path}, {kind} {places[second]}: id: {ids[second]} is that of {kind} {places[first]} "
            "too; takes a time no other review has"
        )
    return Revlog(
        id=ids[order],
        card=_column(card)[order],
        rating=_column(rating)[order],
        interval=_column(interval)[order],
        skipped=skipped,
    )


def _column(values: array[int]) -> Integers:
    return np.frombuffer(values, dtype=np.int64)
