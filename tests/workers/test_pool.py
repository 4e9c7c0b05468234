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


def test_a_call_whose_process_is_being_started_when_all_is_given_up_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(1, "postgresql://127.0.0.1:1/none", "test", [])
    started = pool._start_process

    def start() -> object:
        # In a thread of the pool's; the loop gives up meanwhile.
        loop.call_soon_threadsafe(pool.give_up, TimeoutError("too late"))
        return started()

    monkeypatch.setattr(pool, "_start_process", start)

    async def call() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            await pool.run("builtins:dict", {})

    loop: asyncio.AbstractEventLoop
    try:
        with pytest.raises(TimeoutError, match="too late"):
            asyncio.run(call())
    finally:
        pool.kill()
