"""A real broker with listeners that want TLS, a log-in, or both, and certificates made for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from reflow_kafka.devbroker import DevBroker, free_port

USER: Final = "alice"
PASSWORD: Final = "correct, horse; ${battery}=staple"
HOST: Final = "127.0.0.1"

_LOGIN: Final = "org.apache.kafka.common.security"
_MODULES: Final = {
    "plain": f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
    "scram-sha-256": f"{_LOGIN}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{_LOGIN}.scram.ScramLoginModule required;",
    # Tokens without signature: the validator that Kafka brings along for development.
    "oauthbearer": f'{_LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="b";',
}
_PROTOCOLS: Final = {
    "LOGIN": "SASL_SSL",
    "CLEAR": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "OTHER": "SSL",
}


class Certificates:
    """An authority, and what it has signed, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self.other_ca = folder / "other-ca.pem"
        trustme.CA().cert_pem.write_to_path(str(self.other_ca))

    def issue(self, name: str, host: str, *, expired: bool = False, password: str = "") -> Path:
        """A file with a key, encrypted if there is a password, and its certificate for `host`."""
        now = datetime.now(UTC)
        lifetime = {"not_after": now - timedelta(days=1)} if expired else {}
        made = self._authority.issue_cert(host, **lifetime)
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
        secret = serialization.BestAvailableEncryption(password.encode()) if password else None
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,  # the only one that brokers take
            secret or serialization.NoEncryption(),
        )
        file = self._folder / f"{name}.pem"
        file.write_bytes(pem + b"".join(each.bytes() for each in made.cert_chain_pems))
        return file


class SecureBroker(DevBroker):
    """A broker with a listener for each way to connect, beside the plain one; `address` tells where."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.certificates = Certificates(folder)
        self._hosts = {
            "LOGIN": self.certificates.issue("login", HOST),
            "TLS": self.certificates.issue("tls", HOST),
            "MUTUAL": self.certificates.issue("mutual", HOST),
            "EXPIRED": self.certificates.issue("expired", HOST, expired=True),
            "OTHER": self.certificates.issue("other", "elsewhere.example"),
        }
        self._ports: dict[str, int] = {}

    def address(self, listener: str) -> str:
        """``host:port`` of one of the listeners."""
        return f"{HOST}:{self._ports[listener]}"

    def start(self) -> None:
        """Start, with a user for SCRAM."""
        super().start()
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion(
                USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
            )
            for altered in admin.alter_user_scram_credentials([wanted]).values():
                altered.result(20)

    def _settings(self) -> dict[str, str]:
        if not self._ports:
            while len(set(self._ports.values()) - {self._port}) < len(_PROTOCOLS):
                self._ports = {name: free_port(other_than=self._port) for name in _PROTOCOLS}
        settings = super()._settings()
        further = ",".join(f"{name}://{self.address(name)}" for name in _PROTOCOLS)
        settings["listeners"] += f",{further}"
        settings["advertised.listeners"] += f",{further}"
        names = ",".join(f"{name}:{protocol}" for name, protocol in _PROTOCOLS.items())
        settings["listener.security.protocol.map"] += f",{names}"
        for name, file in self._hosts.items():
            prefix = f"listener.name.{name.lower()}.ssl"
            settings |= {
                f"{prefix}.keystore.type": "PEM",
                f"{prefix}.keystore.location": str(file),
                f"{prefix}.truststore.type": "PEM",
                f"{prefix}.truststore.location": str(self.certificates.ca),
            }
        settings["listener.name.mutual.ssl.client.auth"] = "required"
        for name in ("login", "clear"):
            for mechanism, module in _MODULES.items():
                settings[f"listener.name.{name}.{mechanism}.sasl.jaas.config"] = module
        settings["listener.name.login.sasl.enabled.mechanisms"] = ",".join(_MODULES).upper()
        settings["listener.name.clear.sasl.enabled.mechanisms"] = "PLAIN"
        return settings
