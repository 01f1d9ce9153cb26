"""`Security` made ready for the client: certificates, tokens, and messages without secrets."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import SaslAuthenticateRequest_v0, SaslAuthenticateResponse_v0

from reflow_kafka.errors import UsageError
from reflow_kafka.log.kafka import secure
from reflow_kafka.log.kafka.diagnosis import silence
from reflow_kafka.log.kafka.secure import client_options
from reflow_kafka.security import Security
from tests.support.secure import Certificates

LOGIN: dict[str, Any] = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "alice"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.issue("client", "client", password="hunter2")
    made.issue("another", "client")
    return made


def test_without_it_nothing_is_set() -> None:
    assert client_options(None) == {}


def test_secrets_are_resolved_when_a_connection_is_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    security = Security(**LOGIN, password="${secret.kafka}")
    with pytest.raises(UsageError, match=r"\$\{secret.kafka\}: neither"):
        client_options(security)
    monkeypatch.setenv("REFLOW_SECRET_kafka", "hunter2")
    assert client_options(security)["sasl_plain_password"] == "hunter2"
    (tmp_path / "pw").write_text("from a file\n")
    assert client_options(Security(**LOGIN, password=tmp_path / "pw"))["sasl_plain_password"] == "from a file"


def test_certificates_are_checked_unless_told_otherwise(certificates: Certificates) -> None:
    context = client_options(Security(protocol="SSL", ca=certificates.ca))["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    loose = client_options(Security(protocol="SSL", check_hostname=False))["ssl_context"]
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ca": "nowhere.pem"}, "ca: nowhere.pem cannot be read: No such file"),
        ({"ca": "another-key"}, "found no certificate in .*, wanted ca to be a PEM file"),
        ({"certificate": "client.pem"}, "the key in .*client.pem is encrypted: give its key_password"),
        ({"certificate": "client.pem", "key_password": "wrong"}, "is key_password right"),
        ({"certificate": "ca.pem"}, "found no certificate in .*ca.pem with its key in the same file"),
        (
            {"certificate": "another.pem", "key": "client.pem", "key_password": "hunter2"},
            "the key in .*client.pem does not belong to the certificate in .*another.pem",
        ),
        ({"certificate": ""}, "found an empty certificate"),
    ],
)
def test_files_that_will_not_do(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(certificates.ca.parent)
    Path("another-key").write_text("no certificate")
    with pytest.raises(UsageError, match=message) as refused:
        client_options(Security(protocol="SSL", **given))  # type: ignore[arg-type]
    assert "hunter2" not in str(refused.value)


def test_a_key_with_a_password(certificates: Certificates) -> None:
    file = certificates.ca.parent / "client.pem"
    assert client_options(Security(protocol="SSL", certificate=file, key_password="hunter2"))["ssl_context"]


def test_kerberos_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=re.escape("pip install 'reflow-kafka[kerberos]'")):
        client_options(Security(protocol="SASL_SSL", mechanism="GSSAPI"))


def test_who_does_not_answer_may_be_the_kdc() -> None:
    assert "or from the KDC" in silence(Security(protocol="SASL_SSL", mechanism="GSSAPI"))


def provider(token: Any) -> Any:
    security = Security(protocol="SASL_SSL", mechanism="OAUTHBEARER", token=token)
    return client_options(security)["sasl_oauth_token_provider"]


async def test_tokens_come_from_functions_and_files(tmp_path: Path) -> None:
    async def later() -> str:
        return "later"

    numbers = iter("123")
    assert await provider(later).token() == "later"
    counting = provider(lambda: next(numbers))
    assert [await counting.token() for _ in range(3)] == ["1", "2", "3"]
    renewed = provider(tmp_path / "token")
    for text in ("old", "new"):
        (tmp_path / "token").write_text(f"{text}\n")
        assert await renewed.token() == text


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (lambda: 1 / 0, "no token for OAUTHBEARER: ZeroDivisionError"),
        (lambda: None, "found NoneType, wanted a token's text"),
        (lambda: "", "found an empty text"),
        (lambda: "hunter2\x01auth=", "with control characters"),
        (Path("nowhere"), "no token for OAUTHBEARER: UsageError: token: nowhere cannot be read"),
    ],
)
async def test_without_a_token_there_is_no_connection(token: Any, message: str) -> None:
    with pytest.raises(KafkaConnectionError, match=message) as failed:
        await provider(token).token()
    assert "hunter2" not in str(failed.value)


async def test_a_token_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    monkeypatch.setattr(secure, "TOKEN_TIMEOUT", 0.01)
    with pytest.raises(KafkaConnectionError, match=r"no token for OAUTHBEARER within 0\.01 s"):
        await provider(never).token()


def test_the_client_logs_no_log_in(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("aiokafka.conn")
    with caplog.at_level(logging.DEBUG, "aiokafka"):
        for message in (
            SaslAuthenticateRequest_v0(b"\0alice\0hunter2"),
            SaslAuthenticateResponse_v0(0, "", b"hunter2"),
        ):
            logger.debug("Request to %s:%d %d: %s", "broker", 9093, 1, message)
    assert "hunter2" not in caplog.text
    assert "SaslAuthenticateRequest_v0(…)" in caplog.text
