"""Months are read again when, and only when, their reviews changed; whatever changed them."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.migrations.partition import application
from tests.servers import PostgresServer
from tests.soak import times
from tests.workers import oracle, worlds
from tests.workers.worlds import Stored, scores
from workers.complexity_calculation import Result, calculate
from workers.complexity_definition import Definition

DEFINITION = Definition()
MONTHS = [datetime(2024, month, 10) for month in range(1, 7)]  # noqa: DTZ001 -- no time zone


def run(connection: psycopg.Connection, definition: Definition = DEFINITION) -> Result:
    return calculate(connection, definition)


def review(month: int, number: int = 0, rating: int = 1) -> oracle.Review:
    """Return one of the reviews of a month, 0 to 5."""
    return oracle.Review(
        number % 3, number % 5, rating, MONTHS[month] + timedelta(hours=number), 2, 3, 0.8
    )


@pytest.fixture
def stored(connection: psycopg.Connection) -> Stored:
    """Six months with ten reviews each, summed up."""
    stored = worlds.store(
        connection, 6, [(0, 1, 1.0), (1, 2, 0.5), (4, 5, 2.0)], {0: None, 1: 0.3, 2: 0.6}
    )
    chance = random.Random(1)
    stored.insert(
        connection,
        [review(month, number, chance.randint(1, 4)) for month in range(6) for number in range(10)],
    )
    assert run(connection).read == 60
    stored.check(connection)
    return stored


@pytest.fixture
def superuser(postgres_server: PostgresServer, database_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to the test's database."""
    url = urlunsplit(urlsplit(postgres_server.url)._replace(path=urlsplit(database_url).path))
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _reviews(nodes: int, actors: int) -> st.SearchStrategy[oracle.Review]:
    snapshot = st.one_of(
        st.just((None, None, None)),
        st.tuples(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0, 1)),
    )
    # A few months next to each other, and the far past and future.
    at = st.one_of(
        st.integers(0, 200_000).map(lambda minutes: MONTHS[0] + timedelta(minutes=minutes)),
        st.sampled_from([1950, 1999, 2024, 2090]).map(lambda year: datetime(year, 12, 31, 23, 59)),  # noqa: DTZ001
    )
    return st.builds(
        lambda actor, node, rating, at, snapshot: oracle.Review(actor, node, rating, at, *snapshot),
        st.integers(0, actors - 1),
        st.integers(0, nodes - 1),
        st.integers(1, 4),
        at,
        snapshot,
    )


