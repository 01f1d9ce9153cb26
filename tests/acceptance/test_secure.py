"""Every connection over TLS and with a log-in, and what is said if a broker cannot be reached like that."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reflow_connectors.kafka import KafkaSink, KafkaSource
from reflow_kafka import BrokerUnavailable, Client, Engine, Event, Security
from reflow_kafka.errors import NotPermitted
from reflow_kafka.log.api import MemberOptions
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.kafka.membership import KafkaMembership
from reflow_kafka.log.kafka.secure import client_options
from tests.client.flows import Bill, Order, shop
from tests.connectors.contract import context
from tests.support.kafka import create_topics, read_committed
from tests.support.secure import PASSWORD, USER, SecureBroker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(200)]  # the first test waits for brokers to start

COPY = """\
from reflow_kafka import Flow

flow = Flow("{name}", partitions=2)
numbers = flow.source("numbers", topic="{name}-numbers", key="n")

@flow.stage(after=numbers)
def twice(number: dict) -> dict:
    return {{"n": 2 * number["n"]}}

flow.sink("doubles", after=twice, topic="{name}-doubles")
"""


@pytest.fixture(scope="module")
def broker(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A broker of its own; the shared fixture decides whether brokers are to be had here at all."""
    with SecureBroker(tmp_path_factory.mktemp("secure")) as running:
        yield running


def login(broker: SecureBroker, **instead: Any) -> Security:
    usual = {"protocol": "SASL_SSL", "ca": broker.certificates.ca, "mechanism": "SCRAM-SHA-512"}
    return Security(**{**usual, "username": USER, "password": PASSWORD, **instead})


def tls(broker: SecureBroker, **more: Any) -> Security:
    return Security(**{"protocol": "SSL", "ca": broker.certificates.ca, **more})


def token(lifetime: float = 3600) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    now = time.time()
    return f"{part({'alg': 'none'})}.{part({'sub': USER, 'iat': now - 60, 'exp': now + lifetime})}."


def bearer(broker: SecureBroker, lifetime: float = 3600) -> Security:
    how: dict[str, Any] = {"mechanism": "OAUTHBEARER", "username": None, "password": None}
    return login(broker, **how, token=lambda: token(lifetime))


