"""The options that say how to connect to Kafka; secrets come from files and variables, never from options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from reflow_kafka.errors import UsageError
from reflow_kafka.security import MECHANISMS, PROTOCOLS

if TYPE_CHECKING:
    from reflow_kafka.security import Security

F = TypeVar("F", bound=Callable[..., Any])

_FILE: Final[Any] = click.Path(path_type=Path)
_OPTIONS: Final[Mapping[str, tuple[str, Any, str]]] = {
    "--kafka-config": (
        "",
        _FILE,
        "File of lines name=value with librdkafka's names, such as sasl.mechanism.",
    ),
    "--security-protocol": (
        "protocol",
        click.Choice(PROTOCOLS, case_sensitive=False),
        "Whether connections to Kafka are encrypted (SSL) and log in (SASL).",
    ),
    "--ssl-ca-location": ("ca", _FILE, "PEM file of the authorities to trust; default: the system's."),
    "--ssl-certificate-location": ("certificate", _FILE, "PEM file with a certificate of this client."),
    "--ssl-key-location": ("key", _FILE, "PEM file with the key of that certificate."),
    "--ssl-key-password-file": ("key_password", _FILE, "File that holds what the key is encrypted with."),
    "--sasl-mechanism": (
        "mechanism",
        click.Choice(MECHANISMS, case_sensitive=False),
        "How connections log in.",
    ),
    "--sasl-username": ("username", str, "User for PLAIN and SCRAM."),
    "--sasl-password-file": ("password", _FILE, "File that holds that user's password."),
    "--sasl-token-file": ("token", _FILE, "File that holds a token for OAUTHBEARER; read when connecting."),
    "--sasl-kerberos-service-name": ("kerberos_service", str, "Name of the brokers' service for GSSAPI."),
}
SECRETS: Final = {"REFLOW_SASL_PASSWORD": "password", "REFLOW_SSL_KEY_PASSWORD": "key_password"}
"""Variables that hold a secret itself."""

SECURITY_OPTIONS: Final = tuple(_OPTIONS)


def security_options(function: F) -> F:
    """The options, which a command gets as `security`."""

    @wraps(function)
    def secured(*args: Any, **given: Any) -> Any:
        names = {_name(option): field for option, (field, *_) in _OPTIONS.items()}
        found = {names[name]: given.pop(name) for name in names}
        if (security := _security(found)) is not None and given["bootstrap"] is None:
            raise UsageError(
                f"found {security!r} and no --bootstrap: the embedded log has no connections to secure"
            )
        return function(*args, security=security, **given)

    command: Any = secured
    for option, (_, type, help) in reversed(list(_OPTIONS.items())):
        variable = f"REFLOW_{_name(option).upper()}"
        metavar = (
            {"type": type} if isinstance(type, click.Choice) else {"type": type, "metavar": _metavar(type)}
        )
        command = click.option(option, envvar=variable, show_envvar=True, help=help, **metavar)(command)
    return command  # type: ignore[no-any-return]


def _security(given: Mapping[str, Any]) -> Security | None:
    """What options, variables and the file come to; None if nothing was given.

    Raises:
        UsageError: it does not fit together.
    """
    from reflow_kafka.security import Security

    fields = {field: value for field, value in given.items() if field and value is not None}
    for variable, field in SECRETS.items():
        if secret := os.environ.get(variable):
            fields.setdefault(field, secret)
    if file := given[""]:
        return Security.load(file, **fields)
    if set(fields) <= set(SECRETS.values()):
        return None  # a secret alone may be there for all programs of a machine
    return Security.of(fields, "the options")


def _name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _metavar(type: object) -> str:
    return "FILE" if type is _FILE else "NAME"