@settings(
    max_examples=times(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_after_any_edits_the_increments_agree_with_a_full_run_and_the_oracle(
    connection: psycopg.Connection, data: st.DataObject
) -> None:
    nodes, actors = 5, 3
    node = st.integers(0, nodes - 1)
    edges = data.draw(
        st.lists(st.tuples(node, node, st.sampled_from([1.0, 0.5, 2.5])), max_size=8), "edges"
    )
    stored = worlds.store(connection, nodes, edges, {0: None, 1: 0.3, 2: 0.6})
    one = _reviews(nodes, actors)
    stored.insert(connection, data.draw(st.lists(one, max_size=20), "reviews"))
    run(connection)
    for _ in range(data.draw(st.integers(1, 4), "runs")):
        with connection.transaction():
            for edit in data.draw(
                st.lists(st.sampled_from(["insert", "update", "delete"]), max_size=5), "edits"
            ):
                if edit == "insert" or not stored.reviews:
                    stored.insert(connection, [data.draw(one, "new")])
                    continue
                chosen = data.draw(st.sampled_from(sorted(stored.reviews)), "chosen")
                if edit == "update":
                    stored.update(connection, chosen, data.draw(one, "changed"))
                else:
                    stored.delete(connection, chosen)
        run(connection)
        stored.check(connection)
    incremental = scores(connection)
    worlds.forget(connection)
    run(connection)
    assert scores(connection) == pytest.approx(incremental, abs=1e-9)


def test_only_the_months_that_changed_are_read_again(
    connection: psycopg.Connection, stored: Stored
) -> None:
    assert run(connection).read == 0
    stored.insert(connection, [review(5)])
    result = run(connection)
    assert (result.read, result.reviews) == (11, 61)
    stored.delete(connection, next(iter(stored.reviews)))
    assert run(connection).read == 9
    # A row that moves from one month to another changes both.
    stored.update(connection, list(stored.reviews)[-1], review(1, 7))
    assert run(connection).read == 10 + 11
    stored.check(connection)


def test_another_definition_sums_every_month_up_anew(
    connection: psycopg.Connection, stored: Stored
) -> None:
    before = scores(connection)
    other = Definition(weight_grade=0.2, weight_stability=0.2, weight_retrievability=0.6)
    assert run(connection, other).read == 60
    assert scores(connection) != pytest.approx(before, abs=1e-6)
    assert run(connection, Definition(decay_per_day=0.02)).read == 60
    # Propagation comes after the sums.
    assert run(connection, Definition(decay_per_day=0.02, propagation=0.5)).read == 0
    assert run(connection).read == 60
    stored.check(connection)


def test_a_transaction_that_commits_late_is_missed_by_no_later_run(
    connection: psycopg.Connection, stored: Stored, database_url: str
) -> None:
    with psycopg.connect(database_url) as late:
        stored.insert(late, [review(2, 3, 4)])
        before = dict(stored.reviews)
        stored.reviews.popitem()
        # Others change the same month, which is summed up while the late one is under way.
        stored.insert(connection, [review(2, 4)])
        assert run(connection).read == 11
        stored.check(connection)
        late.commit()
    stored.reviews |= before
    assert run(connection).read == 12
    stored.check(connection)


def test_what_is_rolled_back_is_not_noted_and_what_follows_a_savepoint_is(
    connection: psycopg.Connection, stored: Stored
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE review_logs SET rating = 1")
    assert run(connection).read == 0
    with connection.transaction():
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM review_logs WHERE reviewed_at < '2024-02-01'")
        stored.insert(connection, [review(0), review(0, 1)])
        with connection.transaction():
            stored.insert(connection, [review(3)])
        stored.insert(connection, [review(3)])
    row = connection.execute("SELECT count(*) FROM workers.review_changes").fetchone()
    assert row == (2,)  # each month once a transaction
    assert run(connection).read == 12 + 12
    stored.check(connection)


def test_reviews_of_no_month_count_nowhere(connection: psycopg.Connection, stored: Stored) -> None:
    connection.execute("ALTER TABLE review_logs ALTER reviewed_at DROP NOT NULL")
    stored.insert(connection, [review(2)])
    for at in ("NULL", "'infinity'", "'-infinity'"):
        connection.execute(
            f"UPDATE review_logs SET reviewed_at = {at} WHERE id = %s".encode(),
            [list(stored.reviews)[-1]],
        )
        result = run(connection)
        assert (result.read, result.reviews) == (10 if at == "NULL" else 0, 60)
    stored.reviews.popitem()
    stored.check(connection)


@pytest.mark.parametrize(
    "value", ["null", '"2"', "{}", "[1]", "true", "1e400", "1e-400", "-3", "1e300", "0"]
)
def test_a_snapshot_that_makes_no_sense_counts_as_none(
    connection: psycopg.Connection, stored: Stored, value: str
) -> None:
    stored.insert(connection, [oracle.Review(0, 0, 2, MONTHS[2])])
    connection.execute(
        """UPDATE review_logs SET state = '{"stability": 3}', "previousState" ="""
        """ format('{"stability": %%s, "retrievability": 0.9}', %s::text)::jsonb WHERE id = %s""",
        [value, list(stored.reviews)[-1]],
    )
    assert run(connection).read == 11
    stored.check(connection)


def test_an_emptied_table_is_noticed(connection: psycopg.Connection, stored: Stored) -> None:
    connection.execute("TRUNCATE review_logs")
    result = run(connection)
    assert (result.read, result.reviews) == (0, 0)
    assert scores(connection) == {}
    stored.reviews.clear()
    stored.insert(connection, [review(1), review(2)])
    assert run(connection).read == 2
    stored.check(connection)


def test_a_trigger_that_was_off_for_a_while_is_noticed(
    connection: psycopg.Connection, stored: Stored
) -> None:
    with connection.transaction():
        connection.execute("ALTER TABLE review_logs DISABLE TRIGGER note_review_change")
        stored.insert(connection, [review(0)])
        connection.execute("ALTER TABLE review_logs ENABLE ALWAYS TRIGGER note_review_change")
    assert run(connection).read == 61
    stored.check(connection)
    assert run(connection).read == 0


def test_where_the_trigger_is_off_every_run_reads_everything(
    connection: psycopg.Connection, stored: Stored
) -> None:
    connection.execute("ALTER TABLE review_logs DISABLE TRIGGER note_review_change")
    for month in range(3):
        stored.insert(connection, [review(month)])
        assert run(connection).read == len(stored.reviews)
        stored.check(connection)
    connection.execute("DELETE FROM review_logs WHERE reviewed_at < '2024-02-01'")
    stored.reviews = {key: value for key, value in stored.reviews.items() if value.at.month > 1}
    assert run(connection).reviews == len(stored.reviews)
    stored.check(connection)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER note_review_change ON review_logs",
        "DROP FUNCTION workers.note_review_change() CASCADE",
        "CREATE OR REPLACE FUNCTION workers.note_review_change() RETURNS trigger"
        " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER TABLE review_logs ENABLE REPLICA TRIGGER note_review_change",
        "DROP SCHEMA workers CASCADE",
    ],
)
def test_a_trigger_that_is_damaged_is_mended_and_everything_read_once(
    connection: psycopg.Connection, stored: Stored, damage: str
) -> None:
    connection.execute(damage.encode())
    stored.insert(connection, [review(0)])
    assert run(connection).read == 61
    stored.check(connection)
    assert run(connection).read == 0
    stored.insert(connection, [review(4)])
    assert run(connection).read == 11
    stored.check(connection)


def test_notes_that_were_lost_are_noticed(connection: psycopg.Connection, stored: Stored) -> None:
    stored.insert(connection, [review(0)])
    connection.execute("TRUNCATE workers.review_changes")
    assert run(connection).read == 61
    stored.check(connection)


def test_a_writer_that_replicates_is_noticed(
    connection: psycopg.Connection, stored: Stored, superuser: psycopg.Connection
) -> None:
    superuser.execute("SET session_replication_role = replica")
    stored.insert(superuser, [review(3)])
    assert run(connection).read == 11
    stored.check(connection)


def test_a_busy_table_is_read_in_full_until_the_trigger_can_be_made(
    connection: psycopg.Connection, stored: Stored, database_url: str
) -> None:
    connection.execute("DROP TRIGGER note_review_change ON review_logs")
    with psycopg.connect(database_url) as writer:
        stored.insert(writer, [review(1)])
        (late,) = list(stored.reviews.items())[-1:]
        del stored.reviews[late[0]]
        # Writers wait for the trigger, so it waits for them only for a moment.
        assert run(connection).read == 60
        stored.check(connection)
        writer.commit()
    stored.reviews |= [late]
    assert run(connection).read == 61
    stored.check(connection)
    assert run(connection).read == 0


def test_a_role_that_may_not_make_the_trigger_reads_everything_every_time(
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    database_url: str,
    stored: Stored,
) -> None:
    worlds.forget(connection)
    parts = urlsplit(database_url)
    role = f"reader{parts.path[1:]}"
    superuser.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret';"
        f"GRANT CREATE ON DATABASE {parts.path[1:]} TO {role};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"
        f"GRANT UPDATE (properties) ON nodes TO {role}".encode()
    )
    url = f"postgresql://{role}:secret@{parts.hostname}:{parts.port}{parts.path}"
    try:
        with psycopg.connect(url, autocommit=True) as reader:
            assert run(reader).read == 60
            stored.insert(connection, [review(0)])
            assert run(reader).read == 61
            stored.check(connection)
    finally:
        superuser.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_partitions_may_come_go_and_be_written_by_name(
    connection: psycopg.Connection, stored: Stored
) -> None:
    connection.execute(
        "ALTER TABLE review_logs RENAME TO review_logs_old;"
        "CREATE TABLE review_logs (LIKE review_logs_old INCLUDING DEFAULTS)"
        " PARTITION BY RANGE (reviewed_at)"
    )
    for month in range(1, 7):
        connection.execute(
            f"CREATE TABLE review_logs_{month} PARTITION OF review_logs"
            f" FOR VALUES FROM ('2024-0{month}-01') TO ('2024-0{month + 1}-01')".encode()
        )
    connection.execute("INSERT INTO review_logs SELECT * FROM review_logs_old")
    assert run(connection).read == 60
    assert run(connection).read == 0
    stored.check(connection)
    stored.insert(connection, [review(4)], table="review_logs_5")
    assert run(connection).read == 11
    # A new month's partition makes nobody read the old ones; nor does one with rows in it.
    connection.execute(
        "CREATE TABLE review_logs_7 PARTITION OF review_logs"
        " FOR VALUES FROM ('2024-07-01') TO ('2024-08-01')"
    )
    assert run(connection).read == 0
    connection.execute("ALTER TABLE review_logs DETACH PARTITION review_logs_3")
    assert (result := run(connection)).read == 0
    assert result.reviews == 51
    connection.execute(
        "UPDATE review_logs_3 SET rating = 2 WHERE rating = 1;"
        "ALTER TABLE review_logs ATTACH PARTITION review_logs_3"
        " FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')"
    )
    for key, value in list(stored.reviews.items()):
        if value.at.month == 3 and value.rating == 1:
            stored.reviews[key] = oracle.Review(**{**vars(value), "rating": 2})
    assert run(connection).read == 10
    stored.check(connection)
    # A row that moves to another partition, and a partition that is emptied.
    stored.update(connection, next(iter(stored.reviews)), review(5, 2, 4))
    assert run(connection).read == 9 + 11
    stored.check(connection)
    connection.execute("TRUNCATE review_logs_2")
    stored.reviews = {key: value for key, value in stored.reviews.items() if value.at.month != 2}
    assert run(connection).read == 0
    stored.check(connection)


