"""Calls that define a stage of every kind, each with arguments that go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

import reflow_kafka.aggregations as of
import reflow_kafka.windows as in_windows
from reflow_kafka import Context, Flow, KeyValue, Rate, Retry, State, Timer, Window
from reflow_kafka.sketches import ApproxDistinct, Quantiles

Arguments = Mapping[str, st.SearchStrategy[Any]]


@dataclass(frozen=True)
class Call:
    """How something is defined, and what may be given for it."""

    define: Callable[..., object]
    """Called with the flow, and the arguments by name."""
    needed: Arguments
    more: Arguments = field(default_factory=dict)


# ---- what is given for functions


def number(value: dict[str, Any]) -> Any:
    return value["n"]


def pair(left: Any, right: Any) -> Any:
    return {"left": left, "right": right}


async def slow_pair(left: Any, right: Any) -> Any:
    return {"left": left, "right": right}


def greater(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return max(one, other, key=number)


def parts_of(parts: list[Any]) -> Any:
    return {"parts": parts}


def row_of(value: dict[str, Any], *, names: Any) -> Any:
    return {**value, "name": names.get(value["k"])}


def passing(value: Any) -> Any:
    return value


def collecting(seen: list[Any], value: dict[str, Any]) -> None:
    seen.append(value["n"])


def updating(seen: list[Any], value: dict[str, Any], ctx: Context) -> Any:
    seen.append(value["n"])
    return {"seen": len(seen), "window": ctx.window.start}


def merging(one: list[Any], other: list[Any]) -> list[Any]:
    return one + other


def closing(seen: list[Any], window: Window) -> Any:
    return {"seen": seen, "start": window.start, "k": window.key}


def reminding(count: State[int], value: dict[str, Any], ctx: Context) -> Any:
    count.value += 1
    ctx.timer("soon", clock="event-time", delay=1)
    ctx.timer("later", clock="wall-clock", delay=5)
    if value["n"] % 2:
        ctx.cancel_timer("soon")
    store = ctx.store("numbers")
    store.put(str(value["n"]), value["n"])
    return {"k": value["k"], "kept": [key for key, _ in store.range("1", prefix="")]}


def reminded(count: State[int], timer: Timer, ctx: Context) -> Any:
    if timer.name == "later":
        ctx.clear_state()
    return {"k": ctx.key, "timer": timer.name, "count": count.value}


def a_zero() -> int:
    return 0


# ---- what goes together

seconds = st.sampled_from([0.001, 1, 5, 3600, timedelta(seconds=2)])
fields = st.sampled_from(["k", "n", number])
grace, gap, size = 1, 2, 3
windows = [
    in_windows.Tumbling(size),
    in_windows.Tumbling(size, grace=grace),
    in_windows.Hopping(2 * gap, gap),
    in_windows.Hopping(size, gap, grace=grace),
    in_windows.Sliding(size, grace=grace),
    in_windows.Count(size),
]
ready_made = st.sampled_from([*windows, in_windows.Session(gap)])
own = st.sampled_from([*windows, in_windows.Session(gap, merge=merging)])
aggregations = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(
        [
            *(of.Count(), of.Count("n"), of.Sum("n"), of.Mean("n"), of.Min(number), of.Max("k")),
            *(of.First(), of.Last("n"), of.Earliest("n"), of.Latest(), of.Collect("n")),
            *(of.TopK(2, "n"), of.TopK(1, "k", by="n"), ApproxDistinct("k"), Quantiles("n", [0.5])),
        ]
    ),
    min_size=1,
)
running: Arguments = {
    "retry": st.sampled_from([Retry(1), Retry(2, backoff=0.01)]),
    "on_error": st.sampled_from(["dead-letter", "skip"]),
    "rate": st.just(Rate(10_000)),
    "partitions": st.integers(1, 2),
}
after: Arguments = {"after": st.sampled_from(["s", "t", ["s", "t"]])}
keyed: Arguments = {"key": fields}
clocks: Arguments = {"close_on": st.sampled_from(["event-time", "wall-clock"])}


def _join(flow: Flow, fn: Any, left: Any, right: Any, **options: Any) -> None:
    flow.join(left, right, **options)(fn)


def _fold(kind: str) -> Callable[..., object]:
    return lambda flow, fn, **options: getattr(flow, kind)(fn, **options)


def _named(kind: str) -> Callable[..., object]:
    return lambda flow, name, **options: getattr(flow, kind)(name, **options)


def _scheduled(flow: Flow, name: Any, then: Any, **options: Any) -> None:
    flow.stage(then, name="then", after=flow.source(name, **options))


def _looking_up(flow: Flow, fn: Any, topic: Any, name: Any, **options: Any) -> None:
    flow.global_table("names", topic=topic, **options)
    flow.stage(fn, name=name, after="s")


pairs = st.sampled_from([pair, slow_pair])
hows = st.sampled_from(["inner", "left", "outer"])
CALLS: dict[str, Call] = {
    "streams": Call(
        _join,
        {"fn": pairs, "left": st.just("s"), "right": st.just("t"),
         "within": seconds | st.sampled_from([(1, 2), (0, timedelta(1))])},
        {"how": hows, "grace": seconds, **running},
    ),
    "event_and_row": Call(
        _join,
        {"fn": pairs, "left": st.just("s"), "right": st.just("rows")},
        {"how": st.sampled_from(["inner", "left"]), "on": fields, "grace": seconds},
    ),
    "event_and_latest_row": Call(
        _join,
        {"fn": pairs, "left": st.just("s"), "right": st.just("rows"), "as_of": st.just("latest")},
        {"how": st.sampled_from(["inner", "left"]), "on": fields},
    ),
    "rows_with_rows": Call(
        _join,
        {"fn": pairs, "left": st.just("rows"), "right": st.just("others")},
        {"how": hows},
    ),
    "rows_and_what_they_refer_to": Call(
        _join,
        {"fn": pairs, "left": st.just("rows"), "right": st.just("others"), "on": fields},
        {"how": st.sampled_from(["inner", "left"])},
    ),
    "table": Call(
        _named("table"),
        {"after": st.sampled_from(["s", "t"])},
        {"key": fields, "type": st.just(dict), "partitions": st.integers(1, 2)},
    ),
    "table_of_topic": Call(
        _named("table"),
        {"topic": st.just("more-rows")},
        {"key": fields, "type": st.just(dict), "timestamp": st.just("at"), "idle_after": seconds},
    ),
    "global_table": Call(
        _looking_up,
        {"fn": st.just(row_of), "topic": st.just("names")},
        {"key": fields, "type": st.just(dict), "format": st.just("json")},
    ),
    "dedupe": Call(_named("dedupe"), {**after, "within": seconds}, {"by": fields, **keyed}),
    "every": Call(
        _scheduled,
        {"then": st.just(passing), "every": st.sampled_from([1, 60, timedelta(hours=1)])},
        {"missed": st.sampled_from(["all", "last", "skip"])},
    ),
    "cron": Call(
        _scheduled,
        {"then": st.just(passing), "cron": st.sampled_from(["* * * * *", "0 3 * * *", "*/5 * 1 * 1-5"])},
        {"missed": st.sampled_from(["all", "last"]), "timezone": st.sampled_from(["UTC", "Europe/Berlin"])},
    ),
    "window": Call(
        _fold("stage"),
        {"fn": st.sampled_from([collecting, updating]), **after, "state": st.just(list), "window": own},
        {"on_close": st.just(closing), **keyed, **running},
    ),
    "timers": Call(
        _fold("stage"),
        {"fn": st.just(reminding), **after, "state": st.just(a_zero), "on_timer": st.just(reminded),
         "stores": st.sampled_from([{"numbers": KeyValue(int)}, {"numbers": KeyValue(int, ttl=1)}])},
        {"ttl": seconds, **keyed, **running},
    ),
    "aggregate": Call(
        _named("aggregate"),
        {**after, "of": aggregations},
        {"window": ready_made, **keyed, **running},
    ),
    "updates": Call(
        _named("aggregate"),
        {**after, "of": aggregations, "window": ready_made, "emit": st.sampled_from(["update", "close"])},
        keyed,
    ),
    "reduce": Call(
        _fold("reduce"), {"fn": st.just(greater), **after}, {"window": ready_made, **keyed, **running}
    ),
    "gather": Call(
        _fold("gather"),
        {"fn": st.just(parts_of), **after, "key": fields, "within": seconds,
         "expect": st.sampled_from([1, 2, "parts", lambda part: part["parts"]])},
        {"id": fields, **clocks},
    ),
    "zip": Call(
        _fold("zip"),
        {"fn": pairs, "after": st.just(["s", "t"])},
        {"limit": st.integers(1, 5), **keyed},
    ),
}  # fmt: skip
"""All by the name that what they define begins with."""
