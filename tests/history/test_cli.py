from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from history.cli import app
from history.digest import review_digest
from tests.history.helpers import EMPTY, numbers, run, write_csv
from tests.history.test_anki import ENTRIES

SMALL = ("simulate", "--actors=5", "--reviews=400", "--months=3", "--end=2025-07-01")


def test_simulate_ends_standard_output_with_the_result_and_runs_again_as_kept(
    connection: psycopg.Connection, database_url: str
) -> None:
    first, second = (run(database_url, *SMALL, "--json") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    loaded, kept = (json.loads(done.stdout.splitlines()[-1]) for done in (first, second))
    digest = review_digest(connection)
    assert (loaded["outcome"], kept["outcome"]) == ("loaded", "kept")
    assert loaded["rows"] == kept["rows"] == digest.rows == 400
    assert loaded["digest"] == kept["digest"] == digest.digest
    assert loaded["actors"] == 5
    assert {"flashcards", "nodes", "edges", "seconds", "rows_per_second"} <= loaded.keys()
    assert "400 of 400 reviews (100%)" in first.stderr
    assert "nothing was changed" in second.stderr


def test_without_json_the_result_is_told_in_words(
    connection: psycopg.Connection, database_url: str
) -> None:
    done = run(database_url, *SMALL)
    assert done.stdout.startswith("loaded 400 reviews, 5 actors, ")
    assert numbers(connection)["review_logs"] == 400


def test_anki_tells_how_many_rows_were_no_reviews(
    connection: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "revlog.csv", ENTRIES)
    done = run(database_url, "anki", str(path), "--json")
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["outcome"], result["rows"], result["skipped"]) == ("loaded", 4, 2)
    assert "skipped 2 reschedules" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--actors=0"], "--actors: takes at least 1; got 0"),
        (["--months=241"], "--months: takes at most 240; got 241"),
        (["--seed=-1"], "--seed: takes at least 0; got -1"),
        (["--actors=10", "--reviews=9"], "--reviews: takes at least as many as there are actors"),
        (["--end=2999-01-01"], "--end: takes a date that has come"),
        (["--end=1066-10-14"], "--end: takes"),
        (["--end=tomorrow"], "--end"),
        (["--reviews=many"], "--reviews"),
        (["--users=3"], "--users"),
    ],
)
def test_wrong_options_are_wrong_usage_and_named(arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    assert done.exit_code == 2
    assert problem in done.stderr
    assert done.stdout == ""


def test_anki_without_a_path_is_wrong_usage() -> None:
    done = run(None, "anki")
    assert done.returncode == 2
    assert "Missing argument" in done.stderr


def test_a_bad_export_is_refused_before_anything_changes(
    connection: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "revlog.csv", [*ENTRIES, (1, 2, 3)])
    done = run(database_url, "anki", str(path), "--json")
    assert done.returncode == 1
    assert done.stderr == f"{path}, line 8: has 3 values where the header has 8\n"
    assert done.stdout == ""
    assert numbers(connection) == EMPTY


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (None, "is not set; takes a URL like postgresql://"),
        ("", "is not set; takes a URL like postgresql://"),
        ("mysql://root:SECRET@127.0.0.1/x", "takes a URL like postgresql://"),
        ("postgresql://a:SECRET%zz@127.0.0.1/x", "is malformed; takes a URL like"),
        ("postgresql://a:SECRET@127.0.0.1:1/x", "cannot connect to Postgres: "),
        ("postgresql://a:SECRET@127.0.0.1:1/x?nonsense=1", "is malformed"),
    ],
)
def test_a_wrong_database_url_is_refused_in_one_line_without_its_password(
    url: str | None, problem: str
) -> None:
    done = run(url, *SMALL)
    assert done.returncode == 1
    assert done.stderr.startswith(f"DATABASE_URL: {problem}")
    assert len(done.stderr.splitlines()) == 1
    assert "SECRET" not in done.stderr


def test_a_refusal_of_the_server_is_one_message(
    connection: psycopg.Connection, database_url: str
) -> None:
    connection.execute("ALTER TABLE actors ALTER COLUMN fsrs_log_loss SET NOT NULL")
    done = run(database_url, *SMALL, "--json")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("the database failed, nothing was changed: null")
    assert "Traceback" not in done.stderr
    assert numbers(connection) == EMPTY


@pytest.mark.parametrize("command", [[], ["simulate"], ["anki"]])
def test_help_tells_what_there_is(command: list[str]) -> None:
    done = run(None, *command, "--help")
    assert done.returncode == 0
    assert "Usage: python -m history" in done.stdout
