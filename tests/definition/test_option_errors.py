"""Options, sources and sinks that cannot work, and what a person is told about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from reflow_kafka import ConnectorContext, Flow, Reader, Retry, Writer

from .cases import Cases, handle

CASES = Cases()


class Nowhere:
    """A source connector that is only configured, never opened."""

    async def parts(self) -> Sequence[str]:
        return [""]

    async def open(self, part: str, position: Any, ctx: ConnectorContext) -> Reader:
        raise NotImplementedError


class NowhereTo:
    """A sink connector that is only configured, never opened."""

    async def open(self, ctx: ConnectorContext) -> Writer:
        raise NotImplementedError


# ---- options


@CASES.refused("handle", "unknown option 'partitons'; did you mean 'partitions'?")
def unknown_option(flow: Any) -> None:
    flow.stage(handle, after="rows", partitons=3)


@CASES.refused("handle", "unknown option 'partitons'; did you mean 'partitions'?")
def unknown_option_of_a_decorator(flow: Any) -> None:
    @flow.stage(after="rows", partitons=3)
    def handle(value: Any) -> Any: ...


@CASES.refused("more", "unknown option 'topics'; did you mean 'topic'?")
def unknown_option_of_a_source(flow: Any) -> None:
    flow.source("more", topics="more")


@CASES.refused("out", "unknown option 'qqq'; there is 'after', 'batch', 'chain'")
def unknown_option_like_none(flow: Any) -> None:
    flow.sink("out", after="rows", topic="out", qqq=1)


@CASES.refused("handle", "whole number from 1 to 100,000, not 0")
def no_partitions(flow: Flow) -> None:
    flow.stage(handle, after="rows", partitions=0)


@CASES.refused("handle", "whole number from 1 to 100,000, not True")
def partitions_true(flow: Flow) -> None:
    flow.stage(handle, after="rows", partitions=True)


@CASES.refused("handle", "unknown on_error='ignore'; there is 'dead-letter', 'skip', 'stop'")
def unknown_on_error(flow: Any) -> None:
    flow.stage(handle, after="rows", on_error="ignore")


@CASES.refused("handle", "unknown on_error='dead_letter'; did you mean 'dead-letter'?")
def misspelt_on_error(flow: Any) -> None:
    flow.stage(handle, after="rows", on_error="dead_letter")


@CASES.refused("handle", "plain function (error, event); it does not take 2 arguments")
def on_error_of_one_argument(flow: Any) -> None:
    flow.stage(handle, after="rows", on_error=handle)


@CASES.refused("handle", "retry= is a Retry, such as retry=Retry(attempts=5), not 5")
def retry_as_a_number(flow: Any) -> None:
    flow.stage(handle, after="rows", retry=5)


@CASES.refused("handle", "batch= is a Batch", "not 100")
def batch_as_a_number(flow: Any) -> None:
    flow.stage(handle, after="rows", batch=100)


@CASES.refused("handle", "rate= is a Rate", "not 100")
def rate_as_a_number(flow: Any) -> None:
    flow.stage(handle, after="rows", rate=100)


@CASES.refused("handle", "concurrency=", "whole number from 1 on, not 0")
def no_concurrency(flow: Flow) -> None:
    flow.stage(handle, after="rows", concurrency=0)


@CASES.refused("handle", "timeout=", "longer than nothing, not 0")
def no_time(flow: Flow) -> None:
    flow.stage(handle, after="rows", timeout=0)


@CASES.refused("handle", "timeout=", "not '5s'")
def timeout_as_text(flow: Any) -> None:
    flow.stage(handle, after="rows", timeout="5s")


@CASES.refused("handle", "unknown run_in='threads'; did you mean 'thread'?")
def unknown_run_in(flow: Any) -> None:
    flow.stage(handle, after="rows", run_in="threads")


@CASES.refused("handle", "chain= is True or False, not 'keep'")
def chain_as_text(flow: Any) -> None:
    flow.stage(handle, after="rows", chain="keep")


@CASES.refused("out", "retry= cannot be combined with topic", "no meaning")
def retry_of_a_topic(flow: Any) -> None:
    flow.sink("out", after="rows", topic="out", retry=Retry(5))


@CASES.refused("out", "concurrency= cannot be combined with a connector", "no meaning")
def concurrency_of_a_connector(flow: Any) -> None:
    flow.sink("out", NowhereTo(), after="rows", concurrency=5)


@CASES.refused("more", "unknown option 'retry'")
def retry_of_a_source(flow: Any) -> None:
    flow.source("more", topic="more", retry=Retry(5))


@CASES.refused("handle", "a list of names, such as outputs=[\"big\"], not 'big'")
def outputs_as_text(flow: Flow) -> None:
    flow.stage(handle, after="rows", outputs="big")


@CASES.refused("handle", "output 'error' exists without being declared")
def reserved_output(flow: Flow) -> None:
    flow.stage(handle, after="rows", outputs=["error"])


@CASES.refused("handle", "an output's name is lower-case letters", "'a.b'")
def bad_output(flow: Flow) -> None:
    flow.stage(handle, after="rows", outputs=["a.b"])


@CASES.refused("handle", "output 'big' is declared twice")
def output_twice(flow: Flow) -> None:
    flow.stage(handle, after="rows", outputs=["big", "big"])


async def async_key(value: Any) -> str:
    return "k"


@CASES.refused("handle", "key= must be a field's name or a plain function of the value; it is async")
def key_async(flow: Flow) -> None:
    flow.stage(handle, after="rows", key=async_key)


@CASES.refused("more", "key= must be", "it is a generator")
def key_generator(flow: Flow) -> None:
    def key(value: Any) -> Iterator[str]:
        yield "k"

    flow.source("more", topic="more", key=key)


@CASES.refused("out", "key= must be", "it is empty")
def key_empty(flow: Flow) -> None:
    flow.sink("out", after="rows", topic="out", key="")


@CASES.refused("handle", "key= must be", "it is 3")
def key_number(flow: Any) -> None:
    flow.stage(handle, after="rows", key=3)


@CASES.refused("handle", "key= must be", "it does not take 1 argument")
def key_of_no_value(flow: Any) -> None:
    flow.stage(handle, after="rows", key=lambda: "k")


@CASES.refused("more", "timestamp= must be a field's name or a plain function of the value; it is async")
def timestamp_async(flow: Flow) -> None:
    flow.source("more", topic="more", timestamp=async_key)


@CASES.refused("more", "out_of_orderness= is a time in seconds or a timedelta, from 0 to 100 years, not -1")
def out_of_orderness_negative(flow: Flow) -> None:
    flow.source("more", topic="more", out_of_orderness=-1)


@CASES.refused("more", "idle_after= is a time in seconds or a timedelta, from 0 to 100 years, not 'soon'")
def idle_after_text(flow: Any) -> None:
    flow.source("more", topic="more", idle_after="soon")


@CASES.refused("more", "idle_after= is a time", "not inf")
def idle_after_never(flow: Flow) -> None:
    flow.source("more", topic="more", idle_after=float("inf"))


@CASES.refused(
    "handle", "when= must be a plain function of the value that returns true or false; it is async"
)
def when_async(flow: Flow) -> None:
    flow.stage(handle, after="rows", when=async_key)


@CASES.refused("out", "when= must be a plain function", "it is 'a'")
def when_text(flow: Any) -> None:
    flow.sink("out", after="rows", topic="out", when="a")


# ---- sources and sinks


@CASES.refused(
    "more",
    "needs one of topic=, a connector, a generator, every=, cron=, and has nothing",
    'flow.source("more", topic=...)',
)
def source_of_nothing(flow: Flow) -> None:
    flow.source("more")


@CASES.refused("more", "has topic= and a connector")
def source_of_both(flow: Flow) -> None:
    flow.source("more", Nowhere(), topic="more")


@CASES.refused(
    "out", "needs one of topic=, a connector, a function, and has nothing", 'flow.sink("out", topic=...)'
)
def sink_into_nothing(flow: Flow) -> None:
    flow.sink("out", after="rows")


@CASES.refused("out", "has topic= and a connector")
def sink_into_both(flow: Any) -> None:
    flow.sink("out", Nowhere(), after="rows", topic="out")


@CASES.refused("out", "is no sink connector: it lacks the methods of reflow_kafka.Sink")
def sink_into_no_connector(flow: Any) -> None:
    flow.sink("out", object(), after="rows")


@CASES.refused("more", "give a configured connector, Nowhere(...), not the class")
def connector_class(flow: Any) -> None:
    flow.source("more", Nowhere)


@CASES.refused(None, "the first argument is a name or a function, not")
def connector_without_name(flow: Any) -> None:
    flow.source(Nowhere())


@CASES.refused("more", "'a b' is no name of a Kafka topic")
def bad_topic(flow: Flow) -> None:
    flow.source("more", topic=["a", "a b"])


@CASES.refused("more", "'' is no name of a Kafka topic")
def no_topics(flow: Flow) -> None:
    flow.source("more", topic=[])


@CASES.refused("more", "names topic 'a' twice")
def topic_twice(flow: Flow) -> None:
    flow.source("more", topic=["a", "a"])


@CASES.refused("out", "topic= is a topic's name or a function of the value, not ['a', 'b']")
def sink_into_topics(flow: Any) -> None:
    flow.sink("out", after="rows", topic=["a", "b"])


@CASES.refused("more", "state= cannot be combined with topic: it has no meaning there")
def state_on_a_topic(flow: Any) -> None:
    flow.source("more", topic="more", state=list)


@CASES.refused("more", "state= cannot be combined with a connector")
def state_on_a_connector(flow: Any) -> None:
    flow.source("more", Nowhere(), state=list)


@CASES.refused("more", "format= cannot be combined with a connector")
def format_of_a_connector(flow: Flow) -> None:
    flow.source("more", Nowhere(), format="str")


@CASES.refused("ticks", "type= cannot be combined with a generator: the annotation of its result says it")
def type_of_a_generator(flow: Any) -> None:
    @flow.source(type=int)
    def ticks() -> Iterator[int]: ...


@CASES.refused("out", "partitions= cannot be combined with topic")
def partitions_of_a_topic(flow: Flow) -> None:
    flow.sink("out", after="rows", topic="out", partitions=3)


@CASES.refused("more", "unknown auto_offset_reset='last'; did you mean 'latest'?")
def unknown_reset(flow: Any) -> None:
    flow.source("more", topic="more", auto_offset_reset="last")


@CASES.refused("more", "its values cannot be read or written", "'xml'")
def unknown_format(flow: Flow) -> None:
    flow.source("more", topic="more", format="xml")


@CASES.refused("more", "its values cannot be read or written", "Flow")
def type_that_is_no_data(flow: Flow) -> None:
    flow.source("more", topic="more", type=Flow)


@CASES.refused("ticks", "a source is a generator function: it yields its events")
def source_that_returns(flow: Flow) -> None:
    @flow.source()
    def ticks() -> list[int]:
        return [1]


# ---- schedules


@CASES.refused("tick", "needs one of", "has every= and cron=")
def two_schedules(flow: Any) -> None:
    flow.source("tick", every=60, cron="* * * * *")


@CASES.refused("tick", "needs one of", "has topic= and every=")
def schedule_and_topic(flow: Any) -> None:
    flow.source("tick", every=60, topic="more")


@CASES.refused("tick", "every=", "from a millisecond to a hundred years, not 0")
def period_of_nothing(flow: Flow) -> None:
    flow.source("tick", every=0)


@CASES.refused("tick", "every=", "from a millisecond to a hundred years, not '60'")
def period_as_text(flow: Any) -> None:
    flow.source("tick", every="60")


@CASES.refused("tick", "every=", "from a millisecond to a hundred years, not 1e+300")
def period_beyond_all_times(flow: Flow) -> None:
    flow.source("tick", every=1e300)


@CASES.refused("tick", "cron='123 * * * *' is no cron expression, such as", "Bad minute")
def cron_that_is_none(flow: Flow) -> None:
    flow.source("tick", cron="123 * * * *")


@CASES.refused("tick", "cron= is a cron expression, such as", "not 5")
def cron_as_a_number(flow: Any) -> None:
    flow.source("tick", cron=5)


@CASES.refused("tick", "cron='* * */20 * 1L' never fires")
def cron_of_no_day(flow: Flow) -> None:
    flow.source("tick", cron="* * */20 * 1L")


@CASES.refused("tick", "found no time zone 'Europe/Berlln', wanted one such as")
def unknown_zone(flow: Flow) -> None:
    flow.source("tick", cron="0 3 * * *", timezone="Europe/Berlln")


@CASES.refused("tick", "timezone= is the name of a time zone", "not 1")
def zone_as_a_number(flow: Any) -> None:
    flow.source("tick", cron="0 3 * * *", timezone=1)


@CASES.refused("tick", "counted from 1970-01-01 00:00 UTC", "write cron=")
def zone_of_a_period(flow: Flow) -> None:
    flow.source("tick", every=60, timezone="Europe/Berlin")


@CASES.refused("tick", "unknown missed='lasst'; did you mean 'last'?")
def unknown_policy(flow: Any) -> None:
    flow.source("tick", every=60, missed="lasst")


@CASES.refused("more", "missed= cannot be combined with topic")
def policy_of_a_topic(flow: Any) -> None:
    flow.source("more", topic="more", missed="all")


@CASES.refused("tick", "timestamp= cannot be combined with every", "no meaning there")
def timestamp_of_a_schedule(flow: Any) -> None:
    flow.source("tick", every=60, timestamp="scheduled")


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: str) -> None:
    CASES.check(case)
