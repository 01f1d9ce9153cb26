"""Addresses of engines as they are given and told."""

from __future__ import annotations

import pytest

from reflow_kafka.engine.address import Address, host_of
from reflow_kafka.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        ("0", "127.0.0.1", 0),
        ("localhost:80", "localhost", 80),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("[::1]:8080", "::1", 8080),
        ("engine-1.example:1", "engine-1.example", 1),
    ],
)
def test_an_address_is_read_and_written(text: str, host: str, port: int) -> None:
    address = Address.read(text, "http")
    assert (address.host, address.port) == (host, port)
    assert Address.read(str(address), "http") == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":8080", "host", "host:", "host:65536", "host:-1", "::1", "[::1]", "[host]:1"),
        *("a:b:1", "h:²", "a b:1", "a\n:1", "http://a:1", "a/b:1", "me@a:1", "[]:1", "[[::1]]:1"),
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="wanted HOST:PORT or PORT"):
        Address.read(text, "http")


@pytest.mark.parametrize(
    ("host", "loopback", "wildcard"),
    [
        ("127.0.0.1", True, False),
        ("127.8.8.8", True, False),
        ("localhost", True, False),
        ("::1", True, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("10.0.0.1", False, False),
        ("engine", False, False),
    ],
)
def test_what_kind_it_is(host: str, loopback: bool, wildcard: bool) -> None:
    address = Address(host, 1)
    assert (address.is_loopback, address.is_wildcard) == (loopback, wildcard)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:8080", "localhost"),
        ("LocalHost", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8080", "::1"),
        ("[::1]", "::1"),
        ("", ""),
    ],
)
def test_the_host_of_a_header(header: str, host: str) -> None:
    assert host_of(header) == host
