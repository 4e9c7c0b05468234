"""`make up` killed with -9 wherever it is: the next one finishes; nothing is lost or doubled."""

from __future__ import annotations

import random
import subprocess
import time

import psutil
import psycopg
import pytest

from history.digest import review_digest
from tests.checkouts import checked_out
from tests.soak import times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS: dict[str, object] = {
    "learning-platform:history": {"source": "simulated", "actors": 20, "reviews": 8_000}
}


def kill_everything_that_updates(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and its descendants, as a lost terminal or the out-of-memory killer may."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def test_an_up_that_was_killed_anywhere_is_finished_by_the_next() -> None:
    chance = random.Random(7)
    with checked_out(SETTINGS) as checkout:
        killed = 0
        for _ in range(times(3, most=30)):
            process = checkout.start_up()
            deadline = time.monotonic() + chance.uniform(3, 22)
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if process.poll() is None:
                kill_everything_that_updates(process)
                killed += 1
        assert killed
        checkout.stacks("up")
        with psycopg.connect(checkout.exports()["DATABASE_URL"]) as connection:
            assert review_digest(connection).rows == 8_000
            (kind,) = connection.execute(
                "SELECT relkind::text FROM pg_class WHERE oid = 'review_logs'::regclass"
            ).fetchone() or ("",)
        assert kind == "p"
        assert checkout.changes() == {}
        assert checkout.stacks("status").returncode == 0
        checkout.stacks("down")
        assert not checkout.processes()
