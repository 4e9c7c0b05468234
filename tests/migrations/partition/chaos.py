"""Operators struck at a point of our choice, writers that outlive their server, and what holds.

An operator is the command line in a process of its own, forked from one that has imported it
already, so that a point costs a fraction of a second. Points are counted in exchanges with the
server (a statement, a BEGIN, a COMMIT, on whichever connection), so that every boundary between two
of them is as likely to be struck as any other, however short the time is that it takes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import errors, sql

from migrations.partition import backfill, cli
from tests.migrations.partition.application import Session, Writers, differences

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["__main__", "migrations.partition.cli", __name__])

SMALL_SLICE_ROWS = 60
"""The first slice of a month here, so that the small months of tests have several."""
SETTING_UP = 20
"""Exchanges at the beginning that every operator spends on its session and its lock."""


@dataclass(frozen=True)
class Strike:
    """Where an operator is struck: at which exchange with the server, and when of it."""

    exchange: int
    when: Literal["before", "amid", "after"] = "before"
    delay: float = 0.0
    """Seconds after the beginning, for `amid`."""

    @classmethod
    def at_random(cls, chance: random.Random, most: int) -> Strike:
        """Choose one of the exchanges, mostly past those that set the session up."""
        exchange = chance.randint(1 if chance.random() < 0.05 else SETTING_UP, SETTING_UP + most)
        moments: list[Literal["before", "amid", "after"]] = ["before", "amid", "after"]
        when = chance.choice(moments)
        return cls(exchange, when, chance.random() * 0.003)


@dataclass(frozen=True)
class Result:
    """How an operator ended."""

    code: int
    """The exit code; negative for a signal."""
    values: dict[str, Any]
    """What was printed as JSON; empty if nothing was."""
    shown: str
    """All that was printed."""

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def message(self) -> str:
        return str(self.values.get("message", ""))


class Operator:
    """A run of the command line; killed at the strike, or held there until `go_on`."""

    def __init__(
        self,
        url: str,
        output: Path,
        arguments: list[str],
        strike: Strike | None = None,
        kill: bool = True,
    ) -> None:
        self._output = output
        self._struck = _CONTEXT.Event()
        self._go_on = _CONTEXT.Event()
        self._process = _CONTEXT.Process(
            target=_operate,
            args=(url, str(output), arguments, strike, None if kill else self._struck, self._go_on),
        )
        self._process.start()

    def wait_for_strike(self, seconds: float = 60) -> bool:
        """Wait until the operator is at its point; False if it ended before."""
        deadline = time.monotonic() + seconds
        while not self._struck.wait(0.01):
            if not self._process.is_alive() or time.monotonic() > deadline:
                return self._struck.is_set()
        return True

    def go_on(self) -> None:
        """Let an operator that is held at its point go on."""
        self._go_on.set()

    def result(self, seconds: float = 120) -> Result:
        """Wait for the end."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"the operator did not end:\n{self._output.read_text()}")
        shown = self._output.read_text()
        values: dict[str, Any] = {}
        for line in shown.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found = json.loads(line)
                values = found if isinstance(found, dict) else values
        code = self._process.exitcode
        assert code is not None
        return Result(code, values, shown)


