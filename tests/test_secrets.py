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
