"""Membership on a real broker: hand-over, loss, zombies, stalls. Times are those of one machine's clock.

Run as a program this file is an engine in a process of its own: it tells on its output what it wants to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from operator import gt
from typing import Any

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from reflow_kafka.errors import BrokerUnavailable, NotPermitted, ReflowError
from reflow_kafka.log.api import MemberOptions
from reflow_kafka.log.kafka import member as member_module
from reflow_kafka.log.kafka import membership as membership_module
from reflow_kafka.log.kafka.membership import KafkaMembership
from reflow_kafka.log.kafka.private_group import PrivateGroup, self_test
from tests.support.waiting import until

LANES = 8
SESSION = 6.0  # the least that a broker allows by default
JOIN_GROUP = 11

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90), pytest.mark.alone]


def new_member(bootstrap: str, flow: str, **changes: Any) -> KafkaMembership:
    names = ("plan", "started", "instance")
    about = {"plan": "p", "started": 1, **{name: changes.pop(name) for name in names if name in changes}}
    options = MemberOptions(flow, LANES, **about)
    return KafkaMembership(bootstrap, options, **{"session_timeout": SESSION, **changes})


class Engine:
    """Runs what its membership wants; a lane takes `drain` seconds to stop."""

    def __init__(self, membership: KafkaMembership, drain: float = 0.2) -> None:
        self.membership = membership
        self.drain = drain
        self.running: set[int] = set()
        self.opened: dict[int, float] = {}
        self.released: dict[int, float] = {}
        self.stopped: set[int] = set()  # every lane that it ever had to stop
        self.error: ReflowError | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.membership.start()
        self._spawn(self._follow())
        self._spawn(self._beat())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.membership.stop()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        while True:
            self.membership.alive()
            # Between two changes nothing may be missing even for a moment.
            for lane in self.running - self.membership.wanted() - self.stopped:
                self.stopped.add(lane)
            await asyncio.sleep(0.005)

    async def _follow(self) -> None:
        stopping: set[int] = set()
        while True:
            wanted = self.membership.wanted()
            for lane in wanted - self.running:
                self.running.add(lane)
                self.opened[lane] = time.monotonic()
            for lane in self.running - wanted - stopping:
                stopping.add(lane)
                self.stopped.add(lane)
                self._spawn(self._close(lane, stopping))
            try:
                await self.membership.changed()
            except ReflowError as error:
                self.error = error
                return

    async def _close(self, lane: int, stopping: set[int]) -> None:
        await asyncio.sleep(self.drain)
        self.running.discard(lane)
        stopping.discard(lane)
        self.released[lane] = time.monotonic()
        self.membership.released(lane)


@pytest.fixture
async def flow(kafka_bootstrap: str, unique: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"{unique}.progress", LANES, 1)])
    finally:
        await admin.close()
    return unique


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {each for each in set(threading.enumerate()) - before if each.name.startswith("member of")}
    assert left == set()


@asynccontextmanager
async def engine(bootstrap: str, flow: str, drain: float = 0.2, **changes: Any) -> AsyncIterator[Engine]:
    each = Engine(new_member(bootstrap, flow, **changes), drain)
    try:
        await each.start()
        yield each
    finally:
        await each.stop()


def divided(*engines: Engine) -> bool:
    lanes = sorted(lane for each in engines for lane in each.running)
    counts = [len(each.running) for each in engines]
    wanted = all(each.running == each.membership.wanted() for each in engines)
    return wanted and lanes == list(range(LANES)) and max(counts) - min(counts) <= 1


def gaps(givers: list[Engine], taker: Engine) -> list[float]:
    """For how long each lane that `taker` runs had no owner."""
    return [
        taker.opened[lane] - max(each.released[lane] for each in givers if lane in each.released)
        for lane in taker.running
        if any(lane in each.released for each in givers)
    ]


async def test_lanes_are_handed_over_one_by_one_and_the_others_stay(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one:
        assert one.membership.wanted() == frozenset(range(LANES))
        assert time.monotonic() - one.membership.proof() < 2
        async with engine(kafka_bootstrap, flow) as two:
            assert two.membership.run == one.membership.run != ""
            await until(lambda: divided(one, two), "two share")
            assert len(one.stopped) == 4
            first = gaps([one], two)
            async with engine(kafka_bootstrap, flow) as three:
                await until(lambda: divided(one, two, three), "three share")
                assert len(one.stopped) + len(two.stopped) == 6  # 4 + the 2 that the third has: no more
                second = gaps([one, two], three)
                kept = set(one.running), set(two.running)
            left = time.monotonic()
            await until(lambda: divided(one, two), "two share again")
            assert kept[0] <= one.running
            assert kept[1] <= two.running
            back = time.monotonic() - left
    print(f"without owner: {max(first):.2f} s, {max(second):.2f} s; after a leave {back:.2f} s")
    assert len(first) == 4
    assert len(second) == 2
    assert max(first + second) < 1.5
    assert back < 2.5


async def test_a_quiet_group_does_not_rebalance(kafka_bootstrap: str, flow: str) -> None:
    from tests.log.kafka.proxy import Proxy

    async with (
        Proxy(kafka_bootstrap) as proxy,
        engine(proxy.bootstrap, flow) as one,
        engine(proxy.bootstrap, flow) as two,
    ):
        await until(lambda: divided(one, two), "two share")
        # Each twice at first (the broker gives an id), then again after the release.
        assert proxy.seen[JOIN_GROUP] <= 8
        before = proxy.seen[JOIN_GROUP]
        await asyncio.sleep(3)
        assert proxy.seen[JOIN_GROUP] == before
        assert proxy.seen[1] == 0  # no fetch
        assert proxy.seen[9] == 0  # no offset is looked up


async def test_lanes_released_at_different_times_move_as_they_come(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one:
        one.drain = math.inf
        async with engine(kafka_bootstrap, flow) as two:
            await until(lambda: len(one.membership.wanted()) == 4, "it is asked for four lanes")
            await asyncio.sleep(1)
            assert two.running == set()
            slow, *quick = sorted(one.running - one.membership.wanted())
            for lane in quick:
                one.running.discard(lane)
                one.membership.released(lane)
            await until(lambda: two.running == set(quick), "what was released has moved", within=2.5)
            one.running.discard(slow)
            one.membership.released(slow)
            await until(lambda: divided(one, two), "the last has moved", within=2.5)


@pytest.mark.slow
async def test_a_long_rebalance_stops_nothing(kafka_bootstrap: str, flow: str) -> None:
    wait = SESSION + 5
    async with (
        engine(kafka_bootstrap, flow, rebalance_timeout=wait) as one,
        engine(kafka_bootstrap, flow, rebalance_timeout=wait) as slow,
    ):
        await until(lambda: divided(one, slow), "two share")
        kept = set(one.running)
        one.stopped.clear()
        # It sends heartbeats, but does not come when the others do; only when it has been thrown out.
        group = slow.membership._member._group
        assert group is not None
        coordinator, come = group._coordinator, group._coordinator.request_rejoin

        def come_when_thrown_out() -> None:
            if coordinator.generation <= 0:
                coordinator.request_rejoin = come
                come()

        coordinator.request_rejoin = come_when_thrown_out
        began = time.monotonic()
        third = Engine(new_member(kafka_bootstrap, flow, rebalance_timeout=wait))
        joining = asyncio.create_task(third.start())
        try:
            while time.monotonic() < began + wait - 1:
                assert time.monotonic() - one.membership.proof() < 2.5
                assert one.membership.wanted() == kept
                assert not joining.done()
                await asyncio.sleep(0.05)
            assert one.stopped == set()
            await joining
            await until(lambda: divided(one, slow, third), "three share")
        finally:
            joining.cancel()
            await third.stop()


async def test_a_member_that_is_stuck_begins_anew(
    kafka_bootstrap: str, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_module, "_STUCK", 1.0)
    async with engine(kafka_bootstrap, flow) as one:
        group = one.membership._member._group
        assert group is not None
        monkeypatch.setattr(group._coordinator, "request_rejoin", lambda: None)
        one.membership._member._heard("heartbeat", time.monotonic(), 25)
        assert one.membership.wanted() == frozenset()
        await until(lambda: divided(one), "the lanes are back")


async def test_what_is_never_released_is_taken_away(
    kafka_bootstrap: str, flow: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(member_module, "_RELEASE_TIMEOUT", 1.0)
    async with engine(kafka_bootstrap, flow, drain=math.inf), engine(kafka_bootstrap, flow) as two:
        await until(lambda: len(two.running) == 4, "the lanes were given up", within=5)
    assert "not released within 1 s" in caplog.text


async def test_lanes_go_to_the_newest_plan(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one, engine(kafka_bootstrap, flow) as two:
        await until(lambda: divided(one, two), "two share")
        async with engine(kafka_bootstrap, flow, plan="q", started=2) as new:
            await until(lambda: divided(new) and not one.running | two.running, "the new plan has all")
            assert max(gaps([one, two], new)) < 1.5
            assert one.error is None
            assert two.error is None
        await until(lambda: divided(one, two), "the old plan has them back")


async def test_the_end_of_a_run(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as late:
        async with engine(kafka_bootstrap, flow) as one, engine(kafka_bootstrap, flow) as two:
            await late.stop()
            await until(lambda: divided(one, two), "two share")
            run = one.membership.run
            one.membership.end_run()
            await until(lambda: not one.running | two.running, "all is released")
            late = Engine(new_member(kafka_bootstrap, flow))
            await late.start()
            await asyncio.sleep(1.5)
            assert not one.running | two.running | late.running
            assert late.membership.run == ""
        await until(lambda: divided(late), "a new run begins")
        assert late.membership.run not in ("", run)
        await late.stop()


async def test_a_main_loop_that_stands_still_costs_the_membership(kafka_bootstrap: str, flow: str) -> None:
    def a_handler_that_blocks(seconds: float) -> None:
        time.sleep(seconds)

    async with engine(kafka_bootstrap, flow, max_stall=1.0) as one, engine(kafka_bootstrap, flow) as two:
        await until(lambda: divided(one, two), "two share")
        two.membership.alive = lambda: None  # type: ignore[method-assign]
        a_handler_that_blocks(2.0)
        await until(lambda: one.error is not None, "the stall is told", within=1)
        assert 'run_in="thread"' in str(one.error)
        assert "a_handler_that_blocks" in str(one.error)
        assert one.membership.wanted() == frozenset()
        assert one.membership.proof() == -math.inf
        await until(lambda: divided(two), "the other has all")


@pytest.mark.slow
async def test_a_blocked_main_loop_alone_does_not_cost_it(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one:
        time.sleep(SESSION + 2)  # noqa: ASYNC251 - that is what is tested
        assert len(one.membership.wanted()) == LANES
        assert time.monotonic() - one.membership.proof() < 2
        assert one.stopped == set()


async def test_a_broker_that_is_away_for_a_moment(kafka_bootstrap: str, flow: str) -> None:
    from tests.log.kafka.proxy import Proxy

    async with Proxy(kafka_bootstrap) as proxy, engine(proxy.bootstrap, flow) as one:
        await proxy.cut()
        await asyncio.sleep(2.5)
        assert time.monotonic() - one.membership.proof() > 2
        assert len(one.membership.wanted()) == LANES
        await proxy.heal()
        await until(lambda: time.monotonic() - one.membership.proof() < 1, "heartbeats", within=5)
        assert one.stopped == set()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["cut", "freeze"])
async def test_a_broker_that_is_away_for_long(kafka_bootstrap: str, flow: str, way: str) -> None:
    from tests.log.kafka.proxy import Proxy

    async with Proxy(kafka_bootstrap) as proxy, engine(proxy.bootstrap, flow) as one:
        await until(lambda: divided(one), "it has all")
        if way == "cut":
            await proxy.cut()
        else:
            await proxy.freeze()
        away = time.monotonic()
        await until(lambda: not one.running, "the lanes are no longer run", within=SESSION + 2)
        assert time.monotonic() - away < SESSION + 1
        assert one.membership.proof() == -math.inf
        await asyncio.sleep(SESSION)  # the broker's patience is over, too
        await proxy.heal()
        back = time.monotonic()
        await until(lambda: divided(one), "the lanes are back", within=SESSION + 8)
        print(f"back after {time.monotonic() - back:.1f} s")
        assert one.error is None


async def test_nobody_answers(flow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership_module, "_START_TIMEOUT", 1.5)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9 could not be joined within 1.5 s"):
        await new_member("127.0.0.1:9", flow).start()


async def test_consumers_of_another_kind_in_the_group(kafka_bootstrap: str, flow: str) -> None:
    async with aiokafka.AIOKafkaConsumer(
        f"{flow}.progress", bootstrap_servers=kafka_bootstrap, group_id=flow
    ):
        with pytest.raises(ReflowError, match="in use by consumers of another kind"):
            await new_member(kafka_bootstrap, flow).start()


async def test_a_session_time_out_that_the_broker_refuses(kafka_bootstrap: str, flow: str) -> None:
    with pytest.raises(ReflowError, match="refuses a session time-out of 1 s"):
        await new_member(kafka_bootstrap, flow, session_timeout=1).start()


async def test_what_is_not_permitted_is_told(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one:
        one.membership._member._heard("heartbeat", time.monotonic(), 30)
        await until(lambda: isinstance(one.error, NotPermitted), "it is told")
        assert one.membership.wanted() == frozenset()


async def test_every_follower_is_told_of_every_change(kafka_bootstrap: str, flow: str) -> None:
    membership = new_member(kafka_bootstrap, flow)
    await membership.start()
    told = [0, 0]

    async def follow(number: int) -> None:
        while True:
            await membership.changed()
            told[number] += 1

    others = [asyncio.create_task(follow(number)) for number in range(2)]
    try:
        await asyncio.sleep(0.1)
        assert max(told) <= 1, "what the start has led to may be told a little later, once"
        before = list(told)
        async with engine(kafka_bootstrap, flow):
            await until(lambda: all(map(gt, told, before)), "both are told that another has come", within=5)
            async with asyncio.timeout(3):
                await membership.changed()  # to who asks for the first time it is told all the same
    finally:
        for each in others:
            each.cancel()
        await membership.stop()


async def test_a_static_member_that_stops_leaves_at_once(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow, instance="b") as other:
        async with engine(kafka_bootstrap, flow, instance="a") as one:
            await until(lambda: divided(one, other), "two share")
        began = time.monotonic()
        await until(lambda: divided(other), "the one that stays has all")
        assert time.monotonic() - began < SESSION


async def test_a_static_member_that_crashed_and_returns_finds_its_lanes(
    kafka_bootstrap: str, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_: object) -> None:
        """A process that dies says nothing to the group."""

    monkeypatch.setattr(PrivateGroup, "_leave", crash)
    async with engine(kafka_bootstrap, flow, instance="b") as other:
        async with engine(kafka_bootstrap, flow, instance="a") as one:
            await until(lambda: divided(one, other), "two share")
            lanes = set(one.running)
            other.stopped.clear()
        for plan in ("p", "q"):
            # With a new plan the broker at first repeats what it gave to the process before.
            began = time.monotonic()
            async with engine(kafka_bootstrap, flow, instance="a", plan=plan, started=2) as one:
                if plan == "p":
                    await until(lambda: one.running == lanes, "the same lanes")
                    assert other.stopped == set()
                else:
                    await until(lambda: divided(one), "the new plan has all")
            print(f"static return with plan {plan}: {time.monotonic() - began:.2f} s")
            assert time.monotonic() - began < SESSION


async def test_two_processes_with_one_instance_id(kafka_bootstrap: str, flow: str) -> None:
    async with (
        engine(kafka_bootstrap, flow, instance="twin") as one,
        engine(kafka_bootstrap, flow, instance="twin") as two,
    ):
        await until(lambda: one.error is not None, "the first is told", within=5)
        assert "another process has joined" in str(one.error)
        await until(lambda: divided(two), "the second has all")
        assert two.error is None


def test_the_client_is_built_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    self_test()
    monkeypatch.setattr(aiokafka, "__version__", "0.15.0")
    with pytest.raises(ReflowError, match=r"0\.15\.0 is installed"):
        self_test()


# --- processes


class Process:
    """An engine in a process of its own, and what it told: time and lanes wanted, oldest first."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[tuple[float, frozenset[int]]] = []
        self._reading = asyncio.create_task(self._read())

    @property
    def wanted(self) -> frozenset[int]:
        return self.told[-1][1] if self.told else frozenset()

    def at(self, moment: float) -> frozenset[int]:
        return next((lanes for when, lanes in reversed(self.told) if when <= moment), frozenset())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            when, lanes = json.loads(line)
            self.told.append((when, frozenset(lanes)))

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading


