"""aiokafka's connection to one broker, its log-in mended.

By OAUTHBEARER a broker refuses a token with an answer that the library takes for consent: it goes on, and all
that follows fails in odd ways. By SCRAM and GSSAPI an answer that cannot be true is a ValueError or the like,
which nobody who waits for a connection expects. And what was refused is left open until the broker closes it.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator


class Connection(AIOKafkaConnection):
    """See the module."""

    _transport: asyncio.Transport | None = None

    async def connect(self) -> Any:
        """Connect and log in, or leave nothing behind."""
        try:
            return await super().connect()
        except BaseException:
            # With TLS it would wait for the broker's farewell, half a minute if there is none.
            self.abort()
            await asyncio.sleep(0)
            raise

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        """Begin to close; returns a future that is done when it is closed."""
        if self._writer is not None:
            self._transport = self._writer.transport
        return super().close(reason, exc)

    def abort(self) -> None:
        """End a connection that is being closed at once."""
        if self._transport is not None:
            self._transport.abort()

    def authenticator_oauth(self) -> Any:
        """What conducts a log-in by OAUTHBEARER."""
        return _Bearer(sasl_oauth_token_provider=self._sasl_oauth_token_provider)

    async def _do_sasl_handshake(self) -> None:
        try:
            await super()._do_sasl_handshake()
        except (OSError, errors.KafkaError, TimeoutError):
            raise
        except Exception as error:
            raise errors.AuthenticationFailedError(f"{type(error).__name__}: {error}") from error


class _Bearer(OAuthAuthenticator):
    async def step(self, payload: bytes | None) -> Any:
        if payload:  # who accepts a token answers nothing
            raise errors.SaslAuthenticationFailed(payload.decode(errors="replace"))
        return await super().step(payload)
