"""A handler is a plain function: `context` makes what it takes besides its data."""

from __future__ import annotations

from datetime import UTC, datetime

from reflow_kafka import Context, State
from reflow_kafka.testing import context

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def visit(state: State[int], page: str, ctx: Context) -> str:
    state.value += 1
    return f"{ctx.key} {page} {state.value} {ctx.attempt} {ctx.headers}"


def test_a_handler_by_itself() -> None:
    state = State(1)
    assert visit(state, "home", ctx=context(key="ada", headers={"h": b"1"})) == "ada home 2 1 {'h': b'1'}"
    assert state.value == 2


def test_everything_that_can_be_said() -> None:
    ctx = context(key=b"\xff", timestamp=NEW_YEAR, upstream="pages", attempt=2, lane=3)
    assert (ctx.key_bytes, ctx.upstream, ctx.attempt, ctx.lane) == (b"\xff", "pages", 2, 3)
    assert (ctx.timestamp, ctx.time) == (1_893_456_000_000, NEW_YEAR)
    assert (context().key, context().key_bytes) == ("", None)
