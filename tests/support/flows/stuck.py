"""A sink that takes its first events and never comes back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from reflow_kafka import Event, Flow
from reflow_kafka.connector import ConnectorContext

NAME = os.environ["FLOW_NAME"]


class Stuck:
    """A connector, and the writer it opens."""

    async def open(self, ctx: ConnectorContext) -> Stuck:
        return self

    async def write(self, events: Sequence[Event[Any]]) -> None:
        await asyncio.Event().wait()

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


flow = Flow(NAME, partitions=8)
events = flow.source("events", topic=f"{NAME}-events")


@flow.stage(after=events)
def onward(event: dict[str, Any]) -> dict[str, Any]:
    return event


@flow.stage(after=events)
async def waiting(event: dict[str, Any]) -> None:
    await asyncio.Event().wait()


flow.sink("stuck", Stuck(), after=onward)
