"""The broker for development and tests: it answers, keeps what it should, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from reflow_kafka import devbroker
from reflow_kafka.cli.dev_broker import dev_broker
from reflow_kafka.devbroker import DevBroker, answers
from reflow_kafka.errors import ReflowError
from tests.support.kafka import read_committed
from tests.support.processes import alive
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def broker(kafka_bootstrap: str) -> Iterator[DevBroker]:
    """A broker of its own; the shared fixture decides whether brokers are to be had here at all."""
    with DevBroker() as running:
        yield running


def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    return [message.value() for message in read_committed(bootstrap, topic, count)]


@pytest.mark.kafka
def test_serves_other_clients(broker: DevBroker, unique: str) -> None:
    produce(broker.bootstrap, unique, b"one", b"two")
    assert consume(broker.bootstrap, unique, 2) == [b"one", b"two"]


@pytest.mark.kafka
def test_restart_keeps_address_and_data(broker: DevBroker, unique: str) -> None:
    before, pid = broker.bootstrap, broker.pid
    produce(before, unique, b"kept")
    broker.restart()
    assert broker.bootstrap == before
    assert broker.pid != pid
    assert consume(before, unique, 1) == [b"kept"]


@pytest.mark.kafka
def test_stop_leaves_nothing(kafka_bootstrap: str) -> None:
    with DevBroker(properties={"num.partitions": "3"}) as broker:
        pid, folder = broker.pid, broker.data_dir
        assert "num.partitions=3\n" in (folder / "server.properties").read_text()
    wait_until(lambda: not alive(pid), 10, "the broker to end")
    assert not folder.exists()
    assert not broker.running
    with pytest.raises(ReflowError, match="not running"):
        _ = broker.pid


@pytest.mark.kafka
def test_a_given_data_dir_is_continued(kafka_bootstrap: str, tmp_path: Path, unique: str) -> None:
    with DevBroker(data_dir=tmp_path) as first:
        produce(first.bootstrap, unique, b"kept")
    with DevBroker(data_dir=tmp_path) as second:
        assert consume(second.bootstrap, unique, 1) == [b"kept"]


@pytest.mark.kafka
def test_dies_with_its_killed_parent(kafka_bootstrap: str) -> None:
    program = (
        "import time; from reflow_kafka.devbroker import DevBroker\n"
        "with DevBroker() as b: print(b.pid, b.data_dir, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        parent.kill()
    wait_until(lambda: not alive(int(pid)), 10, "the broker to end")
    wait_until(lambda: not Path(folder).exists(), 10, "its folder to go")


@pytest.mark.kafka
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_command_runs_until_told_to_end(kafka_bootstrap: str, end: signal.Signals) -> None:
    port = devbroker.free_port()
    program = f"from reflow_kafka.cli.dev_broker import dev_broker; dev_broker(['--port', '{port}'])"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline().strip() == f"127.0.0.1:{port}"
        assert answers("127.0.0.1", port)
        command.send_signal(end)
        assert command.wait(20) == 0
    assert not answers("127.0.0.1", port)


@pytest.mark.kafka
def test_a_taken_port_is_named(broker: DevBroker) -> None:
    port = broker.bootstrap.rsplit(":", 1)[1]
    result = CliRunner().invoke(dev_broker, ["--port", port])
    assert result.exit_code == 1
    assert f"port {port} is in use" in result.output


@pytest.mark.kafka
def test_a_data_dir_that_cannot_be_used_is_named(kafka_bootstrap: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReflowError, match=r"cannot be started in .*file/below: .*Not a directory"):
        DevBroker(data_dir=tmp_path / "file" / "below").start()


def test_nobody_there_is_no_answer() -> None:
    assert not answers("127.0.0.1", devbroker.free_port(), timeout=0.5)


def test_missing_java_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ReflowError, match="no java was found, Kafka needs Java 17 or newer: install it"):
        DevBroker().start()


def test_old_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ReflowError, match="is Java 8, Kafka needs Java 17"):
        devbroker.find_java()


def test_missing_maven_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReflowError, match="no mvn was found, it is needed once to fetch Kafka"):
        devbroker.kafka_libs()
    assert [p.name for p in (tmp_path / "reflow-kafka").iterdir() if p.is_dir()] == []


def test_a_failed_download_leaves_no_half_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho '[ERROR] no route to host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{maven.parent}{os.pathsep}/bin")
    with pytest.raises(ReflowError, match="no route to host"):
        devbroker.kafka_libs()
    assert [p.name for p in (tmp_path / "cache" / "reflow-kafka").iterdir() if p.is_dir()] == []
