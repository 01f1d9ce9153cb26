"""Three brokers that replicate everything; clients come through a network that can be broken."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from reflow_kafka.devbroker import DevBroker, free_port
from reflow_kafka.errors import ReflowError
from tests.support.door import HOST
from tests.support.network import Network

NODES = 3
_MAJORITY = 2
_CLUSTER = "AreflowChaosClusterIdA"
"""Every cluster is on its own, so all may have the same id."""

# What a cluster with three replicas has; and it notices quickly that a broker is gone, and cleans up at once.
_PROPERTIES = {
    "default.replication.factor": str(NODES),
    "min.insync.replicas": str(_MAJORITY),
    "offsets.topic.replication.factor": str(NODES),
    "transaction.state.log.replication.factor": str(NODES),
    "transaction.state.log.min.isr": str(_MAJORITY),
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "1000",
    "num.network.threads": "1",
    "log.cleaner.backoff.ms": "500",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "2000",
    "log.segment.delete.delay.ms": "1000",
}


class Node(DevBroker):
    """One broker of a cluster, which is a controller, too."""

    def __init__(
        self,
        number: int,
        folder: Path,
        controllers: Sequence[int],
        inside: int,
        behind: Sequence[int],
        network: Network,
    ) -> None:
        super().__init__(data_dir=folder, properties=_PROPERTIES)
        self.number = number
        self._network = network
        self._behind = behind
        for way, port in enumerate(behind):
            network.lead(way, number - 1, port)
        self._cluster = _CLUSTER
        self._controllers = controllers
        self._port = inside

    def start(self) -> None:
        """Start; on a busy machine a cluster that was away as a whole needs more time than one broker."""
        try:
            super().start()
        except ReflowError:
            super().start()

    def _settings(self) -> dict[str, str]:
        own = f"PLAINTEXT://{self.bootstrap}"
        voters = (f"{number}@{HOST}:{port}" for number, port in enumerate(self._controllers, 1))
        ways = range(self._network.ways)
        behind = "".join(f",WAY{way}://{HOST}:{self._behind[way]}" for way in ways)
        told = "".join(f",WAY{way}://{HOST}:{self._network.port(way, self.number - 1)}" for way in ways)
        kinds = ("CONTROLLER", "PLAINTEXT", *(f"WAY{way}" for way in ways))
        return {
            **super()._settings(),
            "node.id": str(self.number),
            "listeners": f"{own}{behind},CONTROLLER://{HOST}:{self._controllers[self.number - 1]}",
            "advertised.listeners": f"{own}{told}",
            "listener.security.protocol.map": ",".join(f"{kind}:PLAINTEXT" for kind in kinds),
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": ",".join(voters),
        }


class Cluster:
    """Starts three nodes; `outside` leads through the network, `inside` does not.

    Args:
        ways: how many clients can be cut off each on its own.
    """

    def __init__(self, ways: int) -> None:
        self.network = Network(ways, NODES)
        self._folder = Path(tempfile.mkdtemp(prefix="reflow-cluster-"))
        self._lock = threading.Lock()  # a node is started or ended, not both
        ports: set[int] = set()
        while len(ports) < (2 + ways) * NODES:
            ports.add(free_port())
        chosen = iter(ports)
        controllers = list(islice(chosen, NODES))
        self.nodes = [
            Node(
                number,
                self._folder / f"{number}",
                controllers,
                next(chosen),
                list(islice(chosen, ways)),
                self.network,
            )
            for number in range(1, NODES + 1)
        ]

    @property
    def inside(self) -> str:
        """Addresses that no fault of the network touches."""
        return ",".join(node.bootstrap for node in self.nodes)

    def outside(self, way: int) -> str:
        """Addresses for the clients under test."""
        return ",".join(f"{HOST}:{self.network.port(way, broker)}" for broker in range(NODES))

    def start(self) -> None:
        """Start those that do not run, and wait for all: one alone has no majority, and does not answer."""
        with self._lock:
            self._each(lambda node: node.start())

    def halt(self, *numbers: int, kill: bool) -> None:
        """End these, or all at once."""
        with self._lock:
            self._each(lambda node: node.halt(kill=kill), numbers)

    def stop(self) -> None:
        """End all, and remove what they have."""
        with self._lock:
            self._each(lambda node: node.halt(kill=True))
        shutil.rmtree(self._folder, ignore_errors=True)
        self.network.close()

    def _each(self, act: Callable[[Node], None], numbers: Sequence[int] = ()) -> None:
        nodes = [self.nodes[number] for number in numbers] or self.nodes
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(act, nodes))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
