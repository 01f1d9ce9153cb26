"""Log-ins by Kerberos: a KDC, a broker that asks for its tickets, and what is said if there are none."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reflow_connectors.kafka import KafkaSource
from reflow_kafka import BrokerUnavailable, Client, Engine, Flow, Security
from reflow_kafka.log.kafka.log import KafkaLog
from tests.client.flows import Bill, Order, shop
from tests.support.kafka import Input, create_topics, produce, read_committed
from tests.support.kerberos import HOST, Kdc, KerberosBroker, missing
from tests.support.waiting import until
from tests.test_docs import ROOT, blocks

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(200),  # the first test waits for brokers to start
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}; .ci/kerberos does it on Debian"),
]

COPY = """\
from reflow_kafka import Flow, State

flow = Flow("{name}", partitions=2)
numbers = flow.source("numbers", topic="{name}-numbers", key="n")

@flow.stage(after=numbers, state=int)
def nth(count: State[int], number: dict) -> dict:
    count.value += 1
    return {{"n": number["n"], "nth": count.value}}

flow.sink("counted", after=nth, topic="{name}-counted")
"""


@pytest.fixture(scope="module")
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    with Kdc(tmp_path_factory.mktemp("kdc")) as running:
        yield running


@pytest.fixture(scope="module")
def broker(
    kafka_bootstrap: str, kdc: Kdc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KerberosBroker]:
    """A broker of its own; the shared fixture decides whether brokers are to be had here at all."""
    with KerberosBroker(tmp_path_factory.mktemp("kerberos"), kdc) as running:
        yield running


@pytest.fixture(scope="module")
def keytab(kdc: Kdc) -> Path:
    """The keys of a client."""
    return kdc.keytab("alice")


@pytest.fixture
def cache(kdc: Kdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where this test has its tickets: none yet."""
    monkeypatch.delenv("KRB5_CLIENT_KTNAME", raising=False)
    monkeypatch.setenv("KRB5_CONFIG", kdc.env["KRB5_CONFIG"])
    monkeypatch.setenv("KRB5CCNAME", cache := f"FILE:{tmp_path / 'tickets'}")
    return cache


def security(broker: KerberosBroker, protocol: str = "SASL_SSL", service: str = "kafka") -> Security:
    ca = broker.certificates.ca if protocol == "SASL_SSL" else None
    return Security(protocol=protocol, mechanism="GSSAPI", ca=ca, kerberos_service=service)  # type: ignore[arg-type]


async def connect(broker: KerberosBroker, protocol: str = "SASL_SSL", service: str = "kafka") -> None:
    log = KafkaLog(broker.address(protocol), security=security(broker, protocol, service), deadline=4)
    await log.start()
    assert await log.partition_counts(["nothing"]) == {"nothing": None}
    await log.stop()


async def test_a_flow_and_its_client(
    broker: KerberosBroker, kdc: Kdc, keytab: Path, cache: str, unique: str, tmp_path: Path
) -> None:
    """Two engines share the lanes with the ticket of a `kinit`; each request counts once."""
    kdc.kinit("alice", keytab, cache)
    flow, where, how = shop(unique, f"{unique}-orders"), broker.address("SASL_SSL"), security(broker)
    create_topics(broker.bootstrap, [f"{unique}-orders", f"{unique}-orders-bills"], partitions=4)
    engines = [Engine(flow, bootstrap=where, security=how, data_dir=tmp_path / str(n)) for n in range(2)]
    async with asyncio.timeout(80), engines[0], engines[1], Client(flow, where, security=how) as client:
        await until(
            lambda: sorted(engine.statistics().flows[unique].assigned for engine in engines) == [2, 2],
            "each engine has two lanes",
        )
        bills: list[Bill] = await asyncio.gather(
            *(client.request("orders", Order(f"item {n % 8}"), timeout=60) for n in range(80))
        )
    assert sorted((bill.item, bill.nth) for bill in bills) == [
        (f"item {n}", nth) for n in range(8) for nth in range(1, 11)
    ]


async def test_without_tls(broker: KerberosBroker, kdc: Kdc, keytab: Path, cache: str) -> None:
    kdc.kinit("alice", keytab, cache)
    await connect(broker, "SASL_PLAINTEXT")


@pytest.mark.usefixtures("cache")
async def test_without_a_ticket(broker: KerberosBroker) -> None:
    where = broker.address("SASL_SSL")
    with pytest.raises(BrokerUnavailable, match=f"{where} .*: No Kerberos credentials .*check the ticket"):
        await connect(broker)
    wrong = KafkaSource("nothing", bootstrap=where, security=security(broker))
    with pytest.raises(ConnectionError, match="No Kerberos credentials"):
        await wrong.parts()


async def test_a_service_that_the_kdc_does_not_know(
    broker: KerberosBroker, kdc: Kdc, keytab: Path, cache: str
) -> None:
    kdc.kinit("alice", keytab, cache)
    with pytest.raises(BrokerUnavailable, match=r"Server other/localhost@.* not found in Kerberos database"):
        await connect(broker, service="other")


