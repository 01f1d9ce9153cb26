"""What the memory log and the embedded log have in common: everything but where records are kept."""

from reflow_kafka.log.local.log import Faults, LocalLog
from reflow_kafka.log.local.membership import LocalMembership, divide
from reflow_kafka.log.local.reader import LocalReader
from reflow_kafka.log.local.records import LocalBatch, LocalBuilder, LocalRecord
from reflow_kafka.log.local.storage import Change, Contents, Storage
from reflow_kafka.log.local.writer import LocalWriter

__all__ = [
    "Change",
    "Contents",
    "Faults",
    "LocalBatch",
    "LocalBuilder",
    "LocalLog",
    "LocalMembership",
    "LocalReader",
    "LocalRecord",
    "LocalWriter",
    "Storage",
    "divide",
]