@asynccontextmanager
async def process(bootstrap: str, flow: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "tests.log.kafka.test_membership", bootstrap, flow]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    each = Process(child)
    try:
        yield each
    finally:
        await each.end()


@pytest.mark.slow
async def test_lanes_of_a_killed_process_move(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one, process(kafka_bootstrap, flow) as other:
        await until(lambda: len(one.running) == len(other.wanted) == 4, "two share")
        kept = set(one.running)
        other.process.kill()
        killed = time.monotonic()
        await until(lambda: divided(one), "the lanes have moved", within=SESSION + 5)
        print(f"lanes of a killed process moved after {time.monotonic() - killed:.1f} s")
        assert time.monotonic() - killed < SESSION + 3
        assert all(one.opened[lane] < killed for lane in kept)


@pytest.mark.slow
async def test_a_process_that_was_stopped_gives_way_and_comes_back(kafka_bootstrap: str, flow: str) -> None:
    async with engine(kafka_bootstrap, flow) as one, process(kafka_bootstrap, flow) as zombie:
        await until(lambda: len(one.running) == len(zombie.wanted) == 4, "two share")
        lanes = zombie.wanted
        zombie.process.send_signal(signal.SIGSTOP)
        await until(lambda: divided(one), "the lanes have moved", within=SESSION + 5)
        await asyncio.sleep(1)
        resumed = time.monotonic()
        zombie.process.send_signal(signal.SIGCONT)
        await until(lambda: zombie.told[-1][0] > resumed, "it notices", within=5)
        noticed = next(when for when, wanted in zombie.told if when > resumed and not wanted)
        await until(
            lambda: len(one.running) == len(zombie.wanted) == 4 and not one.running & zombie.wanted,
            "two share again",
        )
        shared = time.monotonic()
        # The first thing it learns is that nothing is its own; until then it believed otherwise.
        print(f"noticed after {noticed - resumed:.3f} s; two share again after {shared - resumed:.1f} s")
        assert noticed - resumed < 1
        assert len(lanes) == 4
        assert not one.running & zombie.wanted


@pytest.mark.slow
async def test_a_stopped_process_that_nobody_replaced_goes_on(kafka_bootstrap: str, flow: str) -> None:
    async with process(kafka_bootstrap, flow) as alone:
        await until(lambda: len(alone.wanted) == LANES, "it has all")
        alone.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(SESSION + 3)
        resumed = time.monotonic()
        alone.process.send_signal(signal.SIGCONT)
        await until(lambda: alone.told[-1][0] > resumed and len(alone.wanted) == LANES, "it has all again")


async def main(bootstrap: str, flow: str) -> None:
    this = Engine(new_member(bootstrap, flow))
    await this.start()
    shown: frozenset[int] | None = None
    while this.error is None:
        wanted = this.membership.wanted()
        if wanted != shown:
            shown = wanted
            print(json.dumps([time.monotonic(), sorted(wanted)]), flush=True)
        await asyncio.sleep(0.005)
    print(this.error, file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
