"""A handler is a plain function: `context` makes what it takes besides its data."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reflow_kafka import Context, State, Timer, UsageError
from reflow_kafka.testing import context

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
MS = 1_893_456_000_000


def visit(state: State[int], page: str, ctx: Context) -> str:
    state.value += 1
    seen = ctx.store("pages").get(page) or 0
    ctx.store("pages").put(page, seen + 1)
    ctx.timer("leaves", clock="event-time", delay=60)
    ctx.timer("soon", clock="wall-clock", delay=1)
    if page == "bye":
        ctx.cancel_timer("leaves")
        ctx.clear_state()
    return f"{ctx.key} {page} {seen} {ctx.headers}"


def test_a_handler_by_itself() -> None:
    state, ctx = State(1), context(key="ada", timestamp=5_000, now=NEW_YEAR, stores={"pages": {"home": 2}})
    assert visit(state, "home", ctx=ctx) == "ada home 2 {}"
    assert state.value == 2
    assert ctx.timers == [
        Timer("leaves", 65_000, "event-time"),
        Timer("soon", MS + 1_000, "wall-clock"),
    ]
    assert list(ctx.store("pages").range()) == [("home", 3)]
    assert not ctx.cleared
    visit(state, "bye", ctx=ctx)
    assert [timer.name for timer in ctx.timers] == ["soon"]
    assert ctx.cleared
    with pytest.raises(UsageError, match="stores="):
        ctx.store("others")


def test_everything_that_can_be_said() -> None:
    ctx = context(
        key=b"\xff", timestamp=NEW_YEAR, headers={"h": b"1"}, upstream="pages", attempt=2, lane=3, watermark=7
    )
    assert (ctx.key_bytes, ctx.upstream, ctx.attempt, ctx.lane) == (b"\xff", "pages", 2, 3)
    assert (ctx.timestamp, ctx.time, ctx.watermark) == (MS, NEW_YEAR, 7)
    assert ctx.headers == {"h": b"1"}
    assert (context().key, context().key_bytes) == ("", None)


def test_a_store_in_a_test_has_an_order() -> None:
    store = context(stores={"s": {"b": 2, "a": 1, "ab": 3, "c": 4}}).store("s")
    store.delete("c")
    assert list(store.range()) == [("a", 1), ("ab", 3), ("b", 2)]
    assert list(store.range("ab", "b")) == [("ab", 3)]
    assert list(store.range(prefix="a")) == [("a", 1), ("ab", 3)]
