"""What topics must be like on Kafka: their settings when created, and what is wrong with those found."""

from __future__ import annotations

from collections.abc import Mapping

from reflow_kafka.errors import TopologyMismatch
from reflow_kafka.log.api import TopicKind, TopicSpec

FOREVER = "-1"
UNLIMITED = str(2**63 - 1)
DAY_MS = 24 * 3600 * 1000

_TOMBSTONES = "delete.retention.ms"

_KEEP = {"cleanup.policy": "delete", "retention.ms": FOREVER, "retention.bytes": FOREVER}
_COMPACT = {
    "cleanup.policy": "compact",
    # Compaction may begin soon and on little: restores read what it leaves.
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(DAY_MS),
    # How long a tombstone stays: local stores that lag by more than half of it are not used again.
    _TOMBSTONES: str(DAY_MS),
}
_HOUR_MS = 3600 * 1000
_REPLIES = {
    "cleanup.policy": "delete",
    # Nobody waits for so long; segments that are small enough to be gone soon after.
    "retention.ms": str(_HOUR_MS),
    "segment.ms": str(_HOUR_MS // 6),
    "segment.bytes": str(64 * 1024 * 1024),
    # An answer has the time of its event: by that, one to an old event would be deleted as it is written.
    "message.timestamp.type": "LogAppendTime",
}
_SETTINGS = {
    TopicKind.EDGE: _KEEP,
    TopicKind.DEAD_LETTERS: _KEEP,
    TopicKind.CHANGELOG: _COMPACT,
    TopicKind.PROGRESS: _COMPACT,
    TopicKind.REPLIES: _REPLIES,
    TopicKind.EXTERNAL: {},
}
# Event time may be years ago, or ahead. The limit has two names from Kafka 3.6 on, one before.
_LIMITS = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")
_OLD_LIMITS = ("message.timestamp.difference.max.ms",)


def settings(kind: TopicKind, *, old_broker: bool = False) -> dict[str, str]:
    """The settings of a new topic; none for external ones, which follow the broker's defaults."""
    if kind in (TopicKind.EXTERNAL, TopicKind.REPLIES):
        return dict(_SETTINGS[kind])
    limits = dict.fromkeys(_OLD_LIMITS if old_broker else _LIMITS, UNLIMITED)
    return {**_SETTINGS[kind], "message.timestamp.type": "CreateTime", **limits}


def check(spec: TopicSpec, partitions: int, found: Mapping[str, str | None]) -> list[str]:
    """Compare a topic with what the flow needs; returns warnings.

    Raises:
        TopologyMismatch: the flow would lose events or state, or cannot place its events.
    """
    if spec.kind is TopicKind.EXTERNAL:
        return _check_external(spec.name, found)
    if partitions != spec.partitions:
        raise TopologyMismatch(
            f"topic {spec.name} has {partitions} partitions, and the flow wants {spec.partitions}: give the "
            f"flow or the stage partitions={partitions}, or delete the topic if it is no longer needed"
        )
    wanted = settings(spec.kind)
    policy = found.get("cleanup.policy")
    if policy is not None and set(policy.split(",")) != {wanted["cleanup.policy"]}:
        raise _mismatch(spec, "cleanup.policy", policy, wanted["cleanup.policy"])
    if found.get("message.timestamp.type") not in (None, wanted["message.timestamp.type"]):
        kind = found["message.timestamp.type"]
        raise _mismatch(spec, "message.timestamp.type", kind, wanted["message.timestamp.type"])
    if spec.kind is TopicKind.CHANGELOG and int(found.get(_TOMBSTONES) or DAY_MS) < DAY_MS:
        # Local state that was away for longer would never learn of deletions: keys would come back.
        raise _mismatch(spec, _TOMBSTONES, found[_TOMBSTONES], wanted[_TOMBSTONES])
    warnings: list[str] = []
    if spec.kind is TopicKind.REPLIES:
        return warnings
    for name in ("retention.ms", "retention.bytes"):
        value = found.get(name)
        if name not in wanted or value in (None, FOREVER):
            continue
        if spec.kind is TopicKind.EDGE:
            raise _mismatch(spec, name, value, FOREVER)
        warnings.append(
            f"dead letters in {spec.name} are deleted by {name}={value}: {_alter(spec, name, FOREVER)}"
        )
    for name in (*_LIMITS, *_OLD_LIMITS):
        value = found.get(name)
        if value not in (None, UNLIMITED):
            warnings.append(
                f"topic {spec.name} refuses events whose time is far from now ({name}={value}): "
                f"{_alter(spec, name, UNLIMITED)}"
            )
    return warnings


def _check_external(topic: str, found: Mapping[str, str | None]) -> list[str]:
    retention = found.get("retention.ms")
    if retention in (None, FOREVER) or "delete" not in str(found.get("cleanup.policy", "delete")):
        return []
    days = f"{int(str(retention)) / DAY_MS:g} days"
    warning = (
        f"topic {topic} deletes events whose time is older than {days} (retention.ms={retention}), read or "
        "not: raise retention.ms if events can be older, or a backlog can last longer, than that"
    )
    return [warning]


def _mismatch(spec: TopicSpec, name: str, found: str | None, wanted: str) -> TopologyMismatch:
    return TopologyMismatch(
        f"topic {spec.name} has {name}={found}, and as {spec.kind.value} topic it needs {wanted}: "
        f"{_alter(spec, name, wanted)}"
    )


def _alter(spec: TopicSpec, name: str, value: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {spec.name} "
        f"--add-config {name}={value}"
    )
