"""The contenders: each fills a partitioned table with the rows of `review_logs`, in its own way.

`prepare` is not timed: it makes what is there before the first row moves. All end with the same
indexes on 24 monthly partitions and more, except that pg_partman moves the rows away.
"""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from migrations.partition import calendar, runs
from migrations.partition.engine import Engine, Options, Outcome, open_session
from migrations.partition.phases import Phase
from migrations.partition.progress import Reporter
from migrations.partition.spec import Spec

SPEC = Spec(table="public.review_logs", key="reviewed_at", interval="month", ahead=3)
JOBS = 2
BATCH = 10_000

_SOURCE = sql.Identifier("review_logs")
_TARGET = sql.Identifier("target")

_INDEXES: tuple[LiteralString, ...] = (
    "ALTER TABLE {} ADD PRIMARY KEY (id, reviewed_at)",
    'CREATE INDEX ON {} ("actorId", reviewed_at)',
    'CREATE INDEX ON {} ("flashcardId")',
)


@dataclass(frozen=True)
class Contender:
    """One way to fill the table; `fill` is timed."""

    name: str
    prepare: Callable[[str], None]
    fill: Callable[[str], None]
    target: str = "target"
    """Where the rows are afterwards."""


@contextmanager
def engine(url: str) -> Iterator[Engine]:
    """Yield an operator's engine, quiet."""
    options = Options(jobs=JOBS)
    with open_session(url, SPEC, "benchmark", options) as connection:
        yield Engine(SPEC, url, connection, options, Reporter(quiet=True), "benchmark")


def run_phases(url: str, *phases: Phase) -> list[Outcome]:
    """Run phases of the engine; return what they say."""
    with engine(url) as operator:
        return [runs.PHASES[phase](operator) for phase in phases]


