"""Commits share, blocking handlers do not; nobody is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane import calm
from reflow_kafka.lane.calm import Calm

COMMITS = 3


class Watch:
    """Notes who is in, and fails if they may not be in together."""

    def __init__(self) -> None:
        self.calm = Calm()
        self.commits = 0
        self.blocking = 0
        self.order: list[int] = []

    async def enter(self, number: int, blocks: bool, pauses: int) -> None:
        async with self.calm.blocking() if blocks else self.calm.commit():
            self.order.append(number)
            self.commits += not blocks
            self.blocking += blocks
            assert self.blocking <= 1
            assert not (self.blocking and self.commits)
            assert self.commits <= COMMITS
            for _ in range(pauses):
                await asyncio.sleep(0)
            self.commits -= not blocks
            self.blocking -= blocks


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calm, "COMMITS", COMMITS)
        yield


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=12))
def test_never_together_and_first_come_first_served(visits: list[tuple[bool, int, bool]]) -> None:
    async def main() -> None:
        watch = Watch()
        tasks = []
        for number, (blocks, pauses, cancelled) in enumerate(visits):
            task = asyncio.create_task(watch.enter(number, blocks, pauses))
            tasks.append(task)
            await asyncio.sleep(0)
            if cancelled:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        for at, number in enumerate(watch.order):
            if visits[number][0]:  # commits may overtake each other, but nobody overtakes across a handler
                assert all(earlier < number for earlier in watch.order[:at])
                assert all(later > number for later in watch.order[at + 1 :])
        async with watch.calm.blocking():  # everybody has left
            pass

    asyncio.run(main())


async def test_who_is_cancelled_gives_its_turn_on() -> None:
    calm = Calm()
    async with calm.commit():
        waiting = asyncio.create_task(_hold(calm))
        behind = asyncio.create_task(_commit(calm))
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.wait_for(behind, 1)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _hold(calm: Calm) -> None:
    async with calm.blocking():
        await asyncio.sleep(3600)


async def _commit(calm: Calm) -> None:
    async with calm.commit():
        pass
