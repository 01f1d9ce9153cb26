"""Topics and offsets of a Kafka cluster, asked for in bulk."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.protocol.admin import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DescribeConfigsRequest,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from reflow_kafka.errors import LogDoubt, NotPermitted, TopologyMismatch
from reflow_kafka.log.api import TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.kafka import library
from reflow_kafka.log.kafka.client import note_brokers
from reflow_kafka.log.kafka.errors import classify
from reflow_kafka.log.kafka.topics import check, settings

T = TypeVar("T")

EARLIEST, LATEST = -2, -1
_TOPIC = 2  # kind of resource in DescribeConfigs
_BROKER_DEFAULT = -1
"""Replication factor; taken by every broker since 2.4, whatever the version of the request."""
_BACKOFF = 0.1
_PER_PARTITION = 0.01
"""Seconds that new topics may take longer for each partition: a busy broker makes a few hundred a second."""

Leaders = dict[int, int]  # partition → node, -1 if there is none


class KafkaAdmin:
    """Single requests to the cluster; each call is repeated until its deadline as long as that can help."""

    def __init__(self, client: Any, *, deadline: float = 15.0) -> None:
        self._client = client
        self._deadline = deadline
        self._leaders: dict[TopicPartition, int] = {}

    async def partition_counts(self, names: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""
        described = await self._retry("asking for topics", lambda: self._metadata(names))
        return {name: None if (known := described[name]) is None else len(known) for name in names}

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing, wait until all have leaders, verify; returns warnings."""
        names = [spec.name for spec in specs]
        counts = await self.partition_counts(names)
        missing = [spec for spec in specs if counts[spec.name] is None]
        if missing:
            await self._create(missing)
        counts = await self._retry("waiting for new topics", lambda: self._led(names), self._within(specs))
        found = await self._retry("reading the settings of topics", lambda: self._configs(names))
        warnings = [
            f"topic {spec.name} did not exist and was created with {spec.partitions} partitions and the "
            "broker's default settings"
            for spec in missing
            if spec.kind is TopicKind.EXTERNAL
        ]
        for spec in specs:
            configs = found[spec.name]
            if configs is None:
                warnings.append(f"the settings of topic {spec.name} may not be read, and were not verified")
            warnings += check(spec, counts[spec.name] or 0, configs or {})
        return warnings

    async def offsets(
        self, partitions: Collection[TopicPartition], at: int, *, committed: bool
    ) -> dict[TopicPartition, int]:
        """The `EARLIEST` offset of each partition or its `LATEST`, with `committed` the last stable one."""
        found: dict[TopicPartition, int] = {}

        async def attempt() -> None:
            todo = [tp for tp in map(TopicPartition._make, partitions) if tp not in found]
            by_node = await self._by_leader(todo)
            requests = {
                node: OffsetRequest(-1, int(committed), _by_topic((tp, at) for tp in tps))
                for node, tps in by_node.items()
            }
            for response in await self._send_all(requests):
                for topic, entries in response.topics:
                    for partition, code, _timestamp, offset, *_ in entries:
                        if not code:
                            found[TopicPartition(topic, partition)] = offset
                        else:
                            self._leaders.pop(TopicPartition(topic, partition), None)
                            failure = errors.for_code(code)(f"{topic}[{partition}]")
                            if not isinstance(classify(failure), LogDoubt):
                                raise failure
            if len(found) < len(set(partitions)):
                raise errors.LeaderNotAvailableError("partitions without an answer")

        await self._retry("asking for offsets", attempt)
        return found

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        """Delete the records below these offsets; what cannot be deleted now is a warning, no error."""
        try:
            async with asyncio.timeout(self._deadline):
                by_node = await self._by_leader(list(positions))
                timeout = int(self._deadline * 1000)
                requests = {
                    node: DeleteRecordsRequest(_by_topic((tp, positions[tp]) for tp in tps), timeout)
                    for node, tps in by_node.items()
                }
                responses = await self._send_all(requests)
        except (errors.KafkaError, TimeoutError) as error:
            self._leaders.clear()
            library.logger.warning("consumed records were not deleted: %s", classify(error, what="trimming"))
            return
        for response in responses:
            for topic, entries, *_ in response.topics:
                for partition, _low, code, *_ in entries:
                    if code:
                        tp = TopicPartition(topic, partition)
                        self._leaders.pop(tp, None)
                        why = classify(errors.for_code(code)(), [tp], "deleting consumed records")
                        library.logger.warning("%s", why)

    async def _metadata(self, names: Collection[str]) -> dict[str, Leaders | None]:
        if not names:
            return {}
        # Asked without this flag, a broker may create what is asked for.
        response = await self._ask(MetadataRequest(list(names), allow_auto_topic_creation=False))
        answers = list(response.topics)
        note_brokers(self._client, response)
        described: dict[str, Leaders | None] = {}
        for code, name, _internal, partitions in answers:
            error = errors.for_code(code)
            if error is errors.UnknownTopicOrPartitionError:
                described[name] = None
            elif error is errors.InvalidTopicError:
                raise TopologyMismatch(f"{name!r} cannot be the name of a Kafka topic")
            elif error in (errors.NoError, errors.LeaderNotAvailableError):
                described[name] = {partition: leader for _code, partition, leader, *_ in partitions}
            else:
                raise error(name)
        return described

    async def _led(self, names: Collection[str]) -> dict[str, int | None]:
        described = await self._metadata(names)
        for name, leaders in described.items():
            if not leaders or -1 in leaders.values():
                raise errors.LeaderNotAvailableError(name)
        return {name: len(leaders or ()) for name, leaders in described.items()}

    async def _configs(self, names: Collection[str]) -> dict[str, dict[str, str | None] | None]:
        if not names:
            return {}
        response = await self._ask(DescribeConfigsRequest([(_TOPIC, name, None) for name in names]))
        found: dict[str, dict[str, str | None] | None] = {}
        for code, message, _kind, name, entries in response.resources:
            error = errors.for_code(code)
            if error is errors.TopicAuthorizationFailedError:
                found[name] = None  # reading a topic does not take the right to see its settings
            elif error is not errors.NoError:
                raise error(message or name)
            else:
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        todo = {spec.name: spec for spec in specs}
        within = self._within(specs)
        old_broker = False

        async def attempt() -> None:
            nonlocal old_broker
            wanted: list[Any] = [
                (
                    name,
                    spec.partitions,
                    _BROKER_DEFAULT,
                    [],
                    list(settings(spec.kind, old_broker=old_broker).items()),
                )
                for name, spec in todo.items()
            ]
            request = CreateTopicsRequest(wanted, int(within * 1000), False)
            # The client raises nothing for a refused topic: its code stands in the answer.
            response = await self._ask(request, controller=True)
            failure: errors.KafkaError | None = None
            for name, code, message in response.topic_errors:
                error = errors.for_code(code)
                if error in (errors.NoError, errors.TopicAlreadyExistsError):
                    del todo[name]
                elif error is errors.InvalidConfigurationError and not old_broker:
                    old_broker = True
                    failure = errors.NotControllerError(message)  # any that is worth another try
                elif error is errors.InvalidTopicError:
                    raise TopologyMismatch(f"Kafka refuses the topic name {name!r}: {message}")
                elif not error.retriable and error is not errors.NotControllerError:
                    raise NotPermitted(f"Kafka refuses to create topic {name}: {error.message}: {message}")
                else:
                    failure = error(message)
            if failure is not None:
                raise failure

        await self._retry("creating topics", attempt, within)

    def _within(self, specs: Sequence[TopicSpec]) -> float:
        """Seconds that topics may take to be there."""
        return self._deadline + _PER_PARTITION * sum(spec.partitions for spec in specs)

    async def grow_topic(self, name: str, partitions: int) -> None:
        """Give an existing topic as many partitions, and wait until they can be used."""

        async def attempt() -> None:
            anywhere: Any = None  # the broker places them
            grown = [(name, (partitions, anywhere))]
            request = CreatePartitionsRequest(grown, int(self._deadline * 1000), False)
            response = await self._ask(request, controller=True)
            for _, code, message in response.topic_errors:
                error = errors.for_code(code)
                if error is errors.InvalidPartitionsError:  # another engine was faster
                    break
                if error is not errors.NoError:
                    raise error(message)
            if await self._led([name]) != {name: partitions}:
                raise errors.LeaderNotAvailableError(name)

        await self._retry(f"adding partitions to {name}", attempt)

    async def _by_leader(self, partitions: Collection[TopicPartition]) -> dict[int, list[TopicPartition]]:
        unknown = {tp.topic for tp in partitions if self._leaders.get(tp, -1) == -1}
        for topic, leaders in (await self._metadata(unknown)).items():
            for partition, leader in (leaders or {}).items():
                self._leaders[TopicPartition(topic, partition)] = leader
        by_node: dict[int, list[TopicPartition]] = defaultdict(list)
        for tp in partitions:
            if (node := self._leaders.get(tp, -1)) != -1:
                by_node[node].append(tp)
        return by_node

    async def _ask(self, request: Any, *, controller: bool = False) -> Any:
        cluster = self._client.cluster
        node = (
            cluster.controller.nodeId if controller and cluster.controller else self._client.get_random_node()
        )
        return await self._client.send(node, request)

    async def _send_all(self, requests: Mapping[int, Any]) -> list[Any]:
        # No TaskGroup: before Python 3.13 one that fails while it waits leaves its task marked as cancelled,
        # and the deadline around it then ends in a CancelledError.
        return await asyncio.gather(*(self._client.send(node, each) for node, each in requests.items()))

    async def _retry(self, what: str, attempt: Callable[[], Awaitable[T]], within: float | None = None) -> T:
        last: BaseException | None = None
        within = self._deadline if within is None else within
        timer = asyncio.timeout(within)
        try:
            async with timer:
                while True:
                    try:
                        return await attempt()
                    except (errors.KafkaError, TimeoutError) as error:
                        known = classify(error, what=what)
                        if type(known) is not LogDoubt:
                            raise known from error
                        last = error
                        self._leaders.clear()
                        if isinstance(error, errors.NotControllerError):
                            await self._client.force_metadata_update()
                    await asyncio.sleep(_BACKOFF)
        except TimeoutError:
            raise LogDoubt(f"{what} did not finish within {within:g} s (last: {last!r})") from last


def _by_topic(items: Iterable[tuple[TopicPartition, int]]) -> list[tuple[str, list[tuple[int, int]]]]:
    grouped: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for tp, value in items:
        grouped[tp.topic].append((tp.partition, value))
    return list(grouped.items())
