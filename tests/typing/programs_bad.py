"""Programs that mypy --strict and pyright refuse: on each line marked `# E`, and on no other."""

from collections.abc import Iterator
from dataclasses import dataclass

from reflow_kafka import Event, Flow, State

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


flow.stage(number, after=rows, partitons=1)  # E no such option
flow.stage(number, after=rows, on_error="ignore")  # E no such choice
flow.stage(number)  # E needs after=
flow.source("more", topic="more", auto_offset_reset="first")  # E no such choice
flow.sink("out", topic="out")  # E needs after=
flow.describe("yaml")  # E no such format
Flow("typo", partition=3)  # E no such option
