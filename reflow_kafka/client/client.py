"""`Client`: events for a flow from other programs, and answers from it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from reflow_kafka import clock
from reflow_kafka.client.answer import Answers
from reflow_kafka.client.entry import Entry, check_source, entries
from reflow_kafka.client.replies import Replies
from reflow_kafka.client.sender import Sender
from reflow_kafka.client.waiting import Waiting
from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.errors import LogDoubt, UsageError
from reflow_kafka.event import INHERITED
from reflow_kafka.flow import Flow
from reflow_kafka.handle import Stage
from reflow_kafka.log.access import Access, open_access
from reflow_kafka.log.api import Headers, Log, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.security import Security
from reflow_kafka.topology.plan import Plan, external_topics
from reflow_kafka.topology.planner import make_plan
from reflow_kafka.topology.replies import CORRELATION_ID, REPLY_TO
from reflow_kafka.units import Duration, seconds

logger = logging.getLogger(__name__)

SEND_TIMEOUT: Final = 30.0
"""Seconds after which an event that was not acknowledged is in doubt."""
REFRESH: Final = 60.0
"""Seconds after which the partition counts of topics are looked up anew: a topic may grow."""


@dataclass(frozen=True, slots=True)
class _View:
    """What is known of the flow and its topics."""

    entries: dict[str, Entry]
    answers: Answers
    missing: frozenset[str]
    """Topics that do not exist yet."""
    until: float


class Client:
    """Sends events into a flow that runs elsewhere, and asks it: ``async with Client(flow) as client:``.

    Events go through a producer of the client's own, not through a lane's transaction: they are there for the
    flow whatever becomes of the client. A client belongs to one event loop and serves any number of tasks;
    events for one partition are written in the order of the calls.

    Args:
        flow: the flow; nothing of it is run here.
        bootstrap: ``host:port[,…]`` of Kafka; None = the embedded log in `data_dir`, through the worker that
            has it open, whenever one does.
        security: how connections to Kafka are encrypted and log in.
        data_dir: of the embedded log.
        log: a log that is open already, such as an engine's of the same process, instead.
    """

    def __init__(
        self,
        flow: Flow,
        bootstrap: str | None = None,
        *,
        security: Security | None = None,
        data_dir: str | Path = ".reflow",
        log: Log | None = None,
    ) -> None:
        if security is not None and bootstrap is None:
            raise UsageError(f"Client() found {security!r}, wanted bootstrap with it: it is for Kafka alone")
        self._flow = flow
        self._spec: FlowSpec = flow.spec()
        self._reply_topic = make_plan(self._spec).reply_topic
        self._bootstrap = bootstrap
        self._security = security
        self._data_dir = Path(data_dir)
        self._log = log
        self._stack = AsyncExitStack()
        self._access: Access | None = None
        self._sender: Sender | None = None
        self._replies: Replies | None = None
        self._waiting = Waiting()
        self._turns = itertools.count()
        self._turn = asyncio.Lock()
        self._queued = 0  # calls that wait for it, or have it
        self._working: asyncio.Task[None] | None = None
        self._view: _View | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnavailable: nobody answers at `bootstrap`, or not with this `security`.
        """
        access: Access | None = self._log
        if access is None:
            opening = open_access(self._bootstrap, self._data_dir, security=self._security, lasting=True)
            access = await self._stack.enter_async_context(opening)
        self._access, self._sender = access, Sender(access)
        if self._reply_topic is not None:
            self._replies = Replies(access, self._reply_topic, self._spec.partitions, self._waiting)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up; whoever still waits for an answer is told so."""
        sender, self._sender, self._access = self._sender, None, None
        self._closed = True
        self._waiting.fail(lambda: UsageError("the client was closed before the answer came"))
        try:
            if self._working is not None:
                self._working.cancel()
                await asyncio.wait([self._working])
            if self._replies is not None:
                await self._replies.close()
            if sender is not None:
                await sender.close()
        finally:
            await self._stack.aclose()

    async def send(self, source: str | Stage[Any], value: object, *, key: object = INHERITED) -> None:
        """Write an event into the topic of a source; it is durable when this returns.

        Args:
            source: name or handle of a source with ``topic=``.
            value: what the flow is to receive; None is a tombstone.
            key: the event's key, instead of what the source finds in the value.

        Raises:
            UsageError: there is no such source, or it does not take this value.
            LogDoubt: the log did not answer in time: the event may be written.
        """
        timer = asyncio.timeout(SEND_TIMEOUT)
        try:
            async with timer:
                entry = await self._entry(source)
                await self._write(entry, value, key, [])
        except TimeoutError:
            if not timer.expired():
                raise
            raise LogDoubt(
                f"{self._where(source)}: not acknowledged within {SEND_TIMEOUT:g} s; the event may be written"
            ) from None

    async def request(
        self, source: str | Stage[Any], value: object, *, key: object = INHERITED, timeout: Duration = 10
    ) -> Any:
        """Write an event, as `send` does, and wait for what the flow answers with (`Flow.reply`).

        The event is processed whether or not anybody still waits for the answer.

        Args:
            source, value, key: as for `send`.
            timeout: seconds for all of it.

        Returns:
            The value of the first answer, as its stage emitted it; None for a tombstone.

        Raises:
            RequestFailed: the event, or one that came of it, became a dead letter.
            TimeoutError: there was no answer in time.
            UsageError: the flow has no reply stage; or as for `send`.
            LogDoubt: as for `send`.
            LogError: answers cannot be read.
        """
        limit = seconds(timeout)
        timer = asyncio.timeout(limit)
        try:
            async with timer:
                return await self._ask(source, value, key)
        except TimeoutError:
            if not timer.expired():
                raise
            raise TimeoutError(f"{self._where(source)}: no answer within {limit:g} s") from None

    # ---- inside

    async def _ask(self, source: str | Stage[Any], value: object, key: object) -> Any:
        if self._sender is None:
            raise self._not_open()
        if self._replies is None:
            raise UsageError(
                f"flow {self._spec.name!r} answers nobody: give it flow.reply(after=…), or use send()"
            )
        entry = await self._entry(source, self._replies)
        with self._waiting.request() as (id, answer):
            headers: Headers = [(CORRELATION_ID, id), (REPLY_TO, self._replies.address)]
            written = self._write(entry, value, key, headers)
            try:
                # An answer is worth more than the acknowledgement of its question.
                await asyncio.wait((written, answer), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    await written
                record = await answer
            finally:
                written.cancel()
        assert self._view is not None
        return self._view.answers.read(record)

    def _write(self, entry: Entry, value: object, key: object, headers: Headers) -> asyncio.Future[None]:
        sender = self._sender
        if sender is None:
            raise self._not_open()
        record = entry.record(value, key, headers, clock.now())
        partition = entry.partition(record, next(self._turns))
        return sender.send(TopicPartition(entry.topic, partition), record)

    async def _entry(self, source: str | Stage[Any], replies: Replies | None = None) -> Entry:
        """What is needed to write to a source; if answers are awaited, they are read from now on.

        Calls come out of here in the order in which they went in, and write without a pause.
        """
        name = self._name(source)
        if self._queued or not self._is_ready(name, replies):
            self._queued += 1
            try:
                async with self._turn:
                    if not self._is_ready(name, replies):
                        await self._ending_with_me(self._get_ready(name, replies))
            finally:
                self._queued -= 1
        assert self._view is not None
        return self._view.entries[name]

    def _is_ready(self, name: str, replies: Replies | None) -> bool:
        view = self._view
        if view is None or name not in view.entries or view.entries[name].topic in view.missing:
            return False
        return clock.monotonic() < view.until and (replies is None or replies.running)

    def _name(self, source: str | Stage[Any]) -> str:
        if isinstance(source, Stage):
            if source.flow is not self._flow:
                raise UsageError(f"{source!r} is not of flow {self._spec.name!r}, which this client is for")
            return source.name
        return source

    def _where(self, source: str | Stage[Any]) -> str:
        return f"source {self._name(source)!r} of flow {self._spec.name!r}"

    async def _get_ready(self, name: str, replies: Replies | None) -> None:
        """Ask for the partition counts; the topic of this source is created if it does not exist."""
        check_source(self._spec, name)
        access = self._access
        if access is None:
            raise self._not_open()
        if not self._is_ready(name, None):
            plan, missing = await self._plan(access)
            topic = entries(plan)[name].topic
            if topic in missing:
                spec = TopicSpec(topic, self._spec.partitions, TopicKind.EXTERNAL)
                for warning in await access.ensure_topics([spec]):
                    logger.warning("%s", warning)
                plan, missing = await self._plan(access)
            self._view = _View(entries(plan), Answers(plan), missing - {topic}, clock.monotonic() + REFRESH)
        if replies is not None:
            await replies.start()

    async def _plan(self, access: Access) -> tuple[Plan, frozenset[str]]:
        counts = await access.partition_counts(external_topics(self._spec))
        return make_plan(self._spec, counts), frozenset(t for t, count in counts.items() if count is None)

    async def _ending_with_me(self, work: Coroutine[Any, Any, None]) -> None:
        """Await what may take long; closing the client ends it."""
        self._working = task = asyncio.create_task(work)
        try:
            await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and caller is not None and not caller.cancelling():
                raise self._not_open() from None
            raise

    def _not_open(self) -> UsageError:
        if self._closed:
            return UsageError("the client was closed before this was done")
        return UsageError("found a client that is not open, wanted: async with Client(flow, …) as client:")
