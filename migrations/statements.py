"""The statements that revisions are made of; in offline mode they are written instead of run.

A revision is a Python file in `versions/` with its SQL in files beside it. To add one: number it,
name its predecessor in `down_revision`, list in `TABLES` the tables it locks and in `EXPECTED` the
columns it relies on or adds (checked before an upgrade changes anything), and begin its `upgrade`
with `begin()`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alembic import op
from psycopg import sql

VERSION_SCHEMA = "migrations"
"""Where Alembic's own table lies, out of the application's way."""

_TEMPLATES = Path(__file__).parent / "sql"

_SHORTEST_STATEMENT_MILLISECONDS = 1_000


@dataclass(frozen=True)
class Column:
    """A column as a revision expects it where its table exists already.

    `types` are names as Postgres writes them, without a length, joined by " or ". A column that is
    not `required` may be missing, but not have another type.
    """

    table: str
    name: str
    types: str
    required: bool = True


def template(name: str, **parts: sql.Composable) -> str:
    """Return the SQL of `migrations/sql/<name>.sql` with its placeholders filled in."""
    text = (_TEMPLATES / f"{name}.sql").read_text().strip()
    return sql.SQL(text).format(**parts).as_string()  # pyright: ignore[reportArgumentType] -- our own files


def timeouts_sql(lock_timeout: int) -> str:
    """Return the settings of a revision's transaction; `lock_timeout` in milliseconds.

    A statement is given twice as long, and a second at least: on a partitioned table it takes one
    lock after the other, each with the full lock timeout, and blocks writers all the while.
    """
    statement_timeout = max(2 * lock_timeout, _SHORTEST_STATEMENT_MILLISECONDS)
    return template(
        "timeouts",
        lock_timeout=sql.Literal(f"{lock_timeout}ms"),
        statement_timeout=sql.Literal(f"{statement_timeout}ms"),
    )


def version_schema_sql(lock_timeout: int) -> str:
    """Return the statements that create the schema of Alembic's own table."""
    create = template("version_schema", schema=sql.Identifier(VERSION_SCHEMA))
    return f"{timeouts_sql(lock_timeout)}\n\n{create}"


def expect_sql(columns: Iterable[Column]) -> str:
    """Return a statement that fails, naming tables and columns, where existing ones do not fit."""
    rows = [
        sql.SQL("({}, {}, {}, {}, {})").format(
            sql.Literal(position),
            sql.Literal(column.table),
            sql.Literal(column.name),
            sql.Literal(column.types),
            sql.Literal(column.required),
        )
        for position, column in enumerate(columns, 1)
    ]
    return template("expect", expected=sql.SQL(",\n                ").join(rows))


def begin() -> None:
    """Set the timeouts of the revision's transaction."""
    _run(timeouts_sql(op.get_context().opts["lock_timeout"]))


def expect(columns: Iterable[Column]) -> None:
    """Refuse the revision where existing columns do not fit."""
    _run(expect_sql(columns))


def create_where_missing(table: str, file: Path) -> None:
    """Run the statements of `file` if there is no table of that name yet."""
    statements = textwrap.indent(file.read_text().strip(), " " * 8)
    _run(
        template(
            "create_where_missing",
            table=sql.Literal(table),
            statements=sql.SQL(statements),  # pyright: ignore[reportArgumentType] -- our own files
        )
    )


def execute_file(file: Path) -> None:
    """Run the statements of `file`."""
    _run(file.read_text().strip())


def _run(statements: str) -> None:
    # Not `op.execute`: it takes a colon for a parameter and doubles percent signs.
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(statements)
    elif context.connection is not None:
        context.connection.exec_driver_sql(statements, execution_options={"no_parameters": True})
