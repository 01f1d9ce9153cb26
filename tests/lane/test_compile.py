"""Compiled stages against a plain interpreter, in every combination of what a stage can be."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from reflow_kafka import Context, Event, State
from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.lane.compile import Compilation, compile_stage
from reflow_kafka.lane.emitter import Emitter, Lead
from reflow_kafka.lane.outbox import Outbox
from reflow_kafka.log.local import LocalBuilder, LocalRecord
from reflow_kafka.serde.keys import key_getter
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.memory import MemoryBackend

EDGES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "none": (),
    "one": (("one", None),),
    "two": (("one", None), ("two", None)),
    "named": (("one", None), ("large", "big")),
}
Sent = tuple[str, bytes | None, bytes | None, int, tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    shape: Shape
    state: StateBy
    takes_event: bool
    ctx: bool
    when: bool
    key: bool
    edges: str
    careful: bool
    timestamp: bool
    single: bool


def record(offset: int, key: bytes | None, value: Any, *headers: tuple[str, bytes]) -> LocalRecord:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return LocalRecord(offset, 1_000 + offset, key, raw, list(headers))


RECORDS = [
    record(0, b"a", {"n": 1, "at": 5}),
    record(1, b"b", {"n": 2, "at": 6}, ("h", b"1")),
    record(2, b"a", {"n": 3, "at": 7}, ("h", b"1"), ("h", b"2")),
    record(3, None, {"n": 4, "at": 8}),
    record(4, b"f1", {"n": 5, "at": 9, "do": "fail"}),
    record(5, b"a", {"n": 6, "at": 10, "do": "none"}),
    record(6, b"f2", b"{garbage"),
    record(7, b"b", None),
    record(8, b"a", {"n": 9, "at": 11, "do": "event"}, ("h", b"3")),
    record(9, b"b", {"n": 10, "at": 12, "do": "big"}),
    record(10, b"f3", {"n": 11, "at": 13, "do": "undeclared"}),
    record(11, b"f4", {"n": 12, "at": 14, "do": "oversized"}),
    record(12, b"f5", {"n": 13, "at": 15, "do": "unencodable"}),
    record(13, b"a", {"n": 14, "at": 16, "do": "clear"}),
    record(14, b"a", {"n": 15, "at": 17}),
    record(15, b"f6", {"n": 16, "do": "no time"}),
    record(16, b"b", {"n": 17, "at": 18}),
]


def results(seen: list[int], value: Any, facts: dict[str, Any]) -> tuple[list[Any], bool]:
    """What the handler of a case does, whatever its shape: its results, and whether it clears its state."""
    n, do = (0, "") if value is None else (value["n"], value.get("do", ""))
    seen.append(n)
    if do == "fail":
        raise RuntimeError("the handler fails")
    out = {"n": n, "seen": [*seen], **facts}
    special: dict[str, Any] = {
        "none": None,
        "event": Event(out, key="other", timestamp=77, headers={"own": b"1"}),
        "big": Event(out, to="big"),
        "undeclared": Event(out, to="nowhere"),
        "oversized": {**out, "text": "x" * 1_000_001},
        "unencodable": {**out, "bad": object()},
    }
    return [special.get(do, out), {"n": -n}], do == "clear"


def handler(case: Case) -> Callable[..., Any]:
    """The same handler in the shape of the case."""

    def work(*data: Any, ctx: Context | None = None) -> list[Any]:
        given = data[-1]
        facts: dict[str, Any] = {}
        if isinstance(given, Event):
            facts["event"] = [given.key, given.timestamp, sorted(given.headers), given.id, given.upstream]
        if ctx is not None:
            facts["ctx"] = [ctx.key, ctx.timestamp, sorted(ctx.headers), ctx.id, ctx.upstream]
        value = given.value if isinstance(given, Event) else given
        state = data[0] if len(data) > 1 else None
        seen = list(state.value) if isinstance(state, State) else [] if state is None else state
        try:
            found, clear = results(seen, value, facts)
        finally:
            if isinstance(state, State):
                state.value = tuple(seen)
        if clear and isinstance(state, State) and ctx is None:
            state.clear()
        elif clear and ctx is not None:
            ctx.clear_state()
        return found

    def plain(*data: Any, **named: Any) -> Any:
        return work(*data, **named)[0]

    async def coroutine(*data: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        return work(*data, **named)[0]

    def generator(*data: Any, **named: Any) -> Iterator[Any]:
        yield from work(*data, **named)

    async def async_generator(*data: Any, **named: Any) -> AsyncIterator[Any]:
        for result in work(*data, **named):
            await asyncio.sleep(0)
            yield result

    return {
        Shape.PLAIN: plain,
        Shape.COROUTINE: coroutine,
        Shape.GENERATOR: generator,
        Shape.ASYNC_GENERATOR: async_generator,
    }[case.shape]


@dataclass
class Outcome:
    sent: list[Sent] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    state: dict[bytes, list[int]] = field(default_factory=dict)


def interpret(case: Case) -> Outcome:
    """What a stage does, written down as plainly as possible."""
    outcome = Outcome()
    stateful = case.state is not StateBy.NONE
    for r in RECORDS:
        try:
            assert not stateful or r.key is not None, "MissingKey"
            value = None if r.value is None else orjson.loads(r.value)
            ts = value["at"] if case.timestamp and value is not None else r.timestamp
            seen = list(outcome.state.get(r.key or b"", [])) if stateful else []
            about = [(r.key or b"").decode(), ts, sorted(dict(r.headers)), f"in/3/{r.offset}", "up"]
            facts = {"event": about} if case.takes_event else {}
            facts |= {"ctx": about} if case.ctx else {}
            found, clear = results(seen, value, facts)
            if case.shape in (Shape.PLAIN, Shape.COROUTINE):
                found = found[:1]
            sent = [sent for result in found for sent in send(case, result, r, ts)]
        except Exception as error:
            outcome.failed.append(
                (r.offset, str(error) if str(error) == "MissingKey" else type(error).__name__)
            )
            continue
        outcome.sent += sent
        if stateful:
            outcome.state[r.key or b""] = seen
            if clear and (case.ctx or case.state is StateBy.BOX):
                del outcome.state[r.key or b""]
    return outcome


def send(case: Case, result: Any, r: LocalRecord, ts: int) -> Iterator[Sent]:
    if result is None:
        return
    own = isinstance(result, Event) and result.key == "other"
    value, to = (result.value, result.to) if isinstance(result, Event) else (result, None)
    assert to in (None, "big"), "undeclared"
    for topic, output in EDGES[case.edges]:
        if output != to or (case.when and value["n"] % 2 == 0):
            continue
        data = orjson.dumps(value)
        key = str(value["n"] % 3).encode() if case.key else b"other" if own else r.key
        assert len(data) <= 1_000_000, "oversized"
        yield topic, key, data, 77 if own else ts, (("own", b"1"),) if own else tuple(r.headers)


@dataclass
class Stage:
    """A compiled stage with everything it needs."""

    case: Case

    def __post_init__(self) -> None:
        case = self.case
        self.outbox = Outbox(LocalBuilder)
        self.leads = [
            Lead(
                output,
                topic,
                (lambda value: value["n"] % 2) if case.when else None,
                key_getter(lambda value: value["n"] % 3) if case.key else None,
                orjson.dumps,
                self.outbox.channel(topic, 1),
            )
            for topic, output in EDGES[case.edges]
        ]
        boxed = case.state is StateBy.BOX
        stores = MemoryBackend().open("f", 0, ["s"])
        self.cache = StateCache(
            "s",
            stores,
            encode=orjson.dumps,
            decode=orjson.loads,
            factory=tuple if boxed else list,
            boxed=boxed,
        )
        self.failed: list[tuple[int, str]] = []
        self.finished: list[int] = []

    def compiled(self) -> Callable[[Sequence[Any]], Any]:
        case = self.case
        return compile_stage(
            Compilation(
                name="s",
                topic="in",
                upstream="up",
                lane=3,
                decode=orjson.loads,
                emitter=Emitter(self.leads, ["big", "error"]),
                leads=self.leads,
                failed=self.fail,
                handler=handler(case),
                shape=case.shape,
                takes_event=case.takes_event,
                state_by=case.state,
                cache=None if case.state is StateBy.NONE else self.cache,
                careful=case.careful,
                by_name={"ctx": Context("f", "s", 3)} if case.ctx else {},
                timestamp=(lambda value: value["at"]) if case.timestamp else None,
                finished=self.finished.append,
                single=case.single,
            )
        )

    def fail(self, r: Any, error: Exception, in_handler: bool) -> bool:
        assert not in_handler or type(error).__name__ not in DETERMINISTIC
        self.failed.append((r.offset, type(error).__name__))
        assert r.key is None or self.cache.undo(r.key), "the key is dirty: this stage would go back"
        return False

    def run(self) -> Outcome:
        if self.case.single:
            asyncio.run(self._one_by_one())
        elif inspect.isawaitable(found := self.compiled()(RECORDS)):
            asyncio.run(_wait(found))
            assert self.finished == [r.offset for r in RECORDS]
        sent = [
            (tp.topic, r.key, r.value, r.timestamp, tuple(r.headers))
            for tp, builders in self.outbox.take().items()
            for builder in builders
            for r in builder.records()  # type: ignore[attr-defined]
        ]
        state = {key: orjson.loads(raw) for key, raw in self.cache.snapshot().items() if raw is not None}
        return Outcome(sent, self.failed, state)

    async def _one_by_one(self) -> None:
        run = self.compiled()
        for r in RECORDS:
            if (failure := await run(r, 1)) is not None:
                self.fail(r, *failure)


async def _wait(found: Any) -> None:
    await found


DETERMINISTIC = {"MissingKey", "UndeclaredOutput", "OversizedOutput", "JSONDecodeError"}
PLAINLY = {"AssertionError", "MissingKey", "UndeclaredOutput", "OversizedOutput"}
"""What the interpreter does not tell apart."""


def same(error: tuple[int, str]) -> tuple[int, str]:
    return error[0], "refused" if error[1] in PLAINLY else error[1]


@pytest.mark.parametrize("state", StateBy)
@pytest.mark.parametrize("shape", Shape)
def test_it_does_what_an_interpreter_would(shape: Shape, state: StateBy) -> None:
    careful = (True,) if shape.suspends else (False, True)
    yes_no = (False, True)
    for options in itertools.product(yes_no, yes_no, yes_no, yes_no, EDGES, careful, yes_no, yes_no):
        case = Case(shape, state, *options)
        if case.single and not case.careful:
            continue
        found, wanted = Stage(case).run(), interpret(case)
        assert sorted(found.sent, key=repr) == sorted(wanted.sent, key=repr), case
        for topic in ("one", "two", "large"):
            ours = [sent for sent in found.sent if sent[0] == topic]
            assert ours == [sent for sent in wanted.sent if sent[0] == topic], (topic, case)
        assert [same(error) for error in found.failed] == [same(error) for error in wanted.failed], case
        assert found.state == wanted.state, case