def _operate(
    url: str,
    output: str,
    arguments: list[str],
    strike: Strike | None,
    struck: Event | None,
    go_on: Event,
) -> None:
    """Be the operator: `python -m migrations.partition` with these arguments."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ["DATABASE_URL"] = url
    assert hasattr(backfill, "_FIRST_SLICE_ROWS"), (
        "the size of the first slice has another name now"
    )
    backfill._FIRST_SLICE_ROWS = SMALL_SLICE_ROWS

    def hit() -> None:
        if struck is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            struck.set()

    if strike is not None:
        intercept(strike, hit, lambda: go_on.wait(60))
    cli.app([*arguments, "--json"], prog_name="python -m migrations.partition")


def intercept(
    strike: Strike, hit: Callable[[], object], hold: Callable[[], object] = lambda: None
) -> Callable[[], None]:
    """Call `hit` at the point, in this process, and `hold` unless an exchange is under way.

    Return what ends it.
    """
    original = psycopg.Connection.wait
    numbers = itertools.count(1)

    def wait(self: psycopg.Connection, *arguments: Any, **options: Any) -> Any:
        here = next(numbers) == strike.exchange
        if here and strike.when == "before":
            hit()
            hold()
        elif here and strike.when == "amid":
            threading.Timer(strike.delay, hit).start()
        answer = original(self, *arguments, **options)
        if here and strike.when == "after":
            hit()
            hold()
        return answer

    def end() -> None:
        psycopg.Connection.wait = original

    psycopg.Connection.wait = wait
    return end


class PersistentWriters(Writers):
    """Writers that connect again when their server is gone, and that take their time.

    A commit whose answer was lost may have been done or not; the journal, part of it, tells.
    `tolerated` are errors that the application would see as well, without any partitioning.
    """

    def __init__(
        self,
        url: str,
        threads: int = 2,
        seed: int = 1,
        pause: float = 0.004,
        tolerated: tuple[type[psycopg.Error], ...] = (),
    ) -> None:
        super().__init__(url, threads, seed)
        self.pause = pause
        self.tolerated = tolerated
        self.refused = 0
        """How often one of the tolerated errors was met."""
        self.lost = 0
        """How often a connection was."""

    def _work(self, chance: random.Random) -> None:
        own: list[uuid.UUID] = []
        try:
            while not self._stop.is_set():
                connection = self._connect()
                if connection is None:
                    continue
                with connection:
                    known = list(own)
                    try:
                        own[:] = _in_journal(connection, own)
                        session = Session(connection, chance, own, *_shared(connection))
                        while not self._stop.wait(self.pause):
                            known = list(own)
                            self._try(connection, session)
                    except psycopg.OperationalError:
                        if not connection.broken:
                            raise
                        self.lost += 1
                        own[:] = list({*known, *own})
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _try(self, connection: psycopg.Connection, session: Session) -> None:
        known = list(session.own)
        try:
            self._transaction(connection, session)
        except self.tolerated:
            session.own[:] = known
            self.refused += 1
            self._stop.wait(0.05)

    def _connect(self) -> psycopg.Connection | None:
        try:
            return psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            self._stop.wait(0.05)
            return None


def _in_journal(connection: psycopg.Connection, keys: list[uuid.UUID]) -> list[uuid.UUID]:
    rows = connection.execute("SELECT id FROM journal WHERE id = ANY(%s) ORDER BY id", [keys])
    return [row[0] for row in rows]


def _shared(
    connection: psycopg.Connection,
) -> tuple[list[uuid.UUID], tuple[list[uuid.UUID], list[uuid.UUID]]]:
    """Return the keys all writers want, and those of actors and flashcards."""
    shared, actors, flashcards = (
        [row[0] for row in connection.execute(query)]
        for query in (
            "SELECT id FROM journal ORDER BY id LIMIT 40",
            "SELECT id FROM actors",
            "SELECT id FROM flashcards",
        )
    )
    return shared, (actors, flashcards)


def wait_until_gone(connection: psycopg.Connection) -> None:
    """Wait for the sessions of operators that were killed to be noticed as gone."""
    deadline = time.monotonic() + 30
    while True:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'partitioning %'"
        ).fetchone()
        if row == (0,):
            return
        assert time.monotonic() < deadline, "a session of a killed operator never ended"
        time.sleep(0.02)


@dataclass(frozen=True)
class Standing:
    """How far the bookkeeping says it is."""

    phase: str
    """The last phase done; empty if there is none."""
    complete: dict[str, Any]
    """The rows of months that are live, with the file of their partition."""


def standing(connection: psycopg.Connection) -> Standing:
    """Read where the table stands."""
    exists = connection.execute("SELECT to_regclass('partitioning.months')").fetchone()
    if exists == (None,):
        return Standing("", {})
    phase = connection.execute("SELECT phase FROM partitioning.tables").fetchone()
    months = connection.execute(
        "SELECT month::text, (m.generation, m.rows, m.position, m.seconds,"
        " pg_relation_filenode(to_regclass(m.partition_name)))::text"
        " FROM partitioning.months AS m WHERE state = 'live'"
    ).fetchall()
    return Standing(phase[0] if phase else "", dict(months))


@contextlib.contextmanager
def _snapshot(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def expect_consistent(connection: psycopg.Connection) -> Standing:
    """Assert, on one snapshot, that nothing is lost or doubled; return where the table stands.

    What the application reads is what the writers say they committed. The other table has the same
    rows: from cutover on all of them, before in the months that are live, except for keys that the
    log knows to be pending. Nobody may be at work on the table.
    """
    with _snapshot(connection):
        now = standing(connection)
        assert not differences(connection, "review_logs", "journal")
        if now.phase == "cutover":
            assert not differences(connection, "review_logs", "review_logs_retired")
        else:
            assert disagreements(connection) == []
    return now


def disagreements(connection: psycopg.Connection) -> list[Any]:
    """Return the rows of live months that are in one table only, and whose key no log has."""
    exists = connection.execute("SELECT to_regclass('partitioning.months')").fetchone()
    if exists == (None,):
        return []
    live = connection.execute(
        "SELECT month, partition_name FROM partitioning.months WHERE state = 'live' ORDER BY month"
    ).fetchall()
    found: list[Any] = []
    for month, partition in live:
        found += connection.execute(
            sql.SQL(
                "WITH o AS (SELECT * FROM review_logs WHERE reviewed_at >= {month}"
                " AND reviewed_at < {month} + interval '1 month'), n AS (TABLE {partition})"
                " SELECT * FROM ((TABLE o EXCEPT ALL TABLE n) UNION ALL"
                " (TABLE n EXCEPT ALL TABLE o)) AS d"
                " WHERE id NOT IN (SELECT id FROM partitioning.public_review_logs_changes)"
            ).format(month=sql.Literal(month), partition=sql.Identifier(partition))
        ).fetchall()
    return found


def is_lost_connection(error: psycopg.Error) -> bool:
    """Tell whether the error is what a server's going away looks like."""
    return isinstance(error, errors.OperationalError) and (
        error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
    )
