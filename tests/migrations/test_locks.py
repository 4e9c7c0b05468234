"""An upgrade waits for its locks briefly and again, never in the application's way for long."""

import threading
import time

import psycopg
import pytest
from tenacity import retry_if_exception

from migrations import locks, schema
from migrations.locks import LockPolicy, LockUnavailableError, with_retries
from migrations.schema import UPGRADE_LOCK, SchemaError, UpgradeResult
from tests.migrations.databases import (
    TYPEORM,
    background,
    contents,
    fingerprint,
    session,
    wait_for,
)

READ = "SELECT count(*) FROM review_logs WHERE 'hunter2' = 'hunter2'"


@pytest.fixture
def production(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TYPEORM.encode())
    return database_url


def test_an_upgrade_waits_for_a_long_transaction_and_then_goes_on(production: str):
    lines: list[str] = []
    policy = LockPolicy(timeout=50, attempts=200)
    with (
        session(production, "report", READ) as holder,
        background(
            lambda: schema.upgrade(production, policy=policy, progress=lines.append)
        ) as outcome,
    ):
        pid = holder.info.backend_pid
        wait_for(lambda: sum("no lock within 50 ms" in line for line in lines) >= 2)
        assert not outcome
        assert schema.status(production).current == "0002"
        holder.rollback()
    [result] = outcome
    assert isinstance(result, UpgradeResult), result
    assert result.applied == ("0001", "0002", "0003")
    waited = next(line for line in lines if "no lock" in line)
    assert f'session {pid} ("report", idle in transaction' in waited
    assert "holds review_logs; attempt 2 of 200" in waited
    assert "hunter2" not in "".join(lines)


def test_an_upgrade_that_never_gets_its_lock_names_the_holder_and_changes_nothing(
    production: str, monkeypatch: pytest.MonkeyPatch
):
    errors: list[BaseException | None] = []

    def spy(error: BaseException) -> bool:
        errors.append(locks.driver_error(error))
        return locks.is_lock_problem(error)

    monkeypatch.setattr(locks, "retry_if_exception", lambda _: retry_if_exception(spy))
    schema.upgrade(production, to="0002")
    before, rows = fingerprint(production), contents(production)
    with session(production, "report", READ) as holder:
        with pytest.raises(SchemaError) as failed:
            schema.upgrade(production, policy=LockPolicy(timeout=30, attempts=3))
        message = str(failed.value)
        assert "revision 0003 was not applied, nothing of it was changed" in message
        assert "no lock in 3 attempts" in message
        assert f'session {holder.info.backend_pid} ("report", idle in transaction, query' in message
        assert "holds review_logs" in message
        assert "hunter2" not in message
        assert fingerprint(production) == before
    # Each attempt was ended by the short lock timeout, not by the longer one of the statement.
    assert [type(error) for error in errors] == [psycopg.errors.LockNotAvailable] * 3
    assert contents(production) == rows
    assert schema.upgrade(production).applied == ("0003",)


def test_the_holder_of_a_partition_is_found_too(production: str):
    with psycopg.connect(production, autocommit=True) as connection:
        connection.execute(
            'DROP TABLE review_logs; CREATE TABLE review_logs (id uuid, "flashcardId" uuid,'
            ' "actorId" uuid, rating smallint, state jsonb, elapsed_time integer, reviewed_at'
            " timestamp, scheduled_on timestamp) PARTITION BY RANGE (reviewed_at);"
            "CREATE TABLE january PARTITION OF review_logs FOR VALUES FROM ('2024-01-01') TO"
            " ('2024-02-01')"
        )
    with (
        session(production, "vacuumer", "LOCK TABLE ONLY january IN SHARE MODE") as holder,
        pytest.raises(SchemaError, match=f"session {holder.info.backend_pid} .*holds review_logs"),
    ):
        schema.upgrade(production, policy=LockPolicy(timeout=30, attempts=2))


