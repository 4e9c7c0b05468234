"""The schema's revisions as TypeORM migrations, for teams whose application deploys them.

Each revision becomes a class whose `up` executes what the revision executes. Revisions adopt what
is there, so it does not matter who went first: TypeORM's command on a database that
`python -m migrations upgrade` made changes nothing, and the other way round.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from migrations import schema
from migrations.schema import Statements

_FIRST_TIMESTAMP = 1_767_225_600_000
"""TypeORM orders by the milliseconds since 1970 in the name: this (2026-01-01) and the revision."""

_NEEDLESS = re.compile(r"[^0-9A-Za-z]+")

_IMPORT = 'import { MigrationInterface, QueryRunner } from "typeorm";\n'

_CLASS = """\
/** Revision {revision}: {doc} */
export class {name} implements MigrationInterface {{
    name = {quoted_name};

    public async up(queryRunner: QueryRunner): Promise<void> {{
        if (!queryRunner.isTransactionActive) {{
            throw new Error(`${{this.name}} needs a transaction: run it with --transaction each`);
        }}
{queries}
    }}

    public async down(): Promise<void> {{
        throw new Error(`${{this.name}} is not taken back, roll forward: revisions only add`);
    }}
}}
"""

_QUERY = "        await queryRunner.query(`\n{statement}\n        `);"

# With `--transaction all` the migrations that follow share the transaction.
_TIMEOUTS_END = "SET LOCAL lock_timeout = DEFAULT;\nSET LOCAL statement_timeout = DEFAULT;"


class OutputError(Exception):
    """The files cannot be written where they were wanted; the message says why."""


@dataclass(frozen=True)
class Migration:
    """One migration: the name of its class, the name of its file, and the class in TypeScript."""

    name: str
    file_name: str
    source: str


def migrations(to: str = "head") -> list[Migration]:
    """Return the revisions up to and including `to`, the oldest first.

    Raises schema.UnknownRevisionError.
    """
    return [migration(revision) for revision in schema.statements(to)]


def module(found: list[Migration]) -> str:
    """Return one TypeScript module with all of them."""
    return "\n".join([_IMPORT, *(migration.source for migration in found)])


def write(found: list[Migration], directory: Path) -> list[Path]:
    """Write a file for each migration, named as TypeORM names them; return those that are new.

    Files that are there and the same stay. Raises OutputError, with nothing written, where one has
    other contents, and where the directory is not to be written.
    """
    files = {directory / migration.file_name: module([migration]) for migration in found}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        there = {path: path.read_text() for path in files if path.exists()}
        changed = [path.name for path, text in there.items() if text != files[path]]
        if changed:
            raise OutputError(
                f"{directory} has files of these names with other contents: {', '.join(changed)};"
                " remove them or choose another directory. Nothing was written"
            )
        new = [path for path in files if path not in there]
        for path in new:
            path.write_text(files[path])
    except OSError as error:
        raise OutputError(f"cannot write to {directory}: {error.strerror}") from None
    return new


def migration(revision: Statements) -> Migration:
    """Return the revision as a migration."""
    number, _, words = revision.name.partition("_")
    timestamp = _FIRST_TIMESTAMP + int(number)
    title = "".join(word.capitalize() for word in _NEEDLESS.split(words))
    name = f"{title}{timestamp}"
    source = _CLASS.format(
        revision=revision.revision.id,
        doc=revision.revision.doc.replace("*/", "* /"),
        name=name,
        quoted_name=json.dumps(name),
        queries="\n".join(_query(text) for text in (*revision.statements, _TIMEOUTS_END)),
    )
    return Migration(name, f"{timestamp}-{title}.ts", source)


def _query(statement: str) -> str:
    # What has a meaning in a template literal.
    escaped = re.sub(r"\\|`|\$\{", lambda found: "\\" + found.group(), statement)
    return _QUERY.format(statement=escaped)
