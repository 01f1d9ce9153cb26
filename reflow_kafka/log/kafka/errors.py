"""What an error of the client library, or of the broker, means to a lane: a pure function.

The library tells the same thing in many ways: error classes, codes it does not know, assertions about its own
state, a general error whose cause is the real one. Lanes know four outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import errors as client

from reflow_kafka.errors import LaneLost, LogDoubt, LogError, NotPermitted, RecordRefused
from reflow_kafka.log.api import TopicPartition


def _missing(code: int, name: str, description: str) -> type[client.BrokerResponseError]:
    """Teach the library a code that it would turn into `UnknownError`, losing the number."""

    class Missing(client.BrokerResponseError):
        errno = code
        message = name

    Missing.__name__ = Missing.__qualname__ = name
    Missing.description = description
    return client.kafka_errors.setdefault(code, Missing)


UnsupportedCompression = _missing(76, "UNSUPPORTED_COMPRESSION_TYPE", "The topic refuses the compression.")
FencedInstanceId = _missing(82, "FENCED_INSTANCE_ID", "Another member joined with the same instance id.")
InvalidRecord = _missing(87, "INVALID_RECORD", "The broker's validation refused the record.")
UnstableOffsetCommit = _missing(88, "UNSTABLE_OFFSET_COMMIT", "A transaction is about to change the offset.")
ThrottlingQuotaExceeded = _missing(89, "THROTTLING_QUOTA_EXCEEDED", "A quota was exceeded; try later.")
ProducerFencedCode = _missing(90, "PRODUCER_FENCED", "A newer producer has the same transactional id.")


class SenderFailed(client.ProducerFenced):
    """Ends the library's sender task; `cause` is why.

    It is a `ProducerFenced` only because the sender passes those on as they are; anything else it logs with
    a traceback and wraps. The cause is an argument because the library copies exceptions, which drops
    `__cause__`.
    """

    def __init__(self, cause: BaseException) -> None:
        RuntimeError.__init__(self, cause)
        self.cause = cause


class OutcomeUnknown(client.KafkaError):
    """The request that ends a transaction was sent, and what became of it is not known."""


_LOST = (
    client.ProducerFenced,
    client.InvalidProducerEpoch,
    client.InvalidProducerIdMapping,
    ProducerFencedCode,
)
_REFUSED = (
    client.MessageSizeTooLargeError,
    client.RecordListTooLargeError,
    client.RecordTooLargeError,
    client.InvalidTimestampError,
    client.UnsupportedForMessageFormatError,
    client.OffsetMetadataTooLargeError,
    client.InvalidCommitOffsetSizeError,
    InvalidRecord,
    UnsupportedCompression,
)
_NOT_PERMITTED = (
    client.TopicAuthorizationFailedError,
    client.GroupAuthorizationFailedError,
    client.ClusterAuthorizationFailedError,
    client.TransactionalIdAuthorizationFailed,
    client.PolicyViolationError,
    client.SaslAuthenticationFailed,
    client.AuthenticationFailedError,
    client.AuthenticationMethodNotSupported,
    client.UnsupportedSaslMechanismError,
    client.IllegalSaslStateError,
    client.SecurityDisabled,
    # No matter of rights, but like those they never heal: transaction.max.timeout.ms below our 10 s, and a
    # broker that is too old.
    client.InvalidTransactionTimeout,
    client.IncompatibleBrokerVersion,
    client.UnsupportedVersionError,
)


def classify(error: BaseException, partitions: Sequence[TopicPartition] = (), what: str = "") -> LogError:
    """The lane's view of `error`, which came up in `what` and concerns `partitions` (empty: not known).

    `CorruptRecordException` counts as doubt: on the way to the broker it means bytes changed by the network,
    which the next try will not repeat.
    """
    cause = root(error)
    if isinstance(cause, LogError):
        return cause
    where = f" [{', '.join(f'{tp.topic}[{tp.partition}]' for tp in partitions)}]" if partitions else ""
    message = f"{what or 'the call'}{where} failed: {describe(cause)}"
    if isinstance(cause, _REFUSED):
        return RecordRefused(message, partitions)
    if isinstance(cause, _NOT_PERMITTED):
        return NotPermitted(message)
    if isinstance(cause, _LOST):
        return LaneLost(message)
    return LogDoubt(message)


def worst(errors: Sequence[LogError]) -> LogError:
    """What many failures come to: without the right to write, or fenced, the records do not matter."""
    for kind in (NotPermitted, LaneLost):
        for error in errors:
            if isinstance(error, kind):
                return error
    refused = [error for error in errors if isinstance(error, RecordRefused) and error.partitions]
    if refused:
        partitions = dict.fromkeys(tp for error in refused for tp in error.partitions)
        return RecordRefused("; ".join(dict.fromkeys(map(str, refused))), list(partitions))
    return errors[0]


def root(error: BaseException) -> BaseException:
    """The error behind the library's wrappers."""
    while True:
        if isinstance(error, SenderFailed):
            error = error.cause
        elif isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif type(error) is client.KafkaError and error.__cause__ is not None:
            # "Unexpected error during batch delivery" and its like.
            error = error.__cause__
        else:
            return error


def describe(error: BaseException) -> str:
    """One line: the protocol's name of the error, its text, and its details if there are any."""
    name = getattr(error, "message", None) or type(error).__name__
    text = getattr(error, "description", None)
    details = "; ".join(str(each) for each in error.args if each)
    return f"{name}: " + " ".join(part for part in (text, details) if part) if text or details else str(name)
