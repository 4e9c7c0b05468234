"""`python -m migrations`: exit codes, what goes to which stream, and what a crash leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from migrations import cli, schema
from tests.migrations.databases import TYPEORM, contents, fingerprint, session
from tests.servers import PostgresServer, free_port

ROOT = Path(__file__).resolve().parents[2]
Completed = subprocess.CompletedProcess[str]
Call = Callable[..., Completed]
COMMAND = [sys.executable, "-m", "migrations"]


def environment(url: str | None) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return others if url is None else {**others, "DATABASE_URL": url}


def run(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Run the command line in this process, which is quicker where nothing is killed."""
    handler = signal.getsignal(signal.SIGTERM)

    def run_here(*arguments: str, url: str | None = None) -> Completed:
        monkeypatch.delenv("DATABASE_URL", raising=False)
        if url is not None:
            monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setattr(sys, "argv", ["migrations", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output, errors = capfd.readouterr()
        return Completed(list(arguments), int(ended.value.code or 0), output, errors)

    yield run_here
    signal.signal(signal.SIGTERM, handler)


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], part: str) -> list[str]:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if part in line:
            return lines
    pytest.fail(f"ended without {part!r}: {''.join(lines)}")


@pytest.mark.parametrize("arguments", [(), ("upgrade",), ("status",), ("sql",)])
def test_help_is_given_without_a_database(arguments: tuple[str, ...], call: Call):
    completed = call(*arguments, "--help")
    assert completed.returncode == 0
    assert "Usage: python -m migrations" in completed.stdout
    if arguments == ("upgrade",):
        for option in ("--to", "--lock-timeout", "--attempts", "--json"):
            assert option in completed.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("downgrade",),
        ("upgrade", "--nonsense"),
        ("upgrade", "--lock-timeout", "0"),
        ("upgrade", "--attempts", "few"),
        ("upgrade", "0003"),
        ("upgrade", "--to", "0999"),
        ("sql", "--to", "0999"),
    ],
)
def test_wrong_usage_exits_with_2_and_changes_nothing(
    arguments: tuple[str, ...], database_url: str, call: Call
):
    completed = call(*arguments, url=database_url)
    assert completed.returncode == 2
    assert completed.stdout == ""
    assert "Traceback" not in completed.stderr
    assert fingerprint(database_url) == []


@pytest.mark.parametrize("command", ["upgrade", "status"])
def test_a_missing_wrong_or_unreachable_database_is_one_message_and_exit_1(
    command: str, call: Call
):
    port = free_port()
    for url, message in (
        (None, "DATABASE_URL is not set"),
        ("nonsense", "DATABASE_URL is no Postgres URL"),
        (f"postgresql://u:hunter2@127.0.0.1:{port}/x", f"cannot connect to u@127.0.0.1:{port}/x"),
    ):
        completed = call(command, url=url)
        assert completed.returncode == 1
        assert completed.stdout == ""
        assert message in completed.stderr
        assert completed.stderr.count("\n") == 1
        assert "hunter2" not in completed.stderr


def test_an_upgrade_shows_progress_on_stderr_and_its_result_as_the_last_line(
    database_url: str, call: Call
):
    completed = run("upgrade", "--json", "--to", "0002", url=database_url)
    assert completed.returncode == 0, completed.stderr
    result = json.loads(completed.stdout.splitlines()[-1])
    assert isinstance(result.pop("seconds"), float)
    assert result == {
        "outcome": "upgraded",
        "revision": "0002",
        "applied": ["0001", "0002"],
        "message": "upgraded the schema from nothing to 0002: 0001, 0002",
    }
    progress = completed.stderr.splitlines()
    assert [line[:11] for line in progress] == ["[1/2] 0001:", "[2/2] 0002:"]
    again = call("upgrade", "--to=0002", "--json", url=database_url)
    assert json.loads(again.stdout)["outcome"] == "current"
    assert again.stderr == ""
    assert "upgraded the schema from 0002 to 0003" in call("upgrade", url=database_url).stdout


