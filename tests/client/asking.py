"""A client to be killed: keeps many requests in flight, and says when the first is answered."""

from __future__ import annotations

import asyncio
import itertools
import sys

from reflow_kafka import Client
from tests.client.flows import Order, shop

AT_ONCE = 50


async def ask_forever(name: str, bootstrap: str) -> None:
    """Each request is slow, so that there are always some in flight."""
    numbers = itertools.count()

    async def ask(client: Client) -> None:
        while True:
            await client.request("orders", Order(f"killed {next(numbers) % AT_ONCE}"), timeout=60)

    async with Client(shop(name, f"{name}-orders"), bootstrap) as client:
        await client.request("orders", Order("pen"), timeout=60)
        asking = [asyncio.create_task(ask(client)) for _ in range(AT_ONCE)]
        print("asking", flush=True)
        await asyncio.gather(*asking)


if __name__ == "__main__":
    asyncio.run(ask_forever(*sys.argv[1:]))
