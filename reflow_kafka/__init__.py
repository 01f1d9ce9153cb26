"""reflow-kafka: durable, stateful stream processing on Kafka.

These are the public names. Importing them opens nothing and loads no Kafka client and no database.
"""

from __future__ import annotations

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
    TopologyMismatch,
    UsageError,
)
from reflow_kafka.event import Event
from reflow_kafka.flow import Flow
from reflow_kafka.handle import Stage
from reflow_kafka.serde.typed import Format
from reflow_kafka.state.value import State

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "BrokerUnavailable",
    "ConnectorContext",
    "Context",
    "DataLoss",
    "DefinitionError",
    "Event",
    "Flow",
    "FlowStopped",
    "Format",
    "Reader",
    "ReflowError",
    "Reject",
    "Sink",
    "Source",
    "Stage",
    "State",
    "TopologyMismatch",
    "UsageError",
    "Writer",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading the package's metadata takes longer than all the rest
        from importlib.metadata import version

        return version("reflow-kafka")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
