"""Requests with batches, as they are written."""

from __future__ import annotations

import pytest
from aiokafka.protocol.produce import ProduceRequest

from reflow_kafka.log.kafka.connection import pieces_of

BATCHES = [bytearray(b"first"), bytearray(b"second"), bytearray()]


@pytest.mark.parametrize("version", range(3, 8))
def test_a_request_is_what_the_library_writes_and_batches_are_not_copied(version: int) -> None:
    topics = [("one", [(0, BATCHES[0]), (7, BATCHES[1])]), ("two", [(3, BATCHES[2])])]
    request = ProduceRequest(
        transactional_id="f-lane-0",
        required_acks=-1,
        timeout=1000,
        topics=topics,  # type: ignore[arg-type]
    )
    struct = request.prepare({ProduceRequest.API_KEY: (version, version)})
    pieces = list(pieces_of(struct))
    assert b"".join(pieces) == struct.encode()
    assert [id(piece) for piece in pieces if type(piece) is bytearray] == [id(batch) for batch in BATCHES]
