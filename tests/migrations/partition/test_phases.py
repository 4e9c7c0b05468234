"""The phases, one after another and again, on a table of the application's shape."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from migrations.partition import bookkeeping, calendar
from migrations.partition.errors import Refused
from migrations.partition.locks import operator_lock
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from tests.migrations.partition import application
from tests.migrations.partition.application import SPEC, differences, engine

DIGEST = "SELECT count(*), sum(hash_record_extended(t, 0)::numeric)::text FROM review_logs AS t"


@pytest.fixture
def url(database_url: str) -> str:
    application.create(database_url)
    return database_url


def through(url: str, phase: Phase) -> None:
    with engine(url) as work:
        run(work, phase)


def test_all_phases_give_a_partitioned_table_with_every_row(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        before = connection.execute(DIGEST).fetchone()
        with engine(url) as work:
            result = run(work, Phase.RETIRE)
        assert connection.execute(DIGEST).fetchone() == before
        assert before is not None
        assert (result.rows, result.digest, result.verified) == (*before, True)
        row = connection.execute(
            "SELECT relkind::text, pg_get_partkeydef(oid) FROM pg_class"
            " WHERE oid = 'review_logs'::regclass"
        ).fetchone()
        assert row == ("p", "RANGE (reviewed_at)")
        names = [
            row[0]
            for row in connection.execute(
                "SELECT relid::text FROM pg_partition_tree('review_logs') WHERE isleaf ORDER BY 1"
            )
        ]
        last = calendar.plus(calendar.current_month(), SPEC.ahead)
        assert names[-1] == f"review_logs_{last:%Y%m}"
        assert connection.execute("SELECT to_regclass('review_logs_retired')").fetchone() == (None,)


def test_every_phase_run_again_says_what_it_found(url: str) -> None:
    for phase in Phase:
        with engine(url) as work:
            assert PHASES[phase](work).outcome == "done"
            for earlier in list(Phase)[: phase.position + 1]:
                if earlier is Phase.VERIFY and phase is not Phase.RETIRE:
                    assert PHASES[earlier](work).verified
                else:
                    assert PHASES[earlier](work).outcome == "found"


@pytest.mark.parametrize("done", [None, *list(Phase)[:-2]])
def test_a_phase_out_of_order_is_refused_naming_the_one_to_run(
    url: str, done: Phase | None
) -> None:
    if done:
        through(url, done)
    following = list(Phase)[done.position + 1 if done else 0]
    with psycopg.connect(url) as connection, engine(url) as work:
        before = application.fingerprint(connection)
        for phase in list(Phase)[following.position + 1 :]:
            with pytest.raises(Refused, match=f"run {following} first"):
                PHASES[phase](work)
        assert application.fingerprint(connection) == before


def test_undoing_in_reverse_order_leaves_the_table_as_it_was(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        before = application.fingerprint(connection)
        through(url, Phase.CUTOVER)
        with engine(url) as work:
            for phase in reversed(list(Phase)[:-1]):
                for earlier in list(Phase)[: phase.position]:
                    with pytest.raises(Refused, match=f"undo {phase} first|no way back"):
                        UNDOS[earlier](work)
                assert UNDOS[phase](work).outcome == "done"
                assert UNDOS[phase](work).outcome == "found"
        assert application.fingerprint(connection) == before


def test_after_undoing_sync_everything_can_be_done_again(url: str) -> None:
    through(url, Phase.VERIFY)
    with engine(url) as work, psycopg.connect(url, autocommit=True) as connection:
        for phase in (Phase.VERIFY, Phase.BACKFILL, Phase.SYNC):
            UNDOS[phase](work)
        connection.execute("DELETE FROM review_logs WHERE rating = 2")
        connection.execute("UPDATE review_logs SET rating = 4 WHERE rating = 1")
        before = connection.execute(DIGEST).fetchone()
        run(work, Phase.RETIRE)
        assert connection.execute(DIGEST).fetchone() == before


def test_undoing_backfill_keeps_live_months_in_step(url: str) -> None:
    through(url, Phase.BACKFILL)
    with engine(url) as work, psycopg.connect(url, autocommit=True) as connection:
        UNDOS[Phase.BACKFILL](work)
        connection.execute("UPDATE review_logs SET rating = 4 WHERE rating = 1")
        assert not differences(connection, "review_logs", "review_logs_partitioned")
        result = PHASES[Phase.BACKFILL](work)
        assert (result.outcome, result.rows) == ("done", 0)


def test_retire_is_refused_within_the_hold_and_cannot_be_undone(url: str) -> None:
    through(url, Phase.CUTOVER)
    code, result, _ = application.run(url, "retire", "--hold", "3600")
    assert code == 1
    assert "is held until" in result["message"]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM review_logs_retired").fetchone() == (3000,)
    code, result, _ = application.run(url, "retire", "--hold", "0")
    assert (code, result["outcome"], result["verified"]) == (0, "done", True)
    for arguments in (["undo", "retire"], ["rollback"], ["undo", "cutover"]):
        code, result, _ = application.run(url, *arguments)
        assert (code, result["outcome"]) == (1, "refused")


def test_retire_is_refused_when_the_tables_differ(url: str) -> None:
    through(url, Phase.CUTOVER)
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute("DELETE FROM review_logs_retired WHERE elapsed_time = 7")
        with pytest.raises(Refused, match="only in the copy"):
            PHASES[Phase.RETIRE](work)
        assert connection.execute("SELECT count(*) FROM review_logs_retired").fetchone() == (2999,)


def test_verify_lists_the_keys_that_differ_and_takes_the_phase_back(url: str) -> None:
    through(url, Phase.VERIFY)
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        changed = connection.execute(
            "UPDATE review_logs_partitioned SET rating = 9 WHERE elapsed_time = 7"
            " RETURNING id::text"
        ).fetchone()
        missing = connection.execute(
            "DELETE FROM review_logs_partitioned WHERE elapsed_time = 8 RETURNING id::text"
        ).fetchone()
        assert changed is not None
        assert missing is not None
        with pytest.raises(Refused) as refusal:
            PHASES[Phase.VERIFY](work)
        assert f"{changed[0]}: different" in str(refusal.value)
        assert f"{missing[0]}: missing in the copy" in str(refusal.value)
        with pytest.raises(Refused, match="run verify first"):
            PHASES[Phase.CUTOVER](work)


def test_rollback_keeps_what_was_written_since_cutover_and_cutover_can_follow(url: str) -> None:
    through(url, Phase.CUTOVER)
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute("DELETE FROM review_logs WHERE rating = 2")
        connection.execute("UPDATE review_logs SET rating = 4 WHERE rating = 1")
        connection.execute("UPDATE review_logs SET id = gen_random_uuid() WHERE elapsed_time < 50")
        connection.execute(
            "UPDATE review_logs SET reviewed_at = reviewed_at - interval '30 days'"
            " WHERE reviewed_at > now() - interval '30 days'"
        )
        connection.execute("INSERT INTO review_logs (state) VALUES ('{}'), ('{}')")
        before = connection.execute(DIGEST).fetchone()
        assert not differences(connection, "review_logs", "review_logs_retired")
        UNDOS[Phase.CUTOVER](work)
        assert connection.execute(DIGEST).fetchone() == before
        assert not differences(connection, "review_logs", "review_logs_partitioned")
        connection.execute("INSERT INTO review_logs (state) VALUES ('{}'), ('{}')")
        connection.execute("DELETE FROM review_logs WHERE rating = 3")
        before = connection.execute(DIGEST).fetchone()
        run(work, Phase.RETIRE)
        assert connection.execute(DIGEST).fetchone() == before


def test_after_cutover_an_id_stays_unique_as_long_as_the_old_table_is_kept(url: str) -> None:
    through(url, Phase.CUTOVER)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT id FROM review_logs LIMIT 1").fetchone()
        assert row is not None
        with pytest.raises(errors.UniqueViolation):
            connection.execute("INSERT INTO review_logs (id, state) VALUES (%s, '{}')", row)
        with pytest.raises(errors.UniqueViolation):
            connection.execute("UPDATE review_logs SET id = %s WHERE elapsed_time IN (3, 4)", row)


def test_truncate_is_refused_while_the_table_is_kept_in_step(url: str) -> None:
    for phase in (Phase.SYNC, Phase.CUTOVER):
        through(url, phase)
        with (
            psycopg.connect(url, autocommit=True) as connection,
            pytest.raises(errors.RaiseException, match=r"TRUNCATE of .*review_logs is refused"),
        ):
            connection.execute("TRUNCATE review_logs")


def test_rows_without_a_month_never_fail_the_writer_but_hold_cutover_up(url: str) -> None:
    through(url, Phase.PREPARE)
    with psycopg.connect(url, autocommit=True) as connection, engine(url, attempts=3) as work:
        insert = "INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', %s) RETURNING id::text"
        keys = [
            (connection.execute(insert, [value]).fetchone() or ("",))[0]
            for value in (None, "2090-01-01")
        ]
        run(work, Phase.SYNC)
        keys += [
            (connection.execute(insert, [value]).fetchone() or ("",))[0]
            for value in (None, "infinity", "1950-03-01", "2090-01-01")
        ]
        run(work, Phase.VERIFY)
        with pytest.raises(Refused, match="missing or out of range") as refusal:
            PHASES[Phase.CUTOVER](work)
        assert all(key in str(refusal.value) for key in keys)
        connection.execute(
            "UPDATE review_logs SET reviewed_at = now() WHERE id = ANY(%s::uuid[])", [keys[:3]]
        )
        connection.execute("DELETE FROM review_logs WHERE id = ANY(%s::uuid[])", [keys[3:]])
        before = connection.execute(DIGEST).fetchone()
        PHASES[Phase.CUTOVER](work)
        assert connection.execute(DIGEST).fetchone() == before
        assert not differences(connection, "review_logs", "review_logs_retired")


def test_rows_for_months_that_had_no_partition_get_one_before_cutover(url: str) -> None:
    through(url, Phase.PREPARE)
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        insert = "INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', now() + %s::interval)"
        # Between prepare and sync, nobody notes it but the row itself.
        connection.execute(insert, ["-4 years"])
        run(work, Phase.SYNC)
        connection.execute(insert, ["-3 years"])
        run(work, Phase.BACKFILL)
        connection.execute(insert, ["6 months"])
        run(work, Phase.VERIFY)
        connection.execute(insert, ["-2 years"])
        before = connection.execute(DIGEST).fetchone()
        run(work, Phase.RETIRE)
        assert connection.execute(DIGEST).fetchone() == before


def test_a_writer_whose_snapshot_is_older_than_the_copy_is_followed_all_the_same(url: str) -> None:
    with psycopg.connect(url) as old, psycopg.connect(url) as older:
        for connection in (old, older):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM actors")
        through(url, Phase.BACKFILL)
        old.execute("UPDATE review_logs SET rating = 4 WHERE elapsed_time < 100")
        old.execute("DELETE FROM review_logs WHERE elapsed_time BETWEEN 100 AND 110")
        old.commit()
        through(url, Phase.VERIFY)
        older.execute("INSERT INTO review_logs (state) VALUES ('{}')")
        older.execute("DELETE FROM review_logs WHERE elapsed_time BETWEEN 200 AND 210")
        older.commit()
    through(url, Phase.CUTOVER)
    with psycopg.connect(url) as connection:
        assert not differences(connection, "review_logs", "review_logs_retired")
        assert connection.execute("SELECT count(*) FROM review_logs").fetchone() == (2979,)


def test_rows_and_what_they_refer_to_can_be_deleted_together_in_every_phase(url: str) -> None:
    # Copies that lag behind must not keep the application from deleting.
    with psycopg.connect(url, autocommit=True) as connection:
        for phase in [None, *Phase]:
            if phase:
                through(url, phase)
            connection.execute(
                "WITH a AS (SELECT id FROM actors WHERE EXISTS (SELECT FROM review_logs"
                ' WHERE "actorId" = actors.id) LIMIT 1),'
                ' gone AS (DELETE FROM review_logs WHERE "actorId" IN (TABLE a))'
                " DELETE FROM actors WHERE id IN (TABLE a)"
            )
            connection.execute(
                'DELETE FROM flashcards WHERE id IN (SELECT "flashcardId" FROM review_logs LIMIT 1)'
            )
            left = connection.execute(
                "SELECT count(*) FROM review_logs AS r WHERE NOT EXISTS (SELECT FROM flashcards"
                ' WHERE id = r."flashcardId")'
            ).fetchone()
            assert left == (0,)
            if phase is Phase.CUTOVER:
                assert not differences(connection, "review_logs", "review_logs_retired")


def test_a_second_operator_is_told_who_works_on_the_table(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrations.partition.locks._PATIENCE_SECONDS", 0.3)

    with engine(url) as first, engine(url) as second, operator_lock(first):
        pid = first.connection.info.backend_pid
        with (
            pytest.raises(Refused, match=rf"pid {pid}, role .*partitioning public.review_logs"),
            operator_lock(second),
        ):
            pass
    with engine(url) as third, operator_lock(third):
        pass


def test_a_lock_that_is_never_free_is_given_up_naming_who_holds_it(url: str) -> None:
    through(url, Phase.PREPARE)
    with psycopg.connect(url) as other, engine(url, attempts=3) as work:
        other.execute("UPDATE review_logs SET rating = 1 WHERE elapsed_time = 1")
        pid = other.info.backend_pid
        started = time.monotonic()
        with pytest.raises(Refused, match=rf"in 3 attempts.* pid {pid} "):
            PHASES[Phase.SYNC](work)
        assert time.monotonic() - started < 20
        other.rollback()
        run(work, Phase.VERIFY)
        other.execute("SELECT count(*) FROM review_logs")
        with pytest.raises(Refused, match=rf"pid {pid} "):
            PHASES[Phase.CUTOVER](work)
        other.rollback()
        assert PHASES[Phase.CUTOVER](work).outcome == "done"


def test_progress_is_there_for_the_exporter(url: str) -> None:
    through(url, Phase.SYNC)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE review_logs SET rating = 1 WHERE elapsed_time <= 5")
        columns = (
            "table_name, phase, months, months_live, rows_estimated, rows_copied, changes_pending,"
            " months_ahead, default_rows, updated_at IS NOT NULL"
        )
        query = f"SELECT {columns} FROM partitioning.progress"
        row = connection.execute(query).fetchone()
        assert row is not None
        assert row[:2] == ("public.review_logs", "sync")
        assert row[3:] == (0, row[4], 0, 5, 2, None, True)
        through(url, Phase.CUTOVER)
        row = connection.execute(query).fetchone()
        assert row is not None
        assert row[1:] == ("cutover", row[2], row[2], 3000, 3000, 0, 2, None, True)


def test_a_default_partition_takes_rows_outside_all_months_after_cutover(url: str) -> None:
    spec = SPEC.model_copy(update={"default_partition": True})
    with engine(url, spec) as work, psycopg.connect(url, autocommit=True) as connection:
        run(work, Phase.CUTOVER)
        connection.execute("INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', '2090-1-1')")
        rows = connection.execute("SELECT default_rows FROM partitioning.progress").fetchone()
        assert rows == (1,)
        run(work, Phase.RETIRE)


def test_a_column_added_in_between_is_noticed(url: str) -> None:
    through(url, Phase.VERIFY)
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute("ALTER TABLE review_logs ADD COLUMN remark text")
        for phase in (Phase.VERIFY, Phase.CUTOVER):
            with pytest.raises(Refused, match=r"columns .* changed since prepare \(remark\)"):
                PHASES[phase](work)
        for phase in (Phase.VERIFY, Phase.BACKFILL, Phase.SYNC, Phase.PREPARE):
            UNDOS[phase](work)
        run(work, Phase.CUTOVER)
        connection.execute("SELECT remark FROM review_logs")


def test_the_command_line_runs_phase_by_phase(url: str, tmp_path: Path) -> None:
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    code, result, _ = application.run(url, "plan", spec)
    assert (code, result["outcome"], result["months"] > 5) == (0, "done", True)
    assert (
        'CREATE TRIGGER partitioning_insert AFTER INSERT ON "public"."review_logs"'
        in result["message"]
    )
    with psycopg.connect(url) as connection:
        assert not bookkeeping.exists(connection)
    for phase in Phase:
        code, result, errors_shown = application.run(url, phase.value, spec)
        assert (code, result["outcome"]) == (0, "done"), errors_shown
        if phase is Phase.BACKFILL:
            assert (result["rows"], result["rows_per_second"] > 0) == (3000, True)
    code, result, _ = application.run(url, "status", spec)
    assert "retire is done" in result["message"]


def test_wrong_usage_exits_with_2_and_a_bad_spec_with_1(url: str, tmp_path: Path) -> None:
    for arguments in (["nonsense"], ["sync", "--lock-timeout=0"], ["undo", "nothing"]):
        code, _, shown = application.run(url, *arguments)
        assert (code, "Usage" in shown) == (2, True)
    spec = application.write_spec(tmp_path / "spec.toml", colour="red")
    code, result, _ = application.run(url, "prepare", f"--spec={spec}")
    assert (code, result["outcome"]) == (1, "refused")
    assert "unknown key `colour`" in result["message"]


def test_a_run_that_is_asked_to_stop_does_so_and_the_next_goes_on(url: str) -> None:
    through(url, Phase.SYNC)
    with psycopg.connect(url) as other:
        other.execute("UPDATE review_logs SET rating = 1 WHERE reviewed_at < now()")
        process = subprocess.Popen(
            application.command("backfill", "--json", "--attempts=1000"),
            env={**os.environ, "DATABASE_URL": url},
            cwd=application.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "stopped on request" in output
        other.commit()
    through(url, Phase.VERIFY)


def test_status_tells_people_and_programs_what_is_done_and_what_blocks(
    url: str, tmp_path: Path
) -> None:
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    assert "not begun" in application.run(url, "status", spec)[1]["message"]
    through(url, Phase.SYNC)
    with psycopg.connect(url) as other, engine(url) as work, operator_lock(work):
        other.execute("UPDATE review_logs SET rating = 1 WHERE elapsed_time <= 5")
        code, result, _ = application.run(url, "status", spec)
        assert (code, result["phase"], result["months_by_state"]) == (
            0, "sync", {"pending": result["months"]},
        )  # fmt: skip
        assert (result["changes_pending"], result["months_ahead"]) == (0, 2)
        holder = f"pid {other.info.backend_pid} "
        assert any(text.startswith(holder) for text in result["lock_holders"])
        assert str(work.connection.info.backend_pid) in result["operators"][0]
        assert f"at work: {result['operators'][0]}" in result["message"]
        assert "paused_since" not in result
        other.commit()
    application.run(url, "pause", spec)
    result = application.run(url, "status", spec)[1]
    assert "paused since" in result["message"]
    assert result["changes_pending"] == 5
    assert result["paused_since"]
