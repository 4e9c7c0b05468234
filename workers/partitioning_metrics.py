"""Metrics of the online partitioning, read from Postgres when they are asked for.

The partitioning keeps its progress in the view `partitioning.progress`, one row a table. Nothing is
remembered between scrapes: what cannot be read now is not there, and `postgres_up` says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import psycopg
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg import errors
from psycopg.rows import class_row

from workers.database import Database, is_passing, is_unavailable, statement

logger = logging.getLogger(__name__)

# What a scrape waits for a server that does not answer, in seconds.
PATIENCE = 0.7

DOCUMENTATION = {
    "months": "Months of the table that have a partition.",
    "months_live": "Months whose partition holds every row and is kept in step.",
    "months_ahead": "Partitions that wait for months to come.",
    "rows_estimated": "Rows the table has, as Postgres estimates.",
    "rows_copied": "Rows that are in the partitions.",
    "changes_pending": "Logged changes that are still to be applied to the partitions.",
    "default_rows": "Rows in the default partition: outside all months.",
}


@dataclass(frozen=True)
class Progress:
    """How far the partitioning of one table is; `updated_at` in seconds since 1970."""

    table_name: str
    phase: str
    months: int
    months_live: int
    rows_estimated: int
    rows_copied: int
    changes_pending: int
    months_ahead: int
    default_rows: int | None
    updated_at: float


def read_progress(connection: psycopg.Connection) -> list[Progress]:
    """Return the progress of every table; none where no partitioning was ever begun."""
    try:
        with connection.cursor(row_factory=class_row(Progress)) as cursor:
            return cursor.execute(statement("partitioning_progress")).fetchall()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return []


class PartitioningCollector(Collector):
    """The partitioning of one database's tables."""

    def __init__(self, database_url: str, failures: Counter) -> None:
        self._database = Database(
            database_url,
            "workers exporter",
            # A read that nobody waits for any more must not go on.
            statement_timeout=round(PATIENCE * 1000),
        )
        self._failures = failures.labels("postgres")
        self._beginning = threading.Lock()
        self._reading: Future[list[Progress] | None] | None = None

    def collect(self) -> Iterator[Metric]:
        started = time.perf_counter()
        progress = self._read()
        up = GaugeMetricFamily("postgres_up", "Whether Postgres answered.")
        up.add_metric([], 0 if progress is None else 1)
        yield up
        duration = GaugeMetricFamily(
            "postgres_scrape_duration_seconds", "Time to ask Postgres for this scrape."
        )
        duration.add_metric([], time.perf_counter() - started)
        yield duration
        if progress:
            yield from families(progress)

    def _read(self) -> list[Progress] | None:
        """Return the progress now, None if the server does not answer in time."""
        with self._beginning:
            # While an attempt hangs no other is begun, and scrapes find the server away. What an
            # earlier scrape gave up waiting for is not what this one asks.
            if self._reading is None or self._reading.done():
                self._reading = self._begin()
            reading = self._reading
        try:
            return reading.result(PATIENCE)
        except TimeoutError:
            self._failures.inc()
            return None

    def _begin(self) -> Future[list[Progress] | None]:
        future: Future[list[Progress] | None] = Future()

        def read() -> None:
            try:
                future.set_result(self._ask())
            except BaseException as error:
                future.set_exception(error)
                raise

        # Not a pool's thread: the end of the program would wait for one that hangs.
        threading.Thread(target=read, name="postgres", daemon=True).start()
        return future

    def _ask(self) -> list[Progress] | None:
        # Twice, because a connection that the server has closed, or a plan that the view has
        # outgrown, is only noticed in use.
        for last in (False, True):
            try:
                return read_progress(self._database.connection())
            except psycopg.Error as error:
                self._database.discard()
                away = is_unavailable(error)
                if not last and (away or is_passing(error)):
                    continue
                self._failures.inc()
                if not away:
                    logger.warning("cannot read the partitioning's progress: %s", error)
                    return []
        return None


def families(tables: list[Progress]) -> Iterator[Metric]:
    """Return the metrics of the tables' partitioning."""
    phase = GaugeMetricFamily(
        "partitioning_phase",
        "1 for the phase the table's partitioning is in.",
        labels=["table", "phase"],
    )
    updated = GaugeMetricFamily(
        "partitioning_updated_timestamp_seconds",
        "When the partitioning last noted its progress.",
        labels=["table"],
    )
    for table in tables:
        phase.add_metric([table.table_name, table.phase], 1)
        updated.add_metric([table.table_name], table.updated_at)
    yield from (phase, updated)
    for field, documentation in DOCUMENTATION.items():
        family = GaugeMetricFamily(f"partitioning_{field}", documentation, labels=["table"])
        for table in tables:
            value: int | None = getattr(table, field)
            if value is not None:
                family.add_metric([table.table_name], value)
        yield family