@contextlib.contextmanager
def writing(stored: Stored, connection: psycopg.Connection) -> Iterator[None]:
    """Write before and after what happens within."""
    stored.insert(connection, [review(0, 1)])
    yield
    stored.insert(connection, [review(1, 2), review(5, 3)])
    stored.delete(connection, next(iter(stored.reviews)))


@pytest.mark.slow
def test_the_table_may_be_partitioned_cut_over_and_rolled_back_under_the_sums(
    connection: psycopg.Connection, stored: Stored, database_url: str, tmp_path: Path
) -> None:
    spec = str(application.write_spec(tmp_path / "spec.toml"))

    def phase(name: str, *options: str) -> None:
        with writing(stored, connection):
            code, _, errors = application.run(database_url, name, f"--spec={spec}", *options)
            assert code == 0, errors
        run(connection)
        stored.check(connection)
        assert run(connection).read == 0

    for name in ("prepare", "sync", "backfill", "verify", "cutover", "rollback"):
        phase(name)
    phase("cutover")
    row = connection.execute(
        "SELECT count(*) FROM pg_trigger WHERE tgname = 'note_review_change' AND tgenabled = 'A'"
    ).fetchone()
    assert row is not None
    assert row[0] > 6  # the table and each of its partitions
    # From now on months are read one by one again.
    stored.insert(connection, [review(4)])
    assert run(connection).read == 11
    stored.check(connection)
    phase("retire", "--hold=0")


