"""What stands behind `make up` and the like, where it needs no stack."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil

from stacks.command_line import holds_lock
from tests.workers.programs import wait_until


def test_a_lock_is_held_by_the_process_that_took_it_and_not_by_one_with_its_number() -> None:
    now = datetime.now(UTC)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert holds_lock(process.pid, now + timedelta(seconds=5))
        assert not holds_lock(process.pid, now - timedelta(days=1))
        process.kill()
        # Nobody has waited for it: its number is still taken.
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert not holds_lock(process.pid, now + timedelta(seconds=5))
    assert not holds_lock(process.pid, now + timedelta(seconds=5))
