"""The pool of processes by itself."""

from __future__ import annotations

import asyncio

import pytest

from workers.pool import Pool


def test_a_call_that_waits_for_a_process_learns_that_none_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(1, "postgresql://127.0.0.1:1/none", "test", [])

    def start() -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(pool, "_start_process", start)

    async def call() -> list[BaseException | dict[str, object]]:
        async with asyncio.timeout(10):
            return await asyncio.gather(
                *(pool.run("builtins:dict", {}) for _ in range(3)), return_exceptions=True
            )

    assert [str(answer) for answer in asyncio.run(call())] == ["no more processes"] * 3
