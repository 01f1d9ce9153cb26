"""reflow-kafka: durable, stateful stream processing on Kafka.

These are the public names. Importing them opens nothing and loads no Kafka client and no database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from reflow_kafka.connector import ConnectorContext, Reader, Sink, Source, Writer
from reflow_kafka.context import Context
from reflow_kafka.errors import (
    BrokerUnavailable,
    DataLoss,
    DefinitionError,
    FlowStopped,
    ReflowError,
    Reject,
    RequestFailed,
    RetryLater,
    StateUnavailable,
    TopologyMismatch,
    UsageError,
)
from reflow_kafka.event import Event
from reflow_kafka.flow import Flow
from reflow_kafka.handle import Stage, Table
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.security import Security
from reflow_kafka.serde.typed import Format
from reflow_kafka.stores import KeyValue, Store
from reflow_kafka.timers import Timer
from reflow_kafka.value import State
from reflow_kafka.windows import Count, Hopping, Session, Sliding, Tumbling, Window

if TYPE_CHECKING:
    from reflow_kafka.client import Client
    from reflow_kafka.engine.engine import Engine
    from reflow_kafka.engine.run import run

    __version__: str

__all__ = [
    "Batch",
    "BrokerUnavailable",
    "Client",
    "ConnectorContext",
    "Context",
    "Count",
    "DataLoss",
    "DefinitionError",
    "Engine",
    "Event",
    "Flow",
    "FlowStopped",
    "Format",
    "Hopping",
    "KeyValue",
    "Rate",
    "Reader",
    "ReflowError",
    "Reject",
    "RequestFailed",
    "Retry",
    "RetryLater",
    "Security",
    "Session",
    "Sink",
    "Sliding",
    "Source",
    "Stage",
    "State",
    "StateUnavailable",
    "Store",
    "Table",
    "Timer",
    "TopologyMismatch",
    "Tumbling",
    "UsageError",
    "Window",
    "Writer",
    "__version__",
    "run",
]

_LATER = {
    "Client": "reflow_kafka.client",
    "Engine": "reflow_kafka.engine.engine",
    "run": "reflow_kafka.engine.run",
}
"""What defining a flow does not need is imported at its first use."""


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading the package's metadata takes longer than all the rest
        from importlib.metadata import version

        return version("reflow-kafka")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
