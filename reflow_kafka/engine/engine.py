"""The engine: one process that runs lanes of one or several flows."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reflow_kafka import clock
from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.engine.address import Address
from reflow_kafka.engine.preparation import prepare
from reflow_kafka.engine.pulse import Pulse
from reflow_kafka.engine.queries import Lookup, Queries, Query
from reflow_kafka.engine.runner import Runner
from reflow_kafka.engine.statistics import Statistics
from reflow_kafka.engine.storage import open_log, open_state
from reflow_kafka.engine.tables import global_table
from reflow_kafka.errors import BrokerUnavailable, LogDoubt, ReflowError, UsageError
from reflow_kafka.flow import Flow
from reflow_kafka.lane.calm import Calm
from reflow_kafka.lane.env import Guarantee, LaneEnv
from reflow_kafka.lane.finish import FiniteRun
from reflow_kafka.lane.pace import Lateness, Load
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.lane.resources import open_resources
from reflow_kafka.log.api import MAX_STANDBYS, Log, MemberOptions, Membership, TopicPartition
from reflow_kafka.process import refuse_engine
from reflow_kafka.security import Security
from reflow_kafka.serde.keys import encode_key
from reflow_kafka.state.store import StateBackend
from reflow_kafka.units import Duration, seconds

logger = logging.getLogger(__name__)

PROCESS_PATIENCE = 2.0
"""Seconds in which processes of ``run_in="process"`` have to end."""


class Engine:
    """Runs flows: ``async with Engine(flow) as engine: await engine.wait()``.

    Args:
        flows: what to run; importing and building them opened nothing.
        bootstrap: ``host:port[,…]`` of Kafka; None = the embedded log in `data_dir`.
        security: how every connection to Kafka is encrypted and logs in.
        data_dir: local state, and the embedded log.
        guarantee: ``"exactly-once"``, or ``"at-least-once"`` for lower latency of each hop.
        commit_interval: seconds after which results are committed at the latest, unless the CPU is busy;
            0: at once, whatever it costs.
        shutdown_timeout: seconds a graceful stop may take.
        instance: static identity in the group, for an engine that a supervisor restarts.
        started: epoch ms at which this version of the flows was started (default: now).
        standbys: copies of each lane's state to be kept by other engines, so that one of them can take over
            at once; needs `bootstrap`. The largest number that an engine of the group asks for counts.
        drop_edges: topics of a former shape of a flow whose unread events may be forgotten.
        http: ``HOST:PORT`` or ``PORT`` at which queries about state are answered over HTTP, to other engines,
            too; needs aiohttp. There is no log-in: who can reach it can read.
        http_advertise: ``HOST:PORT`` at which other engines reach it, if that is another.
        resources: ready-made resources by name, instead of the flows' own.
        log: a log of your own, instead of one chosen by `bootstrap`; it is started but not stopped.
        state: where to keep local state instead of RocksDB in `data_dir`.
    """

    def __init__(
        self,
        *flows: Flow,
        bootstrap: str | None = None,
        security: Security | None = None,
        data_dir: str | Path = ".reflow",
        guarantee: Guarantee = "exactly-once",
        commit_interval: float = 0.1,
        shutdown_timeout: float = 25,
        instance: str | None = None,
        started: int | None = None,
        standbys: int = 0,
        drop_edges: Collection[str] = (),
        http: str | None = None,
        http_advertise: str | None = None,
        resources: Mapping[str, Any] | None = None,
        log: Log | None = None,
        state: StateBackend | None = None,
    ) -> None:
        if security is not None and bootstrap is None:
            raise UsageError(f"Engine() found {security!r}, wanted bootstrap with it: it is for Kafka alone")
        if not 0 <= standbys <= MAX_STANDBYS:
            raise UsageError(f"Engine() found standbys={standbys}, wanted 0 to {MAX_STANDBYS}")
        if standbys and bootstrap is None and log is None:
            raise UsageError(
                f"Engine() found standbys={standbys}, wanted bootstrap with it: copies are kept by other "
                "engines, and the embedded log is open in one process only"
            )
        self._specs = _specs(flows)
        self._bootstrap = bootstrap
        self._security = security
        self._data_dir = Path(data_dir)
        self._guarantee: Guarantee = guarantee
        self._commit_interval = commit_interval
        self._shutdown_timeout = shutdown_timeout
        self._instance = instance
        self._started = started if started is not None else clock.now()
        self._standbys = standbys
        self._drop_edges = frozenset(drop_edges)
        self._http = None if http is None else Address.read(http, "http")
        self._advertise = None if http_advertise is None else Address.read(http_advertise, "http_advertise")
        if self._advertise is not None and self._http is None:
            raise UsageError(f"Engine() found http_advertise={http_advertise!r}, wanted http= with it")
        self._given = resources
        self._log = log
        self._state = state
        self._load = Load()
        self._lateness = Lateness()
        self._calm = Calm()
        self._processes = Processes()
        self._runners: list[Runner] = []
        self._queries = Queries(self._runners)
        self._answers_at = ""
        self._memberships: list[Membership] = []
        self._stack = AsyncExitStack()
        self._main: asyncio.Task[None] | None = None

    # ---- life

    async def __aenter__(self) -> Self:
        """Connect, verify topics, join the groups; lanes start to run.

        Raises:
            BrokerUnavailable: nobody answers at `bootstrap`, not with this `security`, or not for all topics.
            TopologyMismatch: topics or state do not fit a flow.
            UsageError: this is a process that an engine runs handlers in.
        """
        refuse_engine()
        try:
            await self._start()
        except BaseException as error:
            await self._stack.aclose()
            if isinstance(error, LogDoubt):  # nothing was begun yet of which anything could be in doubt
                raise BrokerUnavailable(f"the flow cannot start: {error}") from error
            raise
        self._main = asyncio.create_task(self._run(), name="engine")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gracefully: finish what is in progress, commit, leave the groups."""
        try:
            self.stop()
            if self._main is not None:
                done, _ = await asyncio.wait([self._main], timeout=self._shutdown_timeout)
                if not done:
                    logger.error("no clean stop within %g s: dropped what was open", self._shutdown_timeout)
                    self.abort()
                outcome = (await asyncio.gather(self._main, return_exceptions=True))[0]
                if isinstance(outcome, Exception) and kind is None:
                    raise outcome
        finally:
            await self._stack.aclose()

    async def wait(self, *, until_end: bool = False) -> None:
        """Return when the engine has stopped, or with `until_end` when the run has ended.

        Raises:
            ReflowError: what stopped a flow.
        """
        if self._main is None:
            raise UsageError("wait() found an engine that is not started, wanted: async with Engine(…)")
        if until_end:
            for runner in self._runners:
                runner.env.finite.wanted.set()
        await asyncio.shield(self._main)

    def stop(self) -> None:
        """Ask for a graceful stop; `wait` returns when it is done."""
        for runner in self._runners:
            runner.stop()

    def abort(self) -> None:
        """End at once: what is not committed is dropped, to be done again after the next start."""
        if self._main is not None:
            self._main.cancel()

    def caught_up(self, end: Callable[[TopicPartition], int], *, before: float = math.inf) -> bool:
        """Whether everything in the flows' topics is finished and committed.

        Args:
            end: where a partition ends now.
            before: what waits for another try is left out if that is not made by then (`clock.monotonic`).
        """
        return all(runner.caught_up(end, before) for runner in self._runners)

    def expect(self, timestamp: int) -> None:
        """No events older than this (epoch ms) come any more, from no source that is read here."""
        for runner in self._runners:
            runner.expect(timestamp)

    def statistics(self) -> Statistics:
        """What there is to tell at this moment."""
        return Statistics({runner.name: runner.statistics() for runner in self._runners})

    # ---- queries

    @property
    def http(self) -> str:
        """Address at which queries are answered, as it is told to other engines; empty if they are not."""
        return self._answers_at

    async def query(
        self,
        stage: str,
        key: object,
        *,
        store: str | None = None,
        flow: str | None = None,
        timeout: Duration = 10,
    ) -> Any:
        """The state of a key as it was committed last, whichever engine has it; None if there is none.

        Of a stage with windows these are the states of those that are open, by `Window`.

        Args:
            stage: name of a stage with state.
            key: as text, bytes, or anything else that a key can be.
            store: name of a store of the stage (`stores=`): the value of the key there, instead of a state.
            flow: which one, if several flows of this engine have such a stage.
            timeout: for how long to wait while nobody can answer, because the lane of the key moves.

        Raises:
            StateUnavailable: it took longer.
            UsageError: there is no such stage.
        """
        return (await self.lookup(stage, key, store=store, flow=flow, timeout=timeout)).value

    async def lookup(
        self,
        stage: str,
        key: object,
        *,
        store: str | None = None,
        flow: str | None = None,
        timeout: Duration = 10,
    ) -> Lookup:
        """What `query` gives, and as of when: the lane that has answered, and where it stood."""
        if self._main is None or self._main.done():
            raise UsageError("found an engine that does not run, wanted: async with Engine(…)")
        raw = encode_key(key)
        if raw is None:
            raise UsageError(f"found no key to ask stage {stage!r} for: without key there is no state")
        return await self._queries.lookup(Query(stage, raw, store, flow), seconds(timeout))

    # ---- inside

    async def _start(self) -> None:
        self._stack.push_async_callback(self._processes.close, PROCESS_PATIENCE)
        await self._open_http()
        log = await self._open_log()
        backend = open_state(self._data_dir, self._stack) if self._state is None else self._state
        for spec in self._specs:
            plan = await prepare(spec, log, drop_edges=self._drop_edges)
            given = {**await self._load_tables(spec, log), **(self._given or {})}
            shared = [name for name, resource in spec.resources.items() if resource.per == "engine"]
            resources = await open_resources(spec.resources, shared, self._stack, given)
            options = MemberOptions(
                flow=spec.name,
                lanes=plan.lanes,
                plan=plan.hash,
                started=self._started,
                instance=self._instance,
                standbys=self._standbys if any(node.changelog for node in plan.all_nodes) else 0,
                kept=backend.kept(spec.name),
            )
            membership = log.membership(options)
            self._stack.push_async_callback(membership.stop)
            await membership.start()
            self._memberships.append(membership)
            env = LaneEnv(
                plan=plan,
                log=log,
                backend=backend,
                membership=membership,
                finite=FiniteRun(plan, lambda membership=membership: membership.run),  # type: ignore[misc]
                load=self._load,
                lateness=self._lateness,
                calm=self._calm,
                processes=self._processes,
                resources=resources,
                lanes=lambda: sum(runner.lanes for runner in self._runners),
                guarantee=self._guarantee,
                commit_interval=self._commit_interval,
                http=self._answers_at,
            )
            self._runners.append(Runner(env))

    async def _load_tables(self, spec: FlowSpec, log: Log) -> dict[str, Any]:
        """The global tables that nobody has given, complete."""
        wanted = {name: table for name, table in spec.tables.items() if name not in (self._given or {})}
        return {
            name: await self._stack.enter_async_context(global_table(name, table, log))
            for name, table in wanted.items()
        }

    async def _open_log(self) -> Log:
        if self._log is None:
            return await open_log(self._bootstrap, self._security, self._data_dir, self._stack)
        await self._log.start()
        return self._log

    async def _open_http(self) -> None:
        if self._http is None:
            return
        from reflow_kafka.engine.http import HttpOthers, HttpServer

        self._queries.others = others = HttpOthers()
        self._stack.push_async_callback(others.close)
        server = HttpServer(self._http, self._advertise, self._queries)
        self._stack.push_async_callback(server.stop)
        self._answers_at = await server.start()

    async def _run(self) -> None:
        """Run all flows; the first that fails for good stops the others gracefully."""
        async with Pulse(self._runners, self._memberships, self._load, self._lateness):
            tasks = [asyncio.create_task(runner.run()) for runner in self._runners]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                self.stop()
                await asyncio.wait(tasks, timeout=self._shutdown_timeout)
            finally:
                for task in tasks:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failures:
            raise next((error for error in failures if isinstance(error, ReflowError)), failures[0])


def _specs(flows: Sequence[Flow]) -> list[FlowSpec]:
    """The flows as data: one or more, each with a name of its own."""
    if not flows:
        raise UsageError("Engine() found no flow, wanted one or more: Engine(flow)")
    names = sorted(flow.name for flow in flows)
    if len(set(names)) < len(names):
        raise UsageError(f"found flows of the same name ({', '.join(names)}), wanted distinct ones")
    return [flow.spec() for flow in flows]
