"""What the new table carries over, and how dependents follow: a table with everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition.maintain import maintain
from migrations.partition.phases import Phase
from migrations.partition.runs import UNDOS, run
from migrations.partition.spec import Spec
from tests.migrations.partition.application import engine
from tests.servers import PostgresServer

SPEC = Spec(table="odd place.Events", key="At Time", interval="month", ahead=1)

_TABLES = """
CREATE SCHEMA "odd place";
SET search_path = "odd place";
CREATE TABLE owners (id integer PRIMARY KEY);
INSERT INTO owners SELECT generate_series(1, 5);
CREATE SEQUENCE ticket;
CREATE TABLE "Events" (
    gone text,
    "Region" text COLLATE "C" DEFAULT 'north',
    number bigint GENERATED ALWAYS AS IDENTITY (INCREMENT BY 3),
    serial_number serial,
    ticket bigint DEFAULT nextval('ticket'),
    "At Time" timestamptz NOT NULL DEFAULT now(),
    payload json STORAGE EXTERNAL,
    doubled integer GENERATED ALWAYS AS (serial_number * 2) STORED,
    owner integer CONSTRAINT "its owner" REFERENCES owners ON DELETE SET NULL DEFERRABLE,
    CONSTRAINT positive CHECK (serial_number > 0),
    CONSTRAINT "Events key" PRIMARY KEY ("Region", number) INCLUDE (ticket),
    CONSTRAINT "one at a time" UNIQUE ("At Time", serial_number)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE "Events" DROP COLUMN gone;
ALTER TABLE "Events" ALTER COLUMN owner SET STATISTICS 500;
ALTER TABLE "Events" REPLICA IDENTITY FULL;
CREATE INDEX "partial, with an expression" ON "Events"
    (lower("Region") text_pattern_ops, "At Time" DESC NULLS LAST)
    INCLUDE (ticket) WITH (fillfactor = 70) WHERE owner IS NOT NULL;
COMMENT ON TABLE "Events" IS 'what happened';
COMMENT ON COLUMN "Events".ticket IS 'its number';
COMMENT ON INDEX "partial, with an expression" IS 'for the report';
CREATE VIEW "by region" WITH (security_barrier = true) AS
    SELECT "Region", count(*) FROM "Events" GROUP BY 1;
CREATE VIEW "of views" AS SELECT * FROM "by region";
CREATE TABLE audit (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO "odd place".audit VALUES (TG_NAME || ' ' || TG_OP);
    RETURN NEW;
END $$;
CREATE TRIGGER noted BEFORE INSERT ON "Events" FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER silenced AFTER DELETE ON "Events" FOR EACH STATEMENT EXECUTE FUNCTION note();
ALTER TABLE "Events" DISABLE TRIGGER silenced;
GRANT SELECT ON "Events" TO PUBLIC;
GRANT UPDATE ("Region") ON "Events" TO reader WITH GRANT OPTION;
CREATE PUBLICATION changes FOR TABLE "Events"
    WITH (publish = 'insert', publish_via_partition_root);
INSERT INTO "Events" ("Region", "At Time", payload, owner)
SELECT CASE WHEN g % 2 = 0 THEN 'south' ELSE 'north' END, now() - g * interval '7 hours',
    json_build_object('g', g), 1 + g % 5 FROM generate_series(1, 400) AS g;
"""


@pytest.fixture
def connection(database_url: str, postgres_server: PostgresServer):
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS reader")
        admin.execute("CREATE ROLE reader")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_TABLES)
        yield connection
        connection.execute('DROP SCHEMA "odd place" CASCADE')
        connection.execute("DROP SCHEMA IF EXISTS partitioning CASCADE")
        connection.execute("DROP PUBLICATION IF EXISTS changes")
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("DROP ROLE reader")


def description(connection: psycopg.Connection) -> dict[str, list[Any]]:
    """What a user of the table sees, apart from what has to change."""
    queries: dict[str, LiteralString] = {
        "columns": "SELECT attname, format_type(atttypid, atttypmod), attidentity::text,"
        " attgenerated::text, attcollation::regcollation::text, attstorage::text,"
        " pg_get_expr(adbin, adrelid), col_description(attrelid, attnum), attacl::text"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = '\"Events\"'::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        "constraints": "SELECT conname, pg_get_constraintdef(oid), condeferrable, convalidated"
        " FROM pg_constraint WHERE conrelid = '\"Events\"'::regclass"
        " AND contype IN ('c', 'f', 'u') ORDER BY 1",
        "indexes": "SELECT c.relname, replace(pg_get_indexdef(indexrelid), ' ONLY', ''),"
        " obj_description(c.oid) FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid"
        " WHERE indrelid = '\"Events\"'::regclass AND NOT indisprimary ORDER BY 1",
        "table": "SELECT relacl::text, obj_description(oid), pg_get_userbyid(relowner)"
        " FROM pg_class WHERE oid = '\"Events\"'::regclass",
        "triggers": "SELECT tgname, pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger"
        " WHERE tgrelid = '\"Events\"'::regclass AND NOT tgisinternal"
        " AND tgname NOT LIKE 'partitioning%' ORDER BY 1",
        "views": "SELECT relname, reloptions, pg_get_viewdef(oid) FROM pg_class"
        " WHERE relname IN ('by region', 'of views') ORDER BY 1",
        "sequences": "SELECT pg_get_serial_sequence('\"Events\"', 'serial_number')",
        "publications": "SELECT tablename FROM pg_publication_tables",
    }
    return {name: connection.execute(query).fetchall() for name, query in queries.items()}


def test_the_new_table_has_all_that_the_old_one_had(
    database_url: str, connection: psycopg.Connection
) -> None:
    before = description(connection)
    with engine(database_url, SPEC) as work:
        run(work, Phase.CUTOVER)
        assert description(connection) == before
        partitions = connection.execute(
            "SELECT DISTINCT c.reloptions, c.relreplident::text, (SELECT attstattarget FROM"
            " pg_attribute WHERE attrelid = c.oid AND attname = 'owner')"
            " FROM pg_partition_tree('\"Events\"') JOIN pg_class AS c ON c.oid = relid"
            " WHERE isleaf"
        ).fetchall()
        assert partitions == [(["fillfactor=80", "autovacuum_vacuum_scale_factor=0.05"], "f", 500)]
        key = connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = '\"Events\"'::regclass AND contype = 'p'"
        ).fetchone()
        assert key == ("Events key", 'PRIMARY KEY ("Region", number, "At Time") INCLUDE (ticket)')
        UNDOS[Phase.CUTOVER](work)
        assert description(connection) == before
        for phase in (Phase.VERIFY, Phase.BACKFILL, Phase.SYNC, Phase.PREPARE):
            UNDOS[phase](work)
        assert description(connection) == before


def test_numbers_go_on_and_triggers_fire_once_on_both_sides_of_cutover(
    database_url: str, connection: psycopg.Connection
) -> None:
    insert = 'INSERT INTO "Events" (owner) VALUES (1) RETURNING number, serial_number, ticket'
    with engine(database_url, SPEC) as work:
        expected = [1 + 3 * 400, 401, 401]
        for step in (Phase.SYNC, Phase.VERIFY, Phase.CUTOVER, None, Phase.RETIRE):
            if step:
                run(work, step)
            else:
                UNDOS[Phase.CUTOVER](work)
            connection.execute("TRUNCATE audit")
            assert connection.execute(insert).fetchone() == tuple(expected)
            expected = [expected[0] + 3, expected[1] + 1, expected[2] + 1]
            assert connection.execute("TABLE audit").fetchall() == [("noted INSERT",)]
            connection.execute('DELETE FROM "Events" WHERE serial_number % 50 = 1')
            assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)
            total = connection.execute('SELECT sum(count) FROM "of views"').fetchone()
            assert total == connection.execute('SELECT count(*) FROM "Events"').fetchone()


def test_unique_constraints_named_in_the_spec_get_the_key_added(
    database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        'ALTER TABLE "Events" ADD CONSTRAINT "a (strange) name" UNIQUE NULLS NOT DISTINCT'
        ' (serial_number, "Region") INCLUDE (ticket) WITH (fillfactor = 60);'
        'CREATE UNIQUE INDEX widened ON "Events" (ticket DESC) WHERE owner = 1'
    )
    names = ["a (strange) name", "widened"]
    spec = SPEC.model_copy(update={"widen": names})
    with engine(database_url, spec) as work:
        run(work, Phase.CUTOVER)
        found = connection.execute(
            "SELECT c.relname, regexp_replace(pg_get_indexdef(c.oid), '^.* USING', 'USING')"
            " FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid"
            " WHERE indrelid = '\"Events\"'::regclass AND c.relname = ANY(%s) ORDER BY 1",
            [names],
        ).fetchall()
        assert found == [
            (
                "a (strange) name",
                'USING btree (serial_number, "Region", "At Time") INCLUDE (ticket)'
                " NULLS NOT DISTINCT WITH (fillfactor='60')",
            ),
            ("widened", 'USING btree (ticket DESC, "At Time") WHERE (owner = 1)'),
        ]
        UNDOS[Phase.CUTOVER](work)
        run(work, Phase.RETIRE)


def test_an_index_as_replica_identity_and_statistics_targets_follow(
    database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        """
        ALTER TABLE "Events" ALTER COLUMN serial_number SET NOT NULL;
        ALTER TABLE "Events" REPLICA IDENTITY USING INDEX "one at a time";
        """
    )
    identities = """
        SELECT DISTINCT t.isleaf, c.relreplident::text,
            (SELECT regexp_replace(pg_get_indexdef(indexrelid), '.* USING ', '') FROM pg_index
            WHERE indrelid = c.oid AND indisreplident), (SELECT attstattarget FROM pg_attribute
            WHERE attrelid = c.oid AND attname = 'owner')
        FROM pg_partition_tree('"Events"') AS t JOIN pg_class AS c ON c.oid = t.relid ORDER BY 1
    """
    columns = 'btree ("At Time", serial_number)'
    with engine(database_url, SPEC) as work:
        run(work, Phase.CUTOVER)
        expected = [(False, "i", columns, 500), (True, "i", columns, 500)]
        assert connection.execute(identities).fetchall() == expected
        maintain(replace(work, spec=SPEC.model_copy(update={"ahead": 3})))
        assert connection.execute(identities).fetchall() == expected


def test_row_security_follows_and_hides_the_copy_until_then(
    database_url: str, connection: psycopg.Connection, postgres_server: PostgresServer
) -> None:
    connection.execute(
        'GRANT USAGE ON SCHEMA "odd place" TO reader;'
        'ALTER TABLE "Events" ENABLE ROW LEVEL SECURITY;'
        'CREATE POLICY "south only" ON "Events" FOR SELECT TO reader USING ("Region" = \'south\');'
        'CREATE POLICY nobody ON "Events" AS RESTRICTIVE FOR UPDATE USING (false)'
        " WITH CHECK (ticket > 0)"
    )
    policies = (
        "SELECT polname, polpermissive, polcmd::text, polroles::regrole[]::text,"
        " pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy"
        " WHERE polrelid = '\"Events\"'::regclass ORDER BY 1"
    )
    before = connection.execute(policies).fetchall()
    assert len(before) == 2
    admin_url = postgres_server.url_for(
        "postgres", connection.info.dbname, postgres_server.password
    )

    def seen(table: str) -> int:
        with psycopg.connect(admin_url, autocommit=True) as reader:
            reader.execute("SET ROLE reader")
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("odd place", table))
            return (reader.execute(query).fetchone() or (0,))[0]

    with engine(database_url, SPEC) as work:
        run(work, Phase.VERIFY)
        assert (seen("Events"), seen("Events_partitioned")) == (200, 0)
        for _ in range(2):
            run(work, Phase.CUTOVER)
            assert connection.execute(policies).fetchall() == before
            assert (seen("Events"), seen("Events_retired")) == (200, 200)
            UNDOS[Phase.CUTOVER](work)
            assert connection.execute(policies).fetchall() == before
        run(work, Phase.RETIRE)
        assert seen("Events") == 200


def test_the_settings_of_a_constraints_index_follow(
    database_url: str, connection: psycopg.Connection
) -> None:
    connection.execute('ALTER INDEX "Events key" SET (fillfactor = 55)')
    connection.execute('ALTER INDEX "one at a time" SET (fillfactor = 65)')
    with engine(database_url, SPEC) as work:
        run(work, Phase.CUTOVER)
    found = connection.execute(
        "SELECT DISTINCT i.indisprimary, c.reloptions FROM pg_index AS i"
        " JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indisunique AND i.indrelid IN"
        " (SELECT relid FROM pg_partition_tree('\"Events\"')) ORDER BY 1"
    ).fetchall()
    assert found == [(False, ["fillfactor=65"]), (True, ["fillfactor=55"])]


def test_virtual_columns_follow(database_url: str, connection: psycopg.Connection) -> None:
    if connection.info.server_version < 180000:
        pytest.skip("Postgres has had them since 18")
    connection.execute(
        'ALTER TABLE "Events" ADD tripled integer GENERATED ALWAYS AS (serial_number * 3) VIRTUAL'
    )
    before = description(connection)
    with engine(database_url, SPEC) as work:
        run(work, Phase.CUTOVER)
        assert description(connection) == before
        rows = connection.execute(
            'SELECT count(*) FROM "Events" WHERE tripled = serial_number * 3'
        ).fetchone()
        assert rows == (400,)
        UNDOS[Phase.CUTOVER](work)
        run(work, Phase.RETIRE)


def test_writers_without_rights_on_our_tables_are_mirrored(
    database_url: str, connection: psycopg.Connection, postgres_server: PostgresServer
) -> None:
    connection.execute('GRANT USAGE ON SCHEMA "odd place" TO reader')
    connection.execute('GRANT SELECT, INSERT, UPDATE, DELETE ON "Events" TO reader')
    connection.execute("GRANT INSERT ON audit TO reader")
    connection.execute('GRANT USAGE ON ALL SEQUENCES IN SCHEMA "odd place" TO reader')
    admin_url = postgres_server.url_for(
        "postgres", connection.info.dbname, postgres_server.password
    )
    with engine(database_url, SPEC) as work, psycopg.connect(admin_url, autocommit=True) as reader:
        reader.execute('SET search_path = "odd place"')
        reader.execute("SET ROLE reader")
        for phase, other in (
            (Phase.SYNC, None),
            (Phase.VERIFY, "Events_partitioned"),
            (Phase.CUTOVER, "Events_retired"),
        ):
            run(work, phase)
            reader.execute('INSERT INTO "Events" (owner) VALUES (1)')
            reader.execute('UPDATE "Events" SET "Region" = \'east\' WHERE serial_number < 9')
            reader.execute('DELETE FROM "Events" WHERE serial_number BETWEEN 20 AND 30')
            if other:
                count = sql.SQL(
                    "SELECT count(*), count(*) FILTER (WHERE \"Region\" = 'east') FROM {}"
                )
                one, two = (
                    connection.execute(count.format(sql.Identifier(name))).fetchone()
                    for name in ("Events", other)
                )
                assert one == two


@pytest.mark.parametrize("secured", [False, True])
def test_who_may_read_the_table_may_read_its_partitions_and_the_progress_unless_policies_decide(
    database_url: str, connection: psycopg.Connection, secured: bool
) -> None:
    connection.execute('GRANT SELECT, INSERT ON "Events" TO reader')
    if secured:
        connection.execute('ALTER TABLE "Events" ENABLE ROW LEVEL SECURITY')
    with engine(database_url, SPEC) as work:
        run(work, Phase.PREPARE)
        run(work, Phase.CUTOVER)
    leaves = connection.execute(
        "SELECT relid::regclass::text, has_table_privilege('reader', relid, 'SELECT'),"
        " has_table_privilege('reader', relid, 'INSERT')"
        " FROM pg_partition_tree('\"Events\"') WHERE isleaf"
    ).fetchall()
    assert len(leaves) > 1
    assert {leaf[1:] for leaf in leaves} == {(not secured, False)}
    row = connection.execute(
        "SELECT has_table_privilege('reader', 'partitioning.progress', 'SELECT'),"
        " has_table_privilege('reader', 'partitioning.tables', 'SELECT')"
    ).fetchone()
    assert row == (True, False)
