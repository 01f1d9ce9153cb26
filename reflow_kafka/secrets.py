"""``${env.NAME}`` and ``${secret.NAME}`` in options: resolved when something is opened, never printed.

``${env.NAME}`` is an environment variable. ``${secret.NAME}`` is the environment variable
``REFLOW_SECRET_NAME`` or, if that is not set, the content of the file ``NAME`` in the directory
``REFLOW_SECRETS_DIR``, where container platforms mount secrets.

Connectors and `Security` keep their options as they were written and resolve them when they are opened, so
that neither their repr nor a pickled or logged flow holds a secret. Options that hold one literally are
masked by `describe`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from reflow_kafka.errors import UsageError

T = TypeVar("T")

_REFERENCE = re.compile(r"\$\{(?P<kind>[^.{}]*)\.(?P<name>[^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SENSITIVE = re.compile(
    r"passw|passphrase|secret|token|credential|private|authorization|bearer|cookie|jaas|signature"
    r"|(?<![a-z])(pass|pwd|auth|sas|sig|dsn|(api|access|account)_?key|connection_?string)(?![a-z])"
)
"""In names, in lower case with `_` between words; what is short is sensitive as a word only."""
_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_URL_LOGIN = re.compile(r"""(?<=://)([^/?#\s]+|[^/?#\s:]*:[^\s"',]*)@""")
"""A password, behind the ``:``, may hold anything, also what ends a host."""
_ASSIGNED = re.compile(
    r"""(?P<name>(?<![\w.-])[\w.-]+)(?P<sign>["']?\s*[=:]\s*((bearer|basic)\s+)?)"""
    r"""(?P<value>"([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\{[^}]*\}|(\$\{[^}]*\}|[^\s&;])+)""",
    re.IGNORECASE,
)
"""As in the query of a URL, in a connection string, in JSON and in a header."""


def resolve(option: T) -> T:
    """The option with every reference in it replaced; looks into mappings, lists and tuples.

    Raises:
        UsageError: a reference that names nothing; the message names it, and where it was looked for.
    """
    if isinstance(option, str):
        return _REFERENCE.sub(_look_up, option)  # type: ignore[return-value]
    if isinstance(option, Mapping):
        return {name: resolve(value) for name, value in option.items()}  # type: ignore[return-value]
    if isinstance(option, list | tuple):
        return type(option)(resolve(item) for item in option)
    return option


def reveal(secret: str | Path, what: str) -> str:
    """A secret itself: text with its references resolved, or what stands in a file, without its line end.

    Args:
        secret: text, or the file's path.
        what: its name in errors, which never hold the secret.

    Raises:
        UsageError: a reference that names nothing, or a file that cannot be read or is empty.
    """
    if isinstance(secret, str):
        return resolve(secret)
    try:
        found = secret.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"{what}: {secret} cannot be read: {why}") from None
    if not found:
        raise UsageError(f"{what}: {secret} is empty, wanted a file that holds it")
    return found


def describe(what: object, *positional: object, **options: object) -> str:
    """A repr for a connector: options that are None are left out, sensitive ones masked."""
    shown = [_masked("", value) for value in positional]
    shown += [f"{name}={_masked(name, value)}" for name, value in options.items() if value is not None]
    return f"{type(what).__name__}({', '.join(shown)})"


def _look_up(reference: re.Match[str]) -> str:
    kind, name = reference["kind"], reference["name"]
    if kind not in ("env", "secret"):
        raise UsageError(f"{reference[0]} is unknown: write ${{env.NAME}} or ${{secret.NAME}}")
    if not _NAME.fullmatch(name):  # above all, a name never leads out of the directory of secrets
        raise UsageError(f"{reference[0]}: a name consists of letters, digits, '_', '-' and '.'")
    if kind == "env":
        if (value := os.environ.get(name)) is None:
            raise UsageError(f"{reference[0]}: the environment variable {name} is not set")
        return value
    variable = f"REFLOW_SECRET_{name}"
    if (value := os.environ.get(variable)) is not None:
        return value
    folder = os.environ.get("REFLOW_SECRETS_DIR")
    if not folder:
        raise UsageError(f"{reference[0]}: neither {variable} nor REFLOW_SECRETS_DIR is set")
    try:
        return Path(folder, name).read_text().rstrip("\r\n")
    except OSError as error:
        raise UsageError(
            f"{reference[0]}: {variable} is not set, and {Path(folder, name)} cannot be read:"
            f" {error.strerror}"
        ) from None


def _masked(name: str, value: object) -> str:
    """How the value of an option is shown; `name` has all the names that lead to it."""
    if isinstance(value, str | bytes) and _is_sensitive(name):
        return repr(value) if isinstance(value, str) and _REFERENCE.fullmatch(value) else "'***'"
    if isinstance(value, str):
        return repr(_without_secrets(value))
    if isinstance(value, bytes):
        return repr(_without_secrets(value.decode("latin-1")).encode("latin-1"))
    if isinstance(value, Mapping):
        items = (f"{key!r}: {_masked(f'{name} {key}', item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_masked(name, item) for item in value) + "]"
    return getattr(value, "__qualname__", None) or _without_secrets(repr(value))


def _is_sensitive(name: str) -> bool:
    return _SENSITIVE.search(_WORD_ENDS.sub("_", name).lower()) is not None


def _without_secrets(text: str) -> str:
    """The text without log-ins of URLs, and without what it assigns to sensitive names."""
    text = _URL_LOGIN.sub("***@", text)
    shown, at = "", 0
    while (found := _ASSIGNED.search(text, at)) is not None:
        begin, end = found.span("value")
        shown += text[at:begin]
        if _is_sensitive(found["name"]):
            bare = found["value"].strip("\"'")
            shown += found["value"] if bare == "***" or _REFERENCE.fullmatch(bare) else "***"
            at = end
        else:
            at = begin  # the scheme of a URL looks like a name, too
    return shown + text[at:]
