"""Why a connection did not come about, in words that say what to check: a pure function.

A broker that will not have a client often just hangs up, so that much has to be told from the kind of error,
and from what the client had wanted.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiokafka import errors as client

from reflow_kafka.log.kafka.errors import describe
from reflow_kafka.security import Security

_ALERT: Final = 0x15
"""First byte of a TLS alert; where Kafka's answers begin with the length, that of an answer of 350 MB."""

# OpenSSL's numbers of what is wrong with a certificate.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21, 24, 27})
_OTHER_NAME: Final = frozenset({62, 64})


class Diagnosis(NamedTuple):
    """What is known of a failure."""

    text: str
    final: bool
    """Another try would fail alike."""


def diagnose(error: BaseException, where: str, security: Security | None) -> Diagnosis:
    """Why the broker at `where` (``host:port``) could not be used."""
    security = security or Security(protocol="PLAINTEXT")
    for cause in causes(error):
        if (known := _certificate(cause, where, security) or _login(cause, where, security)) is not None:
            return Diagnosis(known, final=True)
        if isinstance(cause, asyncio.IncompleteReadError) and _is_alert(cause):
            return Diagnosis(
                f"the listener at {where} speaks TLS, and security.protocol is {security.protocol}: "
                f"make it {'SASL_SSL' if security.sasl else 'SSL or SASL_SSL'}",
                final=True,
            )
    named = isinstance(error, client.KafkaError) or not str(error)
    told = f"{where}: {describe(error) if named else error}"
    if _hung_up(error):
        return Diagnosis(f"{told}: {_hint(error, security)}", final=False)
    last = str(list(causes(error))[-1])
    return Diagnosis(told if last in told else f"{told} ({last})", final=False)


def silence(security: Security | None) -> str:
    """What may be behind a broker that takes connections and never answers."""
    if security is not None and security.mechanism == "GSSAPI":  # whose library waits longer than we do
        return "there is no answer from the broker, or from the KDC that is to issue a ticket"
    tls = security is not None and security.tls
    return (
        "there is no answer to a TLS handshake: is it a listener with TLS?" if tls else "there is no answer"
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what was behind it."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _certificate(error: BaseException, where: str, security: Security) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the broker at {where} {_fault(error, where, security)}"
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if reason == "WRONG_VERSION_NUMBER":
        return (
            f"the listener at {where} does not speak TLS, and security.protocol is {security.protocol}: "
            "use another port, or another protocol"
        )
    if "ALERT" in reason or reason == "NO_PROTOCOLS_AVAILABLE":
        told = reason.replace("_", " ").lower()
        if "PROTOCOL" in reason or "HANDSHAKE_FAILURE" in reason:
            return (
                f"the broker at {where} and this client have no version or cipher of TLS in common ({told})"
            )
        what = "certificate of this client" if security.certificate else "client, which has no certificate"
        return f"the broker at {where} refuses the {what} ({told}): check certificate and key"
    return None


def _fault(error: ssl.SSLCertVerificationError, where: str, security: Security) -> str:
    said = (error.verify_message or str(error)).rstrip(".")
    if error.verify_code == _EXPIRED:
        return f"is not accepted: {said}; the broker needs a new one, unless the clock here is wrong"
    if error.verify_code == _NOT_YET_VALID:
        return f"is not accepted: {said}; is the clock here right?"
    if error.verify_code in _OTHER_NAME:
        return (
            f"is for another name: {said}; connect by a name that it lists (for brokers behind the first one "
            "their advertised.listeners count), or let it list this one"
        )
    if error.verify_code in _UNTRUSTED:
        trusted = "the system's authorities" if security.ca is None else f"the authorities in {security.ca}"
        return (
            f"is not signed by one of {trusted}: {said}; give ca (ssl.ca.location), a PEM file with the "
            "authority that signs the brokers' certificates"
        )
    return f"is not accepted: {said}"


def _login(error: BaseException, where: str, security: Security) -> str | None:
    if isinstance(error, client.SaslAuthenticationFailed | client.AuthenticationFailedError):
        said = "; ".join(str(each) for each in error.args if each) or describe(error)
        who = f"user {security.username!r}" if security.username else "this client"
        check = "the token" if security.mechanism == "OAUTHBEARER" else "username and password"
        if security.mechanism == "GSSAPI":
            check = "the ticket (klist), or the keytab that KRB5_CLIENT_KTNAME names"
        return f"the broker at {where} does not let {who} in by {security.mechanism}: {said}; check {check}"
    if isinstance(error, client.UnsupportedSaslMechanismError):
        return (
            f"the listener at {where} does not take mechanism {security.mechanism}: use one of its "
            "sasl.enabled.mechanisms"
        )
    if isinstance(error, client.IllegalSaslStateError):
        plain = "SSL" if security.tls else "PLAINTEXT"
        return (
            f"the listener at {where} wants no log-in, and security.protocol is {security.protocol}: "
            f"make it {plain}, or use another port"
        )
    return None


def _is_alert(error: asyncio.IncompleteReadError) -> bool:
    return error.expected is not None and error.expected >> 24 == _ALERT


def _hung_up(error: BaseException) -> bool:
    return any(
        isinstance(cause, ConnectionResetError | ConnectionAbortedError | asyncio.IncompleteReadError)
        or (isinstance(cause, ssl.SSLError) and "EOF" in (cause.reason or ""))
        for cause in causes(error)
    )


def _hint(error: BaseException, security: Security) -> str:
    found = f"security.protocol is {security.protocol}"
    if security.tls and isinstance(error, client.KafkaError):  # no error of the library's until TLS is there
        asks = "a certificate of the client" if security.sasl else "a log-in (SASL_SSL), or a certificate"
        return f"the broker hangs up; {found}: does the listener want {asks}?"
    if security.tls:
        return f"the broker hangs up during the TLS handshake; {found}: is it a listener with TLS?"
    if security.sasl:
        return f"the broker hangs up; {found}: is it a listener with TLS, and wants SASL_SSL?"
    return f"the broker hangs up; {found}: does the listener want TLS (SSL) or a log-in (SASL_SSL)?"