def test_readers_and_writers_go_on_while_an_upgrade_waits_and_works(production: str):
    stop = threading.Event()
    done = {"written": 0, "read": 0}
    failures: list[Exception] = []

    def work(kind: str, statement: str) -> None:
        # Who waits behind the upgrade's short wait gets on; who waited longer than 5 s fails.
        options = "?options=-cstatement_timeout%3D5000"
        try:
            with psycopg.connect(production + options, autocommit=True) as connection:
                while not stop.is_set():
                    connection.execute(statement.encode())
                    done[kind] += 1
                    time.sleep(0.002)
        except Exception as error:
            failures.append(error)

    insert = (
        'INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time)'
        " SELECT f.id, a.id, 3, '{}', 0 FROM flashcards AS f, actors AS a LIMIT 3"
    )
    read = 'SELECT count(*) FROM review_logs JOIN actors ON actors.id = "actorId"'
    threads = [
        threading.Thread(target=work, args=arguments)
        for arguments in (("written", insert), ("read", read))
    ]
    lines: list[str] = []
    with session(production, "report", READ) as holder:
        for thread in threads:
            thread.start()
        with background(
            lambda: schema.upgrade(
                production, policy=LockPolicy(timeout=50, attempts=200), progress=lines.append
            )
        ) as outcome:
            wait_for(lambda: any("no lock" in line for line in lines))
            seen = dict(done)
            wait_for(lambda: all(done[kind] > seen[kind] + 20 for kind in done))
            assert not outcome
            holder.rollback()
            wait_for(lambda: outcome)
        seen = dict(done)
        wait_for(lambda: failures or all(done[kind] > seen[kind] for kind in done))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert isinstance(outcome[0], UpgradeResult), outcome
    assert contents(production)["review_logs"][0] == 1000 + 3 * done["written"]  # pyright: ignore


def test_two_upgrades_at_once_queue_and_apply_each_revision_once(database_url: str):
    barrier = threading.Barrier(2)

    def run() -> UpgradeResult:
        barrier.wait()
        return schema.upgrade(database_url, policy=LockPolicy(timeout=100))

    with background(run) as first, background(run) as second:
        pass
    results = [*first, *second]
    assert all(isinstance(result, UpgradeResult) for result in results), results
    assert sorted(result.applied for result in results) == [(), ("0001", "0002", "0003")]  # pyright: ignore
    assert schema.status(database_url).pending == ()


def test_an_upgrade_told_to_wait_for_another_in_vain_says_who_it_is(database_url: str):
    take = f"SELECT pg_advisory_lock({UPGRADE_LOCK})"
    with session(database_url, "migrations", take) as other:
        with pytest.raises(
            SchemaError, match=r"another upgrade is .*Nothing was changed"
        ) as failed:
            schema.upgrade(database_url, policy=LockPolicy(timeout=20, attempts=2))
        assert f'session {other.info.backend_pid} ("migrations"' in str(failed.value)
    assert fingerprint(database_url) == []


def test_only_lock_problems_are_tried_again():
    attempts: list[int] = []

    def fail(error: Exception) -> None:
        attempts.append(1)
        raise error

    policy = LockPolicy(timeout=1, attempts=3)
    with pytest.raises(psycopg.errors.UndefinedTable):
        with_retries(policy, lambda: fail(psycopg.errors.UndefinedTable()), str, print)
    assert len(attempts) == 1
    for kind in (
        psycopg.errors.DeadlockDetected,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.QueryCanceled,
    ):
        attempts.clear()
        with pytest.raises(LockUnavailableError, match="no lock in 3 attempts; who"):
            with_retries(policy, lambda: fail(kind()), lambda: "who", lambda _line: None)  # noqa: B023
        assert len(attempts) == 3


@pytest.mark.parametrize(("timeout", "attempts"), [(0, 1), (1, 0), (-5, 3)])
def test_a_policy_of_no_time_or_no_attempts_is_refused(timeout: int, attempts: int):
    with pytest.raises(ValueError, match="at least 1"):
        LockPolicy(timeout, attempts)


def test_many_holders_are_summed_up():
    holder = locks.LockHolder(7, "", None, None, "actors")
    text = locks.describe([holder] * 5)
    assert text.startswith(
        "session 7 (without a name, state not visible to this role) holds actors"
    )
    assert text.endswith("; and 2 more")
    assert locks.describe([]) == "whoever held it has let go since"
