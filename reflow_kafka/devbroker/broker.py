"""The broker as a process of this machine."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from reflow_kafka.devbroker.install import find_java, kafka_libs, last_line
from reflow_kafka.devbroker.ports import HOST, answers, free_port, is_free
from reflow_kafka.errors import ReflowError

_START_TIMEOUT = 60.0
_HALT_TIMEOUT = 20.0

# One broker that is its own controller. Internal topics are small and rebalances immediate, because tests and
# laptops start many short groups; everything that flows rely on keeps Kafka's own default.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "8",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.cleaner.dedupe.buffer.size": "8388608",
}

_BROKER_JVM = ("-Xmx1g", "-Xms256m", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN")
_TOOL_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=ERROR")

# Waits until the pipe that only the parent holds is closed, whatever ended the parent; then nothing remains.
_WATCHDOG = """\
trap '' INT TERM HUP
read -r _
kill -KILL "$1" 2>/dev/null
if [ -n "$2" ]; then sleep 0.5; rm -rf "$2"; fi
"""


class DevBroker:
    """One Kafka broker as a child of this process; it never outlives it, not even when that is killed.

    `port` is a free one if not given. `data_dir` is kept, and continued at the next start, if given;
    otherwise it is a temporary one that `stop` removes. `properties` override the broker's settings.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._fixed_port = port
        self._port = port
        self._controller_port: int | None = None
        self._keep = data_dir is not None
        self._dir = None if data_dir is None else Path(data_dir).absolute()
        self._properties = dict(properties or {})
        # "A": an id that begins with a dash would be taken for an option.
        self._cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients; the same for as long as this object lives."""
        if self._port is None:
            raise ReflowError("the broker has no address yet: call start() first")
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        if self._process is None:
            raise ReflowError("the broker is not running: call start() first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker's process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def data_dir(self) -> Path:
        """Where the broker keeps settings, data and log."""
        if self._dir is None:
            raise ReflowError("the broker has no data directory yet: call start() first")
        return self._dir

    @property
    def log_file(self) -> Path:
        """What the broker writes about itself."""
        return self.data_dir / "broker.log"

    def start(self) -> None:
        """Start the broker and return when it answers; after `halt` it continues: same port, same data."""
        if self.running:
            return
        java, libs = find_java(), kafka_libs()
        if self._dir is None:
            self._dir = Path(tempfile.mkdtemp(prefix="reflow-kafka-"))
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            self._launch(java, libs)
        except OSError as error:
            where = self._dir
            self.stop()
            raise ReflowError(f"the broker cannot be started in {where}: {error}") from None
        except BaseException:
            self.stop()
            raise

    def halt(self, *, kill: bool = False) -> None:
        """End the process and keep the data, as when a broker goes away.

        With `kill` it has no time to say goodbye; the controller then keeps its next start waiting until the
        old session has expired (`broker.session.timeout.ms`, 9 s).
        """
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            # A broker under SIGSTOP would never see the signal to end.
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(_HALT_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            # Killed before its pipe closes: the process id may be somebody else's by now.
            watchdog.kill()
            watchdog.wait()
            if watchdog.stdin is not None:
                watchdog.stdin.close()

    def restart(self, *, kill: bool = False) -> None:
        """`halt` and `start`: same port, same data."""
        self.halt(kill=kill)
        self.start()

    def stop(self) -> None:
        """End the process and remove its data unless `data_dir` was given."""
        # Data that go anyway need no orderly end.
        self.halt(kill=not self._keep)
        if not self._keep and self._dir is not None:
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None
            self._port = self._fixed_port

    def wait(self) -> None:
        """Block until the broker ends by itself."""
        if self._process is not None:
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, java: str, libs: Path) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        config = self.data_dir / "server.properties"
        if self._fixed_port is not None and not is_free(self._fixed_port):
            raise ReflowError(
                f"port {self._fixed_port} is in use: stop what listens there or choose another --port"
            )
        if self._port is None:
            self._port = free_port()
        self._controller_port = free_port(other_than=self._port)
        config.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        if not (self.data_dir / "data" / "meta.properties").exists():
            self._format(java, libs, config)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [java, *_BROKER_JVM, "-cp", f"{libs}/*", "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends the broker
                cwd=self.data_dir,
            )
        leftover = "" if self._keep else str(self.data_dir)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "reflow-kafka-watchdog", str(self._process.pid), leftover],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not answers(HOST, self._port):
            if self._process.poll() is not None:
                raise ReflowError(
                    f"Kafka ended with code {self._process.returncode} at start: {self.last_words()}"
                )
            if time.monotonic() > deadline:
                raise ReflowError(f"Kafka did not answer within {_START_TIMEOUT:.0f} s: {self.last_words()}")
            time.sleep(0.05)

    def _settings(self) -> dict[str, str]:
        listeners = f"PLAINTEXT://{self.bootstrap}"
        controller = f"{HOST}:{self._controller_port}"
        return {
            **_PROPERTIES,
            "listeners": f"{listeners},CONTROLLER://{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.data_dir / "data"),
            **self._properties,
        }

    def _format(self, java: str, libs: Path, config: Path) -> None:
        command = [java, *_TOOL_JVM, "-cp", f"{libs}/*", "kafka.tools.StorageTool"]
        done = subprocess.run(
            [*command, "format", "--cluster-id", self._cluster, "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise ReflowError(
                f"Kafka could not format {self.data_dir}: {last_line(done.stdout + done.stderr)}"
            )

    def last_words(self) -> str:
        """The last error that the broker told of, else the last thing it said."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        told = [line for line in text.splitlines() if re.search(r"\b(ERROR|FATAL)\b|Exception", line)]
        hint = f" (all of it: {self.log_file})" if self._keep else ""
        return (told[-1].strip() if told else last_line(text)) + hint
