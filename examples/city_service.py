"""A web service such as there are many: slow now and then, down now and then, and not knowing everything.

It runs in this process, on a free port, and behaves the same on every run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

CITIES = ("Aarhus", "Bilbao", "Cork", "Dresden", "Esbjerg", "Florence", "Graz")

asked: Counter[str] = Counter()
"""How often it was asked for each address."""
answers: Counter[int] = Counter()
"""How often it answered with each status; 0: nobody waited for the answer."""


def city_of(address: str) -> str | None:
    """What it knows; it has not heard of every ninetieth address."""
    number = int(address.rpartition(".")[2])
    return None if number % 90 == 17 else CITIES[number % len(CITIES)]


async def answer(request: web.Request) -> web.Response:
    """Answer after 20 ms or so; one address in fifty makes trouble at first."""
    address = request.match_info["address"]
    asked[address] += 1
    number, times = int(address.rpartition(".")[2]), asked[address]
    dice = random.Random(f"{address} {times}")
    try:
        await asyncio.sleep(max(0.002, dice.gauss(0.02, 0.008)))
        if number % 100 == 13 and times == 1:
            await asyncio.sleep(30)
    except asyncio.CancelledError:
        answers[0] += 1
        raise
    if number % 50 == 7 and times <= 2:
        status, body = 503, {"error": "overloaded"}
    elif (city := city_of(address)) is None:
        status, body = 404, {"error": "unknown address"}
    else:
        status, body = 200, {"city": city}
    answers[status] += 1
    return web.json_response(body, status=status)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The service runs; its address."""
    app = web.Application()
    app.router.add_get("/cities/{address}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
