"""What errors mean: by table."""

from __future__ import annotations

import copy

import pytest
from aiokafka import errors as client

from reflow_kafka.errors import LaneLost, LogDoubt, LogError, NotPermitted, RecordRefused
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.kafka.errors import OutcomeUnknown, SenderFailed, classify, worst

TP = TopicPartition("a.b.c", 3)


def wrapped(cause: Exception) -> Exception:
    """As the library's sender wraps what ends it."""
    error = client.KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (client.ProducerFenced(), LaneLost),
        (client.InvalidProducerEpoch(), LaneLost),
        (client.InvalidProducerIdMapping(), LaneLost),
        (client.for_code(90)(), LaneLost),
        (SenderFailed(client.ProducerFenced()), LaneLost),
        (wrapped(client.InvalidProducerEpoch()), LaneLost),
        (client.MessageSizeTooLargeError(), RecordRefused),
        (client.RecordListTooLargeError(), RecordRefused),
        (client.InvalidTimestampError(), RecordRefused),
        (client.OffsetMetadataTooLargeError(), RecordRefused),
        (client.for_code(87)(), RecordRefused),
        (client.for_code(76)(), RecordRefused),
        (SenderFailed(client.OffsetMetadataTooLargeError()), RecordRefused),
        (client.TopicAuthorizationFailedError("a"), NotPermitted),
        (client.GroupAuthorizationFailedError("g"), NotPermitted),
        (client.ClusterAuthorizationFailedError(), NotPermitted),
        (client.TransactionalIdAuthorizationFailed("f-lane-0"), NotPermitted),
        (client.PolicyViolationError(), NotPermitted),
        (client.SaslAuthenticationFailed(), NotPermitted),
        (client.InvalidTransactionTimeout(), NotPermitted),
        (SenderFailed(client.TopicAuthorizationFailedError("a")), NotPermitted),
        (client.IncompatibleBrokerVersion("v7"), NotPermitted),
        (client.UnknownError(), LogDoubt),
        (client.CorruptRecordException(), LogDoubt),
        (client.OutOfOrderSequenceNumber(), LogDoubt),
        (client.InvalidTxnState(), LogDoubt),
        (client.RequestTimedOutError(), LogDoubt),
        (client.KafkaConnectionError("gone"), LogDoubt),
        (client.for_code(13)(), LogDoubt),
        (client.for_code(88)(), LogDoubt),
        (client.IllegalOperation(), LogDoubt),
        (OutcomeUnknown("?"), LogDoubt),
        (AssertionError("Invalid state transition"), LogDoubt),
        (TimeoutError(), LogDoubt),
        (OSError("broken pipe"), LogDoubt),
        (wrapped(KeyError("x")), LogDoubt),
        (ExceptionGroup("tasks", [SenderFailed(client.PolicyViolationError())]), NotPermitted),
    ],
    ids=repr,
)
def test_every_error_has_a_meaning(error: Exception, kind: type[LogError]) -> None:
    known = classify(error, [TP], "f-lane-3: the commit")
    assert type(known) is kind
    assert str(known).startswith("f-lane-3: the commit [a.b.c[3]] failed: ")


def test_refused_records_name_their_partition_and_the_brokers_reason() -> None:
    known = classify(client.InvalidTimestampError(), [TP])
    assert isinstance(known, RecordRefused)
    assert known.partitions == (TP,)
    assert "INVALID_TIMESTAMP" in str(known)


def test_what_is_known_already_stays_as_it_is() -> None:
    error = NotPermitted("no")
    assert classify(error, [TP], "again") is error


def test_the_cause_survives_the_copies_that_the_library_makes() -> None:
    assert type(classify(copy.copy(SenderFailed(client.PolicyViolationError())))) is NotPermitted


def test_codes_the_library_knows_are_left_alone() -> None:
    assert client.for_code(10) is client.MessageSizeTooLargeError


def test_of_many_failures_the_one_that_decides_is_raised() -> None:
    other = TopicPartition("a.b.c", 4)
    doubt, refused, also = LogDoubt("?"), RecordRefused("size", [TP]), RecordRefused("time", [other])
    lost, forbidden = LaneLost("fenced"), NotPermitted("no")
    assert worst([doubt]) is doubt
    both = worst([doubt, refused, also])
    assert isinstance(both, RecordRefused)
    assert both.partitions == (TP, other)
    assert worst([refused, lost, doubt]) is lost
    assert worst([lost, refused, forbidden]) is forbidden
