"""Ways of running a handler that cannot work, and what a person is told about them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from reflow_kafka import Batch, Context, DefinitionError, Event, Flow, Rate, Retry, State

from .cases import Cases, handle

CASES = Cases()


@dataclass
class Row:
    a: int


async def fetch(value: Any) -> Any:
    return value


def each(value: Any) -> Iterator[Any]:
    yield value


async def follow(value: Any) -> AsyncIterator[Any]:
    yield value


def rows_of(rows: list[Row]) -> list[int]:
    return [row.a for row in rows]


def one(row: Row) -> Row:
    return row


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return row


def count(seen: State[int], value: Any) -> None:
    seen.value += 1


def with_context(value: Any, ctx: Context) -> Any:
    return value


class Model:
    """Built once where it runs."""

    def __init__(self, size: int = 3) -> None:
        self.size = size

    def __call__(self, value: Any) -> Any:
        return value

    def method(self, value: Any) -> Any:
        return value

    @classmethod
    def of_the_class(cls, value: Any) -> Any:
        return value

    @staticmethod
    def of_nothing(value: Any) -> Any:
        return value


class Needy(Model):
    def __init__(self, pool: object) -> None:
        self.pool = pool


class Curious(Model):
    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx


def pool() -> object:
    return object()


def with_pool(value: Any, pool: object) -> Any:
    return value


def hidden(value: Any) -> Any:
    return value


HIDDEN = hidden
hidden = handle


# ---- in the loop


@CASES.refused("handle", "timeout= cannot stop a plain def", "async def", 'run_in="thread"')
def timeout_of_a_plain_handler(flow: Flow) -> None:
    flow.stage(handle, after="rows", timeout=1)


@CASES.refused("each", "timeout= cannot stop a plain def")
def timeout_of_a_generator(flow: Flow) -> None:
    flow.stage(each, after="rows", timeout=1)


@CASES.refused("handle", "concurrency= is of no use to a plain def in the loop", 'run_in="thread"')
def concurrency_of_a_plain_handler(flow: Flow) -> None:
    flow.stage(handle, after="rows", concurrency=2)


@CASES.refused("handle", "timeout= cannot stop")
def timeout_of_a_plain_sink(flow: Flow) -> None:
    flow.sink(handle, after="rows", timeout=1)


# ---- in threads and processes


@CASES.refused("fetch", 'run_in="thread" is for a plain def', "take run_in= out")
def coroutine_in_a_thread(flow: Flow) -> None:
    flow.stage(fetch, after="rows", run_in="thread")


@CASES.refused("follow", 'run_in="process" is for a plain def')
def async_generator_in_a_process(flow: Flow) -> None:
    flow.stage(follow, after="rows", run_in="process")


@CASES.refused("double", "imports the handler in other processes, but it is a lambda")
def lambda_in_a_process(flow: Flow) -> None:
    flow.stage(lambda value: 2 * value, name="double", after="rows", run_in="process")


@CASES.refused("nested", "defined inside a function", "function or class of a module", 'run_in="thread"')
def nested_function_in_a_process(flow: Flow) -> None:
    @flow.stage(after="rows", run_in="process")
    def nested(value: Any) -> Any: ...


@CASES.refused("nested", "defined inside a function")
def nested_class_in_a_process(flow: Flow) -> None:
    @flow.stage(after="rows", run_in="process")
    class Nested(Model): ...


@CASES.refused("model", "an object, which exists only here")
def instance_in_a_process(flow: Flow) -> None:
    flow.stage(Model(), name="model", after="rows", run_in="process")


@CASES.refused("method", "a method of an object")
def method_in_a_process(flow: Flow) -> None:
    flow.stage(Model().method, after="rows", run_in="process")


@CASES.refused("part", "a partial")
def partial_in_a_process(flow: Flow) -> None:
    flow.stage(functools.partial(handle), name="part", after="rows", run_in="process")


@CASES.refused("other", "not what its module calls hidden")
def function_whose_name_is_taken_in_a_process(flow: Flow) -> None:
    flow.stage(HIDDEN, name="other", after="rows", run_in="process")


@CASES.refused("with_pool", "resource 'pool' lives in the engine's process", "constructor or open()")
def resource_in_a_process(flow: Flow) -> None:
    flow.resource(pool)
    flow.stage(with_pool, after="rows", run_in="process")


@CASES.refused("needy", "resource 'pool' lives in the engine's process")
def resource_of_a_class_in_a_process(flow: Flow) -> None:
    flow.resource(pool)
    flow.stage(Needy, after="rows", run_in="process")


@CASES.refused("curious", "its constructor cannot take 'ctx'")
def context_of_a_class_in_a_process(flow: Flow) -> None:
    flow.stage(Curious, after="rows", run_in="process")


def test_what_other_processes_can_import() -> None:
    flow = Flow("test")
    flow.source("rows", topic="rows")
    targets: list[Any] = [handle, each, Model, with_context, Model.of_the_class, Model.of_nothing]
    for number, target in enumerate(targets):
        flow.stage(target, name=f"step_{number}", after="rows", run_in="process", concurrency=2, timeout=1)
    assert {stage.run_in for stage in flow.spec().stages if stage.kind == "stage"} == {"process"}


# ---- batches


@CASES.refused("one", "with batch= it is given a list", "list[Row], not Row")
def batch_of_a_handler_of_one(flow: Flow) -> None:
    flow.stage(one, after="rows", batch=Batch(10))


@CASES.refused("one_event", "list[Event[Row]], not Event[Row]")
def batch_of_a_handler_of_one_event(flow: Flow) -> None:
    @flow.stage(after="rows", batch=Batch(10))
    def one_event(event: Event[Row]) -> None: ...


@CASES.refused("put", "with batch= it is given a list")
def batch_of_a_sink_of_one(flow: Flow) -> None:
    @flow.sink(after="rows", batch=Batch(10))
    def put(row: Row) -> None: ...


@CASES.refused("rows_of", "it takes list[Row], but 'one' emits Row", "add batch=Batch(")
def list_without_a_batch(flow: Flow) -> None:
    flow.stage(one, after="rows")
    flow.stage(rows_of, after="one")


@CASES.refused("texts", "it takes str, but 'one' emits Row")
def batch_of_something_else(flow: Flow) -> None:
    flow.stage(one, after="rows")

    @flow.stage(after="one", batch=Batch(10))
    def texts(texts: list[str]) -> None: ...


@CASES.refused("after_it", "it takes str, but 'rows_of' emits int")
def what_a_batch_emits(flow: Flow) -> None:
    flow.stage(rows_of, after="rows", batch=Batch(10))

    @flow.stage(after="rows_of")
    def after_it(text: str) -> None: ...


@CASES.refused("sums", "each key has a state of its own", "batch=Batch(..., per_key=True)")
def batch_with_state(flow: Flow) -> None:
    @flow.stage(after="rows", batch=Batch(10), state=int)
    def sums(total: State[int], rows: list[Row]) -> None: ...


def test_batches_that_work() -> None:
    flow = Flow("test")
    flow.source("rows", topic="rows", type=Row)
    flow.source("lists", topic="lists", type=list[Row])

    @flow.stage(after="rows", batch=Batch(10, per_key=True), state=int)
    def sums(total: State[int], rows: Sequence[Event[Row]]) -> int: ...

    flow.stage(rows_of, after="rows", batch=Batch(10))
    flow.stage(rows_of, name="of_lists", after="lists")
    flow.stage(handle, after="rows_of", batch=Batch(10), run_in="thread", concurrency=3)

    @flow.stage(after="lists", batch=Batch(10))
    def lists_of_lists(lists: list[list[Row]]) -> Iterator[int]: ...

    assert len(flow.spec().stages) == 7


# ---- chains


@CASES.refused("handle", "'rows' is a source, which has no handler to run in", "take chain=True out")
def chain_after_a_source(flow: Flow) -> None:
    flow.stage(handle, after="rows", chain=True)


@CASES.refused("handle", "inside its one upstream, and it has several (keep, keep.big)")
def chain_after_several(flow: Flow) -> None:
    flow.stage(handle, after=["keep", "keep.big"], chain=True)


@CASES.refused("handle", "key= needs a topic in between")
def chain_across_a_key(flow: Flow) -> None:
    flow.stage(handle, after="keep", key="id", chain=True)


@CASES.refused("handle", "in the lanes of its upstream: take partitions= out")
def chain_with_partitions(flow: Flow) -> None:
    flow.stage(handle, after="keep", partitions=1, chain=True)


@CASES.refused("handle", "batch= belongs to the head of a chain", "give it to 'keep'")
def chain_with_a_batch(flow: Flow) -> None:
    flow.stage(handle, after="keep", chain=True, batch=Batch(10))


@CASES.refused("fetch", "concurrency= belongs to the head of a chain")
def chain_with_concurrency(flow: Flow) -> None:
    flow.stage(fetch, after="keep", chain=True, concurrency=10)


@CASES.refused("handle", 'run_in="thread" takes it out of the loop', "take chain=True out")
def chain_with_threads(flow: Flow) -> None:
    flow.stage(handle, after="keep", chain=True, run_in="thread")


@CASES.refused("handle", "rate= belongs to the head of a chain")
def chain_with_a_rate(flow: Flow) -> None:
    flow.stage(handle, after="keep", chain=True, rate=Rate(10))


@CASES.refused("out", "chain= cannot be combined with topic")
def chain_of_a_topic(flow: Any) -> None:
    flow.sink("out", after="keep", topic="out", chain=True)


@CASES.refused("plain", "hands values over as they are", "it takes dict[str, Any], but 'one' emits Row")
def chain_of_other_types(flow: Flow) -> None:
    flow.stage(one, after="rows")
    flow.stage(plain, after="one", chain=True)


@CASES.refused("one", "hands values over as they are")
def chain_from_a_dict(flow: Flow) -> None:
    flow.stage(plain, after="rows")
    flow.stage(one, after="plain", chain=True)


def test_chains_that_work() -> None:
    flow = Flow("test", retry=Retry(5))
    flow.source("rows", topic="rows", type=Row)
    flow.stage(one, after="rows", run_in="thread", outputs=["big"])
    flow.stage(one, name="two", after="one", chain=True, when=bool, key=None)
    flow.stage(fetch, after="two", chain=True, timeout=3, retry=Retry(2))
    flow.stage(count, after="one.big", chain=True, state=int, on_error="skip")
    flow.sink(fetch, name="put", after="fetch", chain=True)
    assert [stage.name for stage in flow.spec().stages if stage.chain] == ["two", "fetch", "count", "put"]


def test_a_chained_value_need_not_be_writable() -> None:
    """What is handed over in memory may be anything."""

    class Picture: ...

    def load(row: Row) -> Picture: ...
    def show(picture: Picture) -> None: ...

    flow = Flow("test")
    flow.source("rows", topic="rows", type=Row)
    flow.stage(load, after="rows")
    flow.stage(show, after="load", chain=True)
    assert flow.spec().stage("show").chain
    flow.stage(show, name="elsewhere", after="load")
    with pytest.raises(DefinitionError, match="cannot be written and read"):
        flow.spec()


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: str) -> None:
    CASES.check(case)
