"""`Security`: how to connect to a Kafka that wants TLS, a log-in, or both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from reflow_kafka.errors import UsageError
from reflow_kafka.secrets import describe

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]
Token = Callable[[], str | Awaitable[str]]

PROTOCOLS: Final = get_args(Protocol)
MECHANISMS: Final = get_args(Mechanism)

PROPERTIES: Final[Mapping[str, str]] = {
    "security.protocol": "protocol",
    "ssl.ca.location": "ca",
    "ssl.certificate.location": "certificate",
    "ssl.key.location": "key",
    "ssl.key.password": "key_password",
    "ssl.endpoint.identification.algorithm": "check_hostname",
    "sasl.mechanism": "mechanism",
    "sasl.mechanisms": "mechanism",
    "sasl.username": "username",
    "sasl.password": "password",
    "sasl.kerberos.service.name": "kerberos_service",
}
"""Kafka's names of the fields, as librdkafka has them."""

_JAVA: Final = {
    "sasl.jaas.config": "sasl.username and sasl.password",
    "ssl.truststore.location": "ssl.ca.location, a PEM file",
    "ssl.keystore.location": "ssl.certificate.location and ssl.key.location, PEM files",
}
_TLS: Final = ("ca", "certificate", "key", "key_password")
_SASL: Final = ("username", "password", "token")
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "PLAIN": ("username", "password"),
    "SCRAM-SHA-256": ("username", "password"),
    "SCRAM-SHA-512": ("username", "password"),
    "OAUTHBEARER": ("token",),
    "GSSAPI": (),
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Security:
    """What every connection to Kafka is made with: ``Engine(flow, bootstrap=…, security=Security(…))``.

    Nothing is read or resolved before a connection is wanted, and no secret is ever printed. Texts may hold
    ``${env.NAME}`` and ``${secret.NAME}``. A secret that is a `Path` is a file that holds it.

    Args:
        protocol: ``"SSL"``, ``"SASL_SSL"``, ``"SASL_PLAINTEXT"`` or ``"PLAINTEXT"`` (``security.protocol``).
        ca: PEM file, or directory, of the authorities that sign the brokers' certificates; None: the
            system's (``ssl.ca.location``).
        certificate: PEM file with the certificate of this client, for brokers that ask for one; its key may
            stand in the same file (``ssl.certificate.location``).
        key: PEM file with the key of that certificate (``ssl.key.location``).
        key_password: what that key is encrypted with (``ssl.key.password``).
        check_hostname: whether a broker's certificate must be for the name it is reached by
            (``ssl.endpoint.identification.algorithm``).
        mechanism: ``"PLAIN"``, ``"SCRAM-SHA-256"``, ``"SCRAM-SHA-512"``, ``"OAUTHBEARER"`` or ``"GSSAPI"``
            (``sasl.mechanism``).
        username: for PLAIN and SCRAM (``sasl.username``).
        password: for PLAIN and SCRAM (``sasl.password``).
        token: for OAUTHBEARER: a file, read anew for each connection, or a function without arguments,
            ``async`` or not, that returns a token which is still valid. It is called for each connection, on
            more than one event loop; one that is not ``async`` is called in a thread.
        kerberos_service: for GSSAPI: first part of the brokers' principal (``sasl.kerberos.service.name``).
            Needs ``pip install 'reflow-kafka[kerberos]'`` and a ticket, as `kinit` gets it.

    Raises:
        UsageError: what is given does not fit together.
    """

    protocol: Protocol
    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    key_password: str | Path | None = None
    check_hostname: bool = True
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | Path | None = None
    token: Token | Path | None = None
    kerberos_service: str = "kafka"

    def __post_init__(self) -> None:
        _check_one_of("protocol", self.protocol, PROTOCOLS)
        if self.mechanism is not None:
            _check_one_of("mechanism", self.mechanism, MECHANISMS)
        self._check_types()
        self._check_tls()
        self._check_login()

    def __repr__(self) -> str:
        shown: dict[str, Any] = {name: getattr(self, name) for name in (*_TLS, "mechanism", "username")}
        for name in ("password", "token"):
            given = getattr(self, name)
            # A function's own repr may show what it was bound to.
            shown[name] = _Nameless(given) if callable(given) else given
        if not self.check_hostname:
            shown["check_hostname"] = False
        return describe(self, protocol=self.protocol, **shown)

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        """Whether connections log in."""
        return self.protocol in ("SASL_SSL", "SASL_PLAINTEXT")

    @classmethod
    def load(cls, file: str | Path, **instead: Any) -> Self:
        """Read a ``client.properties`` with the names that librdkafka has.

        Args:
            file: lines ``name=value``; empty ones, and those that begin with ``#``, are skipped.
            **instead: fields that count more than what the file says.

        Raises:
            UsageError: the file cannot be read, has another property, or what it says does not fit together.
        """
        return cls.of({**read_properties(Path(file)), **instead}, str(file))

    @classmethod
    def of(cls, fields: Mapping[str, Any], where: str) -> Self:
        """From fields by name; `where` tells in errors where they come from.

        Raises:
            UsageError: they do not fit together, or say no protocol.
        """
        if "protocol" not in fields:
            raise UsageError(
                f"{where}: found {', '.join(sorted(fields)) or 'nothing'} but no security protocol, wanted "
                f"security.protocol to be one of {', '.join(PROTOCOLS)}"
            )
        return cls(**fields)

    def _check_types(self) -> None:
        for name in (*_TLS, "username", "password"):
            given = getattr(self, name)
            if given is None:
                continue
            if not isinstance(given, str if name == "username" else str | Path):
                raise UsageError(f"Security: found {name} of type {type(given).__name__}, wanted text")
            if given == "":
                raise UsageError(f"Security: found an empty {name}, wanted one, or none at all")
        if self.token is not None and not (callable(self.token) or isinstance(self.token, Path)):
            raise UsageError(
                f"Security: found token of type {type(self.token).__name__}, wanted a function that returns "
                "one, or the Path of a file that holds it: tokens expire"
            )

    def _check_tls(self) -> None:
        given = [name for name in _TLS if getattr(self, name) is not None]
        if given and not self.tls:
            raise UsageError(
                f"Security: found {', '.join(given)} with protocol {self.protocol}, which has no TLS: "
                f"make it {'SASL_SSL' if self.sasl else 'SSL'}, or leave {_them(given)} out"
            )
        if self.certificate is None and (alone := [name for name in given if name.startswith("key")]):
            raise UsageError(
                f"Security: found {', '.join(alone)} without certificate: give the certificate that the key "
                "belongs to"
            )

    def _check_login(self) -> None:
        given = [name for name in _SASL if getattr(self, name) is not None]
        if not self.sasl:
            if self.mechanism is not None or given:
                found = (["mechanism"] if self.mechanism is not None else []) + given
                raise UsageError(
                    f"Security: found {', '.join(found)} with protocol {self.protocol}, which does not log "
                    f"in: make it {'SASL_SSL' if self.tls else 'SASL_SSL or SASL_PLAINTEXT'}, or leave "
                    f"{_them(found)} out"
                )
            return
        if self.mechanism is None:
            raise UsageError(
                f"Security: found protocol {self.protocol} without mechanism, wanted one of "
                f"{', '.join(MECHANISMS)}"
            )
        wanted = _NEEDS[self.mechanism]
        if missing := [name for name in wanted if name not in given]:
            raise UsageError(
                f"Security: found mechanism {self.mechanism} without {', '.join(missing)}: it needs "
                f"{' and '.join(wanted)}"
            )
        if extra := [name for name in given if name not in wanted]:
            raise UsageError(
                f"Security: found {', '.join(extra)} with mechanism {self.mechanism}, which takes "
                f"{' and '.join(wanted) or 'none of them'}: leave {_them(extra)} out"
            )


