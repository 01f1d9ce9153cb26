"""What brokers tell of topics, unpacked once for all clients that are told the same.

Each lane has clients of its own, and an answer names every partition of a topic: of the million that a
thousand lanes are told, each needs a few. To unpack and to keep them took two fifths of the CPU time in which
so many lanes start, and half of their memory.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from aiokafka.cluster import ClusterMetadata
from aiokafka.protocol.api import Request
from aiokafka.protocol.metadata import MetadataRequest_v5, MetadataResponse_v5

_KEPT = 16
"""Answers that are kept: the clients of a flow ask for a few sets of topics."""


class _Packed(MetadataResponse_v5):
    @classmethod
    def decode(cls, data: Any) -> Any:
        return data.read()


class _PackedRequest(MetadataRequest_v5):
    RESPONSE_TYPE = _Packed


class TopicsRequest(Request[_PackedRequest]):
    """Asks for brokers and topics; nothing is created by asking. The answer are bytes, for `adopt`."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str] | None) -> None:
        self._topics = sorted(topics or ())  # so that equal questions have equal answers

    def build(self, request_struct_class: type[_PackedRequest]) -> _PackedRequest:
        """The request as it goes over the wire."""
        return request_struct_class(self._topics, False)


def adopt(cluster: Any, answer: bytes) -> bool:
    """Let a client know what an answer says; False if it names no broker: that one has only just started."""
    found = _unpacked(answer)
    if found is None:
        return False
    # All of these are replaced by the library, too, and never changed.
    cluster._brokers, cluster.controller = found._brokers, found.controller
    cluster._partitions, cluster._broker_partitions = found._partitions, found._broker_partitions
    cluster.unauthorized_topics = found.unauthorized_topics
    cluster.internal_topics = found.internal_topics
    for listener in cluster._listeners:
        listener(cluster)
    return True


@lru_cache(_KEPT)
def _unpacked(answer: bytes) -> Any:
    response: Any = MetadataResponse_v5.decode(io.BytesIO(answer))
    if not response.brokers:
        return None
    found: Any = ClusterMetadata()
    found.update_metadata(response)
    return found
