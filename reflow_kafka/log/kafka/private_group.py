"""The private parts of aiokafka that membership needs; they are touched here and nowhere else.

The library's public face does not tell when a heartbeat was answered or when the broker has forgotten the
member, keeps errors until somebody polls, and can neither leave a group while a join is under way nor stop
without waiting. All requests of a group member pass through one method of its coordinator; watching that is
enough. `self_test` says whether the installed version is still built that way.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher, group_coordinator
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from reflow_kafka.errors import ReflowError
from reflow_kafka.log.kafka.assignor import divide
from reflow_kafka.log.kafka.claim import Award, Claim, decode_award, decode_claim, encode
from reflow_kafka.log.kafka.discard import close_client, forget
from reflow_kafka.log.kafka.library import new_consumer
from reflow_kafka.log.kafka.requests import LeaveGroup

PINNED = "0.14."

_OK, _REBALANCING = 0, 27
_LEAVE_TIMEOUT = 2.0
_CANCEL_TIMEOUT = 1.0

Kind = Literal["join", "sync", "heartbeat"]
_KINDS: dict[type, Kind] = {
    JoinGroupRequest: "join",
    SyncGroupRequest: "sync",
    HeartbeatRequest: "heartbeat",
}


class LaneAssignor:
    """`assignor` in the shape that aiokafka wants; an instance will do where it documents a class.

    The same lanes are assigned as partitions of `topic`, too, so that Kafka's own tools show who has what.
    """

    name = "reflow-lanes"

    def __init__(
        self, topic: str, claim: Callable[[], Claim], follow: Callable[[Award | None], None]
    ) -> None:
        self._topic, self._claim, self._follow = topic, claim, follow

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member tells the group."""
        return ConsumerProtocolMemberMetadata(0, list(topics), encode(self._claim()))

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """What this member, as the leader, gives to each."""
        claims = {member: decode_claim(metadata.user_data) for member, metadata in members.items()}
        awards = divide(claims, run=uuid.uuid4().hex, floor=int(time.time() * 1000))
        # A client asks for metadata without pause when it is assigned a partition that it cannot find.
        there: set[int] = cluster.partitions_for_topic(self._topic) or set()
        return {
            member: ConsumerProtocolMemberAssignment(
                0,
                [(self._topic, [lane for lane in award.lanes if lane in there])] if award.lanes else [],
                encode(award),
            )
            for member, award in awards.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """What this member was given."""
        self._follow(decode_award(assignment.user_data))


class PrivateGroup:
    """A consumer as a member of its group, and nothing else.

    `heard` is told of every answer: the kind of request, when the request was *sent*, and the error code. The
    time of sending counts, because an answer may lie unread for as long as this process is stopped.
    """

    def __init__(
        self, options: Mapping[str, Any], assignor: LaneAssignor, heard: Callable[[Kind, float, int], None]
    ) -> None:
        # One assignor: the library sends a join per assignor.
        self._consumer = new_consumer({**options, "partition_assignment_strategy": [assignor]})
        self._coordinator: Any = None
        # A join is answered when all have come, or the time for that is up.
        self._timeout: float = options["request_timeout_ms"] / 1000
        self._join_timeout: float = options["rebalance_timeout_ms"] / 1000 + self._timeout
        self._heard = heard
        self._member = ""
        self._looking: asyncio.Task[None] | None = None
        self.joining = False
        """A join or sync is waiting for its answer, perhaps until all other members have come."""
        self.settled = False
        """Every join that was begun or asked for has led to an assignment."""

    async def start(self) -> None:
        """Connect, without joining yet."""
        await self._consumer.start()
        self._coordinator = self._consumer._coordinator
        self._send = self._coordinator._send_req
        self._coordinator._send_req = self._send_watched
        # The library cancels its heartbeat task and awaits it. If the task has not even begun that ends the
        # coordination, without a word: it happens when a member has to join again right after it has joined.
        self._stop_heartbeat = self._coordinator._stop_heartbeat_task
        self._coordinator._stop_heartbeat_task = self._stop_begun_heartbeat

    def join(self, topic: str) -> None:
        """Join for the first time."""
        self._consumer.subscribe([topic])

    def rejoin(self) -> None:
        """Make the whole group come together again."""
        # Subscribing anew would do it, too, but kills the coordination if that is looking for its broker.
        self.settled = False
        self._coordinator.request_rejoin()

    def check(self) -> None:
        """Raise what the coordinator has met; it does nothing more until somebody takes its errors."""
        if self._coordinator._coordination_task.cancelled():
            raise KafkaError("the client's coordination has ended")
        self._coordinator.check_errors()

    def look(self) -> None:
        """Send a heartbeat out of turn: it tells earlier of a rebalance, and renews the proof during one."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(forget)

    def hold_still(self) -> None:
        """Let nothing be fetched and no position be looked up; to be called as soon as an award has come."""
        for partition in self._consumer.assignment():
            self._consumer.pause(partition)
            self._consumer.seek(partition, 0)

    async def close(self) -> None:
        """Leave the group and end the consumer, within a few seconds and whatever it is doing."""
        consumer, coordinator = self._consumer, self._consumer._coordinator
        consumer._closed = True
        tasks: set[asyncio.Task[Any] | None] = {self._looking}
        if coordinator is not None:
            with contextlib.suppress(Exception):  # if it fails the end of the session does it
                async with asyncio.timeout(_LEAVE_TIMEOUT):
                    await self._leave()
            tasks |= {
                coordinator._coordination_task,
                coordinator._heartbeat_task,
                coordinator._commit_refresh_task,
            }
        if consumer._fetcher is not None:
            tasks |= {consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks}
        running = {task for task in tasks if task is not None}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CANCEL_TIMEOUT)
        for task in running:
            task.add_done_callback(forget)
        await close_client(consumer._client)

    async def _leave(self) -> None:
        coordinator = self._consumer._coordinator
        # Whatever the coordinator hears from now on, it is not to join again.
        if not coordinator._closing.done():
            coordinator._closing.set_result(None)
        if coordinator.member_id and coordinator.coordinator_id is not None:
            instance = coordinator._group_instance_id
            request = LeaveGroup(coordinator.group_id, coordinator.member_id, instance)
            await coordinator._client.send(coordinator.coordinator_id, request)

    async def _send_watched(self, request: Any) -> Any:
        kind = _KINDS.get(type(request))
        if kind is None:
            return await self._send(request)
        self._remember(request)
        self.joining = kind != "heartbeat"
        if kind == "join":
            self.settled = False
        if connection := self._connection():
            connection._request_timeout = self._join_timeout if self.joining else self._timeout
        sent = time.monotonic()
        try:
            response = await self._send(request)
        finally:
            self.joining = False
        if kind == "sync":
            self.settled = response.error_code == 0
        self._heard(kind, sent, response.error_code)
        return response

    async def _look(self) -> None:
        coordinator, client = self._coordinator, self._coordinator._client
        node, generation = coordinator.coordinator_id, coordinator.generation
        if node is None:
            return
        sent = time.monotonic()
        try:
            # On the client's general connection: on the coordinator's own a join under way would hold it up.
            request = HeartbeatRequest(coordinator.group_id, generation, coordinator.member_id)
            response = await client.send(node, request)
        except KafkaError:
            if self.joining and (connection := self._connection()):
                connection.close()  # nobody is there who could answer the join
            return
        if response.error_code not in {_OK, _REBALANCING}:
            return  # that is for the next heartbeat to find out: this one may have come too late
        self._heard("heartbeat", sent, response.error_code)
        ready = self.settled and not self.joining and generation == coordinator.generation
        if response.error_code == _REBALANCING and ready:
            coordinator.request_rejoin()

    def _connection(self) -> Any:
        """The connection that is used for the group alone."""
        coordinator = self._coordinator
        return coordinator._client._conns.get((coordinator.coordinator_id, ConnectionGroup.COORDINATION))

    async def _stop_begun_heartbeat(self) -> None:
        await asyncio.sleep(0)
        await self._stop_heartbeat()

    def _remember(self, request: Any) -> None:
        # A static member that the broker no longer knows would come back as if it were new, and so throw out
        # the process that has taken its place. Asked with its old id the broker says which of the two it is.
        if request._member_id:
            self._member = request._member_id
        elif self._coordinator._group_instance_id is not None:
            request._member_id, self._member = self._member, ""


def self_test() -> None:
    """Check that aiokafka is built as this module expects.

    Raises:
        ReflowError: it is not; the message names what is missing.
    """
    if not aiokafka.__version__.startswith(PINNED):
        raise ReflowError(
            f"aiokafka {aiokafka.__version__} is installed, but {PINNED}x is needed: install that"
        )
    coordinator, rebalance = group_coordinator.GroupCoordinator, group_coordinator.CoordinatorGroupRebalance
    uses: list[tuple[Any, set[str]]] = [
        (coordinator._do_heartbeat, {"_send_req"}),
        (rebalance.perform_group_join, {"_send_req", "member_id"}),
        (rebalance._send_sync_group_request, {"_send_req"}),
        (coordinator.check_errors, {"_pending_exception", "_coordination_task"}),
        (coordinator.ensure_active_group, {"_stop_heartbeat_task"}),
        (coordinator.request_rejoin, {"_rejoin_needed_fut"}),
        (coordinator.__init__, {"_closing", "_coordination_task", "_group_instance_id", "coordinator_id"}),
        (coordinator.__init__, {"_heartbeat_task", "_commit_refresh_task"}),
        (AIOKafkaClient.__init__, {"_conns"}),
        (AIOKafkaClient.send, {"_conns"}),
        (AIOKafkaConnection.__init__, {"_request_timeout"}),
        (fetcher.Fetcher.__init__, {"_fetch_task", "_pending_tasks"}),
        (JoinGroupRequest.__init__, {"_member_id"}),
        (AIOKafkaConsumer.__init__, {"_coordinator", "_fetcher", "_client", "_closed"}),
    ]
    for function, names in uses:
        missing = names - set(inspect.unwrap(function).__code__.co_names)
        if missing:
            raise ReflowError(
                f"aiokafka {aiokafka.__version__} is built differently than expected: "
                f"{function.__qualname__} does not use {', '.join(sorted(missing))}"
            )
