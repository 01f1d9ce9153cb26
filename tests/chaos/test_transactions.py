"""A transaction that somebody left open is seen by those who judge a campaign."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from tests.chaos.transactions import ENDED, transactions
from tests.support.kafka import DEADLINE, create_topics
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_an_open_transaction_is_seen_until_it_ends(kafka_bootstrap: str, unique: str) -> None:
    create_topics(kafka_bootstrap, [unique], 1)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": unique})
    producer.init_transactions(DEADLINE)
    assert transactions(kafka_bootstrap)[unique] in ENDED
    producer.begin_transaction()
    producer.produce(unique, b"value")
    producer.flush(DEADLINE)
    assert transactions(kafka_bootstrap)[unique] == "Ongoing"
    producer.commit_transaction(DEADLINE)
    wait_until(lambda: transactions(kafka_bootstrap)[unique] == "CompleteCommit", 10, "the end is written")