def _execute(url: str, *statements: sql.Composed | LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _months(url: str) -> list[date]:
    """Return the months from the first row through three ahead, as the engine makes them."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT min(reviewed_at)::date FROM review_logs").fetchone()
    assert row is not None  # noqa: S101 -- an aggregate gives a row
    last = calendar.plus(calendar.current_month(), SPEC.ahead)
    return calendar.through(row[0].replace(day=1), last)


def _partition(month: date) -> sql.Identifier:
    return sql.Identifier(f"target_{month:%Y%m}")


def _bounds(month: date) -> dict[str, sql.Composable]:
    return {
        "lower": sql.Literal(month.isoformat()),
        "upper": sql.Literal(calendar.plus(month, 1).isoformat()),
    }


def _create_parent(url: str) -> None:
    _execute(
        url,
        "CREATE TABLE target (LIKE review_logs INCLUDING DEFAULTS)"
        " PARTITION BY RANGE (reviewed_at)",
        *(sql.SQL(index).format(_TARGET) for index in _INDEXES),
    )


def _create_finished(url: str) -> None:
    """Create the partitioned table with all partitions and indexes."""
    _create_parent(url)
    _execute(
        url,
        *(
            sql.SQL(
                "CREATE TABLE {partition} PARTITION OF target"
                " FOR VALUES FROM ({lower}) TO ({upper})"
            ).format(partition=_partition(month), **_bounds(month))
            for month in _months(url)
        ),
    )


def _insert_select(url: str) -> None:
    _execute(url, "INSERT INTO target SELECT * FROM review_logs")


def _batches(url: str) -> None:
    """Fill by ranges of 10,000 ids, each its own transaction; the last ones seen by OFFSET."""
    last: Any = "00000000-0000-0000-0000-000000000000"
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT id FROM review_logs WHERE id > %s ORDER BY id OFFSET %s LIMIT 1",
                [last, BATCH - 1],
            ).fetchone()
            upper = row[0] if row else "ffffffff-ffff-ffff-ffff-ffffffffffff"
            connection.execute(
                "INSERT INTO target SELECT * FROM review_logs WHERE id > %s AND id <= %s"
                " ON CONFLICT DO NOTHING",
                [last, upper],
            )
            if row is None:
                return
            last = upper


def _create_unindexed(url: str) -> None:
    """Create one table a month, without indexes; the check spares ATTACH its scan."""
    _create_parent(url)
    _execute(
        url,
        *(
            sql.SQL(
                "CREATE TABLE {partition} (LIKE review_logs INCLUDING DEFAULTS,"
                " CHECK (reviewed_at >= {lower} AND reviewed_at < {upper}))"
            ).format(partition=_partition(month), **_bounds(month))
            for month in _months(url)
        ),
    )


def floor(directory: Path) -> Contender:
    """Return the floor: each month by COPY from a file of its rows, then its indexes.

    The files, which no real migration has, are written before the clock starts; `directory` is one
    that the server may write to.
    """

    def prepare(url: str) -> None:
        _create_unindexed(url)
        for month in _months(url):
            _execute(
                url,
                sql.SQL(
                    "COPY (SELECT * FROM review_logs"
                    " WHERE reviewed_at >= {lower} AND reviewed_at < {upper})"
                    " TO {file} (FORMAT binary)"
                ).format(file=_file(directory, month), **_bounds(month)),
            )

    def fill(url: str) -> None:
        def bring(connection: psycopg.Connection, month: date) -> None:
            partition = _partition(month)
            connection.execute(
                sql.SQL("COPY {} FROM {} (FORMAT binary)").format(
                    partition, _file(directory, month)
                )
            )
            for index in _INDEXES:
                connection.execute(sql.SQL(index).format(partition))
            connection.execute(
                sql.SQL(
                    "ALTER TABLE target ATTACH PARTITION {partition}"
                    " FOR VALUES FROM ({lower}) TO ({upper})"
                ).format(partition=partition, **_bounds(month))
            )

        _in_parallel(url, bring)

    return Contender("floor: COPY from files, then indexes", prepare, fill)


def _file(directory: Path, month: date) -> sql.Literal:
    return sql.Literal(str(directory / f"{month:%Y%m}.copy"))


def _in_parallel(url: str, work: Callable[[psycopg.Connection, date], None]) -> None:
    tasks: queue.SimpleQueue[date] = queue.SimpleQueue()
    for month in _months(url):
        tasks.put(month)

    def worker() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                try:
                    month = tasks.get_nowait()
                except queue.Empty:
                    return
                work(connection, month)

    with ThreadPoolExecutor(JOBS) as pool:
        for future in [pool.submit(worker) for _ in range(JOBS)]:
            future.result()


def _prepare_partman(url: str) -> None:
    """Rename the table away, as pg_partman's guide to offline partitioning does."""
    first = _months(url)[0]
    _execute(
        url,
        "CREATE SCHEMA partman",
        "CREATE EXTENSION pg_partman SCHEMA partman",
    )
    _create_parent(url)
    _execute(
        url,
        sql.SQL(
            "SELECT partman.create_parent('public.target', 'reviewed_at', 'native', 'monthly',"
            " p_premake := 3, p_start_partition := {})"
        ).format(sql.Literal(first.isoformat())),
    )


def _fill_partman(url: str) -> None:
    """Move the rows; without the second's pause after each month that is the default."""
    _execute(
        url,
        "CALL partman.partition_data_proc('public.target', p_wait := 0,"
        " p_source_table := 'public.review_logs', p_quiet := true)",
    )


ENGINE = Contender(
    "engine: backfill --jobs 2",
    lambda url: (run_phases(url, Phase.PREPARE, Phase.SYNC), None)[1],
    lambda url: (run_phases(url, Phase.BACKFILL), None)[1],
    "review_logs_partitioned",
)
INSERT_SELECT = Contender("one INSERT ... SELECT", _create_finished, _insert_select)
BATCHES = Contender("batches of 10,000 keys (pgslice's method)", _create_finished, _batches)
PARTMAN = Contender("pg_partman's partition_data_proc", _prepare_partman, _fill_partman)


@contextmanager
def exchange_directory() -> Iterator[Path]:
    """Yield a directory that servers of other users may write to."""
    with tempfile.TemporaryDirectory(prefix="bench-copy-") as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory
