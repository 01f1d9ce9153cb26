"""Programs that mypy --strict and pyright accept; each `reveal_type` states the type they must see."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Never, assert_type

from reflow_kafka import (
    Batch,
    Context,
    Count,
    Event,
    Flow,
    Hopping,
    KeyValue,
    Rate,
    Reject,
    Retry,
    RetryLater,
    Session,
    Sliding,
    Stage,
    State,
    Store,
    Table,
    Timer,
    Tumbling,
    Window,
)
from reflow_kafka.aggregations import Count as Events
from reflow_kafka.aggregations import Mean, TopK


class Pool:
    async def execute(self, query: str, *values: object) -> None: ...
    async def close(self) -> None: ...


@dataclass
class Row:
    a: int


class Own:
    def make(self) -> list[int]:
        return []

    def add(self, state: list[int], value: Row, timestamp: int) -> list[int]:
        return [*state, value.a]

    def merge(self, state: list[int], later: list[int]) -> list[int]:
        return state + later

    def result(self, state: list[int]) -> int:
        return len(state)


flow = Flow("typed", partitions=4, on_error="stop", retry=Retry(5, backoff=0.5), dead_letter_limit=1)

# A function's result decides what the next may take; iterators give their items.
lines = flow.source("lines", topic="text", type=str)
assert_type(lines, Stage[str])
assert_type(flow.source("minutely", every=timedelta(minutes=1), missed="all"), Stage[dict[str, Any]])
assert_type(flow.source("nightly", cron="0 3 * * *", timezone="Europe/Berlin"), Stage[dict[str, Any]])


@flow.stage(after=lines)
def split(line: str) -> Iterator[str]:
    yield from line.lower().split()


@flow.stage(after=split, key=str, state=int)
def count(n: State[int], word: str) -> tuple[str, int]:
    n.value += 1
    return word, n.value


flow.sink("counts", after=count, topic="counts")


@flow.stage(after=count, when=lambda pair: pair[1] > 1)
def word(pair: tuple[str, int]) -> str | None:
    return pair[0] if pair[1] > 2 else None


@flow.stage(after=word)
def shout(text: str) -> str:
    return text.upper()


# The decorated object stays what it was.
assert_type(shout("a"), str)
assert_type(count(State(0), "a"), tuple[str, int])


# Calls give handles; a function may be several stages.
def step(text: str) -> str:
    return text + "!"


previous = flow["split"]
for i in range(3):
    previous = flow.stage(step, name=f"step_{i}", after=previous)


# Resources and the context come by name.
@flow.resource
async def pool() -> AsyncIterator[Pool]:
    opened = Pool()
    yield opened
    await opened.close()


@flow.resource(per="worker")
def table(pool: Pool) -> str:
    return "rows"


rows = flow.source("rows", topic=["rows", "more"], type=Row, key="a", timestamp=lambda r: r["at"])
assert_type(rows, Stage[Row])


@flow.sink(after=rows, on_error="skip")
async def insert(event: Event[Row], *, pool: Pool, table: str) -> None:
    await pool.execute(f"insert into {table}", event.id, event.value.a)


@flow.stage(after=rows, key=lambda r: r.a, partitions=1, outputs=["big"])
async def enrich(row: Row, *, pool: Pool, ctx: Context) -> Row | Event[Row]:
    if row.a < 0:
        raise Reject("negative")
    ctx.log.info("row %s", ctx.key)
    return Event(row, to="big") if row.a > 10 else row


@flow.stage(after=enrich)
def after_coroutine(row: Row) -> int:
    return row.a


@flow.stage(after=[enrich, "rows", flow[enrich].output("big"), "enrich.error"])
def merged(row: Row) -> None: ...


# Events wrap values on both sides.
@flow.stage(after=rows)
def with_event(event: Event[Row]) -> Event[int] | None:
    return event.replace(event.value.a, key=event.key) if event.value.a else None


@flow.stage(after=with_event)
def of_event(number: int) -> Iterator[Event[str]]:
    yield Event(str(number), key=number)


@flow.stage(after=of_event)
async def of_events(text: str) -> AsyncIterator[Event[Row] | Row]:
    yield Row(len(text))


@flow.stage(after=of_events, state=list[str])
def with_state_and_event(seen: list[str], event: Event[Row]) -> None:
    seen.append(event.key)


# State of one's own making.
@dataclass
class Last:
    temps: list[float] = field(default_factory=list[float])


@flow.stage(after="readings", state=Last)
def average(last: Last, reading: dict[str, Any]) -> dict[str, Any]:
    last.temps.append(reading["temp"])
    return {**reading, "average": sum(last.temps) / len(last.temps)}


readings = flow.source("readings", topic="readings", key="station")
assert_type(readings, Stage[Any])


# After dict[str, Any] the next function may say more.
@flow.stage(after=average, when=lambda r: r["temp"] > r["average"])
async def alert(reading: dict[str, float]) -> str:
    return str(reading["temp"])


@flow.stage(after=alert)
def alerted(text: str) -> None: ...


# Classes, generic dicts, objects.
@flow.stage(after=rows)
class Lookup:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def open(self) -> None: ...
    async def __call__(self, row: Row) -> Row:
        return row

    async def close(self) -> None: ...


assert_type(Lookup(Pool()), Lookup)


@flow.stage(after=Lookup)
def after_class(row: Row) -> None: ...


clicks = flow.source("clicks", topic="clicks", key="user", type=dict[str, str])


@flow.stage(after=clicks, state=list[str])
def visit(pages: list[str], click: dict[str, str]) -> None:
    pages.append(click["page"])


class Scale:
    def __call__(self, x: int) -> int:
        return 2 * x


scaled = flow.stage(Scale(), name="scaled", after=after_coroutine)
assert_type(scaled, Stage[Any])


# Sources over generators.
@dataclass
class Position:
    at: int = 0


@flow.source(state=Position, key="n")
async def ticks(position: Position) -> AsyncIterator[dict[str, int]]:
    position.at += 1
    yield {"n": position.at}


@flow.source()
def numbers() -> Iterator[int]:
    yield 1


@flow.stage(after=numbers)
def after_generator_source(n: int) -> None: ...


assert_type(flow.reply(after=[count, word], name="answer", when=lambda word: word is not None), Stage[Never])
flow.sink("routed", after=numbers, topic=lambda n: f"numbers-{n % 2}", key=None, format="json")


assert_type(flow.describe("mermaid"), str)


# Decorated by others and given on: wrappers keep what they wrap.
@flow.stage(after=rows)
def mixed(row: Row) -> Event[int] | int | None:
    return row.a


@flow.stage(after=mixed)
def after_mixed(number: int) -> None: ...


# How handlers are run.
@flow.stage(
    after=rows, concurrency=100, timeout=timedelta(seconds=5), retry=Retry(None, on=(OSError, KeyError))
)
async def fetch(row: Row) -> Row:
    raise RetryLater(timedelta(minutes=1), "busy")


@flow.stage(
    after=fetch, run_in="process", concurrency=2, timeout=2.5, rate=Rate(100, per=timedelta(minutes=1))
)
def compute(row: Row) -> int:
    return row.a


@flow.stage(after=compute, chain=True)
def chained(number: int) -> None: ...


@flow.stage(after=rows, batch=Batch(100))
def batched(rows: list[Row]) -> list[int | None]:
    return [row.a or None for row in rows]


assert_type(batched([]), list[int | None])


@flow.stage(after=batched)
def after_batched(number: int) -> None: ...


@flow.stage(after=rows, batch=Batch(within=timedelta(seconds=1)))
async def batched_later(rows: list[Event[Row]], *, pool: Pool) -> list[Event[int]]:
    return [row.replace(row.value.a) for row in rows]


@flow.stage(after=batched_later, batch=Batch(10))
def batched_again(numbers: Sequence[int]) -> Iterator[str]:
    yield from map(str, numbers)


@flow.stage(after=batched_again, batch=Batch(10, per_key=True), state=int, key=str)
def summed(n: State[int], texts: list[str]) -> int:
    return len(texts)


@flow.stage(after=batched_again, name="counts_of", batch=Batch(per_key=True), state=dict[str, int], key=str)
def counted(counts: dict[str, int], texts: list[str]) -> list[str]:
    return texts


@flow.stage(after=counted)
def after_counted(text: str) -> None: ...


@flow.stage(after=average, batch=Batch())
def of_dicts(readings: list[dict[str, float]]) -> int:
    return len(readings)


@flow.stage(after=of_dicts)
def after_of_dicts(number: int) -> None: ...


@flow.stage(after=[rows, "fetch"], batch=Batch())
class InsertAll:
    def __call__(self, rows: list[Row]) -> None: ...


@flow.sink(after=rows, batch=Batch(1000), retry=Retry(None), run_in="thread", concurrency=4)
def copy(events: list[Event[Row]], *, table: str) -> None: ...


flow.stage(batched, name="called", after=rows, batch=Batch(10))


# A list may be a value as well.
@flow.stage(after=rows)
def to_list(row: Row) -> list[int]:
    return [row.a]


@flow.stage(after=to_list)
def of_list(numbers: list[int]) -> list[int]:
    return numbers


@flow.stage(after=of_list)
def of_list_again(numbers: list[int]) -> None: ...


def reminded(seen: list[str], timer: Timer, *, ctx: Context) -> str:
    ctx.cancel_timer(timer.name)
    return timer.name


@flow.stage(
    after=rows,
    state=list,
    ttl=timedelta(days=1),
    on_timer=reminded,
    stores={"n": int, "m": KeyValue(Row, ttl=5)},
)
def reminding(seen: list[str], row: Row, ctx: Context) -> None:
    ctx.timer("later", clock="event-time", delay=timedelta(hours=1))
    ctx.timer("then", clock="wall-clock", at=datetime.now(UTC))
    numbers: Store[int] = ctx.store("n")
    numbers.put("a", (numbers.get("a") or 0) + 1)
    for key, number in numbers.range("a", "b", prefix="a"):
        ctx.log.info("%s: %d", key, number + ctx.watermark)


once = flow.dedupe("once", after=rows, by="a", within=60)


@flow.stage(after=once)
def of_once(row: Row) -> None: ...


@flow.gather(after=[rows, once], key="a", expect=lambda row: row.a, within=timedelta(hours=1), id="a")
def together(parts: list[Row], *, ctx: Context) -> int:
    return len(parts)


@flow.zip(after=[rows, lines], limit=5, timeout=1)
async def both(row: Row, line: str) -> str:
    return line * row.a


@flow.reduce(after=together)
def most(so_far: int, number: int) -> int:
    return max(so_far, number)


assert_type(together([Row(1)], ctx=Context()), int)
assert_type(most(so_far=1, number=2), int)


def longer(so_far: str, line: str) -> str:
    return max(so_far, line, key=len)


assert_type(flow.reduce(longer, after=lines), Stage[str])
flow.stage(of_once, name="incomplete", after="together.timeout")
stats = flow.aggregate(
    "stats",
    after=rows,
    of={"mean": Mean("a"), "n": Events(), "top": TopK(3, by=lambda row: row.a), "all": Own()},
    window=Session(60, grace=5),
    emit="update",
    close_on="wall-clock",
)
assert_type(stats, Stage[dict[str, Any]])


# ---- windows


def unite(older: list[int], younger: list[int]) -> None:
    older.extend(younger)


def told(held: list[int], window: Window) -> int:
    return window.end - window.start


@flow.stage(
    after=rows, state=list[int], window=Session(60, merge=unite), on_close=told, close_on="wall-clock"
)
def held(held: list[int], row: Row) -> int:
    held.append(row.a)
    return len(held)


assert_type(held([], Row(1)), int)
flow.stage(held, name="minutes", after=rows, state=list[int], window=Tumbling(60, grace=timedelta(minutes=1)))
flow.stage(held, name="hops", after=rows, state=list[int], window=Hopping(60, every=30), on_close=told)
flow.stage(held, name="slides", after=rows, state=list[int], window=Sliding(60), on_close=told)
flow.stage(held, name="tens", after=rows, state=list[int], window=Count(10), on_close=told)
flow.stage(of_once, name="missed", after="minutes.late")


# ---- joins and tables

people = flow.table("people", topic="people", type=Row, timestamp="a", idle_after=timedelta(seconds=5))
assert_type(people, Table[Row])
assert_type(flow.table("places", after=once), Table[Any])
assert_type(flow.table("typed_places", after=once, type=Row, key="a"), Table[Row])
countries = flow.global_table("countries", topic="countries", type=Row, key=lambda row: row.a)
assert_type(countries, Table[Row])


@flow.join(rows, once, how="outer", within=(1, timedelta(minutes=1)), grace=5, outputs=["odd"])
async def met(left: Row | None, right: Any, *, countries: Table[Row]) -> Row | None:
    assert_type(countries.get("no"), Row | None)
    return left


@flow.join(rows, people, how="left", on="a", as_of="latest", name="asked")
def person_of(row: Row, person: Row | None) -> int:
    return row.a


@flow.join(people, "places", on=lambda row: row.a, retry=Retry(2))
def place_of(person: Row, place: Row) -> Iterator[int]:
    yield person.a


flow.join(rows, people, copartitioned=True, name="again")(person_of)
assert_type(person_of(Row(1), None), int)
flow.stage(after=met, name="after_met")(of_once)
