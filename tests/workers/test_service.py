"""How a program ends what it runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from workers import service


def test_a_task_that_loses_its_cancellation_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ASKED_AGAIN_SECONDS", 0.01)
    lost: list[bool] = []

    async def loses_the_first() -> None:
        # As `asyncio.wait_for` does before Python 3.12 where the answer comes at that moment.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        lost.append(True)
        await asyncio.sleep(60)

    async def body() -> None:
        task = asyncio.create_task(loses_the_first())
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await service.ended(task)
        assert task.cancelled()

    asyncio.run(body())
    assert lost == [True]


def test_ending_tasks_that_have_failed_or_ended_is_no_error() -> None:
    async def fails() -> None:
        raise ValueError

    async def returns() -> None:
        return

    async def body() -> None:
        tasks = [asyncio.create_task(fails()), asyncio.create_task(returns())]
        await asyncio.sleep(0)
        await service.ended(*tasks)
        await service.ended()

    asyncio.run(body())