async def test_a_ticket_expires_and_that_of_a_keytab_is_renewed(
    broker: KerberosBroker, kdc: Kdc, keytab: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gssapi

    service = gssapi.Name(f"kafka@{HOST}", gssapi.NameType.hostbased_service)

    def expired() -> bool:
        try:
            gssapi.SecurityContext(name=service, usage="initiate").step()
        except gssapi.exceptions.GSSError as error:
            return "expired" in str(error)
        return False

    monkeypatch.setenv("KRB5_CONFIG", str(kdc.punctual))
    kdc.kinit("alice", keytab, cache, lifetime="2s")
    await until(expired, "the ticket expires")
    with pytest.raises(BrokerUnavailable, match=r"within 4 s .*Kerberos: Ticket expired\)"):
        await connect(broker)

    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(keytab))
    monkeypatch.setenv("KRB5CCNAME", f"{cache}-of-keytab")
    await connect(broker)
    monkeypatch.delenv("KRB5_CLIENT_KTNAME")
    await until(expired, "the ticket that came by the keytab expires")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(keytab))
    await connect(broker)


@pytest.mark.usefixtures("cache")
async def test_a_kdc_that_is_away_is_waited_for(
    broker: KerberosBroker, kdc: Kdc, keytab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like a broker that is away, and unlike a principal that is refused."""
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(keytab))
    with (
        away(kdc),
        pytest.raises(BrokerUnavailable, match=r"answered .* within 4 s .*contact any KDC [^()]*\)"),
    ):
        await connect(broker)
    await connect(broker)


async def test_a_running_engine_waits_for_it_too(
    broker: KerberosBroker,
    kdc: Kdc,
    keytab: Path,
    cache: str,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All its connections are cut, its tickets have expired, and there is nobody who issues others."""
    monkeypatch.setenv("KRB5_CONFIG", str(kdc.punctual))
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(keytab))
    caplog.set_level(logging.DEBUG, "reflow_kafka.log.kafka")
    flow, topic, copy = Flow(unique, partitions=1), f"{unique}-numbers", f"{unique}-copy"
    flow.sink("copy", after=flow.source("numbers", topic=topic, key="n"), topic=copy)
    create_topics(broker.bootstrap, [topic, copy], partitions=1)
    where, how = broker.address("SASL_SSL"), security(broker)
    async with asyncio.timeout(150), Engine(flow, bootstrap=where, security=how, data_dir=tmp_path):
        produce(broker.bootstrap, topic, [Input("1", {"n": 1})])
        assert len(await asyncio.to_thread(read_committed, broker.bootstrap, copy, 1)) == 1
        with away(kdc):
            await asyncio.to_thread(broker.restart)
            caplog.clear()
            await until(lambda: "Kerberos: Ticket expired" in caplog.text, "it wants a ticket")
        produce(broker.bootstrap, topic, [Input("2", {"n": 2})])
        assert len(await asyncio.to_thread(read_committed, broker.bootstrap, copy, 2)) == 2


@contextmanager
def away(kdc: Kdc) -> Iterator[None]:
    kdc.stop()
    try:
        yield
    finally:
        kdc.start()


def run(folder: Path, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("REFLOW_", "KRB5"))}
    return subprocess.run(
        command,
        cwd=folder,
        env={**outside, **env},
        input="".join(f'{{"n": {n % 5}}}\n' for n in range(50)),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_command_line(
    broker: KerberosBroker, kdc: Kdc, keytab: Path, unique: str, tmp_path: Path
) -> None:
    """The commands of `docs/security.md`, with the names that things have here; then with a wrong keytab."""
    (tmp_path / "weather.py").write_text(COPY.format(name=unique))
    create_topics(broker.bootstrap, [f"{unique}-numbers", f"{unique}-counted"], partitions=2)
    script = next(block.text for block in blocks(ROOT / "docs" / "security.md") if "KRB5" in block.text)
    for there, here in {
        "broker.example.com:9093": broker.address("SASL_SSL"),
        "/etc/kafka/ca.pem": str(broker.certificates.ca),
        "/etc/kafka/weather.keytab": str(keytab),
    }.items():
        assert there in script
        script = script.replace(there, here)
    settings, _, command = script.rpartition("reflow-kafka ")
    assert command == "worker weather.py\n"
    reflow = f"{settings}\nexec {sys.executable} -m reflow_kafka"

    produced = run(tmp_path, ["sh", "-euc", f"{reflow} produce {unique}-numbers --key n"], **kdc.env)
    assert produced.returncode == 0, produced.stderr
    worked = run(tmp_path, ["sh", "-euc", f"{reflow} {command.strip()} --until-end"], **kdc.env)
    assert worked.returncode == 0, worked.stderr
    found = Counter(
        tuple(json.loads(m.value()).values()) for m in read_committed(broker.bootstrap, f"{unique}-counted")
    )
    assert found == {(n, nth): 1 for n in range(5) for nth in range(1, 11)}

    stranger = kdc.keytab("mallory")
    kdc.forget("mallory")
    for keys, why in (
        (stranger, "Client 'mallory@REFLOW.TEST' not found"),
        (tmp_path / "none", "No Kerberos credentials"),
    ):
        refused = run(
            tmp_path, ["sh", "-euc", f"{reflow} worker weather.py".replace(str(keytab), str(keys))], **kdc.env
        )
        assert refused.returncode == 3, refused.stderr
        assert "Traceback" not in refused.stderr
        last = refused.stderr.splitlines()[-1]
        assert why in last
        assert last.startswith(f"error: cannot connect to Kafka: the broker at {broker.address('SASL_SSL')}")
        assert last.endswith("check the ticket (klist), or the keytab that KRB5_CLIENT_KTNAME names")
