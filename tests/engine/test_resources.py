"""Resources: opened before the work that needs them, closed after it, once per engine or once per worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from reflow_kafka import Flow
from tests.engine.memory import new_log, put, run


async def test_one_for_the_engine_and_one_for_each_worker() -> None:
    life: list[str] = []
    flow = Flow("shared", partitions=2)

    @flow.resource
    async def pool() -> AsyncIterator[str]:
        life.append("pool opens")
        yield "pool"
        life.append("pool closes")

    @flow.resource(per="worker")
    def session(pool: str) -> Iterator[dict[str, Any]]:
        life.append("session opens")
        yield {"of": pool}
        life.append("session closes")

    seen: list[int] = []

    @flow.stage(after=flow.source("numbers", topic="numbers"))
    def use(n: int, *, pool: str, session: dict[str, Any]) -> int:
        assert session == {"of": pool}
        seen.append(id(session))
        return n

    flow.sink("out", after=use, topic="out")
    log = await new_log("numbers")
    await put(log, "numbers", *((f"k{n}", n) for n in range(20)))
    await run(log, flow)
    assert len(set(seen)) == 2, "each lane's worker has its own"
    assert life[0] == "pool opens"
    assert life[-1] == "pool closes"
    assert life.count("session opens") == life.count("session closes") == 2