async def test_a_flow_and_its_client(
    broker: SecureBroker, unique: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two engines share the lanes, each request counts once; in all that was logged there is no password."""
    caplog.set_level(logging.DEBUG)
    flow, where, security = shop(unique, f"{unique}-orders"), broker.address("LOGIN"), login(broker)
    create_topics(broker.bootstrap, [f"{unique}-orders", f"{unique}-orders-bills"], partitions=4)
    engines = [Engine(flow, bootstrap=where, security=security, data_dir=tmp_path / str(n)) for n in range(2)]
    async with asyncio.timeout(80), engines[0], engines[1], Client(flow, where, security=security) as client:
        while sorted(engine.statistics().flows[unique].assigned for engine in engines) != [2, 2]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # who has which lane is nothing that can be awaited
        bills: list[Bill] = await asyncio.gather(
            *(client.request("orders", Order(f"item {n % 8}"), timeout=60) for n in range(80))
        )
    assert sorted((bill.item, bill.nth) for bill in bills) == [
        (f"item {n}", nth) for n in range(8) for nth in range(1, 11)
    ]
    assert PASSWORD not in caplog.text
    assert base64.b64encode(PASSWORD.encode()).decode() not in caplog.text


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER", "a certificate", "TLS alone"])
async def test_other_ways_in(broker: SecureBroker, mechanism: str) -> None:
    certificate = broker.certificates.issue("client", "client", password="pw")
    listener, security = {
        "OAUTHBEARER": ("LOGIN", bearer(broker)),
        "a certificate": ("MUTUAL", tls(broker, certificate=certificate, key_password="pw")),
        "TLS alone": ("TLS", tls(broker)),
    }.get(mechanism) or ("LOGIN", login(broker, mechanism=mechanism))
    log = KafkaLog(broker.address(listener), security=security)
    await log.start()
    assert await log.partition_counts(["nothing"]) == {"nothing": None}
    await log.stop()


REFUSED = {
    "wrong password": ("LOGIN", lambda b: login(b, password="hunter2"), "does not let user 'alice' in"),
    "expired token": ("LOGIN", lambda b: bearer(b, -120), "this client in by OAUTHBEARER: .* the token"),
    "mechanism": ("CLEAR", lambda b: login(b, protocol="SASL_PLAINTEXT", ca=None), "does not take mechanism"),
    "other authority": ("TLS", lambda b: tls(b, ca=b.certificates.other_ca), "not signed by .*other-ca.pem"),
    "system's authorities": ("TLS", lambda b: tls(b, ca=None), "one of the system's authorities: .*give ca"),
    "expired certificate": ("EXPIRED", tls, "certificate has expired; the broker needs a new one"),
    "other host": ("OTHER", tls, "is for another name: .*127.0.0.1"),
    "no certificate": ("MUTUAL", tls, "refuses the client, which has no certificate|want .* a certificate"),
    "no TLS": ("TLS", lambda b: None, "speaks TLS, and security.protocol is PLAINTEXT: make it SSL"),
    "no log-in": ("LOGIN", tls, "does the listener want a log-in"),
    "log-in not wanted": ("TLS", login, "wants no log-in, and security.protocol is SASL_SSL: make it SSL"),
    "TLS not wanted": ("PLAIN", tls, "is it a listener with TLS"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_keeps_a_client_out_is_named(broker: SecureBroker, what: str) -> None:
    listener, make, message = REFUSED[what]
    where = broker.bootstrap if listener == "PLAIN" else broker.address(listener)
    log = KafkaLog(where, security=make(broker), deadline=2)
    with pytest.raises(BrokerUnavailable, match=message) as refused:
        await log.start()
    assert where in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_a_member_that_is_not_let_in_says_so_at_once(broker: SecureBroker, unique: str) -> None:
    """An engine's start has found out before; this is what becomes of a password that is changed later."""
    options = MemberOptions(flow=unique, lanes=1, plan="p", started=1, instance=None)
    wrong = client_options(login(broker, password="hunter2"))
    member = KafkaMembership(broker.address("LOGIN"), options, client_options=wrong)
    with pytest.raises(NotPermitted, match="invalid credentials") as refused:
        async with asyncio.timeout(10):
            await member.start()
    assert "hunter2" not in str(refused.value)


async def test_connectors(broker: SecureBroker, unique: str) -> None:
    create_topics(broker.bootstrap, [unique], partitions=1)
    sink = KafkaSink(unique, bootstrap=broker.address("LOGIN"), security=login(broker))
    writer = await sink.open(context())
    await writer.write([Event({"n": 1})])
    await writer.flush()
    await writer.close()
    source = KafkaSource(unique, bootstrap=broker.address("LOGIN"), security=login(broker), until_end=True)
    assert await source.parts() == ["0"]
    reader = await source.open("0", None, context())
    assert [event.value for event in await reader.read(1) or ()] == [{"n": 1}]
    await reader.close()
    wrong = KafkaSource(unique, bootstrap=broker.address("LOGIN"), security=login(broker, password="hunter2"))
    with pytest.raises(ConnectionError, match="does not let user 'alice' in") as refused:
        await wrong.parts()
    assert "hunter2" not in str(refused.value)


def run(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("REFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "reflow_kafka", *args],
        cwd=folder,
        env={**outside, **env},
        input='{"n": 1}\n{"n": 2}\n',
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_command_line(broker: SecureBroker, unique: str, tmp_path: Path) -> None:
    """Address, certificate, user and password from the environment; the worker logs all it can."""
    (tmp_path / "copying.py").write_text(COPY.format(name=unique))
    create_topics(broker.bootstrap, [f"{unique}-numbers", f"{unique}-doubles"], partitions=2)
    variables = {
        "REFLOW_BOOTSTRAP": broker.address("LOGIN"),
        "REFLOW_SECURITY_PROTOCOL": "SASL_SSL",
        "REFLOW_SSL_CA_LOCATION": str(broker.certificates.ca),
        "REFLOW_SASL_MECHANISM": "PLAIN",
        "REFLOW_SASL_USERNAME": USER,
        "REFLOW_SASL_PASSWORD": PASSWORD,
    }
    produced = run(tmp_path, "produce", f"{unique}-numbers", "--key", "n", **variables)
    assert produced.returncode == 0, produced.stderr
    worked = run(tmp_path, "worker", "copying.py", "--until-end", "--log-level", "DEBUG", **variables)
    assert worked.returncode == 0, worked.stderr
    assert "SaslAuthenticateRequest" in worked.stderr
    assert PASSWORD not in worked.stderr
    found = [
        json.loads(message.value())["n"] for message in read_committed(broker.bootstrap, f"{unique}-doubles")
    ]
    assert sorted(found) == [2, 4]

    wrong = run(tmp_path, "worker", "copying.py", **{**variables, "REFLOW_SASL_PASSWORD": "hunter2"})
    assert wrong.returncode == 3
    last = wrong.stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot connect to Kafka: the broker at {broker.address('LOGIN')}")
    assert last.endswith("check username and password")
    assert "hunter2" not in wrong.stderr
