"""Ports of this machine, and whether a broker answers at one."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import suppress

from reflow_kafka.errors import ReflowError

HOST = "127.0.0.1"


def answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a Kafka broker there answers a metadata request and knows at least one broker, itself."""
    # Metadata v4: key, version, correlation id, no client id; an empty list of topics, no auto-creation.
    request = struct.pack(">hhih ib", 3, 4, 1, -1, 0, 0)
    with suppress(OSError, struct.error), socket.create_connection((host, port), timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(struct.pack(">i", len(request)) + request)
        head = b""
        while len(head) < 16 and (part := connection.recv(16 - len(head))):
            head += part
        _size, correlation, _throttle, brokers = struct.unpack(">iiii", head)
        return bool(correlation == 1 and brokers > 0)
    return False


def free_port(other_than: int | None = None) -> int:
    """A port on which nobody listens."""
    # Below the range that systems hand to outgoing connections: while the broker is away, a client that keeps
    # trying must not be given the broker's own port.
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        if port != other_than and is_free(port):
            return port
    raise ReflowError(f"no free port was found on {HOST} between 20000 and 32000")


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
