from __future__ import annotations

import sqlite3
import time
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from history.anki import Revlog, read_revlog
from history.sources import HistoryError
from tests.history.helpers import REVLOG_COLUMNS, Entry, write_csv

FIRST = 1_737_747_498_344
CARD = 1_724_592_148_123
ENTRIES: list[Entry] = [
    (FIRST, CARD, 3, -600, -60, 0, 1857, 0),
    (FIRST + 700_000, CARD, 4, 4, -600, 2500, 2000, 0),
    (FIRST + 800_000, CARD + 1, 1, -60, -60, 0, 900, 0),
    (FIRST + 900_000, CARD, 0, 9, 4, 2500, 0, 4),
    (FIRST + 950_000, CARD, 3, 9, 4, 2500, 0, 5),
    (FIRST + 990_000, CARD + 1, 2, 0, 0, 0, 900, 3),
]


def changed(**values: object) -> Entry:
    """Return the first entry with some of its values changed."""
    return [values.get(name, old) for name, old in zip(REVLOG_COLUMNS, ENTRIES[0], strict=True)]


def write_collection(
    path: Path, entries: list[Entry], columns: tuple[str, ...] = REVLOG_COLUMNS
) -> Path:
    """Write the part of an Anki collection that matters, with Anki's extra column usn."""
    with closing(sqlite3.connect(path)) as collection:
        names = ", ".join(columns)
        collection.execute(f"CREATE TABLE revlog ({names}, usn DEFAULT -1)")
        collection.execute("CREATE TABLE cards (id integer primary key)")
        marks = ", ".join("?" * len(columns))
        collection.executemany(f"INSERT INTO revlog ({names}) VALUES ({marks})", entries)
        collection.commit()
    return path


def same(one: Revlog, two: Revlog) -> bool:
    return one.skipped == two.skipped and all(
        np.array_equal(getattr(one, name), getattr(two, name))
        for name in ("id", "card", "rating", "interval")
    )


def test_reviews_are_read_and_reschedules_skipped_and_counted(tmp_path: Path) -> None:
    revlog = read_revlog(write_csv(tmp_path / "revlog.csv", ENTRIES))
    assert revlog.id.tolist() == [FIRST, FIRST + 700_000, FIRST + 800_000, FIRST + 990_000]
    assert revlog.card.tolist() == [CARD, CARD, CARD + 1, CARD + 1]
    assert revlog.rating.tolist() == [3, 4, 1, 2]
    assert revlog.interval.tolist() == [600, 4 * 86_400, 60, 0]
    assert revlog.skipped == 2


def test_a_collection_and_its_csv_hold_the_same_reviews(tmp_path: Path) -> None:
    collection = read_revlog(write_collection(tmp_path / "collection.anki2", ENTRIES))
    assert same(collection, read_revlog(write_csv(tmp_path / "revlog.csv", ENTRIES)))


def test_the_kind_of_a_file_is_told_by_its_content_not_its_name(tmp_path: Path) -> None:
    collection = write_collection(tmp_path / "collection.csv", ENTRIES)
    assert same(read_revlog(collection), read_revlog(write_csv(tmp_path / "a.anki2", ENTRIES)))


def test_rows_may_be_in_any_order(tmp_path: Path) -> None:
    ordered = read_revlog(write_csv(tmp_path / "a.csv", ENTRIES))
    assert same(ordered, read_revlog(write_csv(tmp_path / "b.csv", ENTRIES[::-1])))


def test_columns_may_be_in_any_order_with_others_between_and_some_missing(tmp_path: Path) -> None:
    path = tmp_path / "revlog.csv"
    lines = [f"{e[7]},x,{e[3]},{e[2]},{e[1]},{e[0]}" for e in ENTRIES]
    text = "\r\n".join(["type,note,ivl,ease,cid,id", *lines, "", ""])
    path.write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert same(read_revlog(path), read_revlog(write_csv(tmp_path / "plain.csv", ENTRIES)))


