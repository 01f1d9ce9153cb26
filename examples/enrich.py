"""Visits of a web site get the city of the visitor, from a web service that is slow and down now and then.

python examples/enrich.py                                a thousand visits, and what came of them
reflow-kafka worker examples/enrich.py --until-end       the same, kept in ./.reflow
reflow-kafka consume visits-per-city

The service is a small one that runs along (`city_service.py`); with one of your own, let `service` yield its
address. It needs aiohttp: pip install aiohttp
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import aiohttp
import city_service

from reflow_kafka import Engine, Flow, Reject, Retry, State

VISITS = 1000


@dataclass
class Visit:
    visitor: str
    address: str
    page: str


@dataclass
class LocatedVisit:
    visitor: str
    page: str
    city: str


@dataclass
class Visits:
    city: str
    count: int


def make_visits() -> list[Visit]:
    """The same ones every time."""
    dice = random.Random(2026)
    numbers = [dice.randrange(500) for _ in range(VISITS)]
    return [Visit(f"visitor-{n}", f"10.0.0.{n}", dice.choice(("/", "/shop", "/help"))) for n in numbers]


flow = Flow("enrich", partitions=4)


@flow.source(state=int, key="visitor")
def visits(done: State[int]) -> Iterator[Visit]:
    """After a restart it goes on where the results end: `done` is set before the visit leaves."""
    for visit in make_visits()[done.value :]:
        done.value += 1
        yield visit


@flow.resource
async def service() -> AsyncIterator[str]:
    """The address of the web service."""
    async with city_service.serving() as address:
        yield address


@flow.resource
async def http(service: str) -> AsyncIterator[aiohttp.ClientSession]:
    """One session for the whole engine, and so one pool of connections."""
    connector = aiohttp.TCPConnector(limit=0)  # `concurrency` is the limit
    async with aiohttp.ClientSession(service, connector=connector) as session:
        yield session


@flow.stage(
    after=visits,
    concurrency=100,
    timeout=2,
    retry=Retry(attempts=5, backoff=0.1, on=(aiohttp.ClientError, TimeoutError)),
)
async def locate(visit: Visit, http: aiohttp.ClientSession) -> LocatedVisit:
    """Up to a hundred visits per lane wait for an answer; those of one visitor wait for each other."""
    async with http.get(f"/cities/{visit.address}") as answer:
        if answer.status == 404:
            raise Reject(f"nobody knows {visit.address}")  # asking again would not help
        answer.raise_for_status()
        return LocatedVisit(visit.visitor, visit.page, (await answer.json())["city"])


@flow.stage(after=locate, key="city", state=int)
def count(total: State[int], visit: LocatedVisit) -> Visits:
    total.value += 1
    return Visits(visit.city, total.value)


flow.sink("counts", after=count, topic="visits-per-city")

latest: dict[str, int] = {}


@flow.sink(after=count)
def report(visits: Visits) -> None:
    """For this example: keep the last count of each city."""
    latest[visits.city] = visits.count


async def main() -> None:
    """Run to the end on an embedded log of its own, and print what came out."""
    with TemporaryDirectory(prefix="reflow-enrich-") as folder:
        begun = time.perf_counter()
        async with Engine(flow, data_dir=folder) as engine:
            await engine.wait(until_end=True)
            stage = engine.statistics().flows["enrich"].stages["locate"]
        took = time.perf_counter() - begun
    for city, number in sorted(latest.items()):
        print(f"{number:>5} visits from {city}")
    print(f"{stage.dead_letters:>5} visits from nobody knows where, which are dead letters now")
    print(f"{stage.events:>5} visits in {took:.1f} s, start and stop included")
    answers = city_service.answers
    print(f"{answers.total():>5} calls, {stage.retries} of them repeated ones: the service had been down")
    print(f"      for {answers[503]}, and not answered {answers[0]} in time")


if __name__ == "__main__":
    asyncio.run(main())
