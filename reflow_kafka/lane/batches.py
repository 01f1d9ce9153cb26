"""Handlers that take a list of events: one call for a batch, results that belong to events of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reflow_kafka.context import Context
from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.lane.calls import collect, from_within, within
from reflow_kafka.lane.chain import Chain, Passage
from reflow_kafka.lane.compile import Failure, MissingKey
from reflow_kafka.lane.emitter import Emitter, Prepared
from reflow_kafka.lane.given import given
from reflow_kafka.lane.line import Item
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.state.cache import StateCache
from reflow_kafka.value import CLEARED, State


class BadItem(Exception):
    """One event of a batch cannot even be given to the handler; the others can."""

    def __init__(self, item: Item, error: Exception) -> None:
        super().__init__(str(error))
        self.item = item
        self.error = error


class WrongLength(ValueError):
    """A handler returned a list that does not match the list it was given."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How the events of one input are read."""

    decode: Callable[[bytes], Any]
    upstream: str
    timestamp: Callable[[Any], int] | None


@dataclass(slots=True)
class BatchCall:
    """Calls the handler of one stage with the events of a batch."""

    entries: Mapping[TopicPartition, Entry]
    emitter: Emitter
    handler: Callable[..., Any]
    shape: Shape
    takes_event: bool
    state_by: StateBy
    cache: StateCache | None
    by_name: Mapping[str, Any]
    timeout: float | None
    chain: Chain | None = None
    """What is chained to the stage."""
    elsewhere: Callable[..., Awaitable[Any]] | None = None
    """Awaited in the handler's place, which runs in a thread or process; generators give lists there."""
    returns_state: bool = False
    """What runs elsewhere works on a copy of the state, and gives it back."""

    async def __call__(self, items: Sequence[Item], attempt: int) -> Failure | Passage | None:
        """Handle these events; None, what is now in the chain, or how they failed and whether in it."""
        phase = 0
        try:
            values = [self._value(item) for item in items]
            times = [self._time(item, value) for item, value in zip(items, values, strict=True)]
            key, state = self._state(items)
            named = self._named(items[-1], times[-1], attempt)
            phase = 1
            results = await self._result(state, self._data(items, values, times), named)
            phase = 2
            if self.returns_state:
                results, state = self._returned(results, state, named)
            prepared = self._prepare(results, items, times)
            if self.chain is not None:
                return self._passage(self.chain, prepared, key, state, named)
            if self.cache is not None and key is not None:
                self._keep(key, state, named)
            for _, delivered in prepared:
                self.emitter.deliver(delivered)
        except Exception as error:
            return error, phase == 1
        except asyncio.CancelledError as error:
            return from_within(error), phase == 1
        return None

    # ---- what the handler is given

    def _value(self, item: Item) -> Any:
        raw = item.record.value
        try:
            return None if raw is None else self.entries[item.partition].decode(raw)
        except Exception as error:
            raise BadItem(item, error) from error

    def _time(self, item: Item, value: Any) -> int:
        timestamp = self.entries[item.partition].timestamp
        try:
            return item.record.timestamp if timestamp is None or value is None else timestamp(value)
        except Exception as error:
            raise BadItem(item, error) from error

    def _state(self, items: Sequence[Item]) -> tuple[bytes | None, Any]:
        if self.cache is None:
            return None, None
        key = items[0].record.key
        if key is None:
            raise BadItem(items[0], MissingKey())
        state = self.cache.objects.get(key)
        return key, self.cache.load(key) if state is None else state

    def _data(self, items: Sequence[Item], values: list[Any], times: Sequence[int]) -> list[Any]:
        if not self.takes_event:
            return values
        return [
            given(
                item.record,
                value,
                timestamp=time,
                origin=item.partition,
                upstream=self.entries[item.partition].upstream,
            )
            for item, value, time in zip(items, values, times, strict=True)
        ]

    def _named(self, last: Item, time: int, attempt: int) -> dict[str, Any]:
        """Arguments by name; a context stands where the last event of the batch does."""
        named = dict(self.by_name)
        for name, value in named.items():
            if isinstance(value, Context):
                named[name] = context = value.fresh()
                context.attempt = attempt
                context.upstream = self.entries[last.partition].upstream
                context._topic, context._offset = last.partition.topic, last.record.offset
                context.key_bytes, context.timestamp = last.record.key, time
                context._headers = last.record.headers
        return named

    # ---- what it gives back

    async def _result(self, state: Any, data: list[Any], named: Mapping[str, Any]) -> Any:
        arguments = (data,) if self.cache is None else (state, data)
        if self.elsewhere is not None:
            return await self._limited(self.elsewhere(*arguments, **named))
        result = self.handler(*arguments, **named)
        if self.shape is Shape.COROUTINE:
            return await self._limited(result)
        if self.shape is Shape.ASYNC_GENERATOR:
            return await self._limited(collect(result))
        return list(result) if self.shape is Shape.GENERATOR else result

    async def _limited(self, work: Awaitable[Any]) -> Any:
        return await work if self.timeout is None else await within(self.timeout, work)

    def _returned(self, results: Any, state: Any, named: Mapping[str, Any]) -> tuple[Any, Any]:
        results, changed, cleared = results
        if self.state_by is StateBy.BOX:
            state.value = CLEARED if cleared else changed.value
        else:
            state = changed
        for value in named.values():
            if isinstance(value, Context):
                value._cleared = cleared
        return results, state

    def _prepare(
        self, results: Any, items: Sequence[Item], times: Sequence[int]
    ) -> list[tuple[Item, Prepared]]:
        """Results in a list belong to the events in the same places, all others to the last event."""
        yields = self.shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)
        if yields or not isinstance(results, list):
            given = results if yields else (results,)
            return [(items[-1], self.emitter.prepare(given, items[-1].record, times[-1]))]
        if len(results) != len(items):
            raise WrongLength(
                f"the handler returned {len(results)} results for {len(items)} events; return one for each "
                "(None emits nothing), or yield any number"
            )
        return [
            (item, self.emitter.prepare((result,), item.record, time))
            for result, item, time in zip(results, items, times, strict=True)
        ]

    def _passage(
        self,
        chain: Chain,
        prepared: Sequence[tuple[Item, Prepared]],
        key: bytes | None,
        state: Any,
        named: Mapping[str, Any],
    ) -> Passage:
        passage = Passage()
        if self.cache is not None and key is not None:
            passage.change(self.cache, key, state, cleared=_cleared(state, named))
        for item, results in prepared:
            passage.take(results, item.record, item.partition)
        return passage

    def _keep(self, key: bytes, state: Any, named: Mapping[str, Any]) -> None:
        assert self.cache is not None
        if _cleared(state, named):
            self.cache.forget(key, careful=True)
            return
        self.cache.keep(key, state)
        self.cache.objects[key] = state


def _cleared(state: Any, named: Mapping[str, Any]) -> bool:
    if isinstance(state, State) and state.value is CLEARED:
        return True
    return any(isinstance(value, Context) and value._cleared for value in named.values())
