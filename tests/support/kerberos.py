"""A real Kerberos: MIT's KDC with a realm of its own, and a broker that takes nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from reflow_kafka.devbroker import DevBroker, free_port
from tests.support.secure import Certificates
from tests.support.waiting import wait_until

REALM: Final = "REFLOW.TEST"
HOST: Final = "localhost"
"""Tickets are for names of hosts, not for addresses."""

_PROGRAMS: Final = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])

_CLIENT: Final = """\
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  # The broker is asked for by the name that it advertises, whatever else this machine is called.
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
  }}
[domain_realm]
  {host} = {realm}
"""

_SERVER: Final = """\
[kdcdefaults]
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
  {realm} = {{
    database_name = {folder}/principals
    key_stash_file = {folder}/stash
    max_life = 1h
  }}
[logging]
  kdc = FILE:{folder}/kdc.log
"""

# The pipe is closed when the tests end, whatever ends them; then the KDC does, too.
_TIED: Final = 'trap "" INT; krb5kdc -n & read -r _; kill $!; wait'

# It only checks tickets, so it can be started while there is no KDC.
_MODULE: Final = (
    "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true isInitiator=false "
    'keyTab="{keytab}" principal="kafka/{host}@{realm}";'
)


def missing() -> str:
    """What is not installed here that a Kerberos needs; empty if nothing is missing."""
    lacking = [each for each in _PROGRAMS if shutil.which(each, path=_PATH) is None]
    if find_spec("gssapi") is None:
        lacking.append("gssapi (reflow-kafka[kerberos])")
    return ", ".join(lacking)


class Kdc:
    """A key distribution centre; `env` is what programs need in order to ask it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        names = {"realm": REALM, "port": self._port, "host": HOST, "folder": folder}
        self.client_conf = folder / "krb5.conf"
        self.client_conf.write_text(_CLIENT.format(**names))
        (folder / "kdc.conf").write_text(_SERVER.format(**names))
        self.env = {"KRB5_CONFIG": str(self.client_conf)}
        self.punctual = folder / "punctual.conf"
        """A client's settings with which tickets live for two seconds, and not five minutes more."""
        short = "ticket_lifetime = 2s\n  clockskew = 0\n  rdns"
        self.punctual.write_text(self.client_conf.read_text().replace("rdns", short))

    def __enter__(self) -> Self:
        self._run("kdb5_util", "create", "-s", "-P", "master")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, also again, and return when it listens."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _TIED], env=self._env(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        wait_until(self._listens, 20, "the KDC listens")

    def stop(self) -> None:
        """End the process; its principals remain."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate(timeout=20)

    def keytab(self, principal: str) -> Path:
        """A file with the keys of a new principal."""
        file = self._folder / f"{principal.replace('/', '-')}.keytab"
        self._run("kadmin.local", "-q", f"addprinc -randkey {principal}")
        self._run("kadmin.local", "-q", f"ktadd -k {file} {principal}")
        assert file.exists(), f"no keys of {principal}"
        return file

    def forget(self, principal: str) -> None:
        """Remove a principal, whose keytab stays."""
        self._run("kadmin.local", "-q", f"delprinc -force {principal}")

    def kinit(self, principal: str, keytab: Path, cache: str, *, lifetime: str = "10m") -> None:
        """Get a ticket, as a user does it who has a file instead of a password."""
        self._run("kinit", "-k", "-t", str(keytab), "-c", cache, "-l", lifetime, principal)

    def _env(self) -> Mapping[str, str]:
        profile = {"KRB5_KDC_PROFILE": str(self._folder / "kdc.conf"), "PATH": _PATH}
        return {**os.environ, **self.env, **profile}

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, env=self._env(), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "kdc.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


class KerberosBroker(DevBroker):
    """A broker with two listeners for GSSAPI beside the plain one, with TLS and without."""

    def __init__(self, folder: Path, kdc: Kdc) -> None:
        super().__init__()
        self.certificates = Certificates(folder)
        self._pem = self.certificates.issue("broker", HOST)
        self._krb5_conf = kdc.client_conf
        self._keytab = kdc.keytab(f"kafka/{HOST}")
        self._ports: dict[str, int] = {}

    def address(self, protocol: str) -> str:
        """``host:port`` of the listener for SASL_SSL or SASL_PLAINTEXT."""
        return f"{HOST}:{self._ports[protocol]}"

    def start(self) -> None:
        """Start, with settings that a JVM has no variable of its own for."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAVA_TOOL_OPTIONS", f"-Djava.security.krb5.conf={self._krb5_conf}", prepend=" ")
            super().start()

    def _settings(self) -> dict[str, str]:
        while len({*self._ports.values(), self._port, self._controller_port}) < 4:
            self._ports = {protocol: free_port() for protocol in ("SASL_SSL", "SASL_PLAINTEXT")}
        settings = super()._settings()
        settings["listeners"] += "".join(f",{name}://127.0.0.1:{port}" for name, port in self._ports.items())
        settings["advertised.listeners"] += "".join(f",{name}://{self.address(name)}" for name in self._ports)
        settings["listener.security.protocol.map"] += "".join(f",{name}:{name}" for name in self._ports)
        module = _MODULE.format(keytab=self._keytab, host=HOST, realm=REALM)
        for name in self._ports:
            settings[f"listener.name.{name.lower()}.gssapi.sasl.jaas.config"] = module
        return settings | {
            "sasl.enabled.mechanisms": "GSSAPI",
            "sasl.kerberos.service.name": "kafka",
            "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
            "listener.name.sasl_ssl.ssl.keystore.location": str(self._pem),
        }
