"""How the transactions stand that a broker coordinates: ListTransactions, which no client here speaks."""

from __future__ import annotations

import socket
import struct
from io import BytesIO

_LIST_TRANSACTIONS = 66
_SECONDS = 10.0

ENDED = {"Empty", "CompleteCommit", "CompleteAbort", "Dead"}
"""States in which nobody waits for a transaction."""


def transactions(address: str) -> dict[str, str]:
    """Transactional id → state, of those whose coordinator is at this address."""
    # Key, version 0, correlation, no client id, tags; two empty lists of filters, tags.
    request = struct.pack(">hhihb bbb", _LIST_TRANSACTIONS, 0, 1, -1, 0, 1, 1, 0)
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), _SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answers:
            (size,) = struct.unpack(">i", answers.read(4))
            return _parse(BytesIO(answers.read(size)))


def _parse(answer: BytesIO) -> dict[str, str]:
    correlation, _tags, _throttled, error = struct.unpack(">ibih", answer.read(11))
    assert (correlation, error) == (1, 0), f"ListTransactions: error {error}"
    for _ in range(_number(answer) - 1):  # filters that the broker does not know: none were sent
        _text(answer)
    found = {}
    for _ in range(_number(answer) - 1):
        name = _text(answer)
        answer.read(8)  # the producer's id
        found[name] = _text(answer)
        _number(answer)  # tags
    return found


def _text(answer: BytesIO) -> str:
    return answer.read(_number(answer) - 1).decode()


def _number(answer: BytesIO) -> int:
    """Seven bits at a time, the lowest first."""
    value = shift = 0
    while True:
        (byte,) = answer.read(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
