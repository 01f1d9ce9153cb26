"""References to secrets are resolved, and what they lead to is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from reflow_kafka import secrets
from reflow_kafka.errors import UsageError


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "here")
    monkeypatch.setenv("REFLOW_SECRET_one", "1")
    monkeypatch.setenv("REFLOW_SECRETS_DIR", str(tmp_path))
    (tmp_path / "two").write_text("2 \n")
    option = {"a": ["x-${env.PLACE}-${secret.one}", 5], "b": ("${secret.two}",), "c": None}
    assert secrets.resolve(option) == {"a": ["x-here-1", 5], "b": ("2 ",), "c": None}
    assert secrets.resolve("$PLACE ${PLACE} {lane}") == "$PLACE ${PLACE} {lane}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${env.MISSING_1}", "environment variable MISSING_1 is not set"),
        ("${secret.missing}", "neither REFLOW_SECRET_missing nor REFLOW_SECRETS_DIR"),
        ("${vault.x}", "unknown"),
        ("${secret.../../etc/passwd}", "a name consists of"),
    ],
)
def test_references_that_name_nothing(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFLOW_SECRETS_DIR", raising=False)
    with pytest.raises(UsageError, match=message):
        secrets.resolve(text)


def test_a_secret_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_SECRETS_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        secrets.resolve("${secret.missing}")


@pytest.mark.parametrize(("content", "secret"), [("hunter2\n", "hunter2"), ("a b \r\n", "a b ")])
def test_a_file_holds_a_secret(tmp_path: Path, content: str, secret: str) -> None:
    (tmp_path / "pw").write_text(content, newline="")
    assert secrets.reveal(tmp_path / "pw", "password") == secret


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"\n", "is empty, wanted a file that holds it"), (b"\xff", "no UTF-8 text")],
)
def test_a_file_without_a_secret(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "pw").write_bytes(content)
    with pytest.raises(UsageError, match=f"^password: .*pw.*{message}"):
        secrets.reveal(tmp_path / "pw", "password")


def test_options_that_hold_a_secret_are_masked() -> None:
    shown = secrets.describe(
        object(), "http://user:hunter2@host/x", headers={"api-key": "hunter2", "Token": "hunter2"}
    )
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "name",
    [
        *("password", "passwd", "pwd", "db_pwd", "pass", "passphrase", "ssl.key.password", "keyPassword"),
        *("secret", "clientSecret", "token", "auth", "Authorization", "bearer", "cookie", "Set-Cookie"),
        *("api_key", "apikey", "X-Api-Key", "access_key", "accessKey", "AWS_ACCESS_KEY", "AccountKey"),
        *("sas", "sig", "X-Amz-Signature", "dsn", "connection_string", "ConnectionString"),
        *("credentials", "private_key", "sasl.jaas.config", "sasl_jaas_config"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    for given in ("hunter2", b"hunter2", ["hunter2"], {"key": "hunter2"}):
        for shown in (
            secrets.describe(object(), **{name: given}),
            secrets.describe(object(), options={name: given}),
        ):
            assert "hunter2" not in shown
            assert name in shown


@pytest.mark.parametrize(
    "name",
    [
        *("key", "keys", "author", "compass", "sasl.mechanism", "sasl_username", "sass", "design"),
        *("group", "timestamp", "passive", "foreign_key", "partition_key"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert secrets.describe(object(), **{name: "shown"}) == f"object({name}='shown')"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://ada:hunter2@host/d", "postgres://***@host/d"),
        ("postgres://ada:hunt@er2@host/d", "postgres://***@host/d"),
        ("postgres://ada:hunt#er2@host/d", "postgres://***@host/d"),
        ("postgres://ada:hunt?er/2@host/d", "postgres://***@host/d"),
        ("amqp://host/?password=hunter2&vhost=a", "amqp://host/?password=***&vhost=a"),
        ("https://host/p?sig=hunter2%3D&se=x@y", "https://host/p?sig=***&se=x@y"),
        ("host=a password=hunter2 user=ada", "host=a password=*** user=ada"),
        ("host=a password = 'hunter2 hunter2' user=ada", "host=a password = *** user=ada"),
        ("Server=a;Uid=ada;Pwd={hunter2;hunter2};", "Server=a;Uid=ada;Pwd=***;"),
        ("AccountName=a;AccountKey=hunter2==;Suffix=b", "AccountName=a;AccountKey=***;Suffix=b"),
        ('PlainLoginModule required username="ada" password="hunter2";',
         'PlainLoginModule required username="ada" password=***;'),
        (r'{"token": "\"hunter2", "user": "ada"}', '{"token": ***, "user": "ada"}'),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("password=hunter2,#'hunter2", "password=***"),
        ("host=a password=${secret.pw}", "host=a password=${secret.pw}"),
        ("password=${secret.pw}hunter2", "password=***"),
        ("https://host/a?key=b&author=c", "https://host/a?key=b&author=c"),
    ],
)  # fmt: skip
def test_secrets_within_values(text: str, shown: str) -> None:
    assert secrets.describe(object(), text) == f"object({shown!r})"
    assert "hunter2" not in secrets.describe(object(), {"a": [text]}, text.encode())


def test_references_are_shown() -> None:
    assert secrets.describe(object(), password="${secret.pw}") == "object(password='${secret.pw}')"


def test_a_long_text_is_looked_through_in_one_go() -> None:
    assert secrets.describe(object(), "a=" * 2_000 + " password=hunter2").endswith(" password=***')")