def read_properties(file: Path) -> dict[str, Any]:
    """The fields of `Security` that a ``client.properties`` gives.

    Raises:
        UsageError: the file cannot be read, or has a line or property that is not known.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"{file} cannot be read: {why}") from None
    fields: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not equals:  # not shown: it may be the second line of a secret
            raise UsageError(f"{file}:{number}: found no '=', wanted name=value")
        if name not in PROPERTIES:
            way_out = f"that is Java's, here it is {_JAVA[name]}" if name in _JAVA else _known()
            raise UsageError(f"{file}:{number}: found the property {name!r}: {way_out}")
        field = PROPERTIES[name]
        if field == "check_hostname":
            fields[field] = value.lower() not in ("", "none")
        else:
            fields[field] = value.upper() if field in ("protocol", "mechanism") else value
    return fields


class _Nameless:
    """Stands for a function in a repr."""

    def __init__(self, function: object) -> None:
        self._shown = getattr(function, "__qualname__", None) or type(function).__name__

    def __repr__(self) -> str:
        return self._shown


def _check_one_of(name: str, found: object, wanted: tuple[str, ...]) -> None:
    if found not in wanted:
        raise UsageError(f"Security: found {name} {found!r}, wanted one of {', '.join(wanted)}")


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _known() -> str:
    return f"wanted one of {', '.join(PROPERTIES)}; what is no matter of security stands on the command line"