def test_the_status_is_for_people_or_json(database_url: str, call: Call):
    schema.upgrade(database_url, to="0002")
    completed = call("status", url=database_url)
    assert completed.returncode == 0
    assert "current: 0002" in completed.stdout
    assert "head:    0003" in completed.stdout
    assert "0003  Let reviews keep the memory state they found." in completed.stdout
    found = json.loads(call("status", "--json", url=database_url).stdout)
    assert (found["current"], found["head"]) == ("0002", "0003")
    assert [revision["id"] for revision in found["pending"]] == ["0003"]


def test_the_sql_needs_no_database():
    completed = run("sql", "--to", "0002")
    assert completed.returncode == 0
    assert completed.stdout == schema.sql("0002")


def test_a_refusal_is_one_message_and_exit_1(database_url: str, call: Call):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE actors (id integer)")
    completed = call("upgrade", "--json", url=database_url)
    assert completed.returncode == 1
    assert completed.stdout == ""
    assert "actors.id is integer, expected uuid; actors.createdAt is missing" in completed.stderr
    assert completed.stderr.count("\n") == 1


def test_a_starved_upgrade_exits_with_1_and_says_who_holds_the_lock(database_url: str, call: Call):
    schema.upgrade(database_url, to="0001")
    with session(database_url, "report", "LOCK TABLE actors IN ACCESS SHARE MODE") as holder:
        completed = call("upgrade", "--lock-timeout=20", "--attempts=2", url=database_url)
        assert completed.returncode == 1
        assert f'session {holder.info.backend_pid} ("report"' in completed.stderr
    assert schema.status(database_url).current == "0001"


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_killing_an_upgrade_anywhere_costs_nothing_but_a_second_run(
    database_url: str, revision: str
):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TYPEORM.encode())
    before = contents(database_url)
    process = start(database_url, "upgrade")
    read_until(process, f"{revision}:")
    process.kill()
    process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0)
    completed = run("upgrade", "--json", url=database_url)
    assert completed.returncode == 0, completed.stderr
    assert schema.status(database_url).pending == ()
    after = contents(
        database_url,
        {"actors": ("fsrs_parameters", "fsrs_log_loss"), "review_logs": ("previousState",)},
    )
    assert after == before


@pytest.mark.slow
def test_an_upgrade_killed_while_it_waits_inside_a_revision_is_rolled_back(database_url: str):
    schema.upgrade(database_url, to="0002")
    before = fingerprint(database_url)
    with session(database_url, "report", "LOCK TABLE review_logs IN ACCESS SHARE MODE"):
        process = start(database_url, "upgrade", "--lock-timeout=2000")
        read_until(process, "0003:")
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert fingerprint(database_url) == before
    assert json.loads(run("upgrade", "--json", url=database_url).stdout)["applied"] == ["0003"]


@pytest.mark.slow
def test_a_terminated_upgrade_says_so_and_can_be_run_again(database_url: str):
    schema.upgrade(database_url, to="0002")
    with session(database_url, "report", "LOCK TABLE review_logs IN ACCESS SHARE MODE"):
        process = start(database_url, "upgrade", "--lock-timeout=30000")
        read_until(process, "0003:")
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "terminated: the revision in progress was rolled back" in errors
    assert "Traceback" not in errors
    assert schema.upgrade(database_url).applied == ("0003",)


@pytest.mark.slow
def test_a_server_that_goes_away_is_said_plainly(
    postgres_server: PostgresServer, database_url: str
):
    schema.upgrade(database_url, to="0002")
    with session(database_url, "report", "LOCK TABLE review_logs IN ACCESS SHARE MODE"):
        process = start(database_url, "upgrade", "--lock-timeout=30000")
        read_until(process, "0003:")
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            while not connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'migrations' AND wait_event_type = 'Lock'"
            ).fetchall():
                pass
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "the connection was lost during revision 0003" in errors
    assert "Traceback" not in errors
