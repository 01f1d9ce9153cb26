"""Settings of topics, and what is found wrong with them."""

from __future__ import annotations

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from reflow_kafka.errors import TopologyMismatch
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.kafka.topics import check, settings

EDGE = TopicSpec("f.a.b", 4, TopicKind.EDGE)
REPLIES = TopicSpec("f.replies", 4, TopicKind.REPLIES)
CHANGELOG = TopicSpec("f.a.changelog", 4, TopicKind.CHANGELOG)


@pytest.mark.parametrize("kind", TopicKind)
@pytest.mark.parametrize("old", [False, True])
def test_a_new_topic_passes_its_own_check(kind: TopicKind, old: bool) -> None:
    assert check(TopicSpec("t", 4, kind), 4, dict(settings(kind, old_broker=old))) == []


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (
            EDGE,
            {"cleanup.policy": "compact"},
            r"f\.a\.b has cleanup\.policy=compact, .* needs delete: .*--add-config",
        ),
        (EDGE, {"retention.ms": "604800000"}, r"retention\.ms=604800000, and as edge topic it needs -1"),
        (EDGE, {"retention.bytes": "1000"}, r"retention\.bytes=1000"),
        (EDGE, {"message.timestamp.type": "LogAppendTime"}, r"message\.timestamp\.type=LogAppendTime"),
        (
            REPLIES,
            {"message.timestamp.type": "CreateTime"},
            r"CreateTime, and as replies topic it needs LogAppendTime",
        ),
        (
            CHANGELOG,
            {"cleanup.policy": "compact,delete"},
            r"cleanup\.policy=compact,delete, .* needs compact",
        ),
        (
            CHANGELOG,
            {"delete.retention.ms": "60000"},
            r"delete\.retention\.ms=60000, .* needs 86400000: .*delete\.retention\.ms=86400000$",
        ),
    ],
)
def test_what_would_lose_events_or_state_is_refused(
    spec: TopicSpec, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(TopologyMismatch, match=message):
        check(spec, 4, {**settings(spec.kind), **changes})


def test_a_partition_count_names_both_and_the_way_out() -> None:
    with pytest.raises(
        TopologyMismatch, match=r"f\.a\.b has 3 partitions, and the flow wants 4: .*partitions=3"
    ):
        check(EDGE, 3, settings(TopicKind.EDGE))


def test_narrow_time_limits_are_a_warning() -> None:
    (warning,) = check(EDGE, 4, {**settings(EDGE.kind), "message.timestamp.after.max.ms": "3600000"})
    assert "message.timestamp.after.max.ms=3600000" in warning


def test_finite_retention_of_an_external_topic_is_a_warning() -> None:
    spec = TopicSpec("weather", 4, TopicKind.EXTERNAL)
    (warning,) = check(spec, 8, {"retention.ms": "604800000", "cleanup.policy": "delete"})
    assert "7 days" in warning
    assert check(spec, 8, {"retention.ms": "604800000", "cleanup.policy": "compact"}) == []


@pytest.mark.kafka
async def test_settings_on_the_broker(log: KafkaLog, unique: str) -> None:
    specs = [TopicSpec(f"{unique}.{kind.value}", 2, kind) for kind in TopicKind]
    first = await log.ensure_topics(specs)
    external = f"{unique}.external"
    assert [external in warning for warning in first] == [True, True], first  # created; finite retention
    assert len(await log.ensure_topics(specs)) == 1
    # Decades old, and ahead: neither refused nor deleted.
    await log.publish(
        f"{unique}.edge", 0, [OutRecord(b"k", b"v", timestamp) for timestamp in (1, 4_102_444_800_000)]
    )


@pytest.mark.kafka
async def test_a_found_topic_is_verified(log: KafkaLog, kafka_bootstrap: str, unique: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(unique, 2, 1)])
    finally:
        await admin.close()
    with pytest.raises(TopologyMismatch, match=r"retention\.ms=604800000"):
        await log.ensure_topics([TopicSpec(unique, 2, TopicKind.EDGE)])
    with pytest.raises(TopologyMismatch, match=r"cleanup\.policy=delete"):
        await log.ensure_topics([TopicSpec(unique, 2, TopicKind.PROGRESS)])
    with pytest.raises(TopologyMismatch, match="2 partitions, and the flow wants 3"):
        await log.ensure_topics([TopicSpec(unique, 3, TopicKind.DEAD_LETTERS)])


@pytest.mark.kafka
async def test_names_that_collide_are_refused(log: KafkaLog, unique: str) -> None:
    await log.ensure_topics([TopicSpec(f"{unique}.a_b.c", 1, TopicKind.EDGE)])
    with pytest.raises(TopologyMismatch, match=r"a\.b_c"):
        await log.ensure_topics([TopicSpec(f"{unique}.a.b_c", 1, TopicKind.EDGE)])


@pytest.mark.kafka
async def test_what_cannot_be_trimmed_is_only_a_warning(
    log: KafkaLog, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    await log.ensure_topics([TopicSpec(f"{unique}.changelog", 1, TopicKind.CHANGELOG)])
    await log.ensure_topics([TopicSpec(unique, 1, TopicKind.EDGE)])
    edge = TopicPartition(unique, 0)
    for topic in (unique, f"{unique}.changelog"):
        await log.publish(topic, 0, [OutRecord(b"k", b"v", 1)])
    await log.trim(
        {TopicPartition(f"{unique}.changelog", 0): 1, TopicPartition(f"{unique}.none", 0): 1, edge: 1}
    )
    assert "POLICY_VIOLATION" in caplog.text
    assert await log.start_offsets([edge]) == {edge: 1}
