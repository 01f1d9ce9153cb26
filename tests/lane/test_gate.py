from __future__ import annotations

import asyncio

from reflow_kafka.lane.gate import Gate


def never() -> bool:
    return False


async def test_without_a_limit_everything_is_admitted() -> None:
    assert await Gate(lambda: None).admit(500, never) == 500


async def test_a_limit_counts_from_one_commit_to_the_next() -> None:
    gate = Gate(lambda: 5)
    assert [await gate.admit(3, never), await gate.admit(3, never)] == [3, 2]
    assert await gate.admit(7, never, counted=False) == 7
    waiting = asyncio.create_task(gate.admit(3, never))
    await gate.changed.wait()
    assert gate.full
    assert not waiting.done()
    gate.taken()
    assert await waiting == 3
    assert not gate.full


async def test_who_has_too_much_waiting_asks_for_a_commit() -> None:
    gate, size = Gate(lambda: None), [9]
    waiting = asyncio.create_task(gate.admit(1, lambda: size[0] > 3))
    await gate.changed.wait()
    assert gate.full
    gate.taken()  # a commit, but not of this one's results
    await asyncio.sleep(0)
    assert not waiting.done()
    size[0] = 0
    gate.taken()
    assert await waiting == 1


async def test_a_stop_admits_nothing_more() -> None:
    gate = Gate(lambda: 0)
    waiting = asyncio.create_task(gate.admit(1, never))
    await gate.changed.wait()
    gate.stop()
    assert await waiting == 0
    assert await gate.admit(1, never) == 0
