"""The check of the library's private parts."""

from __future__ import annotations

import aiokafka
import pytest
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.producer.sender import Sender

from reflow_kafka.errors import ReflowError
from reflow_kafka.log.kafka.private_api import check_private_api


def test_the_installed_version_is_known() -> None:
    check_private_api()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka, "__version__", "0.15.0")
    with pytest.raises(ReflowError, match=r"aiokafka 0\.15\.0 is installed, .* needs 0\.14: install"):
        check_private_api()


def test_a_missing_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Sender, "_do_txn_commit")
    with pytest.raises(ReflowError, match=r"lacks Sender\._do_txn_commit"):
        check_private_api()


def test_a_missing_attribute_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: object) -> None:
        pass

    monkeypatch.setattr(MessageBatch, "__init__", init)
    with pytest.raises(ReflowError, match=r"lacks MessageBatch\._drain_waiter"):
        check_private_api()
