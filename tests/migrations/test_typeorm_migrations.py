"""The revisions as TypeORM migrations: written by our command, run by TypeORM's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from migrations import schema, typeorm
from tests.migrations.databases import TYPEORM, contents, fingerprint, session
from tests.migrations.test_command_line import Call, call
from tests.node import node

__all__ = ["call"]

_ADDED = {"actors": ("fsrs_parameters", "fsrs_log_loss"), "review_logs": ("previousState",)}


def test_a_file_is_written_for_each_revision_and_a_second_time_nothing(
    tmp_path: Path, call: Call
) -> None:
    output = tmp_path / "new" / "migrations"
    completed = call("sql", "--format", "typeorm", "--output", str(output))
    assert completed.returncode == 0, completed.stderr
    names = [path.name for path in sorted(output.iterdir())]
    assert names == [
        "1767225600001-Baseline.ts",
        "1767225600002-ActorParameters.ts",
        "1767225600003-PreviousState.ts",
    ]
    assert completed.stdout.count(": written") == len(schema.revisions())
    again = call("sql", "--format", "typeorm", "--output", str(output))
    assert again.stdout.count(": there already, the same") == len(names)


def test_without_a_directory_one_module_is_printed(call: Call) -> None:
    completed = call("sql", "--format", "typeorm", "--to", "0002")
    assert completed.returncode == 0
    assert completed.stdout == typeorm.module(typeorm.migrations("0002"))
    assert completed.stdout.count("export class") == 2


def test_a_file_that_was_changed_is_not_overwritten_nor_are_others_written(
    tmp_path: Path, call: Call
) -> None:
    changed = tmp_path / "1767225600002-ActorParameters.ts"
    changed.write_text("// by hand")
    completed = call("sql", "--format", "typeorm", "--output", str(tmp_path))
    assert completed.returncode == 1
    assert changed.name in completed.stderr
    assert [path.name for path in tmp_path.iterdir()] == [changed.name]
    assert changed.read_text() == "// by hand"


def test_a_directory_that_cannot_be_made_is_one_message(tmp_path: Path, call: Call) -> None:
    (tmp_path / "file").touch()
    completed = call("sql", "--format", "typeorm", "--output", str(tmp_path / "file" / "below"))
    assert completed.returncode == 1
    assert completed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [("--format", "liquibase"), ("--output", "somewhere"), ("--format=typeorm", "--to", "0999")],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], call: Call) -> None:
    completed = call("sql", *arguments)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert not Path("somewhere").exists()


def test_what_a_template_literal_would_take_as_its_own_is_escaped() -> None:
    revision = schema.Statements(
        "0009_odd_one", schema.Revision("0009", "Odd */ one."), ("SELECT '\\ ` ${x} $1'",)
    )
    migration = typeorm.migration(revision)
    assert "SELECT '\\\\ \\` \\${x} $1'" in migration.source
    assert migration.source.startswith("/** Revision 0009: Odd * / one. */")


def typeorm_command(
    client_program: Path, url: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run TypeORM's own command on the compiled data source."""
    command = client_program.parents[1] / "node_modules" / "typeorm" / "cli.js"
    return subprocess.run(
        [node().node, command, *arguments, "-d", client_program / "data-source.js"],
        env={**node().environment, "DATABASE_URL": url},
        capture_output=True,
        text=True,
    )


def migrate(client_program: Path, url: str, mode: str = "each") -> str:
    completed = typeorm_command(client_program, url, "migration:run", "--transaction", mode)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def application_schema(url: str) -> list[str]:
    """The catalogue without TypeORM's own table."""
    return [line for line in fingerprint(url, "public") if "migrations" not in line]


@pytest.fixture
def other_url(postgres_server) -> Iterator[str]:
    name, url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(name)


def adopt(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TYPEORM.encode())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["each", "all"])
@pytest.mark.parametrize("adopted", [False, True], ids=["empty", "adopted"])
def test_typeorm_makes_the_schema_that_upgrade_makes_and_either_adopts_the_others(
    database_url: str, other_url: str, client_program: Path, adopted: bool, mode: str
) -> None:
    before = None
    if adopted:
        adopt(other_url)
        adopt(database_url)
        before = contents(database_url)
    schema.upgrade(other_url)
    told = migrate(client_program, database_url, mode)
    assert told.count("executed successfully") == len(schema.revisions())
    expected = application_schema(other_url)
    assert application_schema(database_url) == expected
    assert contents(database_url, _ADDED) == (before or contents(database_url))
    assert "No migrations are pending" in migrate(client_program, database_url, mode)

    assert len(schema.upgrade(database_url).applied) == len(schema.revisions())
    assert application_schema(database_url) == expected
    migrate(client_program, other_url, mode)
    assert application_schema(other_url) == expected
    assert schema.status(other_url).pending == ()


@pytest.mark.slow
def test_a_migration_is_not_reverted(database_url: str, client_program: Path) -> None:
    migrate(client_program, database_url)
    before = fingerprint(database_url)
    completed = typeorm_command(client_program, database_url, "migration:revert")
    assert completed.returncode == 1
    assert "roll forward" in completed.stdout + completed.stderr
    assert fingerprint(database_url) == before


@pytest.mark.slow
def test_tables_that_do_not_fit_are_refused_and_left_as_they_are(
    database_url: str, client_program: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE actors (id integer)")
    before = application_schema(database_url)
    completed = typeorm_command(client_program, database_url, "migration:run", "-t", "each")
    assert completed.returncode == 1
    assert "actors.id is integer, expected uuid" in completed.stdout + completed.stderr
    assert application_schema(database_url) == before


@pytest.mark.slow
def test_a_migration_waits_shortly_for_its_lock_and_only_in_a_transaction(
    database_url: str, client_program: Path
) -> None:
    adopt(database_url)
    before = application_schema(database_url)
    with session(database_url, "report", "LOCK TABLE actors IN ACCESS SHARE MODE"):
        completed = typeorm_command(client_program, database_url, "migration:run", "-t", "all")
        assert completed.returncode == 1
        assert "lock timeout" in completed.stdout + completed.stderr
    completed = typeorm_command(client_program, database_url, "migration:run", "-t", "none")
    assert completed.returncode == 1
    assert "needs a transaction" in completed.stdout + completed.stderr
    assert application_schema(database_url) == before
