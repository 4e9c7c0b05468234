"""Squawk finds nothing to say against the SQL of the revisions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from migrations import schema
from migrations.statements import timeouts_sql

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = ROOT / "migrations"
FILES = sorted(MIGRATIONS.glob("versions/**/*.sql"))


def squawk(script: str) -> list[dict[str, Any]]:
    """Return the findings over a script."""
    completed = subprocess.run(
        [
            str(Path(sys.executable).with_name("squawk")),
            *("--config", str(MIGRATIONS / ".squawk.toml"), "--reporter", "json"),
            *("--stdin-filepath", "revision.sql"),
        ],
        input=script,
        text=True,
        capture_output=True,
    )
    assert completed.returncode in (0, 1), completed.stderr
    findings: list[dict[str, Any]] = json.loads(completed.stdout)
    assert bool(findings) == (completed.returncode == 1)
    return findings


def in_transaction(statements: str) -> str:
    return f"BEGIN;\n{timeouts_sql(500)}\n{statements}\nCOMMIT;\n"


def test_every_transaction_of_the_script_passes():
    transactions = schema.sql().split("COMMIT;\n")
    scripts = [f"{transaction}COMMIT;\n" for transaction in transactions if transaction.strip()]
    assert len(scripts) == 1 + len(schema.revisions())
    # Tables created in one transaction are empty in it; squawk must not think so in the next.
    for script in scripts:
        assert squawk(script) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_of_a_revision_passes(file: Path):
    # Seen from outside, the statements of the baseline are the text of a DO block.
    assert squawk(in_transaction(file.read_text())) == []


def test_the_files_of_all_revisions_are_looked_at():
    for revision in schema.revisions():
        assert any(f"versions/{revision.id}_" in str(file) for file in FILES)


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        (
            "CREATE INDEX a ON review_logs (rating);",
            "require-concurrent-index-creation",
        ),
        (
            "ALTER TABLE actors ADD COLUMN a uuid DEFAULT gen_random_uuid();",
            "adding-field-with-default",
        ),
        ("ALTER TABLE actors ADD COLUMN a text NOT NULL;", "adding-required-field"),
        ("ALTER TABLE review_logs ALTER rating TYPE bigint;", "changing-column-type"),
        ('ALTER TABLE actors DROP COLUMN "createdAt";', "ban-drop-column"),
    ],
)
def test_a_statement_that_locks_or_breaks_is_found(statement: str, rule: str):
    found = [finding["rule_name"] for finding in squawk(in_transaction(statement))]
    assert rule in found


def test_a_revision_without_timeouts_is_found():
    script = "BEGIN;\nALTER TABLE actors ADD COLUMN a text;\nCOMMIT;\n"
    assert "require-lock-timeout" in [finding["rule_name"] for finding in squawk(script)]
