"""The embedded log: durable topics in one process, on one RocksDB; nothing to install, nothing to run."""

from reflow_kafka.log.embedded.client import open_client
from reflow_kafka.log.embedded.log import EmbeddedLog
from reflow_kafka.log.embedded.roaming import RoamingLog
from reflow_kafka.log.embedded.service import LogClient

__all__ = ["EmbeddedLog", "LogClient", "RoamingLog", "open_client"]
