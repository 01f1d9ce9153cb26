"""Programs that mypy --strict and pyright refuse: on each line marked `# E`, and on no other."""

from collections.abc import Iterator
from dataclasses import dataclass

from reflow_kafka import Batch, Count, Event, Flow, Hopping, KeyValue, Retry, State, Tumbling
from reflow_kafka.aggregations import Count as Events

flow = Flow("refused")


@dataclass
class Row:
    a: int


rows = flow.source("rows", topic="rows", type=Row)


@flow.stage(after=rows)
def number(row: Row) -> Event[int] | None:
    return Event(row.a)


@flow.stage(after=rows)
def numbers(row: Row) -> Iterator[int]:
    yield row.a


@flow.stage(after=rows)
async def later(row: Row) -> int:
    return row.a


@flow.stage(after=number)  # E the event holds an int
def wrong_value(text: str) -> None: ...


@flow.stage(after=numbers)  # E one item is an int
def wrong_item(text: str) -> None: ...


@flow.stage(after=later)  # E awaited, it is an int
def wrong_awaited(text: str) -> None: ...


@flow.stage(after=rows)  # E the source's type is Row
def wrong_source(text: str) -> None: ...


@flow.stage(after=rows)  # E also inside an event
def wrong_event(event: Event[str]) -> None: ...


@flow.stage(after=rows, state=int)  # E the state is an int
def wrong_state(s: State[str], row: Row) -> None: ...


@flow.stage(after=rows, state=dict)  # E the state comes first
def wrong_order(row: Row, seen: dict[str, int]) -> None: ...


@flow.stage(after=rows)  # E takes no value
def no_value() -> None: ...


@flow.stage(after=rows, batch=Batch(10))  # E the items are Rows
def wrong_batch(texts: list[str]) -> None: ...


@flow.stage(after=rows, batch=Batch(10))  # E also inside events
def wrong_batch_of_events(texts: list[Event[str]]) -> None: ...


@flow.stage(after=rows, batch=Batch(10))  # E a batch is a list
def no_batch(row: Row) -> None: ...


@flow.stage(after=rows)  # E without a batch there is no list
def no_list(rows: list[Row]) -> None: ...


@flow.stage(after=rows, batch=Batch(10), state=int)  # E the state comes first
def wrong_batch_order(rows: list[Row], n: State[int]) -> None: ...


@flow.stage(after=number, batch=Batch(10))
def squares(numbers: list[int]) -> Iterator[int]:
    yield from numbers


@flow.stage(after=squares)  # E one item is an int
def after_squares(text: str) -> None: ...


Retry(attempts="3")  # E a number
Retry(on=KeyboardInterrupt)  # E no Exception
Batch(10, within="1s")  # E seconds or a timedelta
flow.stage(number, after=rows, batch=10)  # E a Batch
flow.stage(number, after=rows, retry=3)  # E a Retry
flow.stage(number, after=rows, run_in="threads")  # E no such choice
flow.stage(number, after=rows, timeout="1s")  # E seconds or a timedelta
flow.stage(number, after=rows, partitons=1)  # E no such option
flow.stage(number, after=rows, on_error="ignore")  # E no such choice
flow.stage(number, after=rows, ttl="1h")  # E seconds or a timedelta
flow.stage(number, after=rows, stores=["seen"])  # E names with types
flow.stage(number, after=rows, on_timer="fires")  # E a function
flow.stage(number, after=rows, window=60)  # E a kind of window
flow.stage(number, after=rows, close_on="wall")  # E no such choice
flow.stage(number, after=rows, on_close="told")  # E a function
Tumbling("1m")  # E seconds or a timedelta
Hopping(60)  # E needs every=
KeyValue(int, ttl="1h")  # E seconds or a timedelta
flow.dedupe("once", after=rows)  # E needs within=
flow.dedupe("once", after=rows, within="1h")  # E seconds or a timedelta
flow.gather(after=rows, expect=2)  # E needs within=
flow.gather(after=rows, within=60)  # E needs expect=
flow.gather(after=rows, expect=2.5, within=60)  # E a number, a field or a function
flow.zip(after=rows)  # E two upstreams
flow.reduce(after=rows)(later)  # E two values
flow.join(rows)  # E two upstreams
flow.join(rows, number, how="full", within=1)  # E no such choice
flow.join(rows, number, within=1, as_of="now")  # E no such choice
flow.join(rows, number, within=1, batch=Batch())  # E no such option
flow.table("table", topic="table", after=rows)  # E one of both
flow.global_table("table", after=rows)  # E a topic
flow.aggregate("n", after=rows, of={"n": Count(5)})  # E an aggregation
flow.aggregate("n", after=rows, of={"n": Events()}, emit="closed")  # E no such choice
flow.aggregate("n", after=rows, of={"n": Events()}, state=dict)  # E no such option
flow.stage(number)  # E needs after=
flow.source("more", topic="more", auto_offset_reset="first")  # E no such choice
flow.source("tick", every="60")  # E seconds or a timedelta
flow.source("tick", every=60, missed="none")  # E no such choice
flow.sink("out", topic="out")  # E needs after=
flow.reply()  # E needs after=
flow.describe("yaml")  # E no such format
Flow("typo", partition=3)  # E no such option