def test_a_restored_dump_is_read_in_full(
    connection: psycopg.Connection,
    stored: Stored,
    postgres_server: PostgresServer,
    database_url: str,
) -> None:
    from stacks.local.binaries import postgres_program

    stored.insert(connection, [review(2)])  # noted, and not summed up, when it is dumped
    dump = subprocess.run(
        [str(postgres_program("pg_dump")), "--no-owner", "--dbname", database_url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    name, url = postgres_server.create_database()
    try:
        subprocess.run(
            [str(postgres_program("psql")), "-q", "-v", "ON_ERROR_STOP=1", "--dbname", url],
            input=dump,
            capture_output=True,
            text=True,
            check=True,
        )
        with psycopg.connect(url, autocommit=True) as restored:
            assert run(restored).read == 61
            stored.check(restored)
            assert run(restored).read == 0
    finally:
        postgres_server.drop_database(name)


def test_weights_neither_vanish_nor_overflow_over_the_years(
    connection: psycopg.Connection,
) -> None:
    stored = worlds.store(connection, 4, [], {0: None})
    ratings = [1, 2, 3, 4]
    years = [1800, 1990, 2025, 2200]
    stored.insert(
        connection,
        [
            oracle.Review(0, node, rating, datetime(year, 1, 1))  # noqa: DTZ001
            for node, (rating, year) in enumerate(zip(ratings, years, strict=True))
        ],
    )
    # Where every day counts 22,000 times less than the next, each card is what it was last.
    stored.insert(
        connection,
        [
            oracle.Review(0, node, 5 - rating, datetime(year - 2, 1, 1))  # noqa: DTZ001
            for node, (rating, year) in enumerate(zip(ratings, years, strict=True))
        ],
    )
    for _ in range(2):
        run(connection, Definition(decay_per_day=10))
        found = scores(connection)
        assert [found[node] for node in stored.nodes] == pytest.approx([1, 0.6, 0.2, 0], abs=1e-9)
        stored.insert(connection, [oracle.Review(0, 0, 1, datetime(2025, 1, 2))])  # noqa: DTZ001
