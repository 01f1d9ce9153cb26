"""Queries to workers on a real broker: any of them is asked, one is killed, and every answer is right."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest

from reflow_kafka.devbroker import free_port
from tests.support.kafka import Input, create_topics, produce
from tests.support.settings import seeded
from tests.support.waiting import wait_until
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

WORDS = [f"{letter}/{number}" for letter in "äbc" for number in range(20)]


def ask(port: int, word: str) -> int | None:
    """How often an engine says that the word came; None while it cannot tell, and says so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/state/count/{quote(word, safe='')}")
        response = connection.getresponse()
        body = json.loads(response.read())
    except ConnectionRefusedError:  # it is starting
        return None
    finally:
        connection.close()
    if response.status == 503:
        assert response.getheader("Retry-After") == "1"
        return None
    assert response.status in (200, 404), body
    assert body["key"] == word
    return body["value"] or 0


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_every_engine_answers_and_one_that_was_killed_is_replaced(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    chance = seeded()
    create_topics(kafka_bootstrap, [f"{unique}-lines", f"{unique}-totals"])
    lines = [Input(f"line-{n}", {"text": " ".join(chance.choices(WORDS, k=5))}) for n in range(500)]
    counts = Counter(word for line in lines for word in line.value["text"].split())
    produce(kafka_bootstrap, f"{unique}-lines", lines)

    def right(port: int) -> bool:
        return all(ask(port, word) == counts[word] for word in WORDS)

    ports = [free_port() for _ in range(3)]
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        for port in ports[:2]:
            workers.start("letters", "--http", str(port))
        wait_until(lambda: min(workers.shares()) == 4, 60, "four lanes each")
        for port in ports[:2]:
            wait_until(lambda port=port: right(port), 60, f"all counts at {port}")
        workers.all[0].kill()
        wait_until(lambda: right(ports[1]), 60, "all counts after a kill")
        workers.start("letters", "--http", str(ports[2]))
        wait_until(lambda: workers.shares() == [4, 4], 60, "four lanes each, again")
        for port in ports[1:]:
            wait_until(lambda port=port: right(port), 60, f"all counts at {port}, again")


def test_the_engines_of_a_supervisor_have_ports_one_after_the_other(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    create_topics(kafka_bootstrap, [f"{unique}-lines", f"{unique}-totals"])
    produce(kafka_bootstrap, f"{unique}-lines", [Input("line", {"text": " ".join(WORDS)})])
    first = next(port for port in iter(free_port, None) if is_free(port + 1))
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        workers.start("letters", "--engines", "2", "--http", str(first))
        for port in (first, first + 1):
            wait_until(
                lambda port=port: all(ask(port, word) == 1 for word in WORDS), 60, f"answers at {port}"
            )
