"""`Security`: what fits together, what is refused, and that no secret is ever shown."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reflow_kafka import Client, Engine, Flow, Security, UsageError

LOGIN = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "username": "alice", "password": "hunter2"}


def token() -> str:
    return "hunter2"


@pytest.mark.parametrize(
    ("fields", "tls", "sasl"),
    [
        ({"protocol": "PLAINTEXT"}, False, False),
        ({"protocol": "SSL"}, True, False),
        (
            {"protocol": "SSL", "ca": "ca.pem", "certificate": "c.pem", "key_password": Path("pw")},
            True,
            False,
        ),
        (LOGIN, True, True),
        ({**LOGIN, "protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "password": Path("pw")}, False, True),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token": token}, True, True),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token": Path("token")}, True, True),
        ({"protocol": "SASL_SSL", "mechanism": "GSSAPI", "kerberos_service": "broker"}, True, True),
    ],
)
def test_what_fits_together(fields: dict[str, Any], tls: bool, sasl: bool) -> None:
    security = Security(**fields)
    assert (security.tls, security.sasl) == (tls, sasl)
    assert security == Security(**fields)
    assert "hunter2" not in repr(security)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"protocol": "TLS"}, "found protocol 'TLS', wanted one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({**LOGIN, "mechanism": "SCRAM"}, "found mechanism 'SCRAM', wanted one of PLAIN, SCRAM-SHA-256, "),
        (
            {"protocol": "PLAINTEXT", "ca": "ca.pem"},
            "found ca with protocol PLAINTEXT.* make it SSL, or leave it",
        ),
        (
            {**LOGIN, "protocol": "SASL_PLAINTEXT", "ca": "c", "key": "k"},
            "ca, key .* SASL_SSL, or leave them",
        ),
        ({"protocol": "SSL", "key": "k.pem"}, "found key without certificate"),
        (
            {**LOGIN, "protocol": "SSL"},
            "found mechanism, username, password with protocol SSL.* make it SASL_SSL",
        ),
        ({"protocol": "PLAINTEXT", "token": token}, "found token .* make it SASL_SSL or SASL_PLAINTEXT"),
        ({"protocol": "SASL_SSL"}, "found protocol SASL_SSL without mechanism, wanted one of PLAIN"),
        (
            {**LOGIN, "password": None},
            "found mechanism SCRAM-SHA-512 without password: it needs username and ",
        ),
        ({**LOGIN, "mechanism": "OAUTHBEARER"}, "found mechanism OAUTHBEARER without token"),
        (
            {**LOGIN, "mechanism": "GSSAPI"},
            "found username, password with mechanism GSSAPI, which takes none of",
        ),
        ({**LOGIN, "token": token}, "found token with mechanism SCRAM-SHA-512.* leave it out"),
        ({**LOGIN, "password": ""}, "found an empty password"),
        ({**LOGIN, "password": b"hunter2"}, "found password of type bytes, wanted text"),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token": "hunter2"}, "found token of type str"),
    ],
)
def test_what_does_not(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        Security(**fields)
    assert "hunter2" not in str(refused.value)


def test_it_shows_no_secret() -> None:
    assert repr(Security(**LOGIN)) == (  # type: ignore[arg-type]
        "Security(protocol='SASL_SSL', mechanism='SCRAM-SHA-512', username='alice', password='***')"
    )
    named = Security(**{**LOGIN, "password": "${secret.kafka}"})
    assert "password='${secret.kafka}'" in repr(named)
    bearer = {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER"}
    assert "token=token" in repr(Security(**bearer, token=token))  # type: ignore[arg-type]
    bound = partial(lambda secret: secret, "hunter2")
    assert "token=partial" in repr(Security(**bearer, token=bound))  # type: ignore[arg-type]
    assert "hunter2" not in repr(Security(**bearer, token=bound))  # type: ignore[arg-type]


def test_a_file_of_properties(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "# ours\nsecurity.protocol = sasl_ssl\nsasl.mechanisms=SCRAM-SHA-512\n\nsasl.username=alice\n"
        "sasl.password=a=b;#c\nssl.ca.location=/etc/ca.pem\nssl.endpoint.identification.algorithm=none\n"
    )
    found = Security.load(file)
    assert (found.protocol, found.mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (found.username, found.password, found.ca) == ("alice", "a=b;#c", "/etc/ca.pem")
    assert not found.check_hostname
    assert Security.load(file, username="bob").username == "bob"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sasl.username=alice\n", "found username but no security protocol"),
        ("security.protocol=SSL\nhunter2\n", r"client.properties:2: found no '='"),
        (
            "sasl.jaas.config=hunter2\n",
            ":1: found the property 'sasl.jaas.config': that is Java's, here it is sasl",
        ),
        ("batch.size=5\n", ":1: found the property 'batch.size': wanted one of security.protocol, "),
        ("security.protocol=SASL_SSL\n", "without mechanism"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_will_not_do(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "client.properties"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        Security.load(file)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("program", [Engine, Client])
def test_it_is_for_kafka_alone(program: Any) -> None:
    flow = Flow("copy", partitions=1)
    flow.sink("out", after=flow.source("in", topic="in"), topic="out")
    with pytest.raises(UsageError, match="wanted bootstrap with it") as refused:
        program(flow, security=Security(**LOGIN))  # type: ignore[arg-type]
    assert "hunter2" not in str(refused.value)
