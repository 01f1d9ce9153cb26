"""Where an engine listens, and where others find it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self

from reflow_kafka.errors import UsageError

_HOST = re.compile(r"[^\s/?#@\[\]]+")
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0 is any that is free."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str, what: str) -> Self:
        """``HOST:PORT``, ``[IPV6]:PORT``; ``PORT`` alone is one of this machine only.

        Raises:
            UsageError: it is none of these; the message names `what` it was given for.
        """
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        bracketed = host == f"[{bare}]"
        known = (_HOST.fullmatch(bare) and bracketed == (":" in bare)) or not colon
        if not (known and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65_536):
            raise UsageError(
                f"found {what}={text!r}, wanted HOST:PORT or PORT, such as 8080 (this machine only) or "
                "0.0.0.0:8080 (every interface)"
            )
        return cls(bare or LOOPBACK, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether it can be reached from this machine only."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether it is every interface: then it tells nobody where to go."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def host_of(header: str) -> str:
    """The host that a ``Host`` header names."""
    host = header.rpartition(":")[0] if not header.endswith("]") and ":" in header else header
    return host.removeprefix("[").removesuffix("]").lower()
