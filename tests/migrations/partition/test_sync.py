"""The triggers that keep both tables in step, under statements that change the same rows twice."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition import bookkeeping
from migrations.partition.phases import Phase
from migrations.partition.runs import run
from migrations.partition.spec import Spec
from tests.migrations.partition import application
from tests.migrations.partition.application import SPEC, differences, engine

TABLES: tuple[LiteralString, LiteralString] = ("review_logs", "review_logs_partitioned")
COLUMNS: LiteralString = '"flashcardId", "actorId", rating, state, elapsed_time, reviewed_at'
ONE: LiteralString = f"""
INSERT INTO review_logs ({COLUMNS})
SELECT f.id, a.id, %s, '{{}}', %s, now() - interval '1 day'
FROM (SELECT id FROM flashcards LIMIT 1) AS f, (SELECT id FROM actors LIMIT 1) AS a
"""

# After each of these the copy must hold what the table does: what a statement's transition tables
# say is not what its rows are any more.
MEDDLERS: dict[str, LiteralString] = {
    "an AFTER ROW trigger updates the row": """
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE review_logs SET rating = 9 WHERE id = NEW.id AND rating <> 9; RETURN NULL;
        END $$;
        CREATE TRIGGER meddle AFTER INSERT OR UPDATE ON review_logs
            FOR EACH ROW EXECUTE FUNCTION meddle()""",
    "an AFTER ROW trigger deletes the row": """
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM review_logs WHERE id = NEW.id; RETURN NULL;
        END $$;
        CREATE TRIGGER meddle AFTER INSERT OR UPDATE ON review_logs
            FOR EACH ROW WHEN (NEW.rating = 2) EXECUTE FUNCTION meddle()""",
    "an AFTER ROW trigger moves the row to another month": """
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE review_logs SET reviewed_at = reviewed_at - interval '1 month', rating = 4
            WHERE id = NEW.id; RETURN NULL;
        END $$;
        CREATE TRIGGER meddle AFTER INSERT OR UPDATE ON review_logs
            FOR EACH ROW WHEN (NEW.rating < 4) EXECUTE FUNCTION meddle()""",
    "a trigger that fires after ours deletes the row": """
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM review_logs WHERE rating = 2 AND elapsed_time = -1; RETURN NULL;
        END $$;
        CREATE TRIGGER zz_meddle AFTER INSERT OR UPDATE ON review_logs
            FOR EACH STATEMENT EXECUTE FUNCTION meddle()""",
    "a BEFORE ROW trigger deletes others": """
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM review_logs WHERE elapsed_time = -1 AND id <> NEW.id; RETURN NEW;
        END $$;
        CREATE TRIGGER meddle BEFORE INSERT ON review_logs
            FOR EACH ROW EXECUTE FUNCTION meddle()""",
    "nobody": "",
}


def write(connection: psycopg.Connection) -> None:
    """Statements of every kind; each is a transaction, or part of one."""
    for rating in (1, 2, 3):
        connection.execute(ONE, [rating, -1])
    connection.execute("UPDATE review_logs SET rating = 2 WHERE elapsed_time = -1")
    with connection.transaction():
        connection.execute(ONE, [2, -1])
        connection.execute(ONE, [1, -1])
        connection.execute("UPDATE review_logs SET state = '{\"a\": 1}' WHERE elapsed_time = -1")
        connection.execute("UPDATE review_logs SET id = gen_random_uuid() WHERE elapsed_time = -1")
        connection.execute(
            "UPDATE review_logs SET reviewed_at = reviewed_at - interval '31 days' * rating"
            " WHERE elapsed_time = -1"
        )
    # Rows that the statement itself has put in are taken out again by a function that it calls.
    connection.execute(
        f"INSERT INTO review_logs ({COLUMNS})"
        ' SELECT "flashcardId", "actorId", 1 + undo(g), state, -2, reviewed_at'
        " FROM (SELECT * FROM review_logs LIMIT 1) AS r, generate_series(1, 4) AS g"
    )
    connection.execute(
        f"INSERT INTO review_logs (id, {COLUMNS}) SELECT id, {COLUMNS} FROM review_logs LIMIT 5"
        " ON CONFLICT (id) DO UPDATE SET rating = 3"
    )
    connection.execute("DELETE FROM review_logs WHERE elapsed_time % 7 = 0")
    connection.execute(
        "WITH gone AS (DELETE FROM review_logs WHERE elapsed_time % 11 = 0 RETURNING *)"
        f" INSERT INTO review_logs ({COLUMNS}) SELECT {COLUMNS} FROM gone"
    )


UNDO = """
CREATE FUNCTION undo(number integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    DELETE FROM review_logs WHERE elapsed_time = -2; RETURN number;
END $$
"""


# A role that may not see what others do leaves the triggers looking at each month.
@pytest.mark.parametrize(
    ("phase", "database"),
    [
        (Phase.SYNC, "database_url"),
        (Phase.VERIFY, "database_url"),
        (Phase.VERIFY, "unseeing_database_url"),
        (Phase.CUTOVER, "database_url"),
    ],
)
@pytest.mark.parametrize("meddler", MEDDLERS)
def test_both_tables_are_in_step_whatever_changes_rows_in_the_middle_of_a_statement(
    database: str, meddler: str, phase: Phase, request: pytest.FixtureRequest
) -> None:
    database_url: str = request.getfixturevalue(database)
    application.create(database_url, rows=300, days=90)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(UNDO)
        if MEDDLERS[meddler]:
            connection.execute(MEDDLERS[meddler])
        with engine(database_url) as work:
            run(work, phase)
        # After cutover an upsert by the id alone has no constraint to go by.
        if phase is Phase.CUTOVER:
            with engine(database_url) as work:
                run(work, Phase.VERIFY)
            for rating in (1, 2, 3):
                connection.execute(ONE, [rating, -1])
            connection.execute("UPDATE review_logs SET rating = 2 WHERE elapsed_time = -1")
            connection.execute(
                "UPDATE review_logs SET rating = 1, id = gen_random_uuid()"
                " WHERE reviewed_at > now() - interval '20 days'"
            )
            connection.execute(
                "UPDATE review_logs SET reviewed_at = reviewed_at - interval '31 days'"
                " WHERE elapsed_time % 5 = 0 AND reviewed_at > now() - interval '40 days'"
            )
            connection.execute("DELETE FROM review_logs WHERE elapsed_time % 7 = 0")
        else:
            write(connection)
        with engine(database_url) as work:
            run(work, max(phase, Phase.VERIFY, key=lambda phase: phase.position))
        other = "review_logs_retired" if phase is Phase.CUTOVER else "review_logs_partitioned"
        found = connection.execute(
            sql.SQL(
                "SELECT count(*) FROM (TABLE review_logs EXCEPT TABLE {other}) AS missing"
                " UNION ALL SELECT count(*) FROM (TABLE {other} EXCEPT TABLE review_logs) AS added"
            ).format(other=sql.Identifier(other))
        ).fetchall()
        assert found == [(0,), (0,)]


def test_columns_may_be_named_like_what_the_triggers_call_their_own(database_url: str) -> None:
    spec = Spec(table="public.odd", key="moment", interval="month")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            'CREATE TABLE odd ("given" integer PRIMARY KEY, moment timestamp NOT NULL,'
            ' one integer, whole text, touched text, stored text, rows integer, "100%I" integer)'
        )

        def write(first: int) -> None:
            connection.execute(
                "INSERT INTO odd SELECT g, now(), g, g, g, g, g, g"
                " FROM generate_series(%s::integer, %s::integer) AS g",
                [first, first + 9],
            )
            for given in range(first, first + 3):
                connection.execute('UPDATE odd SET "100%%I" = -1 WHERE given = %s', [given])
            connection.execute("UPDATE odd SET one = -1 WHERE given >= %s", [first + 5])
            connection.execute(
                "UPDATE odd SET moment = moment - interval '32 days' WHERE given = %s", [first + 6]
            )
            connection.execute("DELETE FROM odd WHERE given = %s", [first])
            connection.execute("DELETE FROM odd WHERE given >= %s", [first + 8])

        write(1)
        for number, phase in enumerate((Phase.SYNC, Phase.BACKFILL, Phase.CUTOVER), 2):
            with engine(database_url, spec) as work:
                run(work, phase)
            write(10 * number)
        with engine(database_url, spec) as work:
            run(work, Phase.RETIRE)
        assert connection.execute("SELECT count(*) FROM odd").fetchone() == (28,)


def test_once_all_months_are_live_a_row_is_mirrored_by_its_own_statement(database_url: str) -> None:
    application.create(database_url, rows=300, days=90)
    with psycopg.connect(database_url, autocommit=True) as connection:
        with engine(database_url) as work:
            run(work, Phase.VERIFY)
        write_statements: list[tuple[LiteralString, list[int]]] = [
            (ONE, [1, -1]),
            ("UPDATE review_logs SET rating = 2 WHERE elapsed_time = -1", []),
            (
                "UPDATE review_logs SET reviewed_at = now() - interval '40 days'"
                " WHERE elapsed_time = -1",
                [],
            ),
            ("DELETE FROM review_logs WHERE elapsed_time = -1", []),
            ("UPDATE review_logs SET rating = 2 WHERE false", []),
            ("DELETE FROM review_logs WHERE false", []),
            (ONE + " WHERE false", [1, -1]),
        ]
        for statement, parameters in write_statements:
            connection.execute(statement, parameters)
            assert differences(connection, *TABLES) == []
            logged = connection.execute(
                "SELECT count(*) FROM partitioning.public_review_logs_changes"
            ).fetchone()
            assert logged == (0,)


def test_a_writer_whose_snapshot_is_older_than_the_copy_is_served_as_before(
    database_url: str,
) -> None:
    application.create(database_url, rows=300, days=90)
    with (
        psycopg.connect(database_url) as writer,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        with engine(database_url) as work:
            run(work, Phase.SYNC)
        writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        writer.execute("SELECT count(*) FROM review_logs")
        with engine(database_url) as work:
            run(work, Phase.BACKFILL)
            record = bookkeeping.find(connection, SPEC)
            assert record is not None
        # To this one the copied rows are not there: it can neither update nor delete them.
        writer.execute("UPDATE review_logs SET rating = 3 WHERE elapsed_time % 2 = 0")
        writer.execute("DELETE FROM review_logs WHERE elapsed_time % 3 = 0")
        writer.commit()
        with engine(database_url) as work:
            run(work, Phase.VERIFY)
        assert differences(connection, *TABLES) == []


def test_a_table_that_is_all_key_is_mirrored_too(database_url: str) -> None:
    spec = Spec(table="public.seen", key="at", interval="month", ahead=1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (id integer PRIMARY KEY, at timestamp)")
        connection.execute("INSERT INTO seen SELECT g, now() FROM generate_series(1, 50) AS g")
        with engine(database_url, spec) as work:
            run(work, Phase.VERIFY)
        for statement in (
            "INSERT INTO seen VALUES (51, now())",
            "UPDATE seen SET at = now() - interval '1 day' WHERE id < 10",
            "UPDATE seen SET at = at WHERE id < 20",
            "UPDATE seen SET id = id + 100 WHERE id < 5",
            "DELETE FROM seen WHERE id % 2 = 0",
        ):
            connection.execute(statement)
            assert differences(connection, "seen", "seen_partitioned") == []
        with engine(database_url, spec) as work:
            run(work, Phase.CUTOVER)
        connection.execute("UPDATE seen SET at = at WHERE id < 20")
        assert differences(connection, "seen", "seen_retired") == []
