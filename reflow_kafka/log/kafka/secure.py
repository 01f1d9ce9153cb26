"""`Security` as aiokafka wants it: an SSL context, a log-in, a provider of tokens.

aiokafka logs every request that it sends, at level DEBUG, and so the password of a log-in by PLAIN or the
token of one by OAUTHBEARER. A filter on its logger leaves the content of those requests and answers out.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from reflow_kafka.errors import UsageError
from reflow_kafka.secrets import resolve, reveal
from reflow_kafka.security import Security, Token

logger = logging.getLogger("reflow_kafka.log.kafka")

TOKEN_TIMEOUT: Final = 10.0
"""Seconds in which a token must be there."""


def client_options(security: Security | None) -> dict[str, Any]:
    """Options for every connection of an aiokafka client; certificates and secrets are read now.

    Raises:
        UsageError: a file or secret that cannot be had, or that is not what it should be.
    """
    if security is None:
        return {}
    options: dict[str, Any] = {"security_protocol": security.protocol}
    if security.tls:
        options["ssl_context"] = _context(security)
    if security.sasl:
        options |= _login(security)
    if security.protocol == "SASL_PLAINTEXT" and security.mechanism in ("PLAIN", "OAUTHBEARER"):
        logger.warning(
            "%s without TLS: whoever sees the network sees the %s; use SASL_SSL",
            security.mechanism,
            "password" if security.mechanism == "PLAIN" else "token",
        )
    return options


def _login(security: Security) -> dict[str, Any]:
    options: dict[str, Any] = {"sasl_mechanism": security.mechanism}
    if security.username is not None and security.password is not None:
        options["sasl_plain_username"] = resolve(security.username)
        options["sasl_plain_password"] = reveal(security.password, "Security: password")
    if security.token is not None:
        options["sasl_oauth_token_provider"] = _Tokens(security.token)
    if security.mechanism == "GSSAPI":
        if find_spec("gssapi") is None:
            raise UsageError(
                "Security: mechanism GSSAPI needs the library gssapi: pip install 'reflow-kafka[kerberos]'"
            )
        options["sasl_kerberos_service_name"] = resolve(security.kerberos_service)
    return options


def _context(security: Security) -> ssl.SSLContext:
    context = ssl.create_default_context() if security.ca is None else _trusting(_path(security.ca))
    context.check_hostname = security.check_hostname
    if security.certificate is None:
        return context
    certificate = _path(security.certificate)
    key = None if security.key is None else _path(security.key)
    for name, file in (("certificate", certificate), ("key", key)):
        if file is not None:
            _check_readable(name, file)
    secret = security.key_password

    def password() -> str:  # without it OpenSSL would ask on the terminal
        if secret is None:
            raise UsageError(f"Security: the key in {key or certificate} is encrypted: give its key_password")
        return reveal(secret, "Security: key_password")

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the key in {key or certificate} does not belong to the certificate in {certificate}"
        elif secret is not None and error.reason != "NO_START_LINE":
            why = f"the key in {key or certificate} cannot be read: is key_password right?"
        else:
            why = f"found no certificate in {certificate} with its key in {key or 'the same file'}"
        raise UsageError(f"Security: {why} (wanted PEM{_because(error)})") from None
    return context


def _trusting(ca: Path) -> ssl.SSLContext:
    _check_readable("ca", ca)
    try:
        if ca.is_dir():
            return ssl.create_default_context(capath=ca)
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise UsageError(
            f"Security: found no certificate in {ca}, wanted ca to be a PEM file{_because(error)}"
        ) from None


def _because(error: ssl.SSLError) -> str:
    return f"; {error.reason}" if error.reason else ""


def _path(given: str | Path) -> Path:
    return Path(resolve(given)).expanduser() if isinstance(given, str) else given.expanduser()


def _check_readable(name: str, file: Path) -> None:
    try:
        if not file.is_dir():
            file.open("rb").close()
        elif name != "ca":
            raise UsageError(f"Security: {name}: {file} is a directory, wanted a PEM file")
    except OSError as error:
        raise UsageError(f"Security: {name}: {file} cannot be read: {error.strerror}") from None


class _Tokens(AbstractTokenProvider):
    """Asks for a token whenever a connection is made; what goes wrong counts as a connection not made."""

    def __init__(self, source: Token | Path) -> None:
        self._source = source

    async def token(self) -> str:
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT):
                token = await self._ask()
        except TimeoutError:
            raise KafkaConnectionError(f"no token for OAUTHBEARER within {TOKEN_TIMEOUT:g} s") from None
        except Exception as error:
            raise KafkaConnectionError(
                f"no token for OAUTHBEARER: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(token, str) or not token or any(ord(each) < 0x20 for each in token):
            found = "an empty text or one with control characters"
            found = found if isinstance(token, str) else f"{type(token).__name__}"
            raise KafkaConnectionError(f"no token for OAUTHBEARER: found {found}, wanted a token's text")
        return token

    async def _ask(self) -> object:
        source = self._source
        if isinstance(source, Path):
            return reveal(source, "token").strip()
        if inspect.iscoroutinefunction(source):
            return await source()
        found = await asyncio.to_thread(source)  # it may well ask over the network
        return await found if inspect.isawaitable(found) else found


class _NoLogins(logging.Filter):
    """Removes the content of log-ins from aiokafka's messages about requests and answers."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and any(_is_login(each) for each in record.args):
            record.args = tuple(
                f"{type(each).__name__}(…)" if _is_login(each) else each for each in record.args
            )
        return True


def _is_login(value: object) -> bool:
    return type(value).__name__.startswith("SaslAuthenticate")


logging.getLogger("aiokafka.conn").addFilter(_NoLogins())