def listed(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_collection_is_read_without_a_trace(tmp_path: Path, mode: str) -> None:
    path = write_collection(tmp_path / "what? 100%#.anki2", ENTRIES)
    with closing(sqlite3.connect(path)) as anki:
        anki.execute(f"PRAGMA journal_mode = {mode}")
    before = listed(tmp_path)
    assert len(read_revlog(path)) == 4
    assert listed(tmp_path) == before


def test_reviews_still_in_the_log_of_an_open_collection_are_read(tmp_path: Path) -> None:
    path = write_collection(tmp_path / "collection.anki2", ENTRIES)
    with closing(sqlite3.connect(path)) as anki:
        anki.execute("PRAGMA journal_mode = wal")
        anki.execute(f"UPDATE revlog SET ease = 2 WHERE id = {FIRST}")
        anki.commit()
        assert read_revlog(path).rating[0] == 2


def test_a_collection_locked_by_anki_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_collection(tmp_path / "collection.anki2", ENTRIES)
    monkeypatch.setattr("history.anki.SECONDS_FOR_A_LOCK", 0.1)
    with closing(sqlite3.connect(path)) as anki:
        anki.execute("PRAGMA locking_mode = exclusive")
        anki.execute("PRAGMA journal_mode = wal")
        anki.execute("UPDATE revlog SET ease = 2")
        anki.commit()
        with pytest.raises(HistoryError, match=r"anki2: .*locked.*is Anki still open"):
            read_revlog(path)


BAD_VALUES = {
    "a grade beyond": (changed(ease=5), "ease: takes at most 4; got '5'"),
    "a negative grade": (changed(ease=-1), "ease: takes at least 0; got '-1'"),
    "text": (changed(cid="card"), "cid: takes a valid integer.*; got 'card'"),
    "nothing": (changed(ivl=""), "ivl: takes a valid integer.*; got ''"),
    "a fraction": (changed(ivl="1.5"), "ivl: takes a valid integer.*; got '1.5'"),
    "seconds": (changed(id=FIRST // 1000), "id: takes at least 631152000000; got"),
    "the future": (
        changed(id=int((time.time() + 200_000) * 1000)),
        "id: takes the time of a review in milliseconds, not in the future; got",
    ),
    "a card beyond": (changed(cid=2**63), "cid: takes less than 9223372036854775808; got"),
    "an interval beyond": (changed(ivl=9_999_999), "ivl: takes at most 1000000"),
    "a type beyond": (changed(type=6), "type: takes at most 5; got '6'"),
    "too few": (ENTRIES[0][:5], "has 5 values where the header has 8"),
    "too many": ([*ENTRIES[0], 1], "has 9 values where the header has 8"),
    "a time twice": (ENTRIES[1], f"id: {FIRST + 700_000} is that of line 3 too"),
}


@pytest.mark.parametrize(("entry", "problem"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_malformed_line_is_refused_with_file_line_and_column(
    tmp_path: Path, entry: Entry, problem: str
) -> None:
    path = write_csv(tmp_path / "revlog.csv", [*ENTRIES[:2], entry, *ENTRIES[2:]])
    with pytest.raises(HistoryError, match=rf"revlog\.csv, line 4: {problem}") as raised:
        read_revlog(path)
    assert "\n" not in str(raised.value)


def test_a_malformed_row_of_a_collection_is_refused_with_file_row_and_column(
    tmp_path: Path,
) -> None:
    path = write_collection(tmp_path / "c.anki2", [ENTRIES[0], changed(id=FIRST + 1, ease=None)])
    with pytest.raises(HistoryError, match=r"c\.anki2, row 2: ease: takes .* got None"):
        read_revlog(path)


def test_a_collection_lacking_a_column_is_refused(tmp_path: Path) -> None:
    path = write_collection(tmp_path / "c.anki2", [(FIRST, CARD)], columns=("id", "cid"))
    with pytest.raises(HistoryError, match=r"its table revlog lacks ease, ivl, type"):
        read_revlog(path)


def packed() -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("collection.anki2", "")
    return buffer.getvalue()


def other_database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE notes (id)")
        return database.serialize()


HEADER = ",".join(REVLOG_COLUMNS)
NOT_AN_EXPORT = {
    "empty": (b"", "is empty"),
    "header alone": (f"{HEADER}\n".encode(), "holds no reviews, no rows"),
    "reschedules alone": (
        f"{HEADER}\n{','.join(map(str, ENTRIES[3]))}\n".encode(),
        "holds no reviews, only 1 reschedules",
    ),
    "no header": (b"1737747498344,1724592148123,3,-600,-60,0,1857,0\n", "line 1: the header lacks"),
    "columns missing": (b"id,cid,ease\n1,2,3\n", "line 1: the header lacks ivl, type"),
    "semicolons": (HEADER.replace(",", ";").encode(), "line 1: the header lacks id, cid"),
    "blank line": (b"\n", "line 1: the header lacks"),
    "open quote": (f'{HEADER}\n"1,2\n'.encode(), "line 2: is no CSV"),
    "binary": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "neither an Anki collection .* nor CSV"),
    "package": (packed(), r"is a packed export \(\.apkg or \.colpkg.*Extract collection\.anki21"),
    "compressed": (b"\x28\xb5\x2f\xfd" + bytes(20), r"is compressed \(collection\.anki21b\)"),
    "another database": (other_database(), "has no table revlog"),
    "damaged database": (b"SQLite format 3\x00" + bytes(200), "SQLite"),
}


@pytest.mark.parametrize(("content", "problem"), NOT_AN_EXPORT.values(), ids=NOT_AN_EXPORT)
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "export"
    path.write_bytes(content)
    with pytest.raises(HistoryError, match=problem) as raised:
        read_revlog(path)
    assert str(raised.value).startswith(str(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="there is no such file"):
        read_revlog(tmp_path / "missing.csv")
    with pytest.raises(HistoryError, match="is a directory"):
        read_revlog(tmp_path)
