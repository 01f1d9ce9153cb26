"""What handlers and connectors may emit: each event comes out, or is a dead letter that tells why."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflow_kafka import Event, Flow, Retry
from reflow_kafka.connector import ConnectorContext
from tests.engine.memory import by_key, error_of, new_log, put, records, run
from tests.fuzz.effort import examples

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), 10**30, 10**400]),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.binary(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.builds(object),
)
names = st.text(st.characters(exclude_categories=()), max_size=5) | st.sampled_from(
    ["reflow.correlation-id", "reflow.reply-to", "reflow.error.stage", "reflow.error.traceback"]
)
headers = st.one_of(
    anything,
    st.dictionaries(names, st.binary(max_size=5) | st.none(), max_size=4),
    st.dictionaries(names, anything, max_size=3),
    st.dictionaries(st.integers(), st.binary(), min_size=1, max_size=2),
    st.lists(st.tuples(names, st.binary(max_size=5) | st.none()), max_size=4),
    st.lists(anything, max_size=2),
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "key": anything,
        "timestamp": anything,
        "headers": headers,
        "to": st.sampled_from(["error", "side", "nowhere"]) | anything,
    },
)
HUGE = 10**30


class Made:
    """A source of one event per argument list."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.at = 0

    async def parts(self) -> list[str]:
        return [""]

    async def open(self, part: str, position: Any, ctx: ConnectorContext) -> Made:
        self.at = position or 0
        return self

    async def read(self, max_events: int) -> list[Event[Any]] | None:
        found: list[Event[Any]] = []
        while self.at < len(self.events) and len(found) < max_events:
            options = {name: o for name, o in self.events[self.at].items() if name != "to"}
            self.at += 1
            try:
                found.append(Event({"n": self.at - 1}, **options))
            except (TypeError, ValueError, OverflowError):  # said to whoever writes it
                found.append(Event({"n": self.at - 1}))
        return found or None

    def position(self) -> int:
        return self.at

    async def committed(self, position: Any) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("overlapping", [False, True])
@examples(20)
@example(events=[{"timestamp": HUGE}, {"headers": {"a": "text"}}, {"headers": {"\ud800": b""}}])
@example(events=[{}, {"headers": [1]}, {"headers": {1: b""}}, {"key": object()}, {"to": []}])
@given(events=st.lists(arguments, min_size=1, max_size=8))
def test_what_a_handler_emits(overlapping: bool, events: list[dict[str, Any]]) -> None:
    """Three stages follow it, one after the other: none may have what the others have not."""
    flow = Flow("emitting", partitions=1, dead_letter_limit=1.0, retry=Retry(1))
    source = flow.source("read", topic="in")

    def emit(counts: dict[str, int], value: dict[str, int]) -> Any:
        counts["n"] = counts.get("n", 0) + 1
        return Event({"n": value["n"], "count": counts["n"]}, **events[value["n"]])

    async def emit_later(counts: dict[str, int], value: dict[str, int]) -> Any:
        await asyncio.sleep(0)
        return emit(counts, value)

    handler, options = (emit_later, {"concurrency": 4}) if overlapping else (emit, {})
    flow.stage(handler, name="emit", after=source, state=dict, outputs=["side"], **options)
    flow.sink("plain", after="emit", topic="plain")
    flow.sink("keyed", after="emit", topic="keyed", key="n")
    flow.sink("aside", after=["emit.side", "emit.error"], topic="aside")

    async def main() -> None:
        log = await new_log("in", "plain", "keyed", "aside", partitions=1)
        await put(log, "in", *((b"k", {"n": n}) for n in range(len(events))))
        await run(log, flow)
        plain, keyed, aside = [
            [orjson.loads(r.value or b"null") for r in await records(log, topic)]
            for topic in ("plain", "keyed", "aside")
        ]
        letters = await records(log, "emitting.dead-letters")
        assert plain == keyed
        done = [*plain, *aside]
        lost = [orjson.loads(r.value or b"null")["n"] for r in letters]
        assert sorted([each["n"] for each in done] + lost) == list(range(len(events)))
        # What failed left no trace in the state.
        counted = [each["count"] for each in sorted(done, key=lambda each: each["n"]) if "count" in each]
        assert counted == list(range(1, len(counted) + 1))
        for letter in letters:
            assert error_of(letter, "stage") == "emit"
            assert error_of(letter, "type")
            assert error_of(letter, "message")

    asyncio.run(main())


@examples(20)
@example(events=[{}, {"headers": 5}, {"timestamp": HUGE}, {"headers": {"a": 1}}])
@given(events=st.lists(arguments, min_size=1, max_size=8))
def test_what_a_connector_gives(events: list[dict[str, Any]]) -> None:
    flow = Flow("giving", partitions=1, dead_letter_limit=1.0)
    flow.sink("plain", after=flow.source("made", Made(events)), topic="plain")

    async def main() -> None:
        log = await new_log("plain", partitions=1)
        await run(log, flow)
        plain, letters = await records(log, "plain"), await records(log, "giving.dead-letters")
        found = [orjson.loads(r.value or b"null")["n"] for r in [*plain, *letters]]
        assert sorted(found) == list(range(len(events)))
        assert all(error_of(letter, "message") for letter in letters)

    asyncio.run(main())


@examples(40)
@example(times=[HUGE, 1e300, "soon", None, True])
@given(times=st.lists(anything.filter(lambda v: type(v) is not object), min_size=1, max_size=8))
def test_times_in_the_data(times: list[Any]) -> None:
    """Whatever stands where a source looks for the time of an event."""
    flow = Flow("times", partitions=1, dead_letter_limit=1.0, retry=Retry(1))

    @flow.stage(after=flow.source("read", topic="in", timestamp="t"))
    def keep(value: dict[str, Any]) -> dict[str, Any]:
        return value

    flow.sink("out", after=keep, topic="out")

    async def main() -> None:
        log = await new_log("in", "out", partitions=1)
        for n, time in enumerate(times):
            await put(log, "in", (b"k", _json({"n": n, "t": time})))
        await run(log, flow)
        out, letters = await by_key(log, "out"), await records(log, "times.dead-letters")
        assert len(out.get("k", [])) + len(letters) == len(times)
        for letter in letters:
            assert error_of(letter, "message")

    asyncio.run(main())


def _json(value: Any) -> bytes:
    """As a careless producer writes it: NaN, half surrogate pairs and numbers of any size."""
    import json

    return json.dumps(value, default=repr).encode("utf-8", "surrogatepass")
