"""The way back to whoever asked: answers are part of the commit of the event that they answer.

Where an answer goes stands in a header of the event, so it is data from outside: it chooses one of the
partitions of the flow's own topic of replies, or counts for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from reflow_kafka.lane.dead_letter import PREFIX
from reflow_kafka.lane.outbox import NO_HEADERS, Channel
from reflow_kafka.log.api import BatchBuilder, Headers
from reflow_kafka.topology.replies import CORRELATION_ID, REPLY_FROM, header, reply_address, request_headers

log = logging.getLogger(__name__)

_TOLD: Final = (CORRELATION_ID, *(PREFIX + fact for fact in ("flow", "stage", "type", "message")))
"""Headers of a dead letter that are told to whoever asked."""


class Replies:
    """The topic of replies, seen from one worker."""

    def __init__(self, channel: Channel, where: str) -> None:
        self._channel = channel
        self._where = where
        self._partitions = {reply_address(channel.topic, p): p for p in range(channel.partitions)}
        self._warned = False

    def asked(self, headers: Headers) -> int | None:
        """The partition in which the answer to an event is awaited; None if nobody waits here."""
        if not headers or not (request := request_headers(headers)):
            return None
        address = request[1][1] or b""
        partition = self._partitions.get(address)
        if partition is None and not self._warned:
            self._warned = True
            log.warning(
                "%s: requests whose answer is wanted in %r get none, as this flow answers only in %s; "
                "did they come through another flow?",
                self._where,
                address.decode("utf-8", "replace"),
                self._channel.topic,
            )
        return partition

    def route(self, output: str) -> Callable[[Any, Headers], ReplyPlace | None]:
        """What finds the place for the results of one output of the stage, if they are asked for."""
        places = [ReplyPlace(self._channel, p, output.encode()) for p in range(self._channel.partitions)]

        def find(value: Any, headers: Headers) -> ReplyPlace | None:
            partition = self.asked(headers)
            return None if partition is None else places[partition]

        return find

    def fail(self, timestamp: int, headers: Headers) -> None:
        """Answer a dead letter, if it is a request, with its cause, which stands in its headers."""
        partition = self.asked(headers)
        if partition is not None:
            told: Headers = [(name, header(headers, name)) for name in _TOLD]
            self._channel.append_to(partition, timestamp, None, None, told)


class ReplyPlace:
    """One partition of the replies, for the answers of one output."""

    __slots__ = ("_channel", "_output", "_partition")

    def __init__(self, channel: Channel, partition: int, output: bytes) -> None:
        self._channel = channel
        self._partition = partition
        self._output = output

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Add an answer; it says which output gave it, and with that how it is to be read."""
        kept = [each for each in headers if each[0] != REPLY_FROM]
        self._channel.append_to(self._partition, timestamp, key, value, [*kept, (REPLY_FROM, self._output)])


class DeadLetters(Channel):
    """The channel of a worker's dead letters: one that is a request is answered in the same commit."""

    __slots__ = ("_replies",)

    def __init__(
        self, replies: Replies, topic: str, partitions: int, new: Callable[[], BatchBuilder]
    ) -> None:
        super().__init__(topic, partitions, new)
        self._replies = replies

    def append_to(
        self,
        partition: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Add a dead letter, and the answer to it."""
        super().append_to(partition, timestamp, key, value, headers)
        self._replies.fail(timestamp, headers)
